// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"io"
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
