// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"io"
	"sync/atomic"
	"testing"

	"o2image/internal/ocfs2test"
	"o2image/volume"
)

// TestSkip compares a set without free blocks and clean journals with the whole
// set and with the counts in the allocators' inodes.
func TestSkip(t *testing.T) {
	emptied := 0
	for _, name := range ocfs2test.Volumes(t) {
		t.Run(name, func(t *testing.T) {
			vol := ocfs2test.Unpack(t, name)
			v, _ := openFile(t, vol.Path)
			whole, err := v.Metadata(t.Context(), volume.Options{})
			if err != nil {
				t.Fatal(err)
			}
			part, err := v.Metadata(t.Context(), volume.Options{Skip: volume.Skip{Free: true, JournalClean: true}})
			if err != nil {
				t.Fatal(err)
			}
			if part.Found > 0 {
				t.Errorf("findings on a sound volume: %v", part.Findings)
			}
			for run := range part.Blocks.All() {
				for b := run.Start; b < run.Start+run.Len; b++ {
					if tag, ok := whole.Blocks.Tag(b); !ok || tag != run.Tag {
						t.Fatalf("block %d is %v; in the whole set it is not", b, volume.Class(run.Tag))
					}
				}
			}
			for class, files := range map[volume.Class][]string{
				volume.ClassInode: inodeAllocators(v), volume.ClassExtent: extentAllocators(v),
			} {
				var used, groups uint64
				for _, file := range files {
					d, err := v.SystemFile(t.Context(), file)
					if err != nil {
						t.Fatal(err)
					}
					used += uint64(d.BitmapUsed())
					if bits := d.Chains().CPG() * d.Chains().BPC(); bits > 0 {
						groups += uint64(d.BitmapTotal()) / uint64(bits)
					}
				}
				if got := part.Count(class); got != used-groups {
					t.Errorf("class %v: %d blocks, the allocators have %d in use", class, got, used-groups)
				}
			}
			slots, err := v.Slots(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, slot := range slots {
				kept, blocks := keptOfJournal(t, v, part, slot.Slot)
				switch {
				case slot.Dirty && kept != blocks:
					t.Errorf("slot %d: %d of the %d blocks of a dirty journal", slot.Slot, kept, blocks)
				case !slot.Dirty && (kept < 1 || kept > 2):
					t.Errorf("slot %d: %d blocks of a clean journal", slot.Slot, kept)
				case !slot.Dirty:
					emptied++
				}
			}
			var skipped uint64
			for class, n := range part.Skipped {
				skipped += n
				if whole.Count(class)-part.Count(class) != n {
					t.Errorf("class %v: %d of %d blocks, and %d left out", class, part.Count(class), whole.Count(class), n)
				}
			}
			if got := whole.Blocks.Count() - part.Blocks.Count(); got != skipped {
				t.Errorf("%d blocks less, %d left out", got, skipped)
			}
		})
	}
	if emptied == 0 {
		t.Error("no journal was left out: this tests nothing")
	}
}

// keptOfJournal returns how many of how many blocks of a slot's journal are in a
// set.
func keptOfJournal(t *testing.T, v *volume.Volume, meta *volume.Metadata, slot int) (kept, blocks uint64) {
	t.Helper()
	d, err := v.SystemFile(t.Context(), volume.SlotFile("journal", slot))
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range v.Extents(t.Context(), d) {
		if err != nil {
			t.Fatal(err)
		}
		blocks += e.Blocks
		for b := e.Blkno; b < e.Blkno+e.Blocks; b++ {
			if meta.Blocks.Has(b) {
				kept++
			}
		}
	}
	return kept, blocks
}

// TestSkipJournal wants a journal whole unless all says that it is empty.
func TestSkipJournal(t *testing.T) {
	const used = "plain-b1k"
	v, f := openFile(t, ocfs2test.Unpack(t, used).Path)
	d, err := v.SystemFile(t.Context(), volume.SlotFile("journal", 0))
	if err != nil {
		t.Fatal(err)
	}
	var first volume.Extent
	for first, err = range v.Extents(t.Context(), d) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	bs := int64(v.Super().BlockSize())
	super := int64(first.Blkno) * bs
	log := func(n int64) int64 { return super + n*bs }
	for name, c := range map[string]struct {
		at    map[int64]byte // bytes changed
		clean bool
	}{
		"as it is":           {nil, true},
		"a start":            {map[int64]byte{super + 0x1F: 5, log(5): 0xC0, log(5) + 1: 0x3B, log(5) + 2: 0x39, log(5) + 3: 0x98}, false},
		"nothing at start":   {map[int64]byte{super + 0x1F: 5, log(5): 0}, true},
		"a start outside":    {map[int64]byte{super + 0x1C: 0x7F}, false},
		"an error":           {map[int64]byte{super + 0x23: 1}, false},
		"no superblock":      {map[int64]byte{super: 0}, false},
		"the inode is dirty": {map[int64]byte{int64(d.Blkno())*bs + 0xB8: 1}, false}, // id1.journal1.ij_flags
	} {
		t.Run(name, func(t *testing.T) {
			patched, err := volume.Open(t.Context(), patchedFile{f, c.at})
			if err != nil {
				t.Fatal(err)
			}
			meta, err := patched.Metadata(t.Context(), volume.Options{Skip: volume.Skip{JournalClean: true}})
			if err != nil {
				t.Fatal(err)
			}
			kept, blocks := keptOfJournal(t, patched, meta, 0)
			if clean := kept < blocks; clean != c.clean {
				t.Errorf("%d of %d blocks, clean %v", kept, blocks, c.clean)
			}
		})
	}
}

// TestProgress wants of the progress of a walk that it ends where everything is
// read.
func TestProgress(t *testing.T) {
	for _, name := range []string{"plain-b1k", "discontig", "deep-b512"} {
		v, _ := openFile(t, ocfs2test.Unpack(t, name).Path)
		var calls, last, of countedMax
		_, err := v.Metadata(t.Context(), volume.Options{Progress: func(done, total uint64) {
			calls.add(1)
			last.grow(done)
			of.grow(total)
			if done > total {
				t.Errorf("%s: %d of %d", name, done, total)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if calls.n.Load() == 0 || last.n.Load() != of.n.Load() {
			t.Errorf("%s: %d calls, up to %d of %d", name, calls.n.Load(), last.n.Load(), of.n.Load())
		}
	}
}

// countedMax is a count, or the largest number seen.
type countedMax struct{ n atomic.Uint64 }

func (c *countedMax) add(n uint64) { c.n.Add(n) }

func (c *countedMax) grow(n uint64) {
	for old := c.n.Load(); n > old && !c.n.CompareAndSwap(old, n); old = c.n.Load() {
	}
}

// patchedFile is a reader with some bytes changed.
type patchedFile struct {
	io.ReaderAt
	bytes map[int64]byte
}

func (f patchedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, off)
	for at, b := range f.bytes {
		if at >= off && at < off+int64(n) {
			p[at-off] = b
		}
	}
	return n, err
}
