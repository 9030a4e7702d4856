// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Block size 512, cluster size 4096: 8 blocks per cluster, 8000 blocks.
var smallVolume = &SuperBlock{
	Geometry:          Geometry{BlockBits: 9, ClusterBits: 12, Clusters: 1000},
	FirstClusterGroup: 8,
	MaxSlots:          4,
}

// extentList builds a list with room for six records.
func extentList(depth uint16, recs ...ExtentRec) ExtentList {
	b := make([]byte, 0x10+6*16)
	put16(b, 0, depth)
	put16(b, 2, 6)
	put16(b, 4, uint16(len(recs)))
	for i, r := range recs {
		at := b[0x10+16*i:]
		put32(at, 0, r.Cpos)
		put32(at, 4, r.Clusters)
		if depth == 0 {
			at[7] = r.Flags
		}
		put64(at, 8, r.Blkno)
	}
	return ExtentList{b}
}

func TestExtentList(t *testing.T) {
	recs := []ExtentRec{{0, 0, 0, 99}, {10, 2, ExtUnwritten, 800}, {12, 65535, ExtRefcounted, 1600}}
	l := extentList(0, recs...)
	var got []ExtentRec
	for i, r := range l.All() {
		if r != l.Rec(i) {
			t.Errorf("All and Rec(%d) differ", i)
		}
		got = append(got, r)
	}
	if diff := cmp.Diff(recs, got); diff != "" {
		t.Errorf("leaf records (-want +got):\n%s", diff)
	}
	if !recs[0].IsEmpty() || recs[1].IsEmpty() || recs[2].End() != 65547 {
		t.Error("IsEmpty or End")
	}
	inner := ExtentRec{Cpos: 1, Clusters: 2523412205, Blkno: 77}
	if got := extentList(1, inner).Rec(0); got != inner {
		t.Errorf("interior record: %+v", got)
	}
	put16(l.b, 4, 500)
	if l.Used() != 500 || l.Len() != 6 || l.Cap() != 6 || len(slices.Collect(indexes(l))) != 6 {
		t.Errorf("used %d, len %d, cap %d", l.Used(), l.Len(), l.Cap())
	}
	for _, i := range []int{-1, 6, 1 << 30} {
		if got := l.Rec(i); got != (ExtentRec{}) {
			t.Errorf("Rec(%d) = %+v", i, got)
		}
	}
	var zero ExtentList
	if zero.Len() != 0 || zero.Cap() != 0 || zero.Depth() != 0 {
		t.Error("the zero list is not empty")
	}
}

func indexes(l ExtentList) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range l.All() {
			if !yield(i) {
				return
			}
		}
	}
}

func TestExtentListFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		tree  Tree
		depth uint16
		recs  []ExtentRec
		want  []string
	}{
		{"no records", TreeData, 0, nil, nil},
		{"neighbours", TreeData, 0, []ExtentRec{{0, 2, 0, 80}, {2, 3, 3, 8}}, nil},
		{"empty first record", TreeData, 0, []ExtentRec{{9, 0, 0, 1}, {2, 3, 0, 8}}, nil},
		{"empty second record", TreeData, 0, []ExtentRec{{0, 1, 0, 8}, {2, 0, 0, 8}}, []string{"l_recs[1].e_leaf_clusters"}},
		{"overlap", TreeData, 0, []ExtentRec{{0, 2, 0, 80}, {1, 3, 0, 8}}, []string{"l_recs[1].e_cpos"}},
		{"hashes may be close", TreeHash, 0, []ExtentRec{{0, 2, 0, 80}, {1, 3, 0, 8}}, nil},
		{"hashes ascend", TreeHash, 0, []ExtentRec{{1, 2, 0, 80}, {1, 3, 0, 8}}, []string{"l_recs[1].e_cpos"}},
		{"not a cluster", TreeData, 0, []ExtentRec{{0, 2, 0, 81}}, []string{"l_recs[0].e_blkno"}},
		{"one block", TreeRefcount, 0, []ExtentRec{{0, 1, 0, 7999}}, nil},
		{"one block only", TreeRefcount, 0, []ExtentRec{{0, 2, 0, 81}}, []string{"l_recs[0].e_leaf_clusters"}},
		{"last cluster", TreeData, 0, []ExtentRec{{0, 1, 0, 7992}}, nil},
		{"behind the end", TreeData, 0, []ExtentRec{{0, 2, 0, 7992}}, []string{"l_recs[0].e_blkno"}},
		{"superblock's cluster", TreeData, 0, []ExtentRec{{0, 1, 0, 0}}, []string{"l_recs[0].e_blkno"}},
		{"32 bits", TreeData, 0, []ExtentRec{{0xFFFFFFFF, 1, 0, 8}}, nil},
		{"more than 32 bits", TreeData, 0, []ExtentRec{{0xFFFFFFFF, 2, 0, 8}}, []string{"l_recs[0].e_cpos"}},
		{"flag", TreeData, 0, []ExtentRec{{0, 1, 4, 8}}, []string{"l_recs[0].e_flags"}},
		{"interior", TreeData, 1, []ExtentRec{{0, 5, 0, 9}, {5, 0xFFFFFFFA, 0, 11}}, nil},
		{"wide hashes", TreeHash, 1, []ExtentRec{{0, 0xFFFFFFFF, 0, 9}, {5, 0xFFFFFFFF, 0, 11}}, nil},
		{"child outside", TreeData, 1, []ExtentRec{{0, 5, 0, 8000}}, []string{"l_recs[0].e_blkno"}},
		{"deepest", TreeData, 16, nil, nil},
		{"too deep", TreeData, 17, nil, []string{"l_tree_depth"}},
	} {
		got := fieldsOf(extentList(c.depth, c.recs...).Faults(smallVolume, c.tree))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestUnion(t *testing.T) {
	for _, c := range []struct {
		flags    uint32
		dyn      uint16
		mode     uint16
		size     uint64
		clusters uint32
		want     Union
	}{
		{0x31, 0, 0, 0, 100, UnionSuper},
		{0xD1, 0, 0x81A4, 0, 0, UnionLocalAlloc},
		{0x4D1, 0, 0x81A4, 0, 0, UnionLocalAlloc},
		{0x491, 1, 0x81A4, 4096, 1, UnionChain},
		{0x811, 0, 0x81A4, 0, 0, UnionTruncateLog},
		{0x1, 1, 0x81A4, 5, 0, UnionInlineData},
		{0x1, 1, 0xA1FF, 5, 0, UnionInlineData},
		{0x1, 0, 0xA1FF, 5, 0, UnionFastSymlink},
		{0x1, 2, 0xA1FF, 5, 0, UnionFastSymlink},
		{0x1, 0, 0xA1FF, 5, 1, UnionExtents},
		{0x1, 0, 0xA1FF, 0, 0, UnionExtents},
		{0x1, 0, 0x21A4, 5, 0, UnionExtents},
		{0x111, 0, 0x81A4, 1 << 20, 256, UnionExtents},
	} {
		b := make([]byte, 512)
		put32(b, 0x2C, c.flags)
		put16(b, 0x76, c.dyn)
		put16(b, 0x28, c.mode)
		put64(b, 0x20, c.size)
		put32(b, 0x14, c.clusters)
		put16(b, 0xC4, 1) // a record, where it is a list
		d := AsDinode(b)
		if got := d.Union(); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
		for _, accessor := range []struct {
			has   bool
			union Union
		}{
			{d.Extents().Cap() > 0, UnionExtents},
			{d.Chains().Cap() > 0, UnionChain},
			{d.InlineData() != nil, UnionInlineData},
			{d.FastSymlink() != nil, UnionFastSymlink},
			{d.LocalAlloc().b != nil, UnionLocalAlloc},
			{d.TruncateLog().Cap() > 0, UnionTruncateLog},
		} {
			if accessor.has != (accessor.union == c.want) {
				t.Errorf("%+v: %v present: %v", c, accessor.union, accessor.has)
			}
		}
	}
}

func TestXattrTail(t *testing.T) {
	for _, c := range []struct {
		dyn, size uint16
		want      int
	}{
		{0x6, 256, 256},
		{0x2, 256, 0},
		{0x6, 0, 0},
		{0x6, 8, 0},
		{0x6, 16, 16},
		{0x6, 24, 0},
		{0x6, 304, 304},
		{0x6, 320, 0},
		{0x6, 0xFFF0, 0},
	} {
		b := make([]byte, 512)
		put16(b, 0x76, c.dyn)
		put16(b, 0x12, c.size)
		d := AsDinode(b)
		_, n := d.InlineDataRange()
		area, ok := d.InlineXattrs()
		if d.XattrTail() != c.want || n != 512-0xC8-c.want || ok != (c.want > 0) || len(area.Bytes()) != c.want {
			t.Errorf("%+v: tail %d, inline data %d, area %d", c, d.XattrTail(), n, len(area.Bytes()))
		}
	}
}

func TestFastSymlink(t *testing.T) {
	b := make([]byte, 512)
	put16(b, 0x28, ModeSymlink)
	put64(b, 0x20, 6)
	copy(b[0xC0:], "target and more")
	if got := AsDinode(b).FastSymlink(); string(got) != "target" {
		t.Errorf("got %q", got)
	}
	put64(b, 0x20, ^uint64(0))
	if d := AsDinode(b); d.FastSymlink() != nil || d.Union() != UnionExtents {
		t.Errorf("%d bytes of an impossible size, %v", len(d.FastSymlink()), d.Union())
	}
}

func TestBitmap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 7, 8, 63, 64, 65, 127, 300, 2048} {
		for _, density := range []int{0, 1, 50, 99, 100} {
			b := make([]byte, (n+7)/8)
			want := make([]bool, n)
			for i := range want {
				if want[i] = r.IntN(100) < density; want[i] {
					b[i/8] |= 1 << (i % 8)
				}
			}
			if n%8 != 0 {
				b[n/8] |= 0xFF << (n % 8) // bits behind the end must not count
			}
			m := newBitmap(b, n)
			got := make([]bool, n)
			last := -1
			count := 0
			for from, to := range m.SetRuns() {
				if from <= last || to <= from {
					t.Fatalf("run %d to %d behind %d", from, to, last)
				}
				for i := from; i < to; i++ {
					got[i] = true
				}
				count += to - from
				last = to
			}
			if !slices.Equal(got, want) || m.Count() != count {
				t.Errorf("%d bits, density %d: SetRuns or Count", n, density)
			}
			for from, to := range m.ClearRuns() {
				for i := from; i < to; i++ {
					got[i] = !got[i]
				}
			}
			if slices.Contains(got, false) {
				t.Errorf("%d bits, density %d: ClearRuns and SetRuns do not fill the bitmap", n, density)
			}
			for i := range n {
				if m.Bit(i) != want[i] {
					t.Errorf("%d bits: Bit(%d)", n, i)
				}
			}
			if m.Bit(-1) || m.Bit(n) {
				t.Errorf("%d bits: a bit outside is set", n)
			}
		}
	}
	if m := newBitmap(make([]byte, 2), 1<<30); m.Len() != 16 {
		t.Errorf("%d bits in two bytes", m.Len())
	}
}

