// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package upstreamset computes the set of blocks that o2image 1.8.7 puts into
// an image of a sound volume, from the description of the disk format alone. It
// is a test oracle: it shares no code with the product, so that the two can bear
// witness for each other, also where the binary itself crashes.
//
// The volume is read block by block, in the order in which 1.8.7 finds things:
// from global_inode_alloc to the system files, from the inode_alloc files among
// these to the user's inodes. Names are followed only in the system directory.
//
//	set, err := upstreamset.Compute(volume, upstreamset.Options{})
//	for _, run := range set.Runs {
//		fmt.Println(run.Start, run.Len)
//	}
package upstreamset

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// Options selects the set that Compute returns. The zero value selects the set
// of o2image 1.8.7, but for fast symlinks with inline attributes, whose text it
// takes for an extent list (see Result.Misread).
type Options struct {
	// Fixed selects the set of 1.8.7 without its faults with attributes: data of
	// regular files is left out always; a directory with an attribute block has
	// its entries and its index in the set; extents are looked for only in inodes
	// that hold an extent list; and symlinks too long for their inode have their
	// clusters in the set.
	Fixed bool
}

// Result is the set of marked blocks of a volume.
type Result struct {
	BlockSize int    // bytes
	Blocks    uint64 // size of the volume in blocks
	Runs      []Run  // ascending, no two touch, all within the volume

	// Misread holds the inodes, in the order of the walk, whose symlink target
	// 1.8.7 takes for an extent list with records. Where there is one the binary
	// may crash or mark blocks that are not in Runs. Always empty with
	// Options.Fixed.
	Misread []uint64
}

// Run is a run of blocks.
type Run struct {
	Start uint64 // first block
	Len   uint64 // blocks
}

// Compute returns the set of blocks of the OCFS2 volume in r. The first
// structure that is not sound ends it with an error that names the block.
func Compute(r io.ReaderAt, o Options) (*Result, error) {
	v, err := open(r)
	if err != nil {
		return nil, err
	}
	w := &walker{volume: v, fixed: o.Fixed, visited: make(map[uint64]bool)}
	if w.globalBitmap, w.globalInodes, w.inodeAllocs, err = v.allocators(); err != nil {
		return nil, err
	}
	for _, b := range v.backups() {
		w.mark(b, 1)
	}
	w.mark(0, v.firstGroup)
	w.mark(v.firstGroup, 1)
	if err := w.visit(w.globalInodes); err != nil {
		return nil, err
	}
	return &Result{BlockSize: v.blockSize, Blocks: v.blocks, Runs: merge(w.runs), Misread: w.misread}, nil
}

// walker collects the marked blocks.
type walker struct {
	*volume
	fixed        bool
	globalBitmap uint64 // inodes of the allocators that are not like the others
	globalInodes uint64
	inodeAllocs  map[uint64]bool
	visited      map[uint64]bool // inodes and group descriptors
	runs         []Run           // as they were marked
	misread      []uint64
}

// mark puts count blocks from start into the set, those outside the volume
// excepted.
func (w *walker) mark(start, count uint64) {
	if start >= w.blocks || count == 0 {
		return
	}
	count = min(count, w.blocks-start)
	if n := len(w.runs); n > 0 && w.runs[n-1].Start+w.runs[n-1].Len == start {
		w.runs[n-1].Len += count
		return
	}
	w.runs = append(w.runs, Run{start, count})
}

// visit marks block n and what the inode in it leads to.
func (w *walker) visit(n uint64) error {
	w.mark(n, 1)
	if w.visited[n] {
		if n == w.globalInodes { // holds its own inode
			return nil
		}
		return fmt.Errorf("inode %d: found twice", n)
	}
	w.visited[n] = true
	d, err := w.readInode(n)
	if err != nil {
		return err
	}
	if err := w.visitKind(n, d); err != nil {
		return fmt.Errorf("inode %d: %w", n, err)
	}
	return nil
}

// visitKind marks what inode d in block n leads to, by the kind of the inode.
func (w *walker) visitKind(n uint64, d inode) error {
	system, dir, symlink := d.is(flagSystem), d.kind() == typeDir, d.kind() == typeSymlink
	switch {
	case !system && !dir && !d.has(dynHasXattr) && !(w.fixed && symlink):
		return nil
	case d.is(flagLocalAlloc):
		return nil
	case d.is(flagChain):
		return w.chains(n, d)
	case d.is(flagDealloc):
		return nil
	}
	if d.has(dynHasXattr) && d.xattrLoc() != 0 {
		if err := w.xattrTree(d.xattrLoc()); err != nil || !w.fixed {
			return err
		}
	}
	if dir && d.has(dynIndexedDir) {
		if err := w.index(d.indexRoot()); err != nil {
			return err
		}
	}
	switch {
	case w.fixed && (!d.hasList() || !system && !dir && !symlink):
		return nil
	case d.fastSymlink():
		if le.Uint16(d[0xC4:]) != 0 {
			w.misread = append(w.misread, n)
		}
		return nil
	}
	union, err := d.union()
	if err != nil {
		return err
	}
	return w.walk(union)
}

