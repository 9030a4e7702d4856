// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"strings"
	"time"
)

// Offsets of ocfs2_dinode.
const (
	iGeneration          = 0x08
	iSuballocSlot        = 0x0C
	iSuballocBit         = 0x0E
	iLinksCountHi        = 0x10
	iXattrInlineSize     = 0x12
	iClusters            = 0x14
	iUID                 = 0x18
	iGID                 = 0x1C
	iSize                = 0x20
	iMode                = 0x28
	iLinksCount          = 0x2A
	iFlags               = 0x2C
	iAtime               = 0x30
	iCtime               = 0x38
	iMtime               = 0x40
	iDtime               = 0x48
	iBlkno               = 0x50
	iLastEbBlk           = 0x58
	iFSGeneration        = 0x60
	iAtimeNsec           = 0x64
	iCtimeNsec           = 0x68
	iMtimeNsec           = 0x6C
	iAttr                = 0x70
	iOrphanedSlot        = 0x74
	iDynFeatures         = 0x76
	iXattrLoc            = 0x78
	iDxRoot              = 0x88
	iRefcountLoc         = 0x90
	iSuballocLoc         = 0x98
	iDIOOrphanedSlot     = 0xA0
	iID1                 = 0xB8
	iRdev                = iID1 // device files
	iUsed                = iID1 // InodeBitmap
	iTotal               = 0xBC
	ijFlags              = iID1 // InodeJournal
	ijRecoveryGeneration = 0xBC
	iID2                 = 0xC0
	idCount              = 0xC0 // ocfs2_inline_data
	idData               = 0xC8
	iID2Recs             = 0xD0 // records of an extent or chain list at id2
)

const journalDirty = 1 // bit of ij_flags (OCFS2_JOURNAL_DIRTY_FL)

// xattrAlign is the unit of i_xattr_inline_size: one xattr entry.
const xattrAlign = 16

// InodeFlags is i_flags.
type InodeFlags uint32

// Bits of InodeFlags.
const (
	InodeValid       InodeFlags = 0x1    // in use
	InodeOrphaned    InodeFlags = 0x4    // in an orphan directory
	InodeSystem      InodeFlags = 0x10   // system file, or the root directory
	InodeSuperBlock  InodeFlags = 0x20   // id2 is the superblock
	InodeLocalAlloc  InodeFlags = 0x40   // id2 is a local alloc
	InodeBitmap      InodeFlags = 0x80   // id1 holds bit counts
	InodeJournal     InodeFlags = 0x100  // id1 holds the state of a journal
	InodeHeartbeat   InodeFlags = 0x200  // heartbeat file
	InodeChain       InodeFlags = 0x400  // id2 is a chain list
	InodeDealloc     InodeFlags = 0x800  // id2 is a truncate log
	InodeQuota       InodeFlags = 0x1000 // quota file
	InodeDIOOrphaned InodeFlags = 0x2000 // in an orphan directory for an unfinished direct append

	inodeFlagsKnown InodeFlags = 0x3FF5
)

var inodeFlagNames = []string{
	"valid", "", "orphaned", "", "system", "superblock", "local-alloc", "bitmap", "journal",
	"heartbeat", "chain", "dealloc", "quota", "dio-orphaned",
}

// Has reports whether all bits of f are set.
func (i InodeFlags) Has(f InodeFlags) bool { return i&f == f }

func (i InodeFlags) String() string { return strings.Join(bitNames(uint32(i), inodeFlagNames), " ") }

// DynFeatures is i_dyn_features.
type DynFeatures uint16

// Bits of DynFeatures.
const (
	DynInlineData  DynFeatures = 0x1  // contents lie in id2
	DynHasXattr    DynFeatures = 0x2  // extended attributes, inline or in a block
	DynInlineXattr DynFeatures = 0x4  // the block's end holds extended attributes
	DynIndexedDir  DynFeatures = 0x8  // i_dx_root is valid
	DynHasRefcount DynFeatures = 0x10 // i_refcount_loc is valid

	dynFeaturesKnown DynFeatures = 0x1F
)

var dynFeatureNames = []string{"inline-data", "has-xattr", "inline-xattr", "indexed-dir", "has-refcount"}

// Has reports whether all bits of f are set.
func (d DynFeatures) Has(f DynFeatures) bool { return d&f == f }

func (d DynFeatures) String() string { return strings.Join(bitNames(uint32(d), dynFeatureNames), " ") }

// Types of i_mode, as POSIX has them.
const (
	ModeMask    = 0xF000
	ModeFIFO    = 0x1000
	ModeChar    = 0x2000
	ModeDir     = 0x4000
	ModeBlock   = 0x6000
	ModeRegular = 0x8000
	ModeSymlink = 0xA000
	ModeSocket  = 0xC000
)

