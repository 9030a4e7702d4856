// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCapacities(t *testing.T) {
	var file struct{ Geometry []map[string]int }
	readVectors(t, "geometry.json", &file)
	if len(file.Geometry) != 4 {
		t.Fatalf("geometry.json: %d block sizes", len(file.Geometry))
	}
	for _, want := range file.Geometry {
		bs := want["block_size"]
		blank := func(offs ...int) []byte { // an empty block with a 1 at some offsets
			b := make([]byte, bs)
			for _, off := range offs {
				b[off] = 1
			}
			return b
		}
		inode := func(flags uint32, dyn, xattrSize uint16) Dinode {
			b := blank()
			put32(b, 0x2C, flags)
			put16(b, 0x76, dyn)
			put16(b, 0x12, xattrSize)
			return AsDinode(b)
		}
		discontig := blank(0x09, 0x144) // bg_size 256, one record
		_, inlineLen := inode(1, 1, 0).InlineDataRange()
		full := blank()
		put16(full, 0xC4, 0xFFFF)
		put32(full, 0x2C, 0xD1)
		put32(full, 0xBC, 1<<31)
		global := bytes.Repeat([]byte{0xFF}, bs)
		changes := 0
		for range QuotaChanges(blank()) {
			changes++
		}
		geometry := Geometry{BlockBits: log2(bs), ClusterBits: 12, Clusters: 1}
		got := map[string]int{
			"block_size":            bs,
			"extent_recs_per_inode": inode(1, 0, 256).Extents().Cap(),
			"extent_recs_per_inode_with_256_byte_xattr": inode(1, 6, 256).Extents().Cap(),
			"extent_recs_per_extent_block":              AsExtentBlock(blank()).List().Cap(),
			"chain_recs_per_inode":                      inode(0x491, 0, 0).Chains().Cap(),
			"truncate_recs_per_inode":                   inode(0x811, 0, 0).TruncateLog().Cap(),
			"local_alloc_bitmap_bytes":                  AsDinode(full).LocalAlloc().Bitmap().Len() / 8,
			"inline_data_max":                           inlineLen,
			"global_bitmap_group_bits":                  geometry.GroupBits(),
			"global_bitmap_bg_size":                     AsGroupDesc(global).Len() / 8,
			"discontig_bg_list_recs":                    AsGroupDesc(discontig).Extents().Cap(),
			"dx_entries_per_root":                       AsDxRoot(blank(0x2C)).Entries().Cap(),
			"dx_extent_recs_per_root":                   AsDxRoot(blank()).List().Cap(),
			"dx_entries_per_leaf":                       AsDxLeaf(blank()).Entries().Cap(),
			"xattr_tree_recs":                           AsXattrBlock(blank(0x20)).Tree().Cap(),
			"refcount_recs":                             AsRefcountBlock(blank()).Recs().Cap(),
			"refcount_list_recs":                        AsRefcountBlock(func() []byte { b := blank(); b[0x34] = 2; return b }()).List().Cap(),
			"blocks_per_xattr_bucket":                   int(geometry.BucketBlocks()),
			"dir_trailer_offset":                        len(DirArea(blank(), true)),
			"quota_global_refs_per_block":               quotaRefsPerBlock(bs),
			"quota_global_tree_depth":                   QuotaTreeDepth(bs),
			"quota_global_entries_per_leaf":             AsQuotaLeaf(blank()).Cap(),
			"quota_local_entries_per_block":             changes,
		}
		delete(want, "suballoc_group_bytes") // a choice of the allocator, not a limit of a structure
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("block size %d (-want +got):\n%s", bs, diff)
		}
		if got := QuotaLocalEntriesPerBlock(bs); got != changes {
			t.Errorf("QuotaLocalEntriesPerBlock(%d) = %d, want %d", bs, got, changes)
		}
	}
}

func log2(n int) (bits uint8) {
	for ; n > 1; n /= 2 {
		bits++
	}
	return bits
}

func TestGeometry(t *testing.T) {
	g := Geometry{BlockBits: 9, ClusterBits: 20, Clusters: 0xFFFFFFFF}
	if g.BlocksPerCluster() != 2048 || g.Blocks() != 0xFFFFFFFF*2048 || g.Bytes() != 0xFFFFFFFF<<20 {
		t.Errorf("largest volume: %d, %d, %d", g.BlocksPerCluster(), g.Blocks(), g.Bytes())
	}
	if got := g.ClusterBlock(0xFFFFFFFE); got != 0xFFFFFFFE*2048 {
		t.Errorf("ClusterBlock: %d", got)
	}
	if got := g.BlockCluster(0xFFFFFFFE*2048 + 2047); got != 0xFFFFFFFE {
		t.Errorf("BlockCluster: %d", got)
	}
	g = Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 100}
	for _, c := range []struct {
		start, n uint64
		want     bool
	}{
		{0, 1, false},
		{1, 1, false},
		{2, 1, true},
		{2, 98, true},
		{2, 99, false},
		{99, 1, true},
		{99, 2, false},
		{100, 0, true},
		{100, 1, false},
		{101, 0, false},
		{50, ^uint64(0), false},
		{^uint64(0), 2, false},
	} {
		if got := g.Contains(c.start, c.n); got != c.want {
			t.Errorf("Contains(%d, %d) = %v", c.start, c.n, got)
		}
	}
}

