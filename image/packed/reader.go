// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"o2image/image"
	"o2image/ocfs2"
)

// Reader reads a packed image as the volume that it was made of. All methods
// but Close may be called concurrently.
type Reader struct {
	r         io.ReaderAt
	fileSize  int64
	header    *Header
	record    Record
	hasRecord bool
	bitmap    bitmap
}

// Open opens the packed image in the size bytes of r. It returns
// [image.ErrFormat] if that is no packed image, and an error that names the
// field if the header, the bitmap, the length of the file and the superblock
// in the image do not agree. What follows the image proper is not looked at.
//
// An image with a [Record] may also be one of a volume that has no such superblock:
// its header says what the structures of the volume did, and its hashes vouch for it.
//
// A superblock agrees if it has the block size and the number of blocks of the
// header; its other fields are not judged, since damaged volumes are what images
// are made of. Where the one of block 2 does not agree, a backup in the image
// will do.
//
// The whole bitmap is read once, but for the holes that r reports if it has a
// method NextData like that of blockio.Device. Memory is proportional to the
// pages of the bitmap that have a bit set: 16 bytes for each.
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	if size < headSize {
		return nil, image.ErrFormat
	}
	head := make([]byte, headSize)
	if err := image.ReadFull(r, head, 0); err != nil {
		return nil, fmt.Errorf("read image header: %w", err)
	}
	header, err := DecodeHeader(head)
	if err != nil {
		return nil, err
	}
	if want := header.size(); size < want {
		return nil, fmt.Errorf("image is cut off: the file has %d bytes, its header promises %d", size, want)
	}
	ir := &Reader{r: r, fileSize: size, header: header}
	ir.record, ir.hasRecord = decodeRecord(head[recordOff:])
	ir.bitmap.init(r, header)
	if err := ir.bitmap.load(header.Stored); err != nil {
		return nil, err
	}
	if err := ir.checkSuperBlock(); err != nil && !(ir.hasRecord && damagedOnly(err)) {
		return nil, err
	}
	return ir, nil
}

// checkSuperBlock looks for a superblock that agrees with the header, and
// returns what is wrong with the one of block 2 if there is none.
func (r *Reader) checkSuperBlock() error {
	first := r.checkSuperBlockAt(ocfs2.SuperBlockBlkno)
	if first == nil || errors.Is(first, image.ErrAbsent) {
		return first
	}
	for _, blkno := range r.header.backups() {
		if r.checkSuperBlockAt(blkno) == nil {
			return nil
		}
	}
	return first
}

func (r *Reader) checkSuperBlockAt(blkno uint64) error {
	b := make([]byte, r.header.BlockSize)
	if _, err := r.ReadAt(b, int64(blkno)*int64(r.header.BlockSize)); err != nil {
		return fmt.Errorf("read superblock in the image: %w", err)
	}
	sb, faults := ocfs2.SalvageSuperBlock(b, blkno)
	vital := slices.IndexFunc(faults, func(f ocfs2.Fault) bool {
		return slices.Contains([]string{"i_signature", "s_blocksize_bits", "s_clustersize_bits"}, f.Field)
	})
	if vital >= 0 {
		return fmt.Errorf("superblock in the image: %w", &ocfs2.BlockError{Block: blkno, Fault: faults[vital]})
	}
	if sb.Blocks() != r.header.Blocks {
		return &ocfs2.BlockError{Block: blkno, Err: fmt.Errorf("superblock in the image, block %d: volume of %d blocks, the image header says %d",
			blkno, sb.Blocks(), r.header.Blocks)}
	}
	return nil
}

// damagedOnly reports whether err tells of a superblock that is in the image,
// and could be read.
func damagedOnly(err error) bool {
	_, ok := errors.AsType[*ocfs2.BlockError](err)
	return ok
}

// Size returns the length of the volume in bytes.
func (r *Reader) Size() int64 { return int64(r.header.Blocks) * int64(r.header.BlockSize) }

