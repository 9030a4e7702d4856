// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package damage

import (
	"fmt"
	"slices"
	"strings"
)

// entry is an entry of a directory.
type entry struct {
	name string
	ino  uint64
	off  int  // in its block
	dep  span // what must be right for the entry to be found
}

// base is the name of a system file without its slot.
func (e entry) base() string {
	base, _, _ := strings.Cut(e.name, ":")
	return base
}

// slot is the slot in the name of a system file, 0xFFFF if there is none.
func (e entry) slot() int {
	slot := 0xFFFF
	if _, number, ok := strings.Cut(e.name, ":"); ok {
		fmt.Sscanf(number, "%d", &slot)
	}
	return slot
}

// dinode is the block of an inode.
type dinode struct {
	b   []byte
	ino uint64
}

func (d dinode) mode() uint16     { return le.Uint16(d.b[0x28:]) & 0xF000 }
func (d dinode) flags() uint32    { return le.Uint32(d.b[0x2C:]) }
func (d dinode) dyn() uint16      { return le.Uint16(d.b[0x76:]) }
func (d dinode) size() uint64     { return le.Uint64(d.b[0x20:]) }
func (d dinode) clusters() int    { return int(le.Uint32(d.b[0x14:])) }
func (d dinode) at(o, n int) span { return at(d.ino, o, n) }

func (d dinode) has(bits uint16) bool { return d.dyn()&bits != 0 }

// tail is the room that inline xattrs take at the block's end, bytes.
func (d dinode) tail() int {
	if d.has(dynInlineXattr) {
		return int(le.Uint16(d.b[0x12:]))
	}
	return 0
}

// union names the member of id2.
func (d dinode) union() string {
	switch f := d.flags(); {
	case f&flagSuper != 0:
		return "super"
	case f&flagLocalAlloc != 0:
		return "local alloc"
	case f&flagChain != 0:
		return "chains"
	case f&flagDealloc != 0:
		return "truncate log"
	case d.has(dynInline):
		return "inline"
	case d.mode() == modeSymlink && d.size() > 0 && d.clusters() == 0:
		return "text"
	}
	return "extents"
}

// leaf is a leaf record of an extent tree.
type leaf struct {
	run    Run
	shared bool   // by reflinked files
	from   uint64 // block of the list
	deps   []span
}

// leaves returns the leaf records of the tree whose list is at off in block b,
// and tells visit of its extent blocks.
func (m *Map) leaves(b []byte, block uint64, off int, deps []span, visit func(block, by uint64, b []byte, deps []span)) []leaf {
	var all []leaf
	for i := range int(le.Uint16(b[off+4:])) {
		rec := off + 0x10 + 16*i
		recDeps := append(slices.Clone(deps), at(block, off, 6), at(block, rec+4, 12))
		blkno := le.Uint64(b[rec+8:])
		if le.Uint16(b[off:]) == 0 {
			if n := uint64(le.Uint16(b[rec+4:])); n > 0 {
				all = append(all, leaf{Run{blkno, n * m.bpc}, b[rec+7]&2 != 0, block, recDeps})
			}
			continue
		}
		child := m.signed(blkno, "EXBLK01")
		visit(blkno, block, child, recDeps)
		all = append(all, m.leaves(child, blkno, 0x30, nil, visit)...)
	}
	return all
}

// entries returns the entries of directory ino.
func (m *Map) entries(ino uint64) []entry {
	d := dinode{m.signed(ino, "INODE01"), ino}
	if d.has(dynInline) {
		return parse(d.b, ino, 0xC8, min(0xC8+int(d.size()), m.BlockSize)) //nolint:gosec // a sound volume
	}
	var all []entry
	for _, n := range m.directoryBlocks(d) {
		all = append(all, parse(m.read(n), n, 0, m.BlockSize)...)
	}
	return all
}

// directoryBlocks returns the blocks of a directory that hold entries.
func (m *Map) directoryBlocks(d dinode) []uint64 {
	var blocks []uint64
	left := (d.size() + uint64(m.BlockSize) - 1) / uint64(m.BlockSize)
	for _, l := range m.leaves(d.b, d.ino, 0xC0, nil, func(uint64, uint64, []byte, []span) {}) {
		for i := uint64(0); i < l.run.Len && left > 0; i, left = i+1, left-1 {
			blocks = append(blocks, l.run.Start+i)
		}
	}
	return blocks
}