// run is a run of blocks of a group.
type run struct {
	Start uint64
	N     int
}

func runsOf(gd GroupDesc, g Geometry, bpc int) (list []run) {
	for start, n := range gd.Runs(g, bpc) {
		list = append(list, run{start, n})
	}
	return list
}

// group builds a descriptor with a bitmap of size bytes.
func group(blkno uint64, size, bits uint16, recs ...ExtentRec) GroupDesc {
	b := make([]byte, 512)
	copy(b, "GROUP01")
	put16(b, 0x08, size)
	put16(b, 0x0A, bits)
	put64(b, 0x28, blkno)
	if recs != nil {
		copy(b[0x140:], extentList(0, recs...).b)
	}
	return AsGroupDesc(b)
}

func TestGroupRuns(t *testing.T) {
	g := smallVolume.Geometry
	for _, c := range []struct {
		name string
		gd   GroupDesc
		bpc  int
		want []run
	}{
		{"contiguous", group(800, 256, 2048), 8, []run{{800, 2048}}},
		{"up to the volume's end", group(7990, 256, 2048), 8, []run{{7990, 10}}},
		{"outside", group(8000, 256, 2048), 8, nil},
		{"no block", group(0, 256, 2048), 8, nil},
		{"more bits than bytes", group(800, 4, 2048), 8, []run{{800, 32}}},
		{"no bits per cluster", group(800, 256, 2048), 0, nil},
		{"bits that fit no cluster", group(800, 256, 2048), 3, nil},
		{"discontiguous", group(800, 256, 40, ExtentRec{0, 2, 0, 800}, ExtentRec{2, 3, 0, 1600}), 8, []run{{800, 16}, {1600, 24}}},
		{"pieces beyond the bits", group(800, 256, 20, ExtentRec{0, 2, 0, 800}, ExtentRec{2, 3, 0, 1600}), 8, []run{{800, 16}, {1600, 4}}},
		{"gap", group(800, 256, 40, ExtentRec{0, 2, 0, 800}, ExtentRec{3, 3, 0, 1600}), 8, []run{{800, 16}}},
		{"piece outside", group(800, 256, 40, ExtentRec{0, 2, 0, 800}, ExtentRec{2, 3, 0, 7992}), 8, []run{{800, 16}}},
		{"empty piece", group(800, 256, 40, ExtentRec{0, 0, 0, 800}, ExtentRec{0, 3, 0, 1600}), 8, nil},
		{"list in the bitmap's place", group(800, 448, 2048, ExtentRec{0, 2, 0, 800}), 8, []run{{800, 2048}}},
	} {
		got := runsOf(c.gd, g, c.bpc)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		i := 0
		for _, r := range got {
			for k := range r.N {
				if blkno, ok := c.gd.BitBlock(i, g, c.bpc); !ok || blkno != r.Start+uint64(k) {
					t.Fatalf("%s: bit %d is block %d, %v, want %d", c.name, i, blkno, ok, r.Start+uint64(k))
				}
				i++
			}
		}
		for _, outside := range []int{-1, i, i + 1000} {
			if _, ok := c.gd.BitBlock(outside, g, c.bpc); ok {
				t.Errorf("%s: bit %d has a block", c.name, outside)
			}
		}
	}
	if got := runsOf(group(7, 256, 16).At(800), g, 8); !slices.Equal(got, []run{{800, 16}}) {
		t.Errorf("At: %v", got)
	}
}

