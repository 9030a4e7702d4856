// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"o2image/ocfs2"
)

// errNoted stands for an error that has become a finding already.
var errNoted = errors.New("see the other findings")

// systemFiles reads the system directory, and returns the inode of
// global_inode_alloc, 0 if it is not there.
func (w *walk) systemFiles(ctx context.Context) (global uint64) {
	dir := w.v.sb.SystemDir
	o := origin{class: ClassDirectory, ino: dir}
	files, err := w.v.systemFiles(ctx)
	if err != nil && ctx.Err() == nil {
		w.failed(o, dir, err, "names of system files")
	}
	w.named = err == nil
	w.system = make(map[uint64]string)
	for name, ino := range files {
		if flags, _ := systemFlags(name); flags == 0 {
			continue
		}
		if other, ok := w.system[ino]; ok {
			w.note(o, dir, Damaged, fmt.Sprintf("%s has the inode of %s, %d", max(name, other), min(name, other), ino), "")
			name, w.named = "", false
		}
		w.system[ino] = name
	}
	missing := func(name string) {
		if files[name] == 0 {
			w.note(o, dir, Damaged, "no "+name+" in the system directory", "")
			w.named = false
		}
	}
	for _, name := range []string{"global_bitmap", "global_inode_alloc", "slot_map", "heartbeat"} {
		missing(name)
	}
	for slot := range min(w.v.sb.MaxSlots, ocfs2.MaxSlots) {
		for _, kind := range []string{"orphan_dir", "extent_alloc", "inode_alloc", "journal", "local_alloc", "truncate_log"} {
			missing(SlotFile(kind, slot))
		}
	}
	if ino := files["global_inode_alloc"]; w.system[ino] != "" {
		return ino
	}
	return 0
}

// globalAllocator finds the allocator of the system inodes by the group in which
// the root or the system directory's inode lies. It returns 0 if there is none.
func (w *walk) globalAllocator(ctx context.Context) uint64 {
	for _, ino := range []uint64{w.v.sb.SystemDir, w.v.sb.Root} {
		d, err := w.v.Inode(ctx, ino)
		if err != nil {
			continue
		}
		loc := cmp.Or(d.SuballocLoc(), ino-min(ino, uint64(d.SuballocBit())))
		if gd, ok := w.descriptor(ctx, loc); ok && w.v.sb.Contains(gd.ParentDinode(), 1) {
			return gd.ParentDinode()
		}
	}
	return 0
}

// recover looks for what damage kept the walk from, in ways that are ever more
// expensive, and says what remains lost.
func (w *walk) recover(ctx context.Context, opts Options) {
	if !w.findings.any() {
		w.clusterGroups()
	}
	w.strayRoots(ctx)
	stray := w.unresolved.without(&w.inodes)
	if !w.findings.any() && len(stray) == 0 && !opts.Sweep && !w.contested() &&
		len(w.directories.misnamed(&w.inodes)) == 0 && len(w.symlinks.misnamed(&w.inodes)) == 0 && len(w.unnamedLinks()) == 0 {
		return
	}
	w.enterDeferred(ctx)
	w.systemInodes(ctx)
	var entered, tried marks
	w.follow(ctx, &entered, &tried)
	if opts.Sweep || w.groupsMissing() {
		w.sweep(ctx, opts)
		w.follow(ctx, &entered, &tried)
	}
	w.strayRoots(ctx)
	w.clusterGroups()
	if w.contested() {
		w.claimants(ctx)
	}
	w.doubtLinks(ctx)
	w.settle()
}

// addSystemGroup adds the blocks where mkfs.ocfs2 puts the group of
// global_inode_alloc, behind the first group of the global bitmap, as many as
// there are system files. It says so if the group is lost.
func (w *walk) addSystemGroup(ctx context.Context) {
	const perVolume, perSlot = 16, 8
	sb := w.v.sb
	group := sb.GroupBlkno(0) + sb.BlocksPerCluster()
	if n := uint64(perVolume + perSlot*min(sb.MaxSlots, ocfs2.MaxSlots)); sb.Contains(group, n+1) { //nolint:gosec // not negative
		w.set.Add(group, 1, uint8(ClassGroup))
		w.set.Add(group+1, n, uint8(ClassInode))
		w.block(ctx, ocfs2.KindGroup, group, origin{class: ClassGroup}, "the inodes of system files")
	}
}

// systemInodes looks at the system files that their allocator did not lead to.
func (w *walk) systemInodes(ctx context.Context) {
	enter := func(ino uint64, path ...uint64) {
		if !w.inodes.has(ino) {
			w.queue.near(func(ctx context.Context) { w.entry(ctx, ino, origin{class: ClassInode, path: path}) })
		}
	}
	enter(w.v.sb.Root)
	enter(w.v.sb.SystemDir)
	for ino := range w.system {
		enter(ino, w.v.sb.SystemDir)
	}
	w.run(ctx)
}

// strayRoots follows the roots of trees that no inode points to.
func (w *walk) strayRoots(ctx context.Context) {
	w.each(ctx, w.roots.without(&w.claimed), w.strayRoot)
}

