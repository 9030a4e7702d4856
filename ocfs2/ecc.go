// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"hash/crc32"
	"math/bits"
	"slices"
)

// NoCheck is the place of the check in bytes that hold none.
const NoCheck = -1

const (
	wordBytes = 8
	wordBits  = 64
)

var zeroCheck = make([]byte, checkBytes)

// ECCState is what the check of a block says about it.
type ECCState uint8

// The states.
const (
	ECCValid      ECCState = iota // the CRC matches
	ECCRepairable                 // it matches with one data bit flipped
	ECCInvalid                    // the block must not be trusted
)

func (s ECCState) String() string {
	switch s {
	case ECCValid:
		return "valid"
	case ECCRepairable:
		return "repairable"
	default:
		return "invalid"
	}
}

// CRC32 returns the CRC-32 of b as bc_crc32e holds it: IEEE polynomial, no
// final inversion, the 8 bytes at check taken as zero. A check of NoCheck means
// that b is taken as it is.
func CRC32(b []byte, check int) uint32 {
	if !inside(b, check, checkBytes) {
		return ^crc32.ChecksumIEEE(b)
	}
	crc := crc32.ChecksumIEEE(b[:check])
	crc = crc32.Update(crc, crc32.IEEETable, zeroCheck)
	return ^crc32.Update(crc, crc32.IEEETable, b[check+checkBytes:])
}

// Hamming returns the parity of b as bc_ecc holds it: the XOR of the code
// positions of all bits that are set, the 8 bytes at check (a multiple of 8, or
// NoCheck) taken as zero. b is at most 4096 bytes, or the parity would not fit
// into 16 bits.
//
// Code positions are the integers that are no power of two, from 3 up. So
// between 2^k and 2^(k+1), data bit i has position i+k+2, and the 64 positions
// of a word are two neighbouring data words shifted together. The low six bits
// of the result are those of one word that has all words in it; a word of odd
// parity adds its own number to the bits above.
func Hamming(b []byte, check int) uint16 {
	skip := NoCheck
	if inside(b, check, checkBytes) {
		skip = check / wordBytes
	}
	var all, high, before uint64
	for w := range len(b)/wordBytes + 2 {
		var data uint64
		switch {
		case w == skip:
		case w < len(b)/wordBytes:
			data = le.Uint64(b[w*wordBytes:])
		default:
			data = dataWord(b, w)
		}
		var positions uint64
		if w == 0 {
			positions = data&0x1<<3 | data&0xE<<4 | data&0x7F0<<5 | data&0x3FFF800<<6 | data&0x1FFFFFFFC000000<<7
		} else {
			shift := uint(bits.Len(uint(w))) + 7 //nolint:gosec // not negative; k+2, where k is the log2 of 64w
			positions = before>>(wordBits-shift) | data<<shift
			if w&(w-1) == 0 {
				positions &^= 1 // a power of two is no code position
			}
		}
		all ^= positions
		odd := uint64(bits.OnesCount64(positions) & 1) //nolint:gosec // 0 or 1
		high ^= odd * uint64(w)                        //nolint:gosec // not negative
		before = data
	}
	return uint16(high*wordBits | foldPositions(all)) //nolint:gosec // the doc comment bounds b
}

// dataWord returns bits 64w to 64w+63 of b, zero where b has ended.
func dataWord(b []byte, w int) uint64 {
	if off := w * wordBytes; off <= len(b)-wordBytes {
		return le.Uint64(b[off:])
	}
	var last [wordBytes]byte
	copy(last[:], tail(b, w*wordBytes))
	return le.Uint64(last[:])
}

// foldPositions returns the XOR of the numbers, 0 to 63, of the bits set in w.
func foldPositions(w uint64) uint64 {
	var xor uint64
	for ; w != 0; w &= w - 1 {
		xor ^= uint64(bits.TrailingZeros64(w)) //nolint:gosec // 0..63
	}
	return xor
}

// dataBit returns the data bit of a code position; ok is false where the
// position belongs to none.
func dataBit(position int) (bit int, ok bool) {
	if position < 3 || position&(position-1) == 0 {
		return 0, false
	}
	return position - bits.Len(uint(position)) - 1, true
}

// VerifyECC checks block b (a bucket: all its 4096 bytes) and changes nothing.
// If one flipped bit explains a mismatch, bit is its number in b, for
// RepairBit. Like the kernel it looks at bc_ecc only if the CRC is wrong.
// Only a volume with IncompatMetaECC has checks. Kinds without check, and bytes
// too short to hold one, are invalid.
func (k Kind) VerifyECC(b []byte) (state ECCState, bit int) {
	check, ok := k.check(b)
	if !ok {
		return ECCInvalid, 0
	}
	crc := u32(b, check)
	if CRC32(b, check) == crc {
		return ECCValid, 0
	}
	bit, ok = dataBit(int(Hamming(b, check) ^ u16(b, check+4)))
	if !ok || bit >= len(b)*bitsPerByte || inCheck(bit, check) {
		return ECCInvalid, 0
	}
	repaired := slices.Clone(b)
	RepairBit(repaired, bit)
	if CRC32(repaired, check) != crc {
		return ECCInvalid, 0
	}
	return ECCRepairable, bit
}

// UpdateECC computes the check of block b (a bucket: all its 4096 bytes) and
// stores it. It does nothing for a kind without check.
func (k Kind) UpdateECC(b []byte) {
	check, ok := k.check(b)
	if !ok {
		return
	}
	le.PutUint32(b[check:], CRC32(b, check))
	le.PutUint16(b[check+4:], Hamming(b, check))
	le.PutUint16(b[check+6:], 0)
}

// CheckOffset returns where in a block of that many bytes the kind keeps its
// check (8 bytes); ok is false where it has none.
func (k Kind) CheckOffset(blockSize int) (off int, ok bool) {
	off = k.layout().check
	if off < 0 {
		return blockSize + off, true
	}
	return off, off != 0
}

func (k Kind) check(b []byte) (off int, ok bool) {
	off, ok = k.CheckOffset(len(b))
	return off, ok && inside(b, off, checkBytes)
}

// inCheck reports whether a bit lies in the check at byte offset check.
func inCheck(bit, check int) bool {
	at := bit / bitsPerByte
	return at >= check && at < check+checkBytes
}

// RepairBit flips one bit of b, counted from the lowest bit of the first byte.
// A bit outside of b is ignored.
func RepairBit(b []byte, bit int) {
	if bit >= 0 && bit/bitsPerByte < len(b) {
		b[bit/bitsPerByte] ^= 1 << (bit % bitsPerByte)
	}
}