func parse(b []byte, block uint64, from, to int) []entry {
	var all []entry
	for off := from; off+12 <= to; {
		length := int(le.Uint16(b[off+8:]))
		if length < 12 || off+length > to {
			break
		}
		if ino := le.Uint64(b[off:]); ino != 0 {
			all = append(all, entry{string(b[off+12:][:b[off+10]]), ino, off, at(block, from, off+12+int(b[off+10])-from)})
		}
		off += length
	}
	return all
}

// inode maps an inode that group led to, and what belongs to it.
func (m *Map) inode(ino, group uint64) {
	d := dinode{m.signed(ino, "INODE01"), ino}
	kind, walked := m.inodeKind(d)
	m.addNode(&node{block: ino, kind: kind, by: group, ecc: m.HasECC, fields: func() []*field { return m.inodeFields(d) }})

	decides := []span{d.at(0x28, 2), d.at(0x2C, 4), d.at(0x76, 2)}
	if d.has(dynInlineXattr) {
		decides = append(decides, d.at(0x12, 2))
	}
	if d.mode() == modeSymlink {
		decides = append(decides, d.at(0x14, 4), d.at(0x20, 8))
	}
	if d.union() == "extents" {
		m.contents(d, kind, walked, decides)
	}
	switch {
	case d.mode() == modeDir && d.has(dynInline):
		m.names(m.entries(ino))
	case d.mode() == modeDir && d.has(dynIndexed):
		m.index(d, decides)
	}
	if loc := le.Uint64(d.b[0x78:]); d.has(dynXattr) && loc != 0 {
		m.addEdge(ino, Run{loc, 1}, true, d.at(0x78, 8), d.at(0x76, 2))
		m.xattrBlock(loc, ino)
	}
	if d.has(dynInlineXattr) {
		m.values(d.b, m.BlockSize-d.tail())
	}
	if loc := le.Uint64(d.b[0x90:]); d.has(dynRefcount) {
		m.refcount(loc, ino)
	}
}

// inodeKind names what an inode is, and whether its contents are metadata.
func (m *Map) inodeKind(d dinode) (kind string, walked bool) {
	kind = map[uint16]string{modeDir: "dir", modeFile: "file", modeSymlink: "symlink"}[d.mode()]
	walked = kind == "dir" || kind == "symlink"
	if kind == "" {
		kind = "device"
	}
	if e, ok := m.files[d.ino]; ok {
		return "inode " + e.base(), true
	}
	switch d.ino {
	case m.root:
		kind = "root dir"
	case m.systemDir:
		kind = "system dir"
	}
	if d.union() != "extents" {
		kind += " " + d.union()
	} else if le.Uint16(d.b[0xC0:]) > 0 {
		kind += " deep"
	}
	if d.has(dynIndexed) {
		kind += " indexed"
	}
	if d.has(dynInlineXattr) {
		kind += " xattrs"
	}
	if d.has(dynXattr) && le.Uint64(d.b[0x78:]) != 0 {
		kind += " xattr-block"
	}
	if d.has(dynRefcount) {
		kind += " refcounted"
	}
	if d.flags()&flagOrphaned != 0 {
		kind += " orphan"
	}
	return "inode " + kind, walked
}

// contents maps the extent tree of an inode.
func (m *Map) contents(d dinode, kind string, walked bool, decides []span) {
	what := strings.Fields(kind)[1] // the rest is about the inode
	list := treeKind{dense: d.mode() == modeDir, data: true, shared: d.has(dynRefcount)}
	visit := func(n, by uint64, b []byte, deps []span) {
		if walked {
			m.addEdge(by, Run{n, 1}, true, deps...)
		}
		m.extentBlock(n, by, b, "extent block of "+what, list)
	}
	leaves := m.leaves(d.b, d.ino, 0xC0, decides, visit)
	for _, l := range leaves {
		if !walked {
			m.addData(l)
			continue
		}
		m.addEdge(l.from, l.run, false, l.deps...)
		if d.mode() != modeDir {
			continue
		}
		for i := range l.run.Len {
			m.addEdge(l.from, Run{l.run.Start + i, 1}, true, l.deps...)
		}
	}
	if len(leaves) == 0 {
		return
	}
	switch first := leaves[0].run.Start; {
	case d.mode() == modeDir:
		for _, n := range m.directoryBlocks(d) {
			m.directoryBlock(n, d)
		}
	case d.flags()&flagJournal != 0:
		m.addNode(&node{block: first, kind: "journal superblock", by: d.ino, nameless: true, fields: func() []*field {
			fs := rows(first, "journal_superblock", 0, journalSuperRows)
			for _, f := range fs {
				f.bigEndian = true
			}
			return fs
		}})
	case what == "slot_map":
		m.addNode(&node{block: first, kind: "slot map", by: d.ino, idle: m.incompat&incompatExtendedSlots != 0, fields: func() []*field { return rows(first, "slot_map", 0, slotMapRows) }})
	case strings.HasPrefix(what, "aquota"):
		m.addNode(&node{block: first, kind: "quota block", by: d.ino, ecc: m.HasECC, fields: func() []*field { return rows(first, "quota", 0, quotaRows) }})
	}
}

