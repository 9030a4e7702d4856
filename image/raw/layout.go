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

	"o2image/image"
	"o2image/ocfs2"
)

var _ image.Layout = (*Layout)(nil)

// Layout is an [image.Layout] without anything but blocks. It leaves out the
// pieces that hold none.
type Layout struct {
	runs      func() iter.Seq2[image.Run, error]
	blockSize uint64 // bytes
	blocks    uint64 // size of the volume
	size      uint64 // of the volume and of the image, bytes
}

// NewLayout returns the layout of a raw image of a volume of geometry g. The
// blocks are those that runs yields, ascending and apart; what lies behind the
// end of the volume is left out.
func NewLayout(g ocfs2.Geometry, runs func() iter.Seq2[image.Run, error]) *Layout {
	return &Layout{runs: runs, blockSize: uint64(g.BlockSize()), blocks: g.Blocks(), size: g.Bytes()}
}

// Size returns the length of the volume in bytes: clusters x cluster size.
func (l *Layout) Size() int64 { return int64(l.size) }

// Pieces yields the pieces that hold stored blocks.
func (l *Layout) Pieces() iter.Seq2[image.Piece, error] {
	return func(yield func(image.Piece, error) bool) {
		var p image.Piece // the one that is being filled, if it has segments
		flush := func() bool { return len(p.Segments) == 0 || yield(p, nil) }
		perPiece := image.PieceSize / l.blockSize
		for run, err := range l.runs() {
			if err != nil {
				yield(image.Piece{}, err)
				return
			}
			if run.Start >= l.blocks {
				break
			}
			for blkno, left := run.Start, min(run.Len, l.blocks-run.Start); left > 0; {
				index := blkno / perPiece
				off := int64(index * image.PieceSize)
				if len(p.Segments) == 0 || off != p.Off {
					if !flush() {
						return
					}
					p = image.Piece{Off: off, Len: int(min(image.PieceSize, l.size-uint64(off)))}
				}
				n := min(left, (index+1)*perPiece-blkno)
				p.Segments = append(p.Segments, image.Segment{
					At: int((blkno - index*perPiece) * l.blockSize), Blkno: blkno, Count: int(n),
				})
				blkno += n
				left -= n
			}
		}
		flush()
	}
}

// Fill does nothing: the format has no bytes of its own.
func (l *Layout) Fill(image.Piece, []byte) {}
