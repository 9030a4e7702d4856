// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

// field is a row of one of the format's tables: where a field lies in its
// block, its bytes, and how this package reads it.
type field struct {
	name string
	off  int
	size int
	get  func(b []byte) uint64
}

// TestFieldOffsets puts a pattern into one field at a time, once among zeros
// and once among ones, and expects it from the accessor whole and alone.
func TestFieldOffsets(t *testing.T) {
	const bs = MaxBlockSize
	for _, s := range []struct {
		structure string
		fix       func(b []byte) // bytes that the accessors depend on
		fields    []field
	}{
		{structure: "ocfs2_dinode", fields: []field{
			{"i_generation", 0x08, 4, func(b []byte) uint64 { return uint64(AsDinode(b).Generation()) }},
			{"i_suballoc_slot", 0x0C, 2, func(b []byte) uint64 { return uint64(AsDinode(b).SuballocSlot()) }},
			{"i_suballoc_bit", 0x0E, 2, func(b []byte) uint64 { return uint64(AsDinode(b).SuballocBit()) }},
			{"i_links_count_hi", 0x10, 2, func(b []byte) uint64 { return uint64(AsDinode(b).Links() >> 16) }},
			{"i_xattr_inline_size", 0x12, 2, func(b []byte) uint64 { return uint64(AsDinode(b).XattrInlineSize()) }},
			{"i_clusters", 0x14, 4, func(b []byte) uint64 { return uint64(AsDinode(b).Clusters()) }},
			{"i_uid", 0x18, 4, func(b []byte) uint64 { return uint64(AsDinode(b).UID()) }},
			{"i_gid", 0x1C, 4, func(b []byte) uint64 { return uint64(AsDinode(b).GID()) }},
			{"i_size", 0x20, 8, func(b []byte) uint64 { return AsDinode(b).Size() }},
			{"i_mode", 0x28, 2, func(b []byte) uint64 { return uint64(AsDinode(b).Mode()) }},
			{"i_links_count", 0x2A, 2, func(b []byte) uint64 { return uint64(AsDinode(b).Links() & 0xFFFF) }},
			{"i_flags", 0x2C, 4, func(b []byte) uint64 { return uint64(AsDinode(b).Flags()) }},
			{"i_atime", 0x30, 8, func(b []byte) uint64 { sec, _ := AsDinode(b).AtimeRaw(); return sec }},
			{"i_ctime", 0x38, 8, func(b []byte) uint64 { sec, _ := AsDinode(b).CtimeRaw(); return sec }},
			{"i_mtime", 0x40, 8, func(b []byte) uint64 { sec, _ := AsDinode(b).MtimeRaw(); return sec }},
			{"i_dtime", 0x48, 8, func(b []byte) uint64 { return AsDinode(b).Dtime() }},
			{"i_blkno", 0x50, 8, func(b []byte) uint64 { return AsDinode(b).Blkno() }},
			{"i_last_eb_blk", 0x58, 8, func(b []byte) uint64 { return AsDinode(b).LastExtentBlk() }},
			{"i_fs_generation", 0x60, 4, func(b []byte) uint64 { return uint64(AsDinode(b).FSGeneration()) }},
			{"i_atime_nsec", 0x64, 4, func(b []byte) uint64 { _, nsec := AsDinode(b).AtimeRaw(); return uint64(nsec) }},
			{"i_ctime_nsec", 0x68, 4, func(b []byte) uint64 { _, nsec := AsDinode(b).CtimeRaw(); return uint64(nsec) }},
			{"i_mtime_nsec", 0x6C, 4, func(b []byte) uint64 { _, nsec := AsDinode(b).MtimeRaw(); return uint64(nsec) }},
			{"i_attr", 0x70, 4, func(b []byte) uint64 { return uint64(AsDinode(b).Attr()) }},
			{"i_orphaned_slot", 0x74, 2, func(b []byte) uint64 { return uint64(AsDinode(b).OrphanedSlot()) }},
			{"i_dyn_features", 0x76, 2, func(b []byte) uint64 { return uint64(AsDinode(b).DynFeatures()) }},
			{"i_xattr_loc", 0x78, 8, func(b []byte) uint64 { return AsDinode(b).XattrLoc() }},
			{"i_dx_root", 0x88, 8, func(b []byte) uint64 { return AsDinode(b).DxRoot() }},
			{"i_refcount_loc", 0x90, 8, func(b []byte) uint64 { return AsDinode(b).RefcountLoc() }},
			{"i_suballoc_loc", 0x98, 8, func(b []byte) uint64 { return AsDinode(b).SuballocLoc() }},
			{"i_dio_orphaned_slot", 0xA0, 2, func(b []byte) uint64 { return uint64(AsDinode(b).DIOOrphanedSlot()) }},
			{"i_used", 0xB8, 4, func(b []byte) uint64 { return uint64(AsDinode(b).BitmapUsed()) }},
			{"i_total", 0xBC, 4, func(b []byte) uint64 { return uint64(AsDinode(b).BitmapTotal()) }},
			{"ij_recovery_generation", 0xBC, 4, func(b []byte) uint64 {
				return uint64(AsDinode(b).JournalRecoveryGeneration())
			}},
			{"id_count", 0xC0, 2, func(b []byte) uint64 { return uint64(AsDinode(b).InlineCount()) }},
		}},
		{structure: "ocfs2_super_block", fields: []field{
			{"i_clusters", 0x14, 4, func(b []byte) uint64 { return uint64(parseSuperBlock(b).Clusters) }},
			{"i_blkno", 0x50, 8, func(b []byte) uint64 { return parseSuperBlock(b).Blkno }},
			{"i_fs_generation", 0x60, 4, func(b []byte) uint64 { return uint64(parseSuperBlock(b).Generation) }},
			{"s_major_rev_level", 0xC0, 2, func(b []byte) uint64 { return uint64(parseSuperBlock(b).MajorRev) }},
			{"s_minor_rev_level", 0xC2, 2, func(b []byte) uint64 { return uint64(parseSuperBlock(b).MinorRev) }},
			{"s_mnt_count", 0xC4, 2, func(b []byte) uint64 { return uint64(parseSuperBlock(b).MountCount) }},
			{"s_max_mnt_count", 0xC6, 2, func(b []byte) uint64 { return uint64(parseSuperBlock(b).MaxMountCount) }},
			{"s_state", 0xC8, 2, func(b []byte) uint64 { return uint64(parseSuperBlock(b).State) }},
			{"s_errors", 0xCA, 2, func(b []byte) uint64 { return uint64(parseSuperBlock(b).Errors) }},
			{"s_checkinterval", 0xCC, 4, func(b []byte) uint64 { return uint64(parseSuperBlock(b).CheckInterval) }},
			{"s_lastcheck", 0xD0, 8, func(b []byte) uint64 { return parseSuperBlock(b).LastCheck }},
			{"s_creator_os", 0xD8, 4, func(b []byte) uint64 { return uint64(parseSuperBlock(b).CreatorOS) }},
			{"s_feature_compat", 0xDC, 4, func(b []byte) uint64 { return uint64(parseSuperBlock(b).Compat) }},
			{"s_feature_incompat", 0xE0, 4, func(b []byte) uint64 { return uint64(parseSuperBlock(b).Incompat) }},
			{"s_feature_ro_compat", 0xE4, 4, func(b []byte) uint64 { return uint64(parseSuperBlock(b).ROCompat) }},
			{"s_root_blkno", 0xE8, 8, func(b []byte) uint64 { return parseSuperBlock(b).Root }},
			{"s_system_dir_blkno", 0xF0, 8, func(b []byte) uint64 { return parseSuperBlock(b).SystemDir }},
			{"s_max_slots", 0x100, 2, func(b []byte) uint64 { return uint64(parseSuperBlock(b).MaxSlots) }},
			{"s_tunefs_flag", 0x102, 2, func(b []byte) uint64 { return uint64(parseSuperBlock(b).TunefsFlag) }},
			{"s_uuid_hash", 0x104, 4, func(b []byte) uint64 { return uint64(parseSuperBlock(b).UUIDHash) }},
			{"s_first_cluster_group", 0x108, 8, func(b []byte) uint64 { return parseSuperBlock(b).FirstClusterGroup }},
			{"ci_stackflags", 0x164, 1, func(b []byte) uint64 { return uint64(parseSuperBlock(b).ClusterFlags) }},
			{"s_xattr_inline_size", 0x178, 2, func(b []byte) uint64 { return uint64(parseSuperBlock(b).XattrInlineSize) }},
			{"s_dx_seed[0]", 0x17C, 4, func(b []byte) uint64 { return uint64(parseSuperBlock(b).DxSeed[0]) }},
			{"s_dx_seed[2]", 0x184, 4, func(b []byte) uint64 { return uint64(parseSuperBlock(b).DxSeed[2]) }},
		}},
		{structure: "ocfs2_extent_block", fields: []field{
			{"h_suballoc_slot", 0x10, 2, func(b []byte) uint64 { slot, _, _ := AsExtentBlock(b).Suballoc(); return uint64(slot) }},
			{"h_suballoc_bit", 0x12, 2, func(b []byte) uint64 { _, bit, _ := AsExtentBlock(b).Suballoc(); return uint64(bit) }},
			{"h_fs_generation", 0x14, 4, func(b []byte) uint64 { return uint64(AsExtentBlock(b).Generation()) }},
			{"h_blkno", 0x18, 8, func(b []byte) uint64 { return AsExtentBlock(b).Blkno() }},
			{"h_suballoc_loc", 0x20, 8, func(b []byte) uint64 { _, _, loc := AsExtentBlock(b).Suballoc(); return loc }},
			{"h_next_leaf_blk", 0x28, 8, func(b []byte) uint64 { return AsExtentBlock(b).NextLeaf() }},
			{"l_tree_depth", 0x30, 2, func(b []byte) uint64 { return uint64(AsExtentBlock(b).List().Depth()) }},
			{"l_count", 0x32, 2, func(b []byte) uint64 { return uint64(AsExtentBlock(b).List().Count()) }},
			{"l_next_free_rec", 0x34, 2, func(b []byte) uint64 { return uint64(AsExtentBlock(b).List().Used()) }},
		}},
		{"leaf ocfs2_extent_rec", func(b []byte) { put16(b, 0x30, 0) }, []field{
			{"e_cpos", 0x50, 4, func(b []byte) uint64 { return uint64(AsExtentBlock(b).List().Rec(1).Cpos) }},
			{"e_leaf_clusters", 0x54, 2, func(b []byte) uint64 { return uint64(AsExtentBlock(b).List().Rec(1).Clusters) }},
			{"e_flags", 0x57, 1, func(b []byte) uint64 { return uint64(AsExtentBlock(b).List().Rec(1).Flags) }},
			{"e_blkno", 0x58, 8, func(b []byte) uint64 { return AsExtentBlock(b).List().Rec(1).Blkno }},
		}},
		{"interior ocfs2_extent_rec", func(b []byte) { put16(b, 0x30, 1) }, []field{
			{"e_cpos", 0x50, 4, func(b []byte) uint64 { return uint64(AsExtentBlock(b).List().Rec(1).Cpos) }},
			{"e_int_clusters", 0x54, 4, func(b []byte) uint64 { return uint64(AsExtentBlock(b).List().Rec(1).Clusters) }},
			{"e_blkno", 0x58, 8, func(b []byte) uint64 { return AsExtentBlock(b).List().Rec(1).Blkno }},
		}},
		{"ocfs2_chain_list", func(b []byte) { put32(b, 0x2C, 0x400) }, []field{
			{"cl_cpg", 0xC0, 2, func(b []byte) uint64 { return uint64(AsDinode(b).Chains().CPG()) }},
			{"cl_bpc", 0xC2, 2, func(b []byte) uint64 { return uint64(AsDinode(b).Chains().BPC()) }},
			{"cl_count", 0xC4, 2, func(b []byte) uint64 { return uint64(AsDinode(b).Chains().Count()) }},
			{"cl_next_free_rec", 0xC6, 2, func(b []byte) uint64 { return uint64(AsDinode(b).Chains().Used()) }},
			{"c_free", 0xE0, 4, func(b []byte) uint64 { return uint64(AsDinode(b).Chains().Rec(1).Free) }},
			{"c_total", 0xE4, 4, func(b []byte) uint64 { return uint64(AsDinode(b).Chains().Rec(1).Total) }},
			{"c_blkno", 0xE8, 8, func(b []byte) uint64 { return AsDinode(b).Chains().Rec(1).Blkno }},
		}},
		{structure: "ocfs2_group_desc", fields: []field{
			{"bg_size", 0x08, 2, func(b []byte) uint64 { return uint64(AsGroupDesc(b).Size()) }},
			{"bg_bits", 0x0A, 2, func(b []byte) uint64 { return uint64(AsGroupDesc(b).Bits()) }},
			{"bg_free_bits_count", 0x0C, 2, func(b []byte) uint64 { return uint64(AsGroupDesc(b).FreeBits()) }},
			{"bg_chain", 0x0E, 2, func(b []byte) uint64 { return uint64(AsGroupDesc(b).Chain()) }},
			{"bg_generation", 0x10, 4, func(b []byte) uint64 { return uint64(AsGroupDesc(b).Generation()) }},
			{"bg_contig_free_bits", 0x14, 2, func(b []byte) uint64 { return uint64(AsGroupDesc(b).ContigFree()) }},
			{"bg_next_group", 0x18, 8, func(b []byte) uint64 { return AsGroupDesc(b).NextGroup() }},
			{"bg_parent_dinode", 0x20, 8, func(b []byte) uint64 { return AsGroupDesc(b).ParentDinode() }},
			{"bg_blkno", 0x28, 8, func(b []byte) uint64 { return AsGroupDesc(b).Blkno() }},
		}},
		{"discontiguous ocfs2_group_desc", func(b []byte) { put16(b, 0x08, 256); put16(b, 0x140, 0); put16(b, 0x144, 1) }, []field{
			{"bg_list e_cpos", 0x150, 4, func(b []byte) uint64 { return uint64(AsGroupDesc(b).Extents().Rec(0).Cpos) }},
			{"bg_list e_blkno", 0x158, 8, func(b []byte) uint64 { return AsGroupDesc(b).Extents().Rec(0).Blkno }},
		}},
		{"ocfs2_local_alloc", func(b []byte) { put32(b, 0x2C, 0xD1) }, []field{
			{"la_bm_off", 0xC0, 4, func(b []byte) uint64 { return uint64(AsDinode(b).LocalAlloc().FirstCluster()) }},
			{"la_size", 0xC4, 2, func(b []byte) uint64 { return uint64(AsDinode(b).LocalAlloc().Size()) }},
			{"i_used", 0xB8, 4, func(b []byte) uint64 { return uint64(AsDinode(b).LocalAlloc().Used()) }},
			{"i_total", 0xBC, 4, func(b []byte) uint64 { return uint64(AsDinode(b).LocalAlloc().Clusters()) }},
		}},
		{"ocfs2_truncate_log", func(b []byte) { put32(b, 0x2C, 0x811) }, []field{
			{"tl_count", 0xC0, 2, func(b []byte) uint64 { return uint64(AsDinode(b).TruncateLog().Count()) }},
			{"tl_used", 0xC2, 2, func(b []byte) uint64 { return uint64(AsDinode(b).TruncateLog().Used()) }},
			{"t_start", 0xD0, 4, func(b []byte) uint64 { return uint64(AsDinode(b).TruncateLog().Rec(1).Start) }},
			{"t_clusters", 0xD4, 4, func(b []byte) uint64 { return uint64(AsDinode(b).TruncateLog().Rec(1).Clusters) }},
		}},
		{structure: "ocfs2_dir_block_trailer", fields: []field{
			{"db_free_rec_len", bs - 0x32, 2, func(b []byte) uint64 { return uint64(AsDirTrailer(b).FreeRecLen()) }},
			{"db_free_next", bs - 0x20, 8, func(b []byte) uint64 { return AsDirTrailer(b).FreeNext() }},
			{"db_blkno", bs - 0x18, 8, func(b []byte) uint64 { return AsDirTrailer(b).Blkno() }},
			{"db_parent_dinode", bs - 0x10, 8, func(b []byte) uint64 { return AsDirTrailer(b).ParentDinode() }},
		}},
		{structure: "ocfs2_dx_root_block", fields: []field{
			{"dr_blkno", 0x18, 8, func(b []byte) uint64 { return AsDxRoot(b).Blkno() }},
			{"dr_last_eb_blk", 0x20, 8, func(b []byte) uint64 { return AsDxRoot(b).LastExtentBlk() }},
			{"dr_clusters", 0x28, 4, func(b []byte) uint64 { return uint64(AsDxRoot(b).Clusters()) }},
			{"dr_flags", 0x2C, 1, func(b []byte) uint64 { return uint64(AsDxRoot(b).Flags()) }},
			{"dr_dir_blkno", 0x30, 8, func(b []byte) uint64 { return AsDxRoot(b).DirBlkno() }},
			{"dr_num_entries", 0x38, 4, func(b []byte) uint64 { return uint64(AsDxRoot(b).NumEntries()) }},
			{"dr_free_blk", 0x40, 8, func(b []byte) uint64 { return AsDxRoot(b).FreeBlk() }},
		}},
		{"inline ocfs2_dx_root_block", func(b []byte) { b[0x2C] = 1 }, []field{
			{"de_count", 0xC4, 2, func(b []byte) uint64 { return uint64(AsDxRoot(b).Entries().Count()) }},
			{"de_num_used", 0xC6, 2, func(b []byte) uint64 { return uint64(AsDxRoot(b).Entries().Used()) }},
			{"dx_major_hash", 0xD8, 4, func(b []byte) uint64 { return uint64(AsDxRoot(b).Entries().Entry(1).Major) }},
			{"dx_minor_hash", 0xDC, 4, func(b []byte) uint64 { return uint64(AsDxRoot(b).Entries().Entry(1).Minor) }},
			{"dx_dirent_blk", 0xE0, 8, func(b []byte) uint64 { return AsDxRoot(b).Entries().Entry(1).Blkno }},
		}},
		{structure: "ocfs2_dx_leaf", fields: []field{
			{"dl_blkno", 0x10, 8, func(b []byte) uint64 { return AsDxLeaf(b).Blkno() }},
			{"dl_fs_generation", 0x18, 4, func(b []byte) uint64 { n, _ := KindDxLeaf.Generation(b); return uint64(n) }},
			{"de_count", 0x2C, 2, func(b []byte) uint64 { return uint64(AsDxLeaf(b).Entries().Count()) }},
			{"de_num_used", 0x2E, 2, func(b []byte) uint64 { return uint64(AsDxLeaf(b).Entries().Used()) }},
			{"dx_major_hash", 0x30, 4, func(b []byte) uint64 { return uint64(AsDxLeaf(b).Entries().Entry(0).Major) }},
		}},
		{structure: "ocfs2_xattr_block", fields: []field{
			{"xb_blkno", 0x10, 8, func(b []byte) uint64 { return AsXattrBlock(b).Blkno() }},
			{"xb_fs_generation", 0x0C, 4, func(b []byte) uint64 { n, _ := KindXattrBlock.Generation(b); return uint64(n) }},
			{"xb_flags", 0x20, 2, func(b []byte) uint64 { return uint64(AsXattrBlock(b).Flags()) }},
			{"xt_clusters", 0x30, 4, func(b []byte) uint64 { return uint64(AsXattrBlock(b).TreeClusters()) }},
			{"xt_last_eb_blk", 0x38, 8, func(b []byte) uint64 { return AsXattrBlock(b).TreeLastExtentBlk() }},
		}},
		{"indexed ocfs2_xattr_block", func(b []byte) { b[0x20] = 1 }, []field{
			{"xt_list", 0x44, 2, func(b []byte) uint64 { return uint64(AsXattrBlock(b).Tree().Used()) }},
		}},
		{"ocfs2_xattr_header in a block", func(b []byte) { b[0x20] = 0 }, []field{
			{"xh_count", 0x30, 2, func(b []byte) uint64 { return uint64(AsXattrBlock(b).Area().Count()) }},
		}},
		{structure: "ocfs2_xattr_header", fields: []field{
			{"xh_count", 0x00, 2, func(b []byte) uint64 { return uint64(AsBucket(b).Count()) }},
			{"xh_free_start", 0x02, 2, func(b []byte) uint64 { return uint64(AsBucket(b).FreeStart()) }},
			{"xh_name_value_len", 0x04, 2, func(b []byte) uint64 { return uint64(AsBucket(b).NameValueLen()) }},
			{"xh_num_buckets", 0x06, 2, func(b []byte) uint64 { return uint64(AsBucket(b).NumBuckets()) }},
			{"xe_name_hash", 0x20, 4, func(b []byte) uint64 { return uint64(AsBucket(b).Entry(1).NameHash) }},
			{"xe_name_offset", 0x24, 2, func(b []byte) uint64 { return uint64(AsBucket(b).Entry(1).NameOff) }},
			{"xe_value_size", 0x28, 8, func(b []byte) uint64 { return AsBucket(b).Entry(1).Size }},
		}},
		{structure: "ocfs2_xattr_value_root", fields: []field{
			{"xr_clusters", 0x00, 4, func(b []byte) uint64 { return uint64(XattrValueRoot{b}.Clusters()) }},
			{"xr_last_eb_blk", 0x08, 8, func(b []byte) uint64 { return XattrValueRoot{b}.LastExtentBlk() }},
			{"xr_list", 0x14, 2, func(b []byte) uint64 { return uint64(XattrValueRoot{b}.List().Used()) }},
		}},
		{structure: "ocfs2_refcount_block", fields: []field{
			{"rf_fs_generation", 0x0C, 4, func(b []byte) uint64 { n, _ := KindRefcountBlock.Generation(b); return uint64(n) }},
			{"rf_blkno", 0x10, 8, func(b []byte) uint64 { return AsRefcountBlock(b).Blkno() }},
			{"rf_parent", 0x18, 8, func(b []byte) uint64 { return AsRefcountBlock(b).Parent() }},
			{"rf_last_eb_blk", 0x28, 8, func(b []byte) uint64 { return AsRefcountBlock(b).LastExtentBlk() }},
			{"rf_count", 0x30, 4, func(b []byte) uint64 { return uint64(AsRefcountBlock(b).Count()) }},
			{"rf_flags", 0x34, 4, func(b []byte) uint64 { return uint64(AsRefcountBlock(b).Flags()) }},
			{"rf_clusters", 0x38, 4, func(b []byte) uint64 { return uint64(AsRefcountBlock(b).Clusters()) }},
			{"rf_cpos", 0x3C, 4, func(b []byte) uint64 { return uint64(AsRefcountBlock(b).Cpos()) }},
			{"rf_generation", 0x40, 4, func(b []byte) uint64 { return uint64(AsRefcountBlock(b).TreeGeneration()) }},
		}},
		{"ocfs2_refcount_block with records", func(b []byte) { put32(b, 0x34, 1) }, []field{
			{"rl_count", 0x80, 2, func(b []byte) uint64 { return uint64(AsRefcountBlock(b).Recs().Count()) }},
			{"rl_used", 0x82, 2, func(b []byte) uint64 { return uint64(AsRefcountBlock(b).Recs().Used()) }},
			{"r_cpos", 0xA0, 8, func(b []byte) uint64 { return AsRefcountBlock(b).Recs().Rec(1).Cpos }},
			{"r_clusters", 0xA8, 4, func(b []byte) uint64 { return uint64(AsRefcountBlock(b).Recs().Rec(1).Clusters) }},
			{"r_refcount", 0xAC, 4, func(b []byte) uint64 { return uint64(AsRefcountBlock(b).Recs().Rec(1).Refcount) }},
		}},
		{"ocfs2_refcount_block with a tree", func(b []byte) { put32(b, 0x34, 2) }, []field{
			{"rf_list", 0x84, 2, func(b []byte) uint64 { return uint64(AsRefcountBlock(b).List().Used()) }},
		}},
		{structure: "quota", fields: []field{
			{"magic", 0x00, 4, func(b []byte) uint64 { magic, _ := QuotaHeader(b); return uint64(magic) }},
			{"version", 0x04, 4, func(b []byte) uint64 { _, version := QuotaHeader(b); return uint64(version) }},
			{"dqi_bgrace", 0x08, 4, func(b []byte) uint64 { return uint64(DecodeQuotaGlobalInfo(b).BlockGrace) }},
			{"dqi_igrace", 0x0C, 4, func(b []byte) uint64 { return uint64(DecodeQuotaGlobalInfo(b).InodeGrace) }},
			{"dqi_syncms", 0x10, 4, func(b []byte) uint64 { return uint64(DecodeQuotaGlobalInfo(b).SyncMS) }},
			{"dqi_blocks", 0x14, 4, func(b []byte) uint64 { return uint64(DecodeQuotaGlobalInfo(b).Blocks) }},
			{"dqi_free_blk", 0x18, 4, func(b []byte) uint64 { return uint64(DecodeQuotaGlobalInfo(b).FreeBlock) }},
			{"dqi_free_entry", 0x1C, 4, func(b []byte) uint64 { return uint64(DecodeQuotaGlobalInfo(b).FreeEntry) }},
			{"local dqi_flags", 0x08, 4, func(b []byte) uint64 { return uint64(DecodeQuotaLocalInfo(b).Flags) }},
			{"local dqi_chunks", 0x0C, 4, func(b []byte) uint64 { return uint64(DecodeQuotaLocalInfo(b).Chunks) }},
			{"local dqi_blocks", 0x10, 4, func(b []byte) uint64 { return uint64(DecodeQuotaLocalInfo(b).Blocks) }},
			{"dqdh_next_free", 0x00, 4, func(b []byte) uint64 { return uint64(AsQuotaLeaf(b).NextFree()) }},
			{"dqdh_prev_free", 0x04, 4, func(b []byte) uint64 { return uint64(AsQuotaLeaf(b).PrevFree()) }},
			{"dqdh_entries", 0x08, 2, func(b []byte) uint64 { return uint64(AsQuotaLeaf(b).Used()) }},
			{"dqb_id", 0x68, 4, func(b []byte) uint64 { return uint64(AsQuotaLeaf(b).Entry(1).ID) }},
			{"dqb_use_count", 0x6C, 4, func(b []byte) uint64 { return uint64(AsQuotaLeaf(b).Entry(1).UseCount) }},
			{"dqb_ihardlimit", 0x70, 8, func(b []byte) uint64 { return AsQuotaLeaf(b).Entry(1).InodeHard }},
			{"dqb_isoftlimit", 0x78, 8, func(b []byte) uint64 { return AsQuotaLeaf(b).Entry(1).InodeSoft }},
			{"dqb_curinodes", 0x80, 8, func(b []byte) uint64 { return AsQuotaLeaf(b).Entry(1).Inodes }},
			{"dqb_bhardlimit", 0x88, 8, func(b []byte) uint64 { return AsQuotaLeaf(b).Entry(1).SpaceHard }},
			{"dqb_bsoftlimit", 0x90, 8, func(b []byte) uint64 { return AsQuotaLeaf(b).Entry(1).SpaceSoft }},
			{"dqb_curspace", 0x98, 8, func(b []byte) uint64 { return AsQuotaLeaf(b).Entry(1).Space }},
			{"dqb_btime", 0xA0, 8, func(b []byte) uint64 { return AsQuotaLeaf(b).Entry(1).SpaceTime }},
			{"dqb_itime", 0xA8, 8, func(b []byte) uint64 { return AsQuotaLeaf(b).Entry(1).InodesTime }},
			{"dqc_free", 0x00, 4, func(b []byte) uint64 { free, _ := QuotaChunk(b); return uint64(free) }},
			{"local dqb_id", 0x18, 8, func(b []byte) uint64 { return quotaChange(b, 1).ID }},
			{"local dqb_spacemod", 0x20, 8, func(b []byte) uint64 { return uint64(quotaChange(b, 1).Space) }},
			{"local dqb_inodemod", 0x28, 8, func(b []byte) uint64 { return uint64(quotaChange(b, 1).Inodes) }},
		}},
		{structure: "o2hb_disk_heartbeat_block", fields: []field{
			{"hb_seq", 0x00, 8, func(b []byte) uint64 { return heartbeat(b).Seq }},
			{"hb_node", 0x08, 1, func(b []byte) uint64 { return uint64(heartbeat(b).Node) }},
			{"hb_cksum", 0x0C, 4, func(b []byte) uint64 { return uint64(heartbeat(b).Checksum) }},
			{"hb_generation", 0x10, 8, func(b []byte) uint64 { return heartbeat(b).Generation }},
			{"hb_dead_ms", 0x18, 4, func(b []byte) uint64 { return uint64(heartbeat(b).DeadMS) }},
		}},
	} {
		for _, f := range s.fields {
			pattern := []byte{0x91, 0x82, 0x73, 0x64, 0xA5, 0xB6, 0xC7, 0xD8}[:f.size]
			want := binary.LittleEndian.Uint64(append(bytes.Clone(pattern), make([]byte, 8-f.size)...))
			for _, fill := range []byte{0x00, 0xFF} {
				b := bytes.Repeat([]byte{fill}, bs)
				if s.fix != nil {
					s.fix(b)
				}
				copy(b[f.off:], pattern)
				if got := f.get(b); got != want {
					t.Errorf("%s %s at %#x, among %#x: got %#x, want %#x", s.structure, f.name, f.off, fill, got, want)
				}
			}
		}
	}
}

