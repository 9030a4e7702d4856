// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed

import (
	"hash/crc32"

	"o2image/image"
)

const (
	recordOff     = 0x80 // offset of the record in the image
	recordSize    = 0x30
	recordMagic   = "O2IMGREC"
	recordVersion = 1

	// What has to be read of an image before its block size is known: all
	// that the smallest header block can hold.
	headSize = recordOff + recordSize
)

// Offsets in the record.
const (
	offRecordVersion   = 0x08
	offRecordRedaction = 0x0A
	offRecordKeyID     = 0x10
	offRecordTrailer   = 0x20
	offRecordCRC       = 0x28
)

// Record is what an image says about itself in its header block, besides what
// version 1.8.7 has there.
type Record struct {
	Redaction image.Redaction
	KeyID     [16]byte // which key private names were made with; zero if none
	Trailer   int64    // offset of the trailer, bytes: the length of the image proper
}

// encode writes the record into the first recordSize bytes of b.
func (r Record) encode(b []byte) {
	clear(b[:recordSize])
	copy(b, recordMagic)
	le.PutUint16(b[offRecordVersion:], recordVersion)
	b[offRecordRedaction] = byte(r.Redaction)
	copy(b[offRecordKeyID:], r.KeyID[:])
	le.PutUint64(b[offRecordTrailer:], uint64(r.Trailer))
	le.PutUint32(b[offRecordCRC:], crc32.ChecksumIEEE(b[:offRecordCRC]))
}

// decodeRecord decodes a record, which the image has only if ok. One that is
// damaged or of a later version says no more than that the redaction is
// unknown; so does none.
func decodeRecord(b []byte) (r Record, ok bool) {
	unknown := Record{Redaction: image.RedactionUnknown}
	if len(b) < recordSize || string(b[:len(recordMagic)]) != recordMagic {
		return unknown, false
	}
	if le.Uint16(b[offRecordVersion:]) != recordVersion ||
		le.Uint32(b[offRecordCRC:]) != crc32.ChecksumIEEE(b[:offRecordCRC]) {
		return unknown, true
	}
	r.Redaction = image.Redaction(b[offRecordRedaction])
	copy(r.KeyID[:], b[offRecordKeyID:])
	r.Trailer = int64(le.Uint64(b[offRecordTrailer:]))
	return r, true
}