func (m *Map) directoryBlock(n uint64, d dinode) {
	b := m.read(n)
	signed := string(b[m.BlockSize-0x30:][:7]) == "DIRTRL1"
	kind, end := "directory block", m.BlockSize
	if signed {
		kind, end = "directory block signed", m.BlockSize-0x40
	}
	list := parse(b, n, 0, end)
	m.names(list)
	m.addNode(&node{block: n, kind: kind, by: d.ino, ecc: m.HasECC && signed, fields: func() []*field {
		fs := m.entryFields(n, list, end)
		if signed {
			trailer := rows(n, "ocfs2_dir_block_trailer", end, dirTrailerRows)
			owed(trailer, "db_compat_rec_len", always)
			fs = append(fs, trailer...)
		}
		return fs
	}})
}

// names adds the ways that lead to inodes by their names.
func (m *Map) names(list []entry) {
	for _, e := range list {
		m.edges[e.dep.block] = append(m.edges[e.dep.block], edge{Run{e.ino, 1}, true, true, []span{e.dep}})
	}
}

func (m *Map) entryFields(block uint64, list []entry, end int) []*field {
	var fs []*field
	for _, i := range some(len(list)) {
		e := list[i]
		entry := rows(block, "ocfs2_dir_entry", e.off, direntRows)
		owed(entry, "inode", func(v uint64) bool {
			return v != 0 && (m.byBlock[v] == nil || !strings.HasPrefix(m.byBlock[v].kind, "inode"))
		})
		owed(entry, "rec_len", func(v uint64) bool {
			return v%4 != 0 || int(v) < len(e.name)+12 || e.off+int(v) > end //nolint:gosec // 16 bits
		})
		room := int(le.Uint16(m.read(block)[e.off+8:]))
		owed(entry, "name_len", func(v uint64) bool { return v == 0 || int(v)+12 > room }) //nolint:gosec // 8 bits
		owed(entry, "name", func(v uint64) bool { return v == 0 || v == '/' })
		fs = append(fs, entry...)
	}
	return fs
}

// treeKind says what an extent tree may look like.
type treeKind struct {
	dense    bool // no holes, nothing unwritten
	data     bool // keys are clusters of a file, not hashes
	shared   bool // records may be refcounted
	refcount bool // leaf records are single blocks
	signed   bool // every block of the contents says what it is
}

func (m *Map) extentBlock(n, by uint64, b []byte, kind string, tree treeKind) {
	m.addNode(&node{block: n, kind: kind, by: by, ecc: m.HasECC, fields: func() []*field {
		fs := rows(n, "ocfs2_extent_block", 0, extentBlockRows)
		m.allocated(fs, n, "h_")
		if le.Uint16(b[0x30:]) == 0 {
			owed(fs, "h_next_leaf_blk", always)
		}
		return append(fs, m.listFields(n, "h_list", 0x30, b, tree)...)
	}})
}

// allocated owes the place where block n was allocated.
func (m *Map) allocated(fs []*field, n uint64, prefix string) {
	h, ok := m.homes[n]
	if !ok {
		return
	}
	owed(fs, prefix+"suballoc_slot", always)
	owed(fs, prefix+"suballoc_bit", always)
	owed(fs, prefix+"suballoc_loc", func(v uint64) bool { return v != h.group && (v != 0 || !h.contiguous) })
}

