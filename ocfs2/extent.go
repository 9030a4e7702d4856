// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"fmt"
	"iter"
)

// Offsets of ocfs2_extent_list, from its start.
const (
	lTreeDepth   = 0x00
	lCount       = 0x02
	lNextFreeRec = 0x04
	lRecs        = 0x10
)

// Offsets of ocfs2_extent_rec, from its start.
const (
	eCpos         = 0x00
	eIntClusters  = 0x04 // interior records
	eLeafClusters = 0x04 // leaf records
	eFlags        = 0x07 // leaf records
	eBlkno        = 0x08
	extentRecSize = 0x10
)

// Bits of ExtentRec.Flags.
const (
	ExtUnwritten  = 1 // allocated, reads as zero (OCFS2_EXT_UNWRITTEN)
	ExtRefcounted = 2 // shared between files (OCFS2_EXT_REFCOUNTED)
)

// Tree tells trees apart by their key, which decides what their records may hold.
type Tree uint8

// The trees.
const (
	TreeData     Tree = iota // key: offset in clusters; file data, directories, xattr values
	TreeHash                 // key: name hash; directory indexes, xattr buckets
	TreeRefcount             // key: physical cluster; a leaf record is one suballocated block
)

// ExtentRec is an ocfs2_extent_rec.
type ExtentRec struct {
	Cpos     uint32 // e_cpos, first key covered
	Clusters uint32 // leaf: e_leaf_clusters, clusters; else e_int_clusters, width of the key range
	Flags    uint8  // e_flags: ExtUnwritten, ExtRefcounted; leaf only
	Blkno    uint64 // e_blkno, leaf: first block of the data; else an extent block
}

// IsEmpty reports whether the record covers nothing: an unused first record.
func (r ExtentRec) IsEmpty() bool { return r.Clusters == 0 }

// End returns the first key behind the record.
func (r ExtentRec) End() uint64 { return uint64(r.Cpos) + uint64(r.Clusters) }

// ExtentList is a view of an ocfs2_extent_list. Its bytes end where the room
// for records does. The zero list is empty.
type ExtentList struct{ b []byte }

// Clone returns the list with bytes of its own.
func (l ExtentList) Clone() ExtentList { return ExtentList{bytes.Clone(l.b)} }

// Depth returns l_tree_depth: 0 if the records are leaves.
func (l ExtentList) Depth() int { return int(u16(l.b, lTreeDepth)) }

// Count returns l_count, the capacity that the list claims.
func (l ExtentList) Count() int { return int(u16(l.b, lCount)) }

// Used returns l_next_free_rec, the records in use that the list claims.
func (l ExtentList) Used() int { return int(u16(l.b, lNextFreeRec)) }

// Cap returns the records for which there is room in the block.
func (l ExtentList) Cap() int { return recordsIn(l.b, lRecs, extentRecSize) }

// Len returns the records in use that lie in the block.
func (l ExtentList) Len() int { return min(l.Used(), l.Cap()) }

// Rec returns record i, 0 <= i < Cap(); from Len() on it is not in use.
func (l ExtentList) Rec(i int) ExtentRec {
	if l.Depth() > 0 {
		return l.NodeRec(i)
	}
	return l.LeafRec(i)
}

// NodeRec returns record i as one of a list above the leaves, whatever the
// depth that the list claims.
func (l ExtentList) NodeRec(i int) ExtentRec {
	b := record(l.b, lRecs, extentRecSize, i)
	return ExtentRec{Cpos: u32(b, eCpos), Clusters: u32(b, eIntClusters), Blkno: u64(b, eBlkno)}
}

// LeafRec returns record i as one of a list of leaves, whatever the depth that
// the list claims.
func (l ExtentList) LeafRec(i int) ExtentRec {
	b := record(l.b, lRecs, extentRecSize, i)
	return ExtentRec{
		Cpos:     u32(b, eCpos),
		Clusters: uint32(u16(b, eLeafClusters)),
		Flags:    u8(b, eFlags),
		Blkno:    u64(b, eBlkno),
	}
}

// All returns the records in use with their numbers.
func (l ExtentList) All() iter.Seq2[int, ExtentRec] { return records(l.Len, l.Rec) }

// recordsIn returns how many records of size bytes b has room for from off on.
func recordsIn(b []byte, off, size int) int { return max(0, len(b)-off) / size }

// record returns record i of a table that starts at off.
func record(b []byte, off, size, i int) []byte {
	if i < 0 || i >= recordsIn(b, off, size) {
		return nil
	}
	return b[off+i*size : off+(i+1)*size]
}

// records returns the records 0 to n()-1 with their numbers.
func records[R any](n func() int, rec func(int) R) iter.Seq2[int, R] {
	return func(yield func(int, R) bool) {
		for i := range n() {
			if !yield(i, rec(i)) {
				return
			}
		}
	}
}

// leafClusters returns the clusters of all records of a list of depth 0.
func (l ExtentList) leafClusters() uint64 {
	var sum uint64
	for _, rec := range l.All() {
		sum += uint64(rec.Clusters)
	}
	return sum
}

