// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"bufio"
	"slices"

	"o2image/image"
	"o2image/image/seekable"
)

// zstdMagic is the part of a compressed file without which nothing opens it.
var zstdMagic = span{0, 4}

// zstdOutput compresses an image on its way to another output.
type zstdOutput struct {
	output
	below  *appender
	buffer *bufio.Writer // of pieces for below
	frames *seekable.Writer
	pos    int64 // bytes of the image written so far
}

func newZstdOutput(out output, enc *seekable.Encoder) *zstdOutput {
	below := &appender{out: out}
	buffer := bufio.NewWriterSize(below, image.PieceSize)
	return &zstdOutput{output: out, below: below, buffer: buffer, frames: seekable.NewWriter(buffer, enc)}
}

func (o *zstdOutput) ordered() bool { return true }

// write writes a piece, of which the copier has made a frame; what comes from
// elsewhere is compressed here.
func (o *zstdOutput) write(f *filled) error {
	if err := o.zeroTo(f.Off); err != nil {
		return err
	}
	o.pos += int64(f.Len)
	if f.zstd.Size > 0 {
		return o.frames.WriteFrame(f.zstd)
	}
	_, err := o.frames.Write(f.buf)
	return err
}

// zeroTo writes zeros up to an offset of the image.
func (o *zstdOutput) zeroTo(off int64) error {
	n := off - o.pos
	o.pos = off
	return o.frames.WriteZeros(n)
}

func (o *zstdOutput) finish(size int64) error {
	if err := o.zeroTo(size); err != nil {
		return err
	}
	if err := o.frames.Close(); err != nil {
		return err
	}
	if err := o.buffer.Flush(); err != nil {
		return err
	}
	return o.output.finish(o.below.pos)
}

// appender writes to an output in sequence.
type appender struct {
	out output
	pos int64 // bytes written so far
}

func (a *appender) Write(p []byte) (int, error) {
	for piece := range slices.Chunk(p, image.PieceSize) {
		if err := a.out.write(&filled{Piece: image.Piece{Off: a.pos, Len: len(piece)}, buf: piece}); err != nil {
			return 0, err
		}
		a.pos += int64(len(piece))
	}
	return len(p), nil
}
