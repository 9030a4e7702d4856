// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"sync"

	"o2image/ocfs2"
)

// Blocks of journals and other system files bear no marks by which they could be
// told from file data: the only witness for a pointer to them is who else has the
// clusters. Those that hold file data as well, or are free, are of ClassDoubtful.

// isUnmarked reports whether blocks of the class do not show what they are.
func (c Class) isUnmarked() bool { return c == ClassJournal || c == ClassSystem }

// freeExtent is an extent of a journal or another system file that has a free
// cluster, at block blkno.
type freeExtent struct {
	treeRec
	o     origin
	blkno uint64
}

// extentsAtOnce is how many extents are compared with the global bitmap by one task.
const extentsAtOnce = 1024

// findFree remembers which of the extents have clusters that are free.
func (w *walk) findFree(ctx context.Context, extents []treeRec, o origin) {
	for _, rec := range extents {
		if blkno, ok := w.freeIn(ctx, rec.Blkno, uint64(rec.Clusters)); ok {
			w.mu.Lock()
			w.unallocated = append(w.unallocated, freeExtent{rec, o, blkno})
			w.mu.Unlock()
		}
	}
}

// freeIn returns the first of n clusters from block blkno on that is free beyond
// doubt, and whether there is one.
func (w *walk) freeIn(ctx context.Context, blkno, n uint64) (first uint64, ok bool) {
	bpc, per := w.v.sb.BlocksPerCluster(), uint64(w.v.sb.GroupBits()) //nolint:gosec // positive
	for c, end := blkno/bpc, blkno/bpc+n; c < end; {
		next := min(end, c-c%per+per)
		bitmap := w.groupBitmap(ctx, int(c/per)) //nolint:gosec // clusters have 32 bits
		for ; c < next; c++ {
			if bit := int(c % per); bit < bitmap.Len() && !bitmap.Bit(bit) { //nolint:gosec // from 16 bits
				return c * bpc, true
			}
		}
	}
	return 0, false
}

// maxGroupBitmaps bounds how many groups of the global bitmap are kept for others
// that have clusters there: journals lie side by side.
const maxGroupBitmaps = 64

// groupBitmap returns the bits of group i of the global bitmap, none if they cannot
// be relied on.
func (w *walk) groupBitmap(ctx context.Context, i int) ocfs2.Bitmap {
	w.mu.Lock()
	read := w.groupBitmaps[i]
	if read == nil {
		if len(w.groupBitmaps) >= maxGroupBitmaps || w.groupBitmaps == nil {
			w.groupBitmaps = make(map[int]func() ocfs2.Bitmap)
		}
		read = sync.OnceValue(func() ocfs2.Bitmap { return w.readGroupBitmap(ctx, i) })
		w.groupBitmaps[i] = read
	}
	w.mu.Unlock()
	return read()
}

func (w *walk) readGroupBitmap(ctx context.Context, i int) ocfs2.Bitmap {
	sb, blkno := w.v.sb, w.v.sb.GroupBlkno(i)
	gd, ok := w.descriptor(ctx, blkno)
	if !ok || roleOf(w.system[gd.ParentDinode()]) != roleClusters || gd.Faults(blkno, sb, gd.ParentDinode(), gd.Chain(), 1) != nil {
		return ocfs2.Bitmap{}
	}
	if state, _ := ocfs2.KindGroup.VerifyECC(gd.Bytes()); sb.HasECC() && state != ocfs2.ECCValid {
		return ocfs2.Bitmap{}
	}
	return gd.Bitmap()
}

// doubt gives clusters of journals and other system files that hold file data as
// well, or are free, a class of their own, and says which are free: that others
// have them is said elsewhere. Quota files grow: as long as a journal may not have
// been replayed, the bitmap need not know of it.
func (w *walk) doubt() {
	bpc := w.v.sb.BlocksPerCluster()
	for _, x := range w.unallocated {
		if x.o.class != ClassJournal && int(w.cleanJournals.Load()) < w.v.sb.MaxSlots {
			continue
		}
		w.note(x.o, x.list, NotFollowed, fmt.Sprintf("e_blkno: %d clusters from block %d on are to be in use, the global bitmap says that block %d is free",
			x.Clusters, x.Blkno, x.blkno), "the blocks of the file")
		w.set.Add(x.Blkno, uint64(x.Clusters)*bpc, uint8(ClassDoubtful))
	}
	w.unmarked.compact()
	for _, data := range []*clusterSet{&w.data.own, &w.data.shared} {
		data.compact()
		for r := range w.unmarked.common(data.all()) {
			w.set.Add(r.start()*bpc, uint64(r.n)*bpc, uint8(ClassDoubtful))
		}
	}
}
