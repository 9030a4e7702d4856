// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// volumeOf returns the superblock of the volume that a block vector is from.
func (v checkVectors) volumeOf(tb testing.TB, block blockVector) *SuperBlock {
	tb.Helper()
	for _, b := range v.Blocks {
		if b.Structure == "superblock" && b.BlockSize == block.BlockSize {
			sb, err := DecodeSuperBlock(b.Hex, SuperBlockBlkno)
			if err != nil {
				tb.Fatal(err)
			}
			if strings.Contains(block.Structure, "discontiguous") { // from volumes of their own
				sb.Generation = AsGroupDesc(block.Hex).Generation()
			}
			return sb
		}
	}
	tb.Fatalf("no superblock with block size %d", block.BlockSize)
	return nil
}

// faultsOf returns what the view of a vector finds, with the pointers to other
// blocks that its unspoiled bytes have.
func faultsOf(kind Kind, good, b []byte, sb *SuperBlock) []Fault {
	blkno, _ := kind.Blkno(good)
	parent, _ := kind.Parent(good)
	switch kind {
	case KindSuper, KindInode:
		return AsDinode(b).Faults(blkno, sb)
	case KindExtentBlock:
		return AsExtentBlock(b).Faults(blkno, sb, TreeData)
	case KindGroup:
		bpc := 1
		if AsGroupDesc(good).Discontiguous() {
			bpc = int(sb.BlocksPerCluster())
		}
		return AsGroupDesc(b).Faults(blkno, sb, parent, AsGroupDesc(good).Chain(), bpc)
	case KindDxRoot:
		return AsDxRoot(b).Faults(blkno, sb, parent)
	case KindDxLeaf:
		return AsDxLeaf(b).Faults(blkno, sb)
	case KindXattrBlock:
		return AsXattrBlock(b).Faults(blkno, sb)
	case KindRefcountBlock:
		return AsRefcountBlock(b).Faults(blkno, sb, parent)
	case KindDirBlock:
		return AsDirTrailer(b).Faults(blkno, sb, parent)
	case KindBucket:
		return AsBucket(b).Faults(sb)
	default:
		return nil
	}
}

func TestVectorsHaveNoFaults(t *testing.T) {
	vectors := loadChecks(t)
	for _, v := range vectors.Blocks {
		kind := v.kind(t)
		if kind != KindBucket && kind != KindQuotaBlock {
			if got := Identify(v.Hex); got != kind {
				t.Errorf("%s: Identify = %v", v.Name, got)
			}
		}
		if faults := faultsOf(kind, v.Hex, v.Hex, vectors.volumeOf(t, v)); faults != nil {
			t.Errorf("%s: %v", v.Name, faults)
		}
	}
}

