// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package upstreamset

import "io"

// Difference returns the blocks of the volume in r that only one of the two sets
// of Compute holds: data of regular files with attributes on the one side; on the
// other the entries and indexes of directories with an attribute block, and the
// targets of long symlinks.
func Difference(r io.ReaderAt) (onlyUpstream, onlyFixed []Run, err error) {
	upstream, err := Compute(r, Options{})
	if err != nil {
		return nil, nil, err
	}
	fixed, err := Compute(r, Options{Fixed: true})
	if err != nil {
		return nil, nil, err
	}
	return subtract(upstream.Runs, fixed.Runs), subtract(fixed.Runs, upstream.Runs), nil
}

// subtract returns the blocks of a that are not in b. Both are as in Result.
func subtract(a, b []Run) []Run {
	var rest []Run
	for _, r := range a {
		end := r.Start + r.Len
		for len(b) > 0 && b[0].Start+b[0].Len <= r.Start {
			b = b[1:]
		}
		for _, hole := range b {
			if hole.Start >= end {
				break
			}
			if hole.Start > r.Start {
				rest = append(rest, Run{r.Start, hole.Start - r.Start})
			}
			r.Start = min(hole.Start+hole.Len, end)
		}
		if r.Start < end {
			rest = append(rest, Run{r.Start, end - r.Start})
		}
	}
	return rest
}
