// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// The FUSE library does not compile for 386.

//go:build !386

package imager_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"o2image/blockio"
	"o2image/image"
	"o2image/imager"
	"o2image/internal/ocfs2test"
	"o2image/internal/ocfs2test/sickfs"
	"o2image/mapfile"
)

// pageSize is what a read past the page cache is rounded to, in bytes: FUSE does
// not tell that less would do.
const pageSize = 4096

func healthy(sickfs.Read) syscall.Errno { return 0 }

// sickOptions are those of the tests on a disk that fails.
func sickOptions() imager.CreateOptions {
	return imager.CreateOptions{Time: time.Unix(1e9, 0), Retries: 1, ReadTimeout: time.Minute}
}

// sickVolume is a small volume and what images of it hold when it is well.
type sickVolume struct {
	path   string
	bs     int64
	stored []image.Run
	data   []byte // of the image without redaction, as long as the volume
	image  []byte // packed
}

func newSickVolume(t *testing.T, name string) *sickVolume {
	t.Helper()
	v := &sickVolume{path: ocfs2test.Unpack(t, name).Path}
	opts := sickOptions()
	opts.Exact = true
	out := filepath.Join(t.TempDir(), "well")
	if _, err := imager.Create(t.Context(), v.path, out, opts); err != nil {
		t.Fatal(err)
	}
	var err error
	if v.image, err = os.ReadFile(out); err != nil {
		t.Fatal(err)
	}
	if v.data, err = os.ReadFile(v.path); err != nil {
		t.Fatal(err)
	}
	src, err := imager.Open(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	v.bs = int64(src.Volume().Super().BlockSize())
	v.stored = slices.Collect(runsOf(t, src))
	return v
}

// runsOf yields the runs of blocks that a packed image stores.
func runsOf(t *testing.T, src *imager.Source) func(func(image.Run) bool) {
	return func(yield func(image.Run) bool) {
		for run, err := range src.Packed().Runs() {
			if err != nil {
				t.Fatal(err)
			}
			if !yield(run) {
				return
			}
		}
	}
}

// blocks returns the single blocks of runs.
func blocks(runs []image.Run) map[uint64]bool {
	set := make(map[uint64]bool)
	for _, r := range runs {
		for n := range r.Len {
			set[r.Start+n] = true
		}
	}
	return set
}

// check compares an image that was made without redaction with the volume: each
// block that it stores is there, or is said not to be. It returns the blocks
// that it says are missing, and whether it says that it is whole.
func (v *sickVolume) check(t *testing.T, path string) (missing map[uint64]bool, whole bool) {
	t.Helper()
	src, err := imager.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	report, err := src.Report()
	if err != nil {
		t.Fatal(err)
	}
	missing = blocks(report.NotRead)
	b := make([]byte, v.bs)
	for run := range runsOf(t, src) {
		for n := range run.Len {
			blkno := run.Start + n
			if missing[blkno] {
				continue
			}
			off := int64(blkno) * v.bs
			if _, err := src.ReadAt(b, off); err != nil || !bytes.Equal(b, v.data[off:off+v.bs]) {
				t.Errorf("block %d is not that of the volume, and nothing says so (%v)", blkno, err)
			}
		}
	}
	if !report.Incomplete() {
		if got := slices.Collect(runsOf(t, src)); !slices.Equal(got, v.stored) {
			t.Error("an image that says that it is whole lacks blocks")
		}
	}
	return missing, !report.Incomplete()
}

// TestReadFailsOnce has each read of a capture fail in turn, once: with one retry
// nothing is missing, byte for byte.
func TestReadFailsOnce(t *testing.T) {
	v := newSickVolume(t, "min-b2k-c4k")
	step := 1
	if testing.Short() {
		step = 4
	}
	for fail := 0; ; fail += step {
		sick := sickfs.Mount(t, v.path, func(r sickfs.Read) syscall.Errno {
			if r.N == fail {
				return syscall.EIO
			}
			return 0
		})
		out := filepath.Join(t.TempDir(), "out")
		opts := sickOptions()
		opts.Exact = true
		report, err := imager.Create(t.Context(), sick.Path, out, opts)
		if err != nil || report.Incomplete() {
			t.Fatalf("read %d fails: %v, %+v", fail, err, report)
		}
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, v.image) {
			t.Errorf("read %d fails: another image (%v)", fail, err)
		}
		if fail > len(sick.Reads()) {
			t.Logf("%d reads", len(sick.Reads()))
			return
		}
	}
}

