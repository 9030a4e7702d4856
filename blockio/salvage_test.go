// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"o2image/blockio"
)

// ranges returns what err says could not be read.
func ranges(t testing.TB, err error) []blockio.BadRange {
	t.Helper()
	if err == nil {
		return nil
	}
	bad, ok := errors.AsType[*blockio.BadError](err)
	if !ok {
		t.Fatalf("error %v is no BadError", err)
	}
	return bad.Ranges
}

// TestSalvagerOneBlock finds one bad block in a large read with few reads, and
// does not try it again.
func TestSalvagerOneBlock(t *testing.T) {
	t.Parallel()
	const bad = 700_000 / 4096 * 4096
	src := &source{content: random(1 << 20), bad: []int64{700_000}}
	s := blockio.NewSalvager(src, 1<<20, blockio.SalvageOptions{Retries: 2})
	s.SetBlockSize(4096)
	for pass, most := range []int{40, 20} {
		src.requests = nil
		p := make([]byte, 1<<20)
		n, err := s.ReadAt(p, 0)
		got := ranges(t, err)
		if n != bad || len(got) != 1 || got[0].Off != bad || got[0].Len != 4096 || !got[0].Tried || !errors.Is(err, syscall.EIO) {
			t.Errorf("pass %d: %d bytes, %+v", pass, n, got)
		}
		if !bytes.Equal(p[:bad], src.content[:bad]) || !bytes.Equal(p[bad+4096:], src.content[bad+4096:]) {
			t.Errorf("pass %d: what is not bad differs", pass)
		}
		if len(src.requests) > most {
			t.Errorf("pass %d: %d reads", pass, len(src.requests))
		}
		for _, r := range src.requests {
			if pass == 1 && r.Off <= bad && bad < r.Off+r.Len {
				t.Errorf("a known bad block is read again: %+v", r)
			}
		}
	}
	if got := s.Bad(); len(got) != 1 || got[0].Off != bad {
		t.Errorf("known to be bad: %+v", got)
	}
}

// TestSalvagerRetries wants a block that fails n times to be read with n retries,
// and not with fewer.
func TestSalvagerRetries(t *testing.T) {
	t.Parallel()
	for fails := range 4 {
		for retries := range 4 {
			left := fails
			s := blockio.NewSalvager(funcReader(func(p []byte, _ int64) (int, error) {
				if left > 0 {
					left--
					return 0, syscall.EIO
				}
				return len(p), nil
			}), 4096, blockio.SalvageOptions{Retries: retries})
			s.SetBlockSize(4096)
			if _, err := s.ReadAt(make([]byte, 4096), 0); (err == nil) != (fails <= retries) {
				t.Errorf("fails %d times, %d retries: %v", fails, retries, err)
			}
		}
	}
}

// TestSalvagerRandom reads a device with bad bytes, here and there and whole
// stretches, in any order: what comes is right, and what is missing is at
// most the blocks of the bad bytes.
func TestSalvagerRandom(t *testing.T) {
	t.Parallel()
	content := mixed(1 << 20)
	rapid.Check(t, func(t *rapid.T) {
		src := &source{content: content}
		for range rapid.IntRange(0, 5).Draw(t, "stretches") {
			first := rapid.Int64Range(0, 1<<20-1).Draw(t, "first")
			for n := range rapid.Int64Range(1, 40).Draw(t, "blocks") {
				src.bad = append(src.bad, first+1024*n)
			}
		}
		s := blockio.NewSalvager(src, 1<<20, blockio.SalvageOptions{Retries: rapid.IntRange(0, 1).Draw(t, "retries"), Timeout: time.Minute})
		s.SetBlockSize(1024)
		r := retainer(t, s, 1<<18)
		for pass := range 2 {
			for range 4 {
				off := rapid.Int64Range(0, 1<<10).Draw(t, "offset") << 10
				p := make([]byte, rapid.IntRange(1, 600).Draw(t, "blocks")<<10)
				_, err := r.ReadAt(p, off)
				for i := int64(0); i < int64(len(p)); i += 1024 {
					bad := off+i >= 1<<20
					for _, b := range src.bad {
						bad = bad || b/1024 == (off+i)/1024
					}
					if missing := blockio.Within(err, off+i, 1024) != nil; missing != bad {
						t.Fatalf("pass %d, block at %d: missing %t, bad %t: %v", pass, off+i, missing, bad, err)
					}
					if !bad && !bytes.Equal(p[i:][:1024], content[off+i:][:1024]) {
						t.Fatalf("pass %d: block at %d differs", pass, off+i)
					}
				}
			}
			r.Seal()
		}
	})
}

