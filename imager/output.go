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
		out, err := d.openPlain(p, p.vital, blockSize, force)
		if file, ok := out.(*fileOutput); ok {
			file.direct = true
		}
		return out, err
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
		if err != nil {
			return nil, err
		}
		if out.file.InPlace() && blockio.SameFile(d.id, d.keep) {
			out.abort()
			return nil, ErrSameFile
		}
		return out, nil
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

const (
	// holeUnit is the granularity at which zeros become holes, in bytes.
	holeUnit = 4096
	// smallHole is how many bytes of zeros are written rather than make two
	// writes of one.
	smallHole = 32 << 10
)

var zeros [holeUnit]byte

// data yields the parts of buf, in units of holeUnit, that are not all zero. They
// have no more than gap zeros in a row between others.
func data(buf []byte, gap int) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		begin, end := 0, 0 // of what is to be yielded
		for i := 0; i < len(buf); i += holeUnit {
			unit := buf[i:min(i+holeUnit, len(buf))]
			if bytes.Equal(unit, zeros[:len(unit)]) {
				continue
			}
			if begin < end && i-end > gap {
				if !yield(begin, buf[begin:end]) {
					return
				}
				begin = end
			}
			if begin == end {
				begin = i
			}
			end = i + len(unit)
		}
		if begin < end {
			yield(begin, buf[begin:end])
		}
	}
}

// fileOutput writes a regular file that appears whole or not at all, with holes
// where the image is zero. If it has to be written in place, the parts without
// which nothing opens it come last. It is marked as unfinished before anything
// else: a volume can be found without its superblocks.
type fileOutput struct {
	file   *blockio.File
	direct bool     // past the page cache, what is whole pages
	vital  []span   // held back in place; each is within one piece
	held   [][]byte // their bytes, nil until they come by
	start  func() error
	late   []lateWrite // what is not whole pages
}

// span is a range of bytes of a file.
type span struct{ off, end int64 }

// lateWrite is what is written when all else has been.
type lateWrite struct {
	off int64
	p   []byte
}

func newFileOutput(name string, size uint64, vital []span) (*fileOutput, error) {
	f, err := blockio.CreateFile(name, size)
	if err != nil {
		return nil, err
	}
	out := &fileOutput{file: f}
	if f.InPlace() {
		out.vital, out.held = vital, make([][]byte, len(vital))
		last := len(vital) - 1
		out.held[last] = make([]byte, vital[last].end-vital[last].off) // if it is zero it does not come by
	}
	out.start = sync.OnceValue(out.begin)
	return out, nil
}

// begin does what comes before the first write.
func (o *fileOutput) begin() error {
	if o.vital != nil {
		first := o.vital[len(o.vital)-1]
		if _, err := o.file.WriteAt(unfinished(make([]byte, first.end-first.off)), first.off); err != nil {
			return err
		}
		// What is written past the page cache must not be on the disk before it.
		if err := o.file.Sync(); err != nil {
			return err
		}
	}
	if !o.direct {
		return nil
	}
	return o.file.SetDirect(true)
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
	if o.direct && !f.pooled {
		o.late = append(o.late, lateWrite{p.Off, bytes.Clone(buf)})
		return nil
	}
	for i, v := range o.vital {
		if p.Off <= v.off && v.end <= p.Off+int64(len(buf)) {
			part := buf[v.off-p.Off : v.end-p.Off]
			o.held[i] = bytes.Clone(part)
			unfinished(part)
		}
	}
	for i, part := range data(buf, smallHole) {
		off := p.Off + int64(i)
		if rest := len(part) % holeUnit; o.direct && rest > 0 { // the end of the image
			part = part[:len(part)-rest]
			o.late = append(o.late, lateWrite{off + int64(len(part)), bytes.Clone(part[len(part):][:rest])})
		}
		if len(part) == 0 {
			continue
		}
		if _, err := o.file.WriteAt(part, off); err != nil {
			return err
		}
	}
	return nil
}

func (o *fileOutput) finish(size int64) error {
	if err := o.file.SetDirect(false); err != nil {
		return err
	}
	for _, l := range o.late {
		if _, err := o.file.WriteAt(l.p, l.off); err != nil {
			return err
		}
	}
	o.late = nil
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
		for i, part := range data(f.buf, 0) {
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
	if err := o.stream.Skip(off - o.pos); err != nil {
		return err
	}
	o.pos = off
	return nil
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