// TestSectorsFail has a range of bytes fail for ever: one for each request that
// is made of the well volume, and some at random. What cannot be read is
// missing, and said to be; what is said to be there is.
func TestSectorsFail(t *testing.T) {
	v := newSickVolume(t, "min-b2k-c4k")
	sick := sickfs.Mount(t, v.path, healthy)
	opts := sickOptions()
	opts.Exact = true
	if _, err := imager.Create(t.Context(), sick.Path, filepath.Join(t.TempDir(), "out"), opts); err != nil {
		t.Fatal(err)
	}
	var places []int64
	rng := rand.New(rand.NewPCG(3, 4))
	for _, r := range sick.Reads() {
		places = append(places, r.Off+rng.Int64N(int64(r.Len)))
	}
	stored := blocks(v.stored)
	for _, place := range places {
		bad := place / 512 * 512
		sick := sickfs.Mount(t, v.path, func(r sickfs.Read) syscall.Errno {
			if r.Touches(bad, 512) {
				return syscall.EIO
			}
			return 0
		})
		out := filepath.Join(t.TempDir(), "out")
		opts.Map = filepath.Join(t.TempDir(), "map")
		report, err := imager.Create(t.Context(), sick.Path, out, opts)
		if err != nil {
			t.Fatalf("bytes at %d fail: %v", bad, err)
		}
		blkno := uint64(bad / v.bs)
		if bad/pageSize == 2*v.bs/pageSize {
			continue // without its superblock nothing opens an image
		}
		missing, whole := v.check(t, out)
		if stored[blkno] && whole {
			t.Errorf("bytes at %d fail, block %d: whole %t, not read %v", bad, blkno, whole, report.NotRead)
		}
		for other := range missing {
			if int64(other)*v.bs/pageSize != bad/pageSize {
				t.Errorf("bytes at %d fail: block %d is missing too", bad, other)
			}
		}
		if tried := countTouching(sick.Reads(), bad); tried > 2*6 {
			t.Errorf("bytes at %d were tried %d times", bad, tried)
		}
		checkMap(t, v, opts.Map, out)
	}
}

func countTouching(reads []sickfs.Read, off int64) int {
	n := 0
	for _, r := range reads {
		if r.Touches(off, 1) {
			n++
		}
	}
	return n
}

