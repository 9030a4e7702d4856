// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed_test

import (
	"bytes"
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"o2image/blockset"
	"o2image/image"
	"o2image/image/packed"
	"o2image/ocfs2"
)

// headerBytes is a header as the table of the format has it, byte by byte.
var headerBytes = bytes.Join([][]byte{
	{0x5F, 0xD4, 0xA3, 0x72},                // 0x00 hdr_magic
	{0x78, 0x56, 0x34, 0x12},                // 0x04 hdr_timestamp
	[]byte("OCFS2 IMAGE\x00"), {0, 0, 0, 0}, // 0x08 hdr_magic_desc
	{1, 0, 0, 0, 0, 0, 0, 0},          // 0x18 hdr_version
	{0x00, 0x00, 0x80, 0, 0, 0, 0, 0}, // 0x20 hdr_fsblkcnt: 32 GiB
	{0x00, 0x10, 0, 0, 0, 0, 0, 0},    // 0x28 hdr_fsblksz
	{0x21, 0x43, 0x05, 0, 0, 0, 0, 0}, // 0x30 hdr_imgblkcnt
	{0x00, 0x10, 0, 0, 0, 0, 0, 0},    // 0x38 hdr_bmpblksz
	{3, 0, 0, 0, 0, 0, 0, 0},          // 0x40 hdr_superblkcnt
	{0x1B, 0x0E, 0, 0, 0, 0, 0, 0},    // 0x48 hdr_superblocks: 1 GiB
	bytes.Repeat([]byte{0xFF}, 8),     // 4 GiB
	{0xAA, 0xBB, 0xCC, 0, 0, 0, 0, 0}, // 16 GiB
	make([]byte, 24),
}, nil)

func header() *packed.Header {
	return &packed.Header{
		Timestamp:   0x12345678,
		Version:     1,
		Blocks:      1 << 23,
		BlockSize:   4096,
		Stored:      0x54321,
		Superblocks: []uint64{3611, packed.Absent, 0xCCBBAA},
	}
}

func TestHeaderBytes(t *testing.T) {
	got := bytes.Repeat([]byte{0xEE}, packed.HeaderSize+1)
	header().Encode(got)
	if diff := cmp.Diff(append(bytes.Clone(headerBytes), 0xEE), got); diff != "" {
		t.Errorf("Encode (-want +got):\n%s", diff)
	}
	h, err := packed.DecodeHeader(headerBytes)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(header(), h); diff != "" {
		t.Errorf("DecodeHeader (-want +got):\n%s", diff)
	}
}

// change returns a copy of b with other bytes at an offset.
func change(b []byte, off int, other ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[off:], other)
	return b
}

func u64(n uint64) []byte { return le.AppendUint64(nil, n) }

func TestDecodeHeaderIgnores(t *testing.T) {
	tests := map[string][]byte{
		"stale heap in the description": change(headerBytes, 0x14, 1, 2, 3, 4),
		"stale heap in superblocks":     change(headerBytes, 0x60, 9, 9, 9, 9, 9, 9, 9, 9),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			h, err := packed.DecodeHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(header(), h); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	h, err := packed.DecodeHeader(change(headerBytes, 0x40, u64(1000)...))
	if err != nil || len(h.Superblocks) != 6 {
		t.Errorf("1000 superblocks: %+v, %v, want six of them", h, err)
	}
	h, err = packed.DecodeHeader(change(headerBytes, 0x18, u64(0)...))
	if err != nil || h.Version != 0 {
		t.Errorf("version 0: %+v, %v, want it accepted", h, err)
	}
}

func TestDecodeHeaderErrors(t *testing.T) {
	tests := []struct {
		name   string
		b      []byte
		format bool   // image.ErrFormat
		want   string // in the message
	}{
		{"empty", nil, true, ""},
		{"short", headerBytes[:packed.HeaderSize-1], true, ""},
		{"magic", change(headerBytes, 0, 0x5E), true, ""},
		{"magic in the other order", change(headerBytes, 0, 0x72, 0xA3, 0xD4, 0x5F), true, ""},
		{"description", change(headerBytes, 0x0D, '_'), true, ""},
		{"description not ended", change(headerBytes, 0x13, 'S'), true, ""},
		{"version 2", change(headerBytes, 0x18, 2), false, "image version 2 is newer than this program understands"},
		{"version 2^32+1", change(headerBytes, 0x1C, 1), false, "image version 4294967297 is newer"},
		{"block size 0", change(headerBytes, 0x28, u64(0)...), false, "block size is 0, want"},
		{"block size 256", change(headerBytes, 0x28, u64(256)...), false, "block size is 256, want"},
		{"block size 1536", change(headerBytes, 0x28, u64(1536)...), false, "block size is 1536, want"},
		{"block size 8192", change(headerBytes, 0x28, u64(8192)...), false, "block size is 8192, want"},
		{"block size 2^32+4096", change(headerBytes, 0x28, u64(1<<32+4096)...), false, "block size is 4294971392, want"},
		{"bitmap block size 2^40", change(headerBytes, 0x38, u64(1<<40)...), false, "bitmap block size is 1099511627776, want 4096"},
		{"bitmap block size 512", change(headerBytes, 0x38, u64(512)...), false, "bitmap block size is 512, want 4096"},
		{"block count 0", change(headerBytes, 0x20, u64(0)...), false, "volume of 0 blocks"},
		{"block count 1", change(headerBytes, 0x20, u64(1)...), false, "volume of 1 blocks"},
		{"block count 2", change(headerBytes, 0x20, u64(2)...), false, "volume of 2 blocks, want 3 to 8796093022208"},
		{"block count 2^43+1", change(headerBytes, 0x20, u64(1<<43+1)...), false, "volume of 8796093022209 blocks"},
		{"block count 2^60", change(headerBytes, 0x20, u64(1<<60)...), false, "volume of 1152921504606846976 blocks"},
		{"more stored than there are", change(headerBytes, 0x30, u64(1<<23+1)...), false, "8388609 blocks stored of a volume of 8388608"},
		{"image count 2^62", change(headerBytes, 0x30, u64(1<<62)...), false, "4611686018427387904 blocks stored"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := packed.DecodeHeader(tt.b)
			if err == nil || h != nil {
				t.Fatalf("got %+v, %v, want an error alone", h, err)
			}
			if errors.Is(err, image.ErrFormat) != tt.format || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %q, want %q, ErrFormat %v", err, tt.want, tt.format)
			}
		})
	}
}

