// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"o2image"
	"o2image/internal/ocfs2test"
	"o2image/internal/ocfs2test/volpack"
)

// mounted is a restored volume that the kernel is to mount, and what it must
// find there.
type mounted struct {
	what    string
	request ocfs2test.MountRequest
	want    []ocfs2test.Entry
}

// withoutInline returns a manifest without the hashes of files that lie within
// their inode.
func withoutInline(manifest []ocfs2test.Entry) []ocfs2test.Entry {
	list := slices.Clone(manifest)
	for i := range list {
		if list[i].Inline {
			list[i].SHA256 = ""
		}
	}
	return list
}

// valuesOutside returns where the values of attributes lie that are kept in
// clusters of their own: contents, which no image has.
func valuesOutside(t testing.TB, vol *ocfs2test.Volume) []ocfs2test.Range {
	t.Helper()
	v := open(t, vol.Path).Volume()
	var ranges []ocfs2test.Range
	for f, err := range v.Walk(t.Context()) {
		if err != nil {
			t.Fatalf("%s: %v", f.Path, err)
		}
		for x, err := range v.Xattrs(t.Context(), f.Inode) {
			if err != nil {
				t.Fatalf("%s: %v", f.Path, err)
			}
			for e, err := range v.XattrExtents(t.Context(), x) {
				if err != nil {
					t.Fatalf("%s: %v", f.Path, err)
				}
				ranges = append(ranges, ocfs2test.Range{Offset: e.Blkno << v.Super().BlockBits, Length: e.Blocks << v.Super().BlockBits})
			}
		}
	}
	return ranges
}

// TestRestore restores images of every volume and has fsck.ocfs2 and the kernel
// judge the result: an exact and a default image onto a device that holds only
// the contents of files, and a default image onto the volume itself.
func TestRestore(t *testing.T) {
	var (
		mu   sync.Mutex
		list []mounted
	)
	dir := t.TempDir() // the folders of the volumes' tests are gone when the virtual machine mounts
	mount := func(t *testing.T, what string, vol *ocfs2test.Volume, path string, want []ocfs2test.Entry) {
		keep := filepath.Join(dir, vol.Name+"-"+what)
		if err := os.Rename(path, keep); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		list = append(list, mounted{
			what: vol.Name + ": " + what, want: want,
			request: ocfs2test.MountRequest{Path: keep, Options: vol.MountOptions(), Pre: vol.Pre},
		})
	}
	t.Run("volumes", func(t *testing.T) {
		forVolumes(t, func(t *testing.T, vol *ocfs2test.Volume) {
			fsck := ocfs2test.Fsck(t, vol.Path)
			extra := valuesOutside(t, vol)
			if vol.Size > 1<<40 { // its zeros fill a disk: only where they are holes
				path := filepath.Join(t.TempDir(), "new")
				image := create(t, vol.Path, o2image.CreateOptions{Exact: true})
				if _, err := o2image.Restore(t.Context(), path, image, o2image.RestoreOptions{}); err != nil {
					t.Fatal(err)
				}
				if got := ocfs2test.Fsck(t, path); got != fsck {
					t.Errorf("fsck.ocfs2 after restoring (-volume +restored):\n%s", gocmp.Diff(fsck, got))
				}
				copyData(t, ocfs2test.DataOnly(t, vol, extra...), path)
				mount(t, "new", vol, path, vol.Manifest)
				return
			}
			for _, exact := range []bool{true, false} {
				image := create(t, vol.Path, o2image.CreateOptions{Exact: exact})
				path := ocfs2test.DataOnly(t, vol, extra...)
				device := ocfs2test.Loop(t, path)
				if _, err := o2image.Restore(t.Context(), device, image, o2image.RestoreOptions{}); err != nil {
					t.Fatalf("exact %v: %v", exact, err)
				}
				if got := ocfs2test.Fsck(t, path); got != fsck {
					t.Errorf("fsck.ocfs2 after restoring, exact %v (-volume +restored):\n%s", exact, gocmp.Diff(fsck, got))
				}
				if !vol.Populated() {
					continue
				}
				if exact {
					mount(t, "exact", vol, path, vol.Manifest)
				} else {
					mount(t, "default", vol, path, withoutInline(vol.Manifest))
				}
			}
			restoreOverItself(t, vol, func(path string) {
				if vol.Populated() {
					mount(t, "itself", vol, path, vol.Manifest)
				}
			})
		})
	})
	requests := make([]ocfs2test.MountRequest, len(list))
	for i, m := range list {
		requests[i] = m.request
	}
	for i, result := range ocfs2test.MountAll(t, requests) {
		m := list[i]
		if result.Err != nil {
			t.Errorf("%s: %v\n%s", m.what, result.Err, result.Kernel)
			continue
		}
		got := result.Manifest
		if m.want[0].SHA256 == "" {
			got = blank(m.want, got)
		}
		if diff := ocfs2test.DiffManifests(m.want, got); diff != "" {
			t.Errorf("%s (-was +is):\n%s", m.what, diff)
		}
	}
}

