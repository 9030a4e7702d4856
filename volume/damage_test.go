// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"o2image/internal/ocfs2test"
	"o2image/internal/ocfs2test/damage"
	"o2image/volume"
)

// damaged are volumes that together have every structure that there is, with
// check values and without.
var damaged = []string{
	"min-b512-c4k", "metaecc", "max-features", "deep-b512", "reflink-b1k", "xattr-b512", "xattr-b1k", "dx-tree-b1k", "nometaecc", "dx-inline", "slowlinks",
	"orphans", "crash", "discontig", "old-b1k", "quota", "backup-1g", "o2cb-3slots", "plain-c64k", "inline-b512", "min-b2k-c64k",
}

// onlyDamage selects cases: go test ./volume -run 'TestDamage$' -v -damage 'metaecc: super: '
var onlyDamage = flag.String("damage", "", "only cases with this text in \"VOLUME: CASE\", and list the findings")

// leastCases is how many cases there are to be at least.
const leastCases = 3000

// shortStep is how many cases go for one that -short runs: with the race
// detector each takes ten times as long.
const shortStep = 10

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
		for i, c := range s.m.Cases(covered, 1) {
			if !strings.Contains(s.name+": "+c.Name, *onlyDamage) {
				continue
			}
			if testing.Short() && *onlyDamage == "" && i%shortStep != 0 {
				continue
			}
			jobs <- func() {
				o := s.check(t.Context(), c)
				res.add(s, c, o)
				if *onlyDamage != "" {
					t.Logf("%s: %s: %v %v", s.name, c.Name, o.wrong, o.findings)
				}
			}
		}
	}
	close(jobs)
	workers.Wait()
	t.Logf("%d cases, %d that something contradicts, %d without a usable superblock, %d with blocks missing, %d even after a sweep, %d with file data in the set",
		res.cases, res.witnessed, res.unusable, res.lost, res.swept, res.leaked)
	if !testing.Short() && *onlyDamage == "" && res.cases < leastCases {
		t.Errorf("only %d cases", res.cases)
	}
	slices.Sort(res.failures)
	for _, f := range res.failures {
		t.Error(f)
	}
}

// results gathers the outcomes of cases.
type results struct {
	mu                                              sync.Mutex
	cases, witnessed, unusable, lost, swept, leaked int
	failures                                        []string
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
	if o.swept > 0 {
		r.swept++
	}
	if o.leaked > 0 {
		r.leaked++
	}
	for _, wrong := range o.wrong {
		r.failures = append(r.failures, fmt.Sprintf("%s: %s: %s", wrong, s.name, c.Name))
	}
}

// outcome is what a case came to.
type outcome struct {
	unusable bool
	lost     int // blocks missing
	swept    int // of these after a sweep
	leaked   int // blocks of data in the set
	findings []volume.Finding
	wrong    []string
}

