// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"

	"o2image/ocfs2"
)

// take remembers that a tree has n clusters from block blkno on, and which of
// them another one has as well.
func (w *walk) take(blkno, n uint64) {
	bpc := w.v.sb.BlocksPerCluster()
	for c := blkno / bpc; c < blkno/bpc+n; c++ {
		if !w.taken.add(c) {
			w.disputed.add(c * bpc)
		}
	}
}

// contested reports whether more than one structure has some block. What trees
// have and allocators as well is found in the set.
func (w *walk) contested() bool {
	bpc := w.v.sb.BlocksPerCluster()
	for _, r := range w.set.Seal().Overlaps() {
		for blkno := r.Start - r.Start%bpc; blkno < r.Start+r.Len; blkno += bpc {
			w.disputed.add(blkno)
		}
	}
	return len(w.disputed.sorted()) > 0
}

// claimants says which inodes have blocks that another structure has as well:
// one of them is wrong, and lacks its own.
func (w *walk) claimants(ctx context.Context) {
	for _, ino := range w.inodes.sorted() {
		b, err := w.v.ReadBlock(ctx, ino)
		if ctx.Err() != nil {
			return
		}
		if err != nil || len(ocfs2.KindInode.Identity(b, ino, w.v.sb.Generation)) > tolerated {
			continue
		}
		d := ocfs2.AsDinode(b)
		o := origin{class: ClassInode, ino: ino}
		if class, ok := contentsClass(d); ok && d.Union() == ocfs2.UnionExtents {
			o.class = class
			w.dispute(ctx, w.v.dataTree(d, ino), o)
		}
		if loc := d.XattrLoc(); w.v.sb.Contains(loc, 1) {
			o.class = ClassBucket
			if w.disputed.has(loc) {
				w.note(o, ino, NotFollowed, fmt.Sprintf("i_xattr_loc: block %d is that of another inode as well", loc), "the extended attributes of one of them")
			}
			if b, err := w.v.ReadBlock(ctx, loc); err == nil && ocfs2.AsXattrBlock(b).Indexed() {
				w.dispute(ctx, bucketTree(ocfs2.AsXattrBlock(b), loc), o)
			}
		}
		if root := d.DxRoot(); d.IsDir() && d.DynFeatures().Has(ocfs2.DynIndexedDir) && w.v.sb.Contains(root, 1) {
			o.class = ClassDxLeaf
			if b, err := w.v.ReadBlock(ctx, root); err == nil && !ocfs2.AsDxRoot(b).Inline() {
				w.dispute(ctx, indexTree(ocfs2.AsDxRoot(b), root), o)
			}
		}
	}
}

// dispute says which clusters of a tree another structure has as well, the
// first one for each of its lists.
func (w *walk) dispute(ctx context.Context, t tree, o origin) {
	bpc := w.v.sb.BlocksPerCluster()
	said := uint64(0) // the list that was the last one said
	for rec, err := range w.v.tree(ctx, t, w.v.strictly) {
		if err != nil || rec.node || rec.list == said {
			continue
		}
		for n := range uint64(rec.Clusters) {
			if blkno := rec.Blkno + n*bpc; w.disputed.has(blkno - blkno%bpc) {
				w.note(o.via(rec.list), rec.list, NotFollowed, fmt.Sprintf("block %d belongs to another structure as well", blkno), "the blocks of one of them")
				said = rec.list
				break
			}
		}
	}
}