// strayRoot follows the root of a tree that no inode points to.
func (w *walk) strayRoot(ctx context.Context, root uint64) {
	b, err := w.v.ReadBlock(ctx, root)
	if err != nil {
		return
	}
	o := origin{class: ClassExtent}
	kind := ocfs2.Identify(b)
	if kind == ocfs2.KindDxRoot {
		o.ino, _ = kind.Parent(b)
	}
	w.note(o, root, Damaged, "the root of a tree that no inode points to", "")
	if kind == ocfs2.KindDxRoot {
		w.index(ctx, root, o)
	} else {
		w.xattrs(ctx, root, o)
	}
}

// typed compares what names say of the type of inodes with what these say.
type typed struct {
	mode  uint16
	file  ocfs2.FileType
	are   marks // inodes of the type
	named marks // inodes that a name says are of the type
}

// misnamed returns the inodes, of those looked at, that are not of the type
// although a name says so.
func (t *typed) misnamed(looked *marks) []uint64 {
	return slices.DeleteFunc(t.named.without(&t.are), func(ino uint64) bool { return !looked.has(ino) })
}

// clusterGroups adds the groups of the global bitmap that no chain led to: their
// places follow from the geometry.
func (w *walk) clusterGroups() {
	sb, astray, first := w.v.sb, 0, uint64(0)
	for i := range sb.Groups() {
		blkno := sb.GroupBlkno(i)
		if !sb.Contains(blkno, 1) || !w.groups.add(blkno) {
			continue
		}
		w.set.Add(blkno, 1, uint8(ClassGroup))
		first = cmp.Or(first, blkno)
		astray++
	}
	if astray > 0 {
		w.note(origin{class: ClassGroup}, first, Damaged, fmt.Sprintf("%d groups of the global bitmap are in no chain, this is the first", astray), "")
	}
}

// follow looks at the inodes that directories name and at the groups that
// blocks say they lie in, until that leads to nothing new. Directories that
// have been entered, and groups that have been tried, are not looked at again.
func (w *walk) follow(ctx context.Context, entered, tried *marks) {
	for ctx.Err() == nil {
		found := w.enterDirectories(ctx, entered)
		w.enterDeferred(ctx)
		groups := slices.DeleteFunc(w.owners.without(&w.groups), func(blkno uint64) bool { return !tried.add(blkno) })
		w.ownedGroups(ctx, groups)
		w.enterDeferred(ctx)
		for _, t := range []*typed{&w.directories, &w.symlinks} {
			inodes := t.misnamed(&w.inodes)
			w.each(ctx, inodes, func(ctx context.Context, ino uint64) { w.misnamed(ctx, ino, t) })
			found += len(inodes)
		}
		if found+len(groups) == 0 {
			return
		}
	}
}

// enterDirectories looks through the directories that have not been entered for
// names that led to no inode, and returns how many there were. Without such names
// it reads none.
func (w *walk) enterDirectories(ctx context.Context, entered *marks) int {
	if len(w.unresolved.without(&w.inodes)) == 0 {
		return 0
	}
	fresh := w.directories.are.without(entered)
	w.each(ctx, fresh, func(ctx context.Context, ino uint64) {
		entered.add(ino)
		w.namedInodes(ctx, ino)
	})
	return len(fresh)
}

// tasksAtOnce is how many tasks made of a list of blocks wait at once.
const tasksAtOnce = 4096

// each does something with every one of many blocks, at once, and waits for it.
func (w *walk) each(ctx context.Context, blknos []uint64, do func(ctx context.Context, blkno uint64)) {
	for part := range slices.Chunk(blknos, tasksAtOnce) {
		for _, blkno := range part {
			w.queue.near(func(ctx context.Context) { do(ctx, blkno) })
		}
		w.run(ctx)
	}
}

// namedInodes looks at the inodes that a directory names and no allocator counts.
func (w *walk) namedInodes(ctx context.Context, dir uint64) {
	d, err := w.v.Inode(ctx, dir)
	if err != nil {
		return // which is known
	}
	if d.Union() != ocfs2.UnionInlineData {
		d = d.With(ocfs2.InodeValid, d.DynFeatures(), ocfs2.ModeDir)
	}
	w.v.readDir(ctx, d, func(e ocfs2.DirEntry, blkno uint64, err error) bool {
		if err == nil && e.Ino != 0 && !e.IsDot() && !w.inodes.has(e.Ino) {
			w.namedInode(ctx, dir, blkno, e.Ino)
		}
		return ctx.Err() == nil
	})
}

// namedInode looks at inode ino, which block blkno of directory dir names.
func (w *walk) namedInode(ctx context.Context, dir, blkno, ino uint64) {
	if !w.v.sb.Contains(ino, 1) {
		return // which was said when the name was read
	}
	o := origin{class: ClassInode, ino: ino, path: []uint64{dir}}
	if blkno != dir {
		o = o.via(blkno)
	}
	b, err := w.v.ReadBlock(ctx, ino)
	switch {
	case err != nil:
		w.failed(o, ino, err, "the inode")
	case !w.inUse(b, ino):
		w.note(o, ino, NotFollowed, fmt.Sprintf("directory %d has a name for this block, which is no inode in use", dir), "that inode")
	default:
		w.note(o, ino, Damaged, fmt.Sprintf("directory %d has a name for this inode, which no group counts", dir), "")
		w.entry(ctx, ino, o)
	}
}

