// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// The journal is a JBD2 log; its integers are big-endian.

// JournalMagic is the first word of every block that JBD2 itself writes
// (JBD2_MAGIC_NUMBER).
const JournalMagic = 0xC03B3998

// JournalType is h_blocktype.
type JournalType uint32

// The types.
const (
	JournalDescriptor JournalType = 1 // tags for the blocks behind it
	JournalCommit     JournalType = 2 // end of a transaction
	JournalSuperV1    JournalType = 3 // superblock of the old format, not used by OCFS2
	JournalSuperV2    JournalType = 4 // superblock
	JournalRevoke     JournalType = 5 // blocks that must not be replayed
)

// Known reports whether JBD2 writes such blocks.
func (t JournalType) Known() bool { return t >= JournalDescriptor && t <= JournalRevoke }

// String returns the type in words.
func (t JournalType) String() string {
	switch t {
	case JournalDescriptor:
		return "descriptor"
	case JournalCommit:
		return "commit"
	case JournalSuperV1, JournalSuperV2:
		return "superblock"
	case JournalRevoke:
		return "revoke"
	default:
		return fmt.Sprintf("type %d", uint32(t))
	}
}

// Bits of JournalSuper.Incompat.
const (
	JournalIncompatRevoke = 0x1 // there may be revoke blocks
	JournalIncompat64Bit  = 0x2 // block numbers have 64 bits
)

// Offsets of journal_header_s, journal_superblock_s, journal_block_tag_s and
// jbd2_journal_revoke_header_s.
const (
	hMagic      = 0x00
	hBlockType  = 0x04
	hSequence   = 0x08
	hEnd        = 0x0C
	jsBlockSize = 0x0C
	jsMaxLen    = 0x10
	jsFirst     = 0x14
	jsSequence  = 0x18
	jsStart     = 0x1C
	jsErrno     = 0x20
	jsCompat    = 0x24
	jsIncompat  = 0x28
	jsROCompat  = 0x2C
	jsUUID      = 0x30
	jsNrUsers   = 0x40

	tBlockNr     = 0x00
	tFlags       = 0x04 // the upper half of the word is a checksum that OCFS2 does not use
	tBlockNrHigh = 0x08
	tSize        = 0x08
	tSize64      = 0x0C
	tUUIDSize    = 0x10

	rCount  = 0x0C // bytes in use of a revoke block
	rBlocks = 0x10
)

// Bits of JournalTag.Flags.
const (
	TagEscaped  = 0x1 // the block began with the magic, which was zeroed (JBD2_FLAG_ESCAPE)
	TagSameUUID = 0x2 // no UUID follows the tag
	TagDeleted  = 0x4 // not to be replayed
	TagLast     = 0x8 // last tag of the descriptor
)

// JournalHeader is a journal_header_s.
type JournalHeader struct {
	Type     JournalType // h_blocktype
	Sequence uint32      // h_sequence, number of the transaction
}

// DecodeJournalHeader decodes the start of a log block; ok is false for a block
// that JBD2 did not write itself: a copy of a metadata block, or anything.
func DecodeJournalHeader(b []byte) (h JournalHeader, ok bool) {
	return JournalHeader{
		Type:     JournalType(be32(b, hBlockType)),
		Sequence: be32(b, hSequence),
	}, be32(b, hMagic) == JournalMagic
}

// be32 is u32 for the journal.
func be32(b []byte, off int) uint32 {
	if !inside(b, off, 4) {
		return 0
	}
	return binary.BigEndian.Uint32(b[off:])
}

// JournalSuper is a journal_superblock_s, in block 0 of a journal. Block numbers
// are those of the journal file.
type JournalSuper struct {
	JournalHeader
	BlockSize uint32   // s_blocksize, bytes
	MaxLen    uint32   // s_maxlen, blocks in the journal
	First     uint32   // s_first, first block of the log
	Expected  uint32   // s_sequence, first transaction that a replay expects
	Start     uint32   // s_start, first block to replay; 0 if the log is empty
	Errno     int32    // s_errno
	Compat    uint32   // s_feature_compat
	Incompat  uint32   // s_feature_incompat
	ROCompat  uint32   // s_feature_ro_compat
	UUID      [16]byte // s_uuid, the volume's
	Users     uint32   // s_nr_users
}

