// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockset_test

import (
	"cmp"
	"encoding/binary"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"o2image/blockset"
)

type span struct{ Start, Len uint64 }

func spans(seq iter.Seq2[uint64, uint64]) []span {
	var got []span
	for start, n := range seq {
		got = append(got, span{start, n})
	}
	return got
}

func seal(runs ...blockset.Run) *blockset.Set {
	b := blockset.NewBuilder()
	for _, r := range runs {
		b.Add(r.Start, r.Len, r.Tag)
	}
	return b.Seal()
}

func TestSeal(t *testing.T) {
	t.Parallel()
	type runs = []blockset.Run
	for _, test := range []struct {
		name               string
		add, all, overlaps runs
	}{
		{name: "nothing"},
		{name: "no blocks", add: runs{{5, 0, 1}}},
		{name: "adjoining, equal tags", add: runs{{14, 6, 1}, {10, 4, 1}}, all: runs{{10, 10, 1}}},
		{name: "adjoining, other tags", add: runs{{14, 6, 2}, {10, 4, 1}}, all: runs{{10, 4, 1}, {14, 6, 2}}},
		{name: "added twice", add: runs{{10, 4, 1}, {10, 4, 1}}, all: runs{{10, 4, 1}}},
		{
			name: "lower tag in the middle", add: runs{{10, 10, 7}, {13, 2, 3}},
			all: runs{{10, 3, 7}, {13, 2, 3}, {15, 5, 7}}, overlaps: runs{{13, 2, 7}},
		},
		{
			name: "higher tag in the middle", add: runs{{13, 2, 7}, {10, 10, 3}},
			all: runs{{10, 10, 3}}, overlaps: runs{{13, 2, 7}},
		},
		{
			name: "three tags", add: runs{{0, 10, 200}, {2, 6, 100}, {4, 2, 64}},
			all:      runs{{0, 2, 200}, {2, 2, 100}, {4, 2, 64}, {6, 2, 100}, {8, 2, 200}},
			overlaps: runs{{2, 6, 200}, {4, 2, 100}},
		},
		{name: "tags 0 and 255", add: runs{{1, 2, 255}, {2, 2, 0}}, all: runs{{1, 1, 255}, {2, 2, 0}}, overlaps: runs{{2, 1, 255}}},
		{
			name: "end of the number range", add: runs{{math.MaxUint64 - 2, 9, 1}, {math.MaxUint64, 1, 1}},
			all: runs{{math.MaxUint64 - 2, 2, 1}},
		},
		{name: "whole number range", add: runs{{0, math.MaxUint64, 1}}, all: runs{{0, math.MaxUint64, 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := seal(test.add...)
			if diff := gocmp.Diff(test.all, slices.Collect(s.All()), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("All (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(test.overlaps, s.Overlaps(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Overlaps (-want +got):\n%s", diff)
			}
			if got := s.Runs(); got != len(test.all) {
				t.Errorf("Runs = %d, want %d", got, len(test.all))
			}
		})
	}
}

// model is the obvious implementation: every claim on every block.
type model map[uint64]map[uint8]bool

func (m model) add(r blockset.Run) {
	for n := r.Start; n < r.Start+r.Len; n++ {
		if m[n] == nil {
			m[n] = map[uint8]bool{}
		}
		m[n][r.Tag] = true
	}
}

func (m model) tag(n uint64) uint8 { return slices.Min(slices.Collect(maps.Keys(m[n]))) }

// runs merges single blocks of equal tag into runs by start and tag.
func runs(blocks []blockset.Run) []blockset.Run {
	slices.SortFunc(blocks, func(x, y blockset.Run) int {
		return cmp.Or(cmp.Compare(x.Tag, y.Tag), cmp.Compare(x.Start, y.Start))
	})
	var out []blockset.Run
	for _, r := range blocks {
		if n := len(out); n > 0 && out[n-1].Tag == r.Tag && out[n-1].Start+out[n-1].Len == r.Start {
			out[n-1].Len++
			continue
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y blockset.Run) int {
		return cmp.Or(cmp.Compare(x.Start, y.Start), cmp.Compare(x.Tag, y.Tag))
	})
	return out
}

// check compares everything a set answers with the model. Members lie below limit.
func (m model) check(t interface{ Errorf(string, ...any) }, s *blockset.Set, limit uint64) {
	members := slices.Sorted(maps.Keys(m))
	var all, lost []blockset.Run
	var counts [256]uint64
	for _, n := range members {
		all = append(all, blockset.Run{Start: n, Len: 1, Tag: m.tag(n)})
		counts[m.tag(n)]++
		for tag := range m[n] {
			if tag != m.tag(n) {
				lost = append(lost, blockset.Run{Start: n, Len: 1, Tag: tag})
			}
		}
	}
	equal := func(what string, want, got any) {
		if reflect.DeepEqual(want, got) { // much faster than Diff
			return
		}
		if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	equal("All", runs(slices.Clone(all)), slices.Collect(s.All()))
	equal("Overlaps", runs(lost), s.Overlaps())
	equal("CountByTag", counts, s.CountByTag())
	equal("Count", uint64(len(members)), s.Count())
	highest, ok := s.Max()
	equal("Max ok", len(members) > 0, ok)
	if ok {
		equal("Max", members[len(members)-1], highest)
	}
	for n := range limit + 2 {
		rank, has := slices.BinarySearch(members, n)
		equal("Has", has, s.Has(n))
		equal("Rank", uint64(rank), s.Rank(n))
		tag, ok := s.Tag(n)
		equal("Tag ok", has, ok)
		if has {
			equal("Tag", m.tag(n), tag)
		}
		equal("From", runs(slices.Clone(all[rank:])), slices.Collect(s.From(n)))
		var want []span
		for _, n := range members[rank:] {
			if last := len(want) - 1; last >= 0 && want[last].Start+want[last].Len == n {
				want[last].Len++
			} else {
				want = append(want, span{n, 1})
			}
		}
		equal("SpansFrom", want, spans(s.SpansFrom(n)))
	}
	for i, n := range members {
		got, ok := s.Select(uint64(i))
		equal("Select", n, got)
		equal("Select ok", true, ok)
	}
	if _, ok := s.Select(uint64(len(members))); ok {
		t.Errorf("Select(Count) says that there is such a member")
	}
}

func TestModel(t *testing.T) {
	t.Parallel()
	const limit = 60
	rapid.Check(t, func(t *rapid.T) {
		b, m := blockset.NewBuilder(), model{}
		for range rapid.IntRange(0, 20).Draw(t, "additions") {
			start := rapid.Uint64Range(0, limit-1).Draw(t, "start")
			r := blockset.Run{
				Start: start,
				Len:   rapid.Uint64Range(0, min(12, limit-start)).Draw(t, "len"),
				Tag:   rapid.SampledFrom([]uint8{0, 1, 2, 63, 64, 255}).Draw(t, "tag"),
			}
			b.Add(r.Start, r.Len, r.Tag)
			m.add(r)
			if rapid.IntRange(0, 9).Draw(t, "seal in between") == 0 {
				b.Seal()
			}
		}
		m.check(t, b.Seal(), limit)
	})
}

func FuzzSet(f *testing.F) {
	f.Add([]byte{10, 4, 1, 12, 6, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		b, m := blockset.NewBuilder(), model{}
		for len(in) >= 3 && len(m) < 200 {
			r := blockset.Run{Start: uint64(in[0]), Len: uint64(in[1] % 32), Tag: in[2]}
			b.Add(r.Start, r.Len, r.Tag)
			m.add(r)
			in = in[3:]
		}
		m.check(t, b.Seal(), 256+32)
	})
}

// FuzzAnyNumbers adds runs from anywhere in the number range: the runs come
// out ascending and disjoint, and rank and select agree with them.
func FuzzAnyNumbers(f *testing.F) {
	f.Add(binary.LittleEndian.AppendUint64(make([]byte, 9), math.MaxUint64))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := blockset.NewBuilder()
		for ; len(in) >= 17; in = in[17:] {
			b.Add(binary.LittleEndian.Uint64(in), binary.LittleEndian.Uint64(in[8:]), in[16])
		}
		s := b.Seal()
		var count, end uint64
		for r := range s.All() {
			if r.Len == 0 || r.Start < end || r.Len > math.MaxUint64-r.Start {
				t.Fatalf("run %+v behind a run that ends at %d", r, end)
			}
			if got := s.Rank(r.Start); got != count {
				t.Errorf("Rank(%d) = %d, want %d", r.Start, got, count)
			}
			if got, ok := s.Select(count); got != r.Start || !ok {
				t.Errorf("Select(%d) = %d, want %d", count, got, r.Start)
			}
			count += r.Len
			end = r.Start + r.Len
		}
		if s.Count() != count {
			t.Errorf("Count = %d, want %d", s.Count(), count)
		}
	})
}

