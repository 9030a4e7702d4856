// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"o2image/internal/ocfs2test"
	"o2image/volume"
)

// TestTotals compares totals with the sets that walks find. Allocators and system
// files are exact; all of it is right to 5 %.
func TestTotals(t *testing.T) {
	for _, name := range ocfs2test.Volumes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, _ := openFile(t, ocfs2test.Unpack(t, name).Path)
			for _, skip := range []volume.Skip{{}, {Free: true, JournalClean: true}} {
				totals, err := v.Totals(t.Context(), skip)
				if err != nil {
					t.Fatal(err)
				}
				if len(totals.Missing) > 0 {
					t.Errorf("not counted: %q", totals.Missing)
				}
				meta, err := v.Metadata(t.Context(), volume.Options{Skip: skip})
				if err != nil {
					t.Fatal(err)
				}
				var got uint64
				for c := volume.ClassSuper; c <= volume.ClassSymlink; c++ {
					n, want := totals.Blocks[c], meta.Count(c)
					got += n
					if c <= volume.ClassSystem && n != want {
						t.Errorf("class %v: %d blocks, the walk found %d", c, n, want)
					}
				}
				want := meta.Blocks.Count()
				if miss := 100 * (float64(got)/float64(want) - 1); miss > 5 || miss < -5 {
					t.Errorf("%d blocks, the walk found %d: %.1f %%", got, want, miss)
				}
				for class, runs := range totals.Samples {
					for _, r := range runs {
						if skip.Free {
							continue // whole pieces are read, free blocks and all
						}
						if tag, ok := meta.Blocks.Tag(r.Start); !ok || volume.Class(tag) > class {
							t.Errorf("sample %v of class %v is %v in the set", r, class, volume.Class(tag))
						}
					}
				}
			}
		})
	}
}

// TestTotalsOfDamaged breaks the inodes that totals are read from, one at a time: the
// others are counted, and what is not is named.
func TestTotalsOfDamaged(t *testing.T) {
	sound, f := openFile(t, ocfs2test.Unpack(t, "plain-b1k").Path)
	want, err := sound.Totals(t.Context(), volume.Skip{})
	if err != nil || len(want.Missing) > 0 {
		t.Fatal(err, want.Missing)
	}
	contents, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]uint64{"root directory": sound.Super().Root}
	for _, name := range []string{"global_inode_alloc", "inode_alloc:0000", "inode_alloc:0001", "extent_alloc:0000", "journal:0001", "slot_map"} {
		d, err := sound.SystemFile(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		broken[name] = d.Blkno()
	}
	for name, ino := range broken {
		b := bytes.Clone(contents)
		clear(b[ino<<10:][:1<<10])
		v, err := volume.Open(t.Context(), bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Totals(t.Context(), volume.Skip{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(got.Missing) != 1 || !strings.HasPrefix(got.Missing[0], name+": block ") {
			t.Errorf("%s: missing: %q", name, got.Missing)
		}
		less := false
		for c := volume.ClassSuper; c <= volume.ClassSymlink; c++ {
			less = less || got.Blocks[c] < want.Blocks[c]
			// Samples of other inodes may tell more.
			if c <= volume.ClassSystem && got.Blocks[c] > want.Blocks[c] {
				t.Errorf("%s: class %v: %d blocks, the sound volume has %d", name, c, got.Blocks[c], want.Blocks[c])
			}
		}
		if !less && name != "root directory" && name != "inode_alloc:0001" { // of which what it has is inline, or nothing
			t.Errorf("%s: as many blocks as on the sound volume", name)
		}
	}
	clear(contents[sound.Super().SystemDir<<10:][:1<<10])
	v, err := volume.Open(t.Context(), bytes.NewReader(contents))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Totals(t.Context(), volume.Skip{}); err == nil || !strings.Contains(err.Error(), "no allocator could be read") {
		t.Errorf("without the system directory: %v", err)
	}
}

// TestTotalsOfGarbage wants an end and an error, and no panic, where the blocks
// behind a superblock are anything.
func TestTotalsOfGarbage(t *testing.T) {
	_, f := openFile(t, ocfs2test.Unpack(t, "plain-b1k").Path)
	contents, err := io.ReadAll(io.NewSectionReader(f, 0, 4<<20))
	if err != nil {
		t.Fatal(err)
	}
	for from := 3 << 10; from < len(contents); from += 200 << 10 {
		for _, fill := range []byte{0, 0xFF, 0x41} {
			broken := bytes.Clone(contents)
			for i := from; i < len(broken); i++ {
				broken[i] = fill
			}
			v, err := volume.Open(t.Context(), bytes.NewReader(broken))
			if err != nil {
				continue
			}
			if totals, err := v.Totals(t.Context(), volume.Skip{Free: true}); err == nil {
				for class, n := range totals.Blocks {
					if n > v.Super().Blocks() {
						t.Errorf("class %v: %d blocks of %d", class, n, v.Super().Blocks())
					}
				}
			}
		}
	}
}
