// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import "iter"

// QuotaMagic is the first word of a quota file (dqh_magic).
type QuotaMagic uint32

// The magics.
const (
	QuotaGlobalUser  QuotaMagic = 0x0CF52470 // aquota.user
	QuotaGlobalGroup QuotaMagic = 0x0CF52471 // aquota.group
	QuotaLocalUser   QuotaMagic = 0x0CF524C0 // aquota.user:NNNN
	QuotaLocalGroup  QuotaMagic = 0x0CF524C1 // aquota.group:NNNN
)

// Offsets of the structures in a quota file.
const (
	dqhMagic   = 0x00 // ocfs2_disk_dqheader
	dqhVersion = 0x04

	dqiBgrace    = 0x08 // ocfs2_global_disk_dqinfo
	dqiIgrace    = 0x0C
	dqiSyncms    = 0x10
	dqiBlocks    = 0x14
	dqiFreeBlk   = 0x18
	dqiFreeEntry = 0x1C

	dqiLocalFlags  = 0x08 // ocfs2_local_disk_dqinfo
	dqiLocalChunks = 0x0C
	dqiLocalBlocks = 0x10
	quotaClean     = 1 // bit of dqi_flags (OLQF_CLEAN)

	dqdhNextFree = 0x00 // qt_disk_dqdbheader
	dqdhPrevFree = 0x04
	dqdhEntries  = 0x08
	dqdhEnd      = 0x10

	dqbID           = 0x00 // ocfs2_global_disk_dqblk
	dqbUseCount     = 0x04
	dqbIHardLimit   = 0x08
	dqbISoftLimit   = 0x10
	dqbCurInodes    = 0x18
	dqbBHardLimit   = 0x20
	dqbBSoftLimit   = 0x28
	dqbCurSpace     = 0x30
	dqbBTime        = 0x38
	dqbITime        = 0x40
	quotaGlobalSize = 0x58

	dqcFree   = 0x00 // ocfs2_local_disk_chunk
	dqcBitmap = 0x04

	dqbLocalID       = 0x00 // ocfs2_local_disk_dqblk
	dqbLocalSpaceMod = 0x08
	dqbLocalInodeMod = 0x10
	quotaLocalSize   = 0x18

	quotaRefSize = 4
)

// QuotaRootBlock is the file block with the root of a global file's tree
// (QT_TREEOFF).
const QuotaRootBlock = 1

// quotaArea returns a block of a quota file without the check at its end, which
// stays reserved on volumes without checks.
func quotaArea(b []byte) []byte { return span(b, 0, len(b)-checkBytes) }

// QuotaHeader returns magic and version of a quota file from its first block.
func QuotaHeader(b []byte) (magic QuotaMagic, version uint32) {
	return QuotaMagic(u32(b, dqhMagic)), u32(b, dqhVersion)
}

// QuotaHeaderFaults returns the contradictions in the header of the quota file
// that begins with block b and must have that magic.
func QuotaHeaderFaults(b []byte, want QuotaMagic) []Fault {
	f := faults{structure: "ocfs2_disk_dqheader"}
	magic, version := QuotaHeader(b)
	if magic != want {
		f.add("dqh_magic", inHex(uint64(magic)), inHex(uint64(want)))
	}
	f.equal("dqh_version", uint64(version), 0)
	return f.found
}

// QuotaGlobalInfo is an ocfs2_global_disk_dqinfo, in block 0 of a global file.
// Block numbers are those of the file.
type QuotaGlobalInfo struct {
	BlockGrace uint32 // dqi_bgrace, seconds
	InodeGrace uint32 // dqi_igrace, seconds
	SyncMS     uint32 // dqi_syncms, milliseconds
	Blocks     uint32 // dqi_blocks, blocks in the file
	FreeBlock  uint32 // dqi_free_blk, head of the list of free blocks
	FreeEntry  uint32 // dqi_free_entry, head of the list of leaves with room
}

