// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package damage

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
)

var le = binary.LittleEndian

// Run is a run of blocks.
type Run struct {
	Start uint64 // first block
	Len   uint64 // blocks
}

// Map says what is where on a sound volume.
type Map struct {
	BlockSize int    // bytes
	Blocks    uint64 // size of the volume
	Backups   []uint64
	HasECC    bool
	Data      []Run // clusters of regular files and of xattr values: never in an image

	own             []Run // those of Data that reflinked files do not share
	r               io.ReaderAt
	bpc             uint64 // blocks in a cluster
	incompat        uint32
	nodes           []*node
	byBlock         map[uint64]*node
	edges           map[uint64][]edge // by the block that they start from
	homes           map[uint64]home   // of blocks in suballocator groups
	files           map[uint64]entry  // in the system directory, by inode
	groups          []Run             // what each group of an allocator stands for, descriptor and all
	root, systemDir uint64
	err             error // reads that failed
}

// node is a block that holds a structure.
type node struct {
	block    uint64
	kind     string          // what it is, finely enough to choose a few of each
	by       uint64          // the block that led here
	ecc      bool            // its block check covers all of it
	idle     bool            // zeros are as good: nobody uses what it tells about
	nameless bool            // neither it nor what it leads to tells its place, which its fields may do
	fields   func() []*field // the fields, records included
}

// edge says that a structure leads to blocks, as long as none of the spans that
// say so is changed.
type edge struct {
	to    Run
	enter bool // the first of the blocks holds a structure, which leads further
	name  bool // a directory's entry: the way to an inode whose allocator is lost
	deps  []span
}

// home is where a block was allocated.
type home struct {
	group      uint64 // descriptor
	slot, bit  int
	contiguous bool
}

const (
	flagValid      = 0x0001
	flagOrphaned   = 0x0004
	flagSystem     = 0x0010
	flagSuper      = 0x0020
	flagLocalAlloc = 0x0040
	flagJournal    = 0x0100
	flagChain      = 0x0400
	flagDealloc    = 0x0800
	flagDIO        = 0x2000
	flagsKnown     = 0x3FF5

	dynInline      = 0x0001
	dynXattr       = 0x0002
	dynInlineXattr = 0x0004
	dynIndexed     = 0x0008
	dynRefcount    = 0x0010
	dynKnown       = 0x001F

	incompatECC           = 0x0800
	incompatIndexed       = 0x0400
	incompatExtendedSlots = 0x0100
	incompatDiscontig     = 0x2000
	incompatKnown         = 0xFFF6

	modeDir     = 0x4000
	modeFile    = 0x8000
	modeSymlink = 0xA000
)

const superBlock = 2

// Read maps the sound volume in r.
func Read(r io.ReaderAt) (*Map, error) {
	m := &Map{
		r: r, byBlock: map[uint64]*node{}, edges: map[uint64][]edge{}, homes: map[uint64]home{},
		files: map[uint64]entry{},
	}
	for m.BlockSize = 512; ; m.BlockSize *= 2 {
		if m.BlockSize > 4096 {
			return nil, errors.New("no superblock")
		}
		m.Blocks = superBlock + 1
		if bytes.HasPrefix(m.read(superBlock), []byte("OCFSV2")) {
			break
		}
	}
	m.super()
	return m, m.err
}

// read returns a copy of block n, zeros where there is none.
func (m *Map) read(n uint64) []byte {
	b := make([]byte, m.BlockSize)
	if n >= m.Blocks {
		m.fail(fmt.Errorf("block %d of %d: out of range", n, m.Blocks))
		return b
	}
	if k, err := m.r.ReadAt(b, int64(n)*int64(m.BlockSize)); k < len(b) {
		m.fail(fmt.Errorf("block %d: %w", n, err))
	}
	return b
}

func (m *Map) fail(err error) { m.err = errors.Join(m.err, err) }

