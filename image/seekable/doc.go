// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package seekable writes and reads the seekable format of zstd: independent
// frames, and behind them a table of their sizes. Any zstd decompresses the
// whole; whoever knows the table reads any byte by decompressing one frame.
//
// The table is a skippable frame, which zstd passes over. All numbers are
// little-endian:
//
//	4  0x184D2A5E, the magic number of a skippable frame
//	4  length of all that follows
//	   for every frame:
//	4    length in the file
//	4    length of its contents
//	4    XXH64 of its contents, cut to 32 bits, if the descriptor has bit 7
//	4  number of frames
//	1  descriptor
//	4  0x8F92EAB1
//
// What is written has the checksums in the frames, where zstd compares them
// too, and none in the table. What is in a frame is not the concern of this
// package.
package seekable

import "encoding/binary"

const (
	frameMagic    = 0xFD2FB528
	tableMagic    = 0x184D2A5E
	footerMagic   = 0x8F92EAB1
	tableHeadSize = 8
	footerSize    = 9
	entrySize     = 8
	checksumSize  = 4

	hasChecksums = 1 << 7    // in the descriptor
	reservedBits = 0x1F << 2 // must be 0

	// maxFrames is the largest number of frames that the format allows.
	maxFrames = 0x8000000
)

// FrameSize is the length of what a frame of a [Writer] holds, in bytes; the
// last one before the end may hold less.
const FrameSize = 1 << 20

// MaxSize is the length of the longest contents that fit into one file if all
// frames are full.
const MaxSize = maxFrames * int64(FrameSize)

var le = binary.LittleEndian