// TestSalvagerSegments wants all segments of a joined request but the one that is bad.
func TestSalvagerSegments(t *testing.T) {
	t.Parallel()
	src := &source{content: random(1 << 20), bad: []int64{10*8192 + 5}}
	s := blockio.NewSalvager(src, 1<<20, blockio.SalvageOptions{})
	s.SetBlockSize(4096)
	var segs []blockio.Segment
	for i := range int64(100) {
		segs = append(segs, segment(i*8192, 4096))
	}
	var failed []int
	err := blockio.ReadSegments(t.Context(), s, segs, blockio.ReadOptions{Failed: func(i int, err error) {
		failed = append(failed, i)
		if got := ranges(t, err); len(got) != 1 || got[0].Off != 10*8192 || got[0].Len != 4096 {
			t.Errorf("segment %d: %+v", i, got)
		}
	}})
	if err != nil || len(failed) != 1 || failed[0] != 10 {
		t.Errorf("failed: %v, %v", failed, err)
	}
	for i, seg := range segs {
		if i != 10 && !bytes.Equal(seg.P, src.content[seg.Off:][:4096]) {
			t.Errorf("segment %d differs", i)
		}
	}
	if len(src.requests) > 40 {
		t.Errorf("%d reads", len(src.requests))
	}
}

// hanging is content of which one byte is not read before it is let go, and
// then wrong.
type hanging struct {
	content []byte
	at      int64
	let     chan struct{}
	late    atomic.Int32 // reads that hang
	reads   atomic.Int32
}

func (h *hanging) ReadAt(p []byte, off int64) (int, error) {
	h.reads.Add(1)
	if off <= h.at && h.at < off+int64(len(p)) {
		h.late.Add(1)
		defer h.late.Add(-1)
		<-h.let
		for i := range p {
			p[i] = 0xEE
		}
		return len(p), nil
	}
	return bytes.NewReader(h.content).ReadAt(p, off)
}

// TestSalvagerHangs has a block hang, and come back when nobody waits for it any
// more: its memory must be that of nobody else.
func TestSalvagerHangs(t *testing.T) {
	t.Parallel()
	h := &hanging{content: random(1 << 20), at: 300_000, let: make(chan struct{})}
	s := blockio.NewSalvager(h, 1<<20, blockio.SalvageOptions{Retries: 1, Timeout: time.Second})
	s.SetBlockSize(4096)
	lost := make([]byte, 1<<20)
	if _, err := s.ReadAt(lost, 0); !errors.Is(err, blockio.ErrLost) {
		t.Fatalf("large read: %v", err)
	}
	p := make([]byte, 1<<20)
	_, err := s.ReadAt(p, 0)
	const bad = 300_000 / 4096 * 4096
	if got := ranges(t, err); len(got) != 1 || got[0].Off != bad || got[0].Len != 4096 || !got[0].Tried {
		t.Errorf("missing: %+v", got)
	}
	check := func() {
		t.Helper()
		if !bytes.Equal(p[:bad], h.content[:bad]) || !bytes.Equal(p[bad+4096:], h.content[bad+4096:]) {
			t.Error("what does not hang differs")
		}
	}
	check()
	close(h.let)
	for h.late.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	check()
	if !bytes.Equal(lost, bytes.Repeat([]byte{0xEE}, 1<<20)) {
		t.Error("the late read did not write where it was told to")
	}
}

