// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"runtime"
	"slices"
	"testing"
)

// TestMarksWithout takes one set from another. Where nothing is left, as on every
// sound volume, the set is not copied.
// It is not parallel: what others allocate would count.
func TestMarksWithout(t *testing.T) {
	var all, some marks
	const n = 1 << 16
	for blkno := range uint64(n) {
		all.add(blkno)
		if blkno%1000 != 7 {
			some.add(blkno)
		}
	}
	var want []uint64
	for blkno := uint64(7); blkno < n; blkno += 1000 {
		want = append(want, blkno)
	}
	if got := all.without(&some); !slices.Equal(got, want) {
		t.Errorf("%d blocks are left, want %d", len(got), len(want))
	}
	if got := some.without(&all); got != nil {
		t.Errorf("%d blocks are left, want none", len(got))
	}
	if got := all.without(new(marks)); !slices.Equal(got, slices.Collect(all.all())) {
		t.Errorf("without nothing %d blocks are left of %d", len(got), n)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	some.without(&all)
	runtime.ReadMemStats(&after)
	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > n {
		t.Errorf("%d bytes allocated for %d blocks of which none is left", bytes, n)
	}
}
