// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"fmt"
	"iter"
)

// Offsets of ocfs2_chain_list, from its start.
const (
	clCPG         = 0x00
	clBPC         = 0x02
	clCount       = 0x04
	clNextFreeRec = 0x06
	clRecs        = 0x10
)

// Offsets of ocfs2_chain_rec, from its start.
const (
	cFree        = 0x00
	cTotal       = 0x04
	cBlkno       = 0x08
	chainRecSize = 0x10
)

// ChainRec is an ocfs2_chain_rec: the head of a chain of groups.
type ChainRec struct {
	Free  uint32 // c_free, free bits in the chain
	Total uint32 // c_total, bits in the chain
	Blkno uint64 // c_blkno, descriptor of the first group; 0 if the chain is empty
}

// ChainList is a view of an ocfs2_chain_list. The zero list is empty.
type ChainList struct{ b []byte }

// CPG returns cl_cpg, clusters of a group.
func (l ChainList) CPG() int { return int(u16(l.b, clCPG)) }

// BPC returns cl_bpc, bits that stand for a cluster: 1 in the global bitmap, the
// blocks of a cluster in suballocators.
func (l ChainList) BPC() int { return int(u16(l.b, clBPC)) }

// Count returns cl_count, the capacity that the list claims.
func (l ChainList) Count() int { return int(u16(l.b, clCount)) }

// Used returns cl_next_free_rec, the chains in use that the list claims.
func (l ChainList) Used() int { return int(u16(l.b, clNextFreeRec)) }

// Cap returns the records for which there is room in the block.
func (l ChainList) Cap() int { return recordsIn(l.b, clRecs, chainRecSize) }

// Len returns the chains in use that lie in the block.
func (l ChainList) Len() int { return min(l.Used(), l.Cap()) }

// Rec returns chain i, 0 <= i < Len().
func (l ChainList) Rec(i int) ChainRec {
	b := record(l.b, clRecs, chainRecSize, i)
	return ChainRec{Free: u32(b, cFree), Total: u32(b, cTotal), Blkno: u64(b, cBlkno)}
}

// All returns the chains in use with their numbers.
func (l ChainList) All() iter.Seq2[int, ChainRec] { return records(l.Len, l.Rec) }

// Faults returns the contradictions in the list alone.
func (l ChainList) Faults(sb *SuperBlock) []Fault {
	f := faults{structure: "ocfs2_chain_list"}
	if l.CPG() == 0 {
		f.add("cl_cpg", "0", "clusters of a group")
	}
	if bpc := sb.BlocksPerCluster(); l.BPC() == 0 || bpc%uint64(l.BPC()) != 0 { //nolint:gosec // from 16 bits
		f.add("cl_bpc", fmt.Sprint(l.BPC()), "a divisor of "+decimal(bpc))
	}
	f.exactly("cl_count", l.Count(), l.Cap())
	f.fits("cl_next_free_rec", l.Used(), min(l.Count(), l.Cap()))
	for i, chain := range l.All() {
		field := func(name string) string { return fmt.Sprintf("cl_recs[%d].%s", i, name) }
		if chain.Free > chain.Total {
			f.add(field("c_free"), decimal(uint64(chain.Free)), "at most "+decimal(uint64(chain.Total)))
		}
		if (chain.Blkno == 0) != (chain.Total == 0) {
			f.add(field("c_total"), decimal(uint64(chain.Total)), "0 in an empty chain only")
		}
		if chain.Blkno != 0 && !sb.Contains(chain.Blkno, 1) {
			f.inVolume(field("c_blkno"), sb.Geometry, chain.Blkno)
		}
	}
	return f.found
}
