// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package redact takes file data out of metadata blocks: one block in, one
// block out. Which blocks an image stores, and where, is decided elsewhere and
// is the same whatever is redacted.
//
// A small file of a volume with the inline-data feature has its contents in its
// inode's block, the only file data that stands inside metadata. [Redactor.Block]
// zeroes them wherever an inode's block stands: live, deleted, or as a copy in
// a journal. [Redactor.Keep] is the other direction: when a redacted block is
// written back, the contents that the target still has survive.
//
// A damaged pointer can make a block of file data part of the metadata set, and
// free blocks of allocators hold what was there before. A block that nothing
// shows to be metadata of the volume is withheld: a visible text stands in its
// place, which is not written back. See [Redactor.Withhold].
//
// A block's metadata ECC is computed anew only if it was right before, so that
// a block that was damaged stays recognisably damaged.
package redact

import (
	"bytes"

	"o2image/ocfs2"
)

// Redactor redacts the blocks of one volume. It may be used concurrently.
type Redactor struct{ sb *ocfs2.SuperBlock }

// New returns a redactor for the volume with the superblock sb.
func New(sb *ocfs2.SuperBlock) *Redactor { return &Redactor{sb: sb} }

// Block zeroes the file data in b, a whole block, and returns how many bytes it
// cleared: up to the last byte that was not zero.
func (r *Redactor) Block(b []byte) int {
	return r.zero(b, r.doubtfulData(b))
}

// zero clears data, a part of b, and returns how much of it was not zero.
func (r *Redactor) zero(b, data []byte) int {
	n := used(data)
	if n == 0 {
		return 0
	}
	r.change(b, func() { clear(data) })
	return n
}

// Keep copies into b, a redacted block about to be written, the file data of
// old, the block that it replaces, and reports whether there was any to keep:
// b must be an inode whose contents are all zero, and old the same inode (own
// number, generation, inline data).
func (r *Redactor) Keep(b, old []byte) bool {
	data, kept := fileData(b), fileData(old)
	if !Redacted(b) || kept == nil {
		return false
	}
	now, was := ocfs2.AsDinode(b), ocfs2.AsDinode(old)
	if now.Blkno() != was.Blkno() || now.Generation() != was.Generation() {
		return false
	}
	if used(kept) == 0 {
		return false
	}
	r.change(b, func() { copy(data, kept) })
	return true
}

// Redacted reports whether b is the inode of an inline file that is not empty
// and whose contents are all zero, as [Redactor.Block] leaves it.
func Redacted(b []byte) bool {
	data := fileData(b)
	return data != nil && ocfs2.AsDinode(b).Size() > 0 && used(data) == 0
}

// used returns the length of data without the zeros at its end. Most small files
// leave most of their block empty: those are skipped in larger steps.
func used(data []byte) int {
	var zeros [512]byte
	n := len(data)
	for _, step := range []int{len(zeros), 64, 1} {
		for n >= step && bytes.Equal(data[n-step:n], zeros[:step]) {
			n -= step
		}
	}
	return n
}

// change does something to b that its check value must follow if it was right,
// or right but for a single bit, which stays wrong.
func (r *Redactor) change(b []byte, do func()) {
	state, bit := ocfs2.ECCInvalid, 0
	if r.sb.HasECC() {
		state, bit = ocfs2.KindInode.VerifyECC(b)
	}
	if off, n := ocfs2.AsDinode(b).InlineDataRange(); state == ocfs2.ECCRepairable && bit/8 >= off && bit/8 < off+n {
		state = ocfs2.ECCInvalid // the bit goes with the contents
	}
	if state == ocfs2.ECCRepairable {
		ocfs2.RepairBit(b, bit)
		defer ocfs2.RepairBit(b, bit)
	}
	do()
	if state != ocfs2.ECCInvalid {
		ocfs2.KindInode.UpdateECC(b)
	}
}

// fileData returns the part of b that holds contents of a regular file, nil if
// there is none: id_data of an inode (struct ocfs2_inline_data).
func fileData(b []byte) []byte {
	if ocfs2.Identify(b) != ocfs2.KindInode {
		return nil
	}
	d := ocfs2.AsDinode(b)
	if !d.IsRegular() || d.Union() != ocfs2.UnionInlineData {
		return nil
	}
	return d.InlineData()
}

// doubtfulData returns fileData, and what may be contents of a regular file
// although the fields that tell contradict each other.
func (r *Redactor) doubtfulData(b []byte) []byte {
	if ocfs2.Identify(b) != ocfs2.KindInode {
		return nil
	}
	return r.inodeData(b)
}

// inodeData is doubtfulData for a block that is an inode by its own number and
// its generation, if not by its signature.
func (r *Redactor) inodeData(b []byte) []byte {
	d := ocfs2.AsDinode(b)
	off, n := d.InlineDataRange()
	data := b[min(off, len(b)):][:n]
	system := d.SuballocSlot() == ocfs2.InvalidSlot && d.IsSystem()
	switch {
	case d.DynFeatures().Has(ocfs2.DynInlineData):
		if system && d.Union() != ocfs2.UnionInlineData || holdsEntries(data) {
			return nil
		}
		return data
	case !system && d.Union() == ocfs2.UnionExtents && !d.IsDir() && !d.IsSymlink() &&
		d.Size() > 0 && d.Size() <= uint64(n) && d.Clusters() == 0 && d.LastExtentBlk() == 0 && //nolint:gosec // a length
		d.Extents().Faults(r.sb, ocfs2.TreeData) != nil && !d.LooksLikeFastSymlink():
		return data // contents without the flag
	}
	return nil
}

// holdsEntries reports whether area begins as a directory does: with the entries
// "." and "..". One of them may be damaged.
func holdsEntries(area []byte) bool {
	const second = 16 // where ".." begins
	return startsWith(area, ".") || len(area) > second && startsWith(area[second:], "..")
}

// startsWith reports whether the first entry in area has that name.
func startsWith(area []byte, name string) bool {
	const nameOff = 12 // of ocfs2_dir_entry; most contents are dismissed by it
	if len(area) < nameOff || !bytes.HasPrefix(area[nameOff:], []byte(name)) {
		return false
	}
	for e, fault := range ocfs2.DirEntries(area) {
		return fault == nil && e.Ino != 0 && string(e.Name) == name
	}
	return false
}