func TestClusterOfBit(t *testing.T) {
	for _, c := range []struct {
		blkno   uint64
		bit     int
		cluster uint32
		ok      bool
	}{
		{8, 0, 0, true}, // the first group counts from the volume's start
		{8, 999, 999, true},
		{8, 1000, 0, false},
		{8, -1, 0, false},
		{4000, 0, 500, true},
		{4000, 499, 999, true},
		{4000, 500, 0, false},
		{1 << 50, 0, 0, false},
	} {
		got, ok := group(c.blkno, 448, 3584).ClusterOfBit(c.bit, smallVolume)
		if got != c.cluster || ok != c.ok {
			t.Errorf("%+v: got %d, %v", c, got, ok)
		}
	}
}

// dirBytes builds entries: inode, rec_len, name.
func dirBytes(size int, entries ...DirEntry) []byte {
	b := make([]byte, size)
	off := 0
	for _, e := range entries {
		put64(b, off, e.Ino)
		put16(b, off+8, e.RecLen)
		b[off+10] = e.NameLen
		b[off+11] = byte(e.FileType)
		copy(b[off+12:], e.Name)
		off += int(e.RecLen)
	}
	return b
}

func TestDirEntries(t *testing.T) {
	dot := DirEntry{Ino: 20, RecLen: 16, NameLen: 1, FileType: FileDir, Name: []byte(".")}
	hole := DirEntry{RecLen: 24, NameLen: 3, Name: []byte("old")}
	name := DirEntry{Ino: 21, RecLen: 24, NameLen: 4, FileType: FileRegular, Name: []byte("file")}
	for _, c := range []struct {
		name  string
		area  []byte
		want  []DirEntry
		fault string
	}{
		{"nothing", nil, nil, ""},
		{"filled", dirBytes(64, dot, hole, name), []DirEntry{dot, hole, name}, ""},
		{"zeros", make([]byte, 64), nil, "rec_len"},
		{"rest too small", dirBytes(60, dot, hole, DirEntry{Ino: 1, RecLen: 12}), []DirEntry{dot, hole, {Ino: 1, RecLen: 12, Name: nil}}, "rec_len"},
		{"odd length", dirBytes(64, dot, DirEntry{RecLen: 14}), []DirEntry{dot}, "rec_len"},
		{"short length", dirBytes(64, dot, DirEntry{RecLen: 8}), []DirEntry{dot}, "rec_len"},
		{"across the end", dirBytes(64, dot, DirEntry{RecLen: 52}), []DirEntry{dot}, "rec_len"},
		{"name longer than entry", dirBytes(64, dot, DirEntry{RecLen: 16, NameLen: 5}), []DirEntry{dot}, "name_len"},
		{"no room for an entry", make([]byte, 8), nil, "rec_len"},
	} {
		var got []DirEntry
		var fault string
		off := 0
		for e, f := range DirEntries(c.area) {
			if fault != "" {
				t.Errorf("%s: an entry after the fault", c.name)
			}
			if e.Off != off {
				t.Errorf("%s: entry at %d, want %d", c.name, e.Off, off)
			}
			if f != nil {
				fault = f.Field
				continue
			}
			off += int(e.RecLen)
			e.Off = 0
			got = append(got, e)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || fault != c.fault {
			t.Errorf("%s: fault %q, want %q (-want +got):\n%s", c.name, fault, c.fault, diff)
		}
	}
	for _, c := range []struct {
		e    DirEntry
		want []string
	}{
		{name, nil},
		{DirEntry{Name: []byte("un/used")}, nil},
		{DirEntry{Ino: 1, Name: []byte("a")}, []string{"inode"}},
		{DirEntry{Ino: 20}, []string{"name_len"}},
		{DirEntry{Ino: 20, Name: []byte("a/b")}, []string{"name"}},
		{DirEntry{Ino: 20, Name: []byte("a\x00")}, []string{"name"}},
	} {
		if diff := cmp.Diff(c.want, fieldsOf(c.e.Faults(smallVolume))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.e.Name, diff)
		}
	}
	if got := FileType(0xFF).String(); got != "symbolic link" { // only the low three bits count
		t.Errorf("file type 0xFF is a %s", got)
	}
}

