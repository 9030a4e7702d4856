// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package raw_test

import (
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"o2image/blockset"
	"o2image/image"
	"o2image/image/raw"
	"o2image/ocfs2"
)

const mib = 1 << 20

func setOf(runs ...[2]uint64) *blockset.Set {
	b := blockset.NewBuilder()
	for _, r := range runs {
		b.Add(r[0], r[1], uint8(r[0]%2))
	}
	return b.Seal()
}

// runsOf gives the blocks of a set in the form that a layout takes.
func runsOf(set *blockset.Set) func() iter.Seq2[image.Run, error] {
	return func() iter.Seq2[image.Run, error] {
		return func(yield func(image.Run, error) bool) {
			for start, n := range set.Spans() {
				if !yield(image.Run{Start: start, Len: n}, nil) {
					return
				}
			}
		}
	}
}

// pieces returns all pieces of a layout.
func pieces(t interface{ Fatal(args ...any) }, l image.Layout) []image.Piece {
	var list []image.Piece
	for p, err := range l.Pieces() {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// places returns pieces without their segments.
func places(list []image.Piece) []image.Piece {
	var bare []image.Piece
	for _, p := range list {
		bare = append(bare, image.Piece{Off: p.Off, Len: p.Len})
	}
	return bare
}

// spans returns the runs of a set, whatever their tags.
func spans(set *blockset.Set) [][2]uint64 {
	var list [][2]uint64
	for start, n := range set.Spans() {
		list = append(list, [2]uint64{start, n})
	}
	return list
}

func TestPieces(t *testing.T) {
	g := ocfs2.Geometry{BlockBits: 12, ClusterBits: 14, Clusters: 10*64 + 5} // 10 MiB and 20 blocks
	tests := []struct {
		name string
		set  *blockset.Set
		want []image.Piece
	}{
		{"empty", setOf(), nil},
		{"one block", setOf([2]uint64{2, 1}), []image.Piece{{Off: 0, Len: mib}}},
		{"two in a piece", setOf([2]uint64{2, 1}, [2]uint64{255, 1}), []image.Piece{{Off: 0, Len: mib}}},
		{"across two", setOf([2]uint64{255, 2}), []image.Piece{{Off: 0, Len: mib}, {Off: mib, Len: mib}}},
		{
			"several runs across", setOf([2]uint64{200, 60}, [2]uint64{300, 300}),
			[]image.Piece{{Off: 0, Len: mib}, {Off: mib, Len: mib}, {Off: 2 * mib, Len: mib}},
		},
		{"a gap", setOf([2]uint64{0, 1}, [2]uint64{9 * 256, 1}), []image.Piece{{Off: 0, Len: mib}, {Off: 9 * mib, Len: mib}}},
		{"the last, shorter", setOf([2]uint64{2560, 20}), []image.Piece{{Off: 10 * mib, Len: 20 * 4096}}},
		{"across the end of the volume", setOf([2]uint64{2579, 2000}), []image.Piece{{Off: 10 * mib, Len: 20 * 4096}}},
		{"behind the end", setOf([2]uint64{2580, 1}, [2]uint64{1 << 62, 1 << 62}), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := raw.NewLayout(g, runsOf(tt.set))
			if want := int64((10*64 + 5) * 16384); l.Size() != want {
				t.Errorf("%d bytes, want %d", l.Size(), want)
			}
			if diff := cmp.Diff(tt.want, places(pieces(t, l))); diff != "" {
				t.Errorf("pieces (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSegments(t *testing.T) {
	g := ocfs2.Geometry{BlockBits: 9, ClusterBits: 12, Clusters: 256 + 1} // 1 MiB and 8 blocks
	l := raw.NewLayout(g, runsOf(setOf([2]uint64{0, 3}, [2]uint64{3, 2}, [2]uint64{2040, 10}, [2]uint64{2055, 100})))
	want := []image.Piece{
		{Off: 0, Len: mib, Segments: []image.Segment{{At: 0, Blkno: 0, Count: 5}, {At: 2040 * 512, Blkno: 2040, Count: 8}}},
		{Off: mib, Len: 4096, Segments: []image.Segment{{At: 0, Blkno: 2048, Count: 2}, {At: 7 * 512, Blkno: 2055, Count: 1}}},
	}
	if diff := cmp.Diff(want, pieces(t, l)); diff != "" {
		t.Errorf("pieces (-want +got):\n%s", diff)
	}
	for _, p := range want {
		buf := make([]byte, p.Len)
		l.Fill(p, buf)
		if diff := cmp.Diff(make([]byte, p.Len), buf); diff != "" {
			t.Errorf("Fill wrote to %+v:\n%s", p, diff)
		}
	}
}

// TestUnreadableRuns wants the error of the set, after the pieces before it.
func TestUnreadableRuns(t *testing.T) {
	broken := errors.New("broken")
	l := raw.NewLayout(ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 1000}, func() iter.Seq2[image.Run, error] {
		return func(yield func(image.Run, error) bool) {
			_ = yield(image.Run{Start: 2, Len: 1}, nil) && yield(image.Run{Start: 300, Len: 1}, nil) && yield(image.Run{}, broken)
		}
	})
	var offs []int64
	var last error
	for p, err := range l.Pieces() {
		offs, last = append(offs, p.Off), err
	}
	if !slices.Equal(offs, []int64{0, 0}) || !errors.Is(last, broken) {
		t.Errorf("pieces at %v, then %v", offs, last)
	}
}

// TestHuge lays out a volume of 4 PiB with two blocks: the pieces between are
// not looked at one by one.
func TestHuge(t *testing.T) {
	const blocks = (1<<32 - 1) * 2048
	l := raw.NewLayout(ocfs2.Geometry{BlockBits: 9, ClusterBits: 20, Clusters: 1<<32 - 1}, runsOf(setOf([2]uint64{2, 1}, [2]uint64{blocks - 1, 1})))
	want := []image.Piece{
		{Off: 0, Len: mib, Segments: []image.Segment{{At: 2 * 512, Blkno: 2, Count: 1}}},
		{Off: (1<<32 - 2) * mib, Len: mib, Segments: []image.Segment{{At: mib - 512, Blkno: blocks - 1, Count: 1}}},
	}
	if diff := cmp.Diff(want, pieces(t, l)); diff != "" {
		t.Errorf("pieces (-want +got):\n%s", diff)
	}
}

// TestEveryBlockOnce wants every block of a random set in exactly one segment,
// at its own offset, and no piece without a segment.
func TestEveryBlockOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := ocfs2.Geometry{
			BlockBits:   uint8(rapid.IntRange(9, 12).Draw(t, "block bits")),
			ClusterBits: uint8(rapid.IntRange(12, 20).Draw(t, "cluster bits")),
			Clusters:    rapid.Uint32Range(1, 1000).Draw(t, "clusters"),
		}
		b := blockset.NewBuilder()
		for range rapid.IntRange(0, 40).Draw(t, "runs") {
			start := rapid.Uint64Range(0, g.Blocks()-1).Draw(t, "start")
			b.Add(start, rapid.Uint64Range(1, min(5000, g.Blocks()-start)).Draw(t, "length"), uint8(start%3))
		}
		set := b.Seal()
		l := raw.NewLayout(g, runsOf(set))
		seen := blockset.NewBuilder()
		count := uint64(0)
		next := int64(0)
		for _, p := range pieces(t, l) {
			if p.Off < next || p.Off%mib != 0 || int64(p.Len) != min(mib, l.Size()-p.Off) {
				t.Fatalf("piece %+v behind byte %d of %d", p, next, l.Size())
			}
			next = p.Off + int64(p.Len)
			if len(p.Segments) == 0 {
				t.Fatalf("piece %+v without a block", p)
			}
			for _, s := range p.Segments {
				if p.Off+int64(s.At) != int64(s.Blkno)<<g.BlockBits || s.At+s.Count<<g.BlockBits > p.Len {
					t.Fatalf("segment %+v in piece %+v", s, p)
				}
				seen.Add(s.Blkno, uint64(s.Count), 0)
				count += uint64(s.Count)
			}
		}
		if count != set.Count() {
			t.Fatalf("%d blocks, want %d", count, set.Count())
		}
		if diff := cmp.Diff(spans(set), spans(seen.Seal())); diff != "" {
			t.Fatalf("blocks (-want +got):\n%s", diff)
		}
	})
}
