// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrStopped says that bytes were not read because reading has been
	// stopped.
	ErrStopped = errors.New("reading was stopped")

	// ErrLost says that a read has not come back. The memory that was to be
	// filled may still be written to at any time: it must neither be looked
	// at nor used for anything else. The same read into other memory is safe.
	ErrLost = errors.New("a read has not come back: its memory is lost")

	// ErrEnd says that a range lies behind the end of the device. It is
	// [io.ErrUnexpectedEOF] in words for the user.
	ErrEnd = fmt.Errorf("behind the end of the device (%w)", io.ErrUnexpectedEOF)

	errNoAnswer = errors.New("the device does not answer")
	errGivenUp  = errors.New("given up, because reads around it took too long to fail")
)

// BadRange is a range of bytes that could not be read, and why.
type BadRange struct {
	Off, Len int64
	Err      error

	// Tried says that the range was tried by itself. Otherwise it was only
	// part of something larger, or not tried at all.
	Tried bool
}

func (b BadRange) end() int64 { return b.Off + b.Len }

// BadError is the error of a read of which all bytes were read but those of some
// ranges.
type BadError struct {
	Ranges []BadRange // ascending and apart, at least one
}

// Error says why the first range could not be read.
func (e *BadError) Error() string { return e.Ranges[0].Err.Error() }

// Unwrap returns the errors of the ranges.
func (e *BadError) Unwrap() []error {
	errs := make([]error, len(e.Ranges))
	for i, b := range e.Ranges {
		errs[i] = b.Err
	}
	return errs
}

// Within returns the part of err, the error of a read, that is about the n bytes
// from off on; nil if these were read all the same.
func Within(err error, off, n int64) error {
	bad, ok := errors.AsType[*BadError](err)
	if !ok {
		return err
	}
	var in []BadRange
	for _, b := range bad.Ranges {
		if start, end := max(b.Off, off), min(b.end(), off+n); start < end {
			in = append(in, BadRange{Off: start, Len: end - start, Err: b.Err, Tried: b.Tried})
		}
	}
	if in == nil {
		return nil
	}
	return &BadError{in}
}

// SalvageOptions says how a [Salvager] reads. The zero value waits for every
// read, and tries nothing twice.
type SalvageOptions struct {
	// Retries is how many more times a single block is tried that could not
	// be read.
	Retries int
	// Timeout is after what time a read counts as failed; 0 is never.
	Timeout time.Duration
	// Stop ends the reading when it is closed: what was not read before is
	// [ErrStopped]. May be nil.
	Stop <-chan struct{}
}

const (
	// copied is the size in bytes of the largest read that goes through
	// memory of the salvager, so that the caller's cannot be lost.
	copied = 64 << 10
	// fanout is into how many pieces a read that failed is divided. A read that
	// fails takes far longer than one that does not, often half a minute: to
	// find one bad block, fewer and smaller steps are better than halves.
	fanout = 16
	// maxHung is how many reads may hang before no more are begun, and maxSilent
	// how many of a device that has not answered a single one.
	maxHung, maxSilent = 256, 4
	// maxLost is how much memory of callers may get lost, in reads. Then all
	// reads go through memory of the salvager.
	maxLost = 16
	// patience is how long the reads of one request may take to fail before
	// what is left of it is given up, in timeouts.
	patience = 5
	// longTimeout stands for the timeout where there is none.
	longTimeout = time.Minute
	// grace is how long a read may go on when reading is stopped.
	grace = time.Second
)

// Salvager reads from a device that fails in places, and gets what there is: a
// read that fails is done again in ever smaller pieces, down to one block. It
// remembers the blocks that cannot be read, and does not try them again.
//
// A read that has not come back after a time counts as failed. It cannot be
// taken back: its memory is left to it. While 256 reads hang, nothing more is
// read.
//
// All methods may be called concurrently.
type Salvager struct {
	r    io.ReaderAt
	size int64
	opts SalvageOptions
	unit atomic.Int64 // size of a block in bytes

	answered atomic.Bool // there was an answer to a read

	hung atomic.Int32 // reads that have not come back
	lost atomic.Int32 // of those that had memory of a caller

	mu   sync.Mutex
	bad  []BadRange // known, ascending and apart
	slow []BadRange // large reads that did not come back
}

