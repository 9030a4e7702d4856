// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"io"

	"o2image/blockio"
	"o2image/ocfs2"
)

// sweepBatch is how many pieces of a sweep wait at once.
const sweepBatch = 1024

// sweep reads all blocks that nothing claims.
func (w *walk) sweep(ctx context.Context, opts Options) {
	step, waiting := uint64(BufferSize>>w.v.sb.BlockBits), 0
	look := func(start, end uint64) {
		for start < end && ctx.Err() == nil {
			start = w.skipHole(start, opts)
			n := min(step, end-min(start, end))
			if n == 0 {
				return
			}
			at := start
			w.queue.bulk(func(ctx context.Context) { w.search(ctx, at, n, origin{}) })
			start += n
			if waiting++; waiting == sweepBatch {
				w.run(ctx)
				waiting = 0
			}
		}
	}
	next := uint64(ocfs2.SuperBlockBlkno)
	for start, n := range w.set.Seal().Spans() {
		look(next, start)
		next = max(next, start+n)
	}
	look(next, w.v.sb.Blocks())
	w.run(ctx)
}

// skipHole returns the first block at or behind blkno that may not be in a hole.
func (w *walk) skipHole(blkno uint64, opts Options) uint64 {
	if opts.NextData == nil {
		return blkno
	}
	start, _, err := opts.NextData(int64(blkno) << w.v.sb.BlockBits) //nolint:gosec // inside the volume
	switch {
	case errors.Is(err, io.EOF):
		return w.v.sb.Blocks()
	case err != nil:
		return blkno
	}
	return max(blkno, uint64(start)>>w.v.sb.BlockBits) //nolint:gosec // not negative
}

// search reads n blocks from block start on and adds those that show by
// themselves that they are metadata of this volume, with what inodes among
// them lead to. It reports whether all blocks were such.
func (w *walk) search(ctx context.Context, start, n uint64, o origin) bool {
	buf, err := w.bufs.Get(ctx)
	if err != nil {
		return false
	}
	defer func() { w.bufs.Put(buf) }()
	var (
		bs   = uint64(w.v.sb.BlockSize())
		step = uint64(len(buf)) / bs
		all  = true
	)
	for ; n > 0; start, n = start+min(step, n), n-min(step, n) {
		count := min(step, n)
		var whole error
		buf, whole = w.readInto(ctx, buf, int(count), start)
		if ctx.Err() != nil {
			return false
		}
		for i := range count {
			b := buf[i*bs:][:bs]
			if blockio.Within(whole, int64((start+i)*bs), int64(bs)) != nil {
				if err := w.v.readBlocks(ctx, b, start+i); err != nil {
					w.failed(o, start+i, err, "the block, should it be metadata")
					all = false
					continue
				}
			}
			if o.class == ClassBucket && w.bucketAt(buf[:count*bs], i) {
				w.set.Add(start+i, 1, uint8(ClassBucket))
				continue
			}
			all = w.showsItself(ctx, start+i, b, o) && all
		}
	}
	return all
}

// unsearched returns how many of the n clusters from block blkno on have not been
// searched up to the first that has, and counts them as searched.
func (w *walk) unsearched(blkno, n uint64) uint64 {
	first := blkno / w.v.sb.BlocksPerCluster()
	for c := range n {
		if !w.searched.add(first + c) {
			return c
		}
	}
	return n
}

// bucketAt reports whether block i of buf lies in what looks like a bucket.
func (w *walk) bucketAt(buf []byte, i uint64) bool {
	off := i * uint64(w.v.sb.BlockSize()) / ocfs2.BucketSize * ocfs2.BucketSize
	if uint64(len(buf))-off < ocfs2.BucketSize {
		return false
	}
	area := ocfs2.AsBucket(buf[off:][:ocfs2.BucketSize])
	return area.Count() > 0 && area.Faults(w.v.sb) == nil
}

// showsItself adds block blkno with the contents b if it is metadata beyond
// doubt, and reports whether it is.
func (w *walk) showsItself(ctx context.Context, blkno uint64, b []byte, o origin) bool {
	kind := ocfs2.Identify(b)
	if kind == ocfs2.KindNone {
		if !ocfs2.FilledWithEntries(b, w.v.sb) {
			return false
		}
		w.set.Add(blkno, 1, uint8(ClassDirectory))
		return true
	}
	if kind.Identity(b, blkno, w.v.sb.Generation) != nil {
		return false
	}
	class := ClassExtent
	switch kind {
	case ocfs2.KindSuper:
		class = ClassSuper
	case ocfs2.KindGroup:
		class = ClassGroup
		w.owners.add(blkno)
	case ocfs2.KindDirBlock:
		class = ClassDirectory
	case ocfs2.KindDxLeaf:
		class = ClassDxLeaf
	case ocfs2.KindInode:
		class = ClassInode
		w.belongs(kind, b, blkno)
		if ocfs2.AsDinode(b).IsValid() && w.inodes.add(blkno) {
			at := origin{class: class, ino: blkno, path: o.path}
			if b, s := w.judge(kind, blkno, b, at, "what the inode leads to"); s != lost {
				w.inode(ctx, blkno, b, s, at)
			}
		}
	default:
		w.belongs(kind, b, blkno)
	}
	w.set.Add(blkno, 1, uint8(class))
	return true
}
