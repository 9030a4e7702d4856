// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"o2image/blockio"
)

func open(t *testing.T, name string) *blockio.Device {
	t.Helper()
	d, err := blockio.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestReadAt reads every kind of source at any offset, of any length, into
// memory of any alignment.
func TestReadAt(t *testing.T) {
	t.Parallel()
	const sectors = 600 * 1024 // two bounce buffers and more
	odd := random(sectors + 1234)
	file := func(t *testing.T) string { return write(t, filepath.Join(t.TempDir(), "f"), odd) }
	for _, test := range []struct {
		name    string
		source  func(t *testing.T) string
		content []byte
		direct  bool
		sector  int // 0: any
		block   bool
	}{
		{"file", file, odd, true, 0, false},
		{"tiny file", func(t *testing.T) string { return write(t, filepath.Join(t.TempDir(), "f"), odd[:100]) }, odd[:100], true, 0, false},
		{"empty file", func(t *testing.T) string { return write(t, filepath.Join(t.TempDir(), "f"), nil) }, nil, true, 0, false},
		{"tmpfs", func(t *testing.T) string { return write(t, filepath.Join(tmpfs(t, "2m"), "f"), odd) }, odd, true, 0, false},
		{"sectors of 512", func(t *testing.T) string {
			return loop(t, write(t, filepath.Join(t.TempDir(), "f"), odd[:sectors+512]), "--sector-size", "512")
		}, odd[:sectors+512], true, 512, true},
		{"sectors of 4096", func(t *testing.T) string {
			return loop(t, write(t, filepath.Join(t.TempDir(), "f"), odd[:sectors]), "--sector-size", "4096")
		}, odd[:sectors], true, 4096, true},
		{"file on sectors of 4096", func(t *testing.T) string {
			dev := loop(t, ext4(t), "--sector-size", "4096")
			run(t, "mkfs.ext4", "-q", "-F", dev)
			return write(t, filepath.Join(mount(t, dev), "f"), odd)
		}, odd, true, 4096, false},
		{"O_DIRECT refused", func(t *testing.T) string {
			return write(t, filepath.Join(mount(t, "-o", "data=journal", loop(t, ext4(t))), "f"), odd)
		}, odd, false, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			name := test.source(t)
			run(t, "sync", name)
			d := open(t, name)
			if d.Size() != int64(len(test.content)) || d.Direct() != test.direct || d.IsBlock() != test.block || d.Name() != name {
				t.Errorf("size %d, direct %v, block %v, name %s; want %d, %v, %v, %s",
					d.Size(), d.Direct(), d.IsBlock(), d.Name(), len(test.content), test.direct, test.block, name)
			}
			if test.sector != 0 && d.SectorSize() != test.sector {
				t.Errorf("sectors of %d bytes, want %d", d.SectorSize(), test.sector)
			}
			want := bytes.NewReader(test.content)
			memory := make([]byte, len(test.content)+20000)
			rapid.Check(t, func(t *rapid.T) {
				unit := rapid.SampledFrom([]int{1, 512, 4096}).Draw(t, "unit")
				off := int64(rapid.IntRange(0, len(test.content)/unit+1).Draw(t, "offset") * unit)
				n := rapid.IntRange(0, len(test.content)/unit+1).Draw(t, "length") * unit
				shift := rapid.SampledFrom([]int{0, 1, 512, 777}).Draw(t, "shift")
				p := memory[shift:][:n]
				clear(p)
				gotN, gotErr := d.ReadAt(p, off)
				q := make([]byte, n)
				wantN, wantErr := want.ReadAt(q, off)
				if n == 0 {
					wantErr = nil // bytes.Reader differs from os.File here
				}
				if gotN != wantN || gotErr != wantErr {
					t.Errorf("ReadAt(%d bytes, %d) = %d, %v, want %d, %v", n, off, gotN, gotErr, wantN, wantErr)
				}
				if !bytes.Equal(p[:gotN], q[:wantN]) {
					t.Errorf("ReadAt(%d bytes, %d) reads other bytes", n, off)
				}
			})
			if n, err := d.ReadAt(make([]byte, 1), -1); n != 0 || err == nil {
				t.Errorf("ReadAt(-1) = %d, %v", n, err)
			}
		})
	}
}

