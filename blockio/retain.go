// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"cmp"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"o2image/sparse"
)

// Retainer reads through to another reader and keeps what it read, compressed,
// so that a second pass over the same ranges does not read them again. Metadata
// compresses well: what does not, or does not fit the budget, is read again.
//
// It keeps until [Retainer.Seal], and gives back after it. ReadAt may be called
// concurrently, Seal not at the same time as it.
type Retainer struct {
	r      io.ReaderAt
	enc    *zstd.Encoder
	dec    *zstd.Decoder
	rooms  chan *keepRoom // as many as may be in use at once; nil is one not made yet
	budget int            // bytes that may still be kept
	sealed bool

	mu   sync.Mutex
	kept []keptRange // in ascending order once sealed
}

// keptRange is a range of bytes and their sparse form, compressed, nil if they are
// all zero.
type keptRange struct {
	off     int64
	n       int
	encoded []byte
}

func (k keptRange) end() int64 { return k.off + int64(k.n) }

const (
	// keepUnit is the largest range that is compressed as one, in bytes. Inodes
	// resemble each other: in larger ranges they become smaller.
	keepUnit = 512 << 10
	// keepRatio is how many times smaller a range must become to be kept.
	keepRatio = 4
	// keptOverhead is what a kept range takes besides its bytes.
	keptOverhead = 48
	// maxRooms bounds how many ranges are compressed at once, with some 2 MiB
	// for each.
	maxRooms = 8
)

// NewRetainer returns a reader of r that keeps at most budget bytes.
func NewRetainer(r io.ReaderAt, budget int) (*Retainer, error) {
	rooms := min(runtime.NumCPU(), maxRooms)
	t := &Retainer{r: r, budget: budget, rooms: make(chan *keepRoom, rooms)}
	for range rooms {
		t.rooms <- nil
	}
	var err error
	t.enc, err = zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(rooms),
		zstd.WithEncoderCRC(false),
		zstd.WithNoEntropyCompression(true), // its tables cost more than single descriptors are worth
		zstd.WithSingleSegment(true),
		zstd.WithWindowSize(keepUnit),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	t.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(rooms), zstd.WithDecoderLowmem(true))
	return t, err
}

// ReadAt implements [io.ReaderAt].
func (t *Retainer) ReadAt(p []byte, off int64) (int, error) {
	if t.sealed {
		return t.readKept(p, off)
	}
	n, err := t.r.ReadAt(p, off)
	if n == len(p) {
		t.keep(p, off)
	}
	return n, err
}

// keep retains p, in pieces, as far as it is worth it.
func (t *Retainer) keep(p []byte, off int64) {
	for piece := range slices.Chunk(p, keepUnit) {
		k := keptRange{off: off, n: len(piece)}
		off += int64(len(piece))
		room := t.room()
		form, any := sparse.Append(room.form[:0], piece)
		if any {
			encoded := t.enc.EncodeAll(form, room.encoded[:0])
			if len(encoded) <= len(piece)/keepRatio {
				k.encoded = slices.Clone(encoded)
			}
		}
		t.rooms <- room
		if any && k.encoded == nil {
			continue
		}
		t.mu.Lock()
		if cost := len(k.encoded) + keptOverhead; cost <= t.budget {
			t.budget -= cost
			t.kept = append(t.kept, k)
		}
		t.mu.Unlock()
	}
}

// keepRoom is what it takes to keep a range or to give it back.
type keepRoom struct{ form, encoded []byte }

// room waits for a room, which is to be put back.
func (t *Retainer) room() *keepRoom {
	if room := <-t.rooms; room != nil {
		return room
	}
	n := sparse.MaxLen(keepUnit)
	return &keepRoom{form: make([]byte, n), encoded: make([]byte, 0, n+n/128)}
}

// Seal ends the first pass. Of ranges that were read more than once the longest
// stays.
func (t *Retainer) Seal() {
	slices.SortFunc(t.kept, func(a, b keptRange) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(b.n, a.n)) })
	var end int64
	t.kept = slices.DeleteFunc(t.kept, func(k keptRange) bool {
		if k.end() <= end {
			return true
		}
		end = k.end()
		return false
	})
	t.sealed = true
}

// readKept gives what was kept at both ends of a range, and reads what lies
// between in one request.
func (t *Retainer) readKept(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	at := t.find(off)
	first := 0
	for i := at; i < len(t.kept) && first < len(p) && t.kept[i].off <= off+int64(first); i++ {
		n, err := t.copy(t.kept[i], p[first:], off+int64(first))
		if err != nil {
			return first, err
		}
		first += n
	}
	if first == len(p) {
		return first, nil
	}
	next, _ := slices.BinarySearchFunc(t.kept, end, func(k keptRange, end int64) int { return cmp.Compare(k.off, end) })
	last := len(p)
	for i := next - 1; i >= at && last > first && t.kept[i].end() >= off+int64(last); i-- {
		from := max(first, int(t.kept[i].off-off))
		if _, err := t.copy(t.kept[i], p[from:last], off+int64(from)); err != nil {
			return first, err
		}
		last = from
	}
	n, err := t.r.ReadAt(p[first:last], off+int64(first))
	switch bad, ok := errors.AsType[*BadError](err); {
	case n == last-first:
		return len(p), nil
	case ok:
		return t.fill(p, off, bad.Ranges)
	case errors.Is(err, ErrStopped):
		return t.fill(p, off, []BadRange{{Off: off + int64(first), Len: int64(last - first), Err: err}})
	}
	return first + n, err
}

// fill gives what was kept of the ranges of p that could not be read, where that
// lies between ranges that had to be read.
func (t *Retainer) fill(p []byte, off int64, ranges []BadRange) (int, error) {
	var missing []BadRange
	for _, b := range ranges {
		at, end := b.Off, b.end()
		miss := func(to int64) {
			if to > at {
				b.Off, b.Len = at, to-at
				missing = append(missing, b)
			}
		}
		for i := t.find(at); i < len(t.kept) && t.kept[i].off < end; i++ {
			k := t.kept[i]
			from := max(at, k.off)
			n, err := t.copy(k, p[from-off:end-off], from)
			if err != nil {
				continue
			}
			miss(from)
			at = from + int64(n)
		}
		miss(end)
	}
	if missing == nil {
		return len(p), nil
	}
	return int(missing[0].Off - off), &BadError{missing}
}

// find returns the first kept range that ends behind off.
func (t *Retainer) find(off int64) int {
	i, _ := slices.BinarySearchFunc(t.kept, off, func(k keptRange, off int64) int {
		if k.end() <= off {
			return -1
		}
		return 1
	})
	return i
}

// copy fills p, as far as k reaches, with the bytes from off on, which lies in
// k, and returns how many those are.
func (t *Retainer) copy(k keptRange, p []byte, off int64) (int, error) {
	skip := int(off - k.off)
	p = p[:min(len(p), k.n-skip)]
	if k.encoded == nil {
		clear(p)
		return len(p), nil
	}
	room := t.room()
	defer func() { t.rooms <- room }()
	form, err := t.dec.DecodeAll(k.encoded, room.form[:0])
	if err != nil {
		return 0, err
	}
	sparse.Expand(p, form, skip, k.n)
	return len(p), nil
}