// checkMap compares a map with the image that was made with it: what has been
// read is what the image stores and has.
func checkMap(t *testing.T, v *sickVolume, name, out string) *mapfile.Map {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := mapfile.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	src, err := imager.Open(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	report, err := src.Report()
	if err != nil {
		t.Fatal(err)
	}
	want, got := blocks(slices.Collect(runsOf(t, src))), make(map[uint64]bool)
	for blkno := range blocks(report.NotRead) {
		delete(want, blkno)
	}
	for _, b := range m.Blocks {
		for at := b.Pos; b.Status == mapfile.Finished && at < b.End(); at += v.bs {
			got[uint64(at/v.bs)] = true
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("blocks that are read (-image +map):\n%s", diff)
	}
	if last := m.Blocks[len(m.Blocks)-1]; m.Blocks[0].Pos != 0 || last.End() != int64(src.Volume().Super().Bytes()) {
		t.Errorf("the map ends at %d, the volume at %d", last.End(), src.Volume().Super().Bytes())
	}
	return m
}

// TestRandomSectors has many sectors fail, in clusters and alone, and then resumes
// on a device that is well: the image is that of the well volume, and only what
// was missing is read.
func TestRandomSectors(t *testing.T) {
	names, seeds := []string{"min-b2k-c4k", "inline-b512"}, uint64(4)
	if testing.Short() {
		names, seeds = names[:1], 2
	}
	for _, name := range names {
		v := newSickVolume(t, name)
		for seed := range seeds {
			rng := rand.New(rand.NewPCG(seed, 1))
			bad := make(map[int64]bool)
			for range 1 << (2 * seed) {
				run := v.stored[rng.IntN(len(v.stored))]
				first := (int64(run.Start)*v.bs + rng.Int64N(int64(run.Len)*v.bs)) / 512
				for n := range rng.Int64N(40) {
					bad[first+n] = true
				}
			}
			for sector := range (2*v.bs/pageSize + 1) * pageSize / 512 { // without a superblock it is another test
				delete(bad, sector)
			}
			sick := sickfs.Mount(t, v.path, func(r sickfs.Read) syscall.Errno {
				for sector := r.Off / 512; sector < (r.Off+int64(r.Len)+511)/512; sector++ {
					if bad[sector] {
						return syscall.EIO
					}
				}
				return 0
			})
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			opts := sickOptions()
			opts.Exact, opts.Map = true, filepath.Join(dir, "map")
			if _, err := imager.Create(t.Context(), sick.Path, out, opts); err != nil {
				t.Fatal(err)
			}
			missing, _ := v.check(t, out)
			for blkno := range missing {
				first := int64(blkno) * v.bs / pageSize * (pageSize / 512)
				if !slices.ContainsFunc(sectors(first, pageSize/512), func(s int64) bool { return bad[s] }) {
					t.Errorf("%s, seed %d: block %d is missing, and can be read", name, seed, blkno)
				}
			}
			checkMap(t, v, opts.Map, out)

			well := sickfs.Mount(t, v.path, healthy)
			opts.From = out
			done := filepath.Join(dir, "done")
			if _, err := imager.Create(t.Context(), well.Path, done, opts); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(done); err != nil || !bytes.Equal(got, v.image) {
				t.Errorf("%s, seed %d: resumed, it is another image (%v)", name, seed, err)
			}
			v.onlyMissing(t, fmt.Sprintf("%s, seed %d", name, seed), well.Reads(), out, missing)
		}
	}
}

func sectors(first, n int64) []int64 {
	var list []int64
	for i := range n {
		list = append(list, first+i)
	}
	return list
}

// onlyMissing wants reads of nothing that the image in the file from has, but
// for the superblock, and for what is read to find out what kind of file the
// device is: its start and its end.
func (v *sickVolume) onlyMissing(t *testing.T, what string, reads []sickfs.Read, from string, missing map[uint64]bool) {
	t.Helper()
	src, err := imager.Open(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	held := blocks(slices.Collect(runsOf(t, src)))
	again := 0
	for _, r := range reads {
		for at := r.Off; at < r.Off+int64(r.Len); at += v.bs {
			if blkno := uint64(at / v.bs); blkno > 2 && held[blkno] && !missing[blkno] {
				again++
			}
		}
	}
	// Direct reads are whole pages, and what lies between two blocks that are
	// near to each other is read with them.
	if most := 40 * (len(missing) + 1); again > most {
		t.Errorf("%s: %d blocks were read again, %d were missing", what, again, len(missing))
	}
	if len(missing) == 0 && len(reads) > 6 {
		t.Errorf("%s: nothing was missing, and there were %d reads: %v", what, len(reads), reads)
	}
}

// TestHang has one block hang that the walk needs, and one that only the copy
// reads: the rest is in the image, and the process does not wait.
func TestHang(t *testing.T) {
	v := newSickVolume(t, "min-b2k-c4k")
	last := v.stored[len(v.stored)-2]
	for i, blkno := range []uint64{v.stored[1].Start + 5, last.Start + last.Len/2} {
		sick := sickfs.Mount(t, v.path, func(r sickfs.Read) syscall.Errno {
			if r.Touches(int64(blkno)*v.bs, v.bs) {
				return sickfs.Hang
			}
			return 0
		})
		dir := t.TempDir()
		opts := sickOptions()
		opts.Exact, opts.ReadTimeout, opts.Map = true, time.Second, filepath.Join(dir, "map")
		out := filepath.Join(dir, "out")
		start := time.Now()
		report, err := imager.Create(t.Context(), sick.Path, out, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("block %d hangs: %v, %d reads", blkno, time.Since(start).Round(time.Millisecond), len(sick.Reads()))
		missing, whole := v.check(t, out)
		if whole || i == 1 && !missing[blkno] || len(missing) > 8 {
			t.Errorf("block %d hangs: whole %t, not read: %v", blkno, whole, report.NotRead)
		}
		checkMap(t, v, opts.Map, out)
	}
}

// TestStop stops the reading after each number of reads: there is a partial image
// with what was read until then, with which a second run makes a whole one.
func TestStop(t *testing.T) {
	v := newSickVolume(t, "min-b2k-c4k")
	for _, raw := range []bool{false, true} {
		images := 0
		for after, step := 1, 1; ; after, step = after+step, step+1 {
			stop := make(chan struct{})
			sick := sickfs.Mount(t, v.path, func(r sickfs.Read) syscall.Errno {
				switch {
				case r.N == after:
					close(stop)
				case r.N > after: // under way, or about to begin: the stop gets about meanwhile
					time.Sleep(10 * time.Millisecond)
				}
				return 0
			})
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			opts := sickOptions()
			opts.Raw, opts.Exact, opts.Map, opts.Stop = raw, true, filepath.Join(dir, "map"), stop
			report, err := imager.Create(t.Context(), sick.Path, out, opts)
			if err != nil {
				if left, _ := os.ReadDir(dir); !errors.Is(err, blockio.ErrStopped) || len(left) > 0 {
					t.Errorf("after %d reads: %v, left behind: %v", after, err, left)
				}
				continue
			}
			if !report.Interrupted {
				if after < len(sick.Reads())/2 {
					t.Errorf("after %d of %d reads it was not stopped", after, len(sick.Reads()))
				}
				break
			}
			images++
			if n := len(sick.Reads()); n > after+32 {
				t.Errorf("stopped after %d reads, there were %d", after, n)
			}
			if !raw {
				v.check(t, out)
				checkMap(t, v, opts.Map, out)
			}
			if src, err := imager.Open(t.Context(), out); err != nil {
				t.Errorf("after %d reads: %v", after, err)
			} else {
				src.Close()
			}
			opts.Stop, opts.From, opts.Raw = nil, out, false
			done := filepath.Join(dir, "done")
			if _, err := imager.Create(t.Context(), v.path, done, opts); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(done); err != nil || !bytes.Equal(got, v.image) {
				t.Errorf("raw %t, after %d reads: resumed, it is another image (%v)", raw, after, err)
			}
		}
		if images < 3 {
			t.Errorf("raw %t: only %d images of stopped runs", raw, images)
		}
	}
}

// TestStopHanging stops a run of which a read hangs, and never times out.
func TestStopHanging(t *testing.T) {
	v := newSickVolume(t, "min-b2k-c4k")
	stop := make(chan struct{})
	sick := sickfs.Mount(t, v.path, func(r sickfs.Read) syscall.Errno {
		if r.N == 10 {
			time.AfterFunc(100*time.Millisecond, func() { close(stop) })
			return sickfs.Hang
		}
		return 0
	})
	opts := sickOptions()
	opts.Exact, opts.ReadTimeout, opts.Stop = true, 0, stop
	out := filepath.Join(t.TempDir(), "out")
	report, err := imager.Create(t.Context(), sick.Path, out, opts)
	if err != nil || !report.Interrupted || !report.Incomplete() {
		t.Fatalf("%v, %+v", err, report)
	}
	v.check(t, out)
}

// TestRestorePartial writes an image of a stopped run over the volume: no byte of
// it changes.
func TestRestorePartial(t *testing.T) {
	vol := ocfs2test.Unpack(t, "min-b2k-c4k")
	v := newSickVolume(t, "min-b2k-c4k")
	stop := make(chan struct{})
	sick := sickfs.Mount(t, v.path, func(r sickfs.Read) syscall.Errno {
		if r.N == 12 {
			close(stop)
		}
		return 0
	})
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	opts := sickOptions()
	opts.Exact, opts.Stop = true, stop
	report, err := imager.Create(t.Context(), sick.Path, out, opts)
	if err != nil || len(report.NotRead) == 0 {
		t.Fatalf("%v, %+v", err, report)
	}
	target := vol.Copy(t)
	restore := func(what string) {
		t.Helper()
		if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, v.data) {
			t.Errorf("%s: blocks that were not read were written (%v)", what, err)
		}
	}
	if _, err := imager.Restore(t.Context(), target, out, imager.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	restore("packed")

	raw, again := filepath.Join(dir, "raw"), filepath.Join(dir, "again")
	if _, err := imager.Convert(t.Context(), out, raw, imager.ConvertOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := imager.Restore(t.Context(), target, raw, imager.RestoreOptions{Raw: true}); err != nil {
		t.Fatal(err)
	}
	restore("raw")
	converted, err := imager.Convert(t.Context(), raw, again, imager.ConvertOptions{})
	if err != nil || len(converted.NotRead) == 0 || !converted.Incomplete() {
		t.Errorf("packed again: %v, %+v", err, converted)
	}
}

// TestUnreadableStart has the first sectors fail, where an image has its header.
func TestUnreadableStart(t *testing.T) {
	v := newSickVolume(t, "min-b2k-c4k")
	sick := sickfs.Mount(t, v.path, func(r sickfs.Read) syscall.Errno {
		if r.Touches(0, v.bs) {
			return syscall.EIO
		}
		return 0
	})
	opts := sickOptions()
	opts.Exact = true
	out := filepath.Join(t.TempDir(), "out")
	report, err := imager.Create(t.Context(), sick.Path, out, opts)
	if err != nil || !slices.Equal(report.NotRead, []image.Run{{Start: 0, Len: uint64(pageSize / v.bs)}}) {
		t.Errorf("%v, not read: %v", err, report.NotRead)
	}
	v.check(t, out)
	src, err := imager.Open(context.Background(), sick.Path)
	if err != nil {
		t.Fatal(err)
	}
	src.Close()
}

// TestBlockDevice has sectors fail of a real block device: a loop device, whose
// reads the kernel passes on to the sick file.
func TestBlockDevice(t *testing.T) {
	v := newSickVolume(t, "min-b2k-c4k")
	last := v.stored[len(v.stored)-2]
	bad := int64(last.Start+last.Len/2) * v.bs / pageSize * pageSize
	sick := sickfs.Mount(t, v.path, func(r sickfs.Read) syscall.Errno {
		if r.Touches(bad, pageSize) {
			return syscall.EIO
		}
		return 0
	})
	dir := t.TempDir()
	opts := sickOptions()
	opts.Exact, opts.Map = true, filepath.Join(dir, "map")
	out := filepath.Join(dir, "out")
	report, err := imager.Create(t.Context(), ocfs2test.Loop(t, sick.Path), out, opts)
	if err != nil {
		t.Fatal(err)
	}
	want := []image.Run{{Start: uint64(bad / v.bs), Len: uint64(pageSize / v.bs)}}
	if !slices.Equal(report.NotRead, want) || !report.Incomplete() {
		t.Errorf("not read: %v, want %v", report.NotRead, want)
	}
	v.check(t, out)
	m := checkMap(t, v, opts.Map, out)
	failed := []mapfile.Block{{Pos: bad, Size: pageSize, Status: mapfile.BadSector}}
	if got := slices.DeleteFunc(m.Blocks, func(b mapfile.Block) bool { return b.Status != mapfile.BadSector }); !slices.Equal(got, failed) {
		t.Errorf("the map says %v cannot be read, want %v", got, failed)
	}
}