// listFields returns the fields of the extent list at off in block b.
func (m *Map) listFields(block uint64, structure string, off int, b []byte, tree treeKind) []*field {
	fs := rows(block, structure, off, extentListRows)
	used, room := int(le.Uint16(b[off+4:])), uint64(le.Uint16(b[off+2:]))
	if used > 0 {
		owed(fs, "l_tree_depth", always)
		owed(fs, "l_next_free_rec", always)
	} else {
		owed(fs, "l_tree_depth", func(v uint64) bool { return v > 16 })
		owed(fs, "l_next_free_rec", func(v uint64) bool { return v > room })
	}
	rec := func(i int) []byte { return b[off+0x10+16*i:] }
	cpos := func(i int) uint64 { return uint64(le.Uint32(rec(i))) }
	inner := le.Uint16(b[off:]) > 0
	width := func(i int) uint64 {
		switch {
		case !tree.data:
			return 1
		case inner:
			return uint64(le.Uint32(rec(i)[4:]))
		}
		return uint64(le.Uint16(rec(i)[4:]))
	}
	for _, i := range some(used) {
		table := leafRecRows
		if inner {
			table = innerRecRows
		}
		r := rows(block, structure, off+0x10+16*i, table)
		owed(r, "e_cpos", func(v uint64) bool {
			return tree.dense && !inner || i > 0 && v < cpos(i-1)+width(i-1) || i+1 < used && v+width(i) > cpos(i+1)
		})
		owed(r, "e_leaf_clusters", always)
		owed(r, "e_int_clusters", func(v uint64) bool {
			return tree.data && i+1 < used && cpos(i)+v > cpos(i+1) || i > 0 && v == 0
		})
		owed(r, "e_flags", func(v uint64) bool { return v > 3 || v&2 != 0 && !tree.shared || v&1 != 0 && tree.dense })
		blocks := uint64(le.Uint16(rec(i)[4:])) * m.bpc
		owed(r, "e_blkno", func(v uint64) bool {
			old := Run{le.Uint64(rec(i)[8:]), blocks}
			return inner || tree.refcount || tree.signed || v%m.bpc != 0 || !m.within(v, blocks) || m.claimed(v, blocks) ||
				tree.data && m.holdsData(Run{v, blocks}, old, rec(i)[7]&2 != 0)
		})
		fs = append(fs, r...)
	}
	return fs
}

// within reports whether n blocks from v on can be read.
func (m *Map) within(v, n uint64) bool { return v >= superBlock && n <= m.Blocks && v <= m.Blocks-n }

// claimed reports whether one of n blocks from v on is something else.
func (m *Map) claimed(v, n uint64) bool {
	for i := range n {
		if _, ok := m.homes[v+i]; ok || m.byBlock[v+i] != nil {
			return true
		}
	}
	return false
}

// holdsData reports whether run r has clusters with file data that another
// record than that of run old leads to. Two that are both shared may.
func (m *Map) holdsData(r, old Run, shared bool) bool {
	data := m.Data
	if shared {
		data = m.own
	}
	return slices.ContainsFunc(data, func(d Run) bool {
		return d != old && d.Start < r.Start+r.Len && r.Start < d.Start+d.Len
	})
}

// index maps the index of a directory.
func (m *Map) index(d dinode, decides []span) {
	root := le.Uint64(d.b[0x88:])
	b := m.signed(root, "DXDIR01")
	m.addEdge(d.ino, Run{root, 1}, true, append(slices.Clone(decides), d.at(0x88, 8))...)
	inline := b[0x2C]&1 != 0
	kind := "index root"
	tree := treeKind{signed: true}
	if inline {
		kind = "index root inline"
	}
	m.addNode(&node{block: root, kind: kind, by: d.ino, ecc: m.HasECC, fields: func() []*field {
		fs := rows(root, "ocfs2_dx_root_block", 0, dxRootRows)
		m.allocated(fs, root, "dr_")
		for _, name := range []string{"dr_clusters", "dr_flags", "dr_last_eb_blk"} {
			owed(fs, name, always)
		}
		owed(fs, "dr_free_blk", func(v uint64) bool { return v != 0 && !m.within(v, 1) })
		if inline {
			owed(fs, "dr_num_entries", always)
			return append(fs, m.dxFields(root, 0xC0, b, true)...)
		}
		return append(fs, m.listFields(root, "dr_list", 0xC0, b, tree)...)
	}})
	if inline {
		return
	}
	visit := func(n, by uint64, b []byte, deps []span) {
		m.addEdge(by, Run{n, 1}, true, deps...)
		m.extentBlock(n, by, b, "extent block of index", tree)
	}
	for _, l := range m.leaves(b, root, 0xC0, []span{at(root, 0x2C, 1)}, visit) {
		m.addEdge(l.from, l.run, false, l.deps...)
		for i := range l.run.Len {
			n := l.run.Start + i
			m.addNode(&node{block: n, kind: "index leaf", by: l.from, ecc: m.HasECC, fields: func() []*field {
				return append(rows(n, "ocfs2_dx_leaf", 0, dxLeafRows), m.dxFields(n, 0x28, m.read(n), false)...)
			}})
		}
	}
}

