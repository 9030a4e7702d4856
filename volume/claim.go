// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"sort"

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
	set := w.set.Seal()
	for _, r := range set.Overlaps() {
		for blkno := r.Start - r.Start%bpc; blkno < r.Start+r.Len; blkno += bpc {
			w.disputed.add(blkno)
		}
	}
	runs := w.data.doubled(set.Spans(), bpc)
	for blkno := range w.disputed.all() {
		runs = append(runs, between(blkno/bpc, blkno/bpc+1))
	}
	w.doubled, _ = joinRuns(runs)
	return len(w.doubled) > 0
}

// contestedIn returns the first of n clusters from block blkno on that more than
// one structure has, and whether there is one.
func (w *walk) contestedIn(blkno, n uint64) (first uint64, ok bool) {
	bpc := w.v.sb.BlocksPerCluster()
	cluster := blkno / bpc
	i := sort.Search(len(w.doubled), func(i int) bool { return w.doubled[i].end() > cluster })
	if i < len(w.doubled) && w.doubled[i].start() < cluster+n {
		return max(w.doubled[i].start(), cluster) * bpc, true
	}
	return 0, false
}

// claimants says which inodes have blocks that another structure has as well:
// one of them is wrong, and lacks its own.
func (w *walk) claimants(ctx context.Context) {
	waiting := 0
	for ino := range w.inodes.all() {
		w.addLeaf(leaf{blkno: ino, blocks: 1, unit: 1, again: true, o: origin{class: ClassInode, ino: ino}, check: func(ino uint64, b []byte, o origin) {
			if len(ocfs2.KindInode.Identity(b, ino, w.v.sb.Generation)) <= tolerated {
				w.claims(ctx, ocfs2.AsDinode(b), o)
			}
		}})
		if waiting++; waiting == tasksAtOnce {
			w.run(ctx)
			waiting = 0
		}
	}
	w.run(ctx)
}

// claims says which blocks inode d has that another structure has as well.
func (w *walk) claims(ctx context.Context, d ocfs2.Dinode, o origin) {
	ino := o.ino
	if d.Union() == ocfs2.UnionExtents {
		class, metadata := contentsClass(d)
		if metadata {
			o.class = class
			w.dispute(ctx, w.v.dataTree(d, ino), o, "the blocks of one of them")
		} else {
			o.class = ClassExtent
			w.dispute(ctx, w.v.dataTree(d, ino), o, "")
		}
	}
	if loc := d.XattrLoc(); w.v.sb.Contains(loc, 1) {
		o.class = ClassBucket
		if w.disputed.has(loc) {
			w.note(o, ino, NotFollowed, fmt.Sprintf("i_xattr_loc: block %d is that of another inode as well", loc), "the extended attributes of one of them")
		}
		if b, err := w.v.ReadBlock(ctx, loc); err == nil && ocfs2.AsXattrBlock(b).Indexed() {
			w.dispute(ctx, bucketTree(ocfs2.AsXattrBlock(b), loc), o, "the blocks of one of them")
		}
	}
	if root := d.DxRoot(); d.IsDir() && d.DynFeatures().Has(ocfs2.DynIndexedDir) && w.v.sb.Contains(root, 1) {
		o.class = ClassDxLeaf
		if b, err := w.v.ReadBlock(ctx, root); err == nil && !ocfs2.AsDxRoot(b).Inline() {
			w.dispute(ctx, indexTree(ocfs2.AsDxRoot(b), root), o, "the blocks of one of them")
		}
	}
	o.class = ClassExtent
	for x := range w.v.Xattrs(ctx, d) {
		w.dispute(ctx, x.outside, o, "")
	}
}

// dispute says which clusters of a tree another structure has as well, the
// first one for each of its lists. lost is what is missing then.
func (w *walk) dispute(ctx context.Context, t tree, o origin, lost string) {
	severity := NotFollowed
	if lost == "" {
		severity = Damaged
	}
	said := uint64(0) // the list that was the last one said
	for rec, err := range w.v.tree(ctx, t, w.v.strictly) {
		if err != nil || rec.node || rec.list == said {
			continue
		}
		if blkno, ok := w.contestedIn(rec.Blkno, uint64(rec.Clusters)); ok {
			w.note(o.via(rec.list), rec.list, severity, fmt.Sprintf("block %d belongs to another structure as well", blkno), lost)
			said = rec.list
		}
	}
}
