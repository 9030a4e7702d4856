// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package damage

import (
	"encoding/binary"
	"fmt"
)

// role says what a field is for, and thereby what can be told from a wrong
// value in it.
type role uint8

const (
	plain      role = iota // nothing else on the volume says what it must be: times, owners, names, hints
	signature              // says what the structure is
	ownNumber              // the block's own number
	generation             // the file system's generation, which all blocks repeat
	parent                 // the block that led here
	capacity               // what fits, which the block size tells as well
	checkCRC               // CRC of the block check
	checkECC               // its Hamming code, which nobody looks at as long as the CRC is right
	pointer                // block of a structure that says itself what it is, 0 for none
	count                  // how many records are in use
	depth                  // of a tree
	length                 // clusters, bits or bytes of something
	sum                    // what others add up to
	flags                  // bits that decide what other fields mean
	suballoc               // where the block itself was allocated
	bitmap                 // one word of an allocation bitmap
)

// row is a line of a table: a field of a C structure.
type row struct {
	name      string
	off, size int // bytes; off from the start of the structure
	role      role
}

// field is a field of a structure in one particular block.
type field struct {
	structure, name string
	span            // where it lies
	role            role
	bigEndian       bool

	// contradicted tells for fields whose role alone does not decide it whether
	// another field of the volume speaks against a new value. Nil means that
	// nothing does.
	contradicted func(value uint64) bool
}

// span is a run of bytes in a block.
type span struct {
	block    uint64
	off, len int
}

// kind is the name of the field in the format: records are all one kind.
func (f *field) kind() string { return f.structure + "." + f.name }

// get returns the value of the field in its block b.
func (f *field) get(b []byte) uint64 {
	p := b[f.off:][:f.len]
	var v uint64
	for i := range p {
		c := p[len(p)-1-i]
		if f.bigEndian {
			c = p[i]
		}
		v = v<<8 | uint64(c)
	}
	return v
}

// encode returns the bytes of a value of the field.
func (f *field) encode(v uint64) []byte {
	var b [8]byte
	if f.bigEndian {
		binary.BigEndian.PutUint64(b[:], v<<(64-8*f.len))
	} else {
		binary.LittleEndian.PutUint64(b[:], v)
	}
	return b[:f.len]
}

// limit is the highest value of the field.
func (f *field) limit() uint64 { return ^uint64(0) >> (64 - 8*f.len) }

func (f *field) String() string { return fmt.Sprintf("%s of block %d", f.kind(), f.block) }

