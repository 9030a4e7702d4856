// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"iter"

	"o2image/ocfs2"
)

// Xattr is an extended attribute of an inode.
type Xattr struct {
	Name string // with its prefix: "user.comment"
	Size uint64 // of the value, in bytes

	// Value is the value if it is kept beside the name, nil if it is kept in
	// clusters of its own.
	Value []byte

	outside tree // of a value kept outside
}

// Xattrs yields the extended attributes of d: those in its block, in its xattr
// block and in the buckets of that block's tree.
func (v *Volume) Xattrs(ctx context.Context, d ocfs2.Dinode) iter.Seq2[Xattr, error] {
	return func(yield func(Xattr, error) bool) {
		if area, ok := d.InlineXattrs(); ok && !yieldArea(area, d.Blkno(), yield) {
			return
		}
		if loc := d.XattrLoc(); d.DynFeatures().Has(ocfs2.DynHasXattr) && loc != 0 {
			v.xattrBlock(ctx, loc, yield)
		}
	}
}

func (v *Volume) xattrBlock(ctx context.Context, loc uint64, yield func(Xattr, error) bool) {
	b, err := v.ReadBlock(ctx, loc)
	if err != nil {
		yield(Xattr{}, err)
		return
	}
	if faults := ocfs2.KindXattrBlock.Identity(b, loc, v.sb.Generation); len(faults) > tolerated {
		yield(Xattr{}, corrupt(loc, faults))
		return
	}
	x := ocfs2.AsXattrBlock(b)
	if !x.Indexed() {
		yieldArea(x.Area(), loc, yield)
		return
	}
	for extent, err := range v.leaves(ctx, bucketTree(x, loc)) {
		if err != nil {
			if !yield(Xattr{}, err) {
				return
			}
			continue
		}
		if !v.buckets(ctx, extent, yield) {
			return
		}
	}
}

// buckets yields the attributes in the buckets of one extent, whose first
// bucket tells how many are in use.
func (v *Volume) buckets(ctx context.Context, x Extent, yield func(Xattr, error) bool) bool {
	n := uint64(1)
	for i := uint64(0); i < n; i++ {
		b := make([]byte, ocfs2.BucketSize)
		blkno := x.Blkno + i*v.sb.BucketBlocks()
		if err := v.readBlocks(ctx, b, blkno); err != nil {
			return yield(Xattr{}, err)
		}
		area := ocfs2.AsBucket(b)
		if i == 0 {
			n = min(uint64(area.NumBuckets()), x.Blocks/v.sb.BucketBlocks())
		}
		if !yieldArea(area, blkno, yield) {
			return false
		}
	}
	return true
}

func yieldArea(area ocfs2.XattrArea, blkno uint64, yield func(Xattr, error) bool) bool {
	for i := range area.Len() {
		e := area.Entry(i)
		x := Xattr{Name: e.FullName(), Size: e.Size}
		if e.Local {
			x.Value = e.Value
		} else {
			x.outside = valueTree(e.Root, blkno)
		}
		if !yield(x, nil) {
			return false
		}
	}
	return true
}

// XattrExtents yields the clusters of a value that is kept outside, in order.
func (v *Volume) XattrExtents(ctx context.Context, x Xattr) iter.Seq2[Extent, error] {
	return v.leaves(ctx, x.outside)
}
