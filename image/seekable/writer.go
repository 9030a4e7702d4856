// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package seekable

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

// The levels of an [Encoder]. They are those of zstd, of which several amount
// to the same here.
const (
	MinLevel     = 1
	DefaultLevel = 3
	MaxLevel     = 19
)

// Encoder compresses frames. Its methods may be called concurrently, and give
// the same frame for the same bytes.
type Encoder struct {
	enc  *zstd.Encoder
	zero Frame // of FrameSize zeros
}

// Frame is a compressed frame.
type Frame struct {
	Data []byte // as it stands in the file
	Size int    // of what is in it, bytes
}

// NewEncoder returns an encoder of a level from [MinLevel] to [MaxLevel].
func NewEncoder(level int) (*Encoder, error) {
	if level < MinLevel || level > MaxLevel {
		return nil, fmt.Errorf("level %d of compression is not from %d to %d", level, MinLevel, MaxLevel)
	}
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithWindowSize(FrameSize),
		zstd.WithEncoderConcurrency(runtime.NumCPU()), // there can be more of GOMAXPROCS, and each takes memory
		zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	plain := enc.EncodeAll(zeros[:], nil)
	return &Encoder{enc: enc, zero: zeroFrame(plain[len(plain)-checksumSize:])}, nil
}

// zeros is what many pieces of an image are.
var zeros [FrameSize]byte

// Of a frame (RFC 8878, section 3.1.1).
const (
	frameHeader = 2<<6 | 1<<5 | 1<<2 // contents of 4 bytes' size in a single segment, with a checksum
	blockRLE    = 1 << 1
	blockLast   = 1
	blockMax    = 128 << 10 // bytes that a block stands for
)

// zeroFrame returns the frame of FrameSize zeros with the given checksum, in the
// fewest bytes there are: blocks of one byte that is repeated.
func zeroFrame(checksum []byte) Frame {
	b := le.AppendUint32(nil, frameMagic)
	b = append(b, frameHeader)
	b = le.AppendUint32(b, FrameSize)
	for left := FrameSize; left > 0; left -= blockMax {
		header := uint32(blockMax<<3 | blockRLE)
		if left == blockMax {
			header |= blockLast
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return Frame{Data: append(b, checksum...), Size: FrameSize}
}

// Encode returns a frame of p, which is not empty nor longer than [FrameSize].
func (e *Encoder) Encode(p []byte) Frame {
	if len(p) == FrameSize && bytes.Equal(p, zeros[:]) {
		return e.zero
	}
	return Frame{Data: e.enc.EncodeAll(p, nil), Size: len(p)}
}

// Zeros returns a frame of size zeros, at most [FrameSize].
func (e *Encoder) Zeros(size int) Frame {
	if size == FrameSize {
		return e.zero
	}
	return e.Encode(zeros[:size])
}

// Writer writes frames in sequence, and the table behind them.
type Writer struct {
	w      io.Writer
	enc    *Encoder
	table  []entries
	frames int
}

// entries are the entries of n frames of the same sizes that follow each other,
// as the zeros of a raw image do.
type entries struct {
	packed, plain uint32
	n             int
}

// NewWriter returns a writer to w.
func NewWriter(w io.Writer, enc *Encoder) *Writer { return &Writer{w: w, enc: enc} }

// WriteFrame writes a frame of the encoder.
func (w *Writer) WriteFrame(f Frame) error {
	if w.frames == maxFrames {
		return fmt.Errorf("more than %d frames do not fit into one file", maxFrames)
	}
	if _, err := w.w.Write(f.Data); err != nil {
		return err
	}
	w.frames++
	e := entries{packed: uint32(len(f.Data)), plain: uint32(f.Size), n: 1}
	if last := len(w.table) - 1; last >= 0 && w.table[last].packed == e.packed && w.table[last].plain == e.plain {
		w.table[last].n++
		return nil
	}
	w.table = append(w.table, e)
	return nil
}

// Write compresses p into as many frames as it takes.
func (w *Writer) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		part := p[done:min(done+FrameSize, len(p))]
		if err := w.WriteFrame(w.enc.Encode(part)); err != nil {
			return done, err
		}
		done += len(part)
	}
	return done, nil
}

// WriteZeros writes n zeros.
func (w *Writer) WriteZeros(n int64) error {
	for n > 0 {
		part := min(n, FrameSize)
		if err := w.WriteFrame(w.enc.Zeros(int(part))); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// Close writes the table. It does not close the writer below.
func (w *Writer) Close() error {
	b := bufio.NewWriter(w.w)
	size := uint32(w.frames*entrySize + footerSize)
	b.Write(le.AppendUint32(le.AppendUint32(nil, tableMagic), size))
	for _, e := range w.table {
		entry := le.AppendUint32(le.AppendUint32(nil, e.packed), e.plain)
		for range e.n {
			b.Write(entry)
		}
	}
	footer := append(le.AppendUint32(nil, uint32(w.frames)), 0)
	b.Write(le.AppendUint32(footer, footerMagic))
	return b.Flush()
}