// DecodeJournalSuper decodes block 0 of a journal; ok is false where magic or
// type is not that of a superblock.
func DecodeJournalSuper(b []byte) (js JournalSuper, ok bool) {
	h, ok := DecodeJournalHeader(b)
	js = JournalSuper{
		JournalHeader: h,
		BlockSize:     be32(b, jsBlockSize),
		MaxLen:        be32(b, jsMaxLen),
		First:         be32(b, jsFirst),
		Expected:      be32(b, jsSequence),
		Start:         be32(b, jsStart),
		Errno:         int32(be32(b, jsErrno)), //nolint:gosec // signed in C, too
		Compat:        be32(b, jsCompat),
		Incompat:      be32(b, jsIncompat),
		ROCompat:      be32(b, jsROCompat),
		Users:         be32(b, jsNrUsers),
	}
	copy(js.UUID[:], tail(b, jsUUID))
	return js, ok && (h.Type == JournalSuperV1 || h.Type == JournalSuperV2)
}

// Wide reports whether block numbers in the log have 64 bits.
func (js JournalSuper) Wide() bool { return js.Incompat&JournalIncompat64Bit != 0 }

// Faults returns the contradictions in a journal's superblock, for a journal of
// so many blocks.
func (js JournalSuper) Faults(sb *SuperBlock, blocks uint64) []Fault {
	f := faults{structure: "journal_superblock_s"}
	f.equal("h_blocktype", uint64(js.Type), uint64(JournalSuperV2))
	f.equal("s_blocksize", uint64(js.BlockSize), uint64(sb.BlockSize())) //nolint:gosec // positive
	f.equal("s_maxlen", uint64(js.MaxLen), blocks)
	if js.First == 0 || js.First >= js.MaxLen {
		f.add("s_first", decimal(uint64(js.First)), "a block of the log")
	}
	if js.Start != 0 && js.Start >= js.MaxLen { // mkfs writes 1, even where the log begins at 2
		f.add("s_start", decimal(uint64(js.Start)), "less than "+decimal(uint64(js.MaxLen)))
	}
	if js.Incompat&^(JournalIncompatRevoke|JournalIncompat64Bit) != 0 {
		f.add("s_feature_incompat", inHex(uint64(js.Incompat)), "known bits only")
	}
	return f.found
}

// JournalTag is a journal_block_tag_s: where a block of the log belongs.
type JournalTag struct {
	Blkno uint64 // block of the volume
	Flags uint16 // TagEscaped and so on
}

// JournalTags returns the tags of a descriptor block with their numbers; tag i
// describes the log block i+1 behind the descriptor. They end with the tag
// that has TagLast, or where the block does.
func JournalTags(b []byte, wide bool) iter.Seq2[int, JournalTag] {
	size := tSize
	if wide {
		size = tSize64
	}
	return func(yield func(int, JournalTag) bool) {
		off := hEnd
		for i := 0; inside(b, off, size); i++ {
			tag := JournalTag{Blkno: uint64(be32(b, off+tBlockNr)), Flags: uint16(be32(b, off+tFlags))} //nolint:gosec // the lower half
			if wide {
				tag.Blkno |= uint64(be32(b, off+tBlockNrHigh)) << 32
			}
			if !yield(i, tag) || tag.Flags&TagLast != 0 {
				return
			}
			off += size
			if tag.Flags&TagSameUUID == 0 {
				off += tUUIDSize
			}
		}
	}
}

// JournalRevokes returns the blocks of the volume that a revoke block names, as
// far as they lie in it.
func JournalRevokes(b []byte, wide bool) iter.Seq[uint64] {
	size := 4
	if wide {
		size = 8
	}
	return func(yield func(uint64) bool) {
		used := span(b, 0, clampInt(uint64(be32(b, rCount)), len(b)))
		for i := range recordsIn(used, rBlocks, size) {
			off := rBlocks + i*size
			blkno := uint64(be32(b, off))
			if wide {
				blkno = blkno<<32 | uint64(be32(b, off+4))
			}
			if !yield(blkno) {
				return
			}
		}
	}
}
