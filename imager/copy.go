// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"o2image/blockio"
	"o2image/blockset"
	"o2image/image"
	"o2image/image/packed"
	"o2image/image/seekable"
	"o2image/redact"
	"o2image/volume"
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

// newBuffers returns a pool for the pieces under way. They do for a walk as well.
func newBuffers() *blockio.Pool { return blockio.NewPool(image.PieceSize, inFlight) }

const _ = uint(image.PieceSize - volume.BufferSize)

// sink takes the pieces of an output. It must not keep them.
type sink interface {
	write(f *filled) error
}

// filled is a piece with its bytes.
type filled struct {
	image.Piece
	buf    []byte
	zero   bool           // nothing but zeros
	pooled bool           // buf is one of the pool, which begin at a page
	zstd   seekable.Frame // buf compressed, if it is to be
	done   chan struct{}  // closed when buf is made, or err is set
	err    error
}

// zeroPiece is a piece of zeros.
var zeroPiece [image.PieceSize]byte

// copier copies blocks of a volume into the pieces of an output.
type copier struct {
	src       io.ReaderAt // offsets are those of the volume
	name      string      // of src, for errors
	blockSize int
	strict    bool              // a block that cannot be read ends the copy
	gap       int               // what may be read and thrown away between blocks, as in blockio.ReadOptions
	redact    *redact.Redactor  // nil: bit for bit
	classes   *blockset.Set     // classes of the blocks, with redact; nil if not known
	holes     *blockio.Device   // tells where the source has holes, nil if it cannot
	ordered   bool              // the sink takes pieces in the order of the file only
	hash      bool              // return the hashes of the pieces, as a packed image has them
	buffers   *blockio.Pool     // lends the bytes of pieces; nil: a pool of its own
	encoder   *seekable.Encoder // compresses the pieces, nil if it is not to be done
	absent    []image.Run       // ascending: blocks that the source, an image, does not really have
	texts     bool              // blocks of the source that are the text notRead count as not read
	total     uint64            // bytes of all blocks, for progress
	progress  func(Progress)    // nil if nobody wants to know

	inodes, bytes atomic.Uint64 // redacted
	withheld      atomic.Uint64 // blocks
	mu            sync.Mutex
	done          uint64 // bytes of blocks, for progress
	notRead       []image.Run
	interrupted   bool // a block was left out because reading was stopped
}

// run copies what layout says to out. It returns the hashes of the pieces in
// order, if they are wanted.
func (c *copier) run(ctx context.Context, layout image.Layout, out sink) ([][sha256.Size]byte, error) {
	r := &run{copier: c, layout: layout, out: out, pool: c.buffers, started: make(chan *filled, inFlight)}
	if r.pool == nil {
		r.pool = newBuffers()
		defer r.pool.Close()
	}
	if c.hash {
		r.hashes = make([][sha256.Size]byte, (layout.Size()+image.PieceSize-1)/image.PieceSize)
	}
	c.advance(&filled{})
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		defer close(r.started)
		return r.start(ctx, work)
	})
	work.Go(r.finish)
	return r.hashes, work.Wait()
}

// run is one run of a copier.
type run struct {
	*copier
	layout  image.Layout
	out     sink
	pool    *blockio.Pool
	hashes  [][sha256.Size]byte
	started chan *filled // pieces in order
}

