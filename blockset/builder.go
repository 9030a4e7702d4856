// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockset

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"sync"
)

// Run is a run of consecutive members that carry the same tag.
type Run struct {
	Start uint64 // number of the first block
	Len   uint64 // number of blocks
	Tag   uint8
}

// minBatch is the number of runs that a Builder gathers before it compacts
// for the first time.
const minBatch = 4096

// maxOverlaps bounds what [Set.Overlaps] reports: on a damaged volume every
// block may be claimed many times over.
const maxOverlaps = 1000

// Builder gathers runs in any order. Its memory is proportional to the number
// of distinct runs of each tag, however often they are added. The zero value
// is an empty builder. All methods may be called concurrently.
type Builder struct {
	mu sync.Mutex

	// What was added. Compacted, it is sorted by tag and start, and the runs
	// of one tag neither overlap nor adjoin.
	runs []Run

	// compactAt is the length at which runs is compacted next. It doubles
	// with what compaction leaves, which makes an Add O(log n) on average.
	compactAt int
}

// NewBuilder returns an empty builder.
func NewBuilder() *Builder { return new(Builder) }

// Add adds the n blocks from start on, with a tag. Adding no blocks does
// nothing. Block math.MaxUint64 cannot be a member: the caller sees to it that
// start+n does not overflow; a run that does is cut off.
func (b *Builder) Add(start, n uint64, tag uint8) {
	n = min(n, math.MaxUint64-start)
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()

	r := Run{Start: start, Len: n, Tag: tag}
	if last := len(b.runs) - 1; last >= 0 && b.runs[last].absorb(r) {
		return
	}
	if len(b.runs) >= max(b.compactAt, minBatch) {
		b.compact()
		b.compactAt = 2 * len(b.runs)
	}
	b.runs = append(b.runs, r)
}

// absorb grows r by s and reports true if s has the same tag, starts no
// earlier, and overlaps or adjoins r.
func (r *Run) absorb(s Run) bool {
	if s.Tag != r.Tag || s.Start < r.Start || s.Start > r.Start+r.Len {
		return false
	}
	r.Len = max(r.Len, s.Start+s.Len-r.Start)
	return true
}

func (b *Builder) compact() {
	slices.SortFunc(b.runs, func(x, y Run) int {
		return cmp.Or(cmp.Compare(x.Tag, y.Tag), cmp.Compare(x.Start, y.Start))
	})
	kept := 0
	for _, r := range b.runs {
		if kept > 0 && b.runs[kept-1].absorb(r) {
			continue
		}
		b.runs[kept] = r
		kept++
	}
	b.runs = b.runs[:kept]
}

// Seal returns the set of all blocks added so far. A block added under several
// tags has the lowest of them in the set; [Set.Overlaps] tells the others. The
// result does not depend on the order of the additions. The builder keeps what
// it holds, and more can be added for a later Seal.
func (b *Builder) Seal() *Set {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.compact()
	slices.SortFunc(b.runs, func(x, y Run) int { return cmp.Compare(x.Start, y.Start) })
	s := new(Set)
	s.grow(len(b.runs))

	// Sweep over the runs by start. Within one tag runs are disjoint, so
	// that at most one run of each tag is open at any block.
	var (
		open open
		lost losers
		pos  uint64 // everything below is in the set already
		next int    // the first run that is not open yet
	)
	for next < len(b.runs) || !open.empty() {
		if open.empty() {
			pos = b.runs[next].Start
		}
		for ; next < len(b.runs) && b.runs[next].Start == pos; next++ {
			open.add(b.runs[next])
		}
		to := open.firstEnd()
		if next < len(b.runs) {
			to = min(to, b.runs[next].Start)
		}
		won := false
		for tag := range open.tags() {
			r := Run{Start: pos, Len: to - pos, Tag: tag}
			if !won {
				s.append(r)
				won = true
			} else {
				lost.add(r)
			}
		}
		open.closeAt(to)
		pos = to
	}
	s.overlaps = lost.runs
	return s
}

// open is the set of tags that have a run at the present place of the sweep,
// with the end of each run.
type open struct {
	mask [4]uint64 // a bit per tag
	end  [256]uint64
}

func (o *open) empty() bool { return o.mask == [4]uint64{} }

func (o *open) add(r Run) {
	o.mask[r.Tag/64] |= 1 << (r.Tag % 64)
	o.end[r.Tag] = r.Start + r.Len
}

// tags yields the open tags, lowest first.
func (o *open) tags() func(yield func(uint8) bool) {
	return func(yield func(uint8) bool) {
		for i, word := range o.mask {
			for ; word != 0; word &= word - 1 {
				if !yield(uint8(64*i + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// firstEnd returns the lowest end of an open run.
func (o *open) firstEnd() uint64 {
	first := uint64(math.MaxUint64)
	for tag := range o.tags() {
		first = min(first, o.end[tag])
	}
	return first
}

// closeAt closes the runs that end at block n.
func (o *open) closeAt(n uint64) {
	for tag := range o.tags() {
		if o.end[tag] == n {
			o.mask[tag/64] &^= 1 << (tag % 64)
		}
	}
}

// losers gathers what was claimed in vain, in ascending order.
type losers struct {
	runs []Run
	last [256]int // of each tag, one more than the index of its last run
}

func (l *losers) add(r Run) {
	if last := l.last[r.Tag]; last > 0 && l.runs[last-1].absorb(r) {
		return
	}
	if len(l.runs) < maxOverlaps {
		l.runs = append(l.runs, r)
		l.last[r.Tag] = len(l.runs)
	}
}
