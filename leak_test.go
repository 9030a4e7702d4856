// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

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

// TestPointerToData damages the first pointer of files whose blocks bear no marks, and
// of allocators, so that they claim what files hold, or what is free and holds what a
// deleted file had.
func TestPointerToData(t *testing.T) {
	for _, c := range []struct {
		volume, file string
		free         bool
	}{
		{"nometaecc", "journal:0000", false},
		{"nometaecc", "journal:0000", true},
		{"metaecc", "journal:0000", true},
		{"plain-c64k", "journal:0000", false},
		{"plain-b512", "journal:0000", true},
		{"max-features", "aquota.user", false},
		{"quota", "aquota.group", true},
		{"nometaecc", "inode_alloc:0000", false}, // the chain record lies where an extent record would
		{"metaecc", "extent_alloc:0000", false},
		{"plain-c64k", "inode_alloc:0000", true},
	} {
		where := "data"
		if c.free {
			where = "free clusters"
		}
		t.Run(c.volume+"/"+c.file+" to "+where, func(t *testing.T) {
			t.Parallel()
			l := newLeakTest(t, c.volume)
			d, err := l.v.SystemFile(t.Context(), c.file)
			if err != nil {
				t.Fatal(err)
			}
			if d.Union() == ocfs2.UnionExtents && (d.LastExtentBlk() != 0 || d.Extents().Len() == 0) {
				t.Fatal("the inode does not hold its extents")
			}
			at := l.data
			if c.free {
				at = l.free
			}
			l.point(t, d, at(t))
			b, report := l.image(t)
			marker := contents[:23]
			if bytes.Contains(b, marker) {
				t.Error("contents are in the image")
			}
			if report.Redacted.Blocks == 0 {
				t.Error("nothing was withheld")
			}
			if !report.Incomplete() {
				t.Error("the blocks of the file are not said to be missing")
			}
			named := false
			for _, f := range report.Findings {
				named = named || f.Inode == d.Blkno() && f.Severity == volume.NotFollowed
			}
			if !named {
				t.Errorf("no finding names inode %d: %v", d.Blkno(), report.Findings)
			}
			out := filepath.Join(t.TempDir(), "exact")
			exact, err := o2image.Create(t.Context(), l.path, out, o2image.CreateOptions{Exact: true})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(exact.Classes, report.Classes); diff != "" {
				t.Errorf("blocks (-exact +default):\n%s", diff)
			}
			if all, err := os.ReadFile(out); err != nil || !bytes.Contains(all, marker) {
				t.Errorf("contents are not in the exact image: %v", err)
			}
		})
	}
}

// data fills an extent of a file with contents, and returns its first block.
func (l *leakTest) data(t *testing.T) uint64 {
	t.Helper()
	for f, err := range l.v.Walk(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !f.Inode.IsRegular() || f.Inode.Clusters() == 0 {
			continue
		}
		for x, err := range l.v.Extents(t.Context(), f.Inode) {
			if err != nil {
				t.Fatal(err)
			}
			bits := l.v.Super().BlockBits
			if _, err := l.f.WriteAt(contents[:min(x.Blocks<<bits, uint64(len(contents)))], int64(x.Blkno)<<bits); err != nil { //nolint:gosec // inside the volume
				t.Fatal(err)
			}
			return x.Blkno
		}
	}
	t.Fatal("no file has clusters")
	return 0
}

// free fills a free cluster with contents, and returns its first block.
func (l *leakTest) free(t *testing.T) uint64 {
	t.Helper()
	sb := l.v.Super()
	b, err := l.v.ReadBlock(t.Context(), sb.FirstClusterGroup)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range ocfs2.AsGroupDesc(b).Bitmap().ClearRuns() {
		blkno := uint64(bit) * sb.BlocksPerCluster() //nolint:gosec // not negative
		if _, err := l.f.WriteAt(contents[:sb.ClusterSize()], int64(blkno)<<sb.BlockBits); err != nil {
			t.Fatal(err)
		}
		return blkno
	}
	t.Fatal("nothing is free")
	return 0
}

// TestNoBackup has a volume say that it has backup superblocks, where there is data.
func TestNoBackup(t *testing.T) {
	const offCompat = 0xDC
	l := newLeakTest(t, "nobackup")
	sb := l.v.Super()
	blkno := ocfs2.BackupBlknos(sb.Geometry)[0]
	for _, patch := range []struct {
		off uint64
		b   []byte
	}{
		{ocfs2.SuperBlockBlkno<<sb.BlockBits + offCompat, []byte{byte(sb.Compat | ocfs2.CompatBackupSB)}},
		{blkno << sb.BlockBits, contents[:sb.BlockSize()]},
	} {
		if _, err := l.f.WriteAt(patch.b, int64(patch.off)); err != nil { //nolint:gosec // inside the volume
			t.Fatal(err)
		}
	}
	b, report := l.image(t)
	if bytes.Contains(b, contents[:23]) {
		t.Error("contents are in the image")
	}
	if report.Redacted.Blocks != 1 || report.Found == 0 {
		t.Errorf("%d blocks withheld, %d findings", report.Redacted.Blocks, report.Found)
	}
}

// point has the first extent of d begin at block blkno.
func (l *leakTest) point(t *testing.T, d ocfs2.Dinode, blkno uint64) {
	t.Helper()
	const offBlkno = 0xC0 + 0x10 + 8 // id2.i_list, l_recs, e_blkno
	b := bytes.Clone(d.Bytes())
	binary.LittleEndian.PutUint64(b[offBlkno:], blkno)
	if l.v.Super().HasECC() {
		ocfs2.KindInode.UpdateECC(b)
	}
	if _, err := l.f.WriteAt(b, int64(d.Blkno())<<l.v.Super().BlockBits); err != nil { //nolint:gosec // inside the volume
		t.Fatal(err)
	}
}