// Union says what the id2 field of an inode holds.
type Union uint8

// What id2 can hold.
const (
	UnionExtents     Union = iota // extent list, maybe empty
	UnionSuper                    // superblock
	UnionLocalAlloc               // local alloc
	UnionChain                    // chain list
	UnionTruncateLog              // truncate log
	UnionInlineData               // contents of a file or directory
	UnionFastSymlink              // target of a symlink
)

func (u Union) String() string {
	switch u {
	case UnionSuper:
		return "superblock"
	case UnionLocalAlloc:
		return "local alloc"
	case UnionChain:
		return "chain list"
	case UnionTruncateLog:
		return "truncate log"
	case UnionInlineData:
		return "inline data"
	case UnionFastSymlink:
		return "fast symlink"
	default:
		return "extent list"
	}
}

// Dinode is a view of an ocfs2_dinode: an inode, a superblock, or a block that
// may be one.
type Dinode struct{ b []byte }

// AsDinode views b, one whole block.
func AsDinode(b []byte) Dinode { return Dinode{b} }

// Bytes returns the block.
func (d Dinode) Bytes() []byte { return d.b }

// With returns the inode as it would be with other flags, features and mode, for
// one in which these are known to be damaged. It is a copy of the block.
func (d Dinode) With(flags InodeFlags, features DynFeatures, mode uint16) Dinode {
	b := bytes.Clone(d.b)
	if len(b) >= iID2 {
		le.PutUint32(b[iFlags:], uint32(flags))
		le.PutUint16(b[iDynFeatures:], uint16(features))
		le.PutUint16(b[iMode:], mode)
	}
	return Dinode{b}
}

// Kind returns KindSuper for a superblock's signature, otherwise KindInode.
func (d Dinode) Kind() Kind {
	if KindSuper.signed(d.b) {
		return KindSuper
	}
	return KindInode
}

// HasSignature reports whether the block says that it is an inode or a superblock.
func (d Dinode) HasSignature() bool { return KindInode.signed(d.b) || KindSuper.signed(d.b) }

// Generation returns i_generation, of this use of the block.
func (d Dinode) Generation() uint32 { return u32(d.b, iGeneration) }

// SuballocSlot returns i_suballoc_slot: the slot of the allocator that owns
// the block, InvalidSlot for the global one.
func (d Dinode) SuballocSlot() uint16 { return u16(d.b, iSuballocSlot) }

// SuballocBit returns i_suballoc_bit, the bit in the allocator's group.
func (d Dinode) SuballocBit() uint16 { return u16(d.b, iSuballocBit) }

// SuballocLoc returns i_suballoc_loc, the block of that group's descriptor; 0 means
// SuballocBit blocks before this one.
func (d Dinode) SuballocLoc() uint64 { return u64(d.b, iSuballocLoc) }

// Links returns the link count (i_links_count_hi and i_links_count).
func (d Dinode) Links() uint32 {
	return uint32(u16(d.b, iLinksCountHi))<<16 | uint32(u16(d.b, iLinksCount))
}

// XattrInlineSize returns i_xattr_inline_size as it stands, in bytes; XattrTail
// is the number to use.
func (d Dinode) XattrInlineSize() uint16 { return u16(d.b, iXattrInlineSize) }

// Clusters returns i_clusters, the clusters of the data tree.
func (d Dinode) Clusters() uint32 { return u32(d.b, iClusters) }

// UID returns i_uid.
func (d Dinode) UID() uint32 { return u32(d.b, iUID) }

// GID returns i_gid.
func (d Dinode) GID() uint32 { return u32(d.b, iGID) }

// Size returns i_size, bytes.
func (d Dinode) Size() uint64 { return u64(d.b, iSize) }

// Mode returns i_mode, type and permissions.
func (d Dinode) Mode() uint16 { return u16(d.b, iMode) }

// Type returns the type bits of i_mode: ModeDir and so on.
func (d Dinode) Type() uint16 { return d.Mode() & ModeMask }

// IsDir reports whether i_mode is that of a directory.
func (d Dinode) IsDir() bool { return d.Type() == ModeDir }

// IsRegular reports whether i_mode is that of a regular file.
func (d Dinode) IsRegular() bool { return d.Type() == ModeRegular }

// IsSymlink reports whether i_mode is that of a symbolic link.
func (d Dinode) IsSymlink() bool { return d.Type() == ModeSymlink }

// IsDevice reports whether i_mode is that of a character or block device.
func (d Dinode) IsDevice() bool { return d.Type() == ModeChar || d.Type() == ModeBlock }

// Flags returns i_flags.
func (d Dinode) Flags() InodeFlags { return InodeFlags(u32(d.b, iFlags)) }

// IsValid reports whether the inode is in use.
func (d Dinode) IsValid() bool { return d.Flags().Has(InodeValid) }