// The tables are those of the description of the format. Names of more than
// eight bytes that are pure text appear as their first eight; signatures without
// the terminator, which readers do not look at.
var (
	dinodeRows = []row{
		{"i_signature", 0x00, 7, signature},
		{"i_generation", 0x08, 4, plain},
		{"i_suballoc_slot", 0x0C, 2, suballoc},
		{"i_suballoc_bit", 0x0E, 2, suballoc},
		{"i_links_count_hi", 0x10, 2, plain},
		{"i_xattr_inline_size", 0x12, 2, length},
		{"i_clusters", 0x14, 4, sum},
		{"i_uid", 0x18, 4, plain},
		{"i_gid", 0x1C, 4, plain},
		{"i_size", 0x20, 8, length},
		{"i_mode", 0x28, 2, flags},
		{"i_links_count", 0x2A, 2, plain},
		{"i_flags", 0x2C, 4, flags},
		{"i_atime", 0x30, 8, plain},
		{"i_ctime", 0x38, 8, plain},
		{"i_mtime", 0x40, 8, plain},
		{"i_dtime", 0x48, 8, plain},
		{"i_blkno", 0x50, 8, ownNumber},
		{"i_last_eb_blk", 0x58, 8, pointer},
		{"i_fs_generation", 0x60, 4, generation},
		{"i_atime_nsec", 0x64, 4, plain},
		{"i_ctime_nsec", 0x68, 4, plain},
		{"i_mtime_nsec", 0x6C, 4, plain},
		{"i_attr", 0x70, 4, plain},
		{"i_orphaned_slot", 0x74, 2, plain},
		{"i_dyn_features", 0x76, 2, flags},
		{"i_xattr_loc", 0x78, 8, pointer},
		{"i_check.bc_crc32e", 0x80, 4, checkCRC},
		{"i_check.bc_ecc", 0x84, 2, checkECC},
		{"i_dx_root", 0x88, 8, pointer},
		{"i_refcount_loc", 0x90, 8, pointer},
		{"i_suballoc_loc", 0x98, 8, suballoc},
		{"i_dio_orphaned_slot", 0xA0, 2, plain},
		{"i_reserved", 0xA8, 8, plain},
	}
	bitmapRows  = []row{{"i_used", 0xB8, 4, sum}, {"i_total", 0xBC, 4, sum}}
	journalRows = []row{{"ij_flags", 0xB8, 4, plain}, {"ij_recovery_generation", 0xBC, 4, plain}}

	superRows = []row{
		{"s_major_rev_level", 0xC0, 2, plain},
		{"s_minor_rev_level", 0xC2, 2, plain},
		{"s_mnt_count", 0xC4, 2, plain},
		{"s_max_mnt_count", 0xC6, 2, plain},
		{"s_state", 0xC8, 2, plain},
		{"s_errors", 0xCA, 2, plain},
		{"s_checkinterval", 0xCC, 4, plain},
		{"s_lastcheck", 0xD0, 8, plain},
		{"s_creator_os", 0xD8, 4, plain},
		{"s_feature_compat", 0xDC, 4, flags},
		{"s_feature_incompat", 0xE0, 4, flags},
		{"s_feature_ro_compat", 0xE4, 4, flags},
		{"s_root_blkno", 0xE8, 8, pointer},
		{"s_system_dir_blkno", 0xF0, 8, pointer},
		{"s_blocksize_bits", 0xF8, 4, length},
		{"s_clustersize_bits", 0xFC, 4, length},
		{"s_max_slots", 0x100, 2, count},
		{"s_tunefs_flag", 0x102, 2, plain},
		{"s_uuid_hash", 0x104, 4, plain},
		{"s_first_cluster_group", 0x108, 8, pointer},
		{"s_label", 0x110, 8, plain},
		{"s_uuid", 0x150, 8, plain},
		{"s_cluster_info.ci_stack", 0x160, 4, plain},
		{"s_cluster_info.ci_stackflags", 0x164, 1, plain},
		{"s_cluster_info.ci_cluster", 0x168, 8, plain},
		{"s_xattr_inline_size", 0x178, 2, plain},
		{"s_dx_seed", 0x17C, 4, plain},
		{"s_reserved2", 0x188, 8, plain},
	}

	extentListRows = []row{{"l_tree_depth", 0x00, 2, depth}, {"l_count", 0x02, 2, capacity}, {"l_next_free_rec", 0x04, 2, count}}
	leafRecRows    = []row{{"e_cpos", 0, 4, plain}, {"e_leaf_clusters", 4, 2, length}, {"e_flags", 7, 1, flags}, {"e_blkno", 8, 8, pointer}}
	innerRecRows   = []row{{"e_cpos", 0, 4, plain}, {"e_int_clusters", 4, 4, plain}, {"e_blkno", 8, 8, pointer}}

	chainListRows = []row{{"cl_cpg", 0, 2, length}, {"cl_bpc", 2, 2, length}, {"cl_count", 4, 2, capacity}, {"cl_next_free_rec", 6, 2, count}}
	chainRecRows  = []row{{"c_free", 0, 4, sum}, {"c_total", 4, 4, sum}, {"c_blkno", 8, 8, pointer}}

	groupRows = []row{
		{"bg_signature", 0x00, 7, signature},
		{"bg_size", 0x08, 2, length},
		{"bg_bits", 0x0A, 2, length},
		{"bg_free_bits_count", 0x0C, 2, sum},
		{"bg_chain", 0x0E, 2, parent},
		{"bg_generation", 0x10, 4, generation},
		{"bg_contig_free_bits", 0x14, 2, plain},
		{"bg_next_group", 0x18, 8, pointer},
		{"bg_parent_dinode", 0x20, 8, parent},
		{"bg_blkno", 0x28, 8, ownNumber},
		{"bg_check.bc_crc32e", 0x30, 4, checkCRC},
		{"bg_check.bc_ecc", 0x34, 2, checkECC},
	}

	localAllocRows  = []row{{"la_bm_off", 0, 4, plain}, {"la_size", 4, 2, capacity}}
	truncateLogRows = []row{{"tl_count", 0, 2, capacity}, {"tl_used", 2, 2, count}}
	truncateRecRows = []row{{"t_start", 0, 4, plain}, {"t_clusters", 4, 4, plain}}
	inlineDataRows  = []row{{"id_count", 0, 2, capacity}}

	extentBlockRows = []row{
		{"h_signature", 0x00, 7, signature},
		{"h_check.bc_crc32e", 0x08, 4, checkCRC},
		{"h_check.bc_ecc", 0x0C, 2, checkECC},
		{"h_suballoc_slot", 0x10, 2, suballoc},
		{"h_suballoc_bit", 0x12, 2, suballoc},
		{"h_fs_generation", 0x14, 4, generation},
		{"h_blkno", 0x18, 8, ownNumber},
		{"h_suballoc_loc", 0x20, 8, suballoc},
		{"h_next_leaf_blk", 0x28, 8, pointer},
	}

	direntRows = []row{
		{"inode", 0, 8, pointer},
		{"rec_len", 8, 2, length},
		{"name_len", 10, 1, length},
		{"file_type", 11, 1, plain},
		{"name", 12, 1, plain},
	}
	dirTrailerRows = []row{
		{"db_compat_inode", 0x00, 8, plain},
		{"db_compat_rec_len", 0x08, 2, length},
		{"db_compat_name_len", 0x0A, 1, plain},
		{"db_free_rec_len", 0x0E, 2, plain},
		{"db_signature", 0x10, 7, signature},
		{"db_free_next", 0x20, 8, plain},
		{"db_blkno", 0x28, 8, ownNumber},
		{"db_parent_dinode", 0x30, 8, parent},
		{"db_check.bc_crc32e", 0x38, 4, checkCRC},
		{"db_check.bc_ecc", 0x3C, 2, checkECC},
	}

	dxRootRows = []row{
		{"dr_signature", 0x00, 7, signature},
		{"dr_check.bc_crc32e", 0x08, 4, checkCRC},
		{"dr_check.bc_ecc", 0x0C, 2, checkECC},
		{"dr_suballoc_slot", 0x10, 2, suballoc},
		{"dr_suballoc_bit", 0x12, 2, suballoc},
		{"dr_fs_generation", 0x14, 4, generation},
		{"dr_blkno", 0x18, 8, ownNumber},
		{"dr_last_eb_blk", 0x20, 8, pointer},
		{"dr_clusters", 0x28, 4, sum},
		{"dr_flags", 0x2C, 1, flags},
		{"dr_dir_blkno", 0x30, 8, parent},
		{"dr_num_entries", 0x38, 4, plain},
		{"dr_free_blk", 0x40, 8, plain},
		{"dr_suballoc_loc", 0x48, 8, suballoc},
	}
	dxListRows  = []row{{"de_count", 4, 2, capacity}, {"de_num_used", 6, 2, count}}
	dxEntryRows = []row{{"dx_major_hash", 0, 4, plain}, {"dx_minor_hash", 4, 4, plain}, {"dx_dirent_blk", 8, 8, plain}}
	dxLeafRows  = []row{
		{"dl_signature", 0x00, 7, signature},
		{"dl_check.bc_crc32e", 0x08, 4, checkCRC},
		{"dl_check.bc_ecc", 0x0C, 2, checkECC},
		{"dl_blkno", 0x10, 8, ownNumber},
		{"dl_fs_generation", 0x18, 4, generation},
	}

	xattrBlockRows = []row{
		{"xb_signature", 0x00, 7, signature},
		{"xb_suballoc_slot", 0x08, 2, suballoc},
		{"xb_suballoc_bit", 0x0A, 2, suballoc},
		{"xb_fs_generation", 0x0C, 4, generation},
		{"xb_blkno", 0x10, 8, ownNumber},
		{"xb_check.bc_crc32e", 0x18, 4, checkCRC},
		{"xb_check.bc_ecc", 0x1C, 2, checkECC},
		{"xb_flags", 0x20, 2, flags},
		{"xb_suballoc_loc", 0x28, 8, suballoc},
	}
	xattrTreeRows   = []row{{"xt_clusters", 0x30, 4, sum}, {"xt_last_eb_blk", 0x38, 8, pointer}}
	xattrHeaderRows = []row{{"xh_count", 0, 2, count}, {"xh_free_start", 2, 2, plain}, {"xh_name_value_len", 4, 2, plain}, {"xh_num_buckets", 6, 2, count}}
	bucketCheckRows = []row{{"xh_check.bc_crc32e", 8, 4, checkCRC}, {"xh_check.bc_ecc", 12, 2, checkECC}}
	xattrEntryRows  = []row{{"xe_name_hash", 0, 4, plain}, {"xe_name_offset", 4, 2, length}, {"xe_name_len", 6, 1, length}, {"xe_type", 7, 1, flags}, {"xe_value_size", 8, 8, length}}
	valueRootRows   = []row{{"xr_clusters", 0, 4, sum}, {"xr_last_eb_blk", 8, 8, pointer}}

	refcountRows = []row{
		{"rf_signature", 0x00, 7, signature},
		{"rf_suballoc_slot", 0x08, 2, suballoc},
		{"rf_suballoc_bit", 0x0A, 2, suballoc},
		{"rf_fs_generation", 0x0C, 4, generation},
		{"rf_blkno", 0x10, 8, ownNumber},
		{"rf_parent", 0x18, 8, parent},
		{"rf_check.bc_crc32e", 0x20, 4, checkCRC},
		{"rf_check.bc_ecc", 0x24, 2, checkECC},
		{"rf_last_eb_blk", 0x28, 8, pointer},
		{"rf_count", 0x30, 4, plain},
		{"rf_flags", 0x34, 4, flags},
		{"rf_clusters", 0x38, 4, sum},
		{"rf_cpos", 0x3C, 4, plain},
		{"rf_generation", 0x40, 4, plain},
		{"rf_suballoc_loc", 0x48, 8, suballoc},
	}
	refcountListRows = []row{{"rl_count", 0x80, 2, capacity}, {"rl_used", 0x82, 2, count}}
	refcountRecRows  = []row{{"r_cpos", 0, 8, plain}, {"r_clusters", 8, 4, length}, {"r_refcount", 12, 4, plain}}

	quotaRows = []row{{"dqh_magic", 0, 4, plain}, {"dqh_version", 4, 4, plain}, {"dqi_blocks", 0x14, 4, plain}}

	journalSuperRows = []row{ // big-endian
		{"h_magic", 0x00, 4, signature},
		{"h_blocktype", 0x04, 4, signature},
		{"s_blocksize", 0x0C, 4, capacity},
		{"s_maxlen", 0x10, 4, capacity},
		{"s_first", 0x14, 4, plain},
		{"s_sequence", 0x18, 4, plain},
		{"s_start", 0x1C, 4, plain},
		{"s_feature_incompat", 0x28, 4, plain},
		{"s_uuid", 0x30, 8, plain},
	}
	slotMapRows = []row{{"es_valid", 0, 1, plain}, {"es_node_num", 4, 4, plain}}
)