// Each case spoils one field of a sound block; the faults must name it.
func TestFaults(t *testing.T) {
	const huge = 1 << 60
	vectors := loadChecks(t)
	word := func(off int, n uint16) func([]byte) { return func(b []byte) { put16(b, off, n) } }
	long := func(off int, n uint32) func([]byte) { return func(b []byte) { put32(b, off, n) } }
	quad := func(off int, n uint64) func([]byte) { return func(b []byte) { put64(b, off, n) } }
	for _, c := range []struct {
		block string
		spoil func(b []byte)
		want  string // field of the first fault
	}{
		{"inode-(extent-tree)-512", quad(0x00, 0), "i_signature"},
		{"inode-(extent-tree)-512", quad(0x50, 7), "i_blkno"},
		{"inode-(extent-tree)-512", long(0x60, 7), "i_fs_generation"},
		{"inode-(extent-tree)-512", long(0x2C, 0), "i_flags"},
		{"inode-(extent-tree)-512", long(0x2C, 0x21), "i_flags"},
		{"inode-(extent-tree)-512", long(0x2C, 0x4001), "i_flags"},
		{"inode-(extent-tree)-512", word(0x0C, 99), "i_suballoc_slot"},
		{"inode-(extent-tree)-512", quad(0x98, huge), "i_suballoc_loc"},
		{"inode-(extent-tree)-512", word(0x28, 0x1FF), "i_mode"},
		{"inode-(extent-tree)-512", word(0x76, 0x20), "i_dyn_features"},
		{"inode-(extent-tree)-512", word(0x76, 0x4), "i_dyn_features"},
		{"inode-(extent-tree)-512", quad(0x78, 100), "i_xattr_loc"},
		{"inode-(extent-tree)-512", long(0x2C, 0x5), ""}, // in the orphan directory of slot 0
		{"inode-(extent-tree)-512", func(b []byte) { b[0x2C] |= 4; put16(b, 0x74, 2) }, "i_orphaned_slot"},
		{"inode-(extent-tree)-512", func(b []byte) { put16(b, 0x76, 0x10); put64(b, 0x90, 1) }, "i_refcount_loc"},
		{"inode-(extent-tree)-512", func(b []byte) { put16(b, 0x76, 0x8); put64(b, 0x88, 3) }, "i_dyn_features"},
		{"inode-(extent-tree)-512", long(0x14, 0xFFFFFFFF), "i_clusters"},
		{"inode-(extent-tree)-512", quad(0x58, huge), "i_last_eb_blk"},
		{"inode-(extent-tree)-512", word(0xC0, 17), "l_tree_depth"},
		{"inode-(extent-tree)-512", word(0xC2, 20), "l_count"},
		{"inode-(extent-tree)-512", word(0xC4, 20), "l_next_free_rec"},
		{"inode-(extent-tree)-512", quad(0xD8, huge), "l_recs[0].e_blkno"},
		{"inode-(extent-tree)-512", quad(0xD8, 1), "l_recs[0].e_blkno"},
		{"inode-(inline-data)-512", word(0xC0, 313), "id_count"},
		{"inode-(inline-data)-512", quad(0x20, 313), "i_size"},
		{"inode-(inline-data)-512", long(0x14, 1), "i_clusters"},
		{"inode-(inline-data)-512", word(0x28, 0xA1FF), "i_dyn_features"},
		{"inode-(inline-xattr)-4096", word(0x12, 8), "i_xattr_inline_size"},
		{"inode-(inline-xattr)-4096", word(0x12, 0x1000), "i_xattr_inline_size"},
		{"inode-(inline-xattr)-4096", word(0x76, 0x5), "i_dyn_features"},
		{"inode-(inline-xattr)-4096", word(0xF00, 0xFFFF), "xh_count"},
		{"inode-(inline-xattr)-4096", word(0xF14, 0), "xh_entries[0].xe_name_offset"},
		{"inode-(inline-xattr)-4096", word(0xF14, 0x100), "xh_entries[0].xe_name_offset"},
		{"inode-(inline-xattr)-4096", func(b []byte) { b[0xF17] = 0x86 }, "xh_entries[0].xe_type"},
		{"inode-(inline-xattr)-4096", quad(0xF18, 81), "xh_entries[0].xe_value_size"},
		{"system-inode-(global_bitmap)-512", long(0xB8, 0xFFFFFFFF), "i_used"},
		{"system-inode-(global_bitmap)-512", long(0xBC, 0xFFFFFFFF), "i_total"},
		{"system-inode-(global_bitmap)-512", word(0xC0, 0), "cl_cpg"},
		{"system-inode-(global_bitmap)-512", word(0xC2, 0), "cl_bpc"},
		{"system-inode-(global_bitmap)-512", word(0xC2, 3), "cl_bpc"},
		{"system-inode-(global_bitmap)-512", word(0xC4, 20), "cl_count"},
		{"system-inode-(global_bitmap)-512", word(0xC6, 20), "cl_next_free_rec"},
		{"system-inode-(global_bitmap)-512", long(0xD0, 0xFFFFFFFF), "cl_recs[0].c_free"},
		{"system-inode-(global_bitmap)-512", quad(0xD8, 0), "cl_recs[0].c_total"},
		{"system-inode-(global_bitmap)-512", quad(0xD8, huge), "cl_recs[0].c_blkno"},
		{"superblock-512", long(0x2C, 0x11), "i_flags"},
		{"superblock-512", long(0x08, 7), "i_generation"},
		{"extent-block-512", quad(0x00, 0), "h_signature"},
		{"extent-block-512", quad(0x18, 7), "h_blkno"},
		{"extent-block-512", long(0x14, 7), "h_fs_generation"},
		{"extent-block-512", word(0x10, 99), "h_suballoc_slot"},
		{"extent-block-512", quad(0x28, huge), "h_next_leaf_blk"},
		{"extent-block-512", word(0x32, 29), "l_count"},
		{"extent-block-512", word(0x34, 29), "l_next_free_rec"},
		{"extent-block-512", long(0x50, 0), "l_recs[1].e_cpos"},
		{"extent-block-4096", word(0x54, 0), "l_recs[1].e_leaf_clusters"},
		{"extent-block-4096", func(b []byte) { b[0x57] = 4 }, "l_recs[1].e_flags"},
		{"extent-block-512", quad(0x58, 1), "l_recs[1].e_blkno"},
		{"extent-block-4096", quad(0x58, huge), "l_recs[1].e_blkno"},
		{"group-descriptor-(global-bitmap)-512", quad(0x28, 7), "bg_blkno"},
		{"group-descriptor-(global-bitmap)-512", long(0x10, 7), "bg_generation"},
		{"group-descriptor-(global-bitmap)-512", quad(0x20, 7), "bg_parent_dinode"},
		{"group-descriptor-(global-bitmap)-512", word(0x0E, 7), "bg_chain"},
		{"group-descriptor-(global-bitmap)-512", word(0x08, 449), "bg_size"},
		{"group-descriptor-(global-bitmap)-512", word(0x0A, 3585), "bg_bits"},
		{"group-descriptor-(global-bitmap)-512", word(0x0C, 0), "bg_free_bits_count"},
		{"group-descriptor-(global-bitmap)-512", word(0x14, 0xFFFF), "bg_contig_free_bits"},
		{"group-descriptor-(global-bitmap)-512", quad(0x18, huge), "bg_next_group"},
		{"group-descriptor-(global-bitmap)-512", func(b []byte) { b[0x40] &^= 1; put16(b, 0x0C, uint16(AsGroupDesc(b).FreeBits())+1) }, "bg_bitmap"},
		{"group-descriptor-(discontiguous)-512", word(0x08, 255), "bg_size"},
		{"group-descriptor-(discontiguous)-512", word(0x140, 1), "bg_list.l_tree_depth"},
		{"group-descriptor-(discontiguous)-512", quad(0x158, 16), "bg_list.l_recs[0].e_blkno"},
		{"group-descriptor-(discontiguous)-512", long(0x160, 0xFFFF), "bg_list.l_recs[1].e_cpos"},
		{"group-descriptor-(discontiguous)-512", word(0x144, 1), "bg_bits"},
		{"directory-block-(trailer)-512", quad(0x1D0, 0), "db_signature"},
		{"directory-block-(trailer)-512", quad(0x1E8, 7), "db_blkno"},
		{"directory-block-(trailer)-512", quad(0x1F0, 7), "db_parent_dinode"},
		{"directory-block-(trailer)-512", quad(0x1C0, 7), "db_compat_inode"},
		{"directory-block-(trailer)-512", word(0x1C8, 60), "db_compat_rec_len"},
		{"directory-block-(trailer)-512", word(0x1CA, 1), "db_compat_name_len"},
		{"directory-block-(trailer)-512", word(0x1CE, 449), "db_free_rec_len"},
		{"directory-block-(trailer)-512", quad(0x1E0, huge), "db_free_next"},
		{"dx-root-(extent-list)-512", quad(0x18, 7), "dr_blkno"},
		{"dx-root-(extent-list)-512", quad(0x30, 7), "dr_dir_blkno"},
		{"dx-root-(extent-list)-512", quad(0x40, 1), "dr_free_blk"},
		{"dx-root-(extent-list)-512", func(b []byte) { b[0x2C] = 2 }, "dr_flags"},
		{"dx-root-(extent-list)-512", word(0xC2, 20), "l_count"},
		{"dx-root-(inline-entries)-2048", long(0x28, 1), "dr_clusters"},
		{"dx-root-(inline-entries)-2048", long(0x38, 0), "dr_num_entries"},
		{"dx-root-(inline-entries)-2048", word(0xC4, 116), "de_count"},
		{"dx-root-(inline-entries)-2048", word(0xC6, 116), "de_num_used"},
		{"dx-root-(inline-entries)-2048", quad(0xD0, 1), "de_entries[0].dx_dirent_blk"},
		{"dx-leaf-512", quad(0x10, 7), "dl_blkno"},
		{"dx-leaf-512", word(0x2C, 30), "de_count"},
		{"xattr-block-(entries)-512", quad(0x10, 7), "xb_blkno"},
		{"xattr-block-(entries)-512", word(0x20, 2), "xb_flags"},
		{"xattr-block-(entries)-512", word(0x30, 99), "xh_count"},
		{"xattr-block-(tree-root)-512", word(0x42, 28), "l_count"},
		{"xattr-bucket-512", word(0x00, 0xFFFF), "xh_count"},
		{"xattr-bucket-512", word(0x02, 4097), "xh_free_start"},
		{"xattr-bucket-512", word(0x04, 4097), "xh_name_value_len"},
		{"xattr-bucket-512", word(0x06, 17), "xh_num_buckets"},
		{"xattr-bucket-512", long(0x10, 0xFFFFFFFF), "xh_entries[1].xe_name_hash"},
		{"refcount-root-(records)-512", quad(0x10, 7), "rf_blkno"},
		{"refcount-root-(records)-512", long(0x34, 4), "rf_flags"},
		{"refcount-root-(records)-512", long(0x34, 1), "rf_flags"},
		{"refcount-root-(records)-512", word(0x80, 24), "rl_count"},
		{"refcount-root-(records)-512", word(0x80, 22), "rl_count"},
		{"refcount-root-(records)-512", word(0x82, 24), "rl_used"},
		{"refcount-root-(records)-512", quad(0x90, huge), "rl_recs[0].r_cpos"},
		{"refcount-root-(tree)-512", word(0x84, 24), "l_next_free_rec"},
		{"refcount-leaf-512", quad(0x18, 7), "rf_parent"},
		{"refcount-leaf-512", quad(0xA0, 0), "rl_recs[1].r_cpos"},
	} {
		v := vectors.block(t, c.block)
		good := vectors.block(t, c.block).Hex
		c.spoil(v.Hex)
		sb := vectors.volumeOf(t, vectors.block(t, c.block))
		faults := faultsOf(v.kind(t), good, v.Hex, sb)
		switch {
		case c.want == "" && faults == nil:
		case len(faults) == 0 || faults[0].Field != c.want:
			t.Errorf("%s: got %v, want a fault of %q", c.block, faults, c.want)
		}
	}
}

