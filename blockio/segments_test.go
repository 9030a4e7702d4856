// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"o2image/blockio"
)

type request struct{ Off, Len int64 }

// source is content that records the requests made of it, and fails those that
// touch a bad byte.
type source struct {
	content []byte
	bad     []int64
	delay   time.Duration

	mu       sync.Mutex
	requests []request
	now, top int
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	s.requests = append(s.requests, request{off, int64(len(p))})
	s.now++
	s.top = max(s.top, s.now)
	s.mu.Unlock()
	time.Sleep(s.delay)
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
	for _, bad := range s.bad {
		if off <= bad && bad < off+int64(len(p)) {
			return int(bad - off), syscall.EIO
		}
	}
	return bytes.NewReader(s.content).ReadAt(p, off)
}

// made returns the requests by offset.
func (s *source) made() []request {
	slices.SortFunc(s.requests, func(a, b request) int {
		return cmp.Or(cmp.Compare(a.Off, b.Off), cmp.Compare(b.Len, a.Len))
	})
	return s.requests
}

func segment(off, n int64) blockio.Segment {
	return blockio.Segment{Off: off, P: make([]byte, n)}
}

func TestReadSegments(t *testing.T) {
	t.Parallel()
	type segs = []blockio.Segment
	whole := make([]byte, 8192)
	for _, test := range []struct {
		name string
		segs segs
		opt  blockio.ReadOptions
		want []request
	}{
		{name: "nothing"},
		{name: "empty segment", segs: segs{segment(5, 0)}},
		{name: "one", segs: segs{segment(100, 50)}, want: []request{{100, 50}}},
		{name: "in any order", segs: segs{segment(4096, 4096), segment(0, 4096)}, want: []request{{0, 8192}}},
		{name: "default gap", segs: segs{segment(0, 512), segment(512+16<<10, 512)}, want: []request{{0, 1024 + 16<<10}}},
		{
			name: "behind the default gap", segs: segs{segment(0, 512), segment(513+16<<10, 512)},
			want: []request{{0, 512}, {513 + 16<<10, 512}},
		},
		{
			name: "no gap", segs: segs{segment(0, 512), segment(512, 512), segment(1025, 512)}, opt: blockio.ReadOptions{Gap: -1},
			want: []request{{0, 1024}, {1025, 512}},
		},
		{
			name: "largest request", segs: segs{segment(0, 512), segment(512, 512), segment(1024, 512)}, opt: blockio.ReadOptions{MaxRequest: 1024},
			want: []request{{0, 1024}, {1024, 512}},
		},
		{
			name: "segment larger than the largest request", segs: segs{segment(0, 4096), segment(4096, 10)}, opt: blockio.ReadOptions{MaxRequest: 1024},
			want: []request{{0, 4096}, {4096, 10}},
		},
		{name: "same block twice", segs: segs{segment(512, 512), segment(512, 512)}, want: []request{{512, 512}}},
		{name: "one in the other", segs: segs{segment(0, 4096), segment(512, 512)}, want: []request{{0, 4096}}},
		{
			name: "adjoining memory", segs: segs{{Off: 0, P: whole[:4096]}, {Off: 4096, P: whole[4096:]}},
			want: []request{{0, 8192}},
		},
		{
			name: "adjoining memory in the other order", segs: segs{{Off: 0, P: whole[4096:]}, {Off: 4096, P: whole[:4096]}},
			want: []request{{0, 8192}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &source{content: random(64 << 10)}
			if err := blockio.ReadSegments(t.Context(), s, test.segs, test.opt); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(test.want, s.made()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			for _, seg := range test.segs {
				if !bytes.Equal(seg.P, s.content[seg.Off:][:len(seg.P)]) {
					t.Errorf("segment at %d has other bytes", seg.Off)
				}
			}
		})
	}
}

// TestReadSegmentsModel reads random segments, some of them bad: each that can
// be read is read, each other is reported, once.
func TestReadSegmentsModel(t *testing.T) {
	t.Parallel()
	const size = 20_000
	content := random(size)
	rapid.Check(t, func(t *rapid.T) {
		s := &source{content: content, bad: rapid.SliceOfN(rapid.Int64Range(0, size-1), 0, 3).Draw(t, "bad")}
		var segs []blockio.Segment
		memory := make([]byte, 2*size)
		for range rapid.IntRange(0, 30).Draw(t, "segments") {
			n := rapid.Int64Range(0, 700).Draw(t, "length")
			segs = append(segs, blockio.Segment{Off: rapid.Int64Range(0, size-350).Draw(t, "offset"), P: memory[:n]})
			memory = memory[n:] // so that neighbours in memory occur
		}
		broken := map[int]error{}
		lowest := int64(-1)
		for i, seg := range segs {
			_, err := s.ReadAt(make([]byte, len(seg.P)), seg.Off)
			if len(seg.P) == 0 || err == nil {
				continue
			}
			broken[i] = err
			if err == io.EOF {
				broken[i] = blockio.ErrEnd
			}
			if lowest < 0 || seg.Off < lowest {
				lowest = seg.Off
			}
		}
		opt := blockio.ReadOptions{
			Gap:        rapid.IntRange(-1, 300).Draw(t, "gap"),
			MaxRequest: rapid.IntRange(1, 3000).Draw(t, "largest request"),
			InFlight:   rapid.IntRange(1, 5).Draw(t, "in flight"),
		}
		got := map[int]error{}
		reporting := opt
		reporting.Failed = func(seg int, err error) {
			if got[seg] != nil {
				t.Errorf("segment %d reported twice", seg)
			}
			got[seg] = err
		}
		if err := blockio.ReadSegments(context.Background(), s, segs, reporting); err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(broken, got, gocmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); diff != "" {
			t.Errorf("failed (-want +got):\n%s", diff)
		}
		for i, seg := range segs {
			if broken[i] == nil && !bytes.Equal(seg.P, content[seg.Off:][:len(seg.P)]) {
				t.Errorf("segment %d at %d has other bytes", i, seg.Off)
			}
		}
		err := blockio.ReadSegments(context.Background(), s, segs, opt)
		if (err != nil) != (lowest >= 0) {
			t.Errorf("error %v, want one at %d", err, lowest)
		}
	})
}

// TestReadSegmentsError names the lowest offset, in whatever order requests end.
func TestReadSegmentsError(t *testing.T) {
	t.Parallel()
	for range 20 {
		s := &source{content: make([]byte, 1<<20), bad: []int64{500_000, 40_960, 800_000}}
		var segs []blockio.Segment
		for off := int64(0); off < 1<<20; off += 4096 {
			segs = append(segs, segment(off, 4096))
		}
		rand.Shuffle(len(segs), func(i, j int) { segs[i], segs[j] = segs[j], segs[i] })
		err := blockio.ReadSegments(t.Context(), s, segs, blockio.ReadOptions{MaxRequest: 8192})
		if want := "read 4096 bytes at byte 40960: input/output error"; err == nil || err.Error() != want {
			t.Fatalf("error %v, want %s", err, want)
		}
	}
	s := &source{content: make([]byte, 4096)}
	err := blockio.ReadSegments(t.Context(), s, []blockio.Segment{segment(4000, 100)}, blockio.ReadOptions{})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("behind the end: %v", err)
	}
}

