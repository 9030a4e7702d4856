// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"

	"o2image/ocfs2"
)

// Skip says which metadata is left out of a set because a sound volume has no
// use for it. The zero value leaves out nothing.
type Skip struct {
	Free         bool // blocks of suballocators that are not allocated
	JournalClean bool // of journals without a transaction, all but the superblock
}

// addRun adds n blocks of a suballocator's group, those from block start on, which
// have the bits of gd from bit on.
func (w *walk) addRun(a *allocator, gd ocfs2.GroupDesc, bit int, start uint64, n int, s soundness) {
	class := a.class()
	skip := w.skip.Free && s == sound
	if !skip {
		w.set.Add(start, uint64(n), uint8(class)) //nolint:gosec // positive
	}
	used := 0
	for i := 0; i < n; {
		end := i
		for end < n && gd.Bit(bit+end) {
			end++
		}
		if skip {
			w.set.Add(start+uint64(i), uint64(end-i), uint8(class)) //nolint:gosec // not negative
		}
		used += end - i
		i = end + 1
	}
	count := &w.free
	if skip {
		count = &w.skipped
	}
	count[class].Add(uint64(n - used)) //nolint:gosec // not negative
}

// skipJournal adds of the journal with the inode d only what makes it an empty one,
// if it is empty. Otherwise it adds nothing, and reports false.
func (w *walk) skipJournal(ctx context.Context, d ocfs2.Dinode) bool {
	keep, ok := w.v.emptyJournal(ctx, d)
	if !ok {
		return false
	}
	for _, blkno := range keep {
		w.set.Add(blkno, 1, uint8(ClassJournal))
	}
	blocks := uint64(d.Clusters()) * w.v.sb.BlocksPerCluster()
	w.skipped[ClassJournal].Add(blocks - min(blocks, uint64(len(keep))))
	return true
}

// emptyJournal returns the blocks that say that the journal with the inode d
// holds no transaction: its superblock, and the first block of its log if the
// superblock sends a replay there, as in journals that were never used. ok is
// false for all other journals.
func (v *Volume) emptyJournal(ctx context.Context, d ocfs2.Dinode) (keep []uint64, ok bool) {
	if d.JournalDirty() || d.Extents().Depth() > 0 {
		return nil, false
	}
	b, blkno, ok := v.journalBlock(ctx, d, 0)
	if !ok {
		return nil, false
	}
	js, ok := ocfs2.DecodeJournalSuper(b)
	if !ok || js.Errno != 0 {
		return nil, false
	}
	if js.Start == 0 {
		return []uint64{blkno}, true
	}
	first, at, ok := v.journalBlock(ctx, d, uint64(js.Start))
	if !ok {
		return nil, false
	}
	_, written := ocfs2.DecodeJournalHeader(first)
	return []uint64{blkno, at}, !written
}

// journalBlock reads block n of the journal with the inode d.
func (v *Volume) journalBlock(ctx context.Context, d ocfs2.Dinode, n uint64) (b []byte, blkno uint64, ok bool) {
	for e, err := range v.Extents(ctx, d) {
		if err != nil {
			return nil, 0, false
		}
		if n-e.Logical < e.Blocks {
			blkno = e.Blkno + n - e.Logical
			b, err = v.ReadBlock(ctx, blkno)
			return b, blkno, err == nil
		}
	}
	return nil, 0, false
}