// TestSalvagerSegmentsHang has a joined request hang.
func TestSalvagerSegmentsHang(t *testing.T) {
	t.Parallel()
	h := &hanging{content: random(1 << 20), at: 36*8192 + 100, let: make(chan struct{})}
	defer close(h.let)
	s := blockio.NewSalvager(h, 1<<20, blockio.SalvageOptions{Timeout: time.Second})
	s.SetBlockSize(4096)
	whole := make([]byte, 1<<20)
	for _, apart := range []bool{false, true} {
		var segs []blockio.Segment
		for off := 0; off+8192 <= len(whole); off += 8192 {
			if apart {
				segs = append(segs, segment(int64(off), 4096))
			} else {
				segs = append(segs, blockio.Segment{Off: int64(off), P: whole[off:][:8192]})
			}
		}
		failed := 0
		opt := blockio.ReadOptions{Failed: func(int, error) { failed++ }}
		err := blockio.ReadSegments(t.Context(), s, segs, opt)
		if !apart {
			if !errors.Is(err, blockio.ErrLost) || failed != 0 {
				t.Errorf("into memory of ours: %v, %d failed", err, failed)
			}
			for i := range segs {
				segs[i].P = make([]byte, len(segs[i].P))
			}
			err = blockio.ReadSegments(t.Context(), s, segs, opt)
		}
		if err != nil || failed != 1 {
			t.Errorf("apart %t: %v, %d failed", apart, err, failed)
		}
		for i, seg := range segs {
			hangs := seg.Off <= h.at && h.at < seg.Off+8192
			if !hangs && !bytes.Equal(seg.P, h.content[seg.Off:][:len(seg.P)]) {
				t.Errorf("apart %t: segment %d differs", apart, i)
			}
		}
	}
}

// TestSalvagerDead reads a device that answers nothing, or nothing any more: it
// gives up soon, with a bounded number of reads.
func TestSalvagerDead(t *testing.T) {
	t.Parallel()
	for _, answers := range []bool{false, true} {
		let := make(chan struct{})
		var reads atomic.Int32
		s := blockio.NewSalvager(funcReader(func(p []byte, off int64) (int, error) {
			if answers && off == 0 && len(p) == 512 {
				return len(p), nil
			}
			reads.Add(1)
			<-let
			return 0, syscall.EIO
		}), 1<<30, blockio.SalvageOptions{Retries: 1, Timeout: 100 * time.Millisecond})
		s.SetBlockSize(4096)
		if _, err := s.ReadAt(make([]byte, 512), 0); (err == nil) != answers {
			t.Errorf("answers %t: %v", answers, err)
		}
		const inFlight = 16
		var wg sync.WaitGroup
		for i := range int64(inFlight) {
			wg.Go(func() {
				for j := range int64(64) {
					off := (64*i + j) << 20
					_, err := s.ReadAt(make([]byte, 1<<20), off)
					for errors.Is(err, blockio.ErrLost) {
						_, err = s.ReadAt(make([]byte, 1<<20), off)
					}
					if blockio.Within(err, off, 1<<20) == nil {
						t.Errorf("at %d: %v", off, err)
					}
				}
			})
		}
		wg.Wait()
		most := int32(4 + inFlight)
		if answers {
			most = 256 + inFlight
		}
		if n := reads.Load(); n > most {
			t.Errorf("answers %t: %d reads hang", answers, n)
		}
		close(let)
	}
}

// TestSalvagerSlow reads a region of which every read fails late: it is given up
// before each of its blocks was tried.
func TestSalvagerSlow(t *testing.T) {
	t.Parallel()
	src := &source{content: make([]byte, 1<<20), delay: 250 * time.Millisecond}
	for off := int64(0); off < 1<<20; off += 4096 {
		src.bad = append(src.bad, off)
	}
	s := blockio.NewSalvager(src, 1<<20, blockio.SalvageOptions{Retries: 1, Timeout: 600 * time.Millisecond})
	s.SetBlockSize(4096)
	_, err := s.ReadAt(make([]byte, 1<<20), 0)
	for errors.Is(err, blockio.ErrLost) {
		_, err = s.ReadAt(make([]byte, 1<<20), 0)
	}
	for off := int64(0); off < 1<<20; off += 4096 {
		if blockio.Within(err, off, 4096) == nil {
			t.Fatalf("block at %d counts as read", off)
		}
	}
	n := len(src.requests)
	if n > 30 {
		t.Errorf("%d reads of a region that fails slowly", n)
	}
	if _, err := s.ReadAt(make([]byte, 1<<20), 0); err == nil || len(src.requests) != n {
		t.Errorf("tried again: %d reads, %v", len(src.requests)-n, err)
	}
}