// TestJournalOffsets is TestFieldOffsets for the big-endian structures.
func TestJournalOffsets(t *testing.T) {
	super := func(b []byte) JournalSuper { js, _ := DecodeJournalSuper(b); return js }
	for _, f := range []field{
		{"h_blocktype", 0x04, 4, func(b []byte) uint64 { return uint64(super(b).Type) }},
		{"h_sequence", 0x08, 4, func(b []byte) uint64 { return uint64(super(b).Sequence) }},
		{"s_blocksize", 0x0C, 4, func(b []byte) uint64 { return uint64(super(b).BlockSize) }},
		{"s_maxlen", 0x10, 4, func(b []byte) uint64 { return uint64(super(b).MaxLen) }},
		{"s_first", 0x14, 4, func(b []byte) uint64 { return uint64(super(b).First) }},
		{"s_sequence", 0x18, 4, func(b []byte) uint64 { return uint64(super(b).Expected) }},
		{"s_start", 0x1C, 4, func(b []byte) uint64 { return uint64(super(b).Start) }},
		{"s_errno", 0x20, 4, func(b []byte) uint64 { return uint64(uint32(super(b).Errno)) }},
		{"s_feature_compat", 0x24, 4, func(b []byte) uint64 { return uint64(super(b).Compat) }},
		{"s_feature_incompat", 0x28, 4, func(b []byte) uint64 { return uint64(super(b).Incompat) }},
		{"s_feature_ro_compat", 0x2C, 4, func(b []byte) uint64 { return uint64(super(b).ROCompat) }},
		{"s_uuid", 0x30, 8, func(b []byte) uint64 { uuid := super(b).UUID; return binary.BigEndian.Uint64(uuid[:]) }},
		{"s_nr_users", 0x40, 4, func(b []byte) uint64 { return uint64(super(b).Users) }},
	} {
		pattern := []byte{0x91, 0x82, 0x73, 0x64, 0xA5, 0xB6, 0xC7, 0xD8}[:f.size]
		want := binary.BigEndian.Uint64(append(make([]byte, 8-f.size), pattern...))
		for _, fill := range []byte{0x00, 0xFF} {
			b := bytes.Repeat([]byte{fill}, MinBlockSize)
			copy(b[f.off:], pattern)
			if got := f.get(b); got != want {
				t.Errorf("%s at %#x, among %#x: got %#x, want %#x", f.name, f.off, fill, got, want)
			}
		}
	}
}

