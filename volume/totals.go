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

	"o2image/blockio"
	"o2image/ocfs2"
)

// Totals is what a volume says of its metadata set without being walked: exact
// for allocators and system files, estimated from a sample for the contents of
// directories, their indexes, attributes and long symlinks.
type Totals struct {
	Blocks  map[Class]uint64 // the set, without what was to be skipped
	Samples map[Class][]Run  // blocks that stand for those of a class
	Inodes  uint64           // in use, those of system files included

	// Missing tells what damage kept from being counted. If there is any, a
	// walk, which has other ways, may find more blocks than these.
	Missing []string
}

// Run is the blocks from Start on to Start+Len-1.
type Run struct{ Start, Len uint64 }

const (
	// sampleGroups is how many group descriptors of suballocators are read to
	// choose from, and samplePieces how many pieces of BufferSize bytes are
	// chosen for each class.
	sampleGroups = 512
	samplePieces = 32
	// sampleDescriptors is how many group descriptors are a sample of them.
	sampleDescriptors = 128
	// outlier is from how many clusters on a directory stands for itself alone,
	// and not for others that the sample does not have.
	outlier = 64
	// lookedAt is how many single blocks are read at once.
	lookedAt = 64
)

// errNoTotals says that no allocator could be asked.
var errNoTotals = errors.New("no allocator could be read, which would tell how much there is")

// Totals returns the totals of a volume. It reads the inodes of all system files,
// and a sample of the rest: some 50 MiB. What damage makes unreadable is not
// looked for in other ways. It fails if no allocator can be read.
func (v *Volume) Totals(ctx context.Context, skip Skip) (*Totals, error) {
	t := &totaller{v: v, skip: skip, Totals: Totals{Blocks: make(map[Class]uint64), Samples: make(map[Class][]Run)}}
	t.Blocks[ClassSuper] = min(v.sb.FirstClusterGroup, v.sb.Blocks()) + uint64(len(v.sb.Backups()))
	t.sample(ClassSuper, 0, t.Blocks[ClassSuper])
	groups := v.sb.Groups()
	t.Blocks[ClassGroup] = uint64(groups) //nolint:gosec // not negative
	for i := range spread(groups, sampleDescriptors) {
		t.sample(ClassGroup, v.sb.GroupBlkno(i), 1)
	}
	if err := t.systemFiles(ctx); err != nil {
		return nil, err
	}
	if err := t.users(ctx); err != nil {
		return nil, err
	}
	if t.unread > 0 {
		t.miss("what %d pieces of the sample would tell: %w", t.unread, t.unreadErr)
	}
	for class, n := range t.Blocks {
		t.Blocks[class] = min(n, v.sb.Blocks()) // an allocator may say anything
	}
	return &t.Totals, nil
}

type totaller struct {
	Totals
	v      *Volume
	skip   Skip
	inodes []ocfs2.Dinode // of the allocators of inodes, but for the global one

	allocators int   // that could be read
	unread     int   // pieces of the sample that could not be read
	unreadErr  error // the first of them
}

func (t *totaller) miss(format string, args ...any) {
	t.Missing = append(t.Missing, fmt.Errorf(format, args...).Error())
}

// read fills segments, and returns those of which that went well.
func (t *totaller) read(ctx context.Context, segs []blockio.Segment) ([]blockio.Segment, error) {
	bad := make(map[int]bool)
	err := blockio.ReadSegments(ctx, t.v.r, segs, blockio.ReadOptions{InFlight: lookedAt, Failed: func(i int, err error) {
		bad[i] = true
		t.unread++
		t.unreadErr = cmp.Or(t.unreadErr, fmt.Errorf("read block %d: %w", segs[i].Off>>t.v.sb.BlockBits, err))
	}})
	if len(bad) == 0 {
		return segs, err
	}
	var good []blockio.Segment
	for i, s := range segs {
		if !bad[i] {
			good = append(good, s)
		}
	}
	return good, err
}

