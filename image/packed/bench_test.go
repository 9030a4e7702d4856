// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"o2image/blockset"
	"o2image/image"
	"o2image/image/packed"
	"o2image/ocfs2"
)

// scattered is a set with runs of 8 blocks in every 64, over n blocks.
func scattered(n uint64) *blockset.Set {
	b := blockset.NewBuilder()
	b.Add(0, 3, 0)
	for start := uint64(64); start+8 <= n; start += 64 {
		b.Add(start, 8, 0)
	}
	return b.Seal()
}

// BenchmarkFill makes pieces of the bitmap of 16 TiB of 4096-byte blocks.
func BenchmarkFill(b *testing.B) {
	g := ocfs2.Geometry{BlockBits: 12, ClusterBits: 20, Clusters: 16 << 20}
	set := scattered(1 << 26)
	l, err := packed.NewLayout(set, g, packed.LayoutOptions{})
	if err != nil {
		b.Fatal(err)
	}
	off := int64(1+set.Count())*4096/image.PieceSize*image.PieceSize + image.PieceSize
	buf := make([]byte, image.PieceSize)
	b.SetBytes(image.PieceSize)
	for b.Loop() {
		clear(buf)
		l.Fill(image.Piece{Off: off, Len: len(buf)}, buf)
	}
}

// BenchmarkReadAt reads single blocks of an image in memory, in any order.
func BenchmarkReadAt(b *testing.B) {
	v := newVolume(b, 512, 4096, 64*32768/8)
	set := scattered(v.Blocks())
	file, _ := pack(b, v, set, packed.LayoutOptions{})
	r := open(b, file)
	rnd := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 512)
	b.ReportAllocs()
	for b.Loop() {
		n, _ := set.Select(rnd.Uint64N(set.Count()))
		if _, err := r.ReadAt(buf, int64(n)*512); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens an image whose bitmap has 16 MiB: 512 GiB of 4096-byte
// blocks.
func BenchmarkOpen(b *testing.B) {
	g := ocfs2.Geometry{BlockBits: 12, ClusterBits: 20, Clusters: 1 << 19}
	l, err := packed.NewLayout(setOf([2]uint64{0, 9}, [2]uint64{1 << 26, 1}), g, packed.LayoutOptions{})
	if err != nil {
		b.Fatal(err)
	}
	file := build(b, &volume{g, content{size: int64(g.Bytes()), super: superBlock(g, 2)}}, l)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := packed.Open(bytes.NewReader(file), int64(len(file))); err != nil {
			b.Fatal(err)
		}
	}
}
