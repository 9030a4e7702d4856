// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"context"
	"encoding/binary"
	"os"
	"testing"
	"time"

	"o2image/internal/ocfs2test"
	"o2image/volume"
)

// edited is a volume with some bytes changed.
type edited struct {
	data  []byte
	edits map[int64]byte
}

func (e edited) ReadAt(p []byte, off int64) (int, error) {
	n, err := readerAt(e.data).ReadAt(p, off)
	for at, b := range e.edits {
		if at >= off && at < off+int64(n) {
			p[at-off] = b
		}
	}
	return n, err
}

// FuzzVolume changes bytes in the metadata of a volume that Linux wrote, and
// uses all that the package offers: it must end, soon, and not panic. Each
// change takes five bytes of the input: which metadata block (two bytes), where
// in it (two), and what is to stand there.
func FuzzVolume(f *testing.F) {
	vol := ocfs2test.Unpack(f, "volume-512")
	data, err := os.ReadFile(vol.Path)
	if err != nil {
		f.Fatal(err)
	}
	v, err := volume.Open(f.Context(), readerAt(data))
	if err != nil {
		f.Fatal(err)
	}
	meta, err := v.Metadata(f.Context(), volume.Options{})
	if err != nil {
		f.Fatal(err)
	}
	// Blocks of journals and free blocks lead nowhere.
	var blocks []uint64
	for run := range meta.Blocks.All() {
		if volume.Class(run.Tag) == volume.ClassJournal {
			continue
		}
		for n := range run.Len {
			blkno := run.Start + n
			if b := data[blkno*512:][:512]; b[0] != 0 || b[8] != 0 {
				blocks = append(blocks, blkno)
			}
		}
	}
	f.Add([]byte{0, 2, 0, 0xFC, 20})
	f.Add([]byte{0, 16, 0, 0xC4, 0xFF, 0, 16, 0, 0xC5, 0xFF})
	f.Add([]byte{0, 20, 0, 0x2C, 0x10, 0, 20, 0, 0x76, 0x04})
	f.Fuzz(func(t *testing.T, changes []byte) {
		e := edited{data: data, edits: map[int64]byte{}}
		for ; len(changes) >= 5 && len(e.edits) < 64; changes = changes[5:] {
			block := blocks[int(binary.BigEndian.Uint16(changes))%len(blocks)]
			e.edits[int64(block*512)+int64(binary.BigEndian.Uint16(changes[2:])%512)] = changes[4]
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		v, err := volume.Open(ctx, e)
		if err != nil {
			return
		}
		if _, err := v.Metadata(ctx, volume.Options{}); err != nil {
			t.Errorf("walk: %v", err)
		}
		_, _ = v.Slots(ctx) // an error is an answer
		for file, err := range v.Walk(ctx) {
			if err != nil {
				continue
			}
			for range v.Extents(ctx, file.Inode) {
			}
			for x, err := range v.Xattrs(ctx, file.Inode) {
				if err == nil {
					for range v.XattrExtents(ctx, x) {
					}
				}
			}
			if file.Inode.IsSymlink() {
				_, _ = v.Readlink(ctx, file.Inode)
			}
		}
		if ctx.Err() != nil {
			t.Errorf("the walk does not end")
		}
	})
}
