// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package damage

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
)

// Case is one thing broken.
type Case struct {
	Name    string   // what, where, how: unique on its volume
	Kind    string   // what and how, wherever it is: "inode dir: ocfs2_dinode.i_mode=zero"
	Blocks  []uint64 // the blocks that are broken
	Patches []Patch

	// Witness says that a check value or another field contradicts the damage: a
	// finding is owed, and silence about missing blocks is a lie.
	Witness bool

	// Repairable says that the check value tells which bit is wrong.
	Repairable bool

	// Unusable says that the only superblock of the volume is broken so that it
	// may be taken for none, or that it describes another volume.
	Unusable bool

	blockSize int64
}

// cuts reports whether something that e depends on was changed.
func (c *Case) cuts(e edge) bool {
	if c == nil || c.Repairable {
		return false
	}
	for _, dep := range e.deps {
		if c.touches(dep) {
			return true
		}
	}
	return false
}

// replaces reports whether nothing is left of a block.
func (c *Case) replaces(block uint64) bool {
	if c == nil {
		return false
	}
	off := int64(block) * c.blockSize //nolint:gosec // a sound volume
	return slices.ContainsFunc(c.Patches, func(p Patch) bool {
		return p.Off <= off && off+c.blockSize <= p.Off+int64(len(p.Data))
	})
}

func (c *Case) touches(s span) bool {
	off := int64(s.block)*c.blockSize + int64(s.off) //nolint:gosec // a sound volume
	for _, p := range c.Patches {
		if p.Off < off+int64(s.len) && off < p.Off+int64(len(p.Data)) {
			return true
		}
	}
	return false
}

// Coverage counts how often a kind of damage was done, over several volumes.
type Coverage map[string]int

// Cases returns the cases of the volume that are not covered yet: each kind of
// damage is done max times, and counted separately where blocks have a check
// value.
func (m *Map) Cases(covered Coverage, max int) []*Case {
	g := &generator{m: m, covered: covered, max: max, kinds: map[string][]*node{}, values: map[string][]uint64{}, blocks: map[uint64][]byte{}}
	for _, n := range m.nodes {
		if g.kinds[n.kind] == nil {
			g.order = append(g.order, n.kind)
		}
		g.kinds[n.kind] = append(g.kinds[n.kind], n)
	}
	for _, kind := range g.order {
		for _, n := range g.picks(kind) {
			for _, f := range n.fields() {
				g.values[f.kind()] = append(g.values[f.kind()], f.get(g.block(n.block)))
			}
		}
	}
	for _, kind := range g.order {
		g.fieldCases(kind)
		g.blockCases(kind)
	}
	g.groupCases()
	g.superCases()
	return g.cases
}

type generator struct {
	m       *Map
	covered Coverage
	max     int
	kinds   map[string][]*node
	order   []string
	values  map[string][]uint64 // of each kind of field
	blocks  map[uint64][]byte
	cases   []*Case
}

func (g *generator) block(n uint64) []byte {
	if g.blocks[n] == nil {
		g.blocks[n] = g.m.read(n)
	}
	return g.blocks[n]
}

// picks chooses the first, a middle and the last node of a kind.
func (g *generator) picks(kind string) []*node {
	var chosen []*node
	for _, i := range some(len(g.kinds[kind])) {
		chosen = append(chosen, g.kinds[kind][i])
	}
	return chosen
}

// turn chooses one of n for a key, so that all are chosen at times.
func turn(key string, n int) int {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int(h.Sum32() % uint32(n)) //nolint:gosec // small numbers
}

// wanted counts a kind of damage, and reports whether it is to be done.
func (g *generator) wanted(n *node, key string) bool {
	key = fmt.Sprint(key, n.ecc)
	if g.covered[key] >= g.max {
		return false
	}
	g.covered[key]++
	return true
}

func (g *generator) add(kind string, witness bool, patches []Patch, nodes ...*node) *Case {
	c := &Case{Kind: kind, Name: kind, Patches: patches, Witness: witness, blockSize: int64(g.m.BlockSize)}
	for _, n := range nodes {
		c.Blocks = append(c.Blocks, n.block)
		c.Name += fmt.Sprint(" @", n.block)
	}
	g.cases = append(g.cases, c)
	return c
}

