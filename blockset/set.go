// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package blockset holds sets of block numbers as sorted runs, each with a
// small tag. A [Builder] gathers runs in any order from any goroutine; sealed,
// they are a [Set], which never changes and answers in logarithmic time how
// many members lie below a block (rank) and which block is the n-th member
// (select).
//
// Memory depends on the number of runs alone, 17 bytes for each in a set,
// never on the highest block number. The package gives tags no meaning but
// their order: where two claim the same block, the lower one wins.
//
//	b := blockset.NewBuilder()
//	b.Add(100, 50, 2)
//	b.Add(120, 1, 1)
//	s := b.Seal()    // 100-119 tag 2, 120 tag 1, 121-149 tag 2
//	s.Rank(120)      // 20: the place of block 120 among the members
package blockset

import (
	"iter"
	"slices"
)

// Set is an immutable set of block numbers. The zero value is the empty set.
// All methods may be called concurrently.
type Set struct {
	// One element per run, in ascending order; adjoining runs differ in tag.
	start []uint64 // first block
	rank  []uint64 // members in the runs before
	tag   []uint8

	count    uint64 // members
	overlaps []Run
}

// grow makes room for n more runs.
func (s *Set) grow(n int) {
	s.start = slices.Grow(s.start, n)
	s.rank = slices.Grow(s.rank, n)
	s.tag = slices.Grow(s.tag, n)
}

// append adds r, which lies above all members.
func (s *Set) append(r Run) {
	last := len(s.start) - 1
	if last < 0 || s.tag[last] != r.Tag || s.end(last) != r.Start {
		s.start = append(s.start, r.Start)
		s.rank = append(s.rank, s.count)
		s.tag = append(s.tag, r.Tag)
	}
	s.count += r.Len
}

// len returns the number of blocks in run i.
func (s *Set) len(i int) uint64 {
	if i+1 < len(s.rank) {
		return s.rank[i+1] - s.rank[i]
	}
	return s.count - s.rank[i]
}

// end returns the number of the block behind run i.
func (s *Set) end(i int) uint64 { return s.start[i] + s.len(i) }

func (s *Set) run(i int) Run { return Run{Start: s.start[i], Len: s.len(i), Tag: s.tag[i]} }

// find returns the first run that ends above block n, and whether it holds n.
func (s *Set) find(n uint64) (i int, has bool) {
	i, exact := slices.BinarySearch(s.start, n)
	if exact {
		return i, true
	}
	if i > 0 && n < s.end(i-1) {
		return i - 1, true
	}
	return i, false
}

// Count returns the number of members.
func (s *Set) Count() uint64 { return s.count }

// Runs returns the number of runs that [Set.All] yields.
func (s *Set) Runs() int { return len(s.start) }

// Has reports whether block n is a member.
func (s *Set) Has(n uint64) bool {
	_, has := s.find(n)
	return has
}

// Tag returns the tag of block n, and whether n is a member.
func (s *Set) Tag(n uint64) (tag uint8, ok bool) {
	i, has := s.find(n)
	if !has {
		return 0, false
	}
	return s.tag[i], true
}

// Rank returns the number of members below block n, which may be any number.
func (s *Set) Rank(n uint64) uint64 {
	i, has := s.find(n)
	switch {
	case has:
		return s.rank[i] + (n - s.start[i])
	case i < len(s.rank):
		return s.rank[i]
	default:
		return s.count
	}
}

// Select returns the member that has i members below it, and whether there is
// one: i counts from 0 up to Count()-1.
func (s *Set) Select(i uint64) (n uint64, ok bool) {
	if i >= s.count {
		return 0, false
	}
	run, exact := slices.BinarySearch(s.rank, i)
	if !exact {
		run--
	}
	return s.start[run] + (i - s.rank[run]), true
}

// Max returns the highest member, and whether there is any.
func (s *Set) Max() (n uint64, ok bool) { return s.Select(s.count - 1) }

// All yields the runs in ascending order. Adjoining runs differ in tag.
func (s *Set) All() iter.Seq[Run] { return s.From(0) }

// From yields the runs from block n on in ascending order; a run that holds n
// is clipped to start there.
func (s *Set) From(n uint64) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		i, has := s.find(n)
		if has {
			r := s.run(i)
			r.Start, r.Len = n, r.Len-(n-r.Start)
			if !yield(r) {
				return
			}
			i++
		}
		for ; i < len(s.start); i++ {
			if !yield(s.run(i)) {
				return
			}
		}
	}
}

// Spans yields the first block and the length of the longest runs of members
// in ascending order, whatever their tags.
func (s *Set) Spans() iter.Seq2[uint64, uint64] { return s.SpansFrom(0) }

// SpansFrom yields the spans from block n on; one that holds n is clipped to
// start there.
func (s *Set) SpansFrom(n uint64) iter.Seq2[uint64, uint64] {
	return func(yield func(start, n uint64) bool) {
		var span Run
		for r := range s.From(n) {
			if span.Len > 0 && span.Start+span.Len == r.Start {
				span.Len += r.Len
				continue
			}
			if span.Len > 0 && !yield(span.Start, span.Len) {
				return
			}
			span = r
		}
		if span.Len > 0 {
			yield(span.Start, span.Len)
		}
	}
}

// CountByTag returns the number of members of each tag.
func (s *Set) CountByTag() [256]uint64 {
	var counts [256]uint64
	for i, tag := range s.tag {
		counts[tag] += s.len(i)
	}
	return counts
}

// Overlaps returns runs of members that were added under more than one tag,
// each with a tag that lost, by the block at which they start: the first
// 1,000 of them.
func (s *Set) Overlaps() []Run { return slices.Clone(s.overlaps) }