// DecodeQuotaGlobalInfo decodes block 0 of a global quota file.
func DecodeQuotaGlobalInfo(b []byte) QuotaGlobalInfo {
	return QuotaGlobalInfo{
		BlockGrace: u32(b, dqiBgrace),
		InodeGrace: u32(b, dqiIgrace),
		SyncMS:     u32(b, dqiSyncms),
		Blocks:     u32(b, dqiBlocks),
		FreeBlock:  u32(b, dqiFreeBlk),
		FreeEntry:  u32(b, dqiFreeEntry),
	}
}

// quotaRefsPerBlock returns the references in an inner block of the tree.
func quotaRefsPerBlock(blockSize int) int { return max(2, (blockSize-checkBytes)/quotaRefSize) }

// QuotaTreeDepth returns the levels of references above the leaves of a global
// file's tree: the least number whose power reaches all 32-bit ids.
func QuotaTreeDepth(blockSize int) int {
	refs := uint64(quotaRefsPerBlock(blockSize)) //nolint:gosec // positive
	depth, ids := 1, refs
	for ids < 1<<32 {
		depth++
		ids *= refs
	}
	return depth
}

// QuotaRefs returns the references of an inner block of a global file's tree
// that are not 0, each with its index; they are blocks of the file.
func QuotaRefs(b []byte) iter.Seq2[int, uint32] {
	return func(yield func(int, uint32) bool) {
		area := quotaArea(b)
		for i := range recordsIn(area, 0, quotaRefSize) {
			if ref := u32(area, i*quotaRefSize); ref != 0 && !yield(i, ref) {
				return
			}
		}
	}
}

// QuotaRefIndex returns the index, in the inner block at the given level (0 at the
// root), of the reference that leads to an id.
func QuotaRefIndex(id uint32, level, blockSize int) int {
	refs := uint64(quotaRefsPerBlock(blockSize)) //nolint:gosec // positive
	n := uint64(id)
	for range QuotaTreeDepth(blockSize) - 1 - level {
		n /= refs
	}
	return int(n % refs) //nolint:gosec // less than refs
}

// QuotaLeaf is a view of a leaf of a global file's tree (qt_disk_dqdbheader).
type QuotaLeaf struct{ b []byte }

// AsQuotaLeaf views b, one whole block of a global quota file.
func AsQuotaLeaf(b []byte) QuotaLeaf { return QuotaLeaf{quotaArea(b)} }

// NextFree returns dqdh_next_free, the next leaf with room, a block of the file.
func (l QuotaLeaf) NextFree() uint32 { return u32(l.b, dqdhNextFree) }

// PrevFree returns dqdh_prev_free, the leaf with room before this one.
func (l QuotaLeaf) PrevFree() uint32 { return u32(l.b, dqdhPrevFree) }

// Used returns dqdh_entries, the entries in use that the leaf claims.
func (l QuotaLeaf) Used() int { return int(u16(l.b, dqdhEntries)) }

// Cap returns the entries for which there is room, in use or not.
func (l QuotaLeaf) Cap() int { return recordsIn(l.b, dqdhEnd, quotaGlobalSize) }

// QuotaEntry is an ocfs2_global_disk_dqblk: limits and usage of one id.
type QuotaEntry struct {
	ID         uint32 // dqb_id, user or group
	UseCount   uint32 // dqb_use_count, slots that use the entry
	InodeHard  uint64 // dqb_ihardlimit
	InodeSoft  uint64 // dqb_isoftlimit
	Inodes     uint64 // dqb_curinodes
	SpaceHard  uint64 // dqb_bhardlimit, bytes
	SpaceSoft  uint64 // dqb_bsoftlimit, bytes
	Space      uint64 // dqb_curspace, bytes
	SpaceTime  uint64 // dqb_btime, seconds since 1970
	InodesTime uint64 // dqb_itime, seconds since 1970
}