func TestReadSegmentsInFlight(t *testing.T) {
	t.Parallel()
	s := &source{content: make([]byte, 1<<20), delay: time.Millisecond}
	var segs []blockio.Segment
	for off := int64(0); off < 1<<20; off += 32 << 10 {
		segs = append(segs, segment(off, 512))
	}
	if err := blockio.ReadSegments(t.Context(), s, segs, blockio.ReadOptions{InFlight: 4}); err != nil {
		t.Fatal(err)
	}
	if s.top < 2 || s.top > 4 {
		t.Errorf("%d requests in flight, want 4", s.top)
	}
}

type funcReader func(p []byte, off int64) (int, error)

func (f funcReader) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

func TestReadSegmentsCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var reads atomic.Int32
	r := funcReader(func(p []byte, _ int64) (int, error) {
		if reads.Add(1) == 3 {
			cancel()
		}
		return len(p), nil
	})
	var segs []blockio.Segment
	for i := range int64(100) {
		segs = append(segs, segment(i<<20, 512))
	}
	err := blockio.ReadSegments(ctx, r, segs, blockio.ReadOptions{InFlight: 2, Failed: func(int, error) {}})
	if !errors.Is(err, context.Canceled) || reads.Load() > 5 {
		t.Errorf("error %v after %d reads", err, reads.Load())
	}
}
