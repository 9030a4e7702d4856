// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"o2image/blockio"
	"o2image/blockset"
	"o2image/ocfs2"
)

// Metadata is the metadata set of a volume: which blocks belong to an image of
// it, and why.
type Metadata struct {
	Blocks *blockset.Set // the tags are classes

	// Free is how many blocks of the classes ClassInode and ClassExtent are
	// not allocated: deleted inodes and old extent blocks.
	Free map[Class]uint64

	Findings []Finding // by block, at most 10000
	Found    int       // how many there were in all
}

// Count returns how many blocks there are of a class.
func (m *Metadata) Count(c Class) uint64 { return m.Blocks.CountByTag()[c] }

// Complete reports whether nothing is known to be missing from the set.
func (m *Metadata) Complete() bool {
	for _, f := range m.Findings {
		if f.Severity != Damaged {
			return false
		}
	}
	return m.Found == len(m.Findings)
}

// Options says how [Volume.Metadata] looks for metadata. The zero value suits
// sound volumes.
type Options struct {
	// Sweep has everything read that nothing claims. What shows by its
	// signature, its own number and its generation that it is metadata of this
	// volume belongs to the set as well.
	Sweep bool
}

// Metadata finds the metadata set by following the allocators: inodes are found
// in the inode allocators, and what belongs to each inode by its own flags.
// Damage does not stop it; the error is that of ctx.
func (v *Volume) Metadata(ctx context.Context, opts Options) (*Metadata, error) {
	w := &walk{
		v:     v,
		set:   blockset.NewBuilder(),
		bufs:  blockio.NewPool(pieceSize, walkers/2),
		queue: newQueue(),
	}
	defer w.bufs.Close()
	w.start(ctx)
	if err := w.queue.run(ctx, walkers); err != nil {
		return nil, err
	}
	return &Metadata{
		Blocks: w.set.Seal(),
		Free: map[Class]uint64{
			ClassInode:  w.free[ClassInode].Load(),
			ClassExtent: w.free[ClassExtent].Load(),
		},
		Findings: w.findings.sorted(),
		Found:    w.findings.total,
	}, nil
}

const (
	// walkers is how many tasks of the walk are under way at once. Most of
	// them wait for the device.
	walkers = 32
	// pieceSize is how much of an inode group is read at once, in bytes.
	pieceSize = 1 << 20
)

// walk collects the metadata set. Its methods run in many tasks at once.
type walk struct {
	v        *Volume
	set      *blockset.Builder
	bufs     *blockio.Pool
	queue    *queue
	roles    map[uint64]role // of allocators, by inode
	groups   marks           // groups entered
	inodes   marks           // inodes looked at
	free     [numClasses]atomic.Uint64
	findings findings
}

// role says what the bits of an allocator stand for.
type role uint8

const (
	roleUnknown role = iota
	roleClusters
	roleInodes
	roleExtents
)

// roleOf tells the role of an allocator from its name in the system directory:
// its inode does not say.
func roleOf(name string) role {
	switch base, _, _ := strings.Cut(name, ":"); base {
	case "global_bitmap":
		return roleClusters
	case "global_inode_alloc", "inode_alloc":
		return roleInodes
	case "extent_alloc":
		return roleExtents
	}
	return roleUnknown
}

// start adds what the superblock names, and queues the allocator of the system
// inodes, from which everything else is reached.
func (w *walk) start(ctx context.Context) {
	sb := w.v.sb
	w.set.Add(0, min(sb.FirstClusterGroup, sb.Blocks()), uint8(ClassSuper))
	for _, blkno := range sb.Backups() {
		w.set.Add(blkno, 1, uint8(ClassSuper))
	}
	files, err := w.v.systemFiles(ctx)
	if err != nil {
		w.findings.failed(ClassDirectory, sb.SystemDir, sb.SystemDir, err)
	}
	w.roles = make(map[uint64]role)
	for name, ino := range files {
		if r := roleOf(name); r != roleUnknown {
			w.roles[ino] = r
		}
	}
	ino, ok := files["global_inode_alloc"]
	if !ok {
		w.findings.add(Finding{
			Severity: NotFollowed, Class: ClassInode, Block: sb.SystemDir, Inode: sb.SystemDir,
			Text: "no global_inode_alloc in the system directory",
		})
		return
	}
	w.queue.near(func(ctx context.Context) {
		if b, ok := w.block(ctx, ocfs2.KindInode, ino, ClassInode, ino); ok {
			w.set.Add(ino, 1, uint8(ClassInode))
			w.inodes.add(ino)
			w.inode(ctx, ino, b)
		}
	})
}

