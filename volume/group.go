// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"o2image/blockio"
	"o2image/ocfs2"
)

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

// allocator is an inode with chains of groups.
type allocator struct {
	ino   uint64
	role  role
	bpc   int          // bits a cluster
	bits  int          // bits of each group, 0 if that is not known
	total uint64       // bits of all groups, by the inode
	heads uint64       // the same, by the heads of the chains
	found atomic.Int64 // bits of the groups found
}

// complete reports whether all groups were found: the inode and its chains
// agree, or the groups side with one of them.
func (a *allocator) complete() bool {
	found := uint64(a.found.Load()) //nolint:gosec // only added to
	return found >= max(a.total, a.heads) || found == a.total || found == a.heads
}

// class is that of the blocks in the allocator's groups.
func (a *allocator) class() Class {
	if a.role == roleInodes {
		return ClassInode
	}
	return ClassExtent
}

// allocator queues the chains of an allocator.
func (w *walk) allocator(ctx context.Context, ino uint64, d ocfs2.Dinode) {
	chains := d.Chains()
	a := &allocator{ino: ino, role: roleOf(w.system[ino]), bpc: chains.BPC(), total: uint64(d.BitmapTotal())}
	if a.role == roleUnknown {
		a.role = w.guessRole(ctx, ino, chains)
		w.note(origin{class: ClassGroup, ino: ino}, ino, Damaged, "an allocator that the system directory does not name", "")
	}
	if a.role == roleClusters {
		if chains.BPC() != 1 || chains.CPG() != w.v.sb.GroupBits() {
			w.note(origin{class: ClassGroup, ino: ino}, ino, Damaged,
				fmt.Sprintf("cl_cpg and cl_bpc: got %d and %d, want %d and 1", chains.CPG(), chains.BPC(), w.v.sb.GroupBits()), "")
		}
	} else {
		a.bpc = int(w.v.sb.BlocksPerCluster()) //nolint:gosec // at most 2048
		if chains.BPC() != a.bpc {
			w.note(origin{class: ClassGroup, ino: ino}, ino, Damaged, fmt.Sprintf("cl_bpc: got %d, want %d", chains.BPC(), a.bpc), "")
		}
		if bits := chains.CPG() * a.bpc; bits > 0 && bits <= w.v.sb.GroupBits() && a.total%uint64(bits) == 0 { //nolint:gosec // positive
			a.bits = bits
		} else if a.total > 0 {
			w.note(origin{class: ClassGroup, ino: ino}, ino, Damaged, fmt.Sprintf("cl_cpg: groups of %d bits do not make up %d", bits, a.total), "")
		}
	}
	w.mu.Lock()
	w.allocators[ino] = a
	w.mu.Unlock()
	w.progress.expect(a.role, chains, a.total)
	for i := range chains.Cap() {
		rec := chains.Rec(i)
		if i < chains.Len() {
			a.heads += uint64(rec.Total)
		} else if !w.isGroupOf(ctx, rec.Blkno, ino) {
			continue
		}
		if rec.Blkno != 0 {
			w.queue.near(func(ctx context.Context) { w.group(ctx, a, i, rec.Blkno, origin{class: ClassGroup, ino: ino}) })
		}
	}
}

// isGroupOf reports whether block blkno is beyond doubt a group descriptor of
// the allocator ino.
func (w *walk) isGroupOf(ctx context.Context, blkno, ino uint64) bool {
	gd, ok := w.descriptor(ctx, blkno)
	return ok && gd.ParentDinode() == ino
}

// descriptor returns what is beyond doubt a group descriptor.
func (w *walk) descriptor(ctx context.Context, blkno uint64) (ocfs2.GroupDesc, bool) {
	if !w.v.sb.Contains(blkno, 1) {
		return ocfs2.GroupDesc{}, false
	}
	b, err := w.v.ReadBlock(ctx, blkno)
	if err != nil || ocfs2.KindGroup.Identity(b, blkno, w.v.sb.Generation) != nil {
		return ocfs2.GroupDesc{}, false
	}
	return ocfs2.AsGroupDesc(b), true
}