// BlockSize returns the size of a block in bytes.
func (r *Reader) BlockSize() int { return r.header.BlockSize }

// Blocks returns the size of the volume in blocks.
func (r *Reader) Blocks() uint64 { return r.header.Blocks }

// Header returns the header of the image.
func (r *Reader) Header() Header {
	h := *r.header
	h.Superblocks = append([]uint64(nil), h.Superblocks...)
	return h
}

// ImageSize returns the length of the image proper in bytes: what the header
// asks for, without a trailer.
func (r *Reader) ImageSize() int64 { return r.header.size() }

// Record returns the record of the image; ok is false if it has none, as those
// of version 1.8.7. The redaction of a record that is damaged or of a later
// version is unknown.
func (r *Reader) Record() (rec Record, ok bool) { return r.record, r.hasRecord }

// Trailer reads the trailer of the image, as [ReadTrailer] does, but where the
// header block promises one it need not end the file. It fails if there is none
// then, or if the trailer is that of another image.
func (r *Reader) Trailer() (*Trailer, error) {
	t, err := ReadTrailer(r.r, r.fileSize)
	if err == nil && t == nil && r.hasRecord {
		var end int64
		if end, err = endBehind(r.r, r.header.size(), r.fileSize); end > 0 {
			t, err = ReadTrailer(r.r, end)
		}
	}
	if err != nil {
		return nil, err
	}
	if t == nil {
		if r.hasRecord {
			return nil, fmt.Errorf("image is cut off: it has no trailer behind byte %d", r.header.size())
		}
		return nil, nil
	}
	if t.ImageSize != r.header.size() {
		return nil, fmt.Errorf("image trailer: made for an image of %d bytes, this one has %d", t.ImageSize, r.header.size())
	}
	return t, nil
}

// ReadAt reads from byte off of the volume. It is all or nothing: if a block of
// the range is not in the image, the error wraps [image.ErrAbsent], names the
// first such block, and nothing is read. What ReadAt returns was one read of
// the file, since the stored blocks of a range follow one another there.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read of the volume at negative offset %d", off)
	}
	size := r.Size()
	if off >= size {
		return 0, io.EOF
	}
	var atEnd error
	if int64(len(p)) > size-off {
		p, atEnd = p[:size-off], io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	bs := int64(r.header.BlockSize)
	first := uint64(off / bs)
	last := uint64((off + int64(len(p)) - 1) / bs)
	rank, err := r.bitmap.rankOfRun(first, last)
	if err != nil {
		return 0, err
	}
	if err := image.ReadFull(r.r, p, int64(1+rank)*bs+off%bs); err != nil {
		return 0, fmt.Errorf("read block %d from the image: %w", first, err)
	}
	return len(p), atEnd
}

// Has reports whether a block is in the image; one behind the end of the volume
// is not.
func (r *Reader) Has(blkno uint64) (bool, error) {
	if blkno >= r.header.Blocks {
		return false, nil
	}
	p, err := r.bitmap.page(blkno / pageBlocks)
	if err != nil {
		return false, err
	}
	return p.has(blkno % pageBlocks), nil
}

// Runs yields the longest runs of stored blocks in ascending order. It reads
// the bitmap as it goes; an error comes last.
func (r *Reader) Runs() iter.Seq2[image.Run, error] {
	return func(yield func(image.Run, error) bool) {
		var run image.Run
		for p, err := range r.bitmap.scan() {
			if err != nil {
				yield(image.Run{}, err)
				return
			}
			base := p.index * pageBlocks
			for start, n := range p.runs() {
				start += base
				if run.Len > 0 && run.Start+run.Len == start {
					run.Len += n
					continue
				}
				if run.Len > 0 && !yield(run, nil) {
					return
				}
				run = image.Run{Start: start, Len: n}
			}
		}
		if run.Len > 0 {
			yield(run, nil)
		}
	}
}

// Close closes the file if it was opened from something that can be closed.
func (r *Reader) Close() error {
	if c, ok := r.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
