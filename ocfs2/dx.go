// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"fmt"
	"iter"
)

// Offsets of ocfs2_dx_root_block.
const (
	drLastEbBlk  = 0x20
	drClusters   = 0x28
	drFlags      = 0x2C
	drNumEntries = 0x38
	drFreeBlk    = 0x40
	drList       = 0xC0 // or dr_entries

	dxInline = 1 // bit of dr_flags (OCFS2_DX_FLAG_INLINE)
)

// Offsets of ocfs2_dx_entry_list, from its start, and of ocfs2_dx_entry.
const (
	deCount     = 0x04
	deNumUsed   = 0x06
	deEntries   = 0x08
	dxMajorHash = 0x00
	dxMinorHash = 0x04
	dxDirentBlk = 0x08
	dxEntrySize = 0x10
	dlList      = 0x28 // offset in ocfs2_dx_leaf
)

// DxEntry is an ocfs2_dx_entry: where in the directory a name is.
type DxEntry struct {
	Major, Minor uint32 // dx_major_hash, dx_minor_hash: the name's hash
	Blkno        uint64 // dx_dirent_blk, block with the name's entry
}

// DxEntryList is a view of an ocfs2_dx_entry_list. The zero list is empty.
type DxEntryList struct{ b []byte }

// Count returns de_count, the capacity that the list claims.
func (l DxEntryList) Count() int { return int(u16(l.b, deCount)) }

// Used returns de_num_used, the entries in use that the list claims.
func (l DxEntryList) Used() int { return int(u16(l.b, deNumUsed)) }

// Cap returns the entries for which there is room in the block.
func (l DxEntryList) Cap() int { return recordsIn(l.b, deEntries, dxEntrySize) }

// Len returns the entries in use that lie in the block.
func (l DxEntryList) Len() int { return min(l.Used(), l.Cap()) }

// Entry returns entry i, 0 <= i < Len().
func (l DxEntryList) Entry(i int) DxEntry {
	b := record(l.b, deEntries, dxEntrySize, i)
	return DxEntry{Major: u32(b, dxMajorHash), Minor: u32(b, dxMinorHash), Blkno: u64(b, dxDirentBlk)}
}

// All returns the entries in use with their numbers.
func (l DxEntryList) All() iter.Seq2[int, DxEntry] { return records(l.Len, l.Entry) }

// Faults returns the contradictions in the list.
func (l DxEntryList) Faults(sb *SuperBlock) []Fault {
	f := faults{structure: "ocfs2_dx_entry_list"}
	f.exactly("de_count", l.Count(), l.Cap())
	f.fits("de_num_used", l.Used(), min(l.Count(), l.Cap()))
	for i, e := range l.All() {
		if !sb.Contains(e.Blkno, 1) {
			f.inVolume(fmt.Sprintf("de_entries[%d].dx_dirent_blk", i), sb.Geometry, e.Blkno)
		}
	}
	return f.found
}

// DxRoot is a view of an ocfs2_dx_root_block.
type DxRoot struct{ b []byte }

// AsDxRoot views b, one whole block.
func AsDxRoot(b []byte) DxRoot { return DxRoot{b} }

// Bytes returns the block.
func (r DxRoot) Bytes() []byte { return r.b }

// HasSignature reports whether the block says that it is an index root.
func (r DxRoot) HasSignature() bool { return KindDxRoot.signed(r.b) }

// Blkno returns dr_blkno, the block's own number.
func (r DxRoot) Blkno() uint64 { n, _ := KindDxRoot.Blkno(r.b); return n }

// DirBlkno returns dr_dir_blkno, the directory's inode.
func (r DxRoot) DirBlkno() uint64 { n, _ := KindDxRoot.Parent(r.b); return n }

// LastExtentBlk returns dr_last_eb_blk, the rightmost leaf of the index tree.
func (r DxRoot) LastExtentBlk() uint64 { return u64(r.b, drLastEbBlk) }

// Clusters returns dr_clusters, the clusters of the index tree; 0 if inline.
func (r DxRoot) Clusters() uint32 { return u32(r.b, drClusters) }

// Flags returns dr_flags.
func (r DxRoot) Flags() uint8 { return u8(r.b, drFlags) }

