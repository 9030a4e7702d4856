// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"o2image"
	"o2image/image"
	"o2image/internal/ocfs2test"
)

// unzstd returns what the zstd program makes of a file.
func unzstd(t *testing.T, path string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "zstd", "-dc", path).Output()
	if err != nil {
		t.Fatalf("zstd -dc %s: %v", path, err)
	}
	return out
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// throughPipe makes an image through a pipe.
func throughPipe(t *testing.T, device string, opts o2image.CreateOptions) []byte {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	opts.Time = made
	failed := make(chan error, 1)
	go func() {
		_, err := o2image.CreateTo(t.Context(), device, w, opts)
		failed <- errors.Join(err, w.Close())
	}()
	b, err := io.ReadAll(r)
	if err := errors.Join(err, <-failed); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestZstd wants of a compressed image that the zstd program makes the plain one
// of it, and that it reads, converts and restores like the plain one.
func TestZstd(t *testing.T) {
	for _, name := range []string{"xattr-b512", "dx-tree-b1k", "min-b512-c4k"} {
		for _, raw := range []bool{false, true} {
			t.Run(name+map[bool]string{false: "/packed", true: "/raw"}[raw], func(t *testing.T) {
				t.Parallel()
				vol := ocfs2test.Unpack(t, name)
				opts := o2image.CreateOptions{Raw: raw}
				plain := create(t, vol.Path, opts)
				want := readFile(t, plain)
				opts.Zstd = 3
				small := create(t, vol.Path, opts)
				if !bytes.Equal(unzstd(t, small), want) {
					t.Fatal("zstd -d does not give the plain image")
				}
				if got := readFile(t, small); len(got) >= len(want)/2 {
					t.Errorf("%d bytes of %d", len(got), len(want))
				} else if !bytes.Equal(got, throughPipe(t, vol.Path, opts)) {
					t.Error("through a pipe it is another")
				}
				if diff := gocmp.Diff(describe(t, plain), describe(t, small)); diff != "" {
					t.Errorf("it reads otherwise (-plain +compressed):\n%s", diff)
				}
				sameContents(t, open(t, plain), open(t, small))

				convert := func(from string, level int) string {
					path := filepath.Join(t.TempDir(), "other")
					if _, err := o2image.Convert(t.Context(), from, path, o2image.ConvertOptions{Time: made, Zstd: level}); err != nil {
						t.Fatal(err)
					}
					return path
				}
				other := readFile(t, convert(plain, 0))
				if !bytes.Equal(readFile(t, convert(small, 0)), other) || !bytes.Equal(unzstd(t, convert(small, 9)), other) {
					t.Error("it converts otherwise")
				}

				dir := t.TempDir()
				for _, from := range []string{plain, small} {
					if _, err := o2image.Restore(t.Context(), filepath.Join(dir, filepath.Base(filepath.Dir(from))), from, o2image.RestoreOptions{Raw: raw}); err != nil {
						t.Fatal(err)
					}
				}
				restored, err := filepath.Glob(filepath.Join(dir, "*"))
				if err != nil || len(restored) != 2 {
					t.Fatal(restored, err)
				}
				if !bytes.Equal(readFile(t, restored[0]), readFile(t, restored[1])) {
					t.Error("it restores otherwise")
				}
			})
		}
	}
}

// sameContents reads every block of a volume from two images.
func sameContents(t *testing.T, a, b *o2image.Source) {
	t.Helper()
	sb := a.Volume().Super()
	bs := sb.BlockSize()
	p, q := make([]byte, bs), make([]byte, bs)
	for i := range sb.Blocks() {
		// All over the volume: 7919 is a prime.
		blkno := i * 7919 % sb.Blocks()
		if i > 4096 {
			return
		}
		_, errA := a.ReadAt(p, int64(blkno)*int64(bs))
		_, errB := b.ReadAt(q, int64(blkno)*int64(bs))
		if errors.Is(errA, image.ErrAbsent) != errors.Is(errB, image.ErrAbsent) || errA == nil && !bytes.Equal(p, q) {
			t.Fatalf("block %d differs: %v, %v", blkno, errA, errB)
		}
	}
}

// TestZstdRefuses wants no compressed image on a device, none with an unknown
// level, and none as the source of another.
func TestZstdRefuses(t *testing.T) {
	vol := ocfs2test.Unpack(t, "plain-b1k")
	device := ocfs2test.Loop(t, vol.Copy(t))
	if _, err := o2image.Create(t.Context(), vol.Path, device, o2image.CreateOptions{Zstd: 3, Force: true}); !errors.Is(err, o2image.ErrDeviceZstd) {
		t.Errorf("on a device: %v", err)
	}
	dir := t.TempDir()
	if _, err := o2image.Create(t.Context(), vol.Path, filepath.Join(dir, "image"), o2image.CreateOptions{Zstd: 99}); err == nil {
		t.Error("level 99 is taken")
	}
	small := create(t, vol.Path, o2image.CreateOptions{Zstd: 1})
	if _, err := o2image.Create(t.Context(), small, filepath.Join(dir, "image"), o2image.CreateOptions{}); !errors.Is(err, o2image.ErrPackedSource) {
		t.Errorf("of an image: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestZstdCut wants that no part of a compressed image opens.
func TestZstdCut(t *testing.T) {
	for _, raw := range []bool{false, true} {
		path := create(t, ocfs2test.Unpack(t, "plain-b1k").Path, o2image.CreateOptions{Raw: raw, Zstd: 1})
		for size := int64(len(readFile(t, path)) - 1); size > 0; size /= 3 {
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			if src, err := o2image.Open(t.Context(), path); err == nil {
				t.Errorf("%d bytes open", size)
				src.Close()
			}
		}
	}
}