// IsSystem reports whether the inode is a system file or the root directory.
func (d Dinode) IsSystem() bool { return d.Flags().Has(InodeSystem) }

// DynFeatures returns i_dyn_features.
func (d Dinode) DynFeatures() DynFeatures { return DynFeatures(u16(d.b, iDynFeatures)) }

// Atime returns i_atime and i_atime_nsec.
func (d Dinode) Atime() time.Time { return d.time(iAtime, iAtimeNsec) }

// Ctime returns i_ctime and i_ctime_nsec.
func (d Dinode) Ctime() time.Time { return d.time(iCtime, iCtimeNsec) }

// Mtime returns i_mtime and i_mtime_nsec.
func (d Dinode) Mtime() time.Time { return d.time(iMtime, iMtimeNsec) }

func (d Dinode) time(sec, nsec int) time.Time {
	return time.Unix(int64(u64(d.b, sec)), int64(u32(d.b, nsec))) //nolint:gosec // signed in C, too
}

// AtimeRaw returns i_atime in seconds and i_atime_nsec as they stand.
func (d Dinode) AtimeRaw() (sec uint64, nsec uint32) { return u64(d.b, iAtime), u32(d.b, iAtimeNsec) }

// CtimeRaw returns i_ctime in seconds and i_ctime_nsec as they stand.
func (d Dinode) CtimeRaw() (sec uint64, nsec uint32) { return u64(d.b, iCtime), u32(d.b, iCtimeNsec) }

// MtimeRaw returns i_mtime in seconds and i_mtime_nsec as they stand.
func (d Dinode) MtimeRaw() (sec uint64, nsec uint32) { return u64(d.b, iMtime), u32(d.b, iMtimeNsec) }

// Dtime returns i_dtime, the time of deletion in seconds since 1970, 0 if the
// inode was not deleted.
func (d Dinode) Dtime() uint64 { return u64(d.b, iDtime) }

// Blkno returns i_blkno, the block's own number.
func (d Dinode) Blkno() uint64 { return u64(d.b, iBlkno) }

// LastExtentBlk returns i_last_eb_blk, the rightmost leaf of the data tree, 0
// if its depth is 0.
func (d Dinode) LastExtentBlk() uint64 { return u64(d.b, iLastEbBlk) }

// FSGeneration returns i_fs_generation.
func (d Dinode) FSGeneration() uint32 { return u32(d.b, iFSGeneration) }

// Attr returns i_attr, attribute bits as ext2 has them.
func (d Dinode) Attr() uint32 { return u32(d.b, iAttr) }

// OrphanedSlot returns i_orphaned_slot, valid with InodeOrphaned.
func (d Dinode) OrphanedSlot() uint16 { return u16(d.b, iOrphanedSlot) }

// DIOOrphanedSlot returns i_dio_orphaned_slot, valid with InodeDIOOrphaned.
func (d Dinode) DIOOrphanedSlot() uint16 { return u16(d.b, iDIOOrphanedSlot) }

// XattrLoc returns i_xattr_loc, the inode's xattr block, or 0.
func (d Dinode) XattrLoc() uint64 { return u64(d.b, iXattrLoc) }

// DxRoot returns i_dx_root, the root of the directory's index, valid with DynIndexedDir.
func (d Dinode) DxRoot() uint64 { return u64(d.b, iDxRoot) }

// RefcountLoc returns i_refcount_loc, the root of the refcount tree, valid with
// DynHasRefcount.
func (d Dinode) RefcountLoc() uint64 { return u64(d.b, iRefcountLoc) }

// Rdev returns the device number of a device file (i_rdev).
func (d Dinode) Rdev() (major, minor uint32) {
	dev := u32(d.b, iRdev)
	return dev >> 8 & 0xFFF, dev&0xFF | dev>>12&0xFFF00
}

// BitmapUsed returns i_used, the bits in use, valid with InodeBitmap.
func (d Dinode) BitmapUsed() uint32 { return u32(d.b, iUsed) }

// BitmapTotal returns i_total, the bits of all groups, valid with InodeBitmap.
func (d Dinode) BitmapTotal() uint32 { return u32(d.b, iTotal) }

// JournalDirty reports whether the inode is a journal that must be replayed.
func (d Dinode) JournalDirty() bool {
	return d.Flags().Has(InodeJournal) && u32(d.b, ijFlags)&journalDirty != 0
}

// JournalRecoveryGeneration returns ij_recovery_generation, valid with InodeJournal.
func (d Dinode) JournalRecoveryGeneration() uint32 { return u32(d.b, ijRecoveryGeneration) }

