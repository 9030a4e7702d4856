// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"cmp"
	"iter"
	"slices"
	"sort"

	"o2image/image"
)

// sortedRuns returns runs that come from a file in ascending order, without what
// lies behind the last of so many blocks.
func sortedRuns(runs []image.Run, blocks uint64) []image.Run {
	var sorted []image.Run
	for _, r := range runs {
		if r.Start < blocks {
			sorted = append(sorted, image.Run{Start: r.Start, Len: min(r.Len, blocks-r.Start)})
		}
	}
	slices.SortFunc(sorted, func(a, b image.Run) int { return cmp.Compare(a.Start, b.Start) })
	return coarse(sorted, len(sorted))
}

// overlap returns what the ascending runs have of the n blocks from block start
// on.
func overlap(runs []image.Run, start, n uint64) []image.Run {
	var in []image.Run
	end := start + n
	first := sort.Search(len(runs), func(i int) bool { return runs[i].Start+runs[i].Len > start })
	for _, r := range runs[first:] {
		if r.Start >= end {
			break
		}
		from := max(r.Start, start)
		in = append(in, image.Run{Start: from, Len: min(r.Start+r.Len, end) - from})
	}
	return in
}

// without yields runs, ascending, but for the blocks of the ascending runs less.
func without(runs iter.Seq2[image.Run, error], less []image.Run) iter.Seq2[image.Run, error] {
	return func(yield func(image.Run, error) bool) {
		for run, err := range runs {
			if err != nil {
				yield(image.Run{}, err)
				return
			}
			at, end := run.Start, run.Start+run.Len
			for _, gap := range overlap(less, run.Start, run.Len) {
				if gap.Start > at && !yield(image.Run{Start: at, Len: gap.Start - at}, nil) {
					return
				}
				at = gap.Start + gap.Len
			}
			if at < end && !yield(image.Run{Start: at, Len: end - at}, nil) {
				return
			}
		}
	}
}

// maxNotRead is how many runs of blocks that were not read a report lists. Each
// takes some 70 bytes of it.
const maxNotRead = 200_000

// coarse joins ascending runs that overlap or adjoin and, as long as there are
// more than limit, those that are nearest to each other.
func coarse(runs []image.Run, limit int) []image.Run {
	for gap := uint64(0); ; gap = 2*gap + 1 {
		var joined []image.Run
		for _, r := range runs {
			last := len(joined) - 1
			if last < 0 || r.Start > joined[last].Start+joined[last].Len+gap {
				joined = append(joined, r)
				continue
			}
			end := max(joined[last].Start+joined[last].Len, r.Start+r.Len)
			joined[last].Len = end - joined[last].Start
		}
		if len(joined) <= limit {
			return joined
		}
		runs = joined
	}
}