// guessRole finds out what the bits of an allocator without a name stand for
// from what is in its groups.
func (w *walk) guessRole(ctx context.Context, ino uint64, chains ocfs2.ChainList) role {
	for _, rec := range chains.All() {
		gd, ok := w.descriptor(ctx, rec.Blkno)
		if !ok {
			continue
		}
		if r := w.roleOfGroup(ctx, gd); r != roleUnknown {
			return r
		}
	}
	return roleExtents
}

// roleOfGroup finds out what the bits of a group stand for from its place, which
// only those of the global bitmap have, and from the first blocks that are allocated.
func (w *walk) roleOfGroup(ctx context.Context, gd ocfs2.GroupDesc) role {
	sb := w.v.sb
	if gd.Blkno() == sb.FirstClusterGroup || gd.Blkno()%(uint64(sb.GroupBits())*sb.BlocksPerCluster()) == 0 { //nolint:gosec // positive
		return roleClusters
	}
	for first, end := range gd.SetRuns() {
		for bit := max(first, 1); bit < min(end, first+16); bit++ {
			b, err := w.v.ReadBlock(ctx, gd.Blkno()+uint64(bit)) //nolint:gosec // positive
			if err != nil {
				continue
			}
			switch ocfs2.Identify(b) {
			case ocfs2.KindInode:
				return roleInodes
			case ocfs2.KindExtentBlock, ocfs2.KindXattrBlock, ocfs2.KindDxRoot, ocfs2.KindRefcountBlock:
				return roleExtents
			}
		}
	}
	return roleUnknown
}

// group adds the group whose descriptor is block blkno, and queues the next one
// of its chain. That a link leads astray is no loss by itself: the bits of the
// groups found are compared with what the allocator should have.
func (w *walk) group(ctx context.Context, a *allocator, chain int, blkno uint64, o origin) {
	astray := func(text string) {
		w.note(o, blkno, Damaged, fmt.Sprintf("chain %d: %s", chain, text), "")
	}
	if !w.v.sb.Contains(blkno, 1) {
		astray("group descriptor outside the volume")
		return
	}
	if w.groups.has(blkno) {
		astray("the group is in a chain already")
		return
	}
	consequence := ""
	if a.role != roleClusters {
		consequence = "what the group holds, as far as it does not show what it is"
	}
	b, s := w.block(ctx, ocfs2.KindGroup, blkno, o, consequence)
	if ctx.Err() != nil {
		return
	}
	var gd ocfs2.GroupDesc
	if s != lost {
		gd = ocfs2.AsGroupDesc(b).At(blkno)
		if parent := gd.ParentDinode(); parent != a.ino && roleOf(w.system[parent]) != roleUnknown {
			astray(fmt.Sprintf("the group belongs to the allocator with inode %d", parent))
			w.mu.Lock()
			w.deferred[blkno] = func(ctx context.Context) { w.enter(ctx, a, chain, blkno, b, s, o) }
			w.mu.Unlock()
			return
		}
	}
	w.enter(ctx, a, chain, blkno, b, s, o)
}

