// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"o2image/blockio"
	"o2image/blockset"
	"o2image/ocfs2"
)

const (
	// walkers is how many tasks of the walk are under way at once. Most of
	// them wait for the device.
	walkers = 32
	// BufferSize is how much of an inode group is read at once, in bytes, and how
	// large the buffers of a walk are at least.
	BufferSize = 1 << 20
)

// walk collects the metadata set. Its methods run in many tasks at once.
type walk struct {
	v          *Volume
	set        *blockset.Builder
	bufs       *blockio.Pool
	queue      *queue
	system     map[uint64]string // names of the system files, by inode
	named      bool              // system has them all
	groups     marks             // groups entered
	owners     marks             // groups that blocks say they belong to
	inodes     marks             // inodes looked at
	roots      marks             // allocated roots of trees of index leaves and buckets
	claimed    marks             // roots that inodes point to
	refcounted marks             // those of them that are refcount blocks
	taken      marks             // clusters that trees have, by number
	searched   marks             // clusters that trees may have, by number
	disputed   marks             // clusters and roots that more than one has, by block
	data       fileData          // clusters that hold file data
	sharing    sharing           // what refcount trees count
	unmarked   clusterSet        // clusters of journals and other system files
	doubled    []clusterRun      // clusters that more than one has: disputed, and those of data

	unresolved  marks // inodes that were named before they were looked at
	directories typed
	symlinks    typed
	longLinks   marks // symlinks with clusters

	cleanJournals atomic.Int64 // journals that need no replay

	free     [numClasses]atomic.Uint64
	skip     Skip
	skipped  [numClasses]atomic.Uint64
	progress progress
	findings findings

	mu           sync.Mutex
	allocators   map[uint64]*allocator // by inode
	deferred     map[uint64]func(context.Context)
	leaves       []leaf // to be read together
	leafBlocks   uint64 // in leaves
	unallocated  []freeExtent
	groupBitmaps map[int]func() ocfs2.Bitmap // of groups of the global bitmap, by number
}

// run does all tasks that are queued.
func (w *walk) run(ctx context.Context) {
	_ = w.queue.run(ctx, walkers) // the error is that of ctx
	for ctx.Err() == nil && len(w.leaves) > 0 {
		w.queueLeaves()
		_ = w.queue.run(ctx, walkers)
	}
}

// start adds what the superblock names, and queues the allocator of the system
// inodes, from which everything else is reached.
func (w *walk) start(ctx context.Context) {
	sb := w.v.sb
	w.set.Add(0, min(sb.FirstClusterGroup, sb.Blocks()), uint8(ClassSuper))
	for _, blkno := range sb.Backups() {
		w.set.Add(blkno, 1, uint8(ClassSuper))
	}
	for _, f := range slices.Concat(w.v.found, w.v.checkBackups(ctx)) {
		w.findings.add(f)
	}
	global := w.systemFiles(ctx)
	if global == 0 {
		global = w.globalAllocator(ctx)
	}
	if global == 0 {
		w.note(origin{class: ClassInode, ino: sb.SystemDir}, sb.SystemDir, NotFollowed,
			"no global_inode_alloc in the system directory", "all inodes that no directory names")
		w.addSystemGroup(ctx)
		return
	}
	w.queue.near(func(ctx context.Context) { w.entry(ctx, global, origin{class: ClassInode}) })
}

// entry looks at an inode that something other than its allocator led to.
func (w *walk) entry(ctx context.Context, ino uint64, o origin) {
	o.ino = ino
	if w.v.sb.Contains(ino, 1) {
		w.set.Add(ino, 1, uint8(ClassInode))
	}
	b, s := w.block(ctx, ocfs2.KindInode, ino, o, "what the inode leads to")
	if !w.v.sb.Contains(ino, 1) || !w.inodes.add(ino) || s == lost {
		return
	}
	w.belongs(ocfs2.KindInode, b, ino)
	w.inode(ctx, ino, b, s, o)
}

