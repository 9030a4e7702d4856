// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type superVector struct {
	BlockSize   int    `json:"block_size"`
	ClusterSize int    `json:"cluster_size"`
	Clusters    uint32 `json:"i_clusters"`
	Blocks      uint64
	Fields      map[string]uint64
	Label       string      `json:"s_label"`
	UUID        hexBytes    `json:"s_uuid"`
	DxSeed      []hexNumber `json:"s_dx_seed"`
	Backups     []uint64    `json:"backup_superblocks"`
	Bytes       hexBytes    `json:"first_512_bytes"`
}

// block returns the superblock with the zeros behind it.
func (v superVector) block() []byte {
	b := make([]byte, v.BlockSize)
	copy(b, v.Bytes)
	return b
}

func loadSupers(tb testing.TB) []superVector {
	tb.Helper()
	var file struct{ Superblocks []superVector }
	readVectors(tb, "superblocks.json", &file)
	if len(file.Superblocks) == 0 {
		tb.Fatal("superblocks.json: empty")
	}
	return file.Superblocks
}

func TestDecodeSuperBlock(t *testing.T) {
	for _, v := range loadSupers(t) {
		s, err := DecodeSuperBlock(v.block(), SuperBlockBlkno)
		if err != nil {
			t.Errorf("%s: %v", v.Label, err)
			continue
		}
		if faults := s.Faults(); faults != nil {
			t.Errorf("%s: %v", v.Label, faults)
		}
		got := map[string]uint64{
			"s_major_rev_level":     uint64(s.MajorRev),
			"s_minor_rev_level":     uint64(s.MinorRev),
			"s_mnt_count":           uint64(s.MountCount),
			"s_max_mnt_count":       uint64(s.MaxMountCount),
			"s_state":               uint64(s.State),
			"s_errors":              uint64(s.Errors),
			"s_checkinterval":       uint64(s.CheckInterval),
			"s_lastcheck":           s.LastCheck,
			"s_creator_os":          uint64(s.CreatorOS),
			"s_feature_compat":      uint64(s.Compat),
			"s_feature_incompat":    uint64(s.Incompat),
			"s_feature_ro_compat":   uint64(s.ROCompat),
			"s_root_blkno":          s.Root,
			"s_system_dir_blkno":    s.SystemDir,
			"s_blocksize_bits":      uint64(s.BlockBits),
			"s_clustersize_bits":    uint64(s.ClusterBits),
			"s_max_slots":           uint64(s.MaxSlots),
			"s_tunefs_flag":         uint64(s.TunefsFlag),
			"s_uuid_hash":           uint64(s.UUIDHash),
			"s_first_cluster_group": s.FirstClusterGroup,
			"s_xattr_inline_size":   uint64(s.XattrInlineSize),
		}
		if diff := cmp.Diff(v.Fields, got); diff != "" {
			t.Errorf("%s: fields (-want +got):\n%s", v.Label, diff)
		}
		if s.BlockSize() != v.BlockSize || s.ClusterSize() != v.ClusterSize || s.Clusters != v.Clusters || s.Blocks() != v.Blocks {
			t.Errorf("%s: geometry %+v", v.Label, s.Geometry)
		}
		if s.Label != v.Label || s.UUIDString() != strings.ToUpper(hex.EncodeToString(v.UUID)) {
			t.Errorf("got label %q, UUID %s, want %q, %x", s.Label, s.UUIDString(), v.Label, v.UUID)
		}
		for i, seed := range v.DxSeed {
			if s.DxSeed[i] != uint32(seed) {
				t.Errorf("%s: s_dx_seed[%d] %#x, want %#x", v.Label, i, s.DxSeed[i], seed)
			}
		}
		if !slices.Equal(s.Backups(), v.Backups) {
			t.Errorf("%s: backups %v, want %v", v.Label, s.Backups(), v.Backups)
		}
	}
}

// One field of a good superblock is changed at a time.
func TestDecodeSuperBlockRefuses(t *testing.T) {
	good := loadSupers(t)[3] // block size 4096
	for _, c := range []struct {
		name  string
		spoil func(b []byte)
		err   error
		field string
	}{
		{"signature", func(b []byte) { b[0] = 'X' }, ErrNotOCFS2, ""},
		{"unknown feature", func(b []byte) { put32(b, 0xE0, 0x10010) }, ErrUnsupported, "0x10000"},
		{"unassigned feature", func(b []byte) { b[0xE0] |= 1 }, ErrUnsupported, "0x1"},
		{"heartbeat device", func(b []byte) { b[0xE0] |= 2 }, ErrUnsupported, "heartbeat device"},
		{"own number", func(b []byte) { put64(b, 0x50, 3) }, ErrCorrupt, "i_blkno: got 3, want 2"},
		{"no block size", func(b []byte) { put32(b, 0xF8, 0) }, ErrCorrupt, "s_blocksize_bits: got 0,"},
		{"block size of another probe", func(b []byte) { put32(b, 0xF8, 9) }, ErrCorrupt, "s_blocksize_bits: got 9,"},
		{"huge block size", func(b []byte) { put32(b, 0xF8, 0x100+12) }, ErrCorrupt, "s_clustersize_bits: got 12, want at least"},
		{"small cluster size", func(b []byte) { put32(b, 0xFC, 11) }, ErrCorrupt, "s_clustersize_bits: got 11,"},
		{"large cluster size", func(b []byte) { put32(b, 0xFC, 21) }, ErrCorrupt, "s_clustersize_bits: got 21,"},
		{"huge cluster size", func(b []byte) { put32(b, 0xFC, 0x100+12) }, ErrCorrupt, "s_clustersize_bits: got 268,"},
		{"no root", func(b []byte) { put64(b, 0xE8, 0) }, ErrCorrupt, "s_root_blkno: got 0,"},
		{"root outside", func(b []byte) { put64(b, 0xE8, 1<<40) }, ErrCorrupt, "s_root_blkno"},
		{"no system directory", func(b []byte) { put64(b, 0xF0, 0) }, ErrCorrupt, "s_system_dir_blkno: got 0,"},
		{"slots", func(b []byte) { put16(b, 0x100, 256) }, ErrCorrupt, "s_max_slots: got 256, want at most 255"},
		{"no clusters", func(b []byte) { put32(b, 0x14, 0) }, ErrCorrupt, "s_root_blkno"},
	} {
		b := good.block()
		c.spoil(b)
		s, err := DecodeSuperBlock(b, SuperBlockBlkno)
		if s != nil || !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: got %v, %v, want %v with %q", c.name, s, err, c.err, c.field)
		}
	}
	if _, err := DecodeSuperBlock(nil, SuperBlockBlkno); !errors.Is(err, ErrNotOCFS2) {
		t.Errorf("no bytes: %v", err)
	}
	b := good.block()
	put64(b, 0x50, 262144)
	if _, err := DecodeSuperBlock(b, 262144); err != nil {
		t.Errorf("backup: %v", err)
	}
}