// enter adds the group with the descriptor b.
func (w *walk) enter(ctx context.Context, a *allocator, chain int, blkno uint64, b []byte, s soundness, o origin) {
	astray := func(text string) {
		w.note(o, blkno, Damaged, fmt.Sprintf("chain %d: %s", chain, text), "")
	}
	if !w.groups.add(blkno) {
		astray("the group is in a chain already")
		return
	}
	w.set.Add(blkno, 1, uint8(ClassGroup))
	w.progress.read(1)
	if s == lost {
		w.lostGroup(ctx, a, chain, blkno, o)
		return
	}
	gd := ocfs2.AsGroupDesc(b).At(blkno)
	if found := gd.Faults(blkno, w.v.sb, a.ino, chain, a.bpc); found != nil {
		w.faults(o, blkno, found)
		s = doubtful
	}
	if next := gd.NextGroup(); next != 0 {
		w.queue.near(func(ctx context.Context) {
			w.group(ctx, a, chain, next, origin{class: ClassGroup, ino: a.ino, path: []uint64{a.ino, blkno}})
		})
	}
	if a.role == roleClusters {
		if size := w.v.sb.GroupBits() / 8; gd.Size() != size {
			w.note(o, blkno, Damaged, fmt.Sprintf("ocfs2_group_desc bg_size: got %d, want %d", gd.Size(), size), "")
		}
		a.found.Add(int64(gd.Bits()))
		return
	}
	w.blocksOf(a, gd, blkno, s, o)
}

// lostGroup looks into a group whose descriptor is no descriptor, or cannot be
// read, for blocks that show what they are.
func (w *walk) lostGroup(ctx context.Context, a *allocator, chain int, blkno uint64, o origin) {
	a.found.Add(int64(a.bits))
	if a.role == roleClusters || a.bits == 0 {
		return
	}
	w.queue.bulk(func(ctx context.Context) {
		w.search(ctx, blkno+1, min(uint64(a.bits), w.v.sb.Blocks()-blkno)-1, o.via(blkno)) //nolint:gosec // positive
	})
	b, err := w.v.ReadBlock(ctx, blkno)
	if err != nil {
		return
	}
	if next := ocfs2.AsGroupDesc(b).NextGroup(); w.isGroupOf(ctx, next, a.ino) {
		w.queue.near(func(ctx context.Context) { w.group(ctx, a, chain, next, o) })
	}
}

// blocksOf adds the blocks of a suballocator's group.
func (w *walk) blocksOf(a *allocator, gd ocfs2.GroupDesc, blkno uint64, s soundness, o origin) {
	bits, sure := gd.Len(), gd.Len()
	if a.bits > 0 {
		sure = min(bits, a.bits)
		a.found.Add(int64(a.bits))
	} else {
		a.found.Add(int64(gd.Bits()))
	}
	o = o.via(blkno)
	bit := 0
	for start, n := range gd.Runs(w.v.sb.Geometry, a.bpc) {
		n = min(n, sure-bit)
		if bit == 0 { // the descriptor itself
			start, n, bit = start+1, n-1, 1
		}
		if n <= 0 {
			break
		}
		w.addRun(a, gd, bit, start, n, s)
		w.blockRun(groupRun{a: a, gd: gd, group: blkno, s: s, o: o, bit: bit, start: start, n: n})
		bit += n
	}
	w.rest(a, gd, blkno, bit, o)
}

// rest looks for blocks of a group behind the first bits, which its descriptor
// should have and does not, or contradicts.
func (w *walk) rest(a *allocator, gd ocfs2.GroupDesc, blkno uint64, bits int, o origin) {
	look := func(start, n uint64) {
		w.note(o, blkno, NotFollowed, fmt.Sprintf("group descriptor: where bits from %d on lie is contradicted", bits),
			"blocks of the group, as far as they do not show what they are")
		w.queue.bulk(func(ctx context.Context) { w.search(ctx, start, n, o) })
	}
	if !gd.Discontiguous() {
		if n := min(uint64(a.bits), w.v.sb.Blocks()-blkno); uint64(bits) < n { //nolint:gosec // positive
			look(blkno+uint64(bits), n-uint64(bits)) //nolint:gosec // positive
		}
		return
	}
	covered, limit := uint64(0), uint64(cmp.Or(a.bits, w.v.sb.GroupBits())) //nolint:gosec // not negative
	for _, rec := range gd.Extents().All() {
		n := min(uint64(rec.Clusters)*uint64(a.bpc), limit-covered) //nolint:gosec // positive
		covered += n
		if n > 0 && covered > uint64(bits) && w.v.sb.Contains(rec.Blkno, n) { //nolint:gosec // not negative
			look(rec.Blkno, n)
		}
	}
	if covered < uint64(a.bits) { //nolint:gosec // not negative
		w.note(o, blkno, NotFollowed, fmt.Sprintf("group descriptor: its pieces have %d bits, want %d", covered, a.bits), "blocks of the group")
	}
}

