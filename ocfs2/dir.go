// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"fmt"
	"iter"
)

// Offsets of ocfs2_dir_entry, from its start.
const (
	deInode    = 0x00
	deRecLen   = 0x08
	deNameLen  = 0x0A
	deFileType = 0x0B
	deName     = 0x0C // also the size of an entry without name
	direntUnit = 4    // rec_len is a multiple of it (OCFS2_DIR_PAD)
)

// FileType is file_type of a directory entry; only the low three bits count.
type FileType uint8

// The file types.
const (
	FileUnknown FileType = iota
	FileRegular
	FileDir
	FileChar
	FileBlock
	FileFIFO
	FileSocket
	FileSymlink

	fileTypeMask = 7
)

// String returns the type in words.
func (t FileType) String() string {
	names := [...]string{
		"unknown", "regular file", "directory", "character device", "block device", "fifo", "socket", "symbolic link",
	}
	return names[t&fileTypeMask]
}

// DirEntry is an ocfs2_dir_entry.
type DirEntry struct {
	Ino      uint64   // inode, the inode's block; 0 if the entry is unused
	RecLen   uint16   // rec_len, bytes to the next entry
	NameLen  uint8    // name_len, bytes
	FileType FileType // file_type, without the bits that do not count
	Name     []byte   // name; aliases the area
	Off      int      // where the entry begins, bytes from the area's start
}

// IsDot reports whether the name is "." or "..".
func (e DirEntry) IsDot() bool { return string(e.Name) == "." || string(e.Name) == ".." }

// Faults returns what an entry in use holds that a name or a pointer cannot
// be, though the entries behind it can still be found.
func (e DirEntry) Faults(sb *SuperBlock) []Fault {
	f := faults{structure: "ocfs2_dir_entry"}
	if e.Ino == 0 {
		return nil
	}
	f.inVolume("inode", sb.Geometry, e.Ino)
	if len(e.Name) == 0 {
		f.add("name_len", "0", "1..255")
	}
	if bytes.ContainsAny(e.Name, "/\x00") {
		f.add("name", fmt.Sprintf("%q", e.Name), "a name without / and NUL")
	}
	return f.found
}

// DirEntries returns the entries of an area, the unused ones with Ino 0
// included. The area is an inline directory's InlineData as far as its Size, or
// what DirArea returns. At the first entry whose length cannot be, a fault
// comes with the offset of that entry, and nothing after it.
func DirEntries(area []byte) iter.Seq2[DirEntry, *Fault] {
	return func(yield func(DirEntry, *Fault) bool) {
		for off := 0; off < len(area); {
			entry, fault := dirEntry(area, off)
			if !yield(entry, fault) || fault != nil {
				return
			}
			off += int(entry.RecLen)
		}
	}
}

func dirEntry(area []byte, off int) (DirEntry, *Fault) {
	room := len(area) - off
	bad := func(field string, got int, want string) (DirEntry, *Fault) {
		return DirEntry{Off: off}, &Fault{"ocfs2_dir_entry", field, fmt.Sprint(got), fmt.Sprintf("%s at offset %d", want, off)}
	}
	if room < deName {
		return bad("rec_len", room, "room for an entry")
	}
	e := DirEntry{
		Ino:      u64(area, off+deInode),
		RecLen:   u16(area, off+deRecLen),
		NameLen:  u8(area, off+deNameLen),
		FileType: FileType(u8(area, off+deFileType) & fileTypeMask),
		Off:      off,
	}
	switch rec := int(e.RecLen); {
	case rec < deName || rec%direntUnit != 0:
		return bad("rec_len", rec, "a multiple of 4, at least 12")
	case rec > room:
		return bad("rec_len", rec, fmt.Sprintf("at most %d", room))
	case int(e.NameLen) > rec-deName:
		return bad("name_len", int(e.NameLen), fmt.Sprintf("at most %d", rec-deName))
	}
	e.Name = span(area, off+deName, int(e.NameLen))
	return e, nil
}