// block reads block blkno, which must be a structure of the given kind. If it
// is not, that becomes a finding.
func (w *walk) block(ctx context.Context, kind ocfs2.Kind, blkno uint64, class Class, ino uint64) ([]byte, bool) {
	b, err := w.v.ReadBlock(ctx, blkno)
	if err != nil {
		w.findings.failed(class, blkno, ino, err)
		return nil, false
	}
	return w.sound(kind, blkno, b, class, ino)
}

// sound returns b, a block that must be of the given kind, as decisions are
// to be made by it: with a single wrong bit corrected in a copy if the check
// value names it. If the block is not what it should be that becomes a finding.
func (w *walk) sound(kind ocfs2.Kind, blkno uint64, b []byte, class Class, ino uint64) ([]byte, bool) {
	damaged := func(s Severity, text string) {
		w.findings.add(Finding{Severity: s, Class: class, Block: blkno, Inode: ino, Text: text})
	}
	if w.v.sb.HasECC() {
		switch state, bit := kind.VerifyECC(b); state {
		case ocfs2.ECCValid:
		case ocfs2.ECCRepairable:
			damaged(Damaged, fmt.Sprintf("%s: bit %d of the block is wrong by its check value", kind, bit))
			b = append([]byte(nil), b...)
			ocfs2.RepairBit(b, bit)
		case ocfs2.ECCInvalid:
			damaged(Damaged, fmt.Sprintf("%s: wrong check value", kind))
		}
	}
	if faults := kind.Identity(b, blkno, w.v.sb.Generation); faults != nil {
		damaged(NotFollowed, faults[0].String())
		return nil, false
	}
	return b, true
}

// inode adds what the inode in b leads to. The flags decide what its union
// holds before the union is looked at. The tasks that it queues run when b holds
// something else.
func (w *walk) inode(ctx context.Context, ino uint64, b []byte) {
	d := ocfs2.AsDinode(b)
	flags, dyn := d.Flags(), d.DynFeatures()
	switch d.Union() {
	case ocfs2.UnionChain:
		w.allocator(ino, d)
	case ocfs2.UnionExtents:
		list := d.Extents()
		if list.Depth() > 0 {
			list = ocfs2.AsDinode(bytes.Clone(b)).Extents()
		}
		switch {
		case d.IsDir():
			w.tree(ctx, list, ClassDirectory, ino)
		case flags.Has(ocfs2.InodeJournal):
			w.tree(ctx, list, ClassJournal, ino)
		case flags.Has(ocfs2.InodeSystem):
			w.tree(ctx, list, ClassSystem, ino)
		case d.IsSymlink():
			w.tree(ctx, list, ClassSymlink, ino)
		}
	}
	if d.IsDir() && dyn.Has(ocfs2.DynIndexedDir) {
		root := d.DxRoot()
		w.queue.near(func(ctx context.Context) { w.index(ctx, root, ino) })
	}
	if loc := d.XattrLoc(); dyn.Has(ocfs2.DynHasXattr) && loc != 0 {
		w.queue.near(func(ctx context.Context) { w.xattrs(ctx, loc, ino) })
	}
}

// index adds the index of directory ino, whose root is block root.
func (w *walk) index(ctx context.Context, root, ino uint64) {
	b, ok := w.block(ctx, ocfs2.KindDxRoot, root, ClassDxLeaf, ino)
	if !ok {
		return
	}
	w.set.Add(root, 1, uint8(ClassExtent))
	if dx := ocfs2.AsDxRoot(b); !dx.Inline() {
		w.tree(ctx, dx.List(), ClassDxLeaf, ino)
	}
}

// xattrs adds the buckets of inode ino, if its xattr block loc has a tree of them.
func (w *walk) xattrs(ctx context.Context, loc, ino uint64) {
	b, ok := w.block(ctx, ocfs2.KindXattrBlock, loc, ClassBucket, ino)
	if !ok {
		return
	}
	w.set.Add(loc, 1, uint8(ClassExtent))
	if x := ocfs2.AsXattrBlock(b); x.Indexed() {
		w.tree(ctx, x.Tree(), ClassBucket, ino)
	}
}

// tree adds the clusters of the tree under list, and the tree's extent blocks.
// A tree that needs reading becomes a task of its own.
func (w *walk) tree(ctx context.Context, list ocfs2.ExtentList, class Class, ino uint64) {
	add := func(ctx context.Context) {
		bpc := w.v.sb.BlocksPerCluster()
		for rec, err := range w.v.tree(ctx, list, ino) {
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				w.findings.failed(class, cmp.Or(rec.Blkno, ino), ino, err)
			case rec.depth > 0:
				w.set.Add(rec.Blkno, 1, uint8(ClassExtent))
			default:
				w.set.Add(rec.Blkno, uint64(rec.Clusters)*bpc, uint8(class))
			}
		}
	}
	if list.Depth() == 0 {
		add(ctx)
		return
	}
	w.queue.near(add)
}

