// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed

import (
	"fmt"
	"iter"

	"o2image/blockset"
	"o2image/image"
	"o2image/ocfs2"
)

var _ image.Layout = (*Layout)(nil)

// Layout is an [image.Layout] of a packed image.
type Layout struct {
	set    *blockset.Set
	header Header
	record Record
}

// LayoutOptions says what the header of an image holds besides what follows
// from the volume.
type LayoutOptions struct {
	Timestamp uint32 // when the image is made, seconds since 1970
	Redaction image.Redaction
	KeyID     [16]byte // which key private names are made with
}

// NewLayout returns the layout of a packed image of a volume of geometry g with
// the blocks of set. It fails if the volume has no room for a superblock, or
// if a block of the set lies behind its end.
func NewLayout(set *blockset.Set, g ocfs2.Geometry, opts LayoutOptions) (*Layout, error) {
	if g.Blocks() <= ocfs2.SuperBlockBlkno {
		return nil, fmt.Errorf("lay out an image: a volume of %d blocks has no superblock", g.Blocks())
	}
	if last, ok := set.Max(); ok && last >= g.Blocks() {
		return nil, fmt.Errorf("lay out an image: block %d lies behind the end of a volume of %d blocks", last, g.Blocks())
	}
	l := &Layout{
		set: set,
		header: Header{
			Timestamp: opts.Timestamp,
			Version:   Version,
			Blocks:    g.Blocks(),
			BlockSize: g.BlockSize(),
			Stored:    set.Count(),
		},
	}
	for _, blkno := range l.header.backups() {
		at := Absent
		if set.Has(blkno) {
			at = 1 + set.Rank(blkno)
		}
		l.header.Superblocks = append(l.header.Superblocks, at)
	}
	l.record = Record{Redaction: opts.Redaction, KeyID: opts.KeyID, Trailer: l.header.size()}
	return l, nil
}

// Size returns the length in bytes of an image proper of a volume of geometry g
// with so many blocks stored.
func Size(g ocfs2.Geometry, stored uint64) int64 {
	h := Header{Blocks: g.Blocks(), BlockSize: g.BlockSize(), Stored: stored}
	return h.size()
}

// Size returns the length of the image proper in bytes. A trailer starts there.
func (l *Layout) Size() int64 { return l.header.size() }

// Record returns the record in the header block of the image.
func (l *Layout) Record() Record { return l.record }

// Pieces yields all pieces: nothing in a packed image can be left out.
func (l *Layout) Pieces() iter.Seq2[image.Piece, error] {
	return func(yield func(image.Piece, error) bool) {
		next, stop := iter.Pull2(l.set.Spans())
		defer stop()
		var (
			size   = l.Size()
			bs     = int64(l.header.BlockSize)
			blkno  uint64 // next stored block
			left   uint64 // blocks that follow it without a gap, itself included
			blocks = l.header.bitmapOff()
		)
		for off := int64(0); off < size; off += image.PieceSize {
			p := image.Piece{Off: off, Len: int(min(image.PieceSize, size-off))}
			p.Own = off == 0 || off+int64(p.Len) > blocks
			for at, end := max(off, bs), min(off+int64(p.Len), blocks); at < end; {
				if left == 0 {
					blkno, left, _ = next()
				}
				n := min(left, uint64((end-at)/bs))
				p.Segments = append(p.Segments, image.Segment{At: int(at - off), Blkno: blkno, Count: int(n)})
				at += int64(n) * bs
				blkno += n
				left -= n
			}
			if !yield(p, nil) {
				return
			}
		}
	}
}

// Fill writes the header and the record, or the part of the bitmap that falls
// in the piece.
func (l *Layout) Fill(p image.Piece, buf []byte) {
	if p.Off == 0 {
		l.header.Encode(buf)
		l.record.encode(buf[recordOff:])
	}
	from := max(p.Off, l.header.bitmapOff())
	end := p.Off + int64(p.Len)
	if from >= end {
		return
	}
	bitmap := buf[from-p.Off:]
	firstBlkno := uint64(from-l.header.bitmapOff()) * 8
	endBlkno := firstBlkno + uint64(len(bitmap))*8
	for blkno, n := range l.set.SpansFrom(firstBlkno) {
		if blkno >= endBlkno {
			return
		}
		setBits(bitmap, int(blkno-firstBlkno), int(min(n, endBlkno-blkno)))
	}
}

// setBits sets n bits of a bitmap from bit i on.
func setBits(bitmap []byte, i, n int) {
	for ; n > 0 && i%8 != 0; i, n = i+1, n-1 {
		bitmap[i/8] |= 1 << (i % 8)
	}
	for ; n >= 8; i, n = i+8, n-8 {
		bitmap[i/8] = 0xFF
	}
	if n > 0 {
		bitmap[i/8] |= 1<<n - 1
	}
}
