// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"

	"o2image/ocfs2"
)

// maxClusterRuns bounds what a clusterSet remembers: 4 MiB.
const maxClusterRuns = 1 << 19

// maxDoubled bounds the runs of clusters with file data that are known to have two
// owners: on a damaged volume that may be any number of them.
const maxDoubled = 1000

// clusterRun is a run of clusters, by their numbers.
type clusterRun struct{ first, n uint32 }

func (r clusterRun) start() uint64 { return uint64(r.first) }
func (r clusterRun) end() uint64   { return uint64(r.first) + uint64(r.n) }

// between returns the run of the clusters from first up to end.
func between(first, end uint64) clusterRun {
	return clusterRun{uint32(first), uint32(end - first)} //nolint:gosec // i_clusters has 32 bits
}

// clusterSet is a set of clusters, which remembers what was added twice. Its
// memory is bounded: when there is no room it forgets the upper half, and no
// longer looks at what is added there. The zero value is empty; add may be
// called concurrently.
type clusterSet struct {
	mu      sync.Mutex
	runs    []clusterRun // once compacted, sorted and apart
	doubled []clusterRun // added more than once

	compactAt int    // the length at which runs is compacted next
	below     uint64 // the first cluster that the set no longer looks at, 0: it has never been full
}

// add adds n clusters.
func (s *clusterSet) add(first, n uint32) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := clusterRun{first, n}
	if s.below > 0 && r.start() >= s.below {
		return
	}
	if last := len(s.runs) - 1; last >= 0 && s.runs[last].end() == r.start() {
		s.runs[last] = between(s.runs[last].start(), r.end())
		return
	}
	if len(s.runs) >= max(s.compactAt, 1024) {
		s.compact()
		if len(s.runs) > maxClusterRuns/2 {
			s.below = s.runs[maxClusterRuns/2].start()
			s.runs = s.runs[:maxClusterRuns/2]
		}
		s.compactAt = min(2*len(s.runs), maxClusterRuns)
	}
	s.runs = append(s.runs, r)
}

// compact joins the runs, and keeps apart what was in two of them.
func (s *clusterSet) compact() {
	var twice []clusterRun
	s.runs, twice = joinRuns(s.runs)
	s.doubled, _ = joinRuns(append(s.doubled, twice...))
	s.doubled = s.doubled[:min(len(s.doubled), maxDoubled)]
}

// joinRuns sorts runs and joins those that overlap or adjoin, in place. twice is what
// was in two of them, the first of it if it is more than maxDoubled.
func joinRuns(runs []clusterRun) (joined, twice []clusterRun) {
	slices.SortFunc(runs, func(a, b clusterRun) int { return cmp.Compare(a.first, b.first) })
	kept := 0
	for _, r := range runs {
		if kept == 0 || runs[kept-1].end() < r.start() {
			runs[kept] = r
			kept++
			continue
		}
		last := &runs[kept-1]
		if last.end() > r.start() && len(twice) < maxDoubled {
			twice = append(twice, between(r.start(), min(last.end(), r.end())))
		}
		*last = between(last.start(), max(last.end(), r.end()))
	}
	return runs[:kept], twice
}

// all yields the runs of a compacted set: first cluster and length.
func (s *clusterSet) all() iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for _, r := range s.runs {
			if !yield(r.start(), uint64(r.n)) {
				return
			}
		}
	}
}

// common yields what a compacted set has in common with the runs that others
// yields in ascending order.
func (s *clusterSet) common(others iter.Seq2[uint64, uint64]) iter.Seq[clusterRun] {
	return func(yield func(clusterRun) bool) {
		i := 0
		for start, n := range others {
			for i < len(s.runs) && s.runs[i].end() <= start {
				i++
			}
			for ; i < len(s.runs) && s.runs[i].start() < start+n; i++ {
				if !yield(between(max(s.runs[i].start(), start), min(s.runs[i].end(), start+n))) {
					return
				}
				if s.runs[i].end() > start+n {
					break // the next of the others may lie in it as well
				}
			}
		}
	}
}

// firstDoubled returns the first maxDoubled of runs.
func firstDoubled(runs iter.Seq[clusterRun]) (first []clusterRun) {
	for r := range runs {
		if first = append(first, r); len(first) == maxDoubled {
			break
		}
	}
	return first
}

// fileData is which clusters hold file data: contents of regular files, and
// values of xattrs outside the blocks with their names.
type fileData struct {
	own    clusterSet // that belong to one extent
	shared clusterSet // that reflinked files share, as many as there are
}

// add adds the clusters of a leaf record, of bpc blocks each. Records that cannot
// be right are left out.
func (f *fileData) add(sb *ocfs2.SuperBlock, rec ocfs2.ExtentRec) {
	bpc := sb.BlocksPerCluster()
	if rec.Clusters == 0 || !sb.Contains(rec.Blkno, uint64(rec.Clusters)*bpc) {
		return
	}
	set := &f.own
	if rec.Flags&ocfs2.ExtRefcounted != 0 {
		set = &f.shared
	}
	set.add(uint32(rec.Blkno/bpc), rec.Clusters) //nolint:gosec // in the volume
}

// cut returns the first cluster that is no longer looked at, 0 if all are.
func (f *fileData) cut() uint64 {
	if f.own.below == 0 || f.shared.below == 0 {
		return max(f.own.below, f.shared.below)
	}
	return min(f.own.below, f.shared.below)
}

// doubled returns the runs of clusters that belong to more than one owner: to
// several extents, or to the metadata, whose blocks are those of spans, bpc to
// a cluster. Of each kind it returns the first maxDoubled.
func (f *fileData) doubled(spans iter.Seq2[uint64, uint64], bpc uint64) []clusterRun {
	clusters := func(yield func(uint64, uint64) bool) {
		for start, n := range spans {
			if first := start / bpc; !yield(first, (start+n-1)/bpc+1-first) {
				return
			}
		}
	}
	f.own.compact()
	f.shared.compact()
	return slices.Concat(f.own.doubled, firstDoubled(f.own.common(f.shared.all())),
		firstDoubled(f.own.common(clusters)), firstDoubled(f.shared.common(clusters)))
}

// holdsData remembers the clusters of a tree with file data.
func (w *walk) holdsData(t tree, o origin) {
	if t.list.Depth() > 0 || t.last != 0 {
		t.list = t.list.Clone() // for later
		w.queue.near(func(ctx context.Context) { w.nodes(ctx, t, o) })
		return
	}
	for i := range t.list.Len() {
		w.holdsExtent(t.list.LeafRec(i), o)
	}
}

// holdsExtent remembers the clusters of an extent with file data.
func (w *walk) holdsExtent(rec ocfs2.ExtentRec, o origin) {
	w.data.add(w.v.sb, rec)
	if rec.Flags&ocfs2.ExtRefcounted != 0 {
		w.sharing.extent(o.ino, o.tree, rec.Blkno/w.v.sb.BlocksPerCluster(), uint64(rec.Clusters))
	}
}

// values remembers the clusters of the values that the area in block blkno keeps
// outside.
func (w *walk) values(area ocfs2.XattrArea, blkno uint64, o origin) {
	o = o.via(blkno)
	for _, e := range area.All() {
		if !e.Local {
			o.class = ClassExtent
			w.holdsData(valueTree(e.Root, blkno), o)
		}
	}
}