// chains marks the groups of the allocator in block n: the descriptors; but for
// the global bitmap also all blocks behind them; and where these are inodes in
// use, what they lead to.
func (w *walker) chains(n uint64, d inode) error {
	perCluster, used := uint64(le.Uint16(d[0xC2:])), int(le.Uint16(d[0xC6:]))
	if used > (len(d)-0xD0)/0x10 {
		return fmt.Errorf("chain list: %d chains in use", used)
	}
	if n != w.globalBitmap && perCluster != w.blocksPerCluster {
		return fmt.Errorf("chain list: %d bits a cluster of %d blocks", perCluster, w.blocksPerCluster)
	}
	for i := range used {
		for at := le.Uint64(d[0xD0+0x10*i+8:]); at != 0; {
			if w.visited[at] {
				return fmt.Errorf("group descriptor %d: found twice", at)
			}
			w.visited[at] = true
			w.mark(at, 1)
			g, err := w.readSigned(at, "GROUP01")
			if err != nil {
				return err
			}
			if n != w.globalBitmap {
				if err := w.group(at, g, n == w.globalInodes || w.inodeAllocs[n]); err != nil {
					return fmt.Errorf("group descriptor %d: %w", at, err)
				}
			}
			at = le.Uint64(g[0x18:])
		}
	}
	return nil
}

// group marks the blocks of the suballocator group g, whose descriptor is in
// block at, and visits those in use if they are inodes.
func (w *walker) group(at uint64, g []byte, inodes bool) error {
	size, bits := int(le.Uint16(g[8:])), int(le.Uint16(g[0x0A:]))
	if size > len(g)-0x40 || bits > 8*size {
		return fmt.Errorf("%d bits in a bitmap of %d bytes", bits, size)
	}
	extents := []groupExtent{{start: at, bits: uint64(bits)}}
	if size == 256 && le.Uint16(g[0x144:]) != 0 {
		used := int(le.Uint16(g[0x144:]))
		if used > (len(g)-0x150)/0x10 {
			return fmt.Errorf("%d extents", used)
		}
		extents = extents[:0]
		for i := range used {
			rec := g[0x150+0x10*i:]
			extents = append(extents, groupExtent{
				first: uint64(le.Uint32(rec)) * w.blocksPerCluster,
				bits:  uint64(le.Uint16(rec[4:])) * w.blocksPerCluster,
				start: le.Uint64(rec[8:]),
			})
		}
	}
	for i := 1; i < bits; i++ {
		bit := uint64(i)
		e := slices.IndexFunc(extents, func(e groupExtent) bool { return bit >= e.first && bit-e.first < e.bits })
		if e < 0 {
			return fmt.Errorf("bit %d is in no extent", bit)
		}
		block := extents[e].start + bit - extents[e].first
		if inodes && g[0x40+i/8]>>(i%8)&1 != 0 {
			if err := w.visit(block); err != nil {
				return err
			}
			continue
		}
		w.mark(block, 1)
	}
	return nil
}

// groupExtent is a run of blocks in a suballocator group, one block a bit.
type groupExtent struct {
	first uint64 // first bit
	bits  uint64
	start uint64 // block of the first bit
}

// xattrTree marks the buckets that the attribute block in block n leads to.
func (w *walker) xattrTree(n uint64) error {
	b, err := w.readSigned(n, "XATTR01")
	if err != nil {
		return err
	}
	if le.Uint16(b[0x20:])&1 == 0 { // no tree
		return nil
	}
	return w.walk(b[0x40:])
}

// index marks the root of a directory's index, in block n, and its leaves.
func (w *walker) index(n uint64) error {
	w.mark(n, 1)
	b, err := w.readSigned(n, "DXDIR01")
	if err != nil {
		return err
	}
	if b[0x2C]&1 != 0 { // the entries are in the root
		return nil
	}
	return w.walk(b[0xC0:])
}

// walk marks the extent blocks and the clusters of the tree below list. Of a
// leaf record without clusters 1.8.7 marks the block that it names.
func (w *walker) walk(list []byte) error {
	recs, err := w.tree(list)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		w.mark(rec.start, max(rec.count, 1))
	}
	return nil
}

// merge returns the blocks of runs as ascending runs that do not touch. It sorts
// runs.
func merge(runs []Run) []Run {
	slices.SortFunc(runs, func(a, b Run) int { return cmp.Compare(a.Start, b.Start) })
	var merged []Run
	for _, r := range runs {
		if n := len(merged); n > 0 && r.Start <= merged[n-1].Start+merged[n-1].Len {
			last := &merged[n-1]
			last.Len = max(last.Len, r.Start+r.Len-last.Start)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}
