// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"o2image/blockio"
	"o2image/internal/ocfs2test"
)

// fault is what happens to the n-th change of a target or an undo file.
type fault string

const (
	fails  fault = "fails"   // it returns an error
	killed fault = "kill -9" // the process is killed when half of it is done
	powers fault = "power"   // the same, and of what was not synced anything may be lost
)

var errStopped = errors.New("stopped")

// faulty counts changes of the files it has opened, and lets the n-th go wrong.
type faulty struct {
	fault fault
	n     int // 0: none

	mu       sync.Mutex
	count    int
	stopped  bool
	unsynced []undoWrite
}

// undoWrite is what stood where something has been written.
type undoWrite struct {
	d   device
	off int64
	p   []byte
}

// step counts a change. do is it, and half a part of it.
func (f *faulty) step(do, half func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return errStopped
	}
	if f.count++; f.count != f.n {
		return do()
	}
	switch f.fault {
	case fails:
		return syscall.EIO
	case killed:
		_ = half()
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	_ = half()
	f.stopped = true
	for i := len(f.unsynced) - 1; i >= 0; i-- {
		if rand.N(2) == 0 {
			continue
		}
		u := f.unsynced[i]
		if _, err := u.d.WriteAt(u.p, u.off); err != nil {
			panic(err)
		}
	}
	return errStopped
}

func nothing() error { return nil }

// disks returns what opens files with faults.
func (f *faulty) disks() disks {
	return disks{
		target: func(name string, opts blockio.TargetOptions) (device, error) {
			t, err := blockio.OpenTarget(name, opts)
			if err != nil {
				return nil, err
			}
			return &faultyDevice{t, f}, nil
		},
		newFile: func(name string) (newFile, error) {
			file, err := blockio.CreateNew(name)
			if err != nil {
				return nil, err
			}
			return &faultyFile{file, f}, nil
		},
	}
}

type faultyDevice struct {
	device
	f *faulty
}

// remember keeps what a write overwrites.
func (d *faultyDevice) remember(off, n int64) {
	old := make([]byte, n)
	got, err := d.device.ReadAt(old, off)
	if err != nil && !errors.Is(err, io.EOF) {
		panic(err)
	}
	d.f.unsynced = append(d.f.unsynced, undoWrite{d.device, off, old[:got]})
}

func (d *faultyDevice) WriteAt(p []byte, off int64) (int, error) {
	write := func(p []byte) error {
		if d.f.fault == powers {
			d.remember(off, int64(len(p)))
		}
		_, err := d.device.WriteAt(p, off)
		return err
	}
	err := d.f.step(func() error { return write(p) }, func() error { return write(p[:len(p)/2&^511]) })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (d *faultyDevice) WriteZeros(off, n int64) error {
	zero := func(n int64) error {
		if d.f.fault == powers {
			d.remember(off, n)
		}
		return d.device.WriteZeros(off, n)
	}
	return d.f.step(func() error { return zero(n) }, func() error { return zero(n / 2 &^ 511) })
}

func (d *faultyDevice) Extend(size int64) error {
	return d.f.step(func() error { return d.device.Extend(size) }, nothing)
}

func (d *faultyDevice) Truncate(size int64) error {
	return d.f.step(func() error { return d.device.Truncate(size) }, nothing)
}

func (d *faultyDevice) Sync() error {
	return d.f.step(func() error { d.f.unsynced = nil; return d.device.Sync() }, nothing)
}

// Discard does nothing once the process is dead.
func (d *faultyDevice) Discard() error {
	if d.f.stopped {
		return d.device.Close()
	}
	return d.device.Discard()
}

type faultyFile struct {
	newFile
	f *faulty
}

func (w *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	err := w.f.step(func() error { _, err := w.newFile.WriteAt(p, off); return err }, nothing)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *faultyFile) Commit() error { return w.f.step(w.newFile.Commit, nothing) }

// restoreEnv holds the arguments of a restore that this process is to be killed
// in.
const restoreEnv = "O2IMAGE_TEST_RESTORE"

func TestMain(m *testing.M) {
	if args := strings.Split(os.Getenv(restoreEnv), "\n"); len(args) == 5 {
		n, err := strconv.Atoi(args[3])
		if err != nil {
			panic(err)
		}
		f := &faulty{fault: killed, n: n}
		opts := RestoreOptions{Undo: args[2], Raw: args[4] == "true", disks: f.disks()}
		if _, err := Restore(context.Background(), args[0], args[1], opts); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// restoreKilled restores in a process that is killed at its n-th change.
func restoreKilled(t *testing.T, target, image, undoFile string, n int, asRaw bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), restoreEnv+"="+strings.Join([]string{target, image, undoFile, strconv.Itoa(n), strconv.FormatBool(asRaw)}, "\n"))
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("change %d: %v: %s", n, err, out)
	}
}

