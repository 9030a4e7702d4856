// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"testing"

	"o2image/blockset"
	"o2image/ocfs2"
)

// signed is a device with the same signature in all blocks. It counts reads.
type signed struct {
	signature string
	reads     int
}

func (s *signed) ReadAt(p []byte, _ int64) (int, error) {
	s.reads++
	clear(p)
	copy(p, s.signature)
	return len(p), nil
}

// TestSharedRefcounts has many files with the same refcount tree: its root is
// read once. Where that is no refcount block each of the files is damaged, even
// if the block has been claimed as what it is.
func TestSharedRefcounts(t *testing.T) {
	t.Parallel()
	const loc, files = 100, 50
	for _, tt := range []struct {
		signature string
		reads     int
		said      int // files that something is said of
	}{
		{"REFCNT1", 1, 1}, // the block is damaged otherwise, as the first one says
		{"XATTR01", files, files},
	} {
		t.Run(tt.signature, func(t *testing.T) {
			t.Parallel()
			r := &signed{signature: tt.signature}
			sb := &ocfs2.SuperBlock{Geometry: ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 1000}}
			w := &walk{v: &Volume{r: r, sb: sb}, set: blockset.NewBuilder(), queue: newQueue()}
			if tt.signature != "REFCNT1" {
				w.claimed.add(loc)
			}
			for ino := range uint64(files) {
				w.refcounts(t.Context(), loc, origin{class: ClassInode, ino: 200 + ino})
			}
			said := make(map[uint64]bool)
			for _, f := range w.findings.sorted() {
				said[f.Inode] = true
			}
			if r.reads != tt.reads || len(said) != tt.said {
				t.Errorf("%d reads, findings for %d files; want %d and %d", r.reads, len(said), tt.reads, tt.said)
			}
		})
	}
}