// NewSalvager returns a reader of the size bytes of r, in blocks of 512 bytes.
func NewSalvager(r io.ReaderAt, size int64, opts SalvageOptions) *Salvager {
	s := &Salvager{r: r, size: size, opts: opts}
	s.unit.Store(512)
	return s
}

// SetBlockSize sets the size in bytes of a block, a power of two up to 64 KiB.
func (s *Salvager) SetBlockSize(size int) { s.unit.Store(int64(size)) }

// Bad returns the ranges that could not be read, in ascending order, without
// those that were not tried.
func (s *Salvager) Bad() []BadRange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.bad), func(b BadRange) bool { return !b.Tried })
}

// ReadAt implements [io.ReaderAt]. If bytes are missing the error is a
// [*BadError], and all others were read; what lies behind the end is missing
// with [ErrEnd]. Only a read of more than 64 KiB can return
// [ErrLost].
func (s *Salvager) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read at a negative offset")
	}
	end := min(off+int64(len(p)), max(s.size, off))
	r := salvage{s: s, p: p, off: off}
	unread := r.skipBad(off, end)
	if n := end - off; n > copied && len(r.bad) == 0 && s.mayLose(off, end) {
		err := r.timed(func() error { return s.read(p[:n], off) })
		if errors.Is(err, ErrLost) {
			s.remember(&s.slow, BadRange{Off: off, Len: n})
			return 0, err
		}
		if err == nil {
			unread = nil
		}
	}
	r.pieces(unread)
	if behind := off + int64(len(p)); behind > end {
		r.bad = append(r.bad, BadRange{Off: end, Len: behind - end, Err: ErrEnd, Tried: true})
	}
	if len(r.bad) == 0 {
		return len(p), nil
	}
	slices.SortFunc(r.bad, func(a, b BadRange) int { return cmp.Compare(a.Off, b.Off) })
	return int(r.bad[0].Off - off), &BadError{r.bad}
}

