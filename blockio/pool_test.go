// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"o2image/blockio"
)

func TestPool(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const size, limit = 5000, 3
	p := blockio.NewPool(size, limit)
	var out [][]byte
	for range limit {
		b, err := p.Get(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != size || reflect.ValueOf(b).Pointer()%uintptr(os.Getpagesize()) != 0 {
			t.Errorf("buffer of %d bytes at %#x", len(b), reflect.ValueOf(b).Pointer())
		}
		b[0], b[size-1] = 1, 1
		out = append(out, b)
	}

	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if b, err := p.Get(short); b != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one too many: %v", err)
	}

	p.Put(out[0][:10])
	b, err := p.Get(ctx)
	if err != nil || len(b) != size {
		t.Errorf("put back short, comes back with %d bytes, %v", len(b), err)
	}
	p.Put(b)
	p.Close()
	if _, err := p.Get(ctx); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("get when closed: %v", err)
	}
	out[1][0] = 2 // still ours
	p.Put(out[1])
	p.Put(out[2])
	p.Close()

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := blockio.NewPool(1, 1).Get(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("get when cancelled: %v", err)
	}
}

// TestPoolBound has many goroutines share few buffers.
func TestPoolBound(t *testing.T) {
	t.Parallel()
	const limit = 4
	p := blockio.NewPool(4096, limit)
	defer p.Close()
	var out atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 200 {
				b, err := p.Get(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if n := out.Add(1); n > limit {
					t.Errorf("%d buffers out", n)
				}
				b[0]++ // -race sees it if two have the same
				out.Add(-1)
				p.Put(b)
			}
		})
	}
	wg.Wait()
}
