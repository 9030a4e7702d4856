// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package undo is the format of undo files: what a device or file held in the
// places that something else was then written to. It knows nothing of what
// that was. An undo file is written in one go and read from its start; neither
// needs more memory than one extent.
//
// All integers are little-endian, all lengths and offsets in bytes.
//
//	0x00   8   "O2IMUNDO"
//	0x08   2   version: 1
//	0x0A   2   kind of the target: 1 regular file, 2 block device
//	0x0C   2   N, length of its name, at most 4096
//	0x0E   2   M, length of its identity, at most 4096
//	0x10   8   when the file was made, seconds since 1970
//	0x18   8   length of the target before; of a file that was missing 0
//	0x20   8   length of the target after, not less than before
//	0x28  16   UUID of the volume on the target before, zero if there was none
//	0x38  16   UUID of the volume that was written
//	0x48   N   name of the target
//	       M   identity of the target: a text that is compared as it is
//
// The extents follow, ascending and without overlap, none behind the old
// length. Each starts with a record:
//
//	0x00   8   offset in the target
//	0x08   8   length
//	0x10   8   kind: 1 bytes, at most 1 MiB, which follow the record; 2 zeros, of
//	           which nothing follows; 3 end
//
// The record of kind 3 is the last one. Its offset is the number of extents and
// its length the number of bytes in those of kind 1. Behind it the file ends with
// the SHA-256 of all that stands before the hash.
package undo

import "encoding/binary"

const (
	magic   = "O2IMUNDO"
	version = 1

	fixedSize  = 0x48
	maxText    = 4096
	recordSize = 0x18
	hashSize   = 32
	endSize    = recordSize + hashSize

	// MaxExtent is the length of the longest extent that has bytes.
	MaxExtent = 1 << 20

	// zeroUnit is the granularity at which zeros are found, in bytes.
	zeroUnit = 4096
)

// Offsets in the header.
const (
	offVersion  = 0x08
	offTarget   = 0x0A
	offNameSize = 0x0C
	offIDSize   = 0x0E
	offCreated  = 0x10
	offOldSize  = 0x18
	offNewSize  = 0x20
	offOldUUID  = 0x28
	offNewUUID  = 0x38
)

// Values of the kind of a target.
const (
	targetFile  = 1
	targetBlock = 2
)

// Offsets in a record.
const (
	offOffset = 0x00
	offLength = 0x08
	offKind   = 0x10
)

// Values of the kind of a record.
const (
	kindBytes = 1
	kindZeros = 2
	kindEnd   = 3
)

var le = binary.LittleEndian