// groupRun is a run of n blocks from start on, which have the bits of a
// suballocator's group from bit on.
type groupRun struct {
	a     *allocator
	gd    ocfs2.GroupDesc
	group uint64 // block of the descriptor
	s     soundness
	o     origin
	bit   int
	start uint64
	n     int
}

func (r groupRun) allocated(i int) bool { return r.gd.Bit(r.bit + i) }

// blockRun queues the blocks of a run, in pieces, to be looked at.
func (w *walk) blockRun(r groupRun) {
	step := BufferSize >> w.v.sb.BlockBits
	for done := 0; done < r.n; done += step {
		part := r
		part.bit, part.start, part.n = r.bit+done, r.start+uint64(done), min(step, r.n-done)
		w.queue.bulk(func(ctx context.Context) { w.blockPiece(ctx, part) })
	}
}

// blockPiece looks at the allocated blocks of a piece. Where the descriptor of
// an inode group is doubtful, inodes that say they are in use count as allocated.
func (w *walk) blockPiece(ctx context.Context, r groupRun) {
	defer w.progress.read(r.n)
	everything := r.s != sound && r.a.role == roleInodes
	first, last := 0, r.n-1
	if !everything {
		for first < r.n && !r.allocated(first) {
			first++
		}
		if first == r.n {
			return
		}
		for !r.allocated(last) {
			last--
		}
	}
	buf, err := w.bufs.Get(ctx)
	if err != nil {
		return
	}
	defer func() { w.bufs.Put(buf) }()
	bs := w.v.sb.BlockSize()
	buf, whole := w.readInto(ctx, buf, last+1-first, r.start+uint64(first))
	if ctx.Err() != nil {
		return
	}
	for i := first; i <= last; i++ {
		blkno := r.start + uint64(i)
		b := buf[(i-first)*bs:][:bs]
		at := origin{class: r.a.class(), path: r.o.path}
		if r.a.role == roleInodes {
			at.ino = blkno
		}
		if blockio.Within(whole, int64(blkno)*int64(bs), int64(bs)) != nil {
			if err := w.v.readBlocks(ctx, b, blkno); err != nil {
				if r.allocated(i) {
					w.failed(at, blkno, err, "what the block leads to")
				}
				continue
			}
		}
		switch {
		case !r.allocated(i):
			if everything && w.inUse(b, blkno) {
				w.note(at, blkno, Damaged, "an inode in use that its group does not count", "")
				w.inodeBlock(ctx, blkno, b, at)
			}
		case r.a.role == roleInodes:
			w.place(ocfs2.KindInode, b, blkno, r.a, r.group, r.bit+i, at)
			w.inodeBlock(ctx, blkno, b, at)
		default:
			w.place(ocfs2.Identify(b), b, blkno, r.a, r.group, r.bit+i, at)
			w.extentBlock(ctx, blkno, b, at)
		}
	}
}

// inodeBlock looks at an allocated inode.
func (w *walk) inodeBlock(ctx context.Context, ino uint64, b []byte, o origin) {
	if !w.inodes.add(ino) {
		return
	}
	if b, s := w.judge(ocfs2.KindInode, ino, b, o, "what the inode leads to"); s != lost {
		w.inode(ctx, ino, b, s, o)
	}
}

// inUse reports whether block b, read from ino, is beyond doubt an inode in use.
func (w *walk) inUse(b []byte, ino uint64) bool {
	return ocfs2.KindInode.Identity(b, ino, w.v.sb.Generation) == nil && ocfs2.AsDinode(b).IsValid()
}
