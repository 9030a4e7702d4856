// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"o2image/ocfs2"
)

// clustersOf lists the clusters of runs.
func clustersOf(runs []clusterRun) []uint64 {
	set := map[uint64]bool{}
	for _, r := range runs {
		for c := r.start(); c < r.end(); c++ {
			set[c] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// TestFileDataDoubled compares what belongs to more than one owner with a count
// of the owners of each cluster.
func TestFileDataDoubled(t *testing.T) {
	sb := &ocfs2.SuperBlock{Geometry: ocfs2.Geometry{BlockBits: 9, ClusterBits: 12, Clusters: 100}}
	const bpc = 8
	rapid.Check(t, func(t *rapid.T) {
		var (
			data          fileData
			own, shared   [100]int
			meta          [100]bool
			spans         [][2]uint64
			want          = map[uint64]bool{}
			first, length = rapid.Uint64Range(1, 95), rapid.Uint32Range(0, 5)
		)
		for range rapid.IntRange(0, 40).Draw(t, "records") {
			rec := ocfs2.ExtentRec{Blkno: bpc * first.Draw(t, "first"), Clusters: length.Draw(t, "length")}
			count := &own
			if rapid.Bool().Draw(t, "shared") {
				rec.Flags, count = ocfs2.ExtRefcounted, &shared
			}
			for c := range uint64(rec.Clusters) {
				count[rec.Blkno/bpc+c]++
			}
			data.add(sb, rec)
			if rapid.Bool().Draw(t, "compact") {
				data.own.compact()
				data.shared.compact()
			}
		}
		for blkno := uint64(0); blkno < 90*bpc; {
			blkno += rapid.Uint64Range(1, 200).Draw(t, "gap")
			n := rapid.Uint64Range(1, 12).Draw(t, "span")
			spans = append(spans, [2]uint64{blkno, n})
			for b := blkno; b < blkno+n; b++ {
				if b < 100*bpc {
					meta[b/bpc] = true
				}
			}
			blkno += n
		}
		for c := range own {
			if owners := own[c] + min(shared[c], 1); owners > 1 || owners > 0 && meta[c] {
				want[uint64(c)] = true
			}
		}
		got := clustersOf(data.doubled(func(yield func(uint64, uint64) bool) {
			for _, s := range spans {
				if !yield(s[0], s[1]) {
					return
				}
			}
		}, bpc))
		if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), got); diff != "" {
			t.Errorf("clusters with several owners (-want +got):\n%s", diff)
		}
	})
}

// TestClusterSetIsBounded fills a set over its bound: what is below the cut is
// compared all the same.
func TestClusterSetIsBounded(t *testing.T) {
	var s clusterSet
	for range 2 {
		for c := uint32(0); c < 4*maxClusterRuns; c += 2 { // nothing adjoins
			s.add(c, 1)
		}
	}
	if n := cap(s.runs); n > 2*maxClusterRuns {
		t.Errorf("room for %d runs, want at most %d", n, 2*maxClusterRuns)
	}
	s.compact()
	if s.below < maxClusterRuns/2 {
		t.Fatalf("cut at cluster %d, want no lower than %d", s.below, maxClusterRuns/2)
	}
	want := make([]uint64, maxDoubled)
	for i := range want {
		want[i] = 2 * uint64(i)
	}
	if diff := cmp.Diff(want, clustersOf(s.doubled)); diff != "" {
		t.Errorf("what was added twice (-want +got):\n%s", diff)
	}
}
