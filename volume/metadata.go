// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"o2image/blockio"
	"o2image/blockset"
	"o2image/ocfs2"
)

// Metadata is the metadata set of a volume: which blocks belong to an image of
// it, and why.
type Metadata struct {
	Blocks *blockset.Set // the tags are classes

	// Free is how many blocks of the classes ClassInode and ClassExtent are
	// not allocated: deleted inodes and old extent blocks.
	Free map[Class]uint64

	// Skipped is how many blocks [Options] had left out, by class.
	Skipped map[Class]uint64

	Findings []Finding // by block, at most 10000, the worst
	Found    int       // how many there were in all

	// ComparedBelow is 0 if the owners of all clusters with file data were
	// compared. On volumes with very many extents there is no memory for that:
	// then it is the first cluster whose owner was not.
	ComparedBelow uint64
}

// Count returns how many blocks there are of a class.
func (m *Metadata) Count(c Class) uint64 { return m.Blocks.CountByTag()[c] }

// Complete reports whether nothing is known to be missing from the set.
func (m *Metadata) Complete() bool {
	return !slices.ContainsFunc(m.Findings, func(f Finding) bool { return f.Severity != Damaged })
}

// Options says how [Volume.Metadata] looks for metadata. The zero value suits
// sound volumes.
type Options struct {
	// Sweep has everything read that nothing claims. What shows by its
	// signature, its own number and its generation that it is metadata of this
	// volume belongs to the set as well. Without it that is done only where
	// the superblock or groups of an allocator cannot be found in another way.
	Sweep bool

	Skip Skip

	// Buffers, if not nil, lends what blocks are read into, of [BufferSize] bytes or
	// more each. It is not closed.
	Buffers *blockio.Pool

	// Progress, if not nil, is told how many blocks of how many have been read,
	// as far as that is known: both grow. It is called from many goroutines at
	// once, and often.
	Progress func(done, total uint64)

	// NextData, if not nil, tells a sweep what it need not read: it returns the
	// first range of bytes at or behind off that is not a hole, or [io.EOF].
	NextData func(off int64) (start, end int64, err error)
}

// Metadata finds the metadata set by following the allocators: inodes are found
// in the inode allocators, and what belongs to each inode by its own flags.
// Where damage is in the way it looks for other ways to the same blocks. Damage
// does not stop it; the error is that of ctx. If the cause of that is
// [blockio.ErrStopped] there is none, and the set is what was found before.
func (v *Volume) Metadata(ctx context.Context, opts Options) (*Metadata, error) {
	bufs := opts.Buffers
	if bufs == nil {
		bufs = blockio.NewPool(BufferSize, walkers/2)
		defer bufs.Close()
	}
	w := &walk{
		v:          v,
		set:        blockset.NewBuilder(),
		bufs:       bufs,
		queue:      newQueue(),
		allocators: make(map[uint64]*allocator),
		deferred:   make(map[uint64]func(context.Context)),
		skip:       opts.Skip,
		progress:   progress{tell: opts.Progress},
	}
	w.directories.mode, w.directories.file = ocfs2.ModeDir, ocfs2.FileDir
	w.symlinks.mode, w.symlinks.file = ocfs2.ModeSymlink, ocfs2.FileSymlink
	w.start(ctx)
	w.run(ctx)
	w.recover(ctx, opts)
	if !w.findings.any() && int(w.cleanJournals.Load()) >= v.sb.MaxSlots {
		w.compareShares()
	}
	w.doubt()
	if err := ctx.Err(); err != nil && !errors.Is(context.Cause(ctx), blockio.ErrStopped) {
		return nil, err
	}
	return &Metadata{
		Blocks:   w.set.Seal(),
		Free:     byClass(&w.free),
		Skipped:  byClass(&w.skipped),
		Findings: w.findings.sorted(),
		Found:    w.findings.total,

		ComparedBelow: w.data.cut(),
	}, nil
}

// readInto reads n blocks from block blkno on into buf, a buffer of the walk. It
// returns that, or the one that takes its place if its memory got lost.
func (w *walk) readInto(ctx context.Context, buf []byte, n int, blkno uint64) ([]byte, error) {
	size := n << w.v.sb.BlockBits
	err := w.v.readBlocks(ctx, buf[:size], blkno)
	for errors.Is(err, blockio.ErrLost) {
		if buf, err = w.bufs.Replace(buf); err == nil {
			err = w.v.readBlocks(ctx, buf[:size], blkno)
		}
	}
	return buf, err
}

// byClass returns the counts that are not 0.
func byClass(counts *[numClasses]atomic.Uint64) map[Class]uint64 {
	m := make(map[Class]uint64)
	for c := range counts {
		if n := counts[c].Load(); n > 0 {
			m[Class(c)] = n
		}
	}
	return m
}