// Structures that the vectors lack, sound and spoiled.
func TestFaultsOfLogs(t *testing.T) {
	sb := &SuperBlock{Geometry: Geometry{BlockBits: 9, ClusterBits: 12, Clusters: 1000}, MaxSlots: 2, Generation: 5}
	inode := func(flags uint32, id2 func(b []byte)) []byte {
		b := make([]byte, 512)
		copy(b, "INODE01")
		put16(b, 0x0C, InvalidSlot)
		put16(b, 0x28, ModeRegular)
		put32(b, 0x2C, flags)
		put64(b, 0x50, 20)
		put32(b, 0x60, 5)
		id2(b)
		return b
	}
	window := func(first, total, used uint32, size uint16) []byte {
		return inode(0xD1, func(b []byte) {
			put32(b, 0xB8, used)
			put32(b, 0xBC, total)
			put32(b, 0xC0, first)
			put16(b, 0xC4, size)
			b[0xD0] = 0b1011
		})
	}
	records := func(count, used uint16, start, clusters uint32) []byte {
		return inode(0x811, func(b []byte) {
			put16(b, 0xC0, count)
			put16(b, 0xC2, used)
			put32(b, 0xC8, start)
			put32(b, 0xCC, clusters)
		})
	}
	symlink := func(size uint64) []byte {
		return inode(1, func(b []byte) { put16(b, 0x28, ModeSymlink); put64(b, 0x20, size) })
	}
	for _, c := range []struct {
		name  string
		block []byte
		want  []string
	}{
		{"closed window", window(0, 0, 0, 304), nil},
		{"open window", window(990, 10, 3, 304), nil},
		{"bitmap short of its room", window(0, 0, 0, 303), []string{"la_size"}},
		{"bitmap behind the block", window(0, 0, 0, 305), []string{"la_size"}},
		{"more bits than bytes", window(0, 305*8, 3, 304), []string{"i_total"}},
		{"window outside", window(991, 10, 3, 304), []string{"la_bm_off"}},
		{"count of bits", window(990, 10, 4, 304), []string{"i_used"}},
		{"empty log", records(39, 0, 0, 0), nil},
		{"record", records(39, 1, 990, 10), nil},
		{"unused record", records(39, 1, 0, 0xFFFFFFFF), nil},
		{"record outside", records(39, 1, 990, 11), []string{"tl_recs[0].t_start"}},
		{"log behind the block", records(40, 0, 0, 0), []string{"tl_count"}},
		{"log short of its room", records(38, 0, 0, 0), []string{"tl_count"}},
		{"more used than room", records(39, 40, 0, 0), []string{"tl_used"}},
		{"longest fast symlink", symlink(319), nil},
		{"fast symlink behind the block", symlink(320), []string{"i_size", "l_count"}},
	} {
		got := fieldsOf(AsDinode(c.block).Faults(20, sb))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestJournalFaults(t *testing.T) {
	sb := &SuperBlock{Geometry: Geometry{BlockBits: 9, ClusterBits: 12, Clusters: 1000}}
	good := JournalSuper{JournalHeader: JournalHeader{Type: JournalSuperV2}, BlockSize: 512, MaxLen: 100, First: 2, Start: 1, Incompat: 3}
	for _, c := range []struct {
		spoil func(js *JournalSuper)
		want  []string
	}{
		{func(*JournalSuper) {}, nil},
		{func(js *JournalSuper) { js.Type = JournalSuperV1 }, []string{"h_blocktype"}},
		{func(js *JournalSuper) { js.BlockSize = 1024 }, []string{"s_blocksize"}},
		{func(js *JournalSuper) { js.MaxLen = 101 }, []string{"s_maxlen"}},
		{func(js *JournalSuper) { js.First = 0 }, []string{"s_first"}},
		{func(js *JournalSuper) { js.Start = 100 }, []string{"s_start"}},
		{func(js *JournalSuper) { js.Incompat = 4 }, []string{"s_feature_incompat"}},
	} {
		js := good
		c.spoil(&js)
		if diff := cmp.Diff(c.want, fieldsOf(js.Faults(sb, 100))); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", js, diff)
		}
	}
}

// TestDirTrailerPresent has trailers where there need be none.
func TestDirTrailerPresent(t *testing.T) {
	v := loadChecks(t).block(t, "directory-block-(trailer)-512")
	blkno, _ := KindDirBlock.Blkno(v.Hex)
	dir, _ := KindDirBlock.Parent(v.Hex)
	for _, c := range []struct {
		name  string
		spoil func(b []byte)
		want  bool
	}{
		{"sound", func([]byte) {}, true},
		{"no signature", func(b []byte) { put64(b, 0x1D0, 0) }, true},
		{"another number", func(b []byte) { put64(b, 0x1E8, 7) }, true},
		{"neither", func(b []byte) { put64(b, 0x1D0, 0); put64(b, 0x1E8, 7) }, false},
		{"a short name in its place", func(b []byte) { put64(b, 0x1C0, 300); b[0x1CA] = 1 }, false},
	} {
		b := bytes.Clone(v.Hex)
		c.spoil(b)
		if got := AsDirTrailer(b).Present(blkno, dir); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestPlausibleBucket tells buckets, whatever is damaged in them, from file data.
func TestPlausibleBucket(t *testing.T) {
	vectors := loadChecks(t)
	v := vectors.block(t, "xattr-bucket-512")
	sb := vectors.volumeOf(t, v)
	if AsBucket(v.Hex).Count() < 2 {
		t.Fatal("the test wants a bucket with two entries")
	}
	text := bytes.Repeat([]byte("file data, nothing else. "), 200)[:BucketSize]
	for _, c := range []struct {
		name               string
		b                  []byte
		spoil              func(b []byte)
		plausible, emptied bool
	}{
		{"sound", v.Hex, func([]byte) {}, true, false},
		{"no count", v.Hex, func(b []byte) { put16(b, 0x00, 0) }, true, false},
		{"no first free byte", v.Hex, func(b []byte) { put16(b, 0x02, 0) }, true, false},
		{"no header", v.Hex, func(b []byte) { clear(b[:0x10]) }, true, false},
		{"first entry lost", v.Hex, func(b []byte) { clear(b[0x10:0x20]) }, true, false},
		{"another UUID", v.Hex, func(b []byte) { put32(b, 0x10, 1) }, true, false},
		{"no entries any more", v.Hex, func(b []byte) { put16(b, 0x00, 0); put16(b, 0x04, 0); clear(b[0x10:0x400]) }, false, true},
		{"zeros", make([]byte, BucketSize), func([]byte) {}, false, false},
		{"text", text, func([]byte) {}, false, false},
		{"small numbers", text, func(b []byte) { put16(b, 0x00, 1); put16(b, 0x02, 0x100) }, false, false},
	} {
		b := bytes.Clone(c.b)
		c.spoil(b)
		if got := AsBucket(b).Plausible(sb); got != c.plausible {
			t.Errorf("%s: plausible %v", c.name, got)
		}
		if got := AsBucket(b).Emptied(sb); got != c.emptied {
			t.Errorf("%s: emptied %v", c.name, got)
		}
	}
}

func TestSlotMapFaults(t *testing.T) {
	for _, c := range []struct {
		name     string
		incompat Incompat
		b        []byte
		want     []string
	}{
		{"old", 0, []byte{3, 0, 0xFF, 0xFF, 0xFE, 0}, nil},
		{"old, no such node", 0, []byte{3, 0, 0xFF, 0, 0xFF, 0xFF}, []string{"sm_slots[1]"}},
		{"old, zeros", 0, make([]byte, 512), []string{"slot 1", "slot 2"}},
		{"extended", IncompatExtendedSlotMap, []byte{1, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0, 9, 9, 9, 9}, nil},
		{"extended, zeros", IncompatExtendedSlotMap, make([]byte, 512), nil},
		{"extended, neither used nor free", IncompatExtendedSlotMap, []byte{0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}, []string{"se_slots[1].es_valid"}},
	} {
		sb := &SuperBlock{MaxSlots: 3, Incompat: c.incompat}
		if diff := cmp.Diff(c.want, fieldsOf(SlotMapFaults(c.b, sb))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestQuotaHeaderFaults(t *testing.T) {
	header := []byte{0x70, 0x24, 0xF5, 0x0C, 0, 0, 0, 0}
	if found := QuotaHeaderFaults(header, QuotaGlobalUser); found != nil {
		t.Errorf("%v", found)
	}
	header[4] = 1
	if diff := cmp.Diff([]string{"dqh_magic", "dqh_version"}, fieldsOf(QuotaHeaderFaults(header, QuotaGlobalGroup))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestIdentityAllocatesNothing(t *testing.T) {
	v := loadChecks(t).block(t, "extent-block-4096")
	blkno, _ := KindExtentBlock.Blkno(v.Hex)
	generation, _ := KindExtentBlock.Generation(v.Hex)
	if n := testing.AllocsPerRun(10, func() {
		if KindExtentBlock.Identity(v.Hex, blkno, generation) != nil {
			t.Fatal("fault")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBlockError(t *testing.T) {
	fault := Fault{"ocfs2_extent_block", "h_blkno", "7", "81234"}
	for _, c := range []struct {
		err  error
		is   []error
		text string
	}{
		{
			&BlockError{Block: 81234, Fault: fault},
			[]error{ErrCorrupt},
			"block 81234: ocfs2_extent_block h_blkno: got 7, want 81234",
		},
		{
			&BlockError{Block: 5, Err: ErrChecksum},
			[]error{ErrChecksum, ErrCorrupt},
			"block 5: checksum mismatch: corrupt metadata",
		},
		{
			&BlockError{Block: 5, Err: fs.ErrClosed},
			[]error{fs.ErrClosed},
			"block 5: file already closed",
		},
	} {
		for _, is := range c.is {
			if !errors.Is(c.err, is) {
				t.Errorf("%v is not %v", c.err, is)
			}
		}
		if c.err.Error() != c.text {
			t.Errorf("got %q, want %q", c.err, c.text)
		}
	}
	if !strings.Contains(ErrChecksum.Error(), "checksum") {
		t.Error(ErrChecksum)
	}
}

// TestFaultsOfGarbage checks that a bucket full of nonsense costs no more than a
// look: a wrong extent may name thousands of them.
func TestFaultsOfGarbage(t *testing.T) {
	b := bytes.Repeat([]byte{0xFF}, BucketSize)
	sb := &SuperBlock{Geometry: Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 1000}}
	if n := len(AsBucket(b).Faults(sb)); n == 0 || n > 50 {
		t.Errorf("%d faults", n)
	}
}
