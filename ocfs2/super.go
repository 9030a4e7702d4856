// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"fmt"
	"math/bits"
)

// Offsets of ocfs2_super_block in its block; the structure starts at id2.
const (
	sMajorRevLevel     = 0xC0
	sMinorRevLevel     = 0xC2
	sMntCount          = 0xC4
	sMaxMntCount       = 0xC6
	sState             = 0xC8
	sErrors            = 0xCA
	sCheckInterval     = 0xCC
	sLastCheck         = 0xD0
	sCreatorOS         = 0xD8
	sFeatureCompat     = 0xDC
	sFeatureIncompat   = 0xE0
	sFeatureROCompat   = 0xE4
	sRootBlkno         = 0xE8
	sSystemDirBlkno    = 0xF0
	sBlockSizeBits     = 0xF8
	sClusterSizeBits   = 0xFC
	sMaxSlots          = 0x100
	sTunefsFlag        = 0x102
	sUUIDHash          = 0x104
	sFirstClusterGroup = 0x108
	sLabel             = 0x110 // 64 bytes
	sUUID              = 0x150 // 16 bytes
	ciStack            = 0x160 // 4 bytes
	ciStackFlags       = 0x164
	ciCluster          = 0x168 // 16 bytes
	sXattrInlineSize   = 0x178
	sDxSeed            = 0x17C // 3 words
)

// Values of SuperBlock.TunefsFlag, valid with IncompatTunefsInProgress.
const (
	TunefsRemovingSlots     = 1 // OCFS2_TUNEFS_INPROG_REMOVE_SLOT
	TunefsAddingDirTrailers = 2 // OCFS2_TUNEFS_INPROG_DIR_TRAILER
)

// StateErrors is the bit of SuperBlock.State that says that errors were seen
// (OCFS2_ERROR_FS).
const StateErrors = 1

// ClusterGlobalHeartbeat is the bit of SuperBlock.ClusterFlags for a heartbeat
// on devices of its own (OCFS2_CLUSTER_O2CB_GLOBAL_HEARTBEAT).
const ClusterGlobalHeartbeat = 1

const (
	superMajorRev    = 0
	superMinorRev    = 90
	labelBytes       = 64
	clusterNameBytes = 16
	stackNameBytes   = 4
)

// MaxBackups is how many backup superblocks a volume can have.
const MaxBackups = 6

// The header of an OCFS1 volume in block 0.
const (
	ocfs1Major           = 2
	ocfs1MajorOffset     = 4
	ocfs1Signature       = "OracleCFS"
	ocfs1SignatureOffset = 8
)

// SuperBlock is the decoded superblock: ocfs2_super_block and the fields of
// the inode around it that describe the volume.
type SuperBlock struct {
	Geometry

	Blkno      uint64 // i_blkno: 2, or the backup's own block
	Generation uint32 // i_fs_generation, repeated by all metadata blocks

	MajorRev, MinorRev uint16 // 0 and 90
	MountCount         uint16 // s_mnt_count, not maintained
	MaxMountCount      uint16 // s_max_mnt_count
	State              uint16 // s_state: StateErrors
	Errors             uint16 // s_errors: what to do on errors
	CheckInterval      uint32 // s_checkinterval, seconds
	LastCheck          uint64 // s_lastcheck, seconds since 1970
	CreatorOS          uint32 // s_creator_os, 0 is Linux
	Compat             Compat
	Incompat           Incompat
	ROCompat           ROCompat
	Root               uint64    // s_root_blkno, block of the root directory's inode
	SystemDir          uint64    // s_system_dir_blkno, block of the system directory's inode
	MaxSlots           int       // s_max_slots, node slots, up to 255
	TunefsFlag         uint16    // s_tunefs_flag, valid with IncompatTunefsInProgress
	UUIDHash           uint32    // s_uuid_hash
	FirstClusterGroup  uint64    // s_first_cluster_group, block of the first group of the global bitmap
	Label              string    // s_label, without the padding
	UUID               [16]byte  // s_uuid
	XattrInlineSize    int       // s_xattr_inline_size, bytes that new inodes reserve
	DxSeed             [3]uint32 // s_dx_seed
	ClusterStack       string    // ci_stack, valid with IncompatUserspaceStack or IncompatClusterInfo
	ClusterFlags       uint8     // ci_stackflags, valid with IncompatClusterInfo
	ClusterName        string    // ci_cluster, valid as ClusterStack
}