// TestHeaderBlock has the header block as the package comment lays it out.
func TestHeaderBlock(t *testing.T) {
	v := newVolume(t, 512, 4096, 64)
	opts := packed.LayoutOptions{
		Timestamp: 0x12345678,
		Redaction: image.RedactionPrivate,
		KeyID:     [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
	}
	file, l := pack(t, v, setOf([2]uint64{0, 9}), opts)
	record := bytes.Join([][]byte{
		[]byte("O2IMGREC"),
		{1, 0, 2},
		make([]byte, 5),
		opts.KeyID[:],
		u64(512*10 + 4096),
	}, nil)
	record = le.AppendUint32(record, crc32.ChecksumIEEE(record))
	want := make([]byte, 512)
	copy(want, headerBytes[:0x20])
	copy(want[0x20:], bytes.Join([][]byte{u64(512), u64(512), u64(9), u64(4096)}, nil))
	copy(want[0x80:], record)
	if diff := cmp.Diff(want, file[:512]); diff != "" {
		t.Errorf("header block (-want +got):\n%s", diff)
	}

	r := open(t, file)
	got, ok := r.Record()
	if diff := cmp.Diff(l.Record(), got); diff != "" || !ok {
		t.Errorf("record %v (-want +got):\n%s", ok, diff)
	}
	wantHeader := packed.Header{Timestamp: 0x12345678, Version: 1, Blocks: 512, BlockSize: 512, Stored: 9}
	if diff := cmp.Diff(wantHeader, r.Header()); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestRecordDoubtful(t *testing.T) {
	file, _ := pack(t, newVolume(t, 512, 4096, 64), setOf([2]uint64{0, 9}), packed.LayoutOptions{})
	tests := []struct {
		name string
		file []byte
		ok   bool
	}{
		{"none, as 1.8.7", change(file, 0x80, make([]byte, 0x30)...), false},
		{"other words from the heap", change(file, 0x80, 0xD7, 0x3A, 0x57, 0xE9), false},
		{"redaction changed", change(file, 0x8A, 1), true},
		{"trailer changed", change(file, 0xA5, 1), true},
		{"later version", change(file, 0x88, 2), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec, ok := open(t, tt.file).Record()
			want := packed.Record{Redaction: image.RedactionUnknown}
			if rec != want || ok != tt.ok {
				t.Errorf("got %+v, %v, want %+v, %v", rec, ok, want, tt.ok)
			}
		})
	}
}

// TestSuperblocks checks hdr_superblocks: the number depends on the size of the
// volume alone, the places on what is stored.
func TestSuperblocks(t *testing.T) {
	const absent = packed.Absent
	gib := uint64(1 << 30)
	tests := []struct {
		name     string
		geometry ocfs2.Geometry
		runs     [][2]uint64
		want     []uint64
	}{
		{"1 GiB", ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 1 << 18}, [][2]uint64{{0, 9}}, nil},
		{"a cluster more", ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 1<<18 + 1}, [][2]uint64{{0, 9}}, []uint64{absent}},
		{"stored", ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 1<<18 + 1}, [][2]uint64{{0, 9}, {gib / 4096, 1}}, []uint64{10}},
		{
			"512-byte blocks, 5 GiB, the first inside a run",
			ocfs2.Geometry{BlockBits: 9, ClusterBits: 12, Clusters: 5 << 18},
			[][2]uint64{{0, 100}, {gib/512 - 50, 100}},
			[]uint64{1 + 100 + 50, absent},
		},
		{
			"8 TiB, the last",
			ocfs2.Geometry{BlockBits: 12, ClusterBits: 20, Clusters: 8 << 20},
			[][2]uint64{{0, 300}, {1024 * gib / 4096, 1}},
			[]uint64{absent, absent, absent, absent, absent, 301},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := packed.NewLayout(setOf(tt.runs...), tt.geometry, packed.LayoutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, image.PieceSize)
			l.Fill(image.Piece{Len: len(buf)}, buf)
			h, err := packed.DecodeHeader(buf)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, h.Superblocks); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewLayoutErrors(t *testing.T) {
	g := ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 1000}
	tests := []struct {
		name     string
		set      *blockset.Set
		geometry ocfs2.Geometry
		want     string
	}{
		{"no clusters", setOf(), ocfs2.Geometry{BlockBits: 12, ClusterBits: 12}, "a volume of 0 blocks has no superblock"},
		{"two blocks", setOf(), ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 2}, "a volume of 2 blocks has no superblock"},
		{"behind the end", setOf([2]uint64{0, 3}, [2]uint64{990, 11}), g, "block 1000 lies behind the end of a volume of 1000 blocks"},
		{"far behind", setOf([2]uint64{1 << 62, 1}), g, "lies behind the end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := packed.NewLayout(tt.set, tt.geometry, packed.LayoutOptions{})
			if err == nil || l != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v, want error %q", l, err, tt.want)
			}
		})
	}
}
