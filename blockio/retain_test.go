// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"o2image/blockio"
)

// counted counts the bytes that are read of it.
type counted struct {
	r  io.ReaderAt
	mu sync.Mutex
	n  int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	return n, err
}

// mixed makes bytes of which parts are zero, parts compress and parts do not.
func mixed(size int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		part := b[i:min(i+4096, size)]
		switch rng.IntN(4) {
		case 0: // zero
		case 1:
			for j := range part {
				part[j] = byte(rng.Uint32())
			}
		default:
			copy(part, "INODE01")
			part[rng.IntN(len(part))] = byte(rng.Uint32())
		}
	}
	return b
}

func retainer(t rapid.TB, r io.ReaderAt, budget int) *blockio.Retainer {
	kept, err := blockio.NewRetainer(r, budget)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// TestRetainer reads a file twice, in pieces that do not agree: the bytes must
// be those of the file, whatever was kept.
func TestRetainer(t *testing.T) {
	file := mixed(3 << 20)
	rapid.Check(t, func(t *rapid.T) {
		r := retainer(t, bytes.NewReader(file), rapid.IntRange(0, 1<<20).Draw(t, "budget"))
		read := func(name string) {
			for range rapid.IntRange(1, 20).Draw(t, name) {
				n := rapid.IntRange(1, 600_000).Draw(t, "length")
				off := rapid.IntRange(0, len(file)).Draw(t, "offset")
				p := make([]byte, n)
				got, err := r.ReadAt(p, int64(off))
				want := min(n, len(file)-off)
				if got != want || (got < n) != (err == io.EOF) || err != nil && err != io.EOF {
					t.Fatalf("%d bytes at %d of %d: %d, %v", n, off, len(file), got, err)
				}
				if !bytes.Equal(p[:got], file[off:off+got]) {
					t.Fatalf("%d bytes at %d differ from the file", n, off)
				}
			}
		}
		read("reads before")
		r.Seal()
		read("reads after")
	})
}

// TestRetainerReadsOnce wants nothing read again that was kept.
func TestRetainerReadsOnce(t *testing.T) {
	file := make([]byte, 4<<20)
	for i := 0; i < len(file); i += 4096 {
		copy(file[i:], "INODE01")
	}
	source := &counted{r: bytes.NewReader(file)}
	r := retainer(t, source, 1<<20)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if _, err := r.ReadAt(make([]byte, 1<<20), int64(i)<<20); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r.Seal()
	p := make([]byte, len(file)-4096)
	if _, err := r.ReadAt(p, 4096); err != nil || !bytes.Equal(p, file[4096:]) {
		t.Errorf("second pass: %v", err)
	}
	if source.n != len(file) {
		t.Errorf("%d bytes were read, the file has %d", source.n, len(file))
	}
}

// TestRetainerBudget wants no more kept than the budget allows.
func TestRetainerBudget(t *testing.T) {
	file := mixed(16 << 20)
	source := &counted{r: bytes.NewReader(file)}
	r := retainer(t, source, 36_000)
	for off := 0; off < len(file); off += 1 << 16 {
		if _, err := r.ReadAt(make([]byte, 1<<16), int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	r.Seal()
	source.n = 0
	if _, err := r.ReadAt(make([]byte, len(file)), 0); err != nil {
		t.Fatal(err)
	}
	if source.n < len(file)/2 {
		t.Errorf("only %d bytes were read again: 10000 bytes cannot hold the others", source.n)
	}
}

type failing struct{ error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.error }

// TestRetainerFails wants the errors of the reader, and nothing kept of them.
func TestRetainerFails(t *testing.T) {
	broken := errors.New("broken")
	r := retainer(t, failing{broken}, 1<<20)
	for range 2 {
		if n, err := r.ReadAt(make([]byte, 4096), 0); n != 0 || !errors.Is(err, broken) {
			t.Errorf("%d, %v", n, err)
		}
		r.Seal()
	}
}

// Blocks that resemble each other need little more than what differs: a budget
// that ranges of 128 KiB, each with the likeness anew, do not fit.
func TestRetainerLikeness(t *testing.T) {
	const size, block = 8 << 20, 4096
	rng := rand.New(rand.NewPCG(3, 4))
	likeness := make([]byte, 400)
	for i := range likeness {
		likeness[i] = byte(rng.Uint32())
	}
	file := make([]byte, size)
	for b := range size / block {
		copy(file[b*block:], likeness)
		file[b*block+100], file[b*block+101] = byte(b), byte(b>>8)
	}
	source := &counted{r: bytes.NewReader(file)}
	r := retainer(t, source, 36_000)
	buf := make([]byte, 1<<20)
	for pass := range 2 {
		for off := int64(0); off < size; off += int64(len(buf)) {
			if _, err := r.ReadAt(buf, off); err != nil || !bytes.Equal(buf, file[off:][:len(buf)]) {
				t.Fatalf("pass %d, byte %d: %v", pass, off, err)
			}
		}
		if pass == 0 {
			r.Seal()
		}
	}
	if source.n != size {
		t.Errorf("%d bytes read of %d", source.n, size)
	}
}
