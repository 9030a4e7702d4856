// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package redact_test

import (
	"bytes"
	"os"
	"testing"

	"o2image/internal/ocfs2test"
	"o2image/ocfs2"
	"o2image/redact"
	"o2image/volume"
)

// blocks are metadata blocks that Linux wrote, on a volume with check values.
type blocks struct {
	sb                      *ocfs2.SuperBlock
	inline, dir, link, file []byte
}

// open finds one block of each kind.
func open(t testing.TB) blocks {
	t.Helper()
	f, err := os.Open(ocfs2test.Unpack(t, "metaecc").Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := volume.Open(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	b := blocks{sb: v.Super()}
	for f, err := range v.Walk(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		d := f.Inode
		switch {
		case d.IsRegular() && d.Union() == ocfs2.UnionInlineData && d.Size() > 100:
			b.inline = d.Bytes()
		case d.IsDir() && d.Union() == ocfs2.UnionInlineData:
			b.dir = d.Bytes()
		case d.IsSymlink():
			b.link = d.Bytes()
		case d.IsRegular() && d.Union() == ocfs2.UnionExtents:
			b.file = d.Bytes()
		}
	}
	if b.inline == nil || b.dir == nil || b.link == nil || b.file == nil {
		t.Fatal("the volume lacks a kind of inode")
	}
	return b
}

// Offsets in struct ocfs2_dinode.
const (
	offGeneration  = 0x08
	offMode        = 0x28
	offFlags       = 0x2C
	offBlkno       = 0x50
	offDynFeatures = 0x76
	offData        = 0xC8
)

// changed returns a copy of b with one byte changed.
func changed(b []byte, off int) []byte {
	b = bytes.Clone(b)
	b[off] ^= 0x01
	return b
}

func valid(b []byte) bool {
	state, _ := ocfs2.KindInode.VerifyECC(b)
	return state == ocfs2.ECCValid
}

func TestBlock(t *testing.T) {
	b := open(t)
	deleted := bytes.Clone(b.inline)
	clear(deleted[offFlags : offFlags+4])
	ocfs2.KindInode.UpdateECC(deleted)
	linkAsFile := bytes.Clone(b.link)
	linkAsFile[offMode+1] = linkAsFile[offMode+1]&0x0F | ocfs2.ModeRegular>>8
	noise := bytes.Repeat([]byte("contents of a file "), 1000)[:len(b.inline)]
	for _, c := range []struct {
		name    string
		block   []byte
		redacts bool
	}{
		{"inline file", b.inline, true},
		{"deleted inline file", deleted, true},
		{"copy in a journal, elsewhere", changed(b.inline, offBlkno), true},
		{"wrong check value", changed(b.inline, offData+7), true},
		{"inline directory", b.dir, false},
		{"symlink", b.link, false},
		{"symlink whose mode says file", linkAsFile, false},
		{"file with extents", b.file, false},
		{"no structure", noise, false},
		{"zeros", make([]byte, len(b.inline)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := bytes.Clone(c.block)
			n := redact.New(b.sb).Block(got)
			if !c.redacts {
				if n != 0 || !bytes.Equal(got, c.block) || redact.Redacted(got) {
					t.Errorf("%d bytes redacted", n)
				}
				return
			}
			data := ocfs2.AsDinode(got).InlineData()
			if size := int(ocfs2.AsDinode(got).Size()); n < size || n > len(data) {
				t.Errorf("%d bytes redacted of a file of %d", n, size)
			}
			if len(bytes.Trim(data, "\x00")) > 0 || !redact.Redacted(got) {
				t.Error("contents are left")
			}
			if valid(got) != valid(c.block) {
				t.Errorf("check value right: before %v, now %v", valid(c.block), valid(got))
			}
			// Nothing but contents and check value may differ.
			end := offData + len(data)
			if !bytes.Equal(got[:0x80], c.block[:0x80]) || !bytes.Equal(got[0x88:offData], c.block[0x88:offData]) || !bytes.Equal(got[end:], c.block[end:]) {
				t.Error("more than the contents changed")
			}
			if n := redact.New(b.sb).Block(got); n != 0 {
				t.Errorf("the second time %d bytes are redacted", n)
			}
		})
	}
}

// TestContentsWithoutFlag takes away all that says that an inode holds contents.
func TestContentsWithoutFlag(t *testing.T) {
	b := open(t)
	got := bytes.Clone(b.inline)
	got[offDynFeatures] &^= byte(ocfs2.DynInlineData)
	if n, size := redact.New(b.sb).Block(got), int(ocfs2.AsDinode(got).Size()); n < size {
		t.Errorf("%d bytes redacted of a file of %d", n, size)
	}
}

func TestKeep(t *testing.T) {
	b := open(t)
	r := redact.New(b.sb)
	redacted := bytes.Clone(b.inline)
	r.Block(redacted)
	for _, c := range []struct {
		name       string
		block, old []byte
		keeps      bool
	}{
		{"same inode", redacted, b.inline, true},
		{"same inode, changed since", redacted, changed(b.inline, offData+3), true},
		{"other generation", redacted, changed(b.inline, offGeneration), false},
		{"other inode", redacted, changed(b.inline, offBlkno), false},
		{"now a directory", redacted, b.dir, false},
		{"nothing there", redacted, make([]byte, len(redacted)), false},
		{"redacted there too", redacted, redacted, false},
		{"not redacted", b.inline, changed(b.inline, offData+3), false},
		{"not a file", b.dir, b.inline, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := bytes.Clone(c.block)
			if kept := r.Keep(got, c.old); kept != c.keeps {
				t.Fatalf("kept: %v", kept)
			}
			if !c.keeps {
				if !bytes.Equal(got, c.block) {
					t.Error("the block was changed")
				}
				return
			}
			if !bytes.Equal(ocfs2.AsDinode(got).InlineData(), ocfs2.AsDinode(c.old).InlineData()) {
				t.Error("the contents are not those of the old block")
			}
			if !valid(got) {
				t.Error("wrong check value")
			}
		})
	}
}

// FuzzBlock wants no panic, and no second change, whatever a block holds.
func FuzzBlock(f *testing.F) {
	b := open(f)
	for _, seed := range [][]byte{b.inline, b.dir, b.link, b.file, nil, make([]byte, 512)} {
		f.Add(seed, b.inline)
	}
	f.Fuzz(func(t *testing.T, block, old []byte) {
		r := redact.New(b.sb)
		r.Block(block)
		if n := r.Block(block); n != 0 {
			t.Errorf("the second time %d bytes are redacted", n)
		}
		r.Keep(block, old)
	})
}
