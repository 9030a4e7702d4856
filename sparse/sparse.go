// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package sparse has a form of bytes that leaves zeros out. Metadata is mostly
// zero, a few hundred bytes of each inode aside: what is to be compressed or hashed
// becomes some ten times less, and that is what it costs.
//
// For each 4096 bytes the form has a word of 8 bytes, little-endian, and those
// granules of 64 bytes that are not all zero, in order: bit i of the word, the lowest
// being 0, is set if granule i is there. The end of the bytes may make the last
// granule and the last word stand for fewer. Different bytes of the same length
// have different forms.
package sparse

import (
	"encoding/binary"
	"math/bits"
)

const (
	granule = 64           // bytes
	word    = 8            // bytes
	spread  = 64 * granule // bytes that a word is for
)

// MaxLen returns the length of the longest form of n bytes.
func MaxLen(n int) int { return n + (n+spread-1)/spread*word }

// Append appends the form of p, and reports whether there is anything but zeros.
func Append(dst, p []byte) (form []byte, any bool) {
	for len(p) > 0 {
		part := p[:min(spread, len(p))]
		p = p[len(part):]
		at := len(dst)
		dst = append(dst, make([]byte, word)...)
		var mask uint64
		for i := 0; len(part) > 0; i++ {
			g := part[:min(granule, len(part))]
			part = part[len(g):]
			if !zeroGranule(g) {
				mask |= 1 << i
				dst = append(dst, g...)
			}
		}
		binary.LittleEndian.PutUint64(dst[at:], mask)
		any = any || mask != 0
	}
	return dst, any
}

func zeroGranule(g []byte) bool {
	if len(g) < granule {
		return isZero(g)
	}
	le := binary.LittleEndian
	return le.Uint64(g)|le.Uint64(g[8:])|le.Uint64(g[16:])|le.Uint64(g[24:])|
		le.Uint64(g[32:])|le.Uint64(g[40:])|le.Uint64(g[48:])|le.Uint64(g[56:]) == 0
}

// isZero is for short slices.
func isZero(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}

// Expand fills p with what stands from byte off on in n bytes, of which form is
// the form that Append made.
func Expand(p, form []byte, off, n int) {
	clear(p)
	for base := 0; base < min(off+len(p), n); base += spread {
		mask := binary.LittleEndian.Uint64(form)
		form = form[word:]
		if base+spread <= off {
			form = form[bits.OnesCount64(mask)*granule:]
			continue
		}
		for ; mask != 0; mask &= mask - 1 {
			from := base + bits.TrailingZeros64(mask)*granule
			g := form[:min(granule, n-from)]
			form = form[len(g):]
			switch at := from - off; {
			case at <= -len(g), at >= len(p):
			case at < 0:
				copy(p, g[-at:])
			default:
				copy(p[at:], g)
			}
		}
	}
}
