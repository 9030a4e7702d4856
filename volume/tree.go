// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

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
// contents lie in its own block has none. What damage hides is yielded as errors
// behind the extents.
func (v *Volume) Extents(ctx context.Context, d ocfs2.Dinode) iter.Seq2[Extent, error] {
	return v.leaves(ctx, v.dataTree(d, d.Blkno()))
}

// leaves yields the leaf records of a tree as extents.
func (v *Volume) leaves(ctx context.Context, t tree) iter.Seq2[Extent, error] {
	bpc := v.sb.BlocksPerCluster()
	return func(yield func(Extent, error) bool) {
		for rec, err := range v.tree(ctx, t, v.strictly) {
			if _, recovered := errors.AsType[recoveredError](err); recovered || err == nil && rec.node {
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

// tree is an extent tree, as its owner describes it.
type tree struct {
	list     ocfs2.ExtentList
	owner    uint64 // block that holds list
	last     uint64 // the rightmost leaf; 0 if list holds the leaf records itself
	clusters uint64 // of all leaf records
	most     uint64 // clusters, or more if the owner's size says so
	used     uint64 // blocks of the contents that can hold anything, 0: all
	single   bool   // a leaf record stands for a block, not for clusters
	dense    bool   // it has no holes, and nothing behind its clusters
	hashed   bool   // its keys are hashes, which the clusters of a record do not count
}

// dataTree is the tree of an inode's contents.
func (v *Volume) dataTree(d ocfs2.Dinode, ino uint64) tree {
	t := tree{list: d.Extents(), owner: ino}
	if d.Union() == ocfs2.UnionExtents {
		t.last, t.clusters = d.LastExtentBlk(), uint64(d.Clusters())
	}
	t.most = max(t.clusters, (d.Size()+uint64(v.sb.ClusterSize())-1)>>v.sb.ClusterBits)
	return t
}

// indexTree is the tree of a directory's index.
func indexTree(dx ocfs2.DxRoot, blkno uint64) tree {
	n := uint64(dx.Clusters())
	return tree{list: dx.List(), owner: blkno, last: dx.LastExtentBlk(), clusters: n, most: n, hashed: true}
}

// bucketTree is the tree of an indexed xattr block.
func bucketTree(x ocfs2.XattrBlock, blkno uint64) tree {
	n := uint64(x.TreeClusters())
	return tree{list: x.Tree(), owner: blkno, last: x.TreeLastExtentBlk(), clusters: n, most: n, hashed: true}
}

// valueTree is the tree of an xattr's value, whose root lies in block blkno.
func valueTree(r ocfs2.XattrValueRoot, blkno uint64) tree {
	n := uint64(r.Clusters())
	return tree{list: r.List(), owner: blkno, last: r.LastExtentBlk(), clusters: n, most: n}
}

// refcountTree is the tree of refcount blocks below a root.
func refcountTree(r ocfs2.RefcountBlock, blkno uint64) tree {
	n := uint64(r.Clusters())
	return tree{list: r.List(), owner: blkno, last: r.LastExtentBlk(), clusters: n, most: n, single: true}
}

// treeRec is a record of an extent tree.
type treeRec struct {
	ocfs2.ExtentRec
	list  uint64 // block that holds it
	node  bool   // it points to an extent block
	doubt bool   // it is more than the owner says that the tree has
}

// badBlock is an error with its place in a tree.
type badBlock struct {
	blkno uint64
	path  []uint64 // blocks that led there
	err   error
}

func (e *badBlock) Error() string { return e.err.Error() }

func (e *badBlock) Unwrap() error { return e.err }

// judge says whether block blkno with the contents b may be taken for an extent
// block, and returns it as decisions are to be made by it. path are the blocks
// that led there.
type judge func(blkno uint64, b []byte, path []uint64) ([]byte, error)

// strictly is the judge of those who read a volume.
func (v *Volume) strictly(blkno uint64, b []byte, _ []uint64) ([]byte, error) {
	if faults := ocfs2.KindExtentBlock.Identity(b, blkno, v.sb.Generation); len(faults) > tolerated {
		return nil, corrupt(blkno, faults)
	}
	return b, nil
}

const (
	// treeBatch is how many extent blocks of one list are read at once.
	treeBatch = 64
	// maxTreeErrors and maxSpares bound what is remembered of a damaged tree.
	maxTreeErrors = 64
	maxSpares     = 1024
)

// tree yields all records of a tree, parents first and in key order. Where the
// tree is damaged it goes on with what it finds by other ways: the chain of the
// leaves, and records that a list holds beyond those it counts. What then still
// lacks from the owner's number of clusters is yielded as errors.
//
// No extent block is entered twice, so it ends whatever the disk holds.
func (v *Volume) tree(ctx context.Context, root tree, judge judge) iter.Seq2[treeRec, error] {
	return func(yield func(treeRec, error) bool) {
		t := treeWalk{v: v, ctx: ctx, root: root, judge: judge, yield: yield}
		t.list(root.list, root.owner, unknownDepth)
		t.linked(0)
		t.salvaging = true
		if t.sum < root.clusters {
			t.leafChain()
		}
		if t.sum < root.clusters {
			t.spareRecords()
		}
		t.settle()
	}
}

// unknownDepth is the depth of a list of which no parent tells.
const unknownDepth = -1

type treeWalk struct {
	v       *Volume
	ctx     context.Context //nolint:containedctx // lives for one call of tree
	root    tree
	judge   judge
	yield   func(treeRec, error) bool
	stopped bool // the caller wants no more

	salvaging bool // what nodes lead to has been walked

	seen   marks     // extent blocks entered
	path   []uint64  // blocks that led to the list at hand
	sum    uint64    // clusters of the leaf records so far
	next   []uint64  // leaves that leaves point to
	leaf0  uint64    // the leaf walked last, 0 if none
	right  uint64    // the leaf that it points to
	odd    *badBlock // the first record that may be why the clusters do not add up
	spares []spare
	errors []*badBlock
}

// spare is a list that holds records beyond those it counts.
type spare struct {
	list  ocfs2.ExtentList
	owner uint64
	path  []uint64
	node  bool
}

func (t *treeWalk) emit(rec treeRec) {
	if !t.stopped && !t.yield(rec, nil) {
		t.stopped = true
	}
}

func (t *treeWalk) fail(blkno uint64, err error) {
	if len(t.errors) < maxTreeErrors {
		t.errors = append(t.errors, t.bad(blkno, err))
	}
}

func (t *treeWalk) bad(blkno uint64, err error) *badBlock {
	return &badBlock{blkno: blkno, path: slices.Clone(t.path), err: err}
}

func (t *treeWalk) fault(blkno uint64, field, got, want string) {
	t.fail(blkno, listFault(blkno, field, got, want))
}

func listFault(blkno uint64, field, got, want string) error {
	return &ocfs2.BlockError{Block: blkno, Err: ocfs2.ErrCorrupt, Fault: ocfs2.Fault{
		Struct: "ocfs2_extent_list", Field: field, Got: got, Want: want,
	}}
}

// settle yields what is still missing.
func (t *treeWalk) settle() {
	if t.sum < t.root.clusters {
		t.path = nil
		t.fault(t.root.owner, "l_recs", fmt.Sprintf("%d clusters", t.sum), fmt.Sprintf("%d, as the owner of the tree says", t.root.clusters))
	}
	if t.sum > t.root.clusters {
		t.path = nil
		t.harmless(t.root.owner, "owner of an extent tree", "clusters", t.root.clusters, t.sum)
	}
	if t.sum != t.root.clusters && t.odd != nil {
		t.errors = append(t.errors, t.odd)
	}
	for _, e := range t.errors {
		if t.stopped || t.ctx.Err() != nil {
			return
		}
		if t.sum >= t.root.clusters {
			e = &badBlock{blkno: e.blkno, path: e.path, err: recoveredError{e.err}}
		}
		t.stopped = !t.yield(treeRec{}, e)
	}
}

// recoveredError is one by which nothing is lost.
type recoveredError struct{ error }

func (e recoveredError) Unwrap() error { return e.error }

// list walks one list of block owner, which should have a depth.
func (t *treeWalk) list(list ocfs2.ExtentList, owner uint64, depth int) {
	node := t.isNode(list, owner, depth)
	if len(t.spares) < maxSpares && hasSpares(list) {
		t.spares = append(t.spares, spare{list: list, owner: owner, path: slices.Clone(t.path), node: node})
	}
	if !node {
		t.leaves(list, owner)
		return
	}
	if len(t.path) >= ocfs2.MaxTreeDepth {
		t.fault(owner, "l_tree_depth", "one more level", fmt.Sprintf("at most %d", ocfs2.MaxTreeDepth))
		return
	}
	t.path = append(t.path, owner)
	for first := 0; first < list.Len() && !t.stopped && t.ctx.Err() == nil; first += treeBatch {
		t.children(list, owner, first, min(first+treeBatch, list.Len()))
	}
	t.path = t.path[:len(t.path)-1]
}

// hasSpares reports whether a list holds records beyond those it counts.
func hasSpares(list ocfs2.ExtentList) bool {
	for i := list.Len(); i < list.Cap(); i++ {
		if list.NodeRec(i).Blkno != 0 {
			return true
		}
	}
	return false
}

// isNode reports whether a list points to extent blocks. If its depth is
// contradicted, by the parent or by the owner's last leaf, the block that its
// first record points to decides.
func (t *treeWalk) isNode(list ocfs2.ExtentList, owner uint64, depth int) bool {
	own := list.Depth()
	switch {
	case own > ocfs2.MaxTreeDepth:
	case depth != unknownDepth && own == depth,
		depth == unknownDepth && len(t.path) > 0,
		depth == unknownDepth && (own > 0) == (t.root.last != 0):
		return own > 0
	}
	node := false
	for i := range list.Cap() {
		if blkno := list.NodeRec(i).Blkno; t.v.sb.Contains(blkno, 1) {
			b, err := t.v.ReadBlock(t.ctx, blkno)
			node = err == nil && ocfs2.KindExtentBlock.Identity(b, blkno, t.v.sb.Generation) == nil
			break
		}
	}
	want := "0: the records are leaves"
	if node {
		want = "a node above extent blocks"
	}
	t.fault(owner, "l_tree_depth", fmt.Sprint(own), want)
	return node
}

// leaves yields the records of a list of leaves. The first may be empty.
func (t *treeWalk) leaves(list ocfs2.ExtentList, owner uint64) {
	fits := len(t.path) == 0 && t.leafSum(list) <= t.root.most+1
	for i := range list.Len() {
		rec := list.LeafRec(i)
		if t.odd == nil && t.isOdd(list, i) {
			t.odd = t.bad(owner, listFault(owner, fmt.Sprintf("l_recs[%d].e_leaf_clusters", i), fmt.Sprint(rec.Clusters),
				"what the next record and the owner of the tree leave"))
		}
		if rec.Clusters == 0 {
			continue
		}
		limit := t.root.most - min(t.sum, t.root.most)
		if t.root.dense {
			end := t.root.most
			if next := uint64(list.LeafRec(i + 1).Cpos); i+1 < list.Len() && next > uint64(rec.Cpos) {
				end = min(end, next)
			}
			limit = end - min(end, uint64(rec.Cpos))
		}
		if fits {
			limit = uint64(rec.Clusters)
		}
		t.leaf(rec, owner, limit)
	}
}

// isOdd reports whether the length of leaf record i of a list is contradicted: it
// is none although the record points to clusters, or reaches into the clusters or
// the keys of the next record.
func (t *treeWalk) isOdd(list ocfs2.ExtentList, i int) bool {
	rec := list.LeafRec(i)
	if rec.Clusters == 0 {
		return rec.Blkno != 0
	}
	if i+1 >= list.Len() {
		return false
	}
	next := list.LeafRec(i + 1)
	if !t.root.hashed && uint64(next.Cpos) < rec.End() {
		return true
	}
	shared := rec.Flags&next.Flags&ocfs2.ExtRefcounted != 0
	return !shared && next.Blkno > rec.Blkno && next.Blkno-rec.Blkno < uint64(rec.Clusters)*t.unit()
}

// leafSum returns the clusters of all records of a list of leaves.
func (t *treeWalk) leafSum(list ocfs2.ExtentList) (sum uint64) {
	for i := range list.Len() {
		sum += uint64(list.LeafRec(i).Clusters)
	}
	return sum
}

// leaf yields a leaf record of block owner, without the part that is outside
// the volume, and in two parts if only the first, of limit clusters, is sure to
// belong to the tree.
func (t *treeWalk) leaf(rec ocfs2.ExtentRec, owner, limit uint64) {
	bpc, sb := t.unit(), t.v.sb
	if !sb.Contains(rec.Blkno, 1) {
		t.outOfRange(owner, rec, uint64(rec.Clusters)*bpc)
		return
	}
	counted := uint64(rec.Clusters)
	if rec.Blkno%bpc != 0 {
		t.fault(owner, "e_blkno", fmt.Sprint(rec.Blkno), "the first block of a cluster")
		counted = 0 // what it stands for is not known
		rec.Blkno -= rec.Blkno % bpc
	}
	if room := (sb.Blocks() - rec.Blkno) / bpc; uint64(rec.Clusters) > room {
		t.outOfRange(owner, rec, uint64(rec.Clusters)*bpc)
		rec.Clusters = uint32(room) //nolint:gosec // less than before
		counted = min(counted, room)
	}
	sure := rec
	if uint64(rec.Clusters) > limit {
		sure.Clusters = uint32(limit) //nolint:gosec // less than before
	}
	t.sum += counted
	if sure.Clusters > 0 {
		t.emit(treeRec{ExtentRec: sure, list: owner})
	}
	if rest := rec.Clusters - sure.Clusters; rest > 0 {
		t.fault(owner, "l_recs", fmt.Sprintf("%d clusters", t.sum), fmt.Sprintf("%d, as the owner of the tree says", t.root.clusters))
		t.emit(treeRec{doubt: true, list: owner, ExtentRec: ocfs2.ExtentRec{
			Cpos: rec.Cpos + sure.Clusters, Clusters: rest, Flags: rec.Flags, Blkno: rec.Blkno + uint64(sure.Clusters)*bpc,
		}})
	}
}

// unit returns the blocks that one cluster of a leaf record stands for.
func (t *treeWalk) unit() uint64 {
	if t.root.single {
		return 1
	}
	return t.v.sb.BlocksPerCluster()
}

// children reads the extent blocks that records first..end of list point to,
// together, and walks them in order.
func (t *treeWalk) children(list ocfs2.ExtentList, owner uint64, first, end int) {
	bs := t.v.sb.BlockSize()
	var (
		buf  = make([]byte, (end-first)*bs)
		errs = make([]error, end-first)
		read = make([]bool, end-first)
		segs []blockio.Segment
		of   []int // index into errs of each segment
	)
	for i := range errs {
		rec := list.NodeRec(first + i)
		switch {
		case rec.Blkno == 0 && first+i == 0, rec == ocfs2.ExtentRec{}:
			continue // an unused record
		case !t.v.sb.Contains(rec.Blkno, 1):
			t.outOfRange(owner, rec, 1)
		case !t.seen.add(rec.Blkno):
			t.fault(owner, "e_blkno", fmt.Sprintf("block %d again", rec.Blkno), "each extent block once in a tree")
		default:
			read[i] = true
			segs = append(segs, blockio.Segment{Off: int64(rec.Blkno) << t.v.sb.BlockBits, P: buf[i*bs:][:bs]})
			of = append(of, i)
		}
	}
	err := blockio.ReadSegments(t.ctx, t.v.r, segs, blockio.ReadOptions{Failed: func(seg int, err error) {
		errs[of[seg]] = fmt.Errorf("read extent block %d: %w", list.NodeRec(first+of[seg]).Blkno, err)
	}})
	if err != nil {
		return // of the context
	}
	depth := unknownDepth
	if own := list.Depth(); own > 0 && own <= ocfs2.MaxTreeDepth {
		depth = own - 1
	}
	for i := range errs {
		if !read[i] || t.stopped {
			continue
		}
		rec := list.NodeRec(first + i)
		t.emit(treeRec{ExtentRec: rec, node: true})
		if errs[i] != nil {
			t.fail(rec.Blkno, errs[i])
			continue
		}
		t.child(rec.Blkno, buf[i*bs:][:bs], depth)
	}
}

// child walks the extent block b, which was read from blkno.
func (t *treeWalk) child(blkno uint64, b []byte, depth int) {
	b, err := t.judge(blkno, b, t.path)
	if err != nil {
		t.fail(blkno, err)
		return
	}
	e := ocfs2.AsExtentBlock(b)
	next := e.NextLeaf()
	if next != 0 {
		t.next = append(t.next, next)
	}
	if e.List().Depth() == 0 && !t.salvaging {
		t.linked(blkno)
		t.leaf0, t.right = blkno, next
	}
	t.list(e.List(), blkno, depth)
}

// linked checks that the last leaf points to the next one, or is the last one of
// the tree if that is 0.
func (t *treeWalk) linked(next uint64) {
	if t.leaf0 == 0 {
		return
	}
	if t.right != next {
		t.harmless(t.leaf0, "ocfs2_extent_block", "h_next_leaf_blk", t.right, next)
	}
	if next == 0 && t.leaf0 != t.root.last {
		t.harmless(t.root.owner, "owner of an extent tree", "last_eb_blk", t.root.last, t.leaf0)
	}
}

// harmless notes a contradiction that hides nothing.
func (t *treeWalk) harmless(blkno uint64, structure, field string, got, want uint64) {
	t.fail(blkno, recoveredError{&ocfs2.BlockError{Block: blkno, Err: ocfs2.ErrCorrupt, Fault: ocfs2.Fault{
		Struct: structure, Field: field, Got: fmt.Sprint(got), Want: fmt.Sprint(want),
	}}})
}

// leafChain walks leaves that no node led to: those that others point to as
// their right neighbours, and the last one.
func (t *treeWalk) leafChain() {
	t.next = append(t.next, t.root.last)
	for len(t.next) > 0 && !t.stopped && t.ctx.Err() == nil {
		blkno := t.next[len(t.next)-1]
		t.next = t.next[:len(t.next)-1]
		if !t.v.sb.Contains(blkno, 1) || !t.seen.add(blkno) {
			continue
		}
		b, err := t.v.ReadBlock(t.ctx, blkno)
		if err != nil || ocfs2.KindExtentBlock.Identity(b, blkno, t.v.sb.Generation) != nil || ocfs2.AsExtentBlock(b).List().Depth() != 0 {
			continue
		}
		t.emit(treeRec{node: true, ExtentRec: ocfs2.ExtentRec{Blkno: blkno}})
		t.child(blkno, b, 0)
	}
}

// spareRecords walks records that lists do not count, as far as clusters lack
// and the records could be right.
func (t *treeWalk) spareRecords() {
	bpc := t.unit()
	spares := t.spares
	t.spares = nil
	for _, s := range spares {
		used := s.list.Len()
		for i := used; i < s.list.Cap() && t.sum < t.root.clusters && !t.stopped && t.ctx.Err() == nil; i++ {
			node, leaf := s.list.NodeRec(i), s.list.LeafRec(i)
			switch {
			case s.node && t.v.sb.Contains(node.Blkno, 1):
				b, err := t.v.ReadBlock(t.ctx, node.Blkno)
				if err != nil || ocfs2.KindExtentBlock.Identity(b, node.Blkno, t.v.sb.Generation) != nil || !t.seen.add(node.Blkno) {
					continue
				}
				t.emit(treeRec{ExtentRec: node, node: true})
				t.path = append(s.path, s.owner) //nolint:gocritic // the walk is over, the path is free
				t.child(node.Blkno, b, unknownDepth)
				used = i + 1
			case !s.node && leaf.Clusters > 0 && leaf.Blkno%bpc == 0 && t.v.sb.Contains(leaf.Blkno, uint64(leaf.Clusters)*bpc) &&
				t.sum+uint64(leaf.Clusters) <= t.root.clusters:
				t.leaf(leaf, s.owner, uint64(leaf.Clusters))
				used = i + 1
			}
		}
		if used > s.list.Len() {
			t.path = s.path
			t.fault(s.owner, "l_next_free_rec", fmt.Sprint(s.list.Used()), fmt.Sprint(used))
		}
	}
}

func (t *treeWalk) outOfRange(owner uint64, rec ocfs2.ExtentRec, blocks uint64) {
	t.fail(owner, &ocfs2.BlockError{Block: owner, Err: ocfs2.ErrCorrupt, Fault: ocfs2.Fault{
		Struct: "ocfs2_extent_rec", Field: "e_blkno",
		Got:  fmt.Sprintf("%d blocks from block %d on", blocks, rec.Blkno),
		Want: fmt.Sprintf("within 2..%d", t.v.sb.Blocks()-1),
	}})
}