// spread yields at most want of the numbers below n, at equal distances.
func spread(n, want int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		count := min(n, want)
		for i := range count {
			if !yield(int(int64(i) * int64(n) / int64(count))) {
				return
			}
		}
	}
}

func (t *totaller) sample(class Class, start, n uint64) {
	if t.v.sb.Contains(start, n) && n > 0 {
		t.Samples[class] = append(t.Samples[class], Run{start, n})
	}
}

// systemFiles counts what belongs to the system files, and to the system
// directory and the root directory.
func (t *totaller) systemFiles(ctx context.Context) error {
	files, err := t.v.systemFiles(ctx)
	if err != nil {
		t.miss("%w", err)
	}
	for _, name := range counted(t.v.sb) {
		if _, ok := files[name]; !ok && err == nil {
			t.miss("%s: it is not in the system directory", name)
		}
	}
	names := make(map[uint64]string)
	for name, ino := range files {
		names[ino] = name
	}
	names[t.v.sb.SystemDir], names[t.v.sb.Root] = "system directory", "root directory"
	for _, ino := range slices.Sorted(maps.Keys(names)) {
		d, err := t.v.Inode(ctx, ino)
		if err == nil {
			t.Inodes++
			err = t.systemFile(ctx, d, names[ino])
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			t.miss("%s: %w", names[ino], err)
		}
	}
	if t.allocators == 0 {
		return fmt.Errorf("%w: %s", errNoTotals, t.Missing[0])
	}
	return nil
}

// counted names the system files that much of an image comes from.
func counted(sb *ocfs2.SuperBlock) []string {
	names := []string{"global_inode_alloc"}
	for slot := range min(sb.MaxSlots, ocfs2.MaxSlots) {
		for _, kind := range []string{"inode_alloc", "extent_alloc", "journal"} {
			names = append(names, SlotFile(kind, slot))
		}
	}
	return names
}

func (t *totaller) systemFile(ctx context.Context, d ocfs2.Dinode, name string) error {
	r := roleOf(name)
	if r == roleInodes || r == roleExtents {
		if d.Union() != ocfs2.UnionChain {
			return errors.New("its inode is not that of an allocator")
		}
		t.allocators++
	}
	switch {
	case r == roleInodes && name != "global_inode_alloc":
		t.inodes = append(t.inodes, d)
		fallthrough
	case r == roleInodes:
		t.suballocator(d, ClassInode)
		return nil
	case r == roleExtents:
		t.suballocator(d, ClassExtent)
		return t.extentSample(ctx, d)
	case r == roleClusters:
		return nil
	}
	if d.Flags().Has(ocfs2.InodeJournal) {
		if keep, ok := t.v.emptyJournal(ctx, d); t.skip.JournalClean && ok {
			t.Blocks[ClassJournal] += uint64(len(keep))
			return nil
		}
	}
	return t.contents(ctx, []ocfs2.Dinode{d}, func(c Class, clusters uint64) {
		n := clusters * t.v.sb.BlocksPerCluster()
		used := min(n, cmp.Or(usedBlocks(d, c), n))
		t.Blocks[c] += used
		t.Blocks[ClassSlack] += n - used
	})
}

// groupCount returns how many groups an allocator has.
func groupCount(d ocfs2.Dinode) uint64 {
	perGroup := uint64(d.Chains().CPG()) * uint64(d.Chains().BPC()) //nolint:gosec // from 16 bits
	return uint64(d.BitmapTotal()) / max(perGroup, 1)
}

// suballocator counts the blocks of an allocator.
func (t *totaller) suballocator(d ocfs2.Dinode, class Class) {
	total, used := uint64(d.BitmapTotal()), uint64(d.BitmapUsed())
	groups := groupCount(d)
	t.Blocks[ClassGroup] += groups
	n := total
	if t.skip.Free {
		n = used
	}
	t.Blocks[class] += n - min(n, groups)
}

