// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"strconv"
)

// Kind tells the metadata structures that fill a block from each other.
type Kind uint8

// The kinds. Bucket and quota blocks carry no signature: who reads them knows
// them from where they lie.
const (
	KindNone          Kind = iota
	KindSuper              // OCFSV2, superblock or backup
	KindInode              // INODE01, ocfs2_dinode
	KindExtentBlock        // EXBLK01, ocfs2_extent_block
	KindGroup              // GROUP01, ocfs2_group_desc
	KindDxRoot             // DXDIR01, ocfs2_dx_root_block
	KindDxLeaf             // DXLEAF1, ocfs2_dx_leaf
	KindXattrBlock         // XATTR01, ocfs2_xattr_block
	KindRefcountBlock      // REFCNT1, ocfs2_refcount_block
	KindDirBlock           // DIRTRL1 in the trailer, ocfs2_dir_block_trailer
	KindBucket             // xattr bucket, 4096 bytes over one or more blocks
	KindQuotaBlock         // block of a quota file
)

const (
	signatureBytes = 8
	superSignature = "OCFSV2"
	checkBytes     = 8 // sizeof(ocfs2_block_check)
)

// layout says where a kind keeps the fields that all metadata blocks share.
// Offsets below zero count from the block's end; zero means no such field.
type layout struct {
	name       string
	structure  string // C name
	prefix     string // of the C names of its fields
	signature  string
	sigOff     int
	check      int    // ocfs2_block_check
	blkno      int    // own block number, 8 bytes
	generation int    // fs generation, 4 bytes
	genField   string // C name, without prefix
	parent     int    // 8 bytes
	suballoc   int    // slot and bit, 2 bytes each
	loc        int    // suballoc_loc, 8 bytes
}

var layouts = [...]layout{
	KindNone: {name: "unknown block"},
	KindSuper: {
		name: "superblock", structure: "ocfs2_dinode", prefix: "i_", signature: superSignature,
		check: 0x80, blkno: 0x50, generation: 0x60, genField: "fs_generation", suballoc: 0x0C, loc: 0x98,
	},
	KindInode: {
		name: "inode", structure: "ocfs2_dinode", prefix: "i_", signature: "INODE01",
		check: 0x80, blkno: 0x50, generation: 0x60, genField: "fs_generation", suballoc: 0x0C, loc: 0x98,
	},
	KindExtentBlock: {
		name: "extent block", structure: "ocfs2_extent_block", prefix: "h_", signature: "EXBLK01",
		check: 0x08, blkno: 0x18, generation: 0x14, genField: "fs_generation", suballoc: 0x10, loc: 0x20,
	},
	KindGroup: {
		name: "group descriptor", structure: "ocfs2_group_desc", prefix: "bg_", signature: "GROUP01",
		check: 0x30, blkno: 0x28, generation: 0x10, genField: "generation", parent: 0x20,
	},
	KindDxRoot: {
		name: "directory index root", structure: "ocfs2_dx_root_block", prefix: "dr_", signature: "DXDIR01",
		check: 0x08, blkno: 0x18, generation: 0x14, genField: "fs_generation", parent: 0x30, suballoc: 0x10, loc: 0x48,
	},
	KindDxLeaf: {
		name: "directory index leaf", structure: "ocfs2_dx_leaf", prefix: "dl_", signature: "DXLEAF1",
		check: 0x08, blkno: 0x10, generation: 0x18, genField: "fs_generation",
	},
	KindXattrBlock: {
		name: "xattr block", structure: "ocfs2_xattr_block", prefix: "xb_", signature: "XATTR01",
		check: 0x18, blkno: 0x10, generation: 0x0C, genField: "fs_generation", suballoc: 0x08, loc: 0x28,
	},
	KindRefcountBlock: {
		name: "refcount block", structure: "ocfs2_refcount_block", prefix: "rf_", signature: "REFCNT1",
		check: 0x20, blkno: 0x10, generation: 0x0C, genField: "fs_generation", parent: 0x18, suballoc: 0x08, loc: 0x48,
	},
	KindDirBlock: {
		name: "directory block", structure: "ocfs2_dir_block_trailer", prefix: "db_", signature: "DIRTRL1", sigOff: -0x30,
		check: -0x08, blkno: -0x18, parent: -0x10,
	},
	KindBucket:     {name: "xattr bucket", structure: "ocfs2_xattr_header", prefix: "xh_", check: 0x08},
	KindQuotaBlock: {name: "quota block", structure: "ocfs2_disk_dqtrailer", prefix: "dq_", check: -0x08},
}

