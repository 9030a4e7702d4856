// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"fmt"
	"iter"
)

// Offsets of ocfs2_group_desc.
const (
	bgSize           = 0x08
	bgBits           = 0x0A
	bgFreeBitsCount  = 0x0C
	bgChain          = 0x0E
	bgContigFreeBits = 0x14
	bgNextGroup      = 0x18
	bgBitmap         = 0x40
	bgList           = 0x140
)

// discontigBitmapBytes is the bg_size of groups that may be discontiguous
// (OCFS2_MAX_BG_BITMAP_SIZE).
const discontigBitmapBytes = bgList - bgBitmap

// groupBitmapBytes returns the bytes of the largest bitmap of a group.
func groupBitmapBytes(blockSize int) int { return blockSize - bgBitmap }

// GroupDesc is a view of an ocfs2_group_desc: a bitmap, and where its bits lie.
type GroupDesc struct {
	b  []byte
	at uint64
}

// AsGroupDesc views b, one whole block.
func AsGroupDesc(b []byte) GroupDesc { return GroupDesc{b: b, at: u64(b, layouts[KindGroup].blkno)} }

// At returns the view of a descriptor that was read from blkno. Runs, BitBlock
// and ClusterOfBit count from there and not from bg_blkno, which may be wrong.
func (gd GroupDesc) At(blkno uint64) GroupDesc { return GroupDesc{b: gd.b, at: blkno} }

// Bytes returns the block.
func (gd GroupDesc) Bytes() []byte { return gd.b }

// HasSignature reports whether the block says that it is a group descriptor.
func (gd GroupDesc) HasSignature() bool { return KindGroup.signed(gd.b) }

// Size returns bg_size, bytes of the bitmap area.
func (gd GroupDesc) Size() int { return int(u16(gd.b, bgSize)) }

// Bits returns bg_bits, the valid bits that the group claims.
func (gd GroupDesc) Bits() int { return int(u16(gd.b, bgBits)) }

// FreeBits returns bg_free_bits_count.
func (gd GroupDesc) FreeBits() int { return int(u16(gd.b, bgFreeBitsCount)) }

// Chain returns bg_chain, the number of the chain that the group hangs in.
func (gd GroupDesc) Chain() int { return int(u16(gd.b, bgChain)) }

// Generation returns bg_generation, the file system's.
func (gd GroupDesc) Generation() uint32 { n, _ := KindGroup.Generation(gd.b); return n }

// ContigFree returns bg_contig_free_bits, the length of the longest free run as
// a hint; 0 if not known.
func (gd GroupDesc) ContigFree() int { return int(u16(gd.b, bgContigFreeBits)) }

// NextGroup returns bg_next_group, the next descriptor in the chain; 0 at its end.
func (gd GroupDesc) NextGroup() uint64 { return u64(gd.b, bgNextGroup) }

// ParentDinode returns bg_parent_dinode, the allocator's inode.
func (gd GroupDesc) ParentDinode() uint64 { n, _ := KindGroup.Parent(gd.b); return n }

// Blkno returns bg_blkno, the block's own number.
func (gd GroupDesc) Blkno() uint64 { n, _ := KindGroup.Blkno(gd.b); return n }

// Discontiguous reports whether the group's blocks lie in several pieces.
func (gd GroupDesc) Discontiguous() bool {
	return gd.Size() == discontigBitmapBytes && ExtentList{tail(gd.b, bgList)}.Used() != 0
}

// Extents returns bg_list, the pieces of a discontiguous group; it is empty in
// others.
func (gd GroupDesc) Extents() ExtentList {
	if !gd.Discontiguous() {
		return ExtentList{}
	}
	return ExtentList{tail(gd.b, bgList)}
}

// Bitmap returns the valid bits that lie in the block: bits in use are set.
func (gd GroupDesc) Bitmap() Bitmap {
	return newBitmap(span(gd.b, bgBitmap, gd.Size()), gd.Bits())
}

// Len returns the valid bits that lie in the block.
func (gd GroupDesc) Len() int { return gd.Bitmap().Len() }

// Bit reports whether bit i is in use.
func (gd GroupDesc) Bit(i int) bool { return gd.Bitmap().Bit(i) }

// SetRuns returns the runs of bits in use, each as its first bit and the first
// bit behind it.
func (gd GroupDesc) SetRuns() iter.Seq2[int, int] { return gd.Bitmap().SetRuns() }

// blocksPerBit returns how many blocks a bit stands for where bpc bits stand
// for a cluster, 0 if that cannot be.
func blocksPerBit(g Geometry, bpc int) uint64 {
	if bpc <= 0 || g.BlocksPerCluster()%uint64(bpc) != 0 {
		return 0
	}
	return g.BlocksPerCluster() / uint64(bpc)
}

