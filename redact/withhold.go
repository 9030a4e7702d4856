// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"bytes"
	"slices"
	"unicode"

	"o2image/ocfs2"
	"o2image/volume"
)

// withheld is what an image holds, over and over, in place of a block that
// nothing shows to be metadata.
const withheld = "O2IMAGE-WITHHELD"

// IsWithheld reports whether b stands for a block that was withheld.
func IsWithheld(b []byte) bool {
	for part := range slices.Chunk(b, len(withheld)) {
		if string(part) != withheld {
			return false
		}
	}
	return len(b) > 0
}

// Withhold replaces b, block blkno of the given class, by a text if nothing
// shows that it is metadata of this volume, and reports whether it did so. An
// inode without its signature keeps everything but what may be contents of a
// file. Blocks of zeros stay.
//
// Of symlinks the text stays, up to its end. Blocks of system files and journals,
// and those before the first group, have no marks: they stay, as long as nothing
// speaks against it. So do buckets, which the walk has told from what is none.
func (r *Redactor) Withhold(b []byte, blkno uint64, class volume.Class) bool {
	switch class {
	case volume.ClassInode, volume.ClassExtent, volume.ClassDxLeaf, volume.ClassDirectory, volume.ClassSlack, volume.ClassDoubtful, volume.ClassGroup:
	case volume.ClassSuper:
		if blkno < r.sb.GroupBlkno(0) { // boot blocks, the superblock and what is before the first group
			return false
		}
	case volume.ClassSymlink:
		if n := textLen(b); n > 0 {
			clear(b[n:])
			return false
		}
	default:
		return false
	}
	kind := ocfs2.Identify(b)
	if kind != ocfs2.KindNone && kind.Identity(b, blkno, r.sb.Generation) == nil || used(b) == 0 {
		return false
	}
	switch class {
	case volume.ClassInode:
		if r.marks(ocfs2.KindInode, b, blkno) == enough && kind != ocfs2.KindInode {
			r.zero(b, r.inodeData(b))
		}
	case volume.ClassDirectory:
		if r.entries(b) {
			return false
		}
	case volume.ClassDoubtful:
		if h, ok := ocfs2.DecodeJournalHeader(b); ok && h.Type.Known() || ocfs2.FilledWithEntries(b, r.sb) {
			return false
		}
	}
	for kind := ocfs2.KindSuper; kind <= ocfs2.KindDirBlock; kind++ {
		if r.marks(kind, b, blkno) >= enough {
			return false
		}
	}
	for n := 0; n < len(b); {
		n += copy(b[n:], withheld)
	}
	return true
}

// textLen returns the length of what can be the target of a symlink at the start
// of b, 0 if it holds what no target does.
func textLen(b []byte) int {
	n := bytes.IndexByte(b, 0)
	if n < 0 {
		n = len(b)
	}
	if bytes.ContainsFunc(b[:n], unicode.IsControl) {
		return 0
	}
	return n
}

// enough is how many marks of a kind show that a block is of it: of signature,
// own number and generation.
const enough = 2

// marks returns how many of the marks of a kind block b has.
func (r *Redactor) marks(kind ocfs2.Kind, b []byte, blkno uint64) int {
	has := 3
	if _, ok := kind.Generation(b); !ok { // directory blocks have none
		has--
	}
	return has - len(kind.Identity(b, blkno, r.sb.Generation))
}

// entries reports whether b is filled with directory entries, or one that is in
// use stands somewhere in it.
func (r *Redactor) entries(b []byte) bool {
	const align = 4
	sound := true
	for _, fault := range ocfs2.DirEntries(b) {
		sound = sound && fault == nil
	}
	if sound {
		return true
	}
	for off := 0; off+align <= len(b); off += align {
		for e, fault := range ocfs2.DirEntries(b[off:]) {
			if fault == nil && e.Ino != 0 && e.NameLen > 0 && e.FileType != ocfs2.FileUnknown && e.Faults(r.sb) == nil {
				return true
			}
			break
		}
	}
	return false
}
