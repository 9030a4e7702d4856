// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"iter"

	"o2image/blockio"
	"o2image/ocfs2"
)

// Extent is a run of an inode's contents.
type Extent struct {
	Logical uint64 // offset in the file, in blocks
	Blkno   uint64 // first block on the volume
	Blocks  uint64 // length in blocks
	Flags   uint8  // e_flags: ocfs2.ExtUnwritten, ocfs2.ExtRefcounted
}

// Extents yields the extents of d in the order of the file. An inode whose
// contents lie in its own block has none.
func (v *Volume) Extents(ctx context.Context, d ocfs2.Dinode) iter.Seq2[Extent, error] {
	return v.leaves(ctx, d.Extents(), d.Blkno())
}

// leaves yields the leaf records of the tree under list, which lies in block
// owner, as extents.
func (v *Volume) leaves(ctx context.Context, list ocfs2.ExtentList, owner uint64) iter.Seq2[Extent, error] {
	bpc := v.sb.BlocksPerCluster()
	return func(yield func(Extent, error) bool) {
		for rec, err := range v.tree(ctx, list, owner) {
			if err == nil && rec.depth > 0 {
				continue
			}
			if !yield(Extent{
				Logical: uint64(rec.Cpos) * bpc,
				Blkno:   rec.Blkno,
				Blocks:  uint64(rec.Clusters) * bpc,
				Flags:   rec.Flags,
			}, err) {
				return
			}
		}
	}
}

// treeRec is a record of an extent tree with the depth of the list that holds
// it: 0 for leaves.
type treeRec struct {
	ocfs2.ExtentRec
	depth int
}

// treeBatch is how many extent blocks of one list are read at once.
const treeBatch = 64

// tree yields all records of the tree under list, parents first and in key
// order. Of a record that cannot be followed it yields the error, and goes on
// with the next. The depth falls by one from level to level and no extent block
// is entered twice, so the walk ends whatever the disk holds.
func (v *Volume) tree(ctx context.Context, list ocfs2.ExtentList, owner uint64) iter.Seq2[treeRec, error] {
	return func(yield func(treeRec, error) bool) {
		if depth := list.Depth(); depth > ocfs2.MaxTreeDepth {
			yield(treeRec{}, &ocfs2.BlockError{Block: owner, Err: ocfs2.ErrCorrupt, Fault: ocfs2.Fault{
				Struct: "ocfs2_extent_list", Field: "l_tree_depth", Got: fmt.Sprint(depth), Want: fmt.Sprintf("at most %d", ocfs2.MaxTreeDepth),
			}})
			return
		}
		t := treeWalk{v: v, ctx: ctx, yield: yield}
		t.list(list, owner)
	}
}

type treeWalk struct {
	v     *Volume
	ctx   context.Context //nolint:containedctx // lives for one call of tree
	yield func(treeRec, error) bool
	seen  marks
}

// list walks one list of block owner; false means that the caller wants no more.
func (t *treeWalk) list(list ocfs2.ExtentList, owner uint64) bool {
	depth := list.Depth()
	if depth == 0 {
		return t.leaves(list, owner)
	}
	for first := 0; first < list.Len(); first += treeBatch {
		if !t.children(list, owner, first, min(first+treeBatch, list.Len())) {
			return false
		}
	}
	return true
}

// leaves yields the records of a list of depth 0. The first may be empty.
func (t *treeWalk) leaves(list ocfs2.ExtentList, owner uint64) bool {
	bpc := t.v.sb.BlocksPerCluster()
	for _, rec := range list.All() {
		if rec.Clusters == 0 {
			continue
		}
		var err error
		if !t.v.sb.Contains(rec.Blkno, uint64(rec.Clusters)*bpc) {
			err = t.outOfRange(owner, rec, uint64(rec.Clusters)*bpc)
		}
		if !t.yield(treeRec{ExtentRec: rec}, err) {
			return false
		}
	}
	return true
}

// children reads the extent blocks that records first..end of list point to,
// together, and walks them in order.
func (t *treeWalk) children(list ocfs2.ExtentList, owner uint64, first, end int) bool {
	bs := t.v.sb.BlockSize()
	var (
		buf  = make([]byte, (end-first)*bs)
		errs = make([]error, end-first)
		segs []blockio.Segment
		of   []int // index into errs of each segment
	)
	for i := range errs {
		rec := list.Rec(first + i)
		switch {
		case rec.Clusters == 0 && first+i == 0:
			continue // an empty first record
		case !t.v.sb.Contains(rec.Blkno, 1):
			errs[i] = t.outOfRange(owner, rec, 1)
		case !t.seen.add(rec.Blkno):
			errs[i] = &ocfs2.BlockError{Block: rec.Blkno, Err: ocfs2.ErrCorrupt, Fault: ocfs2.Fault{
				Struct: "ocfs2_extent_rec", Field: "e_blkno", Got: fmt.Sprintf("block %d again", rec.Blkno), Want: "each extent block once in a tree",
			}}
		default:
			segs = append(segs, blockio.Segment{Off: int64(rec.Blkno) << t.v.sb.BlockBits, P: buf[i*bs:][:bs]})
			of = append(of, i)
		}
	}
	err := blockio.ReadSegments(t.ctx, t.v.r, segs, blockio.ReadOptions{Failed: func(seg int, err error) {
		errs[of[seg]] = fmt.Errorf("read extent block %d: %w", list.Rec(first+of[seg]).Blkno, err)
	}})
	if err != nil {
		return t.yield(treeRec{}, err)
	}
	for i := range errs {
		rec := list.Rec(first + i)
		if rec.Clusters == 0 && first+i == 0 {
			continue
		}
		var child ocfs2.ExtentList
		if errs[i] == nil {
			child, errs[i] = t.extentBlock(buf[i*bs:][:bs], rec.Blkno, list.Depth()-1)
		}
		if !t.yield(treeRec{ExtentRec: rec, depth: list.Depth()}, errs[i]) {
			return false
		}
		if errs[i] == nil && !t.list(child, rec.Blkno) {
			return false
		}
	}
	return true
}

// extentBlock returns the list in the extent block b, which was read from
// blkno and must have the given depth.
func (t *treeWalk) extentBlock(b []byte, blkno uint64, depth int) (ocfs2.ExtentList, error) {
	if faults := ocfs2.KindExtentBlock.Identity(b, blkno, t.v.sb.Generation); faults != nil {
		return ocfs2.ExtentList{}, corrupt(blkno, faults)
	}
	list := ocfs2.AsExtentBlock(b).List()
	if list.Depth() != depth {
		return ocfs2.ExtentList{}, &ocfs2.BlockError{Block: blkno, Err: ocfs2.ErrCorrupt, Fault: ocfs2.Fault{
			Struct: "ocfs2_extent_block", Field: "l_tree_depth", Got: fmt.Sprint(list.Depth()), Want: fmt.Sprint(depth),
		}}
	}
	return list, nil
}

func (t *treeWalk) outOfRange(owner uint64, rec ocfs2.ExtentRec, blocks uint64) error {
	return &ocfs2.BlockError{Block: owner, Err: ocfs2.ErrCorrupt, Fault: ocfs2.Fault{
		Struct: "ocfs2_extent_rec", Field: "e_blkno",
		Got:  fmt.Sprintf("%d blocks from block %d on", blocks, rec.Blkno),
		Want: fmt.Sprintf("within 2..%d", t.v.sb.Blocks()-1),
	}}
}