// Entry returns entry i, 0 <= i < Cap(). The zero entry is unused.
func (l QuotaLeaf) Entry(i int) QuotaEntry {
	b := record(l.b, dqdhEnd, quotaGlobalSize, i)
	return QuotaEntry{
		ID:         u32(b, dqbID),
		UseCount:   u32(b, dqbUseCount),
		InodeHard:  u64(b, dqbIHardLimit),
		InodeSoft:  u64(b, dqbISoftLimit),
		Inodes:     u64(b, dqbCurInodes),
		SpaceHard:  u64(b, dqbBHardLimit),
		SpaceSoft:  u64(b, dqbBSoftLimit),
		Space:      u64(b, dqbCurSpace),
		SpaceTime:  u64(b, dqbBTime),
		InodesTime: u64(b, dqbITime),
	}
}

// All returns the entries that are not zero, with their numbers.
func (l QuotaLeaf) All() iter.Seq2[int, QuotaEntry] {
	return func(yield func(int, QuotaEntry) bool) {
		for i, e := range records(l.Cap, l.Entry) {
			if e != (QuotaEntry{}) && !yield(i, e) {
				return
			}
		}
	}
}

// QuotaLocalInfo is an ocfs2_local_disk_dqinfo, in block 0 of a local file.
type QuotaLocalInfo struct {
	Flags  uint32 // dqi_flags
	Chunks uint32 // dqi_chunks
	Blocks uint32 // dqi_blocks, blocks in the file
}

// Clean reports whether all changes are in the global file.
func (i QuotaLocalInfo) Clean() bool { return i.Flags&quotaClean != 0 }

// DecodeQuotaLocalInfo decodes block 0 of a local quota file.
func DecodeQuotaLocalInfo(b []byte) QuotaLocalInfo {
	return QuotaLocalInfo{
		Flags:  u32(b, dqiLocalFlags),
		Chunks: u32(b, dqiLocalChunks),
		Blocks: u32(b, dqiLocalBlocks),
	}
}

// QuotaChunk returns the free entries of a chunk of a local file and the bitmap
// of its entries, set if in use, from the chunk's first block.
func QuotaChunk(b []byte) (free uint32, used Bitmap) {
	area := tail(quotaArea(b), dqcBitmap)
	return u32(b, dqcFree), newBitmap(area, len(area)*bitsPerByte)
}

// QuotaChunkBlocks returns how many blocks of entries follow the first block of
// a chunk at most.
func QuotaChunkBlocks(blockSize int) int {
	return (blockSize - checkBytes - dqcBitmap) * bitsPerByte / max(1, QuotaLocalEntriesPerBlock(blockSize))
}

// QuotaLocalEntriesPerBlock returns the entries in a block of a local file.
func QuotaLocalEntriesPerBlock(blockSize int) int {
	return (blockSize - checkBytes) / quotaLocalSize
}

// QuotaChange is an ocfs2_local_disk_dqblk: what a slot adds to the usage of one id.
type QuotaChange struct {
	ID     uint64 // dqb_id
	Space  int64  // dqb_spacemod, bytes
	Inodes int64  // dqb_inodemod
}

// QuotaChanges returns the entries of a block of a local file with their numbers,
// unused ones included: the chunk's bitmap says which are in use.
func QuotaChanges(b []byte) iter.Seq2[int, QuotaChange] {
	area := quotaArea(b)
	return records(
		func() int { return recordsIn(area, 0, quotaLocalSize) },
		func(i int) QuotaChange {
			r := record(area, 0, quotaLocalSize, i)
			return QuotaChange{
				ID:     u64(r, dqbLocalID),
				Space:  int64(u64(r, dqbLocalSpaceMod)), //nolint:gosec // signed in C, too
				Inodes: int64(u64(r, dqbLocalInodeMod)), //nolint:gosec // signed in C, too
			}
		},
	)
}
