// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"iter"
	"maps"
	"math/bits"
	"slices"
	"sync"
)

// marks is a set of blocks that have been visited. Neighbours share a word, so
// that the groups of an allocator cost about one bit a block. The zero value is
// empty; all methods may be called concurrently.
type marks struct {
	mu    sync.Mutex
	words map[uint64]uint64
}

// add puts blkno into the set and reports whether it was new.
func (m *marks) add(blkno uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.words == nil {
		m.words = make(map[uint64]uint64)
	}
	word, bit := blkno/64, uint64(1)<<(blkno%64)
	if m.words[word]&bit != 0 {
		return false
	}
	m.words[word] |= bit
	return true
}

// has reports whether blkno is in the set.
func (m *marks) has(blkno uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.words[blkno/64]>>(blkno%64)&1 != 0
}

// all yields the blocks in the set in ascending order. What is added meanwhile
// may be among them.
func (m *marks) all() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		m.mu.Lock()
		words := slices.Sorted(maps.Keys(m.words))
		m.mu.Unlock()
		for _, word := range words {
			m.mu.Lock()
			w := m.words[word]
			m.mu.Unlock()
			for ; w != 0; w &= w - 1 {
				if !yield(word*64 + uint64(bits.TrailingZeros64(w))) { //nolint:gosec // not negative
					return
				}
			}
		}
	}
}

// without returns the blocks in the set that are not in o, in ascending order.
func (m *marks) without(o *marks) []uint64 {
	var rest []uint64
	for blkno := range m.all() {
		if !o.has(blkno) {
			rest = append(rest, blkno)
		}
	}
	return rest
}
