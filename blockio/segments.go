// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// Segment is a range to read, and where its bytes go.
type Segment struct {
	Off int64  // first byte
	P   []byte // filled whole
}

func (s Segment) end() int64 { return s.Off + int64(len(s.P)) }

// ReadOptions says how [ReadSegments] reads. The zero value suits disks and
// SANs.
type ReadOptions struct {
	// Gap is how many bytes between two segments are read and thrown away to
	// make one request of two. 0 stands for 16 KiB, less for none.
	Gap int
	// MaxRequest is the size of the largest request that segments are joined
	// into, in bytes. 0 stands for 1 MiB. A larger segment is one request.
	MaxRequest int
	// InFlight is how many requests are under way at once. 0 stands for 16.
	InFlight int
	// Failed, if not nil, is told of each segment that cannot be read, by its
	// index, and the others are read all the same. Its calls are in no order,
	// but one at a time.
	Failed func(seg int, err error)
}

func (o ReadOptions) withDefaults() ReadOptions {
	o.Gap = cmp.Or(o.Gap, 16<<10)
	o.MaxRequest = cmp.Or(o.MaxRequest, 1<<20)
	o.InFlight = cmp.Or(o.InFlight, 16)
	return o
}

// ReadSegments fills the segments, which may be in any order, with few and large
// requests, many at once. Of a request that fails with a [*BadError] all segments
// are there but those that this is about; of any other, the segments are read one
// by one.
//
// [ErrLost] ends it with or without opt.Failed, and stands for the memory of all
// segments.
//
// Without opt.Failed it stops at a failure, and the error names the lowest offset that
// cannot be read. With it, but for that, only the end of ctx is an error. A segment that ends
// behind the end of r fails with [ErrEnd].
func ReadSegments(ctx context.Context, r io.ReaderAt, segs []Segment, opt ReadOptions) error {
	opt = opt.withDefaults()
	s := segmentReader{r: r, segs: segs, failed: opt.Failed}
	requests := plan(segs, opt)
	var next atomic.Int64
	work := func() {
		for ctx.Err() == nil && !s.stopped.Load() {
			i := int(next.Add(1)) - 1
			if i >= len(requests) {
				return
			}
			s.read(requests[i])
		}
	}
	if len(requests) == 1 {
		work()
	} else {
		var wg sync.WaitGroup
		for range min(opt.InFlight, len(requests)) {
			wg.Go(work)
		}
		wg.Wait()
	}
	if s.err != nil {
		return s.err
	}
	return ctx.Err()
}

// plan sorts the segments by offset and joins them into requests, each a list
// of indexes.
func plan(segs []Segment, opt ReadOptions) [][]int {
	order := make([]int, 0, len(segs))
	for i, s := range segs {
		if len(s.P) > 0 {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(segs[a].Off, segs[b].Off) })
	var requests [][]int
	for len(order) > 0 {
		first, end := segs[order[0]].Off, segs[order[0]].end()
		n := 1
		for ; n < len(order); n++ {
			s := segs[order[n]]
			if s.Off-end > int64(max(opt.Gap, 0)) || max(end, s.end())-first > int64(opt.MaxRequest) {
				break
			}
			end = max(end, s.end())
		}
		requests = append(requests, order[:n])
		order = order[n:]
	}
	return requests
}

type segmentReader struct {
	r       io.ReaderAt
	segs    []Segment
	stopped atomic.Bool // no more requests are to be started

	mu     sync.Mutex
	failed func(seg int, err error)
	err    error // of the lowest offset
	off    int64 // of err
}

// read does one request.
func (s *segmentReader) read(request []int) {
	if len(request) > 1 {
		err := s.readJoined(request)
		_, partly := errors.AsType[*BadError](err)
		if err == nil || partly || errors.Is(err, ErrLost) {
			for _, i := range request {
				s.check(i, Within(err, s.segs[i].Off, int64(len(s.segs[i].P))))
			}
			return
		}
	}
	for _, i := range request {
		s.check(i, ReadFull(s.r, s.segs[i].P, s.segs[i].Off))
	}
}

// readJoined does a request of several segments at once.
func (s *segmentReader) readJoined(request []int) error {
	first := s.segs[request[0]]
	end := first.end()
	for _, i := range request[1:] {
		end = max(end, s.segs[i].end())
	}
	if p, ok := s.oneSlice(request); ok {
		return ReadFull(s.r, p, first.Off)
	}
	buf := getJoined(int(end - first.Off))
	err := ReadFull(s.r, (*buf)[:end-first.Off], first.Off)
	for errors.Is(err, ErrLost) { // the memory was ours
		buf = getJoined(int(end - first.Off))
		err = ReadFull(s.r, (*buf)[:end-first.Off], first.Off)
	}
	for _, i := range request {
		copy(s.segs[i].P, (*buf)[s.segs[i].Off-first.Off:])
	}
	putJoined(buf)
	return err
}

// oneSlice returns the memory of all segments of a request as one slice, if it
// adjoins just as the segments do.
func (s *segmentReader) oneSlice(request []int) ([]byte, bool) {
	whole := s.segs[request[0]]
	for _, i := range request[1:] {
		p := s.segs[i].P
		n := len(whole.P)
		if whole.end() != s.segs[i].Off || cap(whole.P)-n < len(p) || &whole.P[:n+1][n] != &p[0] {
			return nil, false
		}
		whole.P = whole.P[:n+len(p)]
	}
	return whole.P, true
}

// check accounts for how the reading of a segment ended.
func (s *segmentReader) check(seg int, err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil && !errors.Is(err, ErrLost) {
		s.failed(seg, err)
		return
	}
	// Requests begin in ascending order. All below this one are done or under
	// way, and will say so if they fail.
	s.stopped.Store(true)
	if off := s.segs[seg].Off; s.err == nil || !errors.Is(s.err, ErrLost) && off < s.off {
		s.err = fmt.Errorf("read %d bytes at byte %d: %w", len(s.segs[seg].P), off, err)
		s.off = off
	}
}

// ReadFull fills p from offset off of r; an end before that is [ErrEnd].
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return ErrEnd
	default:
		return err
	}
}

var joined sync.Pool

// getJoined returns at least n bytes that begin at a page.
func getJoined(n int) *[]byte {
	if b, ok := joined.Get().(*[]byte); ok && len(*b) >= n {
		return b
	}
	// A power of two, so that the next request fits as well.
	b := alignedBytes(max(64<<10, 1<<bits.Len(uint(n-1))))
	return &b
}

func putJoined(b *[]byte) { joined.Put(b) }