// TestKindOffsets compares the fields that metadata blocks share with the
// format's table of signatures, check offsets and back pointers.
func TestKindOffsets(t *testing.T) {
	const bs = 1024
	for _, c := range []struct {
		kind                     Kind
		signature                string
		sigOff, check            int
		blkno, generation        int // 0: none
		parent, slot, bit, locat int
	}{
		{KindSuper, "OCFSV2", 0, 0x80, 0x50, 0x60, 0, 0x0C, 0x0E, 0x98},
		{KindInode, "INODE01", 0, 0x80, 0x50, 0x60, 0, 0x0C, 0x0E, 0x98},
		{KindExtentBlock, "EXBLK01", 0, 0x08, 0x18, 0x14, 0, 0x10, 0x12, 0x20},
		{KindGroup, "GROUP01", 0, 0x30, 0x28, 0x10, 0x20, 0, 0, 0},
		{KindDxRoot, "DXDIR01", 0, 0x08, 0x18, 0x14, 0x30, 0x10, 0x12, 0x48},
		{KindDxLeaf, "DXLEAF1", 0, 0x08, 0x10, 0x18, 0, 0, 0, 0},
		{KindXattrBlock, "XATTR01", 0, 0x18, 0x10, 0x0C, 0, 0x08, 0x0A, 0x28},
		{KindRefcountBlock, "REFCNT1", 0, 0x20, 0x10, 0x0C, 0x18, 0x08, 0x0A, 0x48},
		{KindDirBlock, "DIRTRL1", bs - 0x30, bs - 8, bs - 0x18, 0, bs - 0x10, 0, 0, 0},
		{KindBucket, "", 0, 0x08, 0, 0, 0, 0, 0, 0},
		{KindQuotaBlock, "", 0, bs - 8, 0, 0, 0, 0, 0, 0},
	} {
		b := make([]byte, bs)
		if c.signature != "" {
			copy(b[c.sigOff:], c.signature)
			if got := Identify(b); got != c.kind {
				t.Errorf("Identify(%s) = %v", c.signature, got)
			}
		}
		if off, ok := c.kind.CheckOffset(bs); !ok || off != c.check {
			t.Errorf("%v: check at %#x, want %#x", c.kind, off, c.check)
		}
		number := func(name string, off int, size int, get func() (uint64, bool)) {
			t.Helper()
			before := bytes.Clone(b)
			for i := range size {
				b[off+i] = byte(0x81 + i)
			}
			want := binary.LittleEndian.Uint64(append(bytes.Clone(b[off:off+size]), make([]byte, 8-size)...))
			got, ok := get()
			if ok != (off != 0) || ok && got != want {
				t.Errorf("%v %s: got %#x, %v, want %#x at %#x", c.kind, name, got, ok, want, off)
			}
			copy(b, before)
		}
		number("blkno", c.blkno, 8, func() (uint64, bool) { return c.kind.Blkno(b) })
		number("generation", c.generation, 4, func() (uint64, bool) { n, ok := c.kind.Generation(b); return uint64(n), ok })
		number("parent", c.parent, 8, func() (uint64, bool) { return c.kind.Parent(b) })
		number("slot", c.slot, 2, func() (uint64, bool) { n, _, _, ok := c.kind.Suballoc(b); return uint64(n), ok })
		number("bit", c.bit, 2, func() (uint64, bool) { _, n, _, ok := c.kind.Suballoc(b); return uint64(n), ok })
		number("loc", c.locat, 8, func() (uint64, bool) { _, _, n, ok := c.kind.Suballoc(b); return n, ok })
	}
	if got := Identify(make([]byte, bs)); got != KindNone {
		t.Errorf("Identify of zeros = %v", got)
	}
	if got := Identify(nil); got != KindNone {
		t.Errorf("Identify of nothing = %v", got)
	}
}

