// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"path/filepath"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"o2image"
	"o2image/internal/ocfs2test"
)

// TestSkip restores images without free blocks and clean journals, and has
// fsck.ocfs2, debugfs.ocfs2 and the kernel judge them.
func TestSkip(t *testing.T) {
	skip := o2image.Skip{Free: true, JournalClean: true}
	var list []mounted
	dir := t.TempDir()
	for _, name := range []string{"plain-b1k", "discontig", "xattr-b512", "orphans", "crash", "min-b4k-c4k"} {
		vol := ocfs2test.Unpack(t, name)
		image := create(t, vol.Path, o2image.CreateOptions{Skip: skip, Exact: true})
		whole := create(t, vol.Path, o2image.CreateOptions{Exact: true})
		if small, large := len(readFile(t, image)), len(readFile(t, whole)); small >= large {
			t.Errorf("%s: %d bytes, the whole image has %d", name, small, large)
		}
		want := ocfs2test.Debugfs(t, whole, true, "stats", "ls -l /", "ls -l //", "stat //journal:0000")
		if got := ocfs2test.Debugfs(t, image, true, "stats", "ls -l /", "ls -l //", "stat //journal:0000"); got != want {
			t.Errorf("%s: debugfs.ocfs2 (-whole +image):\n%s", name, gocmp.Diff(want, got))
		}
		path := filepath.Join(dir, name)
		report, err := o2image.Restore(t.Context(), path, image, o2image.RestoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Skipped) == 0 || len(report.Warnings) == 0 {
			t.Errorf("%s: the report of the restore does not say what the image lacks: %+v", name, report)
		}
		copyData(t, ocfs2test.DataOnly(t, vol, valuesOutside(t, vol)...), path)
		want = ocfs2test.Fsck(t, vol.Path)
		if got := ocfs2test.Fsck(t, path); got != want {
			t.Errorf("%s: fsck.ocfs2 (-volume +restored):\n%s", name, gocmp.Diff(want, got))
		}
		if vol.Populated() {
			list = append(list, mounted{what: name, want: vol.Manifest, request: ocfs2test.MountRequest{
				Path: path, Options: vol.MountOptions(), Pre: vol.Pre,
			}})
		}
	}
	requests := make([]ocfs2test.MountRequest, len(list))
	for i, m := range list {
		requests[i] = m.request
	}
	for i, result := range ocfs2test.MountAll(t, requests) {
		if result.Err != nil {
			t.Errorf("%s: %v\n%s", list[i].what, result.Err, result.Kernel)
		} else if diff := ocfs2test.DiffManifests(list[i].want, result.Manifest); diff != "" {
			t.Errorf("%s (-was +is):\n%s", list[i].what, diff)
		}
	}
}