func TestSalvageSuperBlock(t *testing.T) {
	b := loadSupers(t)[3].block()
	if s, faults := SalvageSuperBlock(b, SuperBlockBlkno); s == nil || faults != nil {
		t.Errorf("sound: %v, %v", s, faults)
	}
	put64(b, 0xE8, 1<<40)
	put16(b, 0x100, 999)
	put64(b, 0x108, 17)
	s, faults := SalvageSuperBlock(b, SuperBlockBlkno)
	if s == nil || s.MaxSlots != 999 {
		t.Fatalf("got %v, %v", s, faults)
	}
	if diff := cmp.Diff([]string{"s_root_blkno", "s_max_slots", "s_first_cluster_group"}, fieldsOf(faults)); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	put32(b, 0xFC, 40)
	if s, faults := SalvageSuperBlock(b, SuperBlockBlkno); s == nil || s.ClusterBits != 12 || faults == nil {
		t.Errorf("unusable cluster size: %v, %v", s, faults)
	}
	copy(b, "no sign")
	if s, faults := SalvageSuperBlock(b, SuperBlockBlkno); s == nil || faults == nil {
		t.Errorf("no signature: %v, %v", s, faults)
	}
	put64(b, 0x50, 5)
	if s, faults := SalvageSuperBlock(b, SuperBlockBlkno); s != nil || faults == nil {
		t.Errorf("no signature and another number: %v, %v", s, faults)
	}
	if s, faults := SalvageSuperBlock(nil, SuperBlockBlkno); s != nil || faults == nil {
		t.Errorf("no bytes: %v, %v", s, faults)
	}
}

func TestSuperBlockFaults(t *testing.T) {
	for _, c := range []struct {
		field string
		spoil func(s *SuperBlock)
	}{
		{"s_major_rev_level", func(s *SuperBlock) { s.MajorRev = 1 }},
		{"s_minor_rev_level", func(s *SuperBlock) { s.MinorRev = 91 }},
		{"s_max_slots", func(s *SuperBlock) { s.MaxSlots = 0 }},
		{"s_first_cluster_group", func(s *SuperBlock) { s.FirstClusterGroup = 0 }},
		{"s_uuid_hash", func(s *SuperBlock) { s.UUIDHash++ }},
	} {
		s, err := DecodeSuperBlock(loadSupers(t)[0].block(), SuperBlockBlkno)
		if err != nil {
			t.Fatal(err)
		}
		c.spoil(s)
		if diff := cmp.Diff([]string{c.field}, fieldsOf(s.Faults())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.field, diff)
		}
	}
}

func TestIsOCFS1(t *testing.T) {
	decoy := make([]byte, MinBlockSize) // what mkfs.ocfs2 writes
	for i := range decoy {
		decoy[i] = 2
	}
	copy(decoy[0x08:], "this is an ocfs2 volume\x00")
	for _, c := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"decoy", decoy, false},
		{"zeros", make([]byte, MinBlockSize), false},
		{"major version", []byte{0, 0, 0, 0, 2, 0, 0, 0}, true},
		{"signature", []byte("\x00\x00\x00\x00\x01\x00\x00\x00OracleCFS"), true},
		{"nothing", nil, false},
	} {
		if got := IsOCFS1(c.b); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestFeatureNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Compat(0x3).String(), "backup-super strict-journal-super"},
		// What debugfs.ocfs2 prints for a volume with all bits, in the order of the bits.
		{Incompat(0xFFFE).String(), "heartbeat-device aborted-resize local sparse aborted-tunefs inline-data " +
			"userspace-stack extended-slotmap xattr indexed-dirs metaecc refcount discontig-bg clusterinfo append-dio"},
		{ROCompat(0x7).String(), "unwritten usrquota grpquota"},
		{Incompat(0x80000001).String(), "0x1 0x80000000"},
		{Compat(0x14).String(), "0x4 0x10"},
		{ROCompat(0).String(), ""},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	if f := IncompatXattr | IncompatMetaECC; f.Has(IncompatXattr|IncompatLocalMount) || !f.Has(IncompatMetaECC) {
		t.Error("Has must want all bits")
	}
}

// fieldsOf returns the C names of the fields that are at fault.
func fieldsOf(faults []Fault) []string {
	var names []string
	for _, f := range faults {
		names = append(names, f.Field)
	}
	return names
}