func TestHasDirTrailer(t *testing.T) {
	const ecc, indexed = IncompatMetaECC, IncompatIndexedDirs
	for _, c := range []struct {
		features Incompat
		dyn      uint16
		want     bool
	}{
		{0, 0, false},
		{0, 8, false},
		{indexed, 0, false},
		{indexed, 8, true},
		{ecc, 0, true},
		{ecc, 1, false},
		{ecc | indexed, 1, false},
	} {
		b := make([]byte, 512)
		put16(b, 0x76, c.dyn)
		if got := HasDirTrailer(AsDinode(b), &SuperBlock{Incompat: c.features}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// The place of a name among the leaves of an index.
func TestDxLeafBlkno(t *testing.T) {
	g := smallVolume.Geometry
	rec := ExtentRec{Cpos: 100, Clusters: 3, Blkno: 800}
	for _, c := range []struct {
		major, minor uint32
		want         uint64
	}{
		{100, 0, 800},
		{100, 13, 805},
		{101, 7, 815},
		{102, 0, 816},
		{0xFFFFFFFF, 1, 817},
	} {
		if got := DxLeafBlkno(rec, c.major, c.minor, g); got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}

func TestXattrEntry(t *testing.T) {
	b := make([]byte, BucketSize)
	put16(b, 0, 2)
	put16(b, 0x14, 0xF00)
	b[0x16], b[0x17] = 5, 0x81
	put64(b, 0x18, 3)
	copy(b[0xF00:], "short\x00\x00\x00abc")
	put16(b, 0x24, 0xE00)
	b[0x26], b[0x27] = 0, 2
	put64(b, 0x28, 5000)
	put32(b, 0xE00, 2)
	put16(b, 0xE16, 1) // l_tree_depth is at 0xE10
	local, outside := AsBucket(b).Entry(0), AsBucket(b).Entry(1)
	if local.FullName() != "user.short" || !local.Local || string(local.Value) != "abc" || local.Root.b != nil {
		t.Errorf("local: %+v", local)
	}
	if outside.FullName() != "system.posix_acl_access" || outside.Local || outside.Value != nil || outside.Size != 5000 ||
		outside.Root.Clusters() != 2 || outside.Root.List().Cap() != 1 {
		t.Errorf("outside: %+v", outside)
	}
	put16(b, 0x14, 0xFFF) // the last byte
	put64(b, 0x18, ^uint64(0))
	if e := AsBucket(b).Entry(0); len(e.Name) != 1 || len(e.Value) != 0 {
		t.Errorf("cut: %d bytes of name, %d of value", len(e.Name), len(e.Value))
	}
}

func TestSlotMap(t *testing.T) {
	old := []byte{0x05, 0x01, 0xFF, 0xFF, 0x00, 0x00}
	extended := []byte{
		1, 0, 0, 0, 0x05, 0x01, 0, 0,
		0, 0, 0, 0, 9, 0, 0, 0,
		1, 0, 0, 0, 0, 0, 0, 0,
	}
	want := []SlotMapEntry{{0, true, 0x105}, {1, false, 0}, {2, true, 0}}
	for _, slots := range []int{3, 100} {
		if diff := cmp.Diff(want, DecodeSlotMap(old, false, slots)); diff != "" {
			t.Errorf("old (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, DecodeSlotMap(extended, true, slots)); diff != "" {
			t.Errorf("extended (-want +got):\n%s", diff)
		}
	}
	if got := DecodeSlotMap(extended, true, 1); len(got) != 1 {
		t.Errorf("one slot: %v", got)
	}
	if got := DecodeSlotMap(extended, true, -1); len(got) != 0 {
		t.Errorf("less than no slot: %v", got)
	}
}

// A unit that the heartbeat of Linux 6.1 wrote.
func TestHeartbeat(t *testing.T) {
	unit := make([]byte, HeartbeatUnit)
	if _, err := hex.Decode(unit, []byte("0cf153650000000001000000f27136f83ee4b4f40e14bc3030f2000000000000")); err != nil {
		t.Fatal(err)
	}
	got, valid := DecodeHeartbeat(unit)
	want := Heartbeat{Seq: 1700000012, Node: 1, Checksum: 0xF83671F2, Generation: 0x30BC140EF4B4E43E, DeadMS: 62000}
	if diff := cmp.Diff(want, got); diff != "" || !valid {
		t.Errorf("valid %v (-want +got):\n%s", valid, diff)
	}
	unit[100] = 1
	if _, valid := DecodeHeartbeat(unit); valid {
		t.Error("the checksum does not cover the whole unit")
	}
	if got, valid := DecodeHeartbeat(make([]byte, HeartbeatUnit)); !valid || got != (Heartbeat{}) {
		t.Errorf("zeros: %+v, %v", got, valid)
	}
	if _, valid := DecodeHeartbeat(unit[:31]); valid {
		t.Error("half a unit is valid")
	}
}

func TestJournalTags(t *testing.T) {
	header := []byte{0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 1, 0, 0, 0, 7}
	uuid := bytes.Repeat([]byte{0xEE}, 16)
	narrow := slices.Concat(header,
		[]byte{0, 0, 0, 5, 0, 0, 0, 0}, uuid,
		[]byte{0, 0, 1, 0, 0xAB, 0xCD, 0, 3},
		[]byte{0, 0, 0, 9, 0, 0, 0, 10}, make([]byte, 40))
	wide := slices.Concat(header,
		[]byte{0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1}, uuid,
		[]byte{0, 0, 0, 6, 0, 0, 0, 2, 0, 0, 0, 0},
		[]byte{0, 0, 0, 7, 0, 0, 0, 2})
	for _, c := range []struct {
		name string
		b    []byte
		wide bool
		want []JournalTag
	}{
		{"narrow", narrow, false, []JournalTag{{5, 0}, {256, 3}, {9, 10}}},
		{"wide, cut", wide, true, []JournalTag{{1<<32 | 5, 0}, {6, 2}}},
		{"header only", header, false, nil},
		{"nothing", nil, true, nil},
	} {
		var got []JournalTag
		for i, tag := range JournalTags(c.b, c.wide) {
			if i != len(got) {
				t.Errorf("%s: tag %d is number %d", c.name, len(got), i)
			}
			got = append(got, tag)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if h, ok := DecodeJournalHeader(narrow); !ok || h != (JournalHeader{JournalDescriptor, 7}) {
		t.Errorf("header: %+v, %v", h, ok)
	}
	if _, ok := DecodeJournalHeader([]byte("INODE01\x00")); ok {
		t.Error("an inode is a log block")
	}
}

func TestJournalRevokes(t *testing.T) {
	block := func(count byte) []byte {
		return []byte{
			0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 5, 0, 0, 0, 7,
			0, 0, 0, count, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4,
		}
	}
	for _, c := range []struct {
		count byte
		wide  bool
		want  []uint64
	}{
		{0, false, nil},
		{16, false, nil},
		{28, false, []uint64{1, 2, 3}},
		{255, false, []uint64{1, 2, 3, 4}},
		{31, true, []uint64{1<<32 | 2}},
		{32, true, []uint64{1<<32 | 2, 3<<32 | 4}},
	} {
		if got := slices.Collect(JournalRevokes(block(c.count), c.wide)); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestQuotaRefIndex(t *testing.T) {
	// At block size 512 a block holds 126 references and the tree has 5 levels.
	const id = 3*126*126*126*126 + 5*126*126*126 + 7*126*126 + 11*126 + 13
	for level, want := range []int{3, 5, 7, 11, 13} {
		if got := QuotaRefIndex(id, level, 512); got != want {
			t.Errorf("level %d: got %d, want %d", level, got, want)
		}
	}
}

func TestQuotaBlocks(t *testing.T) {
	b := bytes.Repeat([]byte{0xFF}, 512)
	put32(b, 4, 0)
	refs := 0
	for i, ref := range QuotaRefs(b) {
		if i == 1 || ref != 0xFFFFFFFF {
			t.Errorf("reference %d is %#x", i, ref)
		}
		refs++
	}
	if refs != 125 { // one is none
		t.Errorf("%d references", refs)
	}
	leaf := make([]byte, 512)
	put64(leaf, 0x10+88+0x30, 4096)
	for i, e := range AsQuotaLeaf(leaf).All() {
		if i != 1 || e != (QuotaEntry{Space: 4096}) {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	chunk := make([]byte, 512)
	put32(chunk, 0, 20)
	chunk[4] = 0b101
	if free, used := QuotaChunk(chunk); free != 20 || used.Count() != 2 || !used.Bit(2) || used.Len() != 500*8 {
		t.Errorf("chunk: %d free, %d used of %d", free, used.Count(), used.Len())
	}
	if got := QuotaChunkBlocks(512); got != 190 { // 4000 bits, 21 entries in a block
		t.Errorf("QuotaChunkBlocks = %d", got)
	}
}
