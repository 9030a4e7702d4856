// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o2image/blockio"
)

func stream(t *testing.T, f *os.File) *blockio.Stream {
	t.Helper()
	t.Cleanup(func() { f.Close() })
	s, err := blockio.NewStream(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openFile(t *testing.T, name string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// pipes returns the descriptors of a pipe.
func pipes(t *testing.T) (r, w int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

// TestStreamPipe writes much more than a pipe holds to a slow reader.
func TestStreamPipe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		file func(fd int) (*os.File, error)
	}{
		{"blocks", func(fd int) (*os.File, error) { return os.NewFile(uintptr(fd), "pipe"), nil }},
		{"does not block", func(fd int) (*os.File, error) {
			err := unix.SetNonblock(fd, true)
			return os.NewFile(uintptr(fd), "pipe"), err
		}},
		{"does not block from now on", func(fd int) (*os.File, error) {
			f := os.NewFile(uintptr(fd), "pipe")
			return f, unix.SetNonblock(fd, true)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rfd, wfd := pipes(t)
			f, err := test.file(wfd)
			if err != nil {
				t.Fatal(err)
			}
			s := stream(t, f)
			if s.Append() || s.Seekable() || s.Name() != "pipe" {
				t.Errorf("append %v, seekable %v, name %s", s.Append(), s.Seekable(), s.Name())
			}
			r := os.NewFile(uintptr(rfd), "reader")
			got := make(chan []byte)
			go func() {
				time.Sleep(20 * time.Millisecond) // the pipe is full by now
				b, _ := io.ReadAll(r)
				r.Close()
				got <- b
			}()
			content := random(1 << 20)
			if n, err := s.Write(content); n != len(content) || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
			if err := s.Skip(200_000); err != nil {
				t.Errorf("Skip: %v", err)
			}
			if err := s.Flush(); err != nil {
				t.Errorf("Flush: %v", err)
			}
			f.Close()
			if b := <-got; !bytes.Equal(b, append(content, make([]byte, 200_000)...)) {
				t.Errorf("%d other bytes arrive", len(b))
			}
		})
	}
}

func TestStreamReaderGone(t *testing.T) {
	t.Parallel()
	r, w := pipes(t)
	f := os.NewFile(uintptr(w), "pipe")
	if err := unix.SetNonblock(w, true); err != nil {
		t.Fatal(err)
	}
	s := stream(t, f)
	time.AfterFunc(20*time.Millisecond, func() { unix.Close(r) })
	_, err := s.Write(make([]byte, 2<<20)) // more than a pipe holds
	wantPathError(t, err, syscall.EPIPE, "pipe")
}

func TestStreamFile(t *testing.T) {
	t.Parallel()
	const old = 300_000
	hole := make([]byte, 200_000)
	for _, test := range []struct {
		name         string
		flags        int
		offset       int64
		want         func(before []byte) []byte
		append, hole bool
	}{
		{"from the beginning", os.O_TRUNC, 0, func([]byte) []byte { return slices.Concat([]byte("one"), hole, []byte("two"), hole) }, false, true},
		{"from the end", 0, old, func(b []byte) []byte { return slices.Concat(b, []byte("one"), hole, []byte("two"), hole) }, false, true},
		{"appended", os.O_APPEND, 0, func(b []byte) []byte { return slices.Concat(b, []byte("one"), hole, []byte("two"), hole) }, true, false},
		{"over what was there", 0, 5, func(b []byte) []byte { return slices.Concat(b[:5], []byte("one"), hole, []byte("two"), hole) }, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			before := random(old)
			name := write(t, filepath.Join(t.TempDir(), "f"), before)
			f := openFile(t, name, os.O_RDWR|test.flags)
			if _, err := f.Seek(test.offset, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			s := stream(t, f)
			if s.Append() != test.append || !s.Seekable() {
				t.Errorf("append %v, seekable %v", s.Append(), s.Seekable())
			}
			for _, text := range []string{"one", "two"} {
				if n, err := s.Write([]byte(text)); n != 3 || err != nil {
					t.Fatalf("Write = %d, %v", n, err)
				}
				for range 2 {
					if err := s.Skip(int64(len(hole) / 2)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			got := read(t, name)
			if !bytes.Equal(got, test.want(before)) {
				t.Errorf("the file has %d other bytes", len(got))
			}
			want, err := blockio.Identify(name)
			if err != nil {
				t.Fatal(err)
			}
			if id, err := s.ID(); !blockio.SameFile(id, want) || err != nil {
				t.Errorf("other identity, %v", err)
			}
			_, end, err := open(t, name).NextData(test.offset)
			if sparse := end < int64(len(got)); err != nil || sparse != test.hole {
				t.Errorf("data up to %d of %d, %v; want a hole: %v", end, len(got), err, test.hole)
			}
		})
	}
}

func TestStreamErrors(t *testing.T) {
	t.Parallel()
	s := stream(t, openFile(t, "/dev/full", os.O_WRONLY))
	_, err := s.Write([]byte("x"))
	wantPathError(t, err, syscall.ENOSPC, "/dev/full")
	wantPathError(t, s.Skip(1), syscall.ENOSPC, "/dev/full")

	name := filepath.Join(tmpfs(t, "64k"), "f")
	s = stream(t, openFile(t, name, os.O_CREATE|os.O_WRONLY))
	n, err := s.Write(make([]byte, 100_000))
	wantPathError(t, err, syscall.ENOSPC, name)
	if n != 65_536 {
		t.Errorf("%d bytes written into 65536", n)
	}

	name = filepath.Join(t.TempDir(), "f")
	s = stream(t, openFile(t, name, os.O_CREATE|os.O_WRONLY))
	if _, err := s.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	wantPathError(t, s.Skip(math.MaxInt64), syscall.EFBIG, name)
	if _, err := s.Write([]byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); err != nil || string(read(t, name)) != "onetwo" {
		t.Errorf("behind a hole that was too long: %q, %v", read(t, name), err)
	}

	closed := openFile(t, "/dev/null", os.O_WRONLY)
	closed.Close()
	if _, err := blockio.NewStream(closed); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed file: %v", err)
	}
}

func TestStreamDevice(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "f"), random(1<<20))
	want := read(t, file)
	dev := loop(t, file)
	f := openFile(t, dev, os.O_WRONLY)
	if _, err := f.Seek(4096, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	s := stream(t, f)
	if !s.Seekable() {
		t.Errorf("not seekable")
	}
	if _, err := s.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := s.Skip(5000); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	copy(want[4096:], append([]byte("one"), make([]byte, 5000)...))
	got := make([]byte, len(want))
	if _, err := open(t, dev).ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the device has other bytes, %v", err)
	}
}