// Runs returns where the bits of a suballocator's group lie on the volume:
// runs of neighbours, each as its first block and the number of its bits, in
// the order of the bits, from bit 0 on and without a gap. bpc is cl_bpc; with
// cl_bpc equal to the blocks of a cluster, as in all suballocators, a bit is a
// block. The runs end early at a piece that contradicts the format or leaves
// the volume.
func (gd GroupDesc) Runs(g Geometry, bpc int) iter.Seq2[uint64, int] {
	return func(yield func(uint64, int) bool) {
		per := blocksPerBit(g, bpc)
		rest := gd.Len()
		if per == 0 {
			return
		}
		if !gd.Discontiguous() {
			if g.Contains(gd.at, 1) {
				rest = min(rest, clampInt((g.Blocks()-gd.at)/per, rest))
				if rest > 0 {
					yield(gd.at, rest)
				}
			}
			return
		}
		var cpos uint32
		for _, rec := range gd.Extents().All() {
			n := clampInt(uint64(rec.Clusters)*uint64(bpc), rest) //nolint:gosec // positive, see blocksPerBit
			if rec.Cpos != cpos || n == 0 || !g.Contains(rec.Blkno, uint64(n)*per) {
				return
			}
			if !yield(rec.Blkno, n) {
				return
			}
			cpos += rec.Clusters
			rest -= n
		}
	}
}

// BitBlock returns the first block that bit i of a suballocator's group stands
// for; ok is false where the bit lies in none of the group's runs.
func (gd GroupDesc) BitBlock(i int, g Geometry, bpc int) (blkno uint64, ok bool) {
	if i < 0 {
		return 0, false
	}
	for start, n := range gd.Runs(g, bpc) {
		if i < n {
			return start + uint64(i)*blocksPerBit(g, bpc), true //nolint:gosec // not negative
		}
		i -= n
	}
	return 0, false
}

// ClusterOfBit returns the cluster that bit i of a group of the global bitmap
// stands for; ok is false where the bit is not valid or not of the volume.
func (gd GroupDesc) ClusterOfBit(i int, sb *SuperBlock) (cluster uint32, ok bool) {
	if i < 0 || i >= gd.Len() {
		return 0, false
	}
	var first uint64
	if gd.at != sb.FirstClusterGroup {
		first = gd.at / sb.BlocksPerCluster()
	}
	if first >= uint64(sb.Clusters) || uint64(i) >= uint64(sb.Clusters)-first {
		return 0, false
	}
	return uint32(first) + uint32(i), true //nolint:gosec // less than sb.Clusters
}

// Faults returns the contradictions that this block alone shows, for the
// descriptor that was read from blkno by following chain number chain of the
// allocator with inode parent, where bpc bits stand for a cluster (cl_bpc).
func (gd GroupDesc) Faults(blkno uint64, sb *SuperBlock, parent uint64, chain, bpc int) []Fault {
	f := faults{structure: "ocfs2_group_desc"}
	f.within(KindGroup.Identity(gd.b, blkno, sb.Generation))
	f.equal("bg_parent_dinode", gd.ParentDinode(), parent)
	if gd.Chain() != chain {
		f.add("bg_chain", fmt.Sprint(gd.Chain()), fmt.Sprint(chain))
	}
	// tunefs.ocfs2 leaves groups as they are where it turns the feature on, and
	// gives all of them the whole room where it turns it off.
	room := groupBitmapBytes(len(gd.b))
	switch small := min(room, discontigBitmapBytes); {
	case gd.Size() == room:
	case !sb.Incompat.Has(IncompatDiscontigBG):
		f.add("bg_size", fmt.Sprint(gd.Size()), fmt.Sprint(room))
	case gd.Size() != small:
		f.add("bg_size", fmt.Sprint(gd.Size()), fmt.Sprintf("%d or %d", room, small))
	}
	f.fits("bg_bits", gd.Bits(), gd.Size()*bitsPerByte)
	if free := gd.Len() - gd.Bitmap().Count(); gd.Bits() == gd.Len() {
		f.equal("bg_free_bits_count", uint64(gd.FreeBits()), uint64(free)) //nolint:gosec // not negative
	}
	f.fits("bg_contig_free_bits", gd.ContigFree(), gd.FreeBits())
	if !gd.Bit(0) {
		f.add("bg_bitmap", "bit 0 clear", "bit 0 set, for the descriptor")
	}
	f.inVolumeOrNone("bg_next_group", sb.Geometry, gd.NextGroup())
	if gd.Discontiguous() {
		gd.listFaults(&f, blkno, sb, bpc)
		return f.found
	}
	first := blkno
	if blkno == sb.FirstClusterGroup {
		first = 0 // the first group counts from the start of the volume
	}
	if per := blocksPerBit(sb.Geometry, bpc); uint64(gd.Bits())*per > sb.Blocks()-min(first, sb.Blocks()) { //nolint:gosec // from 16 bits
		f.add("bg_bits", fmt.Sprint(gd.Bits()), "bits inside the volume")
	}
	return f.found
}

func (gd GroupDesc) listFaults(f *faults, blkno uint64, sb *SuperBlock, bpc int) {
	list := gd.Extents()
	f.within(list.Faults(sb, TreeData))
	if list.Depth() != 0 {
		f.add("bg_list.l_tree_depth", fmt.Sprint(list.Depth()), "0")
		return
	}
	if first := list.Rec(0).Blkno; first != blkno {
		f.add("bg_list.l_recs[0].e_blkno", decimal(first), decimal(blkno))
	}
	var cpos uint64
	for i, rec := range list.All() {
		if uint64(rec.Cpos) != cpos {
			f.add(fmt.Sprintf("bg_list.l_recs[%d].e_cpos", i), decimal(uint64(rec.Cpos)), decimal(cpos))
		}
		cpos += uint64(rec.Clusters)
	}
	if bpc > 0 {
		f.equal("bg_bits", uint64(gd.Bits()), cpos*uint64(bpc)) //nolint:gosec // from 16 bits
	}
}