// start has the pieces made, as many at once as there are buffers.
func (r *run) start(ctx context.Context, work *errgroup.Group) error {
	for p, err := range r.layout.Pieces() {
		if err != nil {
			return err
		}
		f := &filled{Piece: p, buf: zeroPiece[:p.Len], zero: r.isHole(p), done: make(chan struct{})}
		if !f.zero {
			buf, err := r.pool.Get(ctx)
			if err != nil {
				return err
			}
			f.buf, f.pooled = buf[:p.Len], true
		}
		work.Go(func() error {
			defer close(f.done)
			f.err = r.piece(ctx, f)
			return f.err
		})
		select {
		case r.started <- f:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// piece makes a piece, and writes it if the order does not matter.
func (r *run) piece(ctx context.Context, f *filled) error {
	if !f.zero {
		if err := r.fill(ctx, f); err != nil {
			return err
		}
		f.zero = bytes.Equal(f.buf, zeroPiece[:f.Len])
	}
	if r.hash {
		r.hashes[f.Off/image.PieceSize] = packed.HashPiece(f.buf)
	}
	if r.encoder != nil {
		f.compress(r.encoder)
	}
	if r.ordered {
		return nil
	}
	return r.write(f)
}

// finish takes the pieces in order as they are made, and writes those that were
// not written yet.
func (r *run) finish() error {
	for f := range r.started {
		<-f.done
		if f.err != nil {
			return f.err
		}
		if r.ordered {
			if err := r.write(f); err != nil {
				return err
			}
		}
		if f.pooled {
			r.pool.Put(f.buf)
		}
	}
	return nil
}

func (r *run) write(f *filled) error {
	if err := r.out.write(f); err != nil {
		return err
	}
	r.advance(f)
	return nil
}

// isHole reports whether a piece is zero for sure, without reading it.
func (c *copier) isHole(p image.Piece) bool {
	if p.Own || c.holes == nil {
		return false
	}
	for _, s := range p.Segments {
		off := int64(s.Blkno) * int64(c.blockSize)
		if off+int64(s.Count*c.blockSize) > c.holes.Size() {
			return false // not a hole: missing
		}
		start, _, err := c.holes.NextData(off)
		if !errors.Is(err, io.EOF) && (err != nil || start < off+int64(s.Count*c.blockSize)) {
			return false
		}
	}
	return true
}

// redactBlocks takes out of the blocks in p, from block blkno on, what is not to
// be in the image.
func (c *copier) redactBlocks(blkno uint64, p []byte) {
	for b := range slices.Chunk(p, c.blockSize) {
		if n := c.redact.Block(b); n > 0 {
			c.inodes.Add(1)
			c.bytes.Add(uint64(n))
		}
		if c.classes != nil && !isNotRead(b) {
			if class, ok := c.classes.Tag(blkno); ok && c.redact.Withhold(b, blkno, volume.Class(class)) {
				c.withheld.Add(1)
			}
		}
		blkno++
	}
}

// compress makes the frame of a piece.
func (f *filled) compress(enc *seekable.Encoder) {
	if f.zero {
		f.zstd = enc.Zeros(f.Len)
	} else {
		f.zstd = enc.Encode(f.buf)
	}
}

// fill reads the blocks of a piece and takes out what is to be taken out.
func (r *run) fill(ctx context.Context, f *filled) error {
	segs, failed, err := r.read(ctx, f)
	for errors.Is(err, blockio.ErrLost) {
		if f.buf, err = r.pool.Replace(f.buf); err != nil {
			return err
		}
		segs, failed, err = r.read(ctx, f)
	}
	if err != nil {
		return &OpError{"read", r.name, err}
	}
	for i, err := range failed {
		r.leaveOut(f.Segments[i].Blkno, segs[i].P, err)
	}
	for i, s := range f.Segments {
		r.markAbsent(s.Blkno, segs[i].P)
	}
	if r.redact == nil {
		return nil
	}
	for i, s := range f.Segments {
		r.redactBlocks(s.Blkno, segs[i].P)
	}
	return nil
}

// read fills in what is the format's own, and reads the segments. It returns
// them and, by their index, what was wrong with those that could not be read
// whole.
func (r *run) read(ctx context.Context, f *filled) ([]blockio.Segment, map[int]error, error) {
	segs := make([]blockio.Segment, len(f.Segments))
	at := 0
	for i, s := range f.Segments {
		segs[i] = blockio.Segment{Off: int64(s.Blkno) * int64(r.blockSize), P: f.buf[s.At:][:s.Count*r.blockSize]}
		clear(f.buf[at:s.At])
		at = s.At + len(segs[i].P)
	}
	clear(f.buf[at:])
	r.layout.Fill(f.Piece, f.buf)
	opt := blockio.ReadOptions{Gap: r.gap}
	failed := make(map[int]error)
	if !r.strict {
		opt.Failed = func(i int, err error) { failed[i] = err }
	}
	return segs, failed, blockio.ReadSegments(ctx, r.src, segs, opt)
}

// leaveOut leaves a text in place of the blocks of b, from block blkno on, that
// err says could not be read, and remembers them. If they were not read because
// reading was stopped there may be very many of them: those are left zero, which
// in files is a hole.
func (c *copier) leaveOut(blkno uint64, b []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for block := range slices.Chunk(b, c.blockSize) {
		if err := blockio.Within(err, int64(blkno)*int64(c.blockSize), int64(c.blockSize)); err != nil {
			if errors.Is(err, blockio.ErrStopped) {
				clear(block)
				c.interrupted = true
			} else {
				markNotRead(block)
			}
			c.miss(blkno)
		}
		blkno++
	}
}

// miss remembers a block that was not read. The caller has mu. Blocks that come in
// a row are one run: of a large volume that was stopped early nearly all come.
func (c *copier) miss(blkno uint64) {
	if last := len(c.notRead) - 1; last >= 0 && c.notRead[last].Start+c.notRead[last].Len == blkno {
		c.notRead[last].Len++
		return
	}
	c.notRead = append(c.notRead, image.Run{Start: blkno, Len: 1})
}

// markAbsent leaves a text in place of those blocks of b, from block blkno on,
// that the source does not have, and remembers which have that text already.
func (c *copier) markAbsent(blkno uint64, b []byte) {
	count := uint64(len(b) / c.blockSize)
	for _, run := range overlap(c.absent, blkno, count) {
		for n := range run.Len {
			markNotRead(b[(run.Start+n-blkno)*uint64(c.blockSize):][:c.blockSize])
		}
	}
	if !c.texts {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range count {
		if isNotRead(b[n*uint64(c.blockSize):][:c.blockSize]) {
			c.miss(blkno + n)
		}
	}
}

// missing returns the blocks that were not read, as ascending runs.
func (c *copier) missing() []image.Run {
	slices.SortFunc(c.notRead, func(a, b image.Run) int { return cmp.Compare(a.Start, b.Start) })
	return coarse(c.notRead, len(c.notRead))
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
