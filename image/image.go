// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package image holds the contracts between the copier and the formats of
// image files; the formats themselves are the packages below it.
//
// Writing is a matter of arithmetic: once the set of blocks to store is known,
// a [Layout] says what every byte of the file is. The copier walks its pieces
// in ascending order, or several of them at once, and makes each one the same
// way:
//
//	for p, err := range layout.Pieces() {
//		buf := make([]byte, p.Len)
//		layout.Fill(p, buf)
//		for _, s := range p.Segments {
//			// read s.Count blocks from block s.Blkno on into buf[s.At:]
//		}
//		// write buf at p.Off
//	}
//
// Reading is an io.ReaderAt: whatever the format, offsets are those of the
// volume.
package image

import (
	"errors"
	"fmt"
	"io"
	"iter"
)

var (
	// ErrFormat says that a file is not of the format that was tried. The
	// next format may fit.
	ErrFormat = errors.New("not an image of this format")

	// ErrAbsent says that a block of the volume is not in the image.
	ErrAbsent = errors.New("not in the image")
)

// PieceSize is the number of bytes of an image file that are made, hashed and
// written together. It is a multiple of every block size.
const PieceSize = 1 << 20

// A Layout says what every byte of an image file is, before the first one is
// written. It does not change: all methods may be called concurrently.
type Layout interface {
	// Size returns the length of the image in bytes, without anything that
	// follows the image proper.
	Size() int64

	// Pieces yields the pieces of the file in ascending order. What no piece
	// covers is zero. An error, which comes last, says that the set of blocks
	// could not be read.
	Pieces() iter.Seq2[Piece, error]

	// Fill writes into buf, which has the length of the piece and is zero but
	// for the segments, what the format itself puts there. It leaves the
	// segments alone.
	Fill(p Piece, buf []byte)
}

// Piece is a range of bytes of an image file. It starts at a multiple of
// [PieceSize] and is that long, or ends with the file.
type Piece struct {
	Off int64 // offset in the file, bytes
	Len int   // bytes

	// Segments are the stored blocks in the piece, ascending. A block never
	// lies in two pieces.
	Segments []Segment

	// Own says that Fill has something to write into the piece.
	Own bool
}

// Segment is a run of blocks of the volume that stand one after the other in a
// piece.
type Segment struct {
	At    int    // offset in the piece, bytes
	Blkno uint64 // number of the first block in the volume
	Count int    // blocks
}

// Run is the blocks from Start on to Start+Len-1.
type Run struct {
	Start uint64 // number of the first block
	Len   uint64 // blocks
}

// Format is the kind of file that holds a volume.
type Format uint8

// The formats. A raw image is read like a device, and nothing in it tells it
// from one.
const (
	FormatRaw    Format = iota // a device or a raw image
	FormatPacked               // a packed image
)

// String returns the format in a word.
func (f Format) String() string {
	switch f {
	case FormatRaw:
		return "raw"
	case FormatPacked:
		return "packed"
	}
	return fmt.Sprintf("format %d", uint8(f))
}

// Redaction says what was taken out of the stored blocks of an image. Its
// values are stored in packed images.
type Redaction uint8

// The degrees of redaction.
const (
	RedactionExact   Redaction = 0   // nothing: the blocks are those of the volume
	RedactionDefault Redaction = 1   // the contents of files
	RedactionPrivate Redaction = 2   // contents, names and attribute values
	RedactionUnknown Redaction = 255 // not recorded, or not readable
)

// String returns the degree in a word.
func (r Redaction) String() string {
	switch r {
	case RedactionExact:
		return "exact"
	case RedactionDefault:
		return "default"
	case RedactionPrivate:
		return "private"
	}
	return "unknown"
}

// ReadFull fills p from offset off of r, the file of an image. One that ends before p
// is full is [io.ErrUnexpectedEOF]: it has become shorter than it was when it was
// opened.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}