// check walks the volume with the damage of c.
func (s *soundVolume) check(ctx context.Context, c *damage.Case) (o outcome) {
	bad := func(format string, args ...any) { o.wrong = append(o.wrong, fmt.Sprintf(format, args...)) }
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // five are enough on an idle machine
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
	o.findings = meta.Findings
	for _, b := range c.Blocks {
		if s.set.Blocks.Has(b) && !meta.Blocks.Has(b) {
			bad("the broken block %d is missing", b)
		}
	}
	missing := without(s.set, meta)
	o.lost = len(missing)
	if c.Unusable {
		return o // another geometry is another volume
	}
	if len(missing) > 0 {
		reach := s.m.Reachable(c, true)
		if n := len(slices.DeleteFunc(slices.Clone(missing), func(b uint64) bool { return !reach.Has(b) })); n > 0 {
			bad("%d blocks lost that do not depend on it", n)
		}
	}
	if len(missing) > 0 {
		swept, err := v.Metadata(ctx, volume.Options{Sweep: true})
		if err != nil {
			bad("the sweep ends with %v", err)
			return o
		}
		still := without(s.set, swept)
		o.swept = len(still)
		if slices.ContainsFunc(still, func(b uint64) bool { return meta.Blocks.Has(b) }) {
			bad("a sweep finds less")
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
				if class, _ := meta.Blocks.Tag(b); volume.Class(class) == volume.ClassBucket {
					bad("block %d of file data is taken for a bucket", b)
				}
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

// TestUpstreamDefects repeats the damage at which o2image 1.8.7 crashes, loops,
// or leaves out what it could find.
func TestUpstreamDefects(t *testing.T) {
	// A value that depends on the volume is given as a function of the block.
	self := func(b uint64) uint64 { return b }
	value := func(v uint64) func(uint64) uint64 { return func(uint64) uint64 { return v } }
	const far = 1 << 40
	type change struct {
		field string
		value func(block uint64) uint64
	}
	for _, tt := range []struct {
		name    string
		volume  string
		kind    string   // of the block that is changed, the first of its kind
		changes []change // none: the block is zeroed
		whole   bool     // nothing may be missing
	}{
		{"D05a first cluster group far outside", "plain-b1k", "super", []change{{"s_first_cluster_group", value(far)}}, true},
		{"D05b directory behind the end", "nometaecc", "inode dir indexed", []change{{"e_blkno", value(32768 + 40000)}}, false},
		{"D05c directory of 65535 clusters", "nometaecc", "inode dir indexed", []change{{"e_leaf_clusters", value(0xFFFF)}}, false},
		{"D05d group of 65535 bits", "plain-b1k", "group of inode_alloc", []change{{"bg_bits", value(0xFFFF)}}, false},
		{"D05e chain that begins outside", "plain-b1k", "inode inode_alloc", []change{{"c_blkno", value(far)}}, false},
		{"D05f chain that goes on outside", "plain-b1k", "group of inode_alloc", []change{{"bg_next_group", value(far)}}, false},
		{"D05g discontiguous group outside", "discontig", "group of inode_alloc discontiguous", []change{{"e_blkno", value(far)}}, false},
		{"D05h extent list of 65535 records", "nometaecc", "inode dir indexed", []change{{"l_count", value(0xFFFF)}, {"l_next_free_rec", value(0xFFFF)}}, false},
		{"D05i 65535 chains", "plain-b1k", "inode inode_alloc", []change{{"cl_count", value(0xFFFF)}, {"cl_next_free_rec", value(0xFFFF)}}, false},
		{"D05j group bitmap of 65535 bits", "plain-b1k", "group of inode_alloc", []change{{"bg_size", value(0xFFFF)}, {"bg_bits", value(0xFFFF)}}, false},
		{"D06a hole in a discontiguous group", "discontig", "group of inode_alloc discontiguous", []change{{"e_leaf_clusters", value(1)}}, false},
		{"D06b no bits a cluster", "plain-b1k", "inode inode_alloc", []change{{"cl_bpc", value(0)}}, false},
		{"D06c extent block that leads to itself", "xattr-b512", "extent block of xattrs", []change{{"l_tree_depth", value(1)}, {"e_blkno", self}}, false},
		{"D06d group with the number of another block", "plain-b1k", "group of inode_alloc", []change{{"bg_blkno", func(b uint64) uint64 { return b - 64 }}}, true},
		{"D06e volume of no clusters", "plain-b1k", "super", []change{{"i_clusters", value(0)}}, false},
		{"D07a chain that is a loop", "plain-b1k", "group of inode_alloc", []change{{"bg_next_group", self}}, false},
		{"D07b volume of 4294952192 clusters", "plain-b1k", "super", []change{{"i_clusters", value(4294952192)}}, true},
		{"D08c descriptor of an inode group zeroed", "plain-b1k", "group of inode_alloc", nil, false},
		{"D08d inode of an allocator zeroed", "plain-b1k", "inode inode_alloc", nil, false},
		{"D08e inode of the global allocator zeroed", "plain-b1k", "inode global_inode_alloc", nil, false},
		{"D08f group of the global allocator zeroed", "plain-b1k", "group of global_inode_alloc", nil, false},
		{"D08g no slots", "plain-b1k", "super", []change{{"s_max_slots", value(0)}}, true},
		{"D08h wrong signature in a chain", "plain-b1k", "group of inode_alloc", []change{{"bg_signature", value(0x3130505552475F5F)}}, true},
		{"D08i more clusters than the device has", "plain-b1k", "super", []change{{"i_clusters", value(40000)}}, true},
		{"D08j index root outside", "nometaecc", "inode dir indexed", []change{{"i_dx_root", value(far)}}, false},
		{"D18 directory at block 2^62", "nometaecc", "inode dir indexed", []change{{"e_blkno", value(1 << 62)}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := readSound(t, tt.volume)
			blocks, err := s.m.Find(tt.kind)
			if err != nil {
				t.Fatal(err)
			}
			c := s.m.Zero(tt.name, blocks[0])
			if tt.changes != nil {
				var list []damage.Change
				for _, ch := range tt.changes {
					list = append(list, damage.Change{Block: blocks[0], Field: ch.field, Value: ch.value(blocks[0])})
				}
				if c, err = s.m.Break(tt.name, list...); err != nil {
					t.Fatal(err)
				}
			}
			s.expect(t, c, tt.whole)
		})
	}
}

// counting counts the bytes that are read.
type counting struct {
	io.ReaderAt
	bytes *atomic.Int64
}

func (c counting) ReadAt(p []byte, off int64) (int, error) {
	c.bytes.Add(int64(len(p)))
	return c.ReaderAt.ReadAt(p, off)
}

// TestExtentsOutOfOrder has an extent of a large directory behind its end: the
// entries of the others are listed, and an error says that some are missing.
func TestExtentsOutOfOrder(t *testing.T) {
	s := readSound(t, "dx-tree")
	list := func(r io.ReaderAt, ino uint64) (names int, errs []error) {
		v, err := volume.Open(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		d, err := v.Inode(t.Context(), ino)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range v.ReadDir(t.Context(), d) {
			if err != nil {
				errs = append(errs, err)
			} else {
				names++
			}
		}
		return names, errs
	}
	dirs, err := s.m.Find("inode dir indexed")
	if err != nil {
		t.Fatal(err)
	}
	const listOff, firstRec = 0xC0, 0xD0 // id2.i_list and its l_recs
	tried := 0
	for _, ino := range dirs {
		all, errs := list(s.file, ino)
		if errs != nil {
			t.Fatal(errs)
		}
		var depth [1]byte
		if _, err := s.file.ReadAt(depth[:], int64(ino)*int64(s.m.BlockSize)+listOff); err != nil { //nolint:gosec // small
			t.Fatal(err)
		}
		if all < 1000 || depth[0] > 0 {
			continue
		}
		tried++
		off := int64(ino)*int64(s.m.BlockSize) + firstRec + 16 //nolint:gosec // small
		cut := damage.Overlay{Base: s.file, Patches: []damage.Patch{{Off: off, Data: []byte{0, 0, 0, 0x10}}}}
		if names, errs := list(cut, ino); names < all/2 || len(errs) == 0 {
			t.Errorf("inode %d: %d of %d entries, errors %v", ino, names, all, errs)
		}
	}
	if tried == 0 {
		t.Fatal("no large directory")
	}
}

// TestGroupOfManyPieces has a group that says of 200 pieces that each is the
// whole volume: that must not be read 200 times.
func TestGroupOfManyPieces(t *testing.T) {
	const list, pieces = 0x140, 200 // bg_list
	s := readSound(t, "discontig-b4k")
	groups, err := s.m.Find("group of inode_alloc discontiguous")
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	rec := le.AppendUint64(le.AppendUint32(le.AppendUint32(nil, 77), uint32(s.m.Blocks-2)), 2) //nolint:gosec // small
	group := int64(groups[0]) * int64(s.m.BlockSize)                                           //nolint:gosec // small
	patches := []damage.Patch{
		{Off: group + list, Data: []byte{1}}, // a depth, so that lengths have 32 bits
		{Off: group + list + 4, Data: []byte{pieces}},
		{Off: group + list + 0x20, Data: bytes.Repeat(rec, pieces-1)},
	}
	read := func(r io.ReaderAt) int64 {
		var n atomic.Int64
		v, err := volume.Open(t.Context(), counting{r, &n})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Metadata(t.Context(), volume.Options{}); err != nil {
			t.Fatal(err)
		}
		return n.Load()
	}
	whole := int64(s.m.Blocks) * int64(s.m.BlockSize) //nolint:gosec // small
	if n := read(damage.Overlay{Base: s.file, Patches: patches}) - read(s.file); n > 2*whole {
		t.Errorf("%d bytes more are read of a volume of %d", n, whole)
	}
}

// TestLostInodes zeroes an inode at a time of a group: the others must not
// suffer. 1.8.7 leaves out everything behind the last one (D08a, D08b).
func TestLostInodes(t *testing.T) {
	s := readSound(t, "plain-b1k")
	groups, err := s.m.Find("group of inode_alloc")
	if err != nil {
		t.Fatal(err)
	}
	inodes := s.m.Inodes(groups[0])
	for _, ino := range []uint64{inodes[0], inodes[len(inodes)/2], inodes[len(inodes)-1]} {
		s.expect(t, s.m.Zero(fmt.Sprintf("D08a inode %d zeroed", ino), ino), false)
	}
}

// expect checks a case, and with whole that nothing is missing.
func (s *soundVolume) expect(t *testing.T, c *damage.Case, whole bool) {
	t.Helper()
	o := s.check(t.Context(), c)
	if whole && (o.unusable || o.lost > 0) {
		o.wrong = append(o.wrong, fmt.Sprintf("of what is there still, %d blocks are missing", o.lost))
	}
	for _, wrong := range o.wrong {
		t.Errorf("%s: %s", c.Name, wrong)
	}
}

// TestDamageMemory runs the cases of one volume in a process that gets little
// memory: nothing may be allocated because a disk says so.
func TestDamageMemory(t *testing.T) {
	program := filepath.Join(t.TempDir(), "volume.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // threads of C reserve much
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Go reserves some 1.2 GB of addresses for itself, most of which it never uses.
	cmd := exec.CommandContext(t.Context(), "bash", "-c", `ulimit -v 1572864 && exec "$0" "$@"`,
		program, "-test.short", "-test.run=^TestDamage$", "-damage=min-b512-c4k: ")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
