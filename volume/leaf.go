// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"o2image/blockio"
	"o2image/ocfs2"
)

// leaf is a run of blocks that hold what trees lead to: directory entries, index
// leaves, buckets, quota blocks. They are read to be checked.
type leaf struct {
	blkno  uint64
	blocks uint64
	unit   uint64 // blocks that are checked as one
	o      origin
	check  func(blkno uint64, b []byte, o origin)
	head   func(blkno uint64, b []byte, o origin) // checks the first block of a file as well; nil: nothing to check
	used   func(first []byte) uint64              // units in use, by the first one; nil: all
	sort   func(b []byte, used bool) Class        // the class of each unit, used or not, which is to be added to the set; nil: all are in it
	of     uint64                                 // blocks of the whole run, if this is its first part
	again  bool                                   // it was read before, and if it could not be that was said
}

// maxLeaves is how many leaves are read together.
const maxLeaves = 256

// addLeaf has a leaf read and checked, together with others.
func (w *walk) addLeaf(l leaf) {
	piece := uint64(BufferSize >> w.v.sb.BlockBits)
	l.of = l.blocks
	for l.blocks > 0 {
		part := l
		part.blocks = min(l.blocks, piece)
		w.mu.Lock()
		full := w.leafBlocks+part.blocks > piece || len(w.leaves) >= maxLeaves
		if full {
			w.queueLeaves()
		}
		w.leaves = append(w.leaves, part)
		w.leafBlocks += part.blocks
		w.mu.Unlock()
		l.blkno, l.blocks, l.used, l.head = l.blkno+part.blocks, l.blocks-part.blocks, nil, nil
	}
}

// queueLeaves queues the task that reads the leaves gathered. The caller holds
// the lock.
func (w *walk) queueLeaves() {
	leaves := w.leaves
	w.leaves, w.leafBlocks = nil, 0
	w.queue.bulk(func(ctx context.Context) { w.readLeaves(ctx, leaves) })
}

func (w *walk) readLeaves(ctx context.Context, leaves []leaf) {
	if w.checkLeaves(ctx, leaves) {
		return
	}
	for _, l := range leaves {
		if l.sort != nil {
			w.set.Add(l.blkno, l.blocks, uint8(ClassSlack))
		}
	}
}

// checkLeaves reads and checks leaves, and reports whether it came to that.
func (w *walk) checkLeaves(ctx context.Context, leaves []leaf) bool {
	buf, err := w.bufs.Get(ctx)
	if err != nil {
		return false
	}
	defer func() { w.bufs.Put(buf) }()
	segs, failed, err := w.segments(ctx, leaves, buf)
	for errors.Is(err, blockio.ErrLost) {
		if buf, err = w.bufs.Replace(buf); err == nil {
			segs, failed, err = w.segments(ctx, leaves, buf)
		}
	}
	if err != nil {
		return false
	}
	for i, l := range leaves {
		w.checkLeaf(ctx, l, segs[i].P, failed[i])
	}
	return true
}

// segments reads leaves into buf, one behind the other. It returns them and which
// of them cannot be read as a whole.
func (w *walk) segments(ctx context.Context, leaves []leaf, buf []byte) (segs []blockio.Segment, failed []bool, err error) {
	segs, failed = make([]blockio.Segment, len(leaves)), make([]bool, len(leaves))
	for i, l := range leaves {
		n := l.blocks << w.v.sb.BlockBits
		segs[i] = blockio.Segment{Off: int64(l.blkno) << w.v.sb.BlockBits, P: buf[:n]} //nolint:gosec // inside the volume
		buf = buf[n:]
	}
	return segs, failed, blockio.ReadSegments(ctx, w.v.r, segs, blockio.ReadOptions{Failed: func(i int, _ error) { failed[i] = true }})
}

// checkLeaf checks a leaf, read into p. If it could not be read as a whole, what
// can be is read.
func (w *walk) checkLeaf(ctx context.Context, l leaf, p []byte, failed bool) {
	bs, used := uint64(w.v.sb.BlockSize()), l.blocks
	for n := uint64(0); n+l.unit <= l.blocks; n += l.unit {
		b, blkno := p[n*bs:][:l.unit*bs], l.blkno+n
		if failed {
			if err := w.v.readBlocks(ctx, b, blkno); err != nil {
				if n < used && !l.again && ctx.Err() == nil {
					w.failed(l.o, blkno, err, "the block")
				}
				if l.sort != nil {
					w.set.Add(blkno, l.unit, uint8(ClassSlack))
				}
				continue
			}
		}
		if n == 0 && l.used != nil {
			units := l.used(b)
			if units == 0 || units*l.unit > l.of {
				w.note(l.o, blkno, Damaged, fmt.Sprintf("xh_num_buckets: got %d, want 1 to %d", units, l.of/l.unit), "")
			}
			used = min(used, max(1, units)*l.unit)
		}
		if l.sort != nil {
			w.set.Add(blkno, l.unit, uint8(l.sort(b, n < used)))
		}
		if n < used {
			l.check(blkno, b, l.o)
		}
		if n == 0 && l.head != nil {
			l.head(blkno, b, l.o)
		}
	}
}