// copyData copies what is not a hole in one file to another.
func copyData(t *testing.T, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	for _, r := range dataRuns(t, src) {
		if err := volpack.CopyRun(dst, src, volpack.Run{Offset: r[0], Length: r[1] - r[0]}); err != nil {
			t.Fatal(err)
		}
	}
}

// blank takes the hashes out of got that want does not have.
func blank(want, got []ocfs2test.Entry) []ocfs2test.Entry {
	unknown := map[string]bool{}
	for _, e := range want {
		unknown[e.Path] = e.SHA256 == ""
	}
	got = slices.Clone(got)
	for i := range got {
		if unknown[got[i].Path] {
			got[i].SHA256 = ""
		}
	}
	return got
}

// restoreOverItself restores a default image over a copy of its own volume: no
// file may lose its contents. A volume with a dirty journal is refused, and
// untouched.
func restoreOverItself(t *testing.T, vol *ocfs2test.Volume, restored func(path string)) {
	t.Helper()
	path := vol.Copy(t)
	image := create(t, path, o2image.CreateOptions{})
	_, err := o2image.Restore(t.Context(), path, image, o2image.RestoreOptions{})
	if dirty(t, path) {
		if !errors.Is(err, o2image.ErrOwnVolume) || !errors.Is(err, o2image.ErrNeedsForce) {
			t.Errorf("restoring over a dirty volume: %v", err)
		}
		sameFiles(t, vol.Path, path)
	} else if err != nil {
		t.Fatal(err)
	}
	restored(path)
}

func dirty(t *testing.T, path string) bool {
	t.Helper()
	slots, err := open(t, path).Volume().Slots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slots {
		if s.Dirty {
			return true
		}
	}
	return false
}

// TestRestoreUpstream restores an image of 1.8.7 with ours, and ours with 1.8.7.
func TestRestoreUpstream(t *testing.T) {
	for _, name := range []string{"plain-b1k", "old-b1k", "dx-inline", "reflink-b4k", "deep-b512"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vol := ocfs2test.Unpack(t, name)
			fsck := ocfs2test.Fsck(t, vol.Path)
			theirs := filepath.Join(t.TempDir(), "theirs")
			if r := ocfs2test.Upstream(t, vol.Path, theirs); r.Exit != 0 {
				t.Fatal(r)
			}
			target := filepath.Join(t.TempDir(), "target")
			if _, err := o2image.Restore(t.Context(), target, theirs, o2image.RestoreOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := ocfs2test.Fsck(t, target); got != fsck {
				t.Errorf("their image, restored by us (-volume +restored):\n%s", gocmp.Diff(fsck, got))
			}
			ours := create(t, vol.Path, o2image.CreateOptions{Exact: true})
			target = filepath.Join(t.TempDir(), "target")
			if r := ocfs2test.Upstream(t, "-I", target, ours); r.Exit != 0 {
				t.Fatal(r)
			}
			if got := ocfs2test.Fsck(t, target); got != fsck {
				t.Errorf("our image, restored by 1.8.7 (-volume +restored):\n%s", gocmp.Diff(fsck, got))
			}
		})
	}
}
