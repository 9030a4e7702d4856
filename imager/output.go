// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"sync"

	"o2image/blockio"
	"o2image/image/seekable"
	"o2image/volume"
)

// output is a sink for a whole image, which becomes one when it is finished.
type output interface {
	sink
	// ordered reports whether pieces must come in the order of the file, one
	// at a time.
	ordered() bool
	// finish ends an image of size bytes and makes it durable.
	finish(size int64) error
	// abort gives up; after finish it does nothing.
	abort()
}

// destination is where an image goes.
type destination struct {
	name   string
	id     blockio.FileID // of what is there, zero if nothing is
	stream *streamOutput  // if it is open already

	devices bool              // it may be a block device, by force
	encoder *seekable.Encoder // nil: the image is not compressed
	keep    blockio.FileID    // of an image that is read, and may only be replaced
}

// compress says that the image is to be compressed at a level, if that is not 0.
func (d *destination) compress(level int) (err error) {
	if level == 0 {
		return nil
	}
	if d.encoder, err = seekable.NewEncoder(level); err != nil {
		return &OpError{"write", d.name, err}
	}
	return nil
}

// distinct refuses a destination that is the source.
func (d destination) distinct(src *Source) error {
	id, err := src.dev.ID()
	if err != nil {
		return &OpError{"open", src.name, err}
	}
	if blockio.SameFile(id, d.id) {
		return &OpError{"write", d.name, ErrSameFile}
	}
	return nil
}

// open opens what the name stands for, and compresses on the way there if that
// is wanted.
func (d destination) open(p *plan, blockSize int, force bool) (output, error) {
	if d.encoder == nil {
		return d.openPlain(p, p.vital, blockSize, force)
	}
	if p.layout.Size() > seekable.MaxSize {
		return nil, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrTooLarge, p.layout.Size(), seekable.MaxSize)
	}
	if info, err := os.Stat(d.name); d.stream == nil && err == nil && info.Mode().Type() == fs.ModeDevice {
		return nil, ErrDeviceZstd
	}
	out, err := d.openPlain(p, []span{zstdMagic}, blockSize, force)
	if err != nil {
		return nil, err
	}
	return newZstdOutput(out, d.encoder), nil
}