// verify checks the check value of a block that leads to nothing.
func (w *walk) verify(kind ocfs2.Kind, blkno uint64, b []byte, o origin) {
	if !w.v.sb.HasECC() {
		return
	}
	switch state, bit := kind.VerifyECC(b); state {
	case ocfs2.ECCValid:
	case ocfs2.ECCRepairable:
		w.note(o, blkno, Damaged, fmt.Sprintf("%s: bit %d of the block is wrong by its check value", kind, bit), "")
	case ocfs2.ECCInvalid:
		w.note(o, blkno, Damaged, fmt.Sprintf("%s: wrong check value", kind), "")
	}
}

// contentsLeaf returns what the extents of inode d, of the given class, are to
// be checked as; blocks is how many of its blocks have contents.
func (w *walk) contentsLeaf(d ocfs2.Dinode, ino uint64, class Class) (l leaf, blocks uint64) {
	bs := uint64(w.v.sb.BlockSize())
	l.unit, blocks = 1, d.Size()/bs
	if d.Size()%bs != 0 {
		blocks++
	}
	switch {
	case class == ClassDirectory:
		trailer := ocfs2.HasDirTrailer(d, w.v.sb)
		l.check = func(blkno uint64, b []byte, o origin) {
			w.dirBlock(blkno, b, ino, trailer, o)
		}
	case class == ClassJournal:
		all := blocks
		l.check, blocks = func(blkno uint64, b []byte, o origin) { w.journalSuper(blkno, b, all, o) }, min(blocks, 1)
	case d.Flags().Has(ocfs2.InodeQuota):
		l.check = func(blkno uint64, b []byte, o origin) { w.verify(ocfs2.KindQuotaBlock, blkno, b, o) }
		if magic, ok := quotaMagic(w.system[ino]); ok {
			l.head = func(blkno uint64, b []byte, o origin) { w.faults(o, blkno, ocfs2.QuotaHeaderFaults(b, magic)) }
		}
	case w.system[ino] == "slot_map":
		l.unit = uint64(ocfs2.SlotMapBytes(w.v.sb))/bs + 1 //nolint:gosec // from 16 bits
		l.check, blocks = func(blkno uint64, b []byte, o origin) { w.faults(o, blkno, ocfs2.SlotMapFaults(b, w.v.sb)) }, min(blocks, l.unit)
	}
	return l, blocks
}

// quotaMagic returns the magic of the quota file of that name; ok is false if
// there is no such file.
func quotaMagic(name string) (magic ocfs2.QuotaMagic, ok bool) {
	base, _, local := strings.Cut(name, ":")
	switch {
	case base == "aquota.user" && local:
		return ocfs2.QuotaLocalUser, true
	case base == "aquota.user":
		return ocfs2.QuotaGlobalUser, true
	case base == "aquota.group" && local:
		return ocfs2.QuotaLocalGroup, true
	case base == "aquota.group":
		return ocfs2.QuotaGlobalGroup, true
	}
	return 0, false
}

// journalSuper checks the first block of a journal of so many blocks.
func (w *walk) journalSuper(blkno uint64, b []byte, blocks uint64, o origin) {
	js, ok := ocfs2.DecodeJournalSuper(b)
	if !ok {
		w.note(o, blkno, Damaged, "no superblock of a journal", "")
		return
	}
	w.faults(o, blkno, js.Faults(w.v.sb, blocks))
}

// dirBlock checks a block of directory dir, and remembers the inodes that it
// names.
func (w *walk) dirBlock(blkno uint64, b []byte, dir uint64, trailer bool, o origin) {
	if t := ocfs2.AsDirTrailer(b); trailer || t.Present(blkno, dir) {
		w.verify(ocfs2.KindDirBlock, blkno, b, o)
		w.faults(o, blkno, t.Faults(blkno, w.v.sb, dir))
	}
	w.names(blkno, ocfs2.DirArea(b, trailer), dir, o)
}

// names checks the entries in an area of block blkno, and remembers the inodes
// that they name.
func (w *walk) names(blkno uint64, area []byte, dir uint64, o origin) {
	for e, fault := range ocfs2.DirEntries(area) {
		switch {
		case fault != nil:
			w.note(o, blkno, NotFollowed, fault.String(), "names in the directory block")
			return
		case e.Ino == 0:
		case string(e.Name) == ".":
			if e.Ino != dir {
				w.note(o, blkno, Damaged, fmt.Sprintf("the entry . names inode %d, want %d", e.Ino, dir), "")
			}
		default:
			found := e.Faults(w.v.sb)
			w.faults(o, blkno, found)
			if string(e.Name) != ".." {
				w.nameOf(blkno, e, found == nil, o)
			}
		}
	}
}