// enterDeferred enters the groups that say they belong to another allocator than
// the one that led to them, but which that did not lead to.
func (w *walk) enterDeferred(ctx context.Context) {
	w.mu.Lock()
	deferred := w.deferred
	w.deferred = make(map[uint64]func(context.Context))
	w.mu.Unlock()
	for _, blkno := range slices.Sorted(maps.Keys(deferred)) {
		if !w.groups.has(blkno) {
			w.queue.near(deferred[blkno])
		}
	}
	w.run(ctx)
}

// misnamed looks at an inode again that is not of the type that a name says.
func (w *walk) misnamed(ctx context.Context, ino uint64, t *typed) {
	t.are.add(ino) // or not, it is dealt with
	o := origin{class: ClassInode, ino: ino}
	b, err := w.v.ReadBlock(ctx, ino)
	if err != nil || !w.inUse(b, ino) {
		return
	}
	d := ocfs2.AsDinode(b)
	w.note(o, ino, Damaged, fmt.Sprintf("a name says that this is a %s, i_mode is %#o", t.file, d.Mode()), "")
	as := d.With(d.Flags(), d.DynFeatures(), withType(d.Mode(), t.mode))
	if as.Union() == ocfs2.UnionExtents && (t.file == ocfs2.FileSymlink && d.Size() <= maxTarget || w.holdsEntries(ctx, d, ino)) {
		w.inode(ctx, ino, as.Bytes(), doubtful, o)
		return
	}
	if as.Union() == ocfs2.UnionExtents && d.Clusters() > 0 {
		w.note(o, ino, NotFollowed, "the type of the inode is not clear", "its blocks, should it be a "+t.file.String())
	}
}

// ownedGroup is a group that no chain led to.
type ownedGroup struct {
	blkno, parent uint64
	chain         int
	role          role // of the allocator, as far as it is not known
	ok            bool // the group is one
}

// ownedGroups enters groups that no chain led to, in ascending order. All are read before one is
// entered: what lies in one can be the allocator of another.
func (w *walk) ownedGroups(ctx context.Context, blknos []uint64) {
	groups := make([]ownedGroup, len(blknos))
	w.each(ctx, blknos, func(ctx context.Context, blkno uint64) {
		i, _ := slices.BinarySearch(blknos, blkno)
		groups[i] = w.readOwned(ctx, blkno)
	})
	for _, g := range groups {
		if g.ok {
			w.enterOwned(g)
		}
	}
	w.run(ctx)
}

// allocatorOf returns the allocator with inode ino, nil if it is not known.
func (w *walk) allocatorOf(ino uint64) *allocator {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.allocators[ino]
}

// readOwned reads a group that no chain led to.
func (w *walk) readOwned(ctx context.Context, blkno uint64) ownedGroup {
	gd, ok := w.descriptor(ctx, blkno)
	if !ok {
		return ownedGroup{}
	}
	g := ownedGroup{blkno: blkno, parent: gd.ParentDinode(), chain: gd.Chain(), ok: true}
	if w.allocatorOf(g.parent) == nil {
		g.role = roleOf(w.system[g.parent])
		if g.role == roleUnknown {
			g.role = cmp.Or(w.roleOfGroup(ctx, gd), roleExtents)
		}
	}
	return g
}

// enterOwned queues a group that no chain led to.
func (w *walk) enterOwned(g ownedGroup) {
	a := w.allocatorOf(g.parent)
	if a == nil {
		a = &allocator{ino: g.parent, role: g.role, bpc: int(w.v.sb.BlocksPerCluster())} //nolint:gosec // at most 2048
		w.mu.Lock()
		w.allocators[g.parent] = a
		w.mu.Unlock()
	}
	o := origin{class: ClassGroup, ino: g.parent}
	w.note(o, g.blkno, Damaged, "the group is in no chain; what lies in it led here", "")
	w.queue.near(func(ctx context.Context) { w.group(ctx, a, g.chain, g.blkno, o) })
}

// groupsMissing reports whether an allocator should have groups that were not
// found.
func (w *walk) groupsMissing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.v.salvaged {
		return true
	}
	for _, a := range w.allocators {
		if a.role != roleClusters && !a.complete() {
			return true
		}
	}
	for ino, name := range w.system {
		if r := roleOf(name); r != roleUnknown && r != roleClusters && w.allocators[ino] == nil {
			return true
		}
	}
	return !w.named && len(w.system) == 0
}

// settle says which allocators should have more groups than were found.
func (w *walk) settle() {
	for _, a := range w.allocators {
		if a.role != roleClusters && !a.complete() {
			w.note(origin{class: ClassGroup, ino: a.ino}, a.ino, NotFollowed,
				fmt.Sprintf("groups with %d bits were found, the inode says %d and its chains %d", a.found.Load(), a.total, a.heads),
				"groups of the allocator")
		}
	}
}