func TestConcurrentReadAt(t *testing.T) {
	t.Parallel()
	content := random(1 << 20)
	d := open(t, write(t, filepath.Join(t.TempDir(), "f"), content))
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 0))
			p := make([]byte, 64<<10)
			for range 50 {
				off := rng.IntN(len(content))
				b := p[:rng.IntN(min(len(p), len(content)-off))]
				if n, err := d.ReadAt(b, int64(off)); n != len(b) || err != nil || !bytes.Equal(b, content[off:][:n]) {
					t.Errorf("ReadAt(%d bytes, %d) = %d, %v, or other bytes", len(b), off, n, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe") // nobody writes to it: opening it would hang
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, file string
		want       error
		message    string
	}{
		{"missing", filepath.Join(dir, "missing"), fs.ErrNotExist, "no such file or directory"},
		{"directory", dir, blockio.ErrFileType, "unsuitable type of file: a directory"},
		{"character device", "/dev/zero", blockio.ErrFileType, "unsuitable type of file: a character device"},
		{"pipe", pipe, blockio.ErrFileType, "unsuitable type of file: a named pipe"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d, err := blockio.Open(test.file)
			if d != nil {
				t.Errorf("opened")
			}
			wantPathError(t, err, test.want, test.file)
			if path := (*fs.PathError)(nil); errors.As(err, &path) && path.Err.Error() != test.message {
				t.Errorf("message %q, want %q", path.Err, test.message)
			}
		})
	}
}

// TestReadError reads a loop device whose file has lost its second half.
func TestReadError(t *testing.T) {
	t.Parallel()
	const half = 64 << 10
	content := random(2 * half)
	file := write(t, filepath.Join(t.TempDir(), "f"), content)
	d := open(t, loop(t, file))
	if err := os.Truncate(file, half); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	if _, err := d.ReadAt(b, half-4096); err != nil || !bytes.Equal(b, content[half-4096:half]) {
		t.Errorf("the good half: %v, or other bytes", err)
	}
	_, err := d.ReadAt(b, half)
	wantPathError(t, err, syscall.EIO, d.Name())
	_, err = d.ReadAt(b[1:77], half+13)
	wantPathError(t, err, syscall.EIO, d.Name())
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(b, 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read when closed: %v", err)
	}
}

func TestFileBecomesShorter(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "f"), random(100_000))
	d := open(t, file)
	if err := os.Truncate(file, 50_000); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 4096, 8192 + 5, 49_999} {
		n, err := d.ReadAt(make([]byte, 80_000), off)
		if want := int(50_000 - off); n != want || (err != io.EOF) {
			t.Errorf("ReadAt(%d) = %d, %v, want %d, EOF", off, n, err, want)
		}
	}
	if n, err := d.ReadAt(make([]byte, 4096), 90_112); n != 0 || err != io.EOF {
		t.Errorf("ReadAt behind the end = %d, %v", n, err)
	}
}

func TestNextData(t *testing.T) {
	t.Parallel()
	const unit = 64 << 10
	type step struct {
		Off, Start, End int64
		Err             error
	}
	holes := []step{
		{0, unit, 2 * unit, nil},
		{unit + 7, unit + 7, 2 * unit, nil},
		{2 * unit, 4 * unit, 5 * unit, nil},
		{5 * unit, 0, 0, io.EOF},
		{7 * unit, 0, 0, io.EOF},
		{9 * unit, 0, 0, io.EOF},
	}
	withHoles := func(t *testing.T, dir string) string {
		file := sparse(t, filepath.Join(dir, "f"), 7*unit)
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, off := range []int64{unit, 4 * unit} {
			if _, err := f.WriteAt(random(unit), off); err != nil {
				t.Fatal(err)
			}
		}
		return file
	}
	for _, test := range []struct {
		name   string
		source func(t *testing.T) string
		want   []step
	}{
		{"file", func(t *testing.T) string { return withHoles(t, t.TempDir()) }, holes},
		{"tmpfs", func(t *testing.T) string { return withHoles(t, tmpfs(t, "1m")) }, holes},
		{"only a hole", func(t *testing.T) string { return sparse(t, filepath.Join(t.TempDir(), "f"), unit) }, []step{{0, 0, 0, io.EOF}}},
		{"empty", func(t *testing.T) string { return write(t, filepath.Join(t.TempDir(), "f"), nil) }, []step{{0, 0, 0, io.EOF}}},
		{"block device", func(t *testing.T) string { return loop(t, withHoles(t, t.TempDir())) }, []step{
			{0, 0, 7 * unit, nil}, {unit, unit, 7 * unit, nil}, {7 * unit, 0, 0, io.EOF},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := open(t, test.source(t))
			var got []step
			for _, s := range test.want {
				start, end, err := d.NextData(s.Off)
				got = append(got, step{s.Off, start, end, err})
			}
			if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); diff != "" {
				t.Errorf("NextData (-want +got):\n%s", diff)
			}
		})
	}
}

func BenchmarkReadAt(b *testing.B) {
	file := filepath.Join(b.TempDir(), "f")
	if err := os.WriteFile(file, random(64<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	d, err := blockio.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	memory, err := unix.Mmap(-1, 0, 2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name string
		p    []byte
	}{
		{"4K", memory[:4096]},
		{"4K-bounced", memory[1:][:4096]},
		{"1M", memory[:1<<20]},
		{"1M-bounced", memory[1:][:1<<20]},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.p)))
			b.ReportAllocs()
			off := int64(0)
			for b.Loop() {
				if _, err := d.ReadAt(bench.p, off); err != nil {
					b.Fatal(err)
				}
				off = (off + 1<<20) % d.Size()
			}
		})
	}
}