// nameOf remembers the inode that entry e in block blkno names, and of what type
// it should be if nothing is wrong with the entry.
func (w *walk) nameOf(blkno uint64, e ocfs2.DirEntry, sound bool, o origin) {
	if !w.v.sb.Contains(e.Ino, 1) {
		w.note(o, blkno, NotFollowed, fmt.Sprintf("a name for inode %d, which is outside the volume", e.Ino), "that inode")
		return
	}
	if !w.inodes.has(e.Ino) {
		w.unresolved.add(e.Ino)
	}
	switch {
	case !sound:
	case e.FileType == ocfs2.FileDir:
		w.directories.named.add(e.Ino)
	case e.FileType == ocfs2.FileSymlink:
		w.symlinks.named.add(e.Ino)
	}
}

// dxLeaf checks a leaf of a directory index.
func (w *walk) dxLeaf(blkno uint64, b []byte, o origin) {
	w.verify(ocfs2.KindDxLeaf, blkno, b, o)
	w.faults(o, blkno, ocfs2.AsDxLeaf(b).Faults(blkno, w.v.sb))
}

// extentBlock checks an allocated block of an extent allocator, and remembers
// the roots of trees among them.
func (w *walk) extentBlock(_ context.Context, blkno uint64, b []byte, o origin) {
	sb, kind := w.v.sb, ocfs2.Identify(b)
	switch kind {
	case ocfs2.KindExtentBlock, ocfs2.KindDxRoot, ocfs2.KindXattrBlock, ocfs2.KindRefcountBlock:
	default:
		w.note(o, blkno, Damaged, "an allocated block of an extent allocator that is none of its structures", "")
		return
	}
	w.verify(kind, blkno, b, o)
	w.belongs(kind, b, blkno)
	switch kind {
	case ocfs2.KindExtentBlock:
		e := ocfs2.AsExtentBlock(b)
		found := e.Faults(blkno, sb, ocfs2.TreeData)
		for _, tree := range []ocfs2.Tree{ocfs2.TreeHash, ocfs2.TreeRefcount} { // whose it is does not stand in it
			if other := e.Faults(blkno, sb, tree); len(other) < len(found) {
				found = other
			}
		}
		w.faults(o, blkno, found)
	case ocfs2.KindDxRoot:
		dx := ocfs2.AsDxRoot(b)
		w.faults(o, blkno, dx.Faults(blkno, sb, dx.DirBlkno()))
		if !dx.Inline() {
			w.roots.add(blkno)
		}
	case ocfs2.KindXattrBlock:
		x := ocfs2.AsXattrBlock(b)
		w.faults(o, blkno, x.Faults(blkno, sb))
		if x.Indexed() {
			w.roots.add(blkno)
		}
	case ocfs2.KindRefcountBlock:
		r := ocfs2.AsRefcountBlock(b)
		w.faults(o, blkno, r.Faults(blkno, sb, r.Parent()))
	}
}

// place checks what a suballocated block says of the place where it was
// allocated: bit i of the group in block group.
func (w *walk) place(kind ocfs2.Kind, b []byte, blkno uint64, a *allocator, group uint64, i int, o origin) {
	slot, bit, loc, ok := kind.Suballoc(b)
	if !ok || ocfs2.Identify(b) != kind {
		return
	}
	if int(bit) != i {
		w.note(o, blkno, Damaged, fmt.Sprintf("%s: suballoc_bit: got %d, want %d", kind, bit, i), "")
	}
	if loc == 0 && blkno-uint64(bit) != group && int(bit) == i {
		w.note(o, blkno, Damaged, fmt.Sprintf("%s: suballoc_loc: got 0, want %d", kind, group), "")
	}
	if loc != 0 && loc != group {
		w.note(o, blkno, Damaged, fmt.Sprintf("%s: suballoc_loc: got %d, want %d or 0", kind, loc, group), "")
	}
	if want, ok := slotOf(w.system[a.ino]); ok && slot != want {
		w.note(o, blkno, Damaged, fmt.Sprintf("%s: suballoc_slot: got %d, want %d", kind, slot, want), "")
	}
}

// slotOf returns the slot that the name of a suballocator tells.
func slotOf(name string) (slot uint16, ok bool) {
	_, number, ok := strings.Cut(name, ":")
	if !ok {
		return ocfs2.InvalidSlot, name == "global_inode_alloc"
	}
	n, err := strconv.ParseUint(number, 10, 16)
	return uint16(n), err == nil
}
