// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"o2image/blockset"
	"o2image/ocfs2"
)

// gate is a device whose reads fail, but only when some of them wait together.
type gate struct {
	waits, together atomic.Int32
	want            int32
	open            chan struct{}
}

func (g *gate) ReadAt([]byte, int64) (int, error) {
	if g.waits.Add(1) == g.want {
		close(g.open)
	}
	select {
	case <-g.open:
		g.together.Add(1)
	case <-time.After(10 * time.Second):
	}
	return 0, io.ErrNoProgress
}

// TestRecoverAtOnce has what recover looks at read together, not one after the
// other.
func TestRecoverAtOnce(t *testing.T) {
	t.Parallel()
	const n = 8
	for name, prepare := range map[string]func(w *walk, blkno uint64){
		"roots":  func(w *walk, blkno uint64) { w.roots.add(blkno) },
		"groups": func(w *walk, blkno uint64) { w.owners.add(blkno) },
		"names": func(w *walk, blkno uint64) {
			w.directories.named.add(blkno)
			w.inodes.add(blkno)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &gate{want: n, open: make(chan struct{})}
			sb := &ocfs2.SuperBlock{Geometry: ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 1000}}
			w := &walk{v: &Volume{r: g, sb: sb}, set: blockset.NewBuilder(), queue: newQueue()}
			for i := range uint64(n) {
				prepare(w, 100+i)
			}
			w.strayRoots(t.Context())
			w.follow(t.Context(), new(marks), new(marks))
			if got := g.together.Load(); got != n {
				t.Errorf("%d of %d reads waited together", got, n)
			}
		})
	}
}

// TestUnresolvedNames has directories read again only if one of their names led
// to nothing.
func TestUnresolvedNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		known bool // the inode that is named
		reads int32
	}{
		{"all resolved", true, 0},
		{"one is not", false, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := &gate{want: tt.reads, open: make(chan struct{})}
			sb := &ocfs2.SuperBlock{Geometry: ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 1000}}
			w := &walk{v: &Volume{r: g, sb: sb}, set: blockset.NewBuilder(), queue: newQueue()}
			for dir := uint64(100); dir < 103; dir++ {
				w.directories.are.add(dir)
				w.inodes.add(dir)
			}
			w.unresolved.add(200)
			if tt.known {
				w.inodes.add(200)
			}
			w.findings.add(Finding{Severity: Damaged})
			w.follow(t.Context(), new(marks), new(marks))
			if got := g.waits.Load(); got != tt.reads {
				t.Errorf("%d reads, want %d", got, tt.reads)
			}
		})
	}
}

// TestWorstFindings has the worst of very many findings kept, whenever they come.
func TestWorstFindings(t *testing.T) {
	t.Parallel()
	var f findings
	add := func(s Severity, n int) {
		for i := range n {
			f.add(Finding{Severity: s, Block: uint64(i)})
		}
	}
	add(Damaged, maxFindings+5)
	add(NotFollowed, 3)
	add(Damaged, 7)
	add(NotRead, maxFindings-1)
	add(NotFollowed, 2)
	got := make(map[Severity]int)
	for _, found := range f.sorted() {
		got[found.Severity]++
	}
	if got[NotRead] != maxFindings-1 || got[NotFollowed] != 1 || got[Damaged] != 0 {
		t.Errorf("kept by severity: %v", got)
	}
	if want := 2*maxFindings + 5 + 3 + 7 - 1 + 2; f.total != want {
		t.Errorf("%d counted, want %d", f.total, want)
	}
}