// signed returns block n, which must carry a signature.
func (m *Map) signed(n uint64, text string) []byte {
	b := m.read(n)
	if !bytes.HasPrefix(b, []byte(text)) {
		m.fail(fmt.Errorf("block %d: signature %q, want %q", n, b[:8], text))
	}
	return b
}

func (m *Map) addNode(n *node) {
	if m.byBlock[n.block] == nil {
		m.byBlock[n.block] = n
		m.nodes = append(m.nodes, n)
	}
}

func (m *Map) addEdge(from uint64, to Run, enter bool, deps ...span) {
	m.edges[from] = append(m.edges[from], edge{to, enter, false, deps})
}

func at(block uint64, off, n int) span { return span{block, off, n} }

// rows makes fields of a table, for a structure at offset base of a block.
func rows(block uint64, structure string, base int, table []row) []*field {
	fs := make([]*field, len(table))
	for i, r := range table {
		fs[i] = &field{structure: structure, name: r.name, span: at(block, base+r.off, r.size), role: r.role}
		switch r.role {
		case signature, ownNumber, generation, parent, capacity:
			fs[i].contradicted = always
		}
	}
	return fs
}

func always(uint64) bool { return true }

// owed sets what speaks against new values of the named field.
func owed(fs []*field, name string, contradicted func(v uint64) bool) {
	for _, f := range fs {
		if f.name == name {
			f.contradicted = contradicted
		}
	}
}

func (m *Map) super() {
	b := m.read(superBlock)
	clusterBits := le.Uint32(b[0xFC:])
	m.bpc = 1 << (clusterBits - uint32(bits.TrailingZeros(uint(m.BlockSize)))) //nolint:gosec // a sound volume
	clusters := le.Uint32(b[0x14:])
	m.Blocks = uint64(clusters) * m.bpc
	m.incompat = le.Uint32(b[0xE0:])
	m.HasECC = m.incompat&incompatECC != 0
	m.root, m.systemDir = le.Uint64(b[0xE8:]), le.Uint64(b[0xF0:])
	systemDir, first := m.systemDir, le.Uint64(b[0x108:])
	if le.Uint32(b[0xDC:])&1 != 0 {
		for i := range 6 {
			n := uint64(1) << (30 + 2*i) / uint64(m.BlockSize)
			if n >= m.Blocks {
				break
			}
			m.Backups = append(m.Backups, n)
		}
	}
	fields := func() []*field {
		fs := append(rows(superBlock, "ocfs2_dinode", 0, dinodeRows), rows(superBlock, "ocfs2_super_block", 0, superRows)...)
		for _, name := range []string{"i_generation", "i_clusters", "s_system_dir_blkno", "s_blocksize_bits", "s_clustersize_bits", "s_max_slots", "s_first_cluster_group"} {
			owed(fs, name, always)
		}
		owed(fs, "i_signature", func(v uint64) bool { return v<<16 != le.Uint64(b)<<16 }) // six letters
		owed(fs, "i_flags", func(v uint64) bool { return v&^flagsKnown != 0 || v&0x31 != 0x31 })
		owed(fs, "s_feature_incompat", func(v uint64) bool { return v&^incompatKnown != 0 })
		owed(fs, "s_root_blkno", func(v uint64) bool { return m.byBlock[v] == nil || !strings.HasPrefix(m.byBlock[v].kind, "inode") })
		return fs
	}
	m.addNode(&node{block: superBlock, kind: "super", ecc: m.HasECC, fields: fields})
	for _, n := range m.Backups {
		m.addNode(&node{block: n, kind: "backup super", by: superBlock, ecc: m.HasECC, fields: func() []*field {
			return append(rows(n, "ocfs2_dinode", 0, dinodeRows), rows(n, "ocfs2_super_block", 0, superRows)...)
		}})
	}

	// Where a backup tells the geometry, nothing depends on the first copy.
	dep := func(off, n int) []span {
		if len(m.Backups) > 0 {
			return nil
		}
		geometry := []span{at(superBlock, 0x14, 4), at(superBlock, 0xF8, 4), at(superBlock, 0xFC, 4)}
		return append(geometry, at(superBlock, off, n))
	}
	m.addEdge(superBlock, Run{0, first}, false, dep(0x108, 8)...)
	for _, n := range m.Backups {
		m.addEdge(superBlock, Run{n, 1}, false, at(superBlock, 0xDC, 4))
	}
	m.addEdge(superBlock, Run{systemDir, 1}, true, dep(0xF0, 8)...)
	for _, e := range m.entries(systemDir) {
		if e.name != "." && e.name != ".." {
			m.files[e.ino] = e
			m.addEdge(e.dep.block, Run{e.ino, 1}, true, e.dep)
		}
	}
	for ino, e := range m.files {
		switch e.base() {
		case "global_inode_alloc", "inode_alloc", "extent_alloc", "global_bitmap":
			m.allocator(ino, e, first)
		}
	}
	slices.SortFunc(m.nodes, func(a, b *node) int { return cmp.Compare(a.block, b.block) })
}

