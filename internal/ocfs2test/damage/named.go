// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package damage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Change is a new value of a field. A field that a block has several times, in
// records, is changed in the first of them.
type Change struct {
	Block uint64
	Field string // C name, without that of the structure
	Value uint64
}

// Find returns the blocks that hold what kind says, in ascending order: "super",
// "group of inode_alloc", "inode journal", "inode dir indexed" ... (see the names
// of cases). A kind that the volume does not have is an error.
func (m *Map) Find(kind string) ([]uint64, error) {
	var blocks []uint64
	for _, n := range m.nodes {
		if n.kind == kind {
			blocks = append(blocks, n.block)
		}
	}
	if blocks == nil {
		return nil, fmt.Errorf("no %s on the volume", kind)
	}
	slices.Sort(blocks)
	return blocks, nil
}

// Inodes returns the inodes in use that were allocated in a group.
func (m *Map) Inodes(group uint64) []uint64 {
	var blocks []uint64
	for _, n := range m.nodes {
		if strings.HasPrefix(n.kind, "inode ") && m.homes[n.block].group == group {
			blocks = append(blocks, n.block)
		}
	}
	slices.Sort(blocks)
	return blocks
}

// Break is the case of the given changes together.
func (m *Map) Break(name string, changes ...Change) (*Case, error) {
	c := &Case{Name: name, Kind: name, blockSize: int64(m.BlockSize)}
	for _, change := range changes {
		n := m.byBlock[change.Block]
		if n == nil {
			return nil, fmt.Errorf("%s: block %d is no structure", name, change.Block)
		}
		f := fieldOf(n.fields(), change.Field)
		if f == nil {
			return nil, fmt.Errorf("%s: no %s in %s %d", name, change.Field, n.kind, n.block)
		}
		c.Blocks = append(c.Blocks, n.block)
		c.Patches = append(c.Patches, Patch{m.offset(f.span), slices.Clone(f.encode(change.Value))})
		c.Unusable = c.Unusable || m.unusable(n, f)
		c.Witness = c.Witness || n.ecc || f.contradicted != nil && f.contradicted(change.Value)
	}
	return c, nil
}

// Zero is the case of blocks that hold nothing but zeros.
func (m *Map) Zero(name string, blocks ...uint64) *Case {
	c := &Case{Name: name, Kind: name, Blocks: blocks, Witness: true, blockSize: int64(m.BlockSize)}
	for _, b := range blocks {
		c.Patches = append(c.Patches, Patch{m.offset(at(b, 0, 0)), make([]byte, m.BlockSize)})
	}
	slices.SortFunc(c.Patches, func(a, b Patch) int { return cmp.Compare(a.Off, b.Off) })
	return c
}