// Offsets of ocfs2_dir_block_trailer, from its start.
const (
	dbCompatInode   = 0x00
	dbCompatRecLen  = 0x08
	dbCompatNameLen = 0x0A
	dbFreeRecLen    = 0x0E
	dbFreeNext      = 0x20
	dirTrailerSize  = 0x40
)

// HasDirTrailer reports whether the blocks of directory d end in a trailer.
func HasDirTrailer(d Dinode, sb *SuperBlock) bool {
	dyn := d.DynFeatures()
	if dyn.Has(DynInlineData) {
		return false
	}
	return sb.HasECC() || sb.Incompat.Has(IncompatIndexedDirs) && dyn.Has(DynIndexedDir)
}

// DirArea returns the bytes of a directory block that hold entries.
func DirArea(block []byte, trailer bool) []byte {
	if !trailer {
		return block
	}
	return span(block, 0, len(block)-dirTrailerSize)
}

// DirTrailer is a view of an ocfs2_dir_block_trailer.
type DirTrailer struct{ block []byte }

// AsDirTrailer views the end of block, one whole block of a directory.
func AsDirTrailer(block []byte) DirTrailer { return DirTrailer{block} }

func (t DirTrailer) bytes() []byte { return tail(t.block, len(t.block)-dirTrailerSize) }

// HasSignature reports whether the block ends in a trailer.
func (t DirTrailer) HasSignature() bool { return KindDirBlock.signed(t.block) }

// Present reports whether the block, which was read from blkno and belongs to the
// directory with inode dir, ends in a trailer though it need not: its signature,
// or the two numbers, in what is an unused entry to those who know no trailers.
// They may put a name there.
func (t DirTrailer) Present(blkno, dir uint64) bool {
	b := t.bytes()
	return u64(b, dbCompatInode) == 0 && u16(b, dbCompatRecLen) == dirTrailerSize && u8(b, dbCompatNameLen) == 0 &&
		(t.HasSignature() || t.Blkno() == blkno && t.ParentDinode() == dir)
}

// FreeRecLen returns db_free_rec_len, bytes of the largest hole in the block.
func (t DirTrailer) FreeRecLen() int { return int(u16(t.bytes(), dbFreeRecLen)) }

// FreeNext returns db_free_next, the next block in the directory's free list, 0
// at its end.
func (t DirTrailer) FreeNext() uint64 { return u64(t.bytes(), dbFreeNext) }

// Blkno returns db_blkno, the block's own number.
func (t DirTrailer) Blkno() uint64 { n, _ := KindDirBlock.Blkno(t.block); return n }

// ParentDinode returns db_parent_dinode, the directory's inode.
func (t DirTrailer) ParentDinode() uint64 { n, _ := KindDirBlock.Parent(t.block); return n }

// Faults returns the contradictions in the trailer of the block that was read
// from blkno and belongs to the directory with inode dir.
func (t DirTrailer) Faults(blkno uint64, sb *SuperBlock, dir uint64) []Fault {
	f := faults{structure: "ocfs2_dir_block_trailer"}
	f.within(KindDirBlock.Identity(t.block, blkno, sb.Generation))
	b := t.bytes()
	f.equal("db_compat_inode", u64(b, dbCompatInode), 0)
	f.equal("db_compat_rec_len", uint64(u16(b, dbCompatRecLen)), dirTrailerSize)
	f.equal("db_compat_name_len", uint64(u8(b, dbCompatNameLen)), 0)
	f.fits("db_free_rec_len", t.FreeRecLen(), max(0, len(t.block)-dirTrailerSize))
	f.inVolumeOrNone("db_free_next", sb.Geometry, t.FreeNext())
	f.equal("db_parent_dinode", t.ParentDinode(), dir)
	return f.found
}

// FilledWithEntries reports whether b holds directory entries from its start to its
// end, at least one of them in use, and all of them such as a volume has.
func FilledWithEntries(b []byte, sb *SuperBlock) bool {
	used := false
	for e, fault := range DirEntries(b) {
		if fault != nil || e.Faults(sb) != nil {
			return false
		}
		used = used || e.Ino != 0
	}
	return used
}
