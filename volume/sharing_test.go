// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"encoding/binary"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"o2image/ocfs2"
)

// TestClusterSum compares a sum with one made cluster by cluster.
func TestClusterSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64().Draw(t, "first")
		n := rapid.Uint64Range(0, 300).Draw(t, "clusters")
		times := rapid.Uint64Range(0, 1<<32).Draw(t, "times")
		var got, want clusterSum
		got.add(first, n, times)
		for c := range n {
			want.n += times
			want.numbers += times * (first + c)
		}
		if got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// refcountRoot is a root without a tree, which so many files have, with records of
// r_cpos, r_clusters and r_refcount.
func refcountRoot(files uint32, recs ...[3]uint32) ocfs2.RefcountBlock {
	b := make([]byte, 512)
	le := binary.LittleEndian
	le.PutUint32(b[0x30:], files)             // rf_count
	le.PutUint16(b[0x80:], 23)                // rl_count
	le.PutUint16(b[0x82:], uint16(len(recs))) //nolint:gosec // few
	for i, r := range recs {
		rec := b[0x90+16*i:]
		le.PutUint64(rec, uint64(r[0]))
		le.PutUint32(rec[8:], r[1])
		le.PutUint32(rec[12:], r[2])
	}
	return ocfs2.AsRefcountBlock(b)
}

// TestSharing has two files with one tree: clusters 10 to 19 are in both of them,
// 30 to 34 in one.
func TestSharing(t *testing.T) {
	const root, tree = 100, 200
	for _, tt := range []struct {
		name  string
		block ocfs2.RefcountBlock
		alone uint64 // an inode with a shared extent and no tree, 0: none
		want  string // in the only finding, empty: none
		at    uint64 // the block that it names
	}{
		{"sound", refcountRoot(2, [3]uint32{10, 10, 2}, [3]uint32{30, 5, 1}), 0, "", 0},
		{"a count too low", refcountRoot(2, [3]uint32{10, 10, 1}, [3]uint32{30, 5, 1}), 0, "count clusters 15 times in all, the extents of its files have them 25 times", root},
		{"a record is lost", refcountRoot(2, [3]uint32{10, 10, 2}), 0, "count clusters 20 times", root},
		{"other clusters", refcountRoot(2, [3]uint32{10, 10, 2}, [3]uint32{31, 5, 1}), 0, "of other clusters", root},
		{"other files", refcountRoot(3, [3]uint32{10, 10, 2}, [3]uint32{30, 5, 1}), 0, "rf_count: got 3, want 2", root},
		{"no tree", refcountRoot(2, [3]uint32{10, 10, 2}, [3]uint32{30, 5, 1}), tree, "no refcount tree", tree},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := new(walk)
			for ino := uint64(1); ino <= 2; ino++ {
				w.sharing.file(root)
				w.sharing.extent(ino, root, 10, 10)
			}
			w.sharing.extent(1, root, 30, 5)
			w.sharing.block(root, tt.block)
			if tt.alone != 0 {
				w.sharing.extent(tt.alone+1, 0, 50, 1)
				w.sharing.extent(tt.alone, 0, 60, 1)
			}
			w.compareShares()
			found := w.findings.sorted()
			if tt.want == "" {
				if len(found) != 0 {
					t.Errorf("found %v", found)
				}
				return
			}
			if len(found) != 1 || found[0].Block != tt.at || !strings.Contains(found[0].Text, tt.want) {
				t.Errorf("found %v, want %q at block %d", found, tt.want, tt.at)
			}
		})
	}
}

// TestManyTrees has the memory for refcount trees bounded: those that are too many
// are not compared, the others are.
func TestManyTrees(t *testing.T) {
	w := new(walk)
	for root := uint64(1); root <= maxRefcountTrees+10; root++ {
		w.sharing.file(root)
		w.sharing.extent(7, root, root, 1)
	}
	for root := uint64(1); root <= maxRefcountTrees+10; root++ {
		w.sharing.block(root, refcountRoot(1, [3]uint32{uint32(root), 1, 1})) //nolint:gosec // small
	}
	if w.compareShares(); len(w.sharing.trees) != maxRefcountTrees || w.findings.any() {
		t.Errorf("%d trees, findings %v", len(w.sharing.trees), w.findings.sorted())
	}
}