// Identify returns the kind that the signature in block b claims, KindNone if
// there is none. A directory block is looked for last, since its signature
// lies where others keep contents.
func Identify(b []byte) Kind {
	first := u8(b, 0)
	for k := KindSuper; k < KindDirBlock; k++ {
		if layouts[k].signature[0] == first && k.signed(b) {
			return k
		}
	}
	if KindDirBlock.signed(b) {
		return KindDirBlock
	}
	return KindNone
}

func (k Kind) layout() *layout {
	if int(k) >= len(layouts) {
		k = KindNone
	}
	return &layouts[k]
}

// String returns the kind in words: "extent block".
func (k Kind) String() string { return k.layout().name }

// Struct returns the C name of the structure, "" for KindNone.
func (k Kind) Struct() string { return k.layout().structure }

// Signature returns the text that marks the kind, "" where there is none.
func (k Kind) Signature() string { return k.layout().signature }

// signed reports whether b carries the signature of a kind that has one.
func (k Kind) signed(b []byte) bool {
	l := k.layout()
	own, ok := bytes.CutPrefix(tail(b, place(b, l.sigOff)), []byte(l.signature))
	return l.signature != "" && ok && len(own) > 0 && own[0] == 0
}

// place returns the offset in b of a field of a layout.
func place(b []byte, off int) int {
	if off < 0 {
		return len(b) + off
	}
	return off
}

// Blkno returns the number that a block says it has; ok is false for kinds
// that do not say.
func (k Kind) Blkno(b []byte) (blkno uint64, ok bool) {
	off := k.layout().blkno
	return u64(b, place(b, off)), off != 0
}

// Generation returns the file system's generation that a block repeats.
func (k Kind) Generation(b []byte) (generation uint32, ok bool) {
	off := k.layout().generation
	return u32(b, place(b, off)), off != 0
}

// Suballoc returns where a block was allocated: slot and bit in the group
// whose descriptor is block loc. A loc of 0 means a contiguous group, whose
// descriptor lies bit blocks before.
func (k Kind) Suballoc(b []byte) (slot, bit uint16, loc uint64, ok bool) {
	l := k.layout()
	if l.suballoc == 0 {
		return 0, 0, 0, false
	}
	return u16(b, l.suballoc), u16(b, l.suballoc+2), u64(b, l.loc), true
}

// Parent returns the block that a block says it belongs to: the allocator's
// inode of a group, the directory of an index root or directory block, the
// root of a refcount leaf (0 in the root).
func (k Kind) Parent(b []byte) (blkno uint64, ok bool) {
	off := k.layout().parent
	return u64(b, place(b, off)), off != 0
}

// Identity compares signature, own number and generation of block b, which
// was read from blkno, with what they must be.
func (k Kind) Identity(b []byte, blkno uint64, generation uint32) []Fault {
	l := k.layout()
	f := faults{structure: l.structure}
	if l.signature != "" && !k.signed(b) {
		f.add(l.prefix+"signature", printable(span(b, place(b, l.sigOff), signatureBytes)), printable([]byte(l.signature)))
	}
	if own, ok := k.Blkno(b); ok && own != blkno {
		f.equal(l.prefix+"blkno", own, blkno)
	}
	if own, ok := k.Generation(b); ok && own != generation {
		f.add(l.prefix+l.genField, inHex(uint64(own)), inHex(uint64(generation)))
	}
	return f.found
}

// suballocFaults checks the place of allocation of a block read from blkno.
func (k Kind) suballocFaults(b []byte, blkno uint64, sb *SuperBlock) []Fault {
	l := k.layout()
	f := faults{structure: l.structure}
	slot, bit, loc, ok := k.Suballoc(b)
	if !ok {
		return nil
	}
	if slot != InvalidSlot && int(slot) >= sb.MaxSlots {
		f.add(l.prefix+"suballoc_slot", decimal(uint64(slot)), "less than "+strconv.Itoa(sb.MaxSlots)+" or 65535")
	}
	if loc != 0 {
		f.inVolume(l.prefix+"suballoc_loc", sb.Geometry, loc)
	} else if uint64(bit)+SuperBlockBlkno > blkno {
		f.add(l.prefix+"suballoc_bit", decimal(uint64(bit)), "less than the block's number")
	}
	return f.found
}

// printable quotes a signature as far as its terminator.
func printable(signature []byte) string {
	return strconv.Quote(text(signature))
}
