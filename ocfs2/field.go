// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import "encoding/binary"

var le = binary.LittleEndian

// inside reports whether n bytes at off lie in b.
func inside(b []byte, off, n int) bool {
	return off >= 0 && off <= len(b) && n <= len(b)-off
}

// The readers below take a field beyond the end of b as zero.

func u8(b []byte, off int) uint8 {
	if !inside(b, off, 1) {
		return 0
	}
	return b[off]
}

func u16(b []byte, off int) uint16 {
	if !inside(b, off, 2) {
		return 0
	}
	return le.Uint16(b[off:])
}

func u32(b []byte, off int) uint32 {
	if !inside(b, off, 4) {
		return 0
	}
	return le.Uint32(b[off:])
}

func u64(b []byte, off int) uint64 {
	if !inside(b, off, 8) {
		return 0
	}
	return le.Uint64(b[off:])
}

// span returns at most n bytes of b from off on, fewer where b ends earlier.
// The result cannot be extended into what follows.
func span(b []byte, off, n int) []byte {
	if off < 0 || off >= len(b) || n <= 0 {
		return nil
	}
	n = min(n, len(b)-off)
	return b[off : off+n : off+n]
}

// tail returns b from off on, nil where b ends before.
func tail(b []byte, off int) []byte { return span(b, off, len(b)) }