// mayLose reports whether a range may be read whole, into memory of the caller.
func (s *Salvager) mayLose(off, end int64) bool {
	if s.stopped() || s.silent() || s.lost.Load() >= maxLost {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := search(s.slow, off)
	return i == len(s.slow) || s.slow[i].Off >= end
}

// search returns the first range that ends behind off.
func search(ranges []BadRange, off int64) int {
	i, _ := slices.BinarySearchFunc(ranges, off, func(b BadRange, off int64) int {
		if b.end() <= off {
			return -1
		}
		return 1
	})
	return i
}

// remember adds a range to a list, in place of what the list has of it.
func (s *Salvager) remember(list *[]BadRange, b BadRange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := search(*list, b.Off)
	to := from
	for ; to < len(*list) && (*list)[to].Off < b.end(); to++ {
		old := (*list)[to]
		end := max(b.end(), old.end())
		b.Off = min(b.Off, old.Off)
		b.Len = end - b.Off
	}
	*list = slices.Replace(*list, from, to, b)
	// A dead region is one range, not one for each of its blocks.
	if from > 0 && (*list)[from-1].end() == b.Off && (*list)[from-1].Tried == b.Tried {
		(*list)[from-1].Len += b.Len
		*list = slices.Delete(*list, from, from+1)
	}
}

// stopped reports whether reading has been stopped.
func (s *Salvager) stopped() bool {
	select {
	case <-s.opts.Stop:
		return true
	default:
		return false
	}
}

// silent reports whether so many reads hang that no more are begun.
func (s *Salvager) silent() bool {
	n := s.hung.Load()
	return n >= maxHung || n >= maxSilent && !s.answered.Load()
}

// read reads all of p, once. Where that takes too long it returns without p:
// with [ErrLost].
func (s *Salvager) read(p []byte, off int64) error {
	if s.opts.Timeout == 0 && s.opts.Stop == nil {
		return ReadFull(s.r, p, off)
	}
	done := make(chan error, 1)
	go func() { done <- ReadFull(s.r, p, off) }()
	var late <-chan time.Time
	if s.opts.Timeout > 0 {
		timer := time.NewTimer(s.opts.Timeout)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case err := <-done:
		s.answered.Store(true)
		return err
	case <-late:
	case <-s.opts.Stop:
		select {
		case err := <-done:
			return err
		case <-time.After(grace):
		}
	}
	s.hung.Add(1)
	go func() {
		<-done
		s.answered.Store(true)
		s.hung.Add(-1)
	}()
	if len(p) > copied {
		s.lost.Add(1)
	}
	return ErrLost
}

var copies = sync.Pool{New: func() any {
	b := alignedBytes(copied)
	return &b
}}

// readCopy is read, of at most 64 KiB, into other memory first: p is not lost.
func (s *Salvager) readCopy(p []byte, off int64) error {
	b := copies.Get().(*[]byte)
	err := s.read((*b)[:len(p)], off)
	if errors.Is(err, ErrLost) {
		return errNoAnswer
	}
	copy(p, *b)
	copies.Put(b)
	return err
}

// salvage is one request of a Salvager.
type salvage struct {
	s      *Salvager
	p      []byte
	off    int64 // of p
	bad    []BadRange
	failed time.Duration // what reads took that failed
}

// span is the bytes from off on up to end.
type span struct {
	off, end int64
	err      error // of the last attempt
}

// skipBad returns what is not known to be bad of a range. The rest is bad.
func (r *salvage) skipBad(off, end int64) []span {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	var unread []span
	for i := search(r.s.bad, off); off < end; i++ {
		if i == len(r.s.bad) || r.s.bad[i].Off >= end {
			return append(unread, span{off: off, end: end})
		}
		b := r.s.bad[i]
		if b.Off > off {
			unread = append(unread, span{off: off, end: b.Off})
			off = b.Off
		}
		b.Off, b.Len = off, min(b.end(), end)-off
		r.bad = append(r.bad, b)
		off = b.end()
	}
	return unread
}

// timed adds up what reads take that fail.
func (r *salvage) timed(read func() error) error {
	start := time.Now()
	err := read()
	if err != nil {
		r.failed += time.Since(start)
	}
	return err
}

// pieces reads ranges, first in large pieces, and what fails of these in smaller
// ones, down to one block.
func (r *salvage) pieces(unread []span) {
	unit := r.s.unit.Load()
	var single []span // of a block or less, which cannot be read
	for size := int64(copied); len(unread) > 0; size = max(size/fanout, unit) {
		var again []span
		for _, f := range r.pass(unread, size) {
			if f.end-f.off <= unit {
				single = append(single, f)
			} else {
				again = append(again, f)
			}
		}
		unread = again
	}
	for n := 0; n < r.s.opts.Retries && len(single) > 0 && r.failed <= r.limit(); n++ {
		single = r.pass(single, unit)
	}
	for _, f := range single {
		r.giveUp(f, BadRange{Err: f.err, Tried: true})
	}
}

// limit is how long reads of the request may take to fail, all told.
func (r *salvage) limit() time.Duration { return patience * cmp.Or(r.s.opts.Timeout, longTimeout) }

// pass reads ranges in pieces that end at multiples of size, and returns those
// that failed.
func (r *salvage) pass(unread []span, size int64) []span {
	var failed []span
	for _, t := range unread {
		for off := t.off; off < t.end; {
			piece := span{off: off, end: min(off/size*size+size, t.end), err: t.err}
			off = piece.end
			switch {
			case r.s.stopped():
				r.skip(piece, ErrStopped)
				continue
			case r.s.silent():
				r.skip(piece, errNoAnswer)
				continue
			case r.failed > r.limit():
				r.giveUp(piece, BadRange{Err: errGivenUp, Tried: false})
				continue
			}
			p := r.p[piece.off-r.off : piece.end-r.off]
			piece.err = r.timed(func() error { return r.s.readCopy(p, piece.off) })
			if piece.err != nil && r.s.stopped() {
				r.skip(piece, ErrStopped)
			} else if piece.err != nil {
				failed = append(failed, piece)
			}
		}
	}
	return failed
}

// skip leaves out a piece that may be tried another time.
func (r *salvage) skip(piece span, err error) {
	r.bad = append(r.bad, BadRange{Off: piece.off, Len: piece.end - piece.off, Err: err})
}

// giveUp leaves out a piece for good, and with it the blocks that it is part of.
func (r *salvage) giveUp(piece span, b BadRange) {
	b.Off, b.Len = piece.off, piece.end-piece.off
	r.bad = append(r.bad, b)
	unit := r.s.unit.Load()
	b.Off = piece.off / unit * unit
	b.Len = min((piece.end+unit-1)/unit*unit, r.s.size) - b.Off
	r.s.remember(&r.s.bad, b)
}