// belongs remembers the group that a suballocated block says it lies in.
func (w *walk) belongs(kind ocfs2.Kind, b []byte, blkno uint64) {
	if _, bit, loc, ok := kind.Suballoc(b); ok {
		if loc == 0 && uint64(bit) < blkno {
			loc = blkno - uint64(bit)
		}
		if w.v.sb.Contains(loc, 1) {
			w.owners.add(loc)
		}
	}
}

// soundness says how far a block can be trusted.
type soundness uint8

const (
	sound    soundness = iota
	doubtful           // it is what it should be, but contradicts itself
	lost               // it is not what it should be, or was not read
)

// block reads block blkno, which must be a structure of the given kind. If it
// is not, that becomes a finding; consequence is what was lost.
func (w *walk) block(ctx context.Context, kind ocfs2.Kind, blkno uint64, o origin, consequence string) ([]byte, soundness) {
	b, err := w.v.ReadBlock(ctx, blkno)
	if err != nil {
		if ctx.Err() == nil {
			w.failed(o, blkno, err, consequence)
		}
		return nil, lost
	}
	return w.judge(kind, blkno, b, o, consequence)
}

// judge returns b, a block that must be of the given kind, as decisions are to
// be made by it: with a single wrong bit corrected in a copy if the check value
// names it. If the block is not what it should be that becomes a finding.
func (w *walk) judge(kind ocfs2.Kind, blkno uint64, b []byte, o origin, consequence string) ([]byte, soundness) {
	s := sound
	if w.v.sb.HasECC() {
		switch state, bit := kind.VerifyECC(b); state {
		case ocfs2.ECCValid:
		case ocfs2.ECCRepairable:
			w.note(o, blkno, Damaged, fmt.Sprintf("%s: bit %d of the block is wrong by its check value", kind, bit), "")
			b = append([]byte(nil), b...)
			ocfs2.RepairBit(b, bit)
		case ocfs2.ECCInvalid:
			severity := NotFollowed
			if consequence == "" {
				severity = Damaged
			}
			w.note(o, blkno, severity, fmt.Sprintf("%s: wrong check value", kind), consequence)
			s = doubtful
		}
	}
	faults := kind.Identity(b, blkno, w.v.sb.Generation)
	if len(faults) > tolerated {
		severity := NotFollowed
		if consequence == "" {
			severity = Damaged
		}
		w.note(o, blkno, severity, faults[0].String()+"; "+faults[1].String(), consequence)
		return nil, lost
	}
	if len(faults) > 0 {
		s = doubtful
		if kind != ocfs2.KindInode && kind != ocfs2.KindGroup { // they have more checks, with this one among them
			w.faults(o, blkno, faults)
		}
	}
	return b, s
}

// inode adds what the inode in b leads to. The flags decide what its union
// holds before the union is looked at. The tasks that it queues run when b holds
// something else.
func (w *walk) inode(ctx context.Context, ino uint64, b []byte, s soundness, o origin) {
	d := ocfs2.AsDinode(b)
	if found := d.Faults(ino, w.v.sb); found != nil {
		w.faults(o, ino, found)
		s = doubtful
	}
	if name := w.system[ino]; s != sound || name != "" || !plainFlags(d.Flags()) {
		d = w.corrected(ctx, d, ino, name, s, o)
	}
	o = o.via(ino)
	if d.DynFeatures().Has(ocfs2.DynHasRefcount) {
		o.tree = d.RefcountLoc()
		w.sharing.file(o.tree)
	}
	switch {
	case d.IsDir():
		w.directories.are.add(ino)
	case d.IsSymlink():
		w.symlinks.are.add(ino)
	}
	switch d.Union() {
	case ocfs2.UnionChain:
		w.allocator(ctx, ino, d)
	case ocfs2.UnionExtents:
		if class, ok := contentsClass(d); ok {
			o.class = class
			if class == ClassJournal && s == sound && !d.JournalDirty() {
				w.cleanJournals.Add(1)
			}
			if class == ClassJournal && w.skip.JournalClean && s == sound && w.skipJournal(ctx, d) {
				break
			}
			check, blocks := w.contentsLeaf(d, ino, class)
			t := w.v.dataTree(d, ino)
			t.dense, t.used = true, usedBlocks(d, class)
			if class == ClassSymlink {
				w.longLinks.add(ino)
			}
			if t.last != 0 || t.list.Depth() > 0 {
				t.list = t.list.Clone() // for later
				w.queue.near(func(ctx context.Context) { w.tree(ctx, t, o, check, blocks) })
			} else {
				w.tree(ctx, t, o, check, blocks)
			}
		} else {
			if d.IsSymlink() && d.Clusters() > 0 {
				w.note(o, ino, NotFollowed, fmt.Sprintf("i_size: %d bytes of a symlink are none that need clusters", d.Size()), "its target, should it be a symlink")
			}
			o := o
			o.class = ClassExtent
			w.holdsData(w.v.dataTree(d, ino), o)
		}
	case ocfs2.UnionInlineData:
		if area := d.InlineData(); d.IsDir() {
			w.names(ino, area[:min(uint64(len(area)), d.Size())], ino, o)
		}
	}
	if root := d.DxRoot(); d.IsDir() && (d.DynFeatures().Has(ocfs2.DynIndexedDir) || s != sound && w.v.sb.Contains(root, 1)) {
		w.queue.near(func(ctx context.Context) { w.index(ctx, root, o) })
	}
	if area, ok := d.InlineXattrs(); ok {
		w.values(area, ino, o)
	}
	if loc := d.XattrLoc(); loc != 0 {
		w.queue.near(func(ctx context.Context) { w.xattrs(ctx, loc, o) })
	}
	if d.DynFeatures().Has(ocfs2.DynHasRefcount) {
		w.queue.near(func(ctx context.Context) { w.refcounts(ctx, o.tree, o) })
	}
}