// fieldCases breaks every field of a kind of blocks in every way.
func (g *generator) fieldCases(kind string) {
	type choice struct {
		n *node
		f *field
	}
	byField := map[string][]choice{}
	var order []string
	for _, n := range g.picks(kind) {
		for _, f := range n.fields() {
			if byField[f.kind()] == nil {
				order = append(order, f.kind())
			}
			byField[f.kind()] = append(byField[f.kind()], choice{n, f})
		}
	}
	for _, name := range order {
		choices := byField[name]
		for _, how := range hows {
			// What one value makes no difference to another may.
			start := turn(name+how, len(choices))
			for i := range choices {
				c := choices[(start+i)%len(choices)]
				v, ok := g.value(how, c.n, c.f)
				if !ok {
					continue
				}
				key := kind + ": " + name + "=" + how
				if c.f.role == plain { // the same in all inodes, whatever they are
					key = strings.Fields(kind)[0] + ": " + name + "=" + how
				}
				if g.wanted(c.n, key) {
					g.fieldCase(kind+": "+name+"="+how, c.n, c.f, v)
				}
				break
			}
		}
	}
}

func (g *generator) fieldCase(kind string, n *node, f *field, v uint64) {
	witness := f.contradicted != nil && f.contradicted(v)
	if n.ecc {
		witness = f.role != checkECC
	}
	c := g.add(kind, witness, []Patch{{g.m.offset(f.span), slices.Clone(f.encode(v))}}, n)
	c.Name += fmt.Sprintf("+%#x", f.off)
	c.Unusable = g.m.unusable(n, f)
}

// unusable reports whether a wrong value of the field may keep the volume from
// being opened.
func (m *Map) unusable(n *node, f *field) bool {
	if n.block != superBlock || len(m.Backups) > 0 {
		return false
	}
	switch f.name {
	case "i_signature", "i_blkno", "i_clusters", "s_feature_incompat", "s_blocksize_bits", "s_clustersize_bits":
		return true
	}
	return false
}

func (m *Map) offset(s span) int64 {
	return int64(s.block)*int64(m.BlockSize) + int64(s.off) //nolint:gosec // a sound volume
}

// hows are the ways to break a field.
var hows = []string{"zero", "ones", "plus", "minus", "other", "self", "parent", "outside", "far", "farthest", "bit"}

// value returns the value that a field gets; ok is false where that way makes
// no sense or no difference.
func (g *generator) value(how string, n *node, f *field) (v uint64, ok bool) {
	old := f.get(g.block(n.block))
	points := f.role == pointer || f.role == parent || f.role == ownNumber
	switch how {
	case "zero":
	case "ones":
		v = f.limit()
	case "plus":
		v = (old + 1) & f.limit()
	case "minus":
		v = (old - 1) & f.limit()
	case "other":
		i := slices.IndexFunc(g.values[f.kind()], func(v uint64) bool { return v != old && v != 0 })
		if i < 0 {
			return 0, false
		}
		v = g.values[f.kind()][i]
	case "self":
		v = n.block
	case "parent":
		v = n.by
	case "outside":
		v = g.m.Blocks
	case "far":
		v = 1 << 40
	case "farthest":
		v = 1 << 62
	case "bit":
		v = old ^ 1<<(8*f.len-2)
	}
	switch how {
	case "self", "parent", "outside", "far", "farthest":
		if !points || f.len < 8 {
			return 0, false
		}
	case "plus", "minus", "other", "bit":
		if f.role == plain && how != "plus" {
			return 0, false
		}
	}
	return v, v != old
}