// allocator maps the groups of the allocator ino.
func (m *Map) allocator(ino uint64, e entry, first uint64) {
	b := m.signed(ino, "INODE01")
	a := &allocator{ino: ino, name: e.base(), slot: e.slot(), bpc: int(le.Uint16(b[0xC2:])), first: first}
	for i := range int(le.Uint16(b[0xC6:])) {
		rec := 0xD0 + 16*i
		by, deps := ino, []span{at(ino, rec+8, 8), at(ino, 0xC6, 2), at(ino, 0x2C, 4), e.dep}
		for n := le.Uint64(b[rec+8:]); n != 0; {
			m.addEdge(by, Run{n, 1}, true, deps...)
			g := m.signed(n, "GROUP01")
			m.group(a, n, by, g)
			by, deps = n, []span{at(n, 0x18, 8)}
			n = le.Uint64(g[0x18:])
		}
	}
}

// allocator is an inode with chains of groups.
type allocator struct {
	ino       uint64
	name      string // without the slot
	slot, bpc int
	first     uint64 // s_first_cluster_group
}

// group maps a group of blocks, and the inodes in it.
func (m *Map) group(a *allocator, n, by uint64, g []byte) {
	size, total := int(le.Uint16(g[0x08:])), int(le.Uint16(g[0x0A:]))
	records := 0
	if size == 256 && a.name != "global_bitmap" {
		records = int(le.Uint16(g[0x144:]))
	}
	kind := "group of " + a.name
	if records > 0 {
		kind += " discontiguous"
	}
	m.addNode(&node{block: n, kind: kind, by: by, ecc: m.HasECC, fields: func() []*field {
		return m.groupFields(a, n, g, size, total, records)
	}})
	if a.name == "global_bitmap" {
		start := n
		if n == a.first {
			start = 0
		}
		m.groups = append(m.groups, Run{start, uint64(total) * m.bpc / uint64(a.bpc)})
		return
	}
	shape := []span{at(n, 0x08, 2), at(n, 0x0A, 2), at(a.ino, 0xC2, 2)}
	runs, spans := []Run{{n, uint64(total)}}, [][]span{shape}
	if records > 0 {
		runs, spans = nil, nil
		for i := range records {
			rec := 0x150 + 16*i
			runs = append(runs, Run{le.Uint64(g[rec+8:]), uint64(le.Uint16(g[rec+4:])) * m.bpc})
			spans = append(spans, append(slices.Clone(shape), at(n, 0x140, 6), at(n, rec, 16)))
		}
	}
	bit := 0
	for i, r := range runs {
		m.groups = append(m.groups, r)
		m.addEdge(n, r, false, spans[i]...)
		for j := range r.Len {
			set := g[0x40+bit/8]>>(bit%8)&1 != 0
			m.homes[r.Start+j] = home{group: n, slot: a.slot, bit: bit, contiguous: records == 0}
			if set && bit > 0 && strings.HasSuffix(a.name, "inode_alloc") {
				m.addEdge(n, Run{r.Start + j, 1}, true, append(slices.Clone(spans[i]), at(n, 0x40+bit/8, 1))...)
				m.inode(r.Start+j, n)
			}
			bit++
		}
	}
}

