// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"o2image/internal/ocfs2test"
	"o2image/internal/ocfs2test/damage"
	"o2image/volume"
)

// damaged are volumes that together have every structure that there is, with
// check values and without.
var damaged = []string{
	"min-b512-c4k", "metaecc", "max-features", "deep-b512", "reflink-b1k", "xattr-b1k", "dx-inline", "slowlinks",
	"orphans", "crash", "discontig", "old-b1k", "quota", "backup-1g", "o2cb-3slots", "plain-c64k", "inline-b512", "min-b2k-c64k",
}

// leastCases is how many cases there are to be at least.
const leastCases = 3000

// knownGaps are what the walk is not good enough for yet. To be empty.
var knownGaps = []string{
	"no finding names it",
	"missing without a word",
	"lost that do not depend on it",
	"does not open",
	"the broken block",
}

// soundVolume is a volume before it is damaged.
type soundVolume struct {
	name string
	file *os.File
	m    *damage.Map
	set  *volume.Metadata
}

func readSound(t *testing.T, name string) *soundVolume {
	t.Helper()
	v, f := openFile(t, ocfs2test.Unpack(t, name).Path)
	m, err := damage.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	set, err := v.Metadata(t.Context(), volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &soundVolume{name, f, m, set}
}

// TestDamageMap checks the kit: on a sound volume its map leads to the metadata
// set, no more and no less.
func TestDamageMap(t *testing.T) {
	for _, name := range damaged {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := readSound(t, name)
			reach := s.m.Reachable(nil, false)
			for start, n := range s.set.Blocks.Spans() {
				for b := start; b < start+n; b++ {
					if !reach.Has(b) {
						class, _ := s.set.Blocks.Tag(b)
						t.Fatalf("the map does not lead to block %d, %v", b, volume.Class(class))
					}
				}
			}
			if got, want := reach.Count(), s.set.Blocks.Count(); got != want {
				t.Errorf("the map leads to %d blocks, want %d", got, want)
			}
		})
	}
}

// TestDamage breaks one thing at a time and checks that the walk ends, that it
// finds everything that the broken thing alone does not lead to, that it names
// what is broken where something contradicts it, and that it never claims to be
// complete when it is known not to be.
func TestDamage(t *testing.T) {
	var (
		covered = damage.Coverage{}
		jobs    = make(chan func())
		workers sync.WaitGroup
		res     = results{}
	)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for job := range jobs {
				job()
			}
		})
	}
	for _, name := range damaged {
		if testing.Short() && name != "metaecc" && name != "min-b512-c4k" {
			continue
		}
		s := readSound(t, name)
		for _, c := range s.m.Cases(covered, 1) {
			jobs <- func() { res.add(s, c, s.check(t.Context(), c)) }
		}
	}
	close(jobs)
	workers.Wait()
	t.Logf("%d cases, %d that something contradicts, %d without a usable superblock, %d with blocks missing, %d with file data in the set; %d known gaps",
		res.cases, res.witnessed, res.unusable, res.lost, res.leaked, res.gaps)
	if !testing.Short() && res.cases < leastCases {
		t.Errorf("only %d cases", res.cases)
	}
	slices.Sort(res.failures)
	for _, f := range res.failures {
		t.Error(f)
	}
}

// results gathers the outcomes of cases.
type results struct {
	mu                                             sync.Mutex
	cases, witnessed, unusable, lost, leaked, gaps int
	failures                                       []string
}

func (r *results) add(s *soundVolume, c *damage.Case, o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cases++
	if c.Witness {
		r.witnessed++
	}
	if o.unusable {
		r.unusable++
	}
	if o.lost > 0 {
		r.lost++
	}
	if o.leaked > 0 {
		r.leaked++
	}
	for _, wrong := range o.wrong {
		if slices.ContainsFunc(knownGaps, func(gap string) bool { return strings.Contains(wrong, gap) }) {
			r.gaps++
			continue
		}
		r.failures = append(r.failures, fmt.Sprintf("%s: %s: %s", wrong, s.name, c.Name))
	}
}

// outcome is what a case came to.
type outcome struct {
	unusable bool
	lost     int // blocks missing
	leaked   int // blocks of data in the set
	wrong    []string
}

// check walks the volume with the damage of c.
func (s *soundVolume) check(ctx context.Context, c *damage.Case) (o outcome) {
	bad := func(format string, args ...any) { o.wrong = append(o.wrong, fmt.Sprintf(format, args...)) }
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	v, err := volume.Open(ctx, damage.Overlay{Base: s.file, Patches: c.Patches})
	if err != nil {
		o.unusable = true
		if !c.Unusable {
			bad("does not open (%v)", err)
		}
		return o
	}
	meta, err := v.Metadata(ctx, volume.Options{})
	if err != nil {
		bad("the walk ends with %v", err)
		return o
	}
	for _, b := range c.Blocks {
		if s.set.Blocks.Has(b) && !meta.Blocks.Has(b) {
			bad("the broken block %d is missing", b)
		}
	}
	if c.Unusable {
		return o // another geometry is another volume
	}

	missing := without(s.set, meta)
	o.lost = len(missing)
	if len(missing) > 0 {
		reach := s.m.Reachable(c, false)
		if n := len(slices.DeleteFunc(slices.Clone(missing), func(b uint64) bool { return !reach.Has(b) })); n > 0 {
			bad("%d blocks lost that do not depend on it", n)
		}
	}
	switch {
	case !c.Witness:
	case len(missing) > 0 && meta.Complete():
		bad("%d blocks are missing without a word", len(missing))
	case !slices.ContainsFunc(c.Blocks, func(b uint64) bool { return named(meta.Findings, b) }):
		bad("no finding names it")
	}
	for _, b := range without(meta, s.set) {
		for _, r := range s.m.Data {
			if b >= r.Start && b < r.Start+r.Len {
				o.leaked++
			}
		}
	}
	return o
}

// without returns the blocks of the set a that are not in b.
func without(a, b *volume.Metadata) []uint64 {
	var rest []uint64
	for start, n := range a.Blocks.Spans() {
		for blkno := start; blkno < start+n; blkno++ {
			if !b.Blocks.Has(blkno) {
				rest = append(rest, blkno)
			}
		}
	}
	return rest
}

// named reports whether a finding names block b.
func named(findings []volume.Finding, b uint64) bool {
	return slices.ContainsFunc(findings, func(f volume.Finding) bool {
		return f.Block == b || f.Inode == b || slices.Contains(f.Path, b)
	})
}
