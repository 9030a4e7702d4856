// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"math/bits"
	"strings"
)

// Compat are features that a reader may ignore (s_feature_compat).
type Compat uint32

// Bits of Compat.
const (
	CompatBackupSB Compat = 0x1 // backup superblocks are maintained
	CompatJBD2SB   Compat = 0x2 // feature words of journal superblocks can be trusted
)

// Incompat are features that a reader must know (s_feature_incompat).
type Incompat uint32

// Bits of Incompat.
const (
	IncompatHeartbeatDev     Incompat = 0x2    // a heartbeat region and nothing else
	IncompatResizeInProgress Incompat = 0x4    // a resize was cut off
	IncompatLocalMount       Incompat = 0x8    // not clustered
	IncompatSparseAlloc      Incompat = 0x10   // files may have holes
	IncompatTunefsInProgress Incompat = 0x20   // s_tunefs_flag says what was cut off
	IncompatInlineData       Incompat = 0x40   // contents may lie in the inode
	IncompatUserspaceStack   Incompat = 0x80   // s_cluster_info is valid
	IncompatExtendedSlotMap  Incompat = 0x100  // slot map entries of 8 bytes
	IncompatXattr            Incompat = 0x200  // extended attributes
	IncompatIndexedDirs      Incompat = 0x400  // directory indexes, 32-bit link counts
	IncompatMetaECC          Incompat = 0x800  // metadata blocks carry a check
	IncompatRefcountTree     Incompat = 0x1000 // clusters shared between files
	IncompatDiscontigBG      Incompat = 0x2000 // suballocator groups in several pieces
	IncompatClusterInfo      Incompat = 0x4000 // s_cluster_info and its flags are valid
	IncompatAppendDIO        Incompat = 0x8000 // dio- names in orphan directories

	incompatKnown Incompat = 0xFFFE
)

// ROCompat are features that a writer must know (s_feature_ro_compat).
type ROCompat uint32

// Bits of ROCompat.
const (
	ROCompatUnwritten ROCompat = 0x1 // extents may be flagged unwritten
	ROCompatUsrQuota  ROCompat = 0x2 // user quota files
	ROCompatGrpQuota  ROCompat = 0x4 // group quota files
)

// Names by bit number, as debugfs.ocfs2 and mkfs.ocfs2 spell them.
var (
	compatNames   = []string{"backup-super", "strict-journal-super"}
	incompatNames = []string{
		"", "heartbeat-device", "aborted-resize", "local", "sparse", "aborted-tunefs", "inline-data",
		"userspace-stack", "extended-slotmap", "xattr", "indexed-dirs", "metaecc", "refcount",
		"discontig-bg", "clusterinfo", "append-dio",
	}
	roCompatNames = []string{"unwritten", "usrquota", "grpquota"}
)

// Has reports whether all bits of f are set.
func (c Compat) Has(f Compat) bool { return c&f == f }

// Names returns the name of each bit that is set, a number in hex for one
// without name.
func (c Compat) Names() []string { return bitNames(uint32(c), compatNames) }

func (c Compat) String() string { return strings.Join(c.Names(), " ") }

// Has reports whether all bits of f are set.
func (c Incompat) Has(f Incompat) bool { return c&f == f }

// Names returns the name of each bit that is set, a number in hex for one
// without name.
func (c Incompat) Names() []string { return bitNames(uint32(c), incompatNames) }

func (c Incompat) String() string { return strings.Join(c.Names(), " ") }

// Has reports whether all bits of f are set.
func (c ROCompat) Has(f ROCompat) bool { return c&f == f }

// Names returns the name of each bit that is set, a number in hex for one
// without name.
func (c ROCompat) Names() []string { return bitNames(uint32(c), roCompatNames) }

func (c ROCompat) String() string { return strings.Join(c.Names(), " ") }

// bitNames lists the bits that are set, lowest first; names is by bit number.
func bitNames(set uint32, names []string) []string {
	var list []string
	for set != 0 {
		i := bits.TrailingZeros32(set)
		set &= set - 1
		if i < len(names) && names[i] != "" {
			list = append(list, names[i])
		} else {
			list = append(list, inHex(1<<i))
		}
	}
	return list
}