func (m *Map) groupFields(a *allocator, n uint64, g []byte, size, total, records int) []*field {
	fs := rows(n, "ocfs2_group_desc", 0, groupRows)
	for _, name := range []string{"bg_size", "bg_bits", "bg_free_bits_count", "bg_next_group"} {
		owed(fs, name, always)
	}
	if a.name != "global_bitmap" && records == 0 && m.incompat&incompatDiscontig != 0 {
		// Groups that are older than the feature have all the room.
		room := uint64(m.BlockSize - 0x40)                                                                          //nolint:gosec // positive
		owed(fs, "bg_size", func(v uint64) bool { return v != room && v != min(room, 256) || 8*v < uint64(total) }) //nolint:gosec // from 16 bits
	}
	free := uint64(le.Uint16(g[0x0C:]))
	owed(fs, "bg_contig_free_bits", func(v uint64) bool { return v > free })
	for _, off := range []int{0x40, 0x40 + min(size, total/8)/2&^7} {
		word := &field{structure: "ocfs2_group_desc", name: "bg_bitmap", span: at(n, off, 8), role: bitmap}
		old := word.get(g)
		word.contradicted = func(v uint64) bool { return bits.OnesCount64(v) != bits.OnesCount64(old) }
		fs = append(fs, word)
	}
	if records == 0 {
		return fs
	}
	fs = append(fs, rows(n, "bg_list", 0x140, extentListRows)...)
	for _, i := range some(records) {
		fs = append(fs, rows(n, "bg_list", 0x150+16*i, leafRecRows)...)
	}
	for _, name := range []string{"l_tree_depth", "l_next_free_rec", "e_cpos", "e_leaf_clusters", "e_blkno"} {
		owed(fs, name, always)
	}
	return fs
}

// some chooses the first, a middle and the last of n records.
func some(n int) []int {
	if n == 0 {
		return nil
	}
	return slices.Compact([]int{0, n / 2, n - 1})
}

// Reachable returns the blocks that can be reached on the sound volume without
// what is said by any of the bytes that c changes; all that can be reached if c is
// nil. A pointer to a block that holds nothing any more does not count. With names, inodes are also found by their entries in directories.
func (m *Map) Reachable(c *Case, names bool) *Set {
	s := newSet()
	entered := map[uint64]bool{superBlock: true}
	for queue := []uint64{superBlock}; len(queue) > 0; {
		from := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, e := range m.edges[from] {
			if e.name && !names || c.cuts(e) {
				continue
			}
			if !e.enter || !c.replaces(e.to.Start) {
				s.add(e.to)
			}
			if e.enter && !entered[e.to.Start] {
				entered[e.to.Start] = true
				queue = append(queue, e.to.Start)
			}
		}
	}
	return s
}

// Set is a set of blocks.
type Set struct{ words map[uint64]uint64 }

func newSet() *Set { return &Set{map[uint64]uint64{}} }

func (s *Set) add(r Run) {
	for n := r.Start; n < r.Start+r.Len; {
		if n%64 == 0 && r.Start+r.Len-n >= 64 {
			s.words[n/64] = ^uint64(0)
			n += 64
			continue
		}
		s.words[n/64] |= 1 << (n % 64)
		n++
	}
}

// Has reports whether block n is a member.
func (s *Set) Has(n uint64) bool { return s.words[n/64]>>(n%64)&1 != 0 }

// Count returns the number of members.
func (s *Set) Count() uint64 {
	var n int
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return uint64(n) //nolint:gosec // not negative
}
