// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package undo

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"
)

// Header says what an undo file belongs to.
type Header struct {
	Created  time.Time // in seconds
	Name     string    // of the target
	Identity string    // what tells the target from others
	Block    bool      // the target is a block device, or else a regular file
	OldSize  int64     // length of the target before, bytes; of a missing file 0
	NewSize  int64     // length of the target after, bytes: not less than OldSize
	OldUUID  [16]byte  // of the volume on the target before, zero if there was none
	NewUUID  [16]byte  // of the volume that was written
}

// check returns what is wrong with a header.
func (h *Header) check() error {
	if len(h.Name) > maxText || len(h.Identity) > maxText {
		return fmt.Errorf("name of %d and identity of %d bytes, at most %d are allowed", len(h.Name), len(h.Identity), maxText)
	}
	if h.OldSize < 0 || h.NewSize < h.OldSize {
		return fmt.Errorf("a target of %d bytes before and %d after", h.OldSize, h.NewSize)
	}
	return nil
}

func (h *Header) encode() []byte {
	b := make([]byte, fixedSize, fixedSize+len(h.Name)+len(h.Identity))
	copy(b, magic)
	le.PutUint16(b[offVersion:], version)
	le.PutUint16(b[offTarget:], targetFile)
	if h.Block {
		le.PutUint16(b[offTarget:], targetBlock)
	}
	le.PutUint16(b[offNameSize:], uint16(len(h.Name)))
	le.PutUint16(b[offIDSize:], uint16(len(h.Identity)))
	le.PutUint64(b[offCreated:], uint64(h.Created.Unix()))
	le.PutUint64(b[offOldSize:], uint64(h.OldSize))
	le.PutUint64(b[offNewSize:], uint64(h.NewSize))
	copy(b[offOldUUID:], h.OldUUID[:])
	copy(b[offNewUUID:], h.NewUUID[:])
	return append(append(b, h.Name...), h.Identity...)
}

// A Writer makes an undo file.
type Writer struct {
	out     *bufio.Writer
	hash    hash.Hash
	size    int64 // of the target before
	end     int64 // of what was added last
	zeros   span  // that no record tells yet
	extents uint64
	bytes   uint64
}

// span is a range of bytes of the target.
type span struct{ off, end int64 }

// NewWriter starts an undo file.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("header of undo file: %w", err)
	}
	u := &Writer{out: bufio.NewWriterSize(w, MaxExtent), hash: sha256.New(), size: h.OldSize}
	return u, u.write(h.encode())
}

func (u *Writer) write(p []byte) error {
	u.hash.Write(p)
	_, err := u.out.Write(p)
	return err
}

// Add adds what the target has from off on, behind all that was added before.
// Zeros take no space.
func (u *Writer) Add(off int64, p []byte) error {
	if off < u.end || int64(len(p)) > u.size-off {
		return fmt.Errorf("%d bytes at %d are not between %d and the end of the target at %d", len(p), off, u.end, u.size)
	}
	u.end = off + int64(len(p))
	for len(p) > 0 {
		n, zero := stretch(p)
		var err error
		if zero {
			err = u.addZeros(span{off, off + int64(n)})
		} else {
			err = u.addBytes(off, p[:n])
		}
		if err != nil {
			return err
		}
		off, p = off+int64(n), p[n:]
	}
	return nil
}

var zeroes [zeroUnit]byte

// stretch returns how long p goes on as it starts: zeros, or units that are not.
func stretch(p []byte) (n int, zero bool) {
	for unit := range slices.Chunk(p, zeroUnit) {
		isZero := bytes.Equal(unit, zeroes[:len(unit)])
		if n == 0 {
			zero = isZero
		} else if isZero != zero {
			break
		}
		n += len(unit)
	}
	return n, zero
}

func (u *Writer) addZeros(s span) error {
	if u.zeros.end == s.off && u.zeros.end > u.zeros.off {
		u.zeros.end = s.end
		return nil
	}
	err := u.flushZeros()
	u.zeros = s
	return err
}

func (u *Writer) flushZeros() error {
	n := u.zeros.end - u.zeros.off
	if n == 0 {
		return nil
	}
	off := u.zeros.off
	u.zeros = span{}
	return u.record(uint64(off), uint64(n), kindZeros)
}

func (u *Writer) addBytes(off int64, p []byte) error {
	if err := u.flushZeros(); err != nil {
		return err
	}
	for part := range slices.Chunk(p, MaxExtent) {
		if err := u.record(uint64(off), uint64(len(part)), kindBytes); err != nil {
			return err
		}
		if err := u.write(part); err != nil {
			return err
		}
		off += int64(len(part))
		u.bytes += uint64(len(part))
	}
	return nil
}

func (u *Writer) record(off, length, kind uint64) error {
	var b [recordSize]byte
	le.PutUint64(b[offOffset:], off)
	le.PutUint64(b[offLength:], length)
	le.PutUint64(b[offKind:], kind)
	u.extents++
	return u.write(b[:])
}

// Close ends the undo file. It does not close what it was written to.
func (u *Writer) Close() error {
	if err := u.flushZeros(); err != nil {
		return err
	}
	if err := u.record(u.extents, u.bytes, kindEnd); err != nil {
		return err
	}
	_, err := u.out.Write(u.hash.Sum(nil))
	return errors.Join(err, u.out.Flush())
}
