// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package raw lays out raw images: every stored block at its own offset in a
// file as long as the volume, zeros between. There is no header; a raw image
// is opened like the device that it was made from.
//
// Version 1.8.7 of o2image wrote the same blocks, but let the file end behind
// the last of them.
package raw

import (
	"iter"

	"o2image/blockset"
	"o2image/image"
	"o2image/ocfs2"
)

var _ image.Layout = (*Layout)(nil)

// Layout is an [image.Layout] without anything but blocks. It leaves out the
// pieces that hold none.
type Layout struct {
	set       *blockset.Set
	blockSize uint64 // bytes
	blocks    uint64 // size of the volume
	size      uint64 // of the volume and of the image, bytes
}

// NewLayout returns the layout of a raw image with the blocks of set, of a
// volume of geometry g. Blocks behind the end of the volume are left out.
func NewLayout(set *blockset.Set, g ocfs2.Geometry) *Layout {
	return &Layout{set: set, blockSize: uint64(g.BlockSize()), blocks: g.Blocks(), size: g.Bytes()}
}

// Size returns the length of the volume in bytes: clusters x cluster size.
func (l *Layout) Size() int64 { return int64(l.size) }

// Pieces yields the pieces that hold stored blocks.
func (l *Layout) Pieces() iter.Seq[image.Piece] {
	return func(yield func(image.Piece) bool) {
		next := uint64(0) // offset from which on no piece has been yielded
		for start, n := range l.set.Spans() {
			if start >= l.blocks {
				return
			}
			off := max(next, start*l.blockSize/image.PieceSize*image.PieceSize)
			end := min(start+n, l.blocks) * l.blockSize
			for ; off < end; off += image.PieceSize {
				if !yield(image.Piece{Off: int64(off), Len: int(min(image.PieceSize, l.size-off))}) {
					return
				}
			}
			next = off
		}
	}
}

// Segments yields the stored blocks of a piece.
func (l *Layout) Segments(p image.Piece) iter.Seq[image.Segment] {
	return func(yield func(image.Segment) bool) {
		first := uint64(p.Off) / l.blockSize
		end := first + uint64(p.Len)/l.blockSize
		for start, n := range l.set.SpansFrom(first) {
			if start >= end {
				return
			}
			s := image.Segment{
				At:    int((start - first) * l.blockSize),
				Blkno: start,
				Count: int(min(n, end-start)),
			}
			if !yield(s) {
				return
			}
		}
	}
}

// Fill does nothing: the format has no bytes of its own.
func (l *Layout) Fill(image.Piece, []byte) {}