// Where mkfs.ocfs2 puts the groups of the global bitmap.
func TestGroupPlaces(t *testing.T) {
	for _, c := range []struct {
		g      Geometry
		blknos []uint64
	}{
		{Geometry{12, 12, 32256}, []uint64{3}},
		{Geometry{12, 12, 32257}, []uint64{3, 32256}},
		{Geometry{9, 12, 3584*2 + 1}, []uint64{8, 3584 * 8, 3584 * 2 * 8}},
		{Geometry{11, 16, 100}, []uint64{32}},
		{Geometry{12, 20, 32257}, []uint64{256, 32256 * 256}},
	} {
		var got []uint64
		for i := range c.g.Groups() {
			got = append(got, c.g.GroupBlkno(i))
		}
		if !slices.Equal(got, c.blknos) {
			t.Errorf("%+v: got %v, want %v", c.g, got, c.blknos)
		}
	}
}

func TestBackupBlknos(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		bytes uint64
		want  []uint64 // bytes
	}{
		{gib / 2, nil},
		{gib, nil},
		{gib + 4096, []uint64{gib}},
		{4 * gib, []uint64{gib}},
		{2048 * gib, []uint64{gib, 4 * gib, 16 * gib, 64 * gib, 256 * gib, 1024 * gib}},
	} {
		for bits := uint8(9); bits <= 12; bits++ {
			g := Geometry{BlockBits: bits, ClusterBits: 12, Clusters: uint32(c.bytes >> 12)}
			var got []uint64
			for _, blkno := range BackupBlknos(g) {
				got = append(got, blkno<<bits)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%d bytes, block bits %d: got %v, want %v", c.bytes, bits, got, c.want)
			}
		}
	}
}

type hashVectors struct {
	Dir []struct {
		Seed  [4]hexNumber
		Name  hexBytes `json:"name_hex"`
		Major hexNumber
		Minor hexNumber
	} `json:"dx_name_hash"`
	Xattr []struct {
		UUIDHash hexNumber `json:"uuid_hash"`
		Name     string
		Hash     hexNumber
	} `json:"xattr_name_hash"`
	UUID []struct {
		UUID hexBytes
		Hash hexNumber `json:"s_uuid_hash"`
	} `json:"uuid_hash"`
}

func TestHashes(t *testing.T) {
	var v hashVectors
	readVectors(t, "hashes.json", &v)
	if len(v.Dir) == 0 || len(v.Xattr) == 0 || len(v.UUID) == 0 {
		t.Fatal("hashes.json: empty section")
	}
	lengths := map[int]bool{}
	for _, c := range v.Dir {
		sb := &SuperBlock{UUIDHash: uint32(c.Seed[3])}
		for i := range sb.DxSeed {
			sb.DxSeed[i] = uint32(c.Seed[i])
		}
		major, minor := sb.DirHash(c.Name, false)
		if major != uint32(c.Major) || minor != uint32(c.Minor) {
			t.Errorf("DirHash(%q) = %#x, %#x, want %#x, %#x", c.Name, major, minor, c.Major, c.Minor)
		}
		ascii := !slices.ContainsFunc(c.Name, func(b byte) bool { return b >= 0x80 })
		if umajor, uminor := sb.DirHash(c.Name, true); ascii != (umajor == major && uminor == minor) {
			t.Errorf("DirHash(%q): unsigned bytes give %#x, %#x", c.Name, umajor, uminor)
		}
		lengths[len(c.Name)] = true
	}
	if longest := slices.Max(slices.Collect(maps.Keys(lengths))); longest != 255 {
		t.Errorf("longest name has %d bytes", longest)
	}
	for _, c := range v.Xattr {
		if got := XattrHash([]byte(c.Name), uint32(c.UUIDHash), false); got != uint32(c.Hash) {
			t.Errorf("XattrHash(%q) = %#x, want %#x", c.Name, got, c.Hash)
		}
	}
	for _, c := range v.UUID {
		if got := UUIDHash([16]byte(c.UUID)); got != uint32(c.Hash) {
			t.Errorf("UUIDHash(%x) = %#x, want %#x", c.UUID, got, c.Hash)
		}
	}
}