func (m *Map) dxFields(block uint64, off int, b []byte, counted bool) []*field {
	fs := rows(block, "ocfs2_dx_entry_list", off, dxListRows)
	room, used := uint64(le.Uint16(b[off+4:])), int(le.Uint16(b[off+6:]))
	owed(fs, "de_num_used", func(v uint64) bool { return counted || v > room })
	for _, i := range some(used) {
		e := rows(block, "ocfs2_dx_entry", off+8+16*i, dxEntryRows)
		owed(e, "dx_dirent_blk", func(v uint64) bool { return !m.within(v, 1) })
		fs = append(fs, e...)
	}
	return fs
}

func (m *Map) xattrBlock(loc, ino uint64) {
	b := m.signed(loc, "XATTR01")
	indexed := b[0x20]&1 != 0
	kind := "xattr block"
	if indexed {
		kind = "xattr block indexed"
	}
	tree := treeKind{}
	m.addNode(&node{block: loc, kind: kind, by: ino, ecc: m.HasECC, fields: func() []*field {
		fs := rows(loc, "ocfs2_xattr_block", 0, xattrBlockRows)
		m.allocated(fs, loc, "xb_")
		owed(fs, "xb_flags", always)
		if !indexed {
			return append(fs, m.xattrFields(loc, 0x30, b, m.BlockSize-0x30)...)
		}
		root := rows(loc, "ocfs2_xattr_tree_root", 0, xattrTreeRows)
		owed(root, "xt_clusters", always)
		owed(root, "xt_last_eb_blk", always)
		return append(append(fs, root...), m.listFields(loc, "xt_list", 0x40, b, tree)...)
	}})
	if !indexed {
		m.values(b, 0x30)
		return
	}
	visit := func(n, by uint64, b []byte, deps []span) {
		m.addEdge(by, Run{n, 1}, true, deps...)
		m.extentBlock(n, by, b, "extent block of xattrs", tree)
	}
	step := uint64(4096 / m.BlockSize) //nolint:gosec // 1 to 8
	for _, l := range m.leaves(b, loc, 0x40, []span{at(loc, 0x20, 2)}, visit) {
		m.addEdge(l.from, l.run, false, l.deps...)
		used := uint64(le.Uint16(m.read(l.run.Start)[6:]))
		for i := range used {
			m.bucket(l.run.Start+i*step, l.from, l.run.Len/step)
		}
	}
}

// bucket maps the bucket in the 4096 bytes from block n on; a record of its
// tree has room for that many.
func (m *Map) bucket(n, by, room uint64) {
	var b []byte
	for i := range uint64(4096 / m.BlockSize) { //nolint:gosec // 1 to 8
		b = append(b, m.read(n+i)...)
	}
	m.values(b, 0)
	m.addNode(&node{block: n, kind: "xattr bucket", by: by, ecc: m.HasECC, fields: func() []*field {
		fs := append(m.xattrFields(n, 0, b, 4096), rows(n, "ocfs2_xattr_header", 0, bucketCheckRows)...)
		owed(fs, "xh_num_buckets", func(v uint64) bool { return v > room })
		return slices.DeleteFunc(fs, func(f *field) bool { return f.off+f.len > m.BlockSize })
	}})
}