// openPlain opens what the name stands for: a file is replaced, a pipe or a
// character device is written in sequence, and a block device only by force.
// The image is nothing without its parts vital.
func (d destination) openPlain(p *plan, vital []span, blockSize int, force bool) (output, error) {
	if d.stream != nil {
		if blockio.SameFile(d.id, d.keep) {
			return nil, ErrSameFile
		}
		return d.stream, nil
	}
	info, err := os.Stat(d.name)
	if err != nil || info.Mode().IsRegular() || info.IsDir() {
		out, err := newFileOutput(d.name, p.size, vital)
		if err == nil && out.file.InPlace() && blockio.SameFile(d.id, d.keep) {
			out.abort()
			return nil, ErrSameFile
		}
		return out, err
	}
	if blockio.SameFile(d.id, d.keep) {
		return nil, ErrSameFile
	}
	if info.Mode().Type() == fs.ModeDevice {
		if !d.devices {
			return nil, ErrDevice
		}
		if !force {
			return nil, refusal{ErrDevice}
		}
		target, err := blockio.OpenTarget(d.name, blockio.TargetOptions{})
		if err != nil {
			return nil, err
		}
		out := &deviceOutput{target: target}
		if p.packed == nil {
			out.blocksOnly = blockSize
		}
		return out, nil
	}
	f, err := os.OpenFile(d.name, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	out, _, err := newStreamOutput(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	out.close = f.Close
	return out, nil
}

// holeUnit is the granularity at which zeros become holes, in bytes.
const holeUnit = 4096

var zeros [holeUnit]byte

// data yields the parts of buf, in units of holeUnit, that are not all zero.
func data(buf []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		zero := func(i int) bool {
			part := buf[i:min(i+holeUnit, len(buf))]
			return bytes.Equal(part, zeros[:len(part)])
		}
		for i := 0; i < len(buf); {
			if zero(i) {
				i += holeUnit
				continue
			}
			end := i + holeUnit
			for end < len(buf) && !zero(end) {
				end += holeUnit
			}
			end = min(end, len(buf))
			if !yield(i, buf[i:end]) {
				return
			}
			i = end
		}
	}
}

// fileOutput writes a regular file that appears whole or not at all, with holes
// where the image is zero. If it has to be written in place, the parts without
// which nothing opens it come last. It is marked as unfinished before anything
// else: a volume can be found without its superblocks.
type fileOutput struct {
	file  *blockio.File
	vital []span   // held back in place; each is within one piece
	held  [][]byte // their bytes, nil until they come by
	start func() error
}

// span is a range of bytes of a file.
type span struct{ off, end int64 }

func newFileOutput(name string, size uint64, vital []span) (*fileOutput, error) {
	f, err := blockio.CreateFile(name, size)
	if err != nil {
		return nil, err
	}
	out := &fileOutput{file: f}
	out.start = func() error { return nil }
	if f.InPlace() {
		out.vital, out.held = vital, make([][]byte, len(vital))
		last := len(vital) - 1
		first := vital[last]
		out.held[last] = make([]byte, first.end-first.off) // if it is zero it does not come by
		out.start = sync.OnceValue(func() error {
			_, err := f.WriteAt(unfinished(make([]byte, first.end-first.off)), first.off)
			return err
		})
	}
	return out, nil
}

// unfinished makes b what stands in a part that comes last until it does.
func unfinished(b []byte) []byte {
	clear(b)
	copy(b, volume.Unfinished)
	return b
}

func (o *fileOutput) ordered() bool { return false }

func (o *fileOutput) write(f *filled) error {
	if f.zero {
		return nil
	}
	if err := o.start(); err != nil {
		return err
	}
	p, buf := f.Piece, f.buf
	for i, v := range o.vital {
		if p.Off <= v.off && v.end <= p.Off+int64(len(buf)) {
			part := buf[v.off-p.Off : v.end-p.Off]
			o.held[i] = bytes.Clone(part)
			unfinished(part)
		}
	}
	for i, part := range data(buf) {
		if _, err := o.file.WriteAt(part, p.Off+int64(i)); err != nil {
			return err
		}
	}
	return nil
}

func (o *fileOutput) finish(size int64) error {
	if err := o.file.Truncate(size); err != nil {
		return err
	}
	if o.vital != nil {
		if err := o.file.Sync(); err != nil {
			return err
		}
	}
	for i, part := range o.held {
		if part == nil {
			continue // zero, or not in the image
		}
		if _, err := o.file.WriteAt(part, o.vital[i].off); err != nil {
			return err
		}
	}
	return o.file.Commit()
}

func (o *fileOutput) abort() { o.file.Abort() }

// deviceOutput writes an image onto a block device, over what is there. Of a
// raw image only the blocks are written.
type deviceOutput struct {
	target     *blockio.Target
	blocksOnly int // the block size if only blocks are written, else 0
}

func (o *deviceOutput) ordered() bool { return false }

func (o *deviceOutput) write(f *filled) error {
	p, buf := f.Piece, f.buf
	if o.blocksOnly == 0 {
		_, err := o.target.WriteAt(buf, p.Off)
		return err
	}
	for _, s := range p.Segments {
		if _, err := o.target.WriteAt(buf[s.At:][:s.Count*o.blocksOnly], p.Off+int64(s.At)); err != nil {
			return err
		}
	}
	return nil
}

func (o *deviceOutput) finish(int64) error {
	if err := o.target.Sync(); err != nil {
		return err
	}
	return o.target.Close()
}

func (o *deviceOutput) abort() { o.target.Close() }

// streamOutput writes an image in sequence.
type streamOutput struct {
	stream *blockio.Stream
	pos    int64        // bytes of the image written so far
	close  func() error // nil if somebody else closes
}

func newStreamOutput(f *os.File) (*streamOutput, blockio.FileID, error) {
	s, err := blockio.NewStream(f)
	if err != nil {
		return nil, blockio.FileID{}, err
	}
	id, err := s.ID()
	if err != nil {
		return nil, blockio.FileID{}, err
	}
	return &streamOutput{stream: s}, id, nil
}

func (o *streamOutput) ordered() bool { return true }

func (o *streamOutput) write(f *filled) error {
	if !f.zero && !o.stream.Sparse() {
		if err := o.zeroTo(f.Off); err != nil {
			return err
		}
		n, err := o.stream.Write(f.buf)
		o.pos += int64(n)
		return err
	}
	if !f.zero {
		for i, part := range data(f.buf) {
			if err := o.zeroTo(f.Off + int64(i)); err != nil {
				return err
			}
			n, err := o.stream.Write(part)
			o.pos += int64(n)
			if err != nil {
				return err
			}
		}
	}
	return o.zeroTo(f.Off + int64(len(f.buf)))
}

// zeroTo writes zeros up to an offset of the image.
func (o *streamOutput) zeroTo(off int64) error {
	if off <= o.pos {
		return nil
	}
	err := o.stream.Skip(off - o.pos)
	o.pos = off
	return err
}

func (o *streamOutput) finish(size int64) error {
	if err := o.zeroTo(size); err != nil {
		return err
	}
	if err := o.stream.Flush(); err != nil {
		return err
	}
	if o.close == nil {
		return nil
	}
	return o.close()
}

func (o *streamOutput) abort() {}
