// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package upstreamset

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The volumes in testdata were filled by a Linux 6.1 kernel. Paths and inodes
// in these tests are those of their "tree" in volumes.json.
const (
	volume512  = "volume-512.img.gz"
	volume4096 = "volume-4096.img.gz"
)

// unpack returns the volume of that name in testdata.
func unpack(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func compute(t testing.TB, volume []byte, o Options) *Result {
	t.Helper()
	set, err := Compute(bytes.NewReader(volume), o)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestVectors compares with the ranges that volumes.json gives as those of
// o2image 1.8.7.
func TestVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/volumes.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Volumes []struct {
			File      string
			BlockSize int `json:"block_size"`
			Blocks    uint64
			Upstream  struct {
				MarkedRanges [][2]uint64 `json:"marked_ranges_start_count"`
			}
		}
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors.Volumes {
		t.Run(v.File, func(t *testing.T) {
			t.Parallel()
			want := &Result{BlockSize: v.BlockSize, Blocks: v.Blocks}
			for _, r := range v.Upstream.MarkedRanges {
				want.Runs = append(want.Runs, Run{r[0], r[1]})
			}
			got := compute(t, unpack(t, v.File), Options{})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestMisread gives a fast symlink of five bytes inline attributes: its fifth
// byte is then a number of records.
func TestMisread(t *testing.T) {
	t.Parallel()
	const link = 1566
	b := unpack(t, volume4096)
	sound := compute(t, b, Options{})
	fixed := compute(t, b, Options{Fixed: true})
	volumeBytes{b, 4096}.at(link)[0x76] |= dynHasXattr | dynInlineXattr
	le.PutUint16(volumeBytes{b, 4096}.at(link)[0x12:], 256)

	sound.Misread = []uint64{link}
	if diff := cmp.Diff(sound, compute(t, b, Options{})); diff != "" {
		t.Errorf("upstream: %s", diff)
	}
	if diff := cmp.Diff(fixed, compute(t, b, Options{Fixed: true})); diff != "" {
		t.Errorf("fixed: %s", diff)
	}
}

func TestSubtract(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		a, b, want []Run
	}{
		{"nothing from nothing", nil, nil, nil},
		{"nothing taken", []Run{{3, 4}}, nil, []Run{{3, 4}}},
		{"all taken", []Run{{3, 4}, {10, 1}}, []Run{{0, 20}}, nil},
		{"a hole", []Run{{3, 4}}, []Run{{4, 2}}, []Run{{3, 1}, {6, 1}}},
		{"both ends", []Run{{3, 4}}, []Run{{1, 3}, {6, 5}}, []Run{{4, 2}}},
		{"neighbours", []Run{{3, 4}}, []Run{{1, 2}, {7, 5}}, []Run{{3, 4}}},
		{"one hole for two runs", []Run{{1, 4}, {6, 4}}, []Run{{3, 5}}, []Run{{1, 2}, {8, 2}}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, subtract(tt.a, tt.b)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// TestUnsound damages one structure of a volume at a time.
func TestUnsound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		damage func(v volumeBytes)
		want   string // in the error
	}{
		{"no superblock", func(v volumeBytes) { v.put(2, 0, 0) }, "superblock: none found"},
		{"block size", func(v volumeBytes) { v.put(2, 0xF8, 9) }, "superblock: block size bits 9"},
		{"cluster size", func(v volumeBytes) { v.put(2, 0xFC, 40) }, "superblock: cluster size bits 40"},
		{"first group behind the end", func(v volumeBytes) { v.put(2, 0x10A, 0xFF) }, "superblock: first cluster group"},
		{"a slot without allocator", func(v volumeBytes) { v.put(2, 0x100, 2) }, "no inode_alloc:0001"},
		{"system directory not an inode", func(v volumeBytes) { v.put(2, 0xF0, 100) }, "system directory 100: block 100: signature"},
		{"global allocator overwritten", func(v volumeBytes) { v.put(8, 0, 0) }, "block 8: signature"},
		{"inode overwritten", func(v volumeBytes) { v.put(1564, 0, 0) }, "block 1564: signature"},
		{"depth", func(v volumeBytes) { v.put(1726, 0xC0, 200) }, "inode 1726: extent list: depth 200"},
		{"records", func(v volumeBytes) { v.put(1726, 0xC4, 250) }, "inode 1726: extent list: 250 records"},
		{"extent behind the end", func(v volumeBytes) { v.put(1726, 0xDA, 1) }, "inode 1726: extent list: blocks"},
		{"index root", func(v volumeBytes) { v.put(7709, 0, 0) }, "block 7709: signature"},
		{"attribute block", func(v volumeBytes) { v.put(7708, 0, 0) }, "block 7708: signature"},
		{"inline attributes", func(v volumeBytes) { v.put(1568, 0x13, 0x10) }, "inode 1568: inline attributes of"},
		{"group in a circle", func(v volumeBytes) { copy(v.at(7706)[0x18:0x20], v.at(7706)[0x28:0x30]) }, "group descriptor 7706: found twice"},
		{"bits of a group", func(v volumeBytes) { v.put(7706, 0x0B, 0x20) }, "bits in a bitmap of"},
	}
	sound := unpack(t, volume4096)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			damaged := bytes.Clone(sound)
			tt.damage(volumeBytes{damaged, 4096})
			set, err := Compute(bytes.NewReader(damaged), Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || set != nil {
				t.Errorf("got %v, %v, want an error with %q", set, err, tt.want)
			}
		})
	}
}

// volumeBytes is a volume in memory.
type volumeBytes struct {
	b         []byte
	blockSize int
}

// at returns block n.
func (v volumeBytes) at(n int) []byte {
	return v.b[n*v.blockSize : (n+1)*v.blockSize]
}

// put writes bytes into block n.
func (v volumeBytes) put(n, offset int, b ...byte) {
	copy(v.at(n)[offset:], b)
}

// patched is a volume some bytes of which are replaced.
type patched struct {
	*bytes.Reader
	at    int64
	patch []byte
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.Reader.ReadAt(b, off)
	for i, c := range p.patch {
		if k := p.at + int64(i) - off; k >= 0 && k < int64(n) {
			b[k] = c
		}
	}
	return n, err
}

// FuzzCompute changes bytes of the metadata of a sound volume. What comes out
// must be a well-formed set or an error.
func FuzzCompute(f *testing.F) {
	volume := unpack(f, volume512)
	for _, block := range []int{2, 8, 16, 17, 20, 8744, 8752, 10912, 10952, 8747, 8749} {
		f.Add(uint16(block), uint16(0xC0), []byte{1, 0, 0xFF, 0xFF, 0xFF, 0xFF})
	}
	f.Fuzz(func(t *testing.T, block, offset uint16, patch []byte) {
		at := int64(block)*512 + int64(offset%512)
		r := patched{bytes.NewReader(volume), at, patch[:min(len(patch), 64)]}
		for _, o := range []Options{{}, {Fixed: true}} {
			set, err := Compute(r, o)
			if err != nil {
				if set != nil {
					t.Fatal("a set and an error")
				}
				continue
			}
			next := uint64(0)
			for _, run := range set.Runs {
				if run.Len == 0 || next > 0 && run.Start <= next || run.Start+run.Len > set.Blocks {
					t.Fatalf("run %v behind block %d of %d", run, next, set.Blocks)
				}
				next = run.Start + run.Len
			}
		}
	})
}
