// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// readerFunc is a reader that is a function.
type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

func TestThrottleJobs(t *testing.T) {
	for _, jobs := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			var now, most atomic.Int64
			slow := readerFunc(func(p []byte, _ int64) (int, error) {
				n := now.Add(1)
				defer now.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(time.Millisecond)
				return len(p), nil
			})
			r := NewThrottle(t.Context(), slow, Pace{Jobs: jobs})
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if n, err := r.ReadAt(make([]byte, 10), 0); n != 10 || err != nil {
						t.Errorf("ReadAt: %d, %v", n, err)
					}
				})
			}
			wg.Wait()
			if most.Load() != int64(jobs) {
				t.Errorf("%d reads at once, want %d", most.Load(), jobs)
			}
		})
	}
}

// At a limited rate each second takes as many bytes as any other.
func TestThrottleRate(t *testing.T) {
	const rate, seconds = 1 << 20, 10
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		start := time.Now()
		var perSecond [seconds + 1]int
		source := readerFunc(func(p []byte, _ int64) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			perSecond[int(time.Since(start)/time.Second)] += len(p)
			return len(p), nil
		})
		r := NewThrottle(t.Context(), source, Pace{Rate: rate})
		var wg sync.WaitGroup
		for i := range seconds {
			wg.Go(func() {
				if n, err := r.ReadAt(make([]byte, rate), int64(i)*rate); n != rate || err != nil {
					t.Errorf("ReadAt: %d, %v", n, err)
				}
			})
		}
		wg.Wait()
		for i, n := range perSecond[:seconds] {
			if n < rate*9/10 || n > rate*11/10 {
				t.Errorf("%d bytes in second %d, want about %d", n, i, rate)
			}
		}
	})
}

// What was not used is not caught up with.
func TestThrottleIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := readerFunc(func(p []byte, _ int64) (int, error) { return len(p), nil })
		r := NewThrottle(t.Context(), source, Pace{Rate: 1 << 20})
		time.Sleep(time.Hour)
		start := time.Now()
		for range 5 {
			_, _ = r.ReadAt(make([]byte, 1<<20), 0)
		}
		if took := time.Since(start); took < 4*time.Second {
			t.Errorf("5 s of bytes took %v", took)
		}
	})
}

func TestThrottleCancel(t *testing.T) {
	for name, pace := range map[string]Pace{"rate": {Rate: 1}, "jobs": {Jobs: 1}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			block := make(chan struct{})
			defer close(block)
			r := NewThrottle(ctx, readerFunc(func(p []byte, _ int64) (int, error) {
				if pace.Jobs > 0 {
					<-block
				}
				return len(p), nil
			}), pace)
			go func() { _, _ = r.ReadAt(make([]byte, 1<<20), 0) }()
			synctest.Wait()
			go cancel()
			if _, err := r.ReadAt(make([]byte, 100), 0); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v, want context.Canceled", name, err)
			}
		})
	}
}

// Whatever the pace, the bytes and errors are those of the reader below.
func TestThrottleContents(t *testing.T) {
	contents := make([]byte, 3<<20+5)
	for i := range contents {
		contents[i] = byte(rand.N(256))
	}
	for _, pace := range []Pace{{}, {Jobs: 1}, {Rate: 1 << 40}, {Rate: 100 << 20, Jobs: 2}} {
		r := NewThrottle(t.Context(), bytes.NewReader(contents), pace)
		got, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<40))
		if err != nil || !bytes.Equal(got, contents) {
			t.Errorf("%+v: %d bytes, %v", pace, len(got), err)
		}
		p := make([]byte, 2<<20)
		if n, err := r.ReadAt(p, 2<<20); n != 1<<20+5 || !errors.Is(err, io.EOF) || !bytes.Equal(p[:n], contents[2<<20:]) {
			t.Errorf("%+v: at the end: %d, %v", pace, n, err)
		}
	}
}