// Inline reports whether the root holds all entries itself.
func (r DxRoot) Inline() bool { return r.Flags()&dxInline != 0 }

// NumEntries returns dr_num_entries, the names in the directory with "." and "..".
func (r DxRoot) NumEntries() uint32 { return u32(r.b, drNumEntries) }

// FreeBlk returns dr_free_blk, the first block with room for a name; 0 if there
// is none.
func (r DxRoot) FreeBlk() uint64 { return u64(r.b, drFreeBlk) }

// List returns dr_list, the root of the index tree; it is empty if inline.
func (r DxRoot) List() ExtentList {
	if r.Inline() {
		return ExtentList{}
	}
	return ExtentList{tail(r.b, drList)}
}

// Entries returns dr_entries; it is empty unless inline.
func (r DxRoot) Entries() DxEntryList {
	if !r.Inline() {
		return DxEntryList{}
	}
	return DxEntryList{tail(r.b, drList)}
}

// Faults returns the contradictions that this block alone shows, for one that
// was read from blkno as the index of the directory with inode dir.
func (r DxRoot) Faults(blkno uint64, sb *SuperBlock, dir uint64) []Fault {
	f := faults{structure: "ocfs2_dx_root_block"}
	f.within(KindDxRoot.Identity(r.b, blkno, sb.Generation))
	f.within(KindDxRoot.suballocFaults(r.b, blkno, sb))
	f.equal("dr_dir_blkno", r.DirBlkno(), dir)
	f.inVolumeOrNone("dr_free_blk", sb.Geometry, r.FreeBlk())
	if r.Flags()&^dxInline != 0 {
		f.add("dr_flags", inHex(uint64(r.Flags())), "0 or 1")
	}
	if r.Inline() {
		f.equal("dr_clusters", uint64(r.Clusters()), 0)
		f.equal("dr_last_eb_blk", r.LastExtentBlk(), 0)
		f.within(r.Entries().Faults(sb))
		f.equal("dr_num_entries", uint64(r.NumEntries()), uint64(r.Entries().Used())) //nolint:gosec // from 16 bits
		return f.found
	}
	list := r.List()
	f.within(list.Faults(sb, TreeHash))
	if list.Depth() > 0 {
		f.inVolume("dr_last_eb_blk", sb.Geometry, r.LastExtentBlk())
	} else {
		f.equal("dr_clusters", uint64(r.Clusters()), list.leafClusters())
	}
	return f.found
}

// DxLeaf is a view of an ocfs2_dx_leaf.
type DxLeaf struct{ b []byte }

// AsDxLeaf views b, one whole block.
func AsDxLeaf(b []byte) DxLeaf { return DxLeaf{b} }

// Bytes returns the block.
func (l DxLeaf) Bytes() []byte { return l.b }

// HasSignature reports whether the block says that it is an index leaf.
func (l DxLeaf) HasSignature() bool { return KindDxLeaf.signed(l.b) }

// Blkno returns dl_blkno, the block's own number.
func (l DxLeaf) Blkno() uint64 { n, _ := KindDxLeaf.Blkno(l.b); return n }

// Entries returns dl_list.
func (l DxLeaf) Entries() DxEntryList { return DxEntryList{tail(l.b, dlList)} }

// Faults returns the contradictions that this block alone shows, for one that
// was read from blkno.
func (l DxLeaf) Faults(blkno uint64, sb *SuperBlock) []Fault {
	f := faults{structure: "ocfs2_dx_leaf"}
	f.within(KindDxLeaf.Identity(l.b, blkno, sb.Generation))
	f.within(l.Entries().Faults(sb))
	return f.found
}

// DxLeafBlkno returns the leaf that holds the names of a hash, where rec is the
// leaf record with the greatest e_cpos that is not above major.
func DxLeafBlkno(rec ExtentRec, major, minor uint32, g Geometry) uint64 {
	var cluster uint32
	if major > rec.Cpos && rec.Clusters > 0 {
		cluster = min(major-rec.Cpos, rec.Clusters-1)
	}
	bpc := g.BlocksPerCluster()
	return rec.Blkno + uint64(cluster)*bpc + uint64(minor)&(bpc-1)
}