// blockCases breaks whole blocks of a kind.
func (g *generator) blockCases(kind string) {
	picks := g.picks(kind)
	n := picks[turn(kind, len(picks))]
	whole := func(b []byte) []Patch { return []Patch{{g.m.offset(at(n.block, 0, 0)), b}} }
	lost := func(c *Case) { c.Unusable = n.block == superBlock && len(g.m.Backups) == 0 }
	if zeros := make([]byte, g.m.BlockSize); !bytes.Equal(g.block(n.block), zeros) && g.wanted(n, kind+": zeroed") {
		lost(g.add(kind+": zeroed", !n.idle, whole(zeros), n))
	}
	if g.wanted(n, kind+": garbage") {
		lost(g.add(kind+": garbage", true, whole(garbage(g.m.BlockSize, n.block)), n))
	}
	if other := picks[len(picks)-1]; other != picks[0] && g.wanted(n, kind+": swapped") {
		a, b := g.block(picks[0].block), g.block(other.block)
		if !bytes.Equal(a, b) {
			g.add(kind+": swapped", g.misplaced(picks[0], other), []Patch{
				{g.m.offset(at(picks[0].block, 0, 0)), b}, {g.m.offset(at(other.block, 0, 0)), a},
			}, picks[0], other)
		}
	}
	if !n.ecc {
		return
	}
	check := -1
	for _, f := range n.fields() {
		if f.role == checkCRC {
			check = f.off
		}
	}
	if check < 0 || kind == "xattr bucket" {
		return
	}
	for i := range 4 {
		key := fmt.Sprintf("%s: flipped bit %d", kind, i)
		if !g.wanted(n, key) {
			continue
		}
		bit := rand.New(rand.NewPCG(n.block, uint64(i))).IntN(8 * g.m.BlockSize) //nolint:gosec // repeatable
		if bit/8 >= check && bit/8 < check+8 {
			continue
		}
		b := g.block(n.block)[bit/8] ^ 1<<(bit%8)
		c := g.add(key, true, []Patch{{g.m.offset(at(n.block, bit/8, 1)), []byte{b}}}, n)
		c.Repairable = n.block != superBlock || len(g.m.Backups) > 0
		c.Unusable = !c.Repairable
	}
}

// misplaced reports whether a block shows that it is not the other one, which is
// of the same kind.
func (g *generator) misplaced(n, other *node) bool {
	if !n.nameless {
		return true
	}
	fields := other.fields()
	for i, f := range n.fields() {
		v := fields[i].get(g.block(other.block))
		if v != f.get(g.block(n.block)) && f.contradicted != nil && f.contradicted(v) {
			return true
		}
	}
	return false
}

func garbage(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // repeatable
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32()) //nolint:gosec // any byte
	}
	return b
}

// groupCases zeroes all that a group of an allocator has.
func (g *generator) groupCases() {
	for _, kind := range g.order {
		if !strings.HasPrefix(kind, "group of ") || kind == "group of global_bitmap" {
			continue
		}
		for _, n := range g.picks(kind) {
			if !g.wanted(n, kind+": lost with all blocks") {
				continue
			}
			var patches []Patch
			for block, h := range g.m.homes {
				if h.group == n.block {
					patches = append(patches, Patch{g.m.offset(at(block, 0, 0)), make([]byte, g.m.BlockSize)})
				}
			}
			slices.SortFunc(patches, func(a, b Patch) int { return int(a.Off - b.Off) })
			g.add(kind+": lost with all blocks", true, join(patches), n)
		}
	}
}

// join joins patches that adjoin.
func join(patches []Patch) []Patch {
	var all []Patch
	for _, p := range patches {
		if last := len(all) - 1; last >= 0 && all[last].Off+int64(len(all[last].Data)) == p.Off {
			all[last].Data = append(all[last].Data, p.Data...)
			continue
		}
		all = append(all, p)
	}
	return all
}

// superCases loses superblocks until one is left.
func (g *generator) superCases() {
	super := g.m.byBlock[superBlock]
	for _, keep := range g.m.Backups {
		patches := []Patch{{g.m.offset(at(superBlock, 0, 0)), make([]byte, g.m.BlockSize)}}
		nodes := []*node{super}
		for _, n := range g.m.Backups {
			if n != keep {
				patches = append(patches, Patch{g.m.offset(at(n, 0, 0)), make([]byte, g.m.BlockSize)})
				nodes = append(nodes, g.m.byBlock[n])
			}
		}
		g.add(fmt.Sprintf("super: lost, and all backups but that at block %d", keep), true, patches, nodes...)
	}
}