func TestZeroValues(t *testing.T) {
	t.Parallel()
	var b blockset.Builder
	model{}.check(t, b.Seal(), 3)
	var s blockset.Set
	model{}.check(t, &s, 3)
}

// TestConcurrentAdd has many goroutines claim the same blocks: the set must
// not depend on who came first.
func TestConcurrentAdd(t *testing.T) {
	t.Parallel()
	const blocks, workers = 20_000, 8
	add := func(b *blockset.Builder, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		for range blocks {
			b.Add(rng.Uint64N(blocks), 1+rng.Uint64N(3), uint8(rng.IntN(5)))
		}
	}
	want := blockset.NewBuilder()
	for seed := range uint64(workers) {
		add(want, seed)
	}
	got := blockset.NewBuilder()
	var wg sync.WaitGroup
	for seed := range uint64(workers) {
		wg.Go(func() { add(got, seed) })
	}
	wg.Wait()
	a, b := want.Seal(), got.Seal()
	if diff := gocmp.Diff(slices.Collect(a.All()), slices.Collect(b.All())); diff != "" {
		t.Errorf("All (-alone +together):\n%s", diff)
	}
	if diff := gocmp.Diff(a.Overlaps(), b.Overlaps()); diff != "" {
		t.Errorf("Overlaps (-alone +together):\n%s", diff)
	}
}

