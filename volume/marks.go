// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import "sync"

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
