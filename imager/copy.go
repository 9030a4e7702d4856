// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"crypto/sha256"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"o2image/blockio"
	"o2image/image"
	"o2image/redact"
)

// notRead is what an image holds, over and over, in place of a block that could
// not be read.
const notRead = "O2IMAGE-NOTREAD\n"

// noGap keeps the reader of a packed image from reading between its blocks: there
// is nothing.
const noGap = -1

// inFlight is how many pieces are under way at once: being read, made or
// waiting to be written.
const inFlight = 16

// sink takes the pieces of an output. It must not keep buf.
type sink interface {
	write(p image.Piece, buf []byte) error
}

// copier copies blocks of a volume into the pieces of an output.
type copier struct {
	src       io.ReaderAt // offsets are those of the volume
	blockSize int
	strict    bool             // a block that cannot be read ends the copy
	gap       int              // what may be read and thrown away between blocks, as in blockio.ReadOptions
	redact    *redact.Redactor // nil: bit for bit
	ordered   bool             // the sink takes pieces in the order of the file only
	hash      bool             // return the SHA-256 of the pieces

	inodes, bytes atomic.Uint64 // redacted
	mu            sync.Mutex
	notRead       []image.Run
}

// filled is a piece on its way to the sink.
type filled struct {
	image.Piece
	buf  []byte
	done chan struct{} // closed when buf is made
}

// run copies what layout says to out. It returns the hashes of the pieces in
// order, if they are wanted.
func (c *copier) run(ctx context.Context, layout image.Layout, out sink) ([][sha256.Size]byte, error) {
	var leaves [][sha256.Size]byte
	if c.hash {
		leaves = make([][sha256.Size]byte, (layout.Size()+image.PieceSize-1)/image.PieceSize)
	}
	pool := blockio.NewPool(image.PieceSize, inFlight)
	defer pool.Close()
	work, ctx := errgroup.WithContext(ctx)
	inOrder := make(chan *filled, inFlight)
	work.Go(func() error {
		defer close(inOrder)
		for p, err := range layout.Pieces() {
			if err != nil {
				return err
			}
			buf, err := pool.Get(ctx)
			if err != nil {
				return err
			}
			f := &filled{Piece: p, buf: buf[:p.Len], done: make(chan struct{})}
			work.Go(func() error {
				if err := c.fill(ctx, layout, f); err != nil {
					return err
				}
				if c.hash {
					leaves[p.Off/image.PieceSize] = sha256.Sum256(f.buf)
				}
				if !c.ordered {
					if err := out.write(f.Piece, f.buf); err != nil {
						return err
					}
				}
				close(f.done)
				return nil
			})
			inOrder <- f
		}
		return nil
	})
	work.Go(func() error {
		for f := range inOrder {
			select {
			case <-f.done:
			case <-ctx.Done():
				continue // take the others, so that nobody waits
			}
			if c.ordered {
				if err := out.write(f.Piece, f.buf); err != nil {
					return err
				}
			}
			pool.Put(f.buf)
		}
		return nil
	})
	return leaves, work.Wait()
}

// fill makes a piece: reads its blocks, takes out what is to be taken out.
func (c *copier) fill(ctx context.Context, layout image.Layout, f *filled) error {
	clear(f.buf)
	layout.Fill(f.Piece, f.buf)
	segs := make([]blockio.Segment, len(f.Segments))
	for i, s := range f.Segments {
		segs[i] = blockio.Segment{Off: int64(s.Blkno) * int64(c.blockSize), P: f.buf[s.At:][:s.Count*c.blockSize]}
	}
	opt := blockio.ReadOptions{Gap: c.gap}
	var failed []int
	if !c.strict {
		opt.Failed = func(i int, _ error) { failed = append(failed, i) }
	}
	if err := blockio.ReadSegments(ctx, c.src, segs, opt); err != nil {
		return err
	}
	for _, i := range failed {
		c.salvage(f.Segments[i].Blkno, segs[i].P)
	}
	if c.redact == nil {
		return nil
	}
	for _, s := range segs {
		for b := range slices.Chunk(s.P, c.blockSize) {
			if n := c.redact.Block(b); n > 0 {
				c.inodes.Add(1)
				c.bytes.Add(uint64(n))
			}
		}
	}
	return nil
}

// salvage reads the blocks of b from blkno on one by one. In place of those
// that cannot be read it leaves a text, and remembers them.
func (c *copier) salvage(blkno uint64, b []byte) {
	for block := range slices.Chunk(b, c.blockSize) {
		if n, err := c.src.ReadAt(block, int64(blkno)*int64(c.blockSize)); n < len(block) && err != nil {
			markNotRead(block)
			c.mu.Lock()
			c.notRead = append(c.notRead, image.Run{Start: blkno, Len: 1})
			c.mu.Unlock()
		}
		blkno++
	}
}

// missing returns the blocks that could not be read, as ascending runs.
func (c *copier) missing() []image.Run {
	slices.SortFunc(c.notRead, func(a, b image.Run) int { return int(a.Start) - int(b.Start) })
	var runs []image.Run
	for _, r := range c.notRead {
		if last := len(runs) - 1; last >= 0 && runs[last].Start+runs[last].Len == r.Start {
			runs[last].Len += r.Len
			continue
		}
		runs = append(runs, r)
	}
	return runs
}

func markNotRead(block []byte) {
	for n := 0; n < len(block); {
		n += copy(block[n:], notRead)
	}
}

// isNotRead reports whether a stored block stands for one that was not read.
func isNotRead(block []byte) bool {
	for part := range slices.Chunk(block, len(notRead)) {
		if string(part) != notRead {
			return false
		}
	}
	return true
}