// nodes adds the extent blocks of a tree with file data, which their allocator
// should have led to as well, checks them, and remembers the clusters.
func (w *walk) nodes(ctx context.Context, t tree, o origin) {
	for rec, err := range w.v.tree(ctx, t, w.nodeJudge(t, o, "")) {
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.failed(o, t.owner, recoveredError{err}, "")
		case rec.node:
			w.set.Add(rec.Blkno, 1, uint8(ClassExtent))
		case !rec.doubt:
			w.holdsExtent(rec.ExtentRec, o)
		}
	}
}

// refcounts checks the refcount tree with its root in block loc, which many
// files can share.
func (w *walk) refcounts(ctx context.Context, loc uint64, o origin) {
	o.class = ClassExtent
	if !w.v.sb.Contains(loc, 1) {
		w.note(o, o.ino, Damaged, fmt.Sprintf("i_refcount_loc: block %d is outside the volume", loc), "")
		return
	}
	if w.refcounted.has(loc) {
		return
	}
	b, err := w.v.ReadBlock(ctx, loc)
	if err != nil || ocfs2.Identify(b) != ocfs2.KindRefcountBlock {
		if ctx.Err() == nil {
			w.note(o, o.ino, Damaged, fmt.Sprintf("i_refcount_loc: block %d is no refcount block", loc), "")
		}
		return
	}
	w.refcounted.add(loc)
	if !w.claimed.add(loc) {
		return
	}
	w.set.Add(loc, 1, uint8(ClassExtent))
	w.belongs(ocfs2.KindRefcountBlock, b, loc)
	w.verify(ocfs2.KindRefcountBlock, loc, b, o)
	root := ocfs2.AsRefcountBlock(b)
	w.faults(o, loc, root.Faults(loc, w.v.sb, 0))
	w.sharing.block(loc, root)
	if !root.IsTree() {
		return
	}
	t := refcountTree(root, loc)
	for rec, err := range w.v.tree(ctx, t, w.nodeJudge(t, o, "")) {
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.failed(o, loc, recoveredError{err}, "")
		default:
			w.set.Add(rec.Blkno, 1, uint8(ClassExtent))
			if !rec.node {
				w.addLeaf(leaf{blkno: rec.Blkno, blocks: 1, unit: 1, o: o.via(loc), check: func(blkno uint64, b []byte, o origin) {
					if cpos := ocfs2.AsRefcountBlock(b).Cpos(); cpos != rec.Cpos {
						w.note(o, rec.list, Damaged, fmt.Sprintf("rf_cpos of refcount block %d: got %d, want %d", blkno, cpos, rec.Cpos), "")
					}
					w.sharing.block(loc, ocfs2.AsRefcountBlock(b))
					w.verify(ocfs2.KindRefcountBlock, blkno, b, o)
					w.faults(o, blkno, ocfs2.AsRefcountBlock(b).Faults(blkno, w.v.sb, loc))
				}})
			}
		}
	}
}