// allocator queues the chains of an allocator.
func (w *walk) allocator(ino uint64, d ocfs2.Dinode) {
	chains := d.Chains()
	a := &allocator{ino: ino, role: w.roles[ino], bpc: chains.BPC()}
	if a.role == roleUnknown {
		w.findings.add(Finding{
			Severity: NotFollowed, Class: ClassGroup, Block: ino, Inode: ino,
			Text: "an allocator that the system directory does not name",
		})
		return
	}
	for i := range chains.Len() {
		if head := chains.Rec(i).Blkno; head != 0 {
			w.queue.near(func(ctx context.Context) { w.group(ctx, a, i, head) })
		}
	}
}

// allocator is an inode with chains of groups.
type allocator struct {
	ino  uint64
	role role
	bpc  int // bits a cluster
}

// class is that of the blocks in the allocator's groups.
func (a *allocator) class() Class {
	if a.role == roleInodes {
		return ClassInode
	}
	return ClassExtent
}

// group adds the group whose descriptor is block blkno, and queues the next one
// of its chain.
func (w *walk) group(ctx context.Context, a *allocator, chain int, blkno uint64) {
	refuse := func(text string) {
		w.findings.add(Finding{Severity: NotFollowed, Class: ClassGroup, Block: blkno, Inode: a.ino, Text: fmt.Sprintf("chain %d: %s", chain, text)})
	}
	if !w.v.sb.Contains(blkno, 1) {
		refuse("group descriptor outside the volume")
		return
	}
	if !w.groups.add(blkno) {
		refuse("the group is in a chain already")
		return
	}
	w.set.Add(blkno, 1, uint8(ClassGroup))
	b, ok := w.block(ctx, ocfs2.KindGroup, blkno, ClassGroup, a.ino)
	if !ok {
		return
	}
	gd := ocfs2.AsGroupDesc(b)
	if next := gd.NextGroup(); next != 0 {
		w.queue.near(func(ctx context.Context) { w.group(ctx, a, chain, next) })
	}
	if a.role == roleClusters {
		return
	}
	bit := 0
	for start, n := range gd.Runs(w.v.sb.Geometry, a.bpc) {
		if bit == 0 { // the descriptor itself
			start, n, bit = start+1, n-1, 1
		}
		w.set.Add(start, uint64(n), uint8(a.class()))
		for i := range n {
			if !gd.Bit(bit + i) {
				w.free[a.class()].Add(1)
			}
		}
		if a.role == roleInodes {
			w.inodeRun(gd, bit, start, n)
		}
		bit += n
	}
}

// inodeRun queues the n inodes from block start on, which have the bits of gd
// from bit on, in pieces.
func (w *walk) inodeRun(gd ocfs2.GroupDesc, bit int, start uint64, n int) {
	step := pieceSize >> w.v.sb.BlockBits
	for done := 0; done < n; done += step {
		first, count := bit+done, min(step, n-done)
		w.queue.bulk(func(ctx context.Context) { w.inodePiece(ctx, gd, first, start+uint64(done), count) })
	}
}

// inodePiece looks at the allocated ones of n inodes from block start on.
func (w *walk) inodePiece(ctx context.Context, gd ocfs2.GroupDesc, bit int, start uint64, n int) {
	allocated := func(i int) bool { return gd.Bit(bit + i) }
	first, last := 0, n-1
	for first < n && !allocated(first) {
		first++
	}
	if first == n {
		return
	}
	for !allocated(last) {
		last--
	}
	buf, err := w.bufs.Get(ctx)
	if err != nil {
		return
	}
	defer w.bufs.Put(buf)
	bs := w.v.sb.BlockSize()
	whole := w.v.readBlocks(ctx, buf[:(last+1-first)*bs], start+uint64(first))
	if ctx.Err() != nil {
		return
	}
	for i := first; i <= last; i++ {
		ino := start + uint64(i)
		if !allocated(i) || !w.inodes.add(ino) {
			continue
		}
		b := buf[(i-first)*bs:][:bs]
		if whole != nil {
			if err := w.v.readBlocks(ctx, b, ino); err != nil {
				w.findings.failed(ClassInode, ino, ino, err)
				continue
			}
		}
		if b, ok := w.sound(ocfs2.KindInode, ino, b, ClassInode, ino); ok {
			w.inode(ctx, ino, b)
		}
	}
}
