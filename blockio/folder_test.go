// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"o2image/blockio"
)

func TestFolder(t *testing.T) {
	t.Parallel()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"a", "a/b"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"dir": "a/b", "file": "dir/../new", "next": "file", "astray": "none/new"} {
		if err := os.Symlink(target, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"new": "", "dir/new": "a/b", "file": "a", "next": "a"} {
		if got, err := blockio.Folder(filepath.Join(top, name)); err != nil || got != filepath.Join(top, want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, filepath.Join(top, want))
		}
	}
	if got, err := blockio.Folder(filepath.Join(top, "astray")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to a folder that is not there: %q, %v", got, err)
	}
}