// xattrFields returns the fields of the header at off in b, which begins with
// block, and of its entries. They have an area of so many bytes.
func (m *Map) xattrFields(block uint64, off int, b []byte, area int) []*field {
	fs := rows(block, "ocfs2_xattr_header", off, xattrHeaderRows)
	owed(fs, "xh_count", func(v uint64) bool { return 16+16*int(v) > area }) //nolint:gosec // 16 bits
	used := int(le.Uint16(b[off:]))
	for _, i := range some(used) {
		e := rows(block, "ocfs2_xattr_entry", off+16+16*i, xattrEntryRows)
		local := b[off+16+16*i+7]&0x80 != 0
		owed(e, "xe_name_offset", func(v uint64) bool { return int(v) >= area || int(v) < 16+16*used }) //nolint:gosec // 16 bits
		owed(e, "xe_type", func(v uint64) bool { return v&0x7F == 0 || v&0x7F > 5 })
		owed(e, "xe_value_size", func(v uint64) bool { return local && v > 80 })
		fs = append(fs, e...)
		if !local {
			root := valueRoot(b, off, i)
			value := rows(block, "ocfs2_xattr_value_root", root, valueRootRows)
			owed(value, "xr_clusters", always)
			owed(value, "xr_last_eb_blk", always)
			fs = append(append(fs, value...), m.listFields(block, "xr_list", root+0x10, b, treeKind{data: true, shared: true})...)
		}
	}
	return fs
}

// valueRoot returns where in b the root of the value of entry i lies, which the
// header at off keeps outside.
func valueRoot(b []byte, off, i int) int {
	e := b[off+16+16*i:]
	return off + int(le.Uint16(e[4:])) + (int(e[6])+3)&^3
}

// values maps the clusters of the values that the header at off in b keeps
// outside.
func (m *Map) values(b []byte, off int) {
	for i := range int(le.Uint16(b[off:])) {
		e := b[off+16+16*i:]
		if e[7]&0x80 != 0 {
			continue
		}
		for _, l := range m.leaves(b, 0, valueRoot(b, off, i)+0x10, nil, func(uint64, uint64, []byte, []span) {}) {
			m.addData(l)
		}
	}
}

// addData adds clusters with file data.
func (m *Map) addData(l leaf) {
	m.Data = append(m.Data, l.run)
	if !l.shared {
		m.own = append(m.own, l.run)
	}
}

func (m *Map) refcount(root, ino uint64) {
	if m.byBlock[root] != nil {
		return
	}
	b := m.signed(root, "REFCNT1")
	m.refcountBlock(root, ino, b)
	if b[0x34] != 2 {
		return
	}
	tree := treeKind{refcount: true}
	visit := func(n, by uint64, b []byte, _ []span) { m.extentBlock(n, by, b, "extent block of refcounts", tree) }
	for _, l := range m.leaves(b, root, 0x80, nil, visit) {
		m.refcountBlock(l.run.Start, root, m.signed(l.run.Start, "REFCNT1"))
	}
}

func (m *Map) refcountBlock(n, by uint64, b []byte) {
	kind := map[byte]string{0: "refcount root", 1: "refcount leaf", 2: "refcount root of a tree"}[b[0x34]]
	m.addNode(&node{block: n, kind: kind, by: by, ecc: m.HasECC, fields: func() []*field {
		fs := rows(n, "ocfs2_refcount_block", 0, refcountRows)
		m.allocated(fs, n, "rf_")
		owed(fs, "rf_flags", always)
		owed(fs, "rf_clusters", always)
		if b[0x34] != 1 {
			owed(fs, "rf_count", always)
		}
		if b[0x34] == 2 {
			owed(fs, "rf_last_eb_blk", always)
			return append(fs, m.listFields(n, "rf_list", 0x80, b, treeKind{refcount: true})...)
		}
		list := rows(n, "ocfs2_refcount_list", 0, refcountListRows)
		room := uint64(le.Uint16(b[0x80:]))
		owed(list, "rl_used", func(v uint64) bool { return v > room })
		fs = append(fs, list...)
		for _, i := range some(int(le.Uint16(b[0x82:]))) {
			r := rows(n, "ocfs2_refcount_rec", 0x90+16*i, refcountRecRows)
			start := le.Uint64(b[0x90+16*i:])
			if b[0x34] == 0 { // of a leaf the root would be named
				owed(r, "r_refcount", always)
				owed(r, "r_cpos", always)
				owed(r, "r_clusters", always)
			} else {
				owed(r, "r_clusters", func(v uint64) bool { return start+v > m.Blocks/m.bpc || v == 0 })
			}
			fs = append(fs, r...)
		}
		return fs
	}})
}