func TestOverlapsAreBounded(t *testing.T) {
	t.Parallel()
	b := blockset.NewBuilder()
	for n := range uint64(5000) {
		b.Add(2*n, 1, 1)
		b.Add(2*n, 1, 2)
	}
	got := b.Seal().Overlaps()
	if len(got) != 1000 || got[999] != (blockset.Run{Start: 1998, Len: 1, Tag: 2}) {
		t.Errorf("%d overlaps, the last is %+v; want the first 1000", len(got), got[len(got)-1])
	}
}

// heap returns the bytes that keep is alive for.
func heap[T any](build func() T) (kept T, bytes int64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept = build()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return kept, int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// TestMemory is not parallel: it looks at the heap of the whole process.
func TestMemory(t *testing.T) {
	const runs = 300_000
	// Scattered over a huge range and in no order, and every run twice.
	fill := func(b *blockset.Builder) {
		for range 2 {
			for i := range uint64(runs) {
				b.Add((i*7919%runs)<<30, 5, uint8(i%3))
			}
		}
	}
	b, size := heap(func() *blockset.Builder {
		b := blockset.NewBuilder()
		fill(b)
		return b
	})
	// 24 bytes a run, at most twice as many runs as are distinct, and the
	// room to grow that append leaves.
	if limit := int64(24 * 2 * 1.3 * runs); size > limit {
		t.Errorf("builder of %d distinct runs holds %d bytes, want at most %d", runs, size, limit)
	}
	s, size := heap(b.Seal)
	if limit := int64(18 * runs); size > limit {
		t.Errorf("set of %d runs holds %d bytes, want at most %d", runs, size, limit)
	}
	if got := s.Runs(); got != runs {
		t.Errorf("Runs = %d, want %d", got, runs)
	}
	runtime.KeepAlive(b)
}

func BenchmarkAdd(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	builder := blockset.NewBuilder()
	for b.Loop() {
		builder.Add(rng.Uint64N(1<<20)*16, 8, uint8(rng.IntN(4)))
	}
}

func BenchmarkRank(b *testing.B) {
	builder := blockset.NewBuilder()
	for n := range uint64(1 << 20) {
		builder.Add(n*16, 8, 0)
	}
	s := builder.Seal()
	rng := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		s.Rank(rng.Uint64N(1 << 24))
	}
}
