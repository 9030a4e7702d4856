// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package redact_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"o2image/internal/ocfs2test"
	"o2image/ocfs2"
	"o2image/redact"
	"o2image/volume"
)

// TestWithholdNothing checks that no block of a sound volume in use is withheld:
// what is, is free.
func TestWithholdNothing(t *testing.T) {
	for _, name := range []string{"metaecc", "volume-512", "dx-tree-b1k", "xattr-b512", "old-b1k", "reflink-b1k"} {
		f, err := os.Open(ocfs2test.Unpack(t, name).Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		v, err := volume.Open(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		meta, err := v.Metadata(t.Context(), volume.Options{Skip: volume.Skip{Free: true}})
		if err != nil {
			t.Fatal(err)
		}
		r, kept := redact.New(v.Super()), 0
		for run := range meta.Blocks.All() {
			for blkno := run.Start; blkno < run.Start+run.Len; blkno++ {
				b, err := v.ReadBlock(t.Context(), blkno)
				if err != nil {
					t.Fatal(err)
				}
				was := bytes.Clone(b)
				if r.Withhold(b, blkno, volume.Class(run.Tag)) || !bytes.Equal(b, was) {
					t.Errorf("%s: block %d of class %s", name, blkno, volume.Class(run.Tag))
				}
				kept++
			}
		}
		if kept < 100 {
			t.Errorf("%s: %d blocks", name, kept)
		}
	}
}

// journal returns a block of a log, of the given type.
func journal(kind byte, rest []byte) []byte {
	return append([]byte{0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, kind, 0, 0, 0, 7}, rest[12:]...)
}

// names returns a block of a directory without a trailer, which holds one name.
func names(size int) []byte {
	b := append([]byte{100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1}, "name"...) // inode 100, a regular file
	binary.LittleEndian.PutUint16(b[8:], uint16(size))                   //nolint:gosec // a block
	return append(b, make([]byte, size-len(b))...)
}

func TestWithhold(t *testing.T) {
	b := open(t)
	r := redact.New(b.sb)
	text := []byte(strings.Repeat("file data, nothing else. ", 200))[:b.sb.BlockSize()]
	own := ocfs2.AsDinode(b.inline).Blkno()
	for name, c := range map[string]struct {
		block []byte
		class volume.Class
		want  bool
	}{
		"data as inodes":              {text, volume.ClassInode, true},
		"data as extent blocks":       {text, volume.ClassExtent, true},
		"data as directory":           {text, volume.ClassDirectory, true},
		"data as index":               {text, volume.ClassDxLeaf, true},
		"data beside buckets":         {text, volume.ClassSlack, true},
		"zeros":                       {make([]byte, len(text)), volume.ClassInode, false},
		"journal":                     {text, volume.ClassJournal, false},
		"data as a journal":           {text, volume.ClassDoubtful, true},
		"copy in a doubtful journal":  {changed(b.inline, offBlkno), volume.ClassDoubtful, false},
		"descriptor of a transaction": {journal(1, text), volume.ClassDoubtful, false},
		"data that begins as a log":   {journal(6, text), volume.ClassDoubtful, true},
		"names in a journal":          {names(len(text)), volume.ClassDoubtful, false},
		"inode":                       {b.file, volume.ClassInode, false},
		"inode of another place":      {changed(b.inline, offBlkno), volume.ClassInode, false},
		"inode without its signature": {changed(b.inline, 0), volume.ClassInode, false},
		"inode with two marks wrong":  {changed(changed(b.inline, 0), offBlkno), volume.ClassInode, true},
	} {
		t.Run(name, func(t *testing.T) {
			got := bytes.Clone(c.block)
			blkno := own
			if name == "inode" {
				blkno = ocfs2.AsDinode(b.file).Blkno()
			}
			if r.Withhold(got, blkno, c.class) != c.want || redact.IsWithheld(got) != c.want {
				t.Errorf("withheld %v, want %v", redact.IsWithheld(got), c.want)
			}
			if data := got[offData:]; name == "inode without its signature" && !bytes.Equal(data[:8], make([]byte, 8)) {
				t.Errorf("contents stay: %q", data[:8])
			}
		})
	}
}

// TestDoubtfulInline breaks the fields that tell that an inode holds the contents
// of a file: they are taken out all the same.
func TestDoubtfulInline(t *testing.T) {
	b := open(t)
	r := redact.New(b.sb)
	for name, change := range map[string]func(b []byte){
		"mode of a symlink":   func(b []byte) { b[0x29] = 0xA1 },
		"mode of a directory": func(b []byte) { b[0x29] = 0x41 },
		"no mode":             func(b []byte) { b[0x28], b[0x29] = 0, 0 },
		"all flags":           func(b []byte) { copy(b[offFlags:], "\xff\xff\xff\xff") },
		"no features":         func(b []byte) { b[0x76], b[0x77] = 0, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			got := bytes.Clone(b.inline)
			change(got)
			if r.Block(got) == 0 {
				t.Error("the contents stay")
			}
			dir := bytes.Clone(b.dir)
			if change(dir); name != "no features" && r.Block(dir) != 0 {
				t.Error("entries of a directory were taken out")
			}
		})
	}
}

// TestWrongBit redacts an inode with a single wrong bit: its check value must go
// on to name that bit.
func TestWrongBit(t *testing.T) {
	b := open(t)
	got := bytes.Clone(b.inline)
	got[0x29] ^= 0x40 // i_mode
	_, want := ocfs2.KindInode.VerifyECC(got)
	if redact.New(b.sb).Block(got) == 0 {
		t.Fatal("the contents stay")
	}
	if state, bit := ocfs2.KindInode.VerifyECC(got); state != ocfs2.ECCRepairable || bit != want {
		t.Errorf("%v, bit %d; want repairable, bit %d", state, bit, want)
	}
}