// IsOCFS1 reports whether block0, at least 17 bytes of the volume's start,
// belongs to an OCFS1 volume. OCFS2 keeps a decoy there that is none.
func IsOCFS1(block0 []byte) bool {
	return u32(block0, ocfs1MajorOffset) == ocfs1Major ||
		bytes.HasPrefix(tail(block0, ocfs1SignatureOffset), []byte(ocfs1Signature))
}

// DecodeSuperBlock decodes the superblock or backup superblock that was read
// from block blkno; b is one block, as long as the block size that is probed.
//
// The checks are those of ocfs2_open in libocfs2, in its order. The error is
// ErrNotOCFS2 where the signature is missing, ErrUnsupported for unknown
// incompatible features and for a heartbeat device, and otherwise a BlockError
// that is ErrCorrupt.
func DecodeSuperBlock(b []byte, blkno uint64) (*SuperBlock, error) {
	if Identify(b) != KindSuper {
		return nil, ErrNotOCFS2
	}
	s := parseSuperBlock(b)
	if unknown := s.Incompat &^ incompatKnown; unknown != 0 {
		return nil, fmt.Errorf("%w: incompatible features %v", ErrUnsupported, unknown)
	}
	if s.Incompat.Has(IncompatHeartbeatDev) {
		return nil, fmt.Errorf("%w: a heartbeat device holds no file system", ErrUnsupported)
	}
	if found := s.openFaults(b, blkno); found != nil {
		return nil, &BlockError{Block: blkno, Fault: found[0]}
	}
	return s, nil
}

// SalvageSuperBlock decodes what is left of a superblock that was read from
// block blkno; b is one block of the size that is probed. It puts up with every
// fault, and returns the faults beside the fields as they stand; only sizes that
// cannot be are replaced by the block size of b and the least cluster size. The
// superblock is nil where neither its signature is there nor all the other
// marks: flags, own number and revision.
func SalvageSuperBlock(b []byte, blkno uint64) (*SuperBlock, []Fault) {
	f := faults{structure: "ocfs2_dinode"}
	if n := len(b); n < MinBlockSize || n > MaxBlockSize || n&(n-1) != 0 {
		f.add("block size", fmt.Sprint(n), fmt.Sprintf("a power of two from %d to %d", MinBlockSize, MaxBlockSize))
		return nil, f.found
	}
	if Identify(b) != KindSuper {
		f.add("i_signature", printable(span(b, 0, signatureBytes)), printable([]byte(superSignature)))
	}
	s := parseSuperBlock(b)
	marks := AsDinode(b).Flags().Has(InodeSuperBlock|InodeValid) && s.Blkno == blkno &&
		s.MajorRev == superMajorRev && s.MinorRev == superMinorRev
	if f.found != nil && !marks {
		return nil, f.found
	}
	f.within(s.openFaults(b, blkno))
	if unknown := s.Incompat &^ incompatKnown; unknown != 0 || s.Incompat.Has(IncompatHeartbeatDev) {
		f.within([]Fault{{"ocfs2_super_block", "s_feature_incompat", inHex(uint64(s.Incompat)), "known features of a file system"}})
	}
	s.BlockBits = uint8(bits.Len(uint(len(b)) - 1)) //nolint:gosec // at most 64
	if s.ClusterBits < 12 || s.ClusterBits > 20 {
		s.ClusterBits = 12
	}
	f.within(s.Faults())
	return s, f.found
}

// KnownIncompat are the incompatible features that this package knows, but for
// that of a device without a file system.
const KnownIncompat = incompatKnown &^ IncompatHeartbeatDev

func parseSuperBlock(b []byte) *SuperBlock {
	s := &SuperBlock{
		Geometry: Geometry{
			BlockBits:   narrow(u32(b, sBlockSizeBits)),
			ClusterBits: narrow(u32(b, sClusterSizeBits)),
			Clusters:    u32(b, iClusters),
		},
		Blkno:             u64(b, iBlkno),
		Generation:        u32(b, iFSGeneration),
		MajorRev:          u16(b, sMajorRevLevel),
		MinorRev:          u16(b, sMinorRevLevel),
		MountCount:        u16(b, sMntCount),
		MaxMountCount:     u16(b, sMaxMntCount),
		State:             u16(b, sState),
		Errors:            u16(b, sErrors),
		CheckInterval:     u32(b, sCheckInterval),
		LastCheck:         u64(b, sLastCheck),
		CreatorOS:         u32(b, sCreatorOS),
		Compat:            Compat(u32(b, sFeatureCompat)),
		Incompat:          Incompat(u32(b, sFeatureIncompat)),
		ROCompat:          ROCompat(u32(b, sFeatureROCompat)),
		Root:              u64(b, sRootBlkno),
		SystemDir:         u64(b, sSystemDirBlkno),
		MaxSlots:          int(u16(b, sMaxSlots)),
		TunefsFlag:        u16(b, sTunefsFlag),
		UUIDHash:          u32(b, sUUIDHash),
		FirstClusterGroup: u64(b, sFirstClusterGroup),
		Label:             text(span(b, sLabel, labelBytes)),
		XattrInlineSize:   int(u16(b, sXattrInlineSize)),
		ClusterStack:      text(span(b, ciStack, stackNameBytes)),
		ClusterFlags:      u8(b, ciStackFlags),
		ClusterName:       text(span(b, ciCluster, clusterNameBytes)),
	}
	copy(s.UUID[:], tail(b, sUUID))
	for i := range s.DxSeed {
		s.DxSeed[i] = u32(b, sDxSeed+4*i)
	}
	return s
}