// print is what is in a file: the hashes of its pages that are not zero, by
// offset, and its length.
type print struct {
	size  int64
	pages map[int64]uint64
}

var (
	seed     = maphash.MakeSeed()
	zeroPage [4096]byte
)

// fingerprint returns what is in a file; of a missing one nothing.
func fingerprint(t *testing.T, name string) print {
	t.Helper()
	p := print{pages: make(map[int64]uint64)}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return p
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p.size = info.Size()
	page := make([]byte, len(zeroPage))
	for off := int64(0); ; {
		if off, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA); err != nil {
			return p // no more
		}
		end, err := unix.Seek(int(f.Fd()), off, unix.SEEK_HOLE)
		if err != nil {
			t.Fatal(err)
		}
		for off &^= int64(len(page) - 1); off < end; off += int64(len(page)) {
			n, err := f.ReadAt(page, off)
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if !bytes.Equal(page[:n], zeroPage[:n]) {
				p.pages[off] = maphash.Bytes(seed, page[:n])
			}
		}
	}
}

// same reports whether two files have the same bytes.
func (p print) same(other print) bool {
	return p.size == other.size && maps.Equal(p.pages, other.pages)
}

func sparseCopy(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// interruption is a restore that is interrupted in all places.
type interruption struct {
	image, old       string // old is a copy of the target as it was; empty if it was missing
	target, undoFile string
	complete         string // a copy of it after a restore that nothing disturbs
	before, after    print  // of old and of complete
	asRaw            bool
	points           int  // at which it was interrupted
	isOldNow         bool // the target is what it was
}

// reset makes the target what it was.
func (i *interruption) reset(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(i.undoFile); err != nil {
		t.Fatal(err)
	}
	if !i.isOldNow {
		if err := os.RemoveAll(i.target); err != nil {
			t.Fatal(err)
		}
		if i.old != "" {
			sparseCopy(t, i.old, i.target)
		}
	}
	i.isOldNow = false
}

func (i *interruption) restore(t *testing.T, image, undoFile string, f *faulty) error {
	t.Helper()
	opts := RestoreOptions{Undo: undoFile, disks: f.disks()}
	opts.Raw = i.asRaw && image == i.image
	_, err := Restore(t.Context(), i.target, image, opts)
	return err
}

// isOld reports whether the target is as it was, but perhaps for zeros behind
// its end, by which a volume is neither better nor worse.
func (i *interruption) isOld(now print) bool {
	return now.size >= i.before.size && maps.Equal(now.pages, i.before.pages)
}

// check looks at the target after an interruption: it is untouched, as it should
// be in the end, or it has no superblock where the kernel looks for one.
func (i *interruption) check(t *testing.T, what string) {
	t.Helper()
	if now := fingerprint(t, i.target); i.isOld(now) || now.same(i.after) {
		return
	}
	f, err := os.Open(i.target)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, place := range []int64{1024, 2048, 4096, 8192} {
		b := make([]byte, 6)
		if n, _ := f.ReadAt(b, place); string(b[:n]) == "OCFSV2" {
			t.Errorf("%s: neither untouched nor complete, and there is a superblock at byte %d", what, place)
		}
	}
	if i.points%16 == 0 { // also in the eyes of the C tools
		if got := ocfs2test.Debugfs(t, i.target, false, "stats"); strings.Contains(got, "Max Node Slots") {
			t.Errorf("%s: debugfs.ocfs2 opens it", what)
		}
	}
}

// rerun restores again and wants all to be there.
func (i *interruption) rerun(t *testing.T, what string) {
	t.Helper()
	if err := i.restore(t, i.image, "", new(faulty)); err != nil {
		t.Fatalf("%s, again: %v", what, err)
	}
	if !fingerprint(t, i.target).same(i.after) {
		t.Errorf("%s: a second restore does not complete it", what)
	}
}

// back undoes the restore and wants the target to be what it was.
func (i *interruption) back(t *testing.T, what string) {
	t.Helper()
	if _, err := os.Stat(i.undoFile); errors.Is(err, fs.ErrNotExist) {
		if !i.isOld(fingerprint(t, i.target)) {
			t.Errorf("%s: there is no undo file, and the target has changed", what)
		}
		return
	}
	if err := i.restore(t, i.undoFile, "", new(faulty)); err != nil {
		t.Fatalf("%s, undone: %v", what, err)
	}
	if !fingerprint(t, i.target).same(i.before) {
		t.Errorf("%s: undoing it does not bring back what there was", what)
		return
	}
	i.isOldNow = i.old != ""
}

// at interrupts the restore at its n-th change.
func (i *interruption) at(t *testing.T, f fault, n int) {
	t.Helper()
	what := fmt.Sprintf("restore, change %d %s", n, f)
	i.points++
	i.reset(t)
	if f == killed {
		restoreKilled(t, i.target, i.image, i.undoFile, n, i.asRaw)
	} else if err := i.restore(t, i.image, i.undoFile, &faulty{fault: f, n: n}); err == nil {
		t.Errorf("%s: it says that it is complete", what)
	}
	i.check(t, what)
	if n%2 == 0 {
		i.back(t, what) // from there
		return
	}
	i.rerun(t, what)
	if _, err := os.Stat(i.undoFile); err == nil {
		i.back(t, what)
	}
}

// undoAt interrupts the undoing of the restore at its n-th change.
func (i *interruption) undoAt(t *testing.T, f fault, n int) {
	t.Helper()
	what := fmt.Sprintf("undo, change %d %s", n, f)
	i.points++
	sparseCopy(t, i.complete, i.target)
	i.isOldNow = false
	if f == killed {
		restoreKilled(t, i.target, i.undoFile, "", n, false)
	} else if err := i.restore(t, i.undoFile, "", &faulty{fault: f, n: n}); err == nil {
		t.Errorf("%s: it says that it is complete", what)
	}
	i.check(t, what)
	i.back(t, what)
}

// TestInterrupted lets every change of a target and an undo file go wrong, in
// every way, in a restore and in an undo. Afterwards the target is untouched,
// complete or without a superblock; a second run completes it, and an undo brings back
// every byte.
func TestInterrupted(t *testing.T) {
	image := func(name string, opts CreateOptions) string {
		path := filepath.Join(t.TempDir(), "image")
		if _, err := Create(t.Context(), ocfs2test.Unpack(t, name).Path, path, opts); err != nil {
			t.Fatal(err)
		}
		return path
	}
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, bytes.Repeat([]byte("what nobody knows "), 40_000), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]*interruption{
		"longer, with smaller blocks": {image: image("min-b4k-c4k", CreateOptions{}), old: ocfs2test.Unpack(t, "plain-b1k").Path},
		"shorter, no volume":          {image: image("min-b1k-c4k", CreateOptions{Exact: true}), old: junk},
		"missing":                     {image: image("min-b2k-c4k", CreateOptions{})},
		"larger blocks, raw":          {image: image("min-b512-c4k", CreateOptions{Raw: true}), old: ocfs2test.Unpack(t, "min-b4k-c4k").Path, asRaw: true},
		"the same volume":             {image: image("inline-b4k", CreateOptions{}), old: ocfs2test.Unpack(t, "inline-b4k").Path},
	}
	var mu sync.Mutex
	points := make(map[fault]int)
	t.Run("cases", func(t *testing.T) {
		for name, i := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", dir).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				defer exec.Command("umount", dir).Run() //nolint:errcheck // the folder cannot be removed then
				i.target, i.undoFile, i.complete = filepath.Join(dir, "target"), filepath.Join(dir, "undo"), filepath.Join(dir, "complete")
				i.reset(t)
				i.before = fingerprint(t, i.target)
				whole, undoing := new(faulty), new(faulty)
				if err := i.restore(t, i.image, i.undoFile, whole); err != nil {
					t.Fatal(err)
				}
				sparseCopy(t, i.target, i.complete)
				i.after = fingerprint(t, i.complete)
				if err := i.restore(t, i.undoFile, "", undoing); err != nil {
					t.Fatal(err)
				}
				if !fingerprint(t, i.target).same(i.before) {
					t.Fatal("an undo does not bring back what there was")
				}
				for _, f := range []fault{fails, powers, killed} {
					before := i.points
					for n := range whole.count {
						i.at(t, f, n+1)
					}
					// The undo file of a restore that nothing disturbs.
					i.reset(t)
					if err := i.restore(t, i.image, i.undoFile, new(faulty)); err != nil {
						t.Fatal(err)
					}
					for n := range undoing.count {
						i.undoAt(t, f, n+1)
					}
					mu.Lock()
					points[f] += i.points - before
					mu.Unlock()
				}
			})
		}
	})
	t.Log("interrupted: ", points)
	for f, n := range points {
		if n < 100 {
			t.Errorf("%s in %d places only", f, n)
		}
	}
}
