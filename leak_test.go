// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"o2image"
	"o2image/internal/ocfs2test"
	"o2image/ocfs2"
	"o2image/volume"
)

// contents stand for data of a file that was deleted, or belongs to another one.
var contents = bytes.Repeat([]byte("what nobody is to read. "), 1<<16)

// leakTest is a volume whose copy is changed.
type leakTest struct {
	vol  *ocfs2test.Volume
	path string
	f    *os.File
	v    *volume.Volume
}

func newLeakTest(t *testing.T, name string) *leakTest {
	t.Helper()
	l := &leakTest{vol: ocfs2test.Unpack(t, name)}
	l.path = l.vol.Copy(t)
	var err error
	if l.f, err = os.OpenFile(l.path, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.f.Close() })
	if l.v, err = volume.Open(t.Context(), l.f); err != nil {
		t.Fatal(err)
	}
	return l
}

// fillBehind puts contents into the clusters of an inode behind the end of what
// it holds, and returns how many blocks those are.
func (l *leakTest) fillBehind(t *testing.T, d ocfs2.Dinode) (blocks uint64) {
	t.Helper()
	bs := uint64(l.v.Super().BlockSize())
	for x, err := range l.v.Extents(t.Context(), d) {
		if err != nil {
			t.Fatal(err)
		}
		end := (x.Logical + x.Blocks) * bs
		from := min(max(x.Logical*bs, d.Size()+1), end)                                                                              // a zero ends a target
		if _, err := l.f.WriteAt(contents[:min(end-from, uint64(len(contents)))], int64(x.Blkno*bs+from-x.Logical*bs)); err != nil { //nolint:gosec // inside the volume
			t.Fatal(err)
		}
		blocks += (end - from) / bs
	}
	return blocks
}

// image makes a default image and returns its bytes, and the report.
func (l *leakTest) image(t *testing.T) ([]byte, *o2image.Report) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image")
	report, err := o2image.Create(t.Context(), l.path, out, o2image.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b, report
}

// TestBehindTheEnd fills what lies behind the targets of symlinks and behind
// quota files, which neither Linux nor mkfs.ocfs2 clears.
func TestBehindTheEnd(t *testing.T) {
	for _, name := range []string{"slowlinks", "quota"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLeakTest(t, name)
			blocks := uint64(0)
			for f, err := range l.v.Walk(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if f.Inode.IsSymlink() && f.Inode.Union() == ocfs2.UnionExtents {
					blocks += l.fillBehind(t, f.Inode)
				}
			}
			for _, file := range []string{"aquota.user", "aquota.group", "aquota.user:0000", "aquota.group:0000"} {
				if d, err := l.v.SystemFile(t.Context(), file); err == nil {
					blocks += l.fillBehind(t, d)
				}
			}
			if blocks == 0 {
				t.Fatal("nothing lies behind")
			}
			b, report := l.image(t)
			if bytes.Contains(b, []byte("nobody is to read")) {
				t.Error("contents are in the image")
			}
			if report.Found > 0 || report.Incomplete() {
				t.Errorf("findings: %v", report.Findings)
			}
		})
	}
}

// TestFileAsSymlink makes files with contents symlinks, by a bit of i_mode.
func TestFileAsSymlink(t *testing.T) {
	const offMode = 0x28
	for _, name := range []string{"nometaecc", "plain-c64k"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLeakTest(t, name)
			var files []uint64
			for f, err := range l.v.Walk(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				d := f.Inode
				if !d.IsRegular() || d.Clusters() == 0 || len(files) == 30 {
					continue
				}
				off := int64(d.Blkno()) * int64(l.v.Super().BlockSize()) //nolint:gosec // inside the volume
				mode := binary.LittleEndian.AppendUint16(nil, d.Mode()&0x0FFF|ocfs2.ModeSymlink)
				if _, err := l.f.WriteAt(mode, off+offMode); err != nil {
					t.Fatal(err)
				}
				files = append(files, d.Blkno())
			}
			b, report := l.image(t)
			for _, s := range l.vol.Secrets {
				if s.Class == "data" && bytes.Contains(b, []byte(s.Marker)) {
					t.Errorf("marker %s is in the image", s.Marker)
				}
			}
			named := map[uint64]bool{}
			for _, f := range report.Findings {
				named[f.Block] = true
			}
			for _, ino := range files {
				if !named[ino] {
					t.Errorf("no finding for inode %d", ino)
				}
			}
			if len(files) < 10 {
				t.Errorf("only %d files", len(files))
			}
		})
	}
}