// contents tells how many clusters of which classes belong to inodes, and takes
// samples of them where they lie in a block that was read.
func (t *totaller) contents(ctx context.Context, inodes []ocfs2.Dinode, count func(c Class, clusters uint64)) error {
	var (
		bs    = t.v.sb.BlockSize()
		segs  []blockio.Segment
		wants = func(blkno uint64) {
			if t.v.sb.Contains(blkno, 1) {
				segs = append(segs, blockio.Segment{Off: int64(blkno) << t.v.sb.BlockBits, P: make([]byte, bs)})
			}
		}
	)
	for _, d := range inodes {
		if class, ok := contentsClass(d); ok && d.Union() == ocfs2.UnionExtents {
			count(class, uint64(d.Clusters()))
			t.clusters(class, d.Extents(), cmp.Or(usedBlocks(d, class), allBlocks))
		}
		if d.IsDir() && d.DynFeatures().Has(ocfs2.DynIndexedDir) {
			wants(d.DxRoot())
		}
		if d.DynFeatures().Has(ocfs2.DynHasXattr) && d.XattrLoc() != 0 {
			wants(d.XattrLoc())
		}
	}
	segs, err := t.read(ctx, segs)
	if err != nil {
		return err
	}
	for _, s := range segs {
		switch ocfs2.Identify(s.P) {
		case ocfs2.KindDxRoot:
			if dx := ocfs2.AsDxRoot(s.P); !dx.Inline() {
				count(ClassDxLeaf, uint64(dx.Clusters()))
				t.clusters(ClassDxLeaf, dx.List(), allBlocks)
			}
		case ocfs2.KindXattrBlock:
			if x := ocfs2.AsXattrBlock(s.P); x.Indexed() {
				count(ClassBucket, uint64(x.TreeClusters()))
				t.clusters(ClassBucket, x.Tree(), allBlocks)
			}
		}
	}
	return nil
}

// clusters takes a sample of the clusters of a list of leaves, of which so many
// blocks are used: of each extent the first piece and the one in the middle.
func (t *totaller) clusters(class Class, list ocfs2.ExtentList, used uint64) {
	if list.Depth() > 0 || len(t.Samples[class]) >= samplePieces {
		return
	}
	piece := uint64(BufferSize) >> t.v.sb.BlockBits
	for i := range spread(list.Len(), samplePieces/4) {
		rec := list.Rec(i)
		bpc := t.v.sb.BlocksPerCluster()
		n := min(uint64(rec.Clusters)*bpc, used-min(used, uint64(rec.Cpos)*bpc))
		t.sample(class, rec.Blkno, min(n, piece))
		if n > 2*piece {
			t.sample(class, rec.Blkno+n/2, piece)
		}
	}
}

// piece is part of a group of a suballocator: n blocks from block start on, with
// the bits of gd from bit on.
type piece struct {
	gd    ocfs2.GroupDesc
	bit   int
	start uint64
	n     int
}

func (p piece) used() int {
	used := 0
	for i := range p.n {
		if p.gd.Bit(p.bit + i) {
			used++
		}
	}
	return used
}

