// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"o2image/blockio"
)

func openTarget(t *testing.T, name string, opts blockio.TargetOptions) *blockio.Target {
	t.Helper()
	target, err := blockio.OpenTarget(name, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target
}

// writeTarget writes a marker at an offset and reads it back, from the target
// and from the file.
func writeTarget(t *testing.T, target *blockio.Target, off int64) {
	t.Helper()
	mark := []byte("marker")
	if n, err := target.WriteAt(mark, off); n != len(mark) || err != nil {
		t.Fatalf("WriteAt = %d, %v", n, err)
	}
	if err := target.Sync(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(mark))
	if _, err := target.ReadAt(got, off); err != nil || !bytes.Equal(got, mark) {
		t.Errorf("ReadAt gives %q, %v", got, err)
	}
	if _, err := open(t, target.Name()).ReadAt(got, off); err != nil || !bytes.Equal(got, mark) {
		t.Errorf("the file has %q, %v", got, err)
	}
}

func TestTargetFile(t *testing.T) {
	t.Parallel()
	old := random(10_000)
	name := write(t, filepath.Join(t.TempDir(), "f"), old)
	target := openTarget(t, name, blockio.TargetOptions{Size: 5000})
	if target.IsBlock() || target.Name() != name || target.Size() != 10_000 {
		t.Errorf("block %v, name %s, size %d", target.IsBlock(), target.Name(), target.Size())
	}
	if err := target.Extend(9000); err != nil || target.Size() != 10_000 {
		t.Errorf("made shorter: %d bytes, %v", target.Size(), err)
	}
	if err := target.Extend(20_000); err != nil || target.Size() != 20_000 {
		t.Errorf("made longer: %d bytes, %v", target.Size(), err)
	}
	writeTarget(t, target, 15_000)
	want := append(old, make([]byte, 10_000)...)
	copy(want[15_000:], "marker")
	if !bytes.Equal(read(t, name), want) {
		t.Errorf("the file has other bytes")
	}
}

func TestTargetCreated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	dangling := link(t, os.Symlink, real)
	target := openTarget(t, dangling, blockio.TargetOptions{Size: 1 << 30})
	info, err := os.Lstat(real)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != 1<<30 || target.Size() != 1<<30 || info.Mode() != 0o600 || info.Sys().(*syscall.Stat_t).Blocks > 16 {
		t.Errorf("created with %d bytes, mode %v, %d blocks", info.Size(), info.Mode(), info.Sys().(*syscall.Stat_t).Blocks)
	}
}

func TestTargetDevice(t *testing.T) {
	t.Parallel()
	file := ext4(t)
	dev := loop(t, file)
	t.Run("free", func(t *testing.T) {
		target := openTarget(t, dev, blockio.TargetOptions{})
		if !target.IsBlock() || target.Size() != 16<<20 {
			t.Errorf("block %v, size %d", target.IsBlock(), target.Size())
		}
		writeTarget(t, target, 12345)
		wantPathError(t, target.Extend(16<<20+1), syscall.ENOSPC, dev)
		_, err := blockio.OpenTarget(dev, blockio.TargetOptions{})
		wantPathError(t, err, syscall.EBUSY, dev)
	})
	t.Run("mounted", func(t *testing.T) {
		dev := loop(t, ext4(t))
		mount(t, dev)
		_, err := blockio.OpenTarget(dev, blockio.TargetOptions{})
		wantPathError(t, err, syscall.EBUSY, dev)
		openTarget(t, dev, blockio.TargetOptions{Shared: true})
	})
}

func TestTargetRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	loopLink := filepath.Join(dir, "a")
	if err := os.Symlink("a", loopLink); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(tmpfs(t, "1m"), "long")
	for _, test := range []struct {
		name, file string
		size       int64
		want       error
	}{
		{"directory", dir, 1, blockio.ErrFileType},
		{"character device", "/dev/null", 1, blockio.ErrFileType},
		{"pipe", pipe, 1, blockio.ErrFileType},
		{"mistyped device", "/dev/o2image-no-such", 1, fs.ErrNotExist},
		{"link to a mistyped device", link(t, os.Symlink, "/dev/o2image-no-such"), 1, fs.ErrNotExist},
		{"no such directory", filepath.Join(dir, "no", "such"), 1, fs.ErrNotExist},
		{"links in a circle", loopLink, 1, syscall.ELOOP},
		{"no such length", long, -1, syscall.EINVAL},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := blockio.OpenTarget(test.file, blockio.TargetOptions{Size: test.size})
			wantPathError(t, err, test.want, test.file)
		})
	}
	if _, err := os.Lstat(long); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
	if _, err := os.Lstat("/dev/o2image-no-such"); !os.IsNotExist(err) {
		t.Errorf("created under /dev: %v", err)
	}
}

// TestTargetWriteZeros zeroes the middle of a file and of a device, and of a
// file on a file system that has no faster way.
func TestTargetWriteZeros(t *testing.T) {
	const size, from, n = 1 << 20, 4096, 700_000 / 512 * 512
	ones := bytes.Repeat([]byte{0xFF}, size)
	want := slices.Clone(ones)
	clear(want[from : from+n])
	file := filepath.Join(t.TempDir(), "file")
	device := sparse(t, filepath.Join(t.TempDir(), "device"), size)
	for name, path := range map[string]string{
		"ext4":  file,
		"loop":  loop(t, device),
		"tmpfs": filepath.Join(tmpfs(t, "4m"), "file"),
	} {
		t.Run(name, func(t *testing.T) {
			if name != "loop" {
				if err := os.WriteFile(path, ones, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			target, err := blockio.OpenTarget(path, blockio.TargetOptions{Size: size})
			if err != nil {
				t.Fatal(err)
			}
			defer target.Close()
			if _, err := target.WriteAt(ones, 0); err != nil {
				t.Fatal(err)
			}
			if err := target.WriteZeros(from, n); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, size)
			if _, err := target.ReadAt(got, 0); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) || target.Size() != size {
				t.Errorf("%d bytes, of which the wrong ones are zero", target.Size())
			}
		})
	}
}

// TestTargetCreatedZeros wants a hole where a new file is made zero.
func TestTargetCreatedZeros(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	target, err := blockio.OpenTarget(path, blockio.TargetOptions{Size: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if err := target.WriteZeros(0, 64<<20); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks; used != 0 || info.Size() != 64<<20 {
		t.Errorf("%d bytes, %d blocks in use", info.Size(), used)
	}
}

// TestTargetTruncate makes a file shorter, and no block device.
func TestTargetTruncate(t *testing.T) {
	t.Parallel()
	file := sparse(t, filepath.Join(t.TempDir(), "f"), 1<<20)
	target := openTarget(t, file, blockio.TargetOptions{})
	for _, size := range []int64{2 << 20, 5000} {
		if err := target.Truncate(size); err != nil || target.Size() != min(size, 1<<20) {
			t.Errorf("to %d: %d bytes, %v", size, target.Size(), err)
		}
	}
	if got := read(t, file); len(got) != 5000 {
		t.Errorf("%d bytes", len(got))
	}
	dev := openTarget(t, loop(t, sparse(t, filepath.Join(t.TempDir(), "f"), 1<<20)), blockio.TargetOptions{})
	if err := dev.Truncate(5000); err != nil || dev.Size() != 1<<20 {
		t.Errorf("device: %d bytes, %v", dev.Size(), err)
	}
}

// TestTargetDiscard removes a file only if it was not there before.
func TestTargetDiscard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, keep := range map[string]bool{"new": false, "old": true} {
		path := filepath.Join(dir, name)
		if keep {
			write(t, path, []byte("old"))
		}
		target, err := blockio.OpenTarget(path, blockio.TargetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := target.Discard(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); (err == nil) != keep {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHeld sees what a mount holds.
func TestHeld(t *testing.T) {
	t.Parallel()
	dev := loop(t, ext4(t))
	check := func(want bool) {
		t.Helper()
		if held, err := blockio.Held(dev); held != want || err != nil {
			t.Errorf("%v, %v, want %v", held, err, want)
		}
	}
	check(false)
	t.Run("mounted", func(t *testing.T) {
		mount(t, dev)
		check(true)
	})
	check(false)
}
