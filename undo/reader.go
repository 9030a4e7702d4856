// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package undo

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"
)

var (
	// ErrFormat says that a file is no undo file.
	ErrFormat = errors.New("not an undo file")

	// ErrDamaged says that an undo file is not as it was written.
	ErrDamaged = errors.New("the undo file is damaged")
)

// Reader reads an undo file.
type Reader struct {
	r       io.ReaderAt
	size    int64 // of the file
	header  Header
	start   int64 // of the first record
	extents uint64
	bytes   uint64
}

// Extent is what the target held in one place.
type Extent struct {
	Off   int64  // offset in the target, bytes
	Len   int64  // bytes
	Bytes []byte // nil if they are all zero; valid until the next extent
}

// Open opens the undo file in the size bytes of r. The error is [ErrFormat] if
// it does not start as one, and [ErrDamaged] if its header or its end is wrong,
// as that of a file that was cut off is. What lies between is not read.
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	head := make([]byte, fixedSize)
	if size < fixedSize {
		return nil, ErrFormat
	}
	if err := readFull(r, head, 0); err != nil {
		return nil, err
	}
	if string(head[:len(magic)]) != magic {
		return nil, ErrFormat
	}
	if v := le.Uint16(head[offVersion:]); v != version {
		return nil, fmt.Errorf("undo file of version %d, this program understands %d", v, version)
	}
	u := &Reader{r: r, size: size}
	if err := u.decodeHeader(head); err != nil {
		return nil, err
	}
	if size-u.start < endSize {
		return nil, fmt.Errorf("%w: it ends before its first extent", ErrDamaged)
	}
	end := make([]byte, recordSize)
	if err := readFull(r, end, size-endSize); err != nil {
		return nil, err
	}
	if le.Uint64(end[offKind:]) != kindEnd {
		return nil, fmt.Errorf("%w: it is cut off, or something follows its end", ErrDamaged)
	}
	u.extents, u.bytes = le.Uint64(end[offOffset:]), le.Uint64(end[offLength:])
	return u, nil
}

func (u *Reader) decodeHeader(head []byte) error {
	h := &u.header
	target := le.Uint16(head[offTarget:])
	if target != targetFile && target != targetBlock {
		return fmt.Errorf("%w: kind of target %d", ErrDamaged, target)
	}
	oldSize, newSize := le.Uint64(head[offOldSize:]), le.Uint64(head[offNewSize:])
	if oldSize > newSize || newSize > math.MaxInt64 {
		return fmt.Errorf("%w: a target of %d bytes before and %d after", ErrDamaged, oldSize, newSize)
	}
	nameSize, idSize := int64(le.Uint16(head[offNameSize:])), int64(le.Uint16(head[offIDSize:]))
	u.start = fixedSize + nameSize + idSize
	if nameSize > maxText || idSize > maxText || u.start > u.size {
		return fmt.Errorf("%w: name of %d and identity of %d bytes in a file of %d", ErrDamaged, nameSize, idSize, u.size)
	}
	texts := make([]byte, nameSize+idSize)
	if err := readFull(u.r, texts, fixedSize); err != nil {
		return err
	}
	h.Name, h.Identity = string(texts[:nameSize]), string(texts[nameSize:])
	h.Block = target == targetBlock
	h.Created = time.Unix(int64(le.Uint64(head[offCreated:])&math.MaxInt64), 0).UTC()
	h.OldSize, h.NewSize = int64(oldSize), int64(newSize)
	copy(h.OldUUID[:], head[offOldUUID:])
	copy(h.NewUUID[:], head[offNewUUID:])
	return nil
}

// Header returns what the file belongs to.
func (u *Reader) Header() Header { return u.header }

// Saved returns the number of extents, and of the bytes in those that are not
// zero, as the end of the file has them.
func (u *Reader) Saved() (extents, bytes uint64) { return u.extents, u.bytes }

// Extents yields the extents in ascending order. An error, which comes last, is
// [ErrDamaged] if the file contradicts itself, or says that it could not be read.
func (u *Reader) Extents() iter.Seq2[Extent, error] {
	return u.scan(io.NewSectionReader(u.r, u.start, u.size-hashSize-u.start))
}

// Verify yields the extents as Extents does, and then compares the hash. What
// comes before an error has not been verified.
func (u *Reader) Verify() iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		sum := sha256.New()
		if _, err := io.Copy(sum, io.NewSectionReader(u.r, 0, u.start)); err != nil {
			yield(Extent{}, err)
			return
		}
		rest := io.NewSectionReader(u.r, u.start, u.size-hashSize-u.start)
		for e, err := range u.scan(io.TeeReader(rest, sum)) {
			if !yield(e, err) || err != nil {
				return
			}
		}
		want := make([]byte, hashSize)
		err := readFull(u.r, want, u.size-hashSize)
		if err == nil && string(sum.Sum(nil)) != string(want) {
			err = fmt.Errorf("%w: its contents do not have the hash that stands at its end", ErrDamaged)
		}
		if err != nil {
			yield(Extent{}, err)
		}
	}
}

// scan yields the extents in r, which ends behind the record of the end.
func (u *Reader) scan(r io.Reader) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		in := bufio.NewReaderSize(r, 1<<16)
		var (
			buf            []byte
			record         [recordSize]byte
			extents, bytes uint64
			end            int64
		)
		for {
			if _, err := io.ReadFull(in, record[:]); err != nil {
				yield(Extent{}, ended(err))
				return
			}
			off, length, kind := le.Uint64(record[offOffset:]), le.Uint64(record[offLength:]), le.Uint64(record[offKind:])
			if kind == kindEnd {
				_, err := in.Peek(1)
				if off != extents || length != bytes || !errors.Is(err, io.EOF) {
					yield(Extent{}, fmt.Errorf("%w: its end does not tell what is in it", ErrDamaged))
				}
				return
			}
			if off < uint64(end) || off > uint64(u.header.OldSize) || length == 0 || length > uint64(u.header.OldSize)-off ||
				kind != kindBytes && kind != kindZeros || kind == kindBytes && length > MaxExtent {
				yield(Extent{}, fmt.Errorf("%w: extent %d is of kind %d, %d bytes from byte %d on, behind byte %d of %d",
					ErrDamaged, extents, kind, length, off, end, u.header.OldSize))
				return
			}
			e := Extent{Off: int64(off), Len: int64(length)}
			if kind == kindBytes {
				if length > uint64(len(buf)) {
					buf = make([]byte, length)
				}
				e.Bytes = buf[:length]
				if _, err := io.ReadFull(in, e.Bytes); err != nil {
					yield(Extent{}, ended(err))
					return
				}
				bytes += length
			}
			extents++
			end = e.Off + e.Len
			if !yield(e, nil) {
				return
			}
		}
	}
}

// ended turns the end of a file into what it is here.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends within its extents", ErrDamaged)
	}
	return err
}

// readFull fills p from offset off of r.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read undo file at byte %d: %w", off, err)
}
