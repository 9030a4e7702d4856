// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"fmt"
	"iter"
)

// Offsets of ocfs2_refcount_block.
const (
	rfLastEbBlk  = 0x28
	rfCount      = 0x30
	rfFlags      = 0x34
	rfClusters   = 0x38
	rfCpos       = 0x3C
	rfGeneration = 0x40
	rfList       = 0x80 // or rf_records

	refcountLeaf = 1 // bits of rf_flags (OCFS2_REFCOUNT_LEAF_FL, OCFS2_REFCOUNT_TREE_FL)
	refcountTree = 2
)

// Offsets of ocfs2_refcount_list, from its start, and of ocfs2_refcount_rec.
const (
	rlCount         = 0x00
	rlUsed          = 0x02
	rlRecs          = 0x10
	rCpos           = 0x00
	rClusters       = 0x08
	rRefcount       = 0x0C
	refcountRecSize = 0x10
)

// RefcountRec is an ocfs2_refcount_rec: how often a run of clusters is shared.
type RefcountRec struct {
	Cpos     uint64 // r_cpos, first cluster of the volume
	Clusters uint32 // r_clusters
	Refcount uint32 // r_refcount, extent records that refer to the run
}

// RefcountList is a view of an ocfs2_refcount_list. The zero list is empty.
type RefcountList struct{ b []byte }

// Count returns rl_count, the capacity that the list claims.
func (l RefcountList) Count() int { return int(u16(l.b, rlCount)) }

// Used returns rl_used, the records in use that the list claims.
func (l RefcountList) Used() int { return int(u16(l.b, rlUsed)) }

// Cap returns the records for which there is room in the block.
func (l RefcountList) Cap() int { return recordsIn(l.b, rlRecs, refcountRecSize) }

// Len returns the records in use that lie in the block.
func (l RefcountList) Len() int { return min(l.Used(), l.Cap()) }

// Rec returns record i, 0 <= i < Len().
func (l RefcountList) Rec(i int) RefcountRec {
	b := record(l.b, rlRecs, refcountRecSize, i)
	return RefcountRec{Cpos: u64(b, rCpos), Clusters: u32(b, rClusters), Refcount: u32(b, rRefcount)}
}

// All returns the records in use with their numbers.
func (l RefcountList) All() iter.Seq2[int, RefcountRec] { return records(l.Len, l.Rec) }

// Faults returns the contradictions in the list.
func (l RefcountList) Faults(sb *SuperBlock) []Fault {
	f := faults{structure: "ocfs2_refcount_list"}
	f.exactly("rl_count", l.Count(), l.Cap())
	f.fits("rl_used", l.Used(), min(l.Count(), l.Cap()))
	var next uint64
	clusters := uint64(sb.Clusters)
	for i, rec := range l.All() {
		field := func(name string) string { return fmt.Sprintf("rl_recs[%d].%s", i, name) }
		if rec.Cpos < next {
			f.add(field("r_cpos"), decimal(rec.Cpos), "at least "+decimal(next))
		}
		if rec.Cpos > clusters || uint64(rec.Clusters) > clusters-rec.Cpos {
			f.add(field("r_cpos"), decimal(rec.Cpos), decimal(uint64(rec.Clusters))+" clusters inside the volume")
			continue
		}
		next = rec.Cpos + uint64(rec.Clusters)
		if rec.Clusters == 0 {
			f.add(field("r_clusters"), "0", "clusters that are shared")
		}
	}
	return f.found
}

// RefcountBlock is a view of an ocfs2_refcount_block: the root of a refcount
// tree, with or without records, or one of its leaves.
type RefcountBlock struct{ b []byte }

// AsRefcountBlock views b, one whole block.
func AsRefcountBlock(b []byte) RefcountBlock { return RefcountBlock{b} }

// Bytes returns the block.
func (r RefcountBlock) Bytes() []byte { return r.b }

// HasSignature reports whether the block says that it is a refcount block.
func (r RefcountBlock) HasSignature() bool { return KindRefcountBlock.signed(r.b) }

// Blkno returns rf_blkno, the block's own number.
func (r RefcountBlock) Blkno() uint64 { n, _ := KindRefcountBlock.Blkno(r.b); return n }

// Parent returns rf_parent: in leaves the root, 0 in the root.
func (r RefcountBlock) Parent() uint64 { n, _ := KindRefcountBlock.Parent(r.b); return n }

// LastExtentBlk returns rf_last_eb_blk, in a root with a tree its rightmost leaf.
func (r RefcountBlock) LastExtentBlk() uint64 { return u64(r.b, rfLastEbBlk) }

// Count returns rf_count, in the root the inodes that share the tree.
func (r RefcountBlock) Count() uint32 { return u32(r.b, rfCount) }

// Flags returns rf_flags.
func (r RefcountBlock) Flags() uint32 { return u32(r.b, rfFlags) }

// IsLeaf reports whether the block is a leaf, not the root.
func (r RefcountBlock) IsLeaf() bool { return r.Flags()&refcountLeaf != 0 }

// IsTree reports whether the block is a root with a tree, without records.
func (r RefcountBlock) IsTree() bool { return r.Flags()&refcountTree != 0 }

// Clusters returns rf_clusters, in a root with a tree the number of its leaves.
func (r RefcountBlock) Clusters() uint32 { return u32(r.b, rfClusters) }

// Cpos returns rf_cpos, a leaf's key in the tree.
func (r RefcountBlock) Cpos() uint32 { return u32(r.b, rfCpos) }

// TreeGeneration returns rf_generation, the same in all blocks of a tree.
func (r RefcountBlock) TreeGeneration() uint32 { return u32(r.b, rfGeneration) }

// List returns rf_list of a root with a tree; it is empty in others. Its leaf
// records name single blocks, whatever e_leaf_clusters says.
func (r RefcountBlock) List() ExtentList {
	if !r.IsTree() {
		return ExtentList{}
	}
	return ExtentList{tail(r.b, rfList)}
}

// Recs returns rf_records; it is empty in a root with a tree.
func (r RefcountBlock) Recs() RefcountList {
	if r.IsTree() {
		return RefcountList{}
	}
	return RefcountList{tail(r.b, rfList)}
}

// Faults returns the contradictions that this block alone shows, for one that
// was read from blkno; root is the root of its tree, or 0 in the root itself.
func (r RefcountBlock) Faults(blkno uint64, sb *SuperBlock, root uint64) []Fault {
	f := faults{structure: "ocfs2_refcount_block"}
	f.within(KindRefcountBlock.Identity(r.b, blkno, sb.Generation))
	f.within(KindRefcountBlock.suballocFaults(r.b, blkno, sb))
	f.equal("rf_parent", r.Parent(), root)
	if flags := r.Flags(); flags > refcountTree || r.IsLeaf() != (root != 0) {
		f.add("rf_flags", inHex(uint64(flags)), "0 or 2 in the root, 1 in leaves")
	}
	if !r.IsTree() {
		f.equal("rf_clusters", uint64(r.Clusters()), 0)
		f.within(r.Recs().Faults(sb))
		return f.found
	}
	list := r.List()
	f.within(list.Faults(sb, TreeRefcount))
	if list.Depth() > 0 {
		f.inVolume("rf_last_eb_blk", sb.Geometry, r.LastExtentBlk())
	} else {
		f.equal("rf_clusters", uint64(r.Clusters()), list.leafClusters())
	}
	return f.found
}