// pieces returns pieces of the groups of some allocators, spread over them.
func (t *totaller) pieces(ctx context.Context, allocators []ocfs2.Dinode) ([]piece, error) {
	groups, err := t.groups(ctx, allocators)
	if err != nil {
		return nil, err
	}
	step := BufferSize >> t.v.sb.BlockBits
	var all []piece
	for _, gd := range groups {
		bit := 0
		for start, n := range gd.Runs(t.v.sb.Geometry, int(t.v.sb.BlocksPerCluster())) { //nolint:gosec // at most 2048
			for done := 0; done < n; done += step {
				all = append(all, piece{gd, bit + done, start + uint64(done), min(step, n-done)}) //nolint:gosec // not negative
			}
			bit += n
		}
	}
	var chosen []piece
	for i := range spread(len(all), samplePieces) {
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// groups returns group descriptors of some allocators: the first ones of all
// chains, then those behind them, as far as that goes.
func (t *totaller) groups(ctx context.Context, allocators []ocfs2.Dinode) ([]ocfs2.GroupDesc, error) {
	var next []uint64
	for _, d := range allocators {
		for _, rec := range d.Chains().All() {
			if t.v.sb.Contains(rec.Blkno, 1) {
				next = append(next, rec.Blkno)
			}
		}
	}
	var (
		found []ocfs2.GroupDesc
		bs    = t.v.sb.BlockSize()
	)
	for len(next) > 0 && len(found) < sampleGroups {
		var level []uint64
		for i := range spread(len(next), sampleGroups) {
			level = append(level, next[i])
		}
		next = next[:0]
		buf := make([]byte, len(level)*bs)
		segs := make([]blockio.Segment, len(level))
		for i, blkno := range level {
			segs[i] = blockio.Segment{Off: int64(blkno) << t.v.sb.BlockBits, P: buf[i*bs:][:bs]}
		}
		segs, err := t.read(ctx, segs)
		if err != nil {
			return nil, err
		}
		for _, s := range segs {
			if ocfs2.KindGroup.Identity(s.P, uint64(s.Off)>>t.v.sb.BlockBits, t.v.sb.Generation) != nil {
				continue
			}
			gd := ocfs2.AsGroupDesc(s.P)
			found = append(found, gd)
			if link := gd.NextGroup(); t.v.sb.Contains(link, 1) {
				next = append(next, link)
			}
		}
	}
	return found, nil
}

// extentSample takes a sample of the blocks of an allocator of extent blocks.
func (t *totaller) extentSample(ctx context.Context, d ocfs2.Dinode) error {
	pieces, err := t.pieces(ctx, []ocfs2.Dinode{d})
	if err != nil {
		return err
	}
	for i := range spread(len(pieces), max(1, samplePieces/max(t.v.sb.MaxSlots, 1))) {
		if p := pieces[i]; !t.skip.Free || p.used() > 1 {
			t.sample(ClassExtent, p.start, uint64(p.n)) //nolint:gosec // positive
		}
	}
	return nil
}

// users estimates what belongs to the inodes of users from a sample of them.
func (t *totaller) users(ctx context.Context) error {
	var inUse uint64
	for _, d := range t.inodes {
		inUse += uint64(d.BitmapUsed()) - min(uint64(d.BitmapUsed()), groupCount(d))
	}
	t.Inodes += inUse
	pieces, err := t.pieces(ctx, t.inodes)
	if err != nil {
		return err
	}
	var (
		looked          uint64
		ordinary, large = make(map[Class]uint64), make(map[Class]uint64)
	)
	count := func(c Class, clusters uint64) {
		if clusters >= outlier {
			large[c] += clusters
		} else {
			ordinary[c] += clusters
		}
	}
	bs := t.v.sb.BlockSize()
	for _, p := range pieces {
		if !t.skip.Free || p.used() > 0 {
			t.sample(ClassInode, p.start, uint64(p.n)) //nolint:gosec // positive
		}
		if p.used() == 0 || !t.v.sb.Contains(p.start, uint64(p.n)) { //nolint:gosec // positive
			continue
		}
		buf := make([]byte, p.n*bs)
		got, err := t.read(ctx, []blockio.Segment{{Off: int64(p.start) << t.v.sb.BlockBits, P: buf}})
		if err != nil {
			return err
		}
		if len(got) == 0 {
			continue
		}
		var inodes []ocfs2.Dinode
		for i := range p.n {
			ino, b := p.start+uint64(i), buf[i*bs:][:bs] //nolint:gosec // not negative
			if p.gd.Bit(p.bit+i) && ocfs2.KindInode.Identity(b, ino, t.v.sb.Generation) == nil {
				inodes = append(inodes, ocfs2.AsDinode(b))
			}
		}
		looked += uint64(len(inodes))
		if err := t.contents(ctx, inodes, count); err != nil {
			return err
		}
	}
	scale := max(float64(inUse)/float64(cmp.Or(looked, 1)), 1)
	for _, class := range []Class{ClassDirectory, ClassDxLeaf, ClassBucket, ClassSymlink} {
		clusters := uint64(float64(ordinary[class])*scale) + large[class]
		t.Blocks[class] += clusters * t.v.sb.BlocksPerCluster()
	}
	return nil
}
