// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"o2image/internal/ocfs2test"
)

// countedReads counts reads, and fails those of one block.
type countedReads struct {
	r     io.ReaderAt
	mu    sync.Mutex
	reads int
	bad   int64 // offset of a byte that cannot be read, 0 if all can
}

func (c *countedReads) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	c.reads++
	c.mu.Unlock()
	if off <= c.bad && c.bad < off+int64(len(p)) {
		return 0, syscall.EIO
	}
	return c.r.ReadAt(p, off)
}

// TestChildren has the inodes of a directory read many at once, the names in the
// order of the directory, and what cannot be read named without keeping back the
// rest.
func TestChildren(t *testing.T) {
	t.Parallel()
	f, err := os.Open(ocfs2test.Unpack(t, "shredded").Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := &countedReads{r: f}
	v, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	dir := largest(t, v)
	var names []string
	var inos []uint64
	for e, err := range v.ReadDir(t.Context(), dir.Inode) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Ino != 0 && !e.IsDot() {
			names, inos = append(names, string(e.Name)), append(inos, e.Ino)
		}
	}
	if len(names) < 3*readAhead {
		t.Fatalf("the largest directory has %d names", len(names))
	}
	for _, tt := range []struct {
		name string
		list func(yield func(File, error) bool)
	}{
		{"children", v.Children(t.Context(), dir)},
		{"walk", v.WalkFrom(t.Context(), dir)},
	} {
		for _, bad := range []int{-1, len(inos) / 2} {
			c.reads, c.bad = 0, 0
			if bad >= 0 {
				c.bad = int64(inos[bad]) << v.sb.BlockBits
			}
			i := 0
			for f, err := range tt.list {
				if f.Path == dir.Path || strings.Count(strings.TrimPrefix(f.Path, dir.Path+"/"), "/") > 0 {
					continue // itself, and what lies in its directories
				}
				if i == len(names) || strings.TrimPrefix(f.Path, dir.Path+"/") != names[i] {
					t.Fatalf("%s: name %d is %s", tt.name, i, f.Path)
				}
				switch {
				case bad >= 0 && inos[i] == inos[bad]:
					if errors.Is(err, syscall.EIO) {
						break
					}
					t.Errorf("%s: inode %d cannot be read: %v", tt.name, inos[i], err)
				case err != nil || f.Inode.Blkno() != inos[i]:
					t.Errorf("%s: inode %d: got %d, %v", tt.name, inos[i], f.Inode.Blkno(), err)
				}
				i++
			}
			if i != len(names) {
				t.Errorf("%s: %d of %d files", tt.name, i, len(names))
			}
			if bad < 0 && c.reads > len(names)/10 {
				t.Errorf("%s: %d reads for %d files", tt.name, c.reads, len(names))
			}
		}
	}
}

// largest returns the directory with the most names.
func largest(t *testing.T, v *Volume) (dir File) {
	t.Helper()
	count := make(map[string]int)
	var dirs []File
	for f, err := range v.Walk(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		count[f.Path[:max(1, strings.LastIndex(f.Path, "/"))]]++
		if f.Inode.IsDir() {
			dirs = append(dirs, f)
		}
	}
	return slices.MaxFunc(dirs, func(a, b File) int { return count[a.Path] - count[b.Path] })
}