// A device number, a time before 1970 and a time after 2038 as Linux has them.
func TestDinodeConversions(t *testing.T) {
	b := make([]byte, MinBlockSize)
	put32(b, 0xB8, 0x12345678)
	if major, minor := AsDinode(b).Rdev(); major != 0x456 || minor != 0x12378 {
		t.Errorf("Rdev: %#x, %#x", major, minor)
	}
	put64(b, 0x40, 1<<32+5)
	put32(b, 0x6C, 999999999)
	if got, want := AsDinode(b).Mtime(), time.Unix(1<<32+5, 999999999); !got.Equal(want) {
		t.Errorf("Mtime: %v, want %v", got, want)
	}
	put64(b, 0x30, ^uint64(0))
	if got, want := AsDinode(b).Atime(), time.Unix(-1, 0); !got.Equal(want) {
		t.Errorf("Atime: %v, want %v", got, want)
	}
}

func put16(b []byte, off int, n uint16) { binary.LittleEndian.PutUint16(b[off:], n) }
func put32(b []byte, off int, n uint32) { binary.LittleEndian.PutUint32(b[off:], n) }
func put64(b []byte, off int, n uint64) { binary.LittleEndian.PutUint64(b[off:], n) }

func quotaChange(b []byte, want int) (change QuotaChange) {
	for i, c := range QuotaChanges(b) {
		if i == want {
			return c
		}
	}
	return change
}

func heartbeat(b []byte) Heartbeat { beat, _ := DecodeHeartbeat(b); return beat }
