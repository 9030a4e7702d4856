// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package undo_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"o2image/undo"
)

var header = undo.Header{
	Created: time.Unix(1700000000, 0).UTC(), Name: "/dev/sdx", Identity: "block device 8:16", Block: true,
	OldSize: 10 << 20, NewSize: 10 << 20, OldUUID: [16]byte{1, 2}, NewUUID: [16]byte{3},
}

// part is a range that is saved: random bytes, with zeros in some places.
func part(n int, seed uint64, zeros ...[2]int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range p {
		p[i] = byte(r.Uint32() | 1)
	}
	for _, z := range zeros {
		clear(p[z[0]:z[1]])
	}
	return p
}

type saved struct {
	off int64
	p   []byte
}

func encode(t testing.TB, h undo.Header, parts ...saved) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := undo.NewWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range parts {
		if err := w.Add(s.off, s.p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// apply puts extents into a target.
func apply(target []byte, extents iter.Seq2[undo.Extent, error]) error {
	for e, err := range extents {
		switch {
		case err != nil:
			return err
		case e.Bytes == nil:
			clear(target[e.Off:][:e.Len])
		default:
			copy(target[e.Off:][:e.Len], e.Bytes)
		}
	}
	return nil
}

func samples() []saved {
	return []saved{
		{0, part(512, 1)},
		{4096, part(100_000, 2, [2]int{8192, 81920})},
		{1 << 20, part(3<<20+17, 3)},
		{5 << 20, make([]byte, 1<<20)},
		{6 << 20, make([]byte, 1<<20)},
		{9<<20 + 5, part(1<<20-5, 4, [2]int{900_000, 1<<20 - 5})},
	}
}

func TestRoundTrip(t *testing.T) {
	parts := samples()
	file := encode(t, header, parts...)
	r, err := undo.Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(header, r.Header()); diff != "" {
		t.Error(diff)
	}
	want := bytes.Repeat([]byte{0xAA}, int(header.OldSize))
	for _, s := range parts {
		copy(want[s.off:], s.p)
	}
	for name, extents := range map[string]iter.Seq2[undo.Extent, error]{"extents": r.Extents(), "verified": r.Verify()} {
		got := bytes.Repeat([]byte{0xAA}, len(want))
		if err := apply(got, extents); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: what was saved does not come back", name)
		}
	}
	data := 512 + (100_000 - 81920 + 8192) + 3<<20 + 17 + 901_120
	if len(file) > data+1000 {
		t.Errorf("%d bytes for %d that are not zero", len(file), data)
	}
}

// TestLayout reads a file by the text of the package comment.
func TestLayout(t *testing.T) {
	h := header
	h.Block, h.OldSize, h.NewSize = false, 20_000, 30_000
	file := encode(t, h, saved{4096, []byte("old")}, saved{8192, make([]byte, 4096)})
	le := binary.LittleEndian
	var want []byte
	want = append(want, "O2IMUNDO"...)
	for _, v := range []uint16{1, 1, 8, 17} {
		want = le.AppendUint16(want, v)
	}
	for _, v := range []uint64{1700000000, 20_000, 30_000} {
		want = le.AppendUint64(want, v)
	}
	want = append(append(want, h.OldUUID[:]...), h.NewUUID[:]...)
	want = append(want, "/dev/sdxblock device 8:16"...)
	for _, v := range []uint64{4096, 3, 1} {
		want = le.AppendUint64(want, v)
	}
	want = append(want, "old"...)
	for _, v := range []uint64{8192, 4096, 2, 2, 3, 3} {
		want = le.AppendUint64(want, v)
	}
	sum := sha256.Sum256(want)
	want = append(want, sum[:]...)
	if !bytes.Equal(file, want) {
		t.Errorf("file:\n%x\nwant:\n%x", file, want)
	}
}

// TestChanged wants every changed byte and every cut to be found.
func TestChanged(t *testing.T) {
	h := header
	h.OldSize = 50_000
	file := encode(t, h, saved{0, part(600, 5)}, saved{4096, part(9000, 6, [2]int{0, 4096})})
	check := func(file []byte) error {
		r, err := undo.Open(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return err
		}
		for _, err := range r.Verify() {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := check(file); err != nil {
		t.Fatal(err)
	}
	for i := range file {
		for _, value := range []byte{0, 0xFF, file[i] + 1, file[i] - 1} {
			if value == file[i] {
				continue
			}
			bad := bytes.Clone(file)
			bad[i] = value
			if err := check(bad); err == nil {
				t.Errorf("byte %d changed from %#x to %#x: accepted", i, file[i], value)
			}
		}
		if err := check(file[:i]); err == nil {
			t.Errorf("cut off at %d: accepted", i)
		}
	}
	if err := check(append(bytes.Clone(file), 0)); !errors.Is(err, undo.ErrDamaged) {
		t.Errorf("a byte behind the end: %v", err)
	}
	if err := check([]byte("something else, but long enough to be a header of an undo file at least")); !errors.Is(err, undo.ErrFormat) {
		t.Errorf("another file: %v", err)
	}
}

// TestWrongUse wants what the format cannot hold to be refused.
func TestWrongUse(t *testing.T) {
	for name, h := range map[string]undo.Header{
		"name":     {Name: string(make([]byte, 5000))},
		"shrinks":  {OldSize: 5, NewSize: 4},
		"negative": {OldSize: -1, NewSize: 4},
	} {
		if _, err := undo.NewWriter(io.Discard, h); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	w, err := undo.NewWriter(io.Discard, undo.Header{OldSize: 100, NewSize: 100})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(50, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []saved{{59, make([]byte, 1)}, {60, make([]byte, 41)}, {101, nil}} {
		if err := w.Add(s.off, s.p); err == nil {
			t.Errorf("%d bytes at %d: accepted", len(s.p), s.off)
		}
	}
}

// failing fails after some writes.
type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestWriteFails(t *testing.T) {
	write := func(f *failing) error {
		w, err := undo.NewWriter(f, header)
		if err != nil {
			return err
		}
		for _, s := range samples() {
			if err := w.Add(s.off, s.p); err != nil {
				return err
			}
		}
		return w.Close()
	}
	all := &failing{left: 1 << 20}
	if err := write(all); err != nil {
		t.Fatal(err)
	}
	for n := range 1<<20 - all.left {
		if err := write(&failing{left: n}); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("write %d fails: %v", n, err)
		}
	}
}

// FuzzReader wants of any file that what it yields fits into the target and
// into memory, and that it is read the same with and without the hash.
func FuzzReader(f *testing.F) {
	h := header
	h.OldSize = 50_000
	f.Add(encode(f, h, saved{0, part(600, 5)}, saved{4096, part(9000, 6, [2]int{0, 4096})}))
	f.Add(encode(f, undo.Header{Name: "/f", Identity: "file"}))
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := undo.Open(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		list := func(extents iter.Seq2[undo.Extent, error]) (n int, last error) {
			var end, bytes int64
			for e, err := range extents {
				if err != nil {
					return n, err
				}
				if e.Off < end || e.Len <= 0 || e.Len > r.Header().OldSize-e.Off || e.Bytes != nil && int64(len(e.Bytes)) != e.Len {
					t.Fatalf("extent of %d bytes at %d behind %d, of a target of %d", e.Len, e.Off, end, r.Header().OldSize)
				}
				end = e.Off + e.Len
				bytes += int64(len(e.Bytes))
				n++
			}
			if bytes > int64(len(file)) {
				t.Fatalf("%d bytes of a file of %d", bytes, len(file))
			}
			return n, nil
		}
		n, err := list(r.Extents())
		verified, damage := list(r.Verify())
		if damage == nil && (err != nil || n != verified) {
			t.Errorf("%d extents, %v; verified %d", n, err, verified)
		}
		if err != nil && damage == nil {
			t.Errorf("verified, but %v", err)
		}
	})
}