// TestSalvagerStop stops the reading, once while a read hangs.
func TestSalvagerStop(t *testing.T) {
	t.Parallel()
	for _, size := range []int{4096, 1 << 20} {
		h := &hanging{content: random(1 << 20), at: 5000, let: make(chan struct{})}
		stop := make(chan struct{})
		s := blockio.NewSalvager(h, 1<<20, blockio.SalvageOptions{Retries: 5, Stop: stop})
		s.SetBlockSize(4096)
		if _, err := s.ReadAt(make([]byte, 4096), 0); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(50*time.Millisecond, func() { close(stop) })
		_, err := s.ReadAt(make([]byte, size), 4096)
		if errors.Is(err, blockio.ErrLost) {
			_, err = s.ReadAt(make([]byte, size), 4096)
		}
		if !errors.Is(err, blockio.ErrStopped) {
			t.Errorf("%d bytes that hang: %v", size, err)
		}
		n := h.reads.Load()
		if _, err := s.ReadAt(make([]byte, size), 0); !errors.Is(err, blockio.ErrStopped) || h.reads.Load() != n {
			t.Errorf("after the stop: %v, %d more reads", err, h.reads.Load()-n)
		}
		if bad := s.Bad(); len(bad) > 0 {
			t.Errorf("counts as bad: %+v", bad)
		}
		close(h.let)
	}
}

// TestSalvagerEnd reads over the end, and what has become shorter.
func TestSalvagerEnd(t *testing.T) {
	t.Parallel()
	content := random(10_000)
	s := blockio.NewSalvager(bytes.NewReader(content), 10_000, blockio.SalvageOptions{})
	p := make([]byte, 4096)
	n, err := s.ReadAt(p, 8192)
	if n != 10_000-8192 || !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(p[:n], content[8192:]) {
		t.Errorf("over the end: %d, %v", n, err)
	}
	if n, err := s.ReadAt(p, 20_000); n != 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("behind the end: %d, %v", n, err)
	}
	s = blockio.NewSalvager(bytes.NewReader(content), 20_000, blockio.SalvageOptions{Retries: 1})
	if n, err := s.ReadAt(p, 12_000); n != 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of what has become shorter: %d, %v", n, err)
	}
	if _, err := s.ReadAt(p, -1); err == nil {
		t.Error("at a negative offset: no error")
	}
}

// TestSalvagerThrottled wants a throttle to go on behind what cannot be read.
func TestSalvagerThrottled(t *testing.T) {
	t.Parallel()
	src := &source{content: random(1 << 20), bad: []int64{5000, 700_000}}
	s := blockio.NewSalvager(src, 1<<20, blockio.SalvageOptions{})
	s.SetBlockSize(4096)
	throttled := blockio.NewThrottle(t.Context(), s, blockio.Pace{Rate: 100 << 20, Jobs: 1})
	for _, off := range []int64{0, 4096} {
		p := make([]byte, 1<<20-off)
		n, err := throttled.ReadAt(p, off)
		got := ranges(t, err)
		if n != int(4096-off) || len(got) != 2 || got[0].Off != 4096 || got[1].Off != 700_000/4096*4096 {
			t.Fatalf("%d bytes, missing %+v", n, got)
		}
		for at := off; at < 1<<20; at += 4096 {
			if blockio.Within(err, at, 4096) == nil && !bytes.Equal(p[at-off:][:4096], src.content[at:][:4096]) {
				t.Errorf("block at %d differs", at)
			}
		}
	}
}