// Faults returns the contradictions in the list alone; tree says what it is
// the root or an inner part of.
func (l ExtentList) Faults(sb *SuperBlock, tree Tree) []Fault {
	f := faults{structure: "ocfs2_extent_list"}
	f.fits("l_tree_depth", l.Depth(), MaxTreeDepth)
	f.exactly("l_count", l.Count(), l.Cap())
	f.fits("l_next_free_rec", l.Used(), min(l.Count(), l.Cap()))
	var next uint64 // first key that the records so far leave free
	for i, rec := range l.All() {
		if rec.IsEmpty() && i == 0 && (l.Depth() == 0 || rec.Blkno == 0) {
			continue
		}
		field := func(name string) string { return fmt.Sprintf("l_recs[%d].%s", i, name) }
		if uint64(rec.Cpos) < next {
			f.add(field("e_cpos"), decimal(uint64(rec.Cpos)), "at least "+decimal(next))
		}
		next = uint64(rec.Cpos) + 1
		if tree == TreeData {
			next = rec.End()
		}
		switch {
		case l.Depth() > 0:
			if !sb.Contains(rec.Blkno, 1) {
				f.inVolume(field("e_blkno"), sb.Geometry, rec.Blkno)
			}
			if rec.IsEmpty() {
				f.add(field("e_int_clusters"), "0", "a range of keys")
			}
		case rec.IsEmpty():
			f.add(field("e_leaf_clusters"), "0", "0 in the first record only")
		default:
			l.leafFaults(&f, sb, tree, i, rec)
		}
		if tree == TreeData && rec.End() > 1<<32 {
			f.add(field("e_cpos"), decimal(uint64(rec.Cpos)), "a range that ends in 32 bits")
		}
	}
	return f.found
}

func (l ExtentList) leafFaults(f *faults, sb *SuperBlock, tree Tree, i int, rec ExtentRec) {
	field := func(name string) string { return fmt.Sprintf("l_recs[%d].%s", i, name) }
	bpc := sb.BlocksPerCluster()
	blocks := uint64(rec.Clusters) * bpc
	if tree == TreeRefcount {
		blocks = 1
		if rec.Clusters != 1 {
			f.add(field("e_leaf_clusters"), decimal(uint64(rec.Clusters)), "1 in a refcount tree")
		}
	} else if rec.Blkno%bpc != 0 {
		f.add(field("e_blkno"), decimal(rec.Blkno), "the first block of a cluster")
	}
	if !sb.Contains(rec.Blkno, blocks) {
		f.add(field("e_blkno"), decimal(rec.Blkno), decimal(blocks)+" blocks inside the volume")
	}
	if rec.Flags&^(ExtUnwritten|ExtRefcounted) != 0 {
		f.add(field("e_flags"), inHex(uint64(rec.Flags)), "known bits only")
	}
}

// Offsets of ocfs2_extent_block.
const (
	hNextLeafBlk = 0x28
	hList        = 0x30
)

// ExtentBlock is a view of an ocfs2_extent_block: an inner node or a leaf of
// an extent tree.
type ExtentBlock struct{ b []byte }

// AsExtentBlock views b, one whole block.
func AsExtentBlock(b []byte) ExtentBlock { return ExtentBlock{b} }

// Bytes returns the block.
func (e ExtentBlock) Bytes() []byte { return e.b }

// HasSignature reports whether the block says that it is an extent block.
func (e ExtentBlock) HasSignature() bool { return KindExtentBlock.signed(e.b) }

// Blkno returns h_blkno, the block's own number.
func (e ExtentBlock) Blkno() uint64 { n, _ := KindExtentBlock.Blkno(e.b); return n }

// Generation returns h_fs_generation.
func (e ExtentBlock) Generation() uint32 { n, _ := KindExtentBlock.Generation(e.b); return n }

// Suballoc returns h_suballoc_slot, h_suballoc_bit and h_suballoc_loc.
func (e ExtentBlock) Suballoc() (slot, bit uint16, loc uint64) {
	slot, bit, loc, _ = KindExtentBlock.Suballoc(e.b)
	return slot, bit, loc
}

// NextLeaf returns h_next_leaf_blk, the leaf to the right; 0 in the last leaf
// and above the leaves.
func (e ExtentBlock) NextLeaf() uint64 { return u64(e.b, hNextLeafBlk) }

// List returns h_list.
func (e ExtentBlock) List() ExtentList { return ExtentList{tail(e.b, hList)} }

// Faults returns the contradictions that this block alone shows, for one that
// was read from blkno as part of the given tree.
func (e ExtentBlock) Faults(blkno uint64, sb *SuperBlock, tree Tree) []Fault {
	f := faults{structure: "ocfs2_extent_block"}
	f.within(KindExtentBlock.Identity(e.b, blkno, sb.Generation))
	f.within(KindExtentBlock.suballocFaults(e.b, blkno, sb))
	f.inVolumeOrNone("h_next_leaf_blk", sb.Geometry, e.NextLeaf())
	f.within(e.List().Faults(sb, tree))
	return f.found
}
