// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package seekable_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"testing/iotest"

	"o2image/image/seekable"
)

var le = binary.LittleEndian

// sample returns n bytes that compress somewhat.
func sample(n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.IntN(16))
	}
	return b
}

// pack writes parts one after the other; a part that is nil is a hole of 3 MiB
// and some bytes.
func pack(t testing.TB, level int, parts ...[]byte) (file, plain []byte) {
	t.Helper()
	const hole = 3<<20 + 77
	enc, err := seekable.NewEncoder(level)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := seekable.NewWriter(&out, enc)
	for _, part := range parts {
		if part == nil {
			part = make([]byte, hole)
			err = w.WriteZeros(hole)
		} else {
			_, err = w.Write(part)
		}
		if err != nil {
			t.Fatal(err)
		}
		plain = append(plain, part...)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), plain
}

func open(t testing.TB, file []byte) *seekable.Reader {
	t.Helper()
	r, err := seekable.Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRoundTrip reads what was written as a stream, at random, and with zstd.
func TestRoundTrip(t *testing.T) {
	for _, level := range []int{seekable.MinLevel, seekable.DefaultLevel, 9, seekable.MaxLevel} {
		file, plain := pack(t, level, sample(1<<20+5), nil, sample(100))
		again, _ := pack(t, level, sample(1<<20+5), nil, sample(100))
		if !bytes.Equal(file, again) {
			t.Errorf("level %d: two runs differ", level)
		}
		cmd := exec.CommandContext(t.Context(), "zstd", "-dc")
		cmd.Stdin = bytes.NewReader(file)
		if got, err := cmd.Output(); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("level %d: zstd -d gives %d bytes that differ, %v", level, len(got), err)
		}
		r := open(t, file)
		if r.Size() != int64(len(plain)) {
			t.Fatalf("size %d, want %d", r.Size(), len(plain))
		}
		if err := iotest.TestReader(io.NewSectionReader(r, 0, 5000), plain[:5000]); err != nil {
			t.Error(err)
		}
		var wg sync.WaitGroup
		for seed := range uint64(4) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(2, seed))
				for range 100 {
					off := rng.IntN(len(plain))
					p := make([]byte, 1+rng.IntN(min(len(plain)-off, 1<<17)))
					if n, err := r.ReadAt(p, int64(off)); n != len(p) || !bytes.Equal(p, plain[off:][:n]) {
						t.Errorf("level %d: %d bytes at %d, want %d: %v", level, n, off, len(p), err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

// TestManyFrames reads a table that is longer than what is read of it at once.
func TestManyFrames(t *testing.T) {
	var parts [][]byte
	for i := range 1500 {
		parts = append(parts, sample(1+i%7))
	}
	file, plain := pack(t, 1, parts...)
	r := open(t, file)
	if r.Frames() != len(parts) {
		t.Errorf("%d frames, want %d", r.Frames(), len(parts))
	}
	got := make([]byte, len(plain))
	if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("contents differ, %v", err)
	}
	for off := range plain {
		if _, err := r.ReadAt(got[:1], int64(off)); err != nil || got[0] != plain[off] {
			t.Fatalf("byte %d is %d, want %d: %v", off, got[0], plain[off], err)
		}
	}
}

// TestChecksums reads a table with checksums, which others write.
func TestChecksums(t *testing.T) {
	file, plain := pack(t, 3, sample(3<<20))
	const frames = 3
	table := len(file) - frames*8 - 9
	b := bytes.Clone(file[:table])
	le.PutUint32(b[table-4:], frames*12+9)
	for i := range frames {
		b = append(b, file[table+8*i:][:8]...)
		b = append(b, 1, 2, 3, 4)
	}
	b = append(le.AppendUint32(b, frames), 0x80, 0xB1, 0xEA, 0x92, 0x8F)
	got := make([]byte, len(plain))
	if _, err := open(t, b).ReadAt(got, 0); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("contents differ, %v", err)
	}
}

// TestHostile opens files with a table that lies.
func TestHostile(t *testing.T) {
	file, _ := pack(t, 3, sample(3<<20))
	const footer, entries, head = 9, 9 + 3*8, 9 + 3*8 + 8 // from the end
	for name, change := range map[string]func(b []byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"no zstd":           func(b []byte) []byte { b[0] = 0; return b },
		"cut off":           func(b []byte) []byte { return b[:len(b)-1] },
		"cut in front":      func(b []byte) []byte { return slices.Concat(b[:100], b[200:]) },
		"more frames":       func(b []byte) []byte { b[len(b)-footer]++; return b },
		"too many frames":   func(b []byte) []byte { le.PutUint32(b[len(b)-footer:], 1<<32-1); return b },
		"reserved":          func(b []byte) []byte { b[len(b)-5] = 4; return b },
		"checksums":         func(b []byte) []byte { b[len(b)-5] = 0x80; return b },
		"table magic":       func(b []byte) []byte { b[len(b)-head]++; return b },
		"table length":      func(b []byte) []byte { b[len(b)-head+4]++; return b },
		"huge frame":        func(b []byte) []byte { le.PutUint32(b[len(b)-entries:], 1<<31); return b },
		"huge contents":     func(b []byte) []byte { le.PutUint32(b[len(b)-entries+4:], 1<<31); return b },
		"frame of nothing":  func(b []byte) []byte { le.PutUint32(b[len(b)-entries:], 0); return b },
		"sum too large":     func(b []byte) []byte { b[len(b)-entries]++; return b },
		"nothing but table": func(b []byte) []byte { return b[len(b)-head:] },
	} {
		b := change(bytes.Clone(file))
		if _, err := seekable.Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: opens", name)
		}
	}
	for name, change := range map[string]func(b []byte){
		"shorter than it says": func(b []byte) { le.PutUint32(b[len(b)-entries+4:], 1<<20+1) },
		"longer than it says":  func(b []byte) { le.PutUint32(b[len(b)-entries+4:], 1<<20-1) },
		"damaged":              func(b []byte) { b[5000] ^= 1 },
	} {
		b := bytes.Clone(file)
		change(b)
		r := open(t, b)
		for range 2 {
			if n, err := r.ReadAt(make([]byte, 10), 7); err == nil || n > 0 {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
		}
		if _, err := r.ReadAt(make([]byte, 10), 2<<20+7); err != nil {
			t.Errorf("%s: another frame: %v", name, err)
		}
	}
}

// TestBomb wants that a frame which decompresses to more than it may is not.
func TestBomb(t *testing.T) {
	file, _ := pack(t, 3, nil)
	frames := file[:len(file)-4*8-9-8]
	// Ten times the same frames as one, said to hold one byte.
	b := bytes.Repeat(frames, 10)
	size := uint32(len(b))
	b = le.AppendUint32(le.AppendUint32(b, 0x184D2A5E), 8+9)
	b = le.AppendUint32(le.AppendUint32(b, size), 1)
	b = append(le.AppendUint32(b, 1), 0, 0xB1, 0xEA, 0x92, 0x8F)
	if _, err := open(t, b).ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("it was read")
	}
}

func TestLevels(t *testing.T) {
	for _, level := range []int{-1, 0, seekable.MaxLevel + 1} {
		if _, err := seekable.NewEncoder(level); err == nil {
			t.Errorf("level %d is taken", level)
		}
	}
}

// TestNoFormat wants the error that says to try another format.
func TestNoFormat(t *testing.T) {
	for _, file := range [][]byte{nil, make([]byte, 1<<16), bytes.Repeat([]byte{0x28, 0xB5, 0x2F, 0xFD}, 100)} {
		if _, err := seekable.Open(bytes.NewReader(file), int64(len(file))); !errors.Is(err, seekable.ErrFormat) {
			t.Errorf("%d bytes: %v", len(file), err)
		}
	}
}

// FuzzOpen reads all of files that were changed anywhere.
func FuzzOpen(f *testing.F) {
	file, _ := pack(f, 1, sample(300), sample(5), sample(4000))
	f.Add(file)
	f.Add(file[100:])
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := seekable.Open(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		if r.Frames() > len(file) {
			t.Fatalf("%d frames in %d bytes", r.Frames(), len(file))
		}
		p := make([]byte, 1000)
		for off := int64(0); off < r.Size(); off += max(r.Size()/16, 1) {
			if n, err := r.ReadAt(p, off); err == nil && n < len(p) {
				t.Fatalf("%d bytes at %d without an error", n, off)
			}
		}
	})
}

// A frame of zeros is as small as the format allows, and zstd reads it.
func TestZeros(t *testing.T) {
	enc, err := seekable.NewEncoder(seekable.DefaultLevel)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, seekable.FrameSize)
	for _, f := range []seekable.Frame{enc.Zeros(seekable.FrameSize), enc.Encode(want)} {
		// Magic, header with size, 8 blocks of at most 128 KiB, checksum.
		if len(f.Data) > 4+5+8*4+4 {
			t.Errorf("%d bytes", len(f.Data))
		}
		cmd := exec.CommandContext(t.Context(), "zstd", "-dc")
		cmd.Stdin = bytes.NewReader(f.Data)
		if got, err := cmd.Output(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("zstd -d: %d bytes, %v", len(got), err)
		}
	}
}