// nodeJudge judges the extent blocks of tree t; consequence is what is lost with
// one that is not what it should be.
func (w *walk) nodeJudge(t tree, o origin, consequence string) judge {
	return func(blkno uint64, b []byte, path []uint64) ([]byte, error) {
		at := o
		for _, p := range path {
			if p != t.owner {
				at = at.via(p)
			}
		}
		b, s := w.judge(ocfs2.KindExtentBlock, blkno, b, at, consequence)
		if s == lost {
			return nil, errNoted
		}
		w.belongs(ocfs2.KindExtentBlock, b, blkno)
		return b, nil
	}
}

// contentsClass returns the class of an inode's clusters; ok is false for those
// of regular and special files.
func contentsClass(d ocfs2.Dinode) (c Class, ok bool) {
	switch flags := d.Flags(); {
	case d.IsDir():
		return ClassDirectory, true
	case flags.Has(ocfs2.InodeJournal):
		return ClassJournal, true
	case flags.Has(ocfs2.InodeSystem):
		return ClassSystem, true
	case d.IsLongSymlink():
		return ClassSymlink, true
	}
	return 0, false
}

// usedBlocks returns how many blocks of the contents of d, of the given class,
// can hold anything. What lies behind them was never cleared. 0 means all.
func usedBlocks(d ocfs2.Dinode, class Class) uint64 {
	if class != ClassSymlink && !d.Flags().Has(ocfs2.InodeQuota) {
		return 0
	}
	bs := uint64(len(d.Bytes()))
	return d.Size()/bs + min(d.Size()%bs, 1)
}

// index adds the index of a directory, whose root is block root.
func (w *walk) index(ctx context.Context, root uint64, o origin) {
	o.class = ClassDxLeaf
	b, s := w.block(ctx, ocfs2.KindDxRoot, root, o, "the index of the directory")
	if s == lost {
		return
	}
	w.set.Add(root, 1, uint8(ClassExtent))
	w.belongs(ocfs2.KindDxRoot, b, root)
	dx := ocfs2.AsDxRoot(b)
	if found := dx.Faults(root, w.v.sb, o.ino); found != nil {
		w.faults(o, root, found)
		if dir := dx.DirBlkno(); dir != o.ino {
			w.note(o, root, NotFollowed, fmt.Sprintf("the index of directory %d", dir), "the index of the directory")
		}
	}
	if w.claimed.add(root) && (!dx.Inline() || dx.Clusters() > 0) {
		w.tree(ctx, indexTree(dx, root), o.via(root), leaf{unit: 1, check: w.dxLeaf}, allBlocks)
	}
}

// allBlocks stands for the blocks of a tree whose clusters are all in use.
const allBlocks = 1 << 62

// xattrs adds the buckets of an inode, if its xattr block loc has a tree of them.
func (w *walk) xattrs(ctx context.Context, loc uint64, o origin) {
	o.class = ClassBucket
	b, s := w.block(ctx, ocfs2.KindXattrBlock, loc, o, "the extended attributes in buckets")
	if s == lost {
		return
	}
	w.set.Add(loc, 1, uint8(ClassExtent))
	w.belongs(ocfs2.KindXattrBlock, b, loc)
	x := ocfs2.AsXattrBlock(b)
	found := x.Faults(loc, w.v.sb)
	w.faults(o, loc, found)
	if !w.claimed.add(loc) {
		w.disputed.add(loc)
		return
	}
	indexed := x.Indexed()
	if found != nil {
		area, list := x.Area(), x.Tree()
		entries := area.Count() > 0 && area.Faults(w.v.sb) == nil
		if tree := x.TreeClusters() > 0 && list.Len() > 0 && list.Faults(w.v.sb, ocfs2.TreeHash) == nil; tree != entries {
			indexed = tree
		}
	}
	if indexed {
		w.tree(ctx, bucketTree(x, loc), o.via(loc), w.bucketLeaf(), allBlocks)
	} else {
		w.values(x.Area(), loc, o)
	}
}

