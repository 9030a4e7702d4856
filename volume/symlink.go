// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import "context"

// unnamedLinks returns the symlinks with clusters that no name calls a symlink.
// i_mode alone says that their clusters hold no file data.
func (w *walk) unnamedLinks() []uint64 {
	return w.longLinks.without(&w.symlinks.named)
}

// doubtLinks has the clusters of unnamedLinks withheld from images without file
// data.
func (w *walk) doubtLinks(ctx context.Context) {
	for _, ino := range w.unnamedLinks() {
		o := origin{class: ClassSymlink, ino: ino}
		d, err := w.v.Inode(ctx, ino)
		if err != nil {
			continue // which is known
		}
		w.note(o, ino, Damaged, "no name says that this is a symlink, as i_mode does: it may be a file", "")
		for rec, err := range w.v.tree(ctx, w.v.dataTree(d, ino), w.v.strictly) {
			if err == nil && !rec.node {
				w.set.Add(rec.Blkno, uint64(rec.Clusters)*w.v.sb.BlocksPerCluster(), uint8(ClassSlack))
			}
		}
	}
}
