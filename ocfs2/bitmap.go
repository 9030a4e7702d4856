// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"iter"
	"math/bits"
)

// Bitmap is a run of bits as OCFS2 stores them: bit i is bit i%8 of byte i/8.
// The zero bitmap is empty.
type Bitmap struct {
	b []byte
	n int
}

func newBitmap(b []byte, n int) Bitmap { return Bitmap{b, max(0, min(n, len(b)*bitsPerByte))} }

// Len returns the number of bits.
func (m Bitmap) Len() int { return m.n }

// Bit reports whether bit i is set; a bit outside is not.
func (m Bitmap) Bit(i int) bool {
	return i >= 0 && i < m.n && m.b[i/bitsPerByte]&(1<<(i%bitsPerByte)) != 0
}

// Count returns the number of bits set.
func (m Bitmap) Count() int {
	count := 0
	for from, to := range m.SetRuns() {
		count += to - from
	}
	return count
}

// SetRuns returns the longest runs of set bits in ascending order, each as its
// first bit and the first bit behind it.
func (m Bitmap) SetRuns() iter.Seq2[int, int] { return m.runs(0) }

// ClearRuns is SetRuns for bits that are not set.
func (m Bitmap) ClearRuns() iter.Seq2[int, int] { return m.runs(^uint64(0)) }

// runs returns the runs of bits that differ from the bits of flip.
func (m Bitmap) runs(flip uint64) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		for to := 0; ; {
			from := m.find(to, flip)
			if from == m.n {
				return
			}
			to = m.find(from, ^flip)
			if !yield(from, to) {
				return
			}
		}
	}
}

// find returns the first bit from i on that differs from the bits of flip, or Len.
func (m Bitmap) find(i int, flip uint64) int {
	for i < m.n {
		w := (dataWord(m.b, i/wordBits) ^ flip) >> (i % wordBits)
		if w != 0 {
			return min(i+bits.TrailingZeros64(w), m.n)
		}
		i += wordBits - i%wordBits
	}
	return m.n
}
