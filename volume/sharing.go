// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	"o2image/ocfs2"
)

// maxRefcountTrees bounds the refcount trees that are compared with what they count.
const maxRefcountTrees = 1 << 14

// sharing compares refcount trees with what they count: which files have a tree, and
// how many of their extents have each cluster. It keeps sums of both sides only, by
// which a difference shows, but not where in the tree it is. The zero value is empty;
// the methods that add may be called concurrently.
type sharing struct {
	mu    sync.Mutex
	trees map[uint64]*sharedTree // by the block of the root
}

type sharedTree struct {
	first           uint64     // the lowest inode with an extent
	root            uint32     // files, by rf_count of the root
	files           uint32     // files found
	counts, counted clusterSum // what the records say, and what extents have
}

// clusterSum is a sum over clusters, each taken as often as it is counted. It wraps.
type clusterSum struct{ n, numbers uint64 }

// add adds n clusters from number first on, each times times.
func (s *clusterSum) add(first, n, times uint64) {
	pairs := n / 2 * (n - 1)
	if n%2 == 1 {
		pairs = (n - 1) / 2 * n
	}
	s.n += times * n
	s.numbers += times * (n*first + pairs)
}

// with does something with the tree whose root is block root, unless there are too
// many.
func (s *sharing) with(root uint64, do func(t *sharedTree)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trees[root]
	if t == nil {
		if len(s.trees) >= maxRefcountTrees {
			return
		}
		if s.trees == nil {
			s.trees = make(map[uint64]*sharedTree)
		}
		t = new(sharedTree)
		s.trees[root] = t
	}
	do(t)
}

// file adds a file that has the tree.
func (s *sharing) file(root uint64) { s.with(root, func(t *sharedTree) { t.files++ }) }

// extent adds n clusters of an extent of inode ino, from number first on. root is 0 if
// the inode has no tree.
func (s *sharing) extent(ino, root, first, n uint64) {
	s.with(root, func(t *sharedTree) {
		t.first = min(cmp.Or(t.first, ino), ino)
		t.counted.add(first, n, 1)
	})
}

// block adds what a block of the tree says.
func (s *sharing) block(root uint64, b ocfs2.RefcountBlock) {
	s.with(root, func(t *sharedTree) {
		if !b.IsLeaf() {
			t.root = b.Count()
		}
		for _, rec := range b.Recs().All() {
			t.counts.add(rec.Cpos, uint64(rec.Clusters), uint64(rec.Refcount))
		}
	})
}

// compareShares says which refcount trees contradict the files that have them. It may
// only be called where that must be so: on a volume with nothing else wrong, and no
// journal to be replayed.
func (w *walk) compareShares() {
	for _, root := range slices.Sorted(maps.Keys(w.sharing.trees)) {
		t, o := w.sharing.trees[root], origin{class: ClassExtent}
		if root == 0 {
			o.ino = t.first
			w.note(o, t.first, Damaged, "extents are shared with other files, but the inode has no refcount tree", "")
			continue
		}
		if t.root != t.files {
			w.note(o, root, Damaged, fmt.Sprintf("rf_count: got %d, want %d, the files that have the tree", t.root, t.files), "")
		}
		switch {
		case t.counts.n != t.counted.n:
			w.note(o, root, Damaged, fmt.Sprintf("the records of the refcount tree count clusters %d times in all, the extents of its files have them %d times",
				t.counts.n, t.counted.n), "")
		case t.counts != t.counted:
			w.note(o, root, Damaged, "the records of the refcount tree are of other clusters than the extents of its files have", "")
		}
	}
}
