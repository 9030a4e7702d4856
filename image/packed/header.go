// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"o2image/image"
	"o2image/ocfs2"
)

const (
	// HeaderSize is the length of struct ocfs2_image_hdr in bytes. The header
	// fills a block of the volume's size all the same.
	HeaderSize = 0x78

	// PageSize is the length of a page of the bitmap in bytes.
	PageSize = 4096

	// Version is the version of the format that is written, and the highest
	// that is read.
	Version = 1

	// Absent is the image position of a superblock that is not stored.
	Absent = ^uint64(0)

	magic      = 0x72A3D45F
	magicDesc  = "OCFS2 IMAGE\x00"
	pageBlocks = PageSize * 8
	maxBlocks  = 1 << 32 * 2048 // clusters of a volume x blocks of a cluster
)

// Offsets in struct ocfs2_image_hdr.
const (
	offMagic       = 0x00
	offTimestamp   = 0x04
	offMagicDesc   = 0x08
	offVersion     = 0x18
	offFSBlkCnt    = 0x20
	offFSBlkSz     = 0x28
	offImgBlkCnt   = 0x30
	offBmpBlkSz    = 0x38
	offSuperBlkCnt = 0x40
	offSuperBlocks = 0x48
)

var le = binary.LittleEndian

// Header is struct ocfs2_image_hdr.
type Header struct {
	Timestamp uint32 // hdr_timestamp: when the image was made, seconds since 1970
	Version   uint64 // hdr_version
	Blocks    uint64 // hdr_fsblkcnt: size of the volume in blocks
	BlockSize int    // hdr_fsblksz: bytes
	Stored    uint64 // hdr_imgblkcnt: blocks in the image

	// Superblocks has hdr_superblocks: for each place of a backup superblock
	// inside the volume the image block that holds it, or Absent. At most
	// six: an image that claims more is taken to have six.
	Superblocks []uint64
}

// DecodeHeader decodes the first HeaderSize bytes of an image. It returns
// [image.ErrFormat] if they are not the header of a packed image, and other
// errors for a header that contradicts itself or is of a later version.
func DecodeHeader(b []byte) (*Header, error) {
	if len(b) < HeaderSize || le.Uint32(b[offMagic:]) != magic ||
		string(b[offMagicDesc:offMagicDesc+len(magicDesc)]) != magicDesc {
		return nil, image.ErrFormat
	}
	h := &Header{
		Timestamp: le.Uint32(b[offTimestamp:]),
		Version:   le.Uint64(b[offVersion:]),
		Blocks:    le.Uint64(b[offFSBlkCnt:]),
		Stored:    le.Uint64(b[offImgBlkCnt:]),
	}
	if h.Version > Version {
		return nil, fmt.Errorf("image version %d is newer than this program understands (%d)", h.Version, Version)
	}
	blockSize := le.Uint64(b[offFSBlkSz:])
	if blockSize < ocfs2.MinBlockSize || blockSize > ocfs2.MaxBlockSize || bits.OnesCount64(blockSize) != 1 {
		return nil, fmt.Errorf("image header: block size is %d, want 512, 1024, 2048 or 4096", blockSize)
	}
	h.BlockSize = int(blockSize)
	if n := le.Uint64(b[offBmpBlkSz:]); n != PageSize {
		return nil, fmt.Errorf("image header: bitmap block size is %d, want %d", n, PageSize)
	}
	if h.Blocks <= ocfs2.SuperBlockBlkno || h.Blocks > maxBlocks {
		return nil, fmt.Errorf("image header: volume of %d blocks, want %d to %d",
			h.Blocks, ocfs2.SuperBlockBlkno+1, uint64(maxBlocks))
	}
	if h.Stored > h.Blocks {
		return nil, fmt.Errorf("image header: %d blocks stored of a volume of %d", h.Stored, h.Blocks)
	}
	for i := range min(le.Uint64(b[offSuperBlkCnt:]), ocfs2.MaxBackups) {
		h.Superblocks = append(h.Superblocks, le.Uint64(b[offSuperBlocks+8*i:]))
	}
	return h, nil
}

// Encode writes the header, which has at most six superblocks, into the first
// HeaderSize bytes of b.
func (h *Header) Encode(b []byte) {
	le.PutUint32(b[offMagic:], magic)
	le.PutUint32(b[offTimestamp:], h.Timestamp)
	clear(b[offMagicDesc:offVersion])
	copy(b[offMagicDesc:], magicDesc)
	le.PutUint64(b[offVersion:], h.Version)
	le.PutUint64(b[offFSBlkCnt:], h.Blocks)
	le.PutUint64(b[offFSBlkSz:], uint64(h.BlockSize))
	le.PutUint64(b[offImgBlkCnt:], h.Stored)
	le.PutUint64(b[offBmpBlkSz:], PageSize)
	le.PutUint64(b[offSuperBlkCnt:], uint64(len(h.Superblocks)))
	clear(b[offSuperBlocks:HeaderSize])
	for i, n := range h.Superblocks {
		le.PutUint64(b[offSuperBlocks+8*i:], n)
	}
}

// pages returns the number of pages of the bitmap.
func (h *Header) pages() uint64 { return (h.Blocks-1)/pageBlocks + 1 }

// bitmapOff returns the offset of the bitmap in the image, bytes.
func (h *Header) bitmapOff() int64 { return int64(h.Stored+1) * int64(h.BlockSize) }

// size returns the length of the image proper in bytes. The limits on Blocks
// and Stored keep it below 2^56.
func (h *Header) size() int64 { return h.bitmapOff() + int64(h.pages())*PageSize }

// backups returns the places of backup superblocks inside the volume as block
// numbers. They depend on the size of the volume alone.
func (h *Header) backups() []uint64 {
	var blknos []uint64
	for n := 1; n <= ocfs2.MaxBackups; n++ {
		blkno := uint64(ocfs2.BackupOffset(n)) / uint64(h.BlockSize) //nolint:gosec // positive
		if blkno >= h.Blocks {
			break
		}
		blknos = append(blknos, blkno)
	}
	return blknos
}