// Union decides what id2 holds.
func (d Dinode) Union() Union {
	switch flags := d.Flags(); {
	case flags.Has(InodeSuperBlock):
		return UnionSuper
	case flags.Has(InodeLocalAlloc):
		return UnionLocalAlloc
	case flags.Has(InodeChain):
		return UnionChain
	case flags.Has(InodeDealloc):
		return UnionTruncateLog
	case d.DynFeatures().Has(DynInlineData):
		return UnionInlineData
	case d.IsSymlink() && d.Size() > 0 && d.Clusters() == 0 && d.Size() < uint64(len(d.id2(iID2))):
		return UnionFastSymlink
	default:
		return UnionExtents
	}
}

// XattrTail returns the bytes at the block's end that inline xattrs take; 0 if
// there are none or i_xattr_inline_size is no possible number.
func (d Dinode) XattrTail() int {
	size := int(d.XattrInlineSize())
	if !d.DynFeatures().Has(DynInlineXattr) || size < xattrAlign || size%xattrAlign != 0 || size > len(d.b)-iID2Recs {
		return 0
	}
	return size
}

// id2 returns the bytes from off to the end of id2.
func (d Dinode) id2(off int) []byte { return span(d.b, off, len(d.b)-d.XattrTail()-off) }

// Extents returns the root of the data tree; it is empty unless Union is
// UnionExtents.
func (d Dinode) Extents() ExtentList {
	if d.Union() != UnionExtents {
		return ExtentList{}
	}
	return ExtentList{d.id2(iID2)}
}

// Chains returns the chains of an allocator; it is empty unless Union is
// UnionChain.
func (d Dinode) Chains() ChainList {
	if d.Union() != UnionChain {
		return ChainList{}
	}
	return ChainList{d.id2(iID2)}
}

// InlineDataRange returns where in the block id_data lies or would lie: all
// bytes that contents can take, whatever i_size and id_count say.
func (d Dinode) InlineDataRange() (off, n int) { return idData, len(d.id2(idData)) }

// InlineData returns all bytes that contents can take, nil unless Union is
// UnionInlineData. The first Size bytes are the file or the directory entries.
func (d Dinode) InlineData() []byte {
	if d.Union() != UnionInlineData {
		return nil
	}
	return d.id2(idData)
}

// InlineCount returns id_count, the bytes that the inode says contents can take.
func (d Dinode) InlineCount() uint16 { return u16(d.b, idCount) }

// FastSymlink returns the target, nil unless Union is UnionFastSymlink.
func (d Dinode) FastSymlink() []byte {
	if d.Union() != UnionFastSymlink {
		return nil
	}
	room := d.id2(iID2)
	return span(room, 0, clampInt(d.Size(), len(room)))
}

// MaxTarget is the length of the longest target of a symlink (PATH_MAX of Linux
// with its NUL), in bytes.
const MaxTarget = 4096

// IsLongSymlink reports whether i_size is that of a target that has clusters: too
// long for the inode, and one that Linux takes.
func (d Dinode) IsLongSymlink() bool {
	return d.IsSymlink() && d.Size() >= uint64(max(len(d.b)-iID2, 0)) && d.Size() <= MaxTarget //nolint:gosec // not negative
}

// LooksLikeFastSymlink reports whether id2 holds what can be the target of a
// symlink but neither contents of a small file, before which zeros stand
// (id_reserved0, id_reserved1), nor an extent list: i_size bytes without a zero, and
// nothing but zeros behind them.
func (d Dinode) LooksLikeFastSymlink() bool {
	room := d.id2(iID2)
	n := clampInt(d.Size(), len(room))
	return n > 0 && bytes.IndexByte(room[:n], 0) < 0 && len(bytes.Trim(room[n:], "\x00")) == 0
}

// LocalAlloc returns the window of a local alloc file; it is empty unless
// Union is UnionLocalAlloc.
func (d Dinode) LocalAlloc() LocalAlloc {
	if d.Union() != UnionLocalAlloc {
		return LocalAlloc{}
	}
	return LocalAlloc(d)
}

// TruncateLog returns the records of a truncate log file; it is empty unless
// Union is UnionTruncateLog.
func (d Dinode) TruncateLog() TruncateLog {
	if d.Union() != UnionTruncateLog {
		return TruncateLog{}
	}
	return TruncateLog{d.id2(iID2)}
}

// InlineXattrs returns the xattrs at the block's end; ok is false where there
// are none.
func (d Dinode) InlineXattrs() (area XattrArea, ok bool) {
	size := d.XattrTail()
	if size == 0 {
		return XattrArea{}, false
	}
	return XattrArea{b: tail(d.b, len(d.b)-size)}, true
}

// clampInt returns n, or limit where n exceeds it.
func clampInt(n uint64, limit int) int {
	if n > uint64(limit) { //nolint:gosec // a length
		return limit
	}
	return int(n) //nolint:gosec // at most limit
}