// bucketLeaf checks the buckets of an extent. The first one tells how many there
// are.
func (w *walk) bucketLeaf() leaf {
	unit := w.v.sb.BucketBlocks()
	return leaf{
		unit: unit,
		check: func(blkno uint64, b []byte, o origin) {
			w.verify(ocfs2.KindBucket, blkno, b, o)
			w.faults(o, blkno, ocfs2.AsBucket(b).Faults(w.v.sb))
			w.values(ocfs2.AsBucket(b), blkno, o)
		},
		sort: w.bucketClass,
		used: func(first []byte) uint64 { return uint64(ocfs2.AsBucket(first).NumBuckets()) }, //nolint:gosec // from 16 bits
	}
}

// bucketClass tells a bucket from what only lies in clusters of buckets: behind
// those in use, or where a damaged record leads. Blocks of less than a bucket do
// not show that alone.
func (w *walk) bucketClass(b []byte, used bool) Class {
	area := ocfs2.AsBucket(b)
	switch {
	case area.Count() == 0 && area.FreeStart() == 0: // nothing was ever written there
	case area.Plausible(w.v.sb), used && area.Emptied(w.v.sb):
		return ClassBucket
	case w.v.sb.HasECC():
		if state, _ := ocfs2.KindBucket.VerifyECC(b); state != ocfs2.ECCInvalid {
			return ClassBucket
		}
	}
	return ClassSlack
}

// tree adds the clusters of a tree, and the tree's extent blocks, and has its
// first blocks checked.
func (w *walk) tree(ctx context.Context, t tree, o origin, check leaf, blocks uint64) {
	bpc := w.v.sb.BlocksPerCluster()
	check.o = o
	list, head := t.owner, check.head
	var unmarked []treeRec
	compare := func() {
		extents := unmarked
		w.queue.near(func(ctx context.Context) { w.findFree(ctx, extents, o) })
		unmarked = nil
	}
	for rec, err := range w.v.tree(ctx, t, w.nodeJudge(t, o, "the extents below")) {
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.failed(o, t.owner, err, "clusters of the tree")
		case rec.node:
			w.set.Add(rec.Blkno, 1, uint8(ClassExtent))
		case rec.doubt:
			n := w.unsearched(rec.Blkno, uint64(rec.Clusters))
			w.queue.bulk(func(ctx context.Context) {
				if n < uint64(rec.Clusters) || !w.search(ctx, rec.Blkno, n*bpc, o) {
					w.note(o, t.owner, NotFollowed, fmt.Sprintf("%d clusters from block %d on are more than the tree should have", rec.Clusters, rec.Blkno),
						"those of their blocks that are no metadata by themselves")
				}
			})
		default:
			n := uint64(rec.Clusters) * bpc
			if check.sort == nil {
				used := n
				if t.used > 0 {
					used = min(n, t.used-min(t.used, uint64(rec.Cpos)*bpc))
				}
				w.set.Add(rec.Blkno, used, uint8(o.class))
				w.set.Add(rec.Blkno+used, n-used, uint8(ClassSlack))
			}
			w.take(rec.Blkno, uint64(rec.Clusters))
			if o.class.isUnmarked() {
				w.unmarked.add(uint32(rec.Blkno/bpc), rec.Clusters) //nolint:gosec // in the volume
				if unmarked = append(unmarked, rec); len(unmarked) == extentsAtOnce {
					compare()
				}
			}
			if first := uint64(rec.Cpos) * bpc; check.check != nil && (blocks == allBlocks || first < blocks) {
				if rec.list != list {
					list = rec.list
					check.o = o.via(list)
				}
				check.blkno, check.blocks, check.head = rec.Blkno, n, nil
				if first == 0 {
					check.head = head
				}
				if blocks != allBlocks {
					check.blocks = min(n, blocks-first)
				}
				w.addLeaf(check)
			}
		}
	}
	if len(unmarked) > 0 {
		compare()
	}
}