// narrow returns a shift count, 255 if it is larger than any shift.
func narrow(bits uint32) uint8 { return uint8(min(bits, 0xFF)) } //nolint:gosec // bounded

// text returns what stands before the first NUL.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// openFaults are the faults for which no reader opens a volume.
func (s *SuperBlock) openFaults(b []byte, blkno uint64) []Fault {
	f := faults{structure: "ocfs2_super_block"}
	if s.BlockBits == 0 {
		f.add("s_blocksize_bits", "0", "9..12")
	}
	if s.Blkno != blkno {
		f.within([]Fault{{"ocfs2_dinode", "i_blkno", decimal(s.Blkno), decimal(blkno)}})
	}
	if c := s.ClusterBits; c < 12 || c > 20 {
		f.add("s_clustersize_bits", decimal(uint64(u32(b, sClusterSizeBits))), "12..20")
	} else if c < s.BlockBits {
		f.add("s_clustersize_bits", decimal(uint64(c)), "at least s_blocksize_bits")
	}
	f.inVolume("s_root_blkno", s.Geometry, s.Root)
	f.inVolume("s_system_dir_blkno", s.Geometry, s.SystemDir)
	f.fits("s_max_slots", s.MaxSlots, MaxSlots)
	if s.BlockBits < 9 || s.BlockBits > 12 || s.BlockSize() != len(b) {
		f.add("s_blocksize_bits", decimal(uint64(u32(b, sBlockSizeBits))),
			fmt.Sprintf("log2 of the block size %d", len(b)))
	}
	return f.found
}

// Faults returns the contradictions that do not keep a volume from being
// read: revision, slots, first group, and the hash of the UUID.
func (s *SuperBlock) Faults() []Fault {
	f := faults{structure: "ocfs2_super_block"}
	f.equal("s_major_rev_level", uint64(s.MajorRev), superMajorRev)
	f.equal("s_minor_rev_level", uint64(s.MinorRev), superMinorRev)
	if s.MaxSlots == 0 {
		f.add("s_max_slots", "0", "1..255")
	}
	f.equal("s_first_cluster_group", s.FirstClusterGroup, s.firstClusterGroup())
	if s.Incompat&(IncompatXattr|IncompatIndexedDirs) != 0 {
		f.equal("s_uuid_hash", uint64(s.UUIDHash), uint64(UUIDHash(s.UUID)))
	}
	return f.found
}

// UUIDString returns the UUID as the tools print it: 32 upper-case hex digits.
func (s *SuperBlock) UUIDString() string { return fmt.Sprintf("%X", s.UUID) }

// HasECC reports whether metadata blocks of the volume carry a check.
func (s *SuperBlock) HasECC() bool { return s.Incompat.Has(IncompatMetaECC) }

// Backups returns the blocks of the volume's backup superblocks, none where
// the compat feature is off.
func (s *SuperBlock) Backups() []uint64 {
	if !s.Compat.Has(CompatBackupSB) {
		return nil
	}
	return BackupBlknos(s.Geometry)
}

// BackupOffset returns where backup superblock n, from 1 to [MaxBackups], lies on
// every volume that is long enough, in bytes: at 1 GiB, 4 GiB and so on up to 1 TiB.
func BackupOffset(n int) int64 { return 1 << (28 + 2*n) }

// BackupBlknos returns the blocks where a volume of that size has room for
// backup superblocks.
func BackupBlknos(g Geometry) []uint64 {
	var list []uint64
	for n := 1; n <= MaxBackups; n++ {
		blkno := uint64(BackupOffset(n)) >> g.BlockBits //nolint:gosec // positive
		if blkno >= g.Blocks() {
			break
		}
		list = append(list, blkno)
	}
	return list
}
