// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"o2image/image/packed"
	"o2image/imager"
	"o2image/internal/ocfs2test"
)

// node is one that mounts a volume, as far as the heartbeat tells.
type node struct {
	t      *testing.T
	file   *os.File
	off    int64 // of its sector
	number byte
	seq    uint64
}

// newNode lets a node use the volume in path. It finds the heartbeat region by
// the listing of debugfs.ocfs2.
func newNode(t *testing.T, path string, number byte) *node {
	t.Helper()
	stat := ocfs2test.Debugfs(t, path, false, "stat //heartbeat")
	found := regexp.MustCompile(`(?m)^\s+0\s+0\s+\d+\s+(\d+)\s`).FindStringSubmatch(stat)
	if found == nil {
		t.Fatalf("debugfs.ocfs2 says %s", stat)
	}
	blkno, err := strconv.ParseInt(found[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	bs := int64(openVolume(t, path).Super().BlockSize())
	return &node{t: t, file: f, off: blkno*bs + int64(number)*512, number: number, seq: uint64(time.Now().Unix())}
}

// beat counts up in the sector of the node.
func (n *node) beat() {
	n.seq++
	sector := make([]byte, 512)
	binary.LittleEndian.PutUint64(sector, n.seq)
	sector[8] = n.number
	if _, err := n.file.WriteAt(sector, n.off); err != nil {
		n.t.Error(err)
	}
}

// live beats until the returned function is called.
func (n *node) live() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			n.beat()
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// TestCreateLive makes images of a volume that another node uses: report and
// image name it, and the time is in the report only.
func TestCreateLive(t *testing.T) {
	for _, alive := range []bool{true, false} {
		path := ocfs2test.Unpack(t, "o2cb-3slots").Copy(t)
		n := newNode(t, path, 6)
		out := filepath.Join(t.TempDir(), "image")
		report, err := imager.Create(t.Context(), path, out, imager.CreateOptions{
			Confirm: func(imager.Estimate) bool {
				if alive {
					n.beat() // between the walk and the copy
				}
				return true
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []int
		if alive {
			want = []int{6}
		}
		if !slices.Equal(report.Alive, want) || report.Live() != alive || report.Run.Watched <= 0 {
			t.Errorf("alive %v, live %v, watched for %v s", report.Alive, report.Live(), report.Run.Watched)
		}
		warned := slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, "node 6 is alive") })
		if warned != alive {
			t.Errorf("alive %v, warnings %v", alive, report.Warnings)
		}
		src, err := imager.Open(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		trailer, err := src.Packed().Trailer()
		if err != nil {
			t.Fatal(err)
		}
		var carried map[string]any
		if err := json.Unmarshal(trailer.Report, &carried); err != nil {
			t.Fatal(err)
		}
		if trailer.Flags.Has(packed.FlagLive) != alive || (carried["alive"] != nil) != alive || bytes.Contains(trailer.Report, []byte("watched")) {
			t.Errorf("alive %v, flags of the image %v, report %s", alive, trailer.Flags, trailer.Report)
		}
	}
}

// TestRestoreLive wants a volume that another node uses to be refused, untouched,
// and one that nobody uses any more, or where there is no heartbeat, not.
func TestRestoreLive(t *testing.T) {
	out := filepath.Join(t.TempDir(), "image")
	if _, err := imager.Create(t.Context(), ocfs2test.Unpack(t, "min-b4k-c4k").Path, out, imager.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	path := ocfs2test.Unpack(t, "o2cb-3slots").Copy(t)
	first, second := newNode(t, path, 6), newNode(t, path, 9)
	device := ocfs2test.Loop(t, path)
	undoFile := filepath.Join(t.TempDir(), "undo")

	stops := []func(){first.live(), second.live()}
	before := readBlock(t, path, 2, 4096)
	_, err := imager.Restore(t.Context(), device, out, imager.RestoreOptions{Undo: undoFile})
	if !errors.Is(err, imager.ErrInUse) || !errors.Is(err, imager.ErrNeedsForce) || !strings.Contains(fmt.Sprint(err), "nodes 6 9 are alive") {
		t.Errorf("two nodes are alive: %v", err)
	}
	if !bytes.Equal(readBlock(t, path, 2, 4096), before) {
		t.Error("the superblock has changed")
	}
	if _, err := os.Stat(undoFile); err == nil {
		t.Error("an undo file was made for nothing")
	}
	for _, stop := range stops {
		stop()
	}
	if _, err := imager.Restore(t.Context(), device, out, imager.RestoreOptions{Undo: undoFile}); err != nil {
		t.Errorf("no node is alive: %v", err)
	}
	if _, err := imager.Restore(t.Context(), device, undoFile, imager.RestoreOptions{}); err != nil {
		t.Errorf("undone: %v", err)
	}
	stop := first.live()
	defer stop()
	if _, err := imager.Restore(t.Context(), device, out, imager.RestoreOptions{Force: true}); err != nil {
		t.Errorf("by force: %v", err)
	}
}

// TestRestoreSlotsInUse wants the slot map to be believed where no heartbeat on
// the volume tells more.
func TestRestoreSlotsInUse(t *testing.T) {
	out := filepath.Join(t.TempDir(), "image")
	if _, err := imager.Create(t.Context(), ocfs2test.Unpack(t, "min-b4k-c4k").Path, out, imager.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, refused := range map[string]bool{"pcmk-named": true, "o2cb-global": true, "o2cb-named": false} {
		path := ocfs2test.Unpack(t, name).Copy(t)
		stat := ocfs2test.Debugfs(t, path, false, "stat //slot_map")
		found := regexp.MustCompile(`(?m)^\s+0\s+0\s+\d+\s+(\d+)\s`).FindStringSubmatch(stat)
		if found == nil {
			t.Fatalf("debugfs.ocfs2 says %s", stat)
		}
		blkno, err := strconv.ParseInt(found[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		v := openVolume(t, path)
		slots, err := v.Slots(t.Context())
		if err != nil || slots[1].InUse {
			t.Fatalf("%v, %v", slots, err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		// ocfs2_extended_slot 1: valid, node 3; without the feature 16-bit node numbers.
		entry, off := []byte{1, 0, 0, 0, 3, 0, 0, 0}, int64(8)
		if !slices.Contains(imager.DescribeVolume(v.Super()).Features, "extended-slotmap") {
			entry, off = []byte{3, 0}, 2
		}
		if _, err := f.WriteAt(entry, blkno*int64(v.Super().BlockSize())+off); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if slots, err = v.Slots(t.Context()); err != nil || !slots[1].InUse || slots[1].Node != 3 {
			t.Fatalf("%s: %v, %v", name, slots, err)
		}
		_, err = imager.Restore(t.Context(), path, out, imager.RestoreOptions{})
		if errors.Is(err, imager.ErrInUse) != refused || !refused && err != nil {
			t.Errorf("%s: %v, to be refused: %v", name, err, refused)
		}
	}
}

// TestMounted has a file system behind the volume mounted from the same device.
// This kernel may have no OCFS2; it is the device that is looked at.
func TestMounted(t *testing.T) {
	vol := ocfs2test.Unpack(t, "plain-b1k")
	path := vol.Copy(t)
	if err := os.Truncate(path, vol.Size+32<<20); err != nil {
		t.Fatal(err)
	}
	device := ocfs2test.Loop(t, path)
	out, err := exec.Command("losetup", "--find", "--show", "--offset", strconv.FormatInt(vol.Size, 10), path).Output()
	if err != nil {
		t.Fatal(err)
	}
	part := strings.TrimSpace(string(out))
	t.Cleanup(func() { command(t, "losetup", "--detach", part) })
	command(t, "mkfs.ext4", "-q", part)
	mnt := t.TempDir()
	command(t, "mount", part, mnt)
	t.Cleanup(func() { command(t, "umount", mnt) })

	image := filepath.Join(t.TempDir(), "image")
	report, err := imager.Create(t.Context(), device, image, imager.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Mounted != mnt || !report.Live() || !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, "mounted at "+mnt) }) {
		t.Errorf("mounted at %q, live %v, warnings %q", report.Mounted, report.Live(), report.Warnings)
	}
	before := readBlock(t, path, 2, 1024)
	if _, err := imager.Restore(t.Context(), device, image, imager.RestoreOptions{}); !errors.Is(err, imager.ErrMounted) || !errors.Is(err, imager.ErrNeedsForce) {
		t.Errorf("restoring: %v", err)
	}
	if !bytes.Equal(readBlock(t, path, 2, 1024), before) {
		t.Error("the superblock has changed")
	}
}

// TestAllReasons wants everything that speaks against a target to be said at
// once, and what force does not override to stay.
func TestAllReasons(t *testing.T) {
	large, small := filepath.Join(t.TempDir(), "large"), filepath.Join(t.TempDir(), "small")
	for name, volume := range map[string]string{large: "plain-b1k", small: "min-b4k-c4k"} {
		if _, err := imager.Create(t.Context(), ocfs2test.Unpack(t, volume).Path, name, imager.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	disk := filepath.Join(t.TempDir(), "disk")
	command(t, "truncate", "-s", "80M", disk)
	device := ocfs2test.Loop(t, disk)
	command(t, "mkfs.ext4", "-q", device)
	mnt := t.TempDir()
	command(t, "mount", device, mnt)
	t.Cleanup(func() { command(t, "umount", mnt) })
	for _, force := range []bool{false, true} {
		_, err := imager.Restore(t.Context(), device, large, imager.RestoreOptions{Force: force})
		if !errors.Is(err, imager.ErrMounted) || !errors.Is(err, imager.ErrTooSmall) || errors.Is(err, imager.ErrNeedsForce) {
			t.Errorf("mounted and too small, force %v: %v", force, err)
		}
	}
	// Held, and not by a mount.
	other := ocfs2test.Loop(t, ocfs2test.Unpack(t, "o2cb-3slots").Copy(t))
	holder, err := os.OpenFile(other, os.O_RDONLY|os.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if _, err := imager.Restore(t.Context(), other, small, imager.RestoreOptions{}); !errors.Is(err, imager.ErrHeld) || !errors.Is(err, imager.ErrNeedsForce) {
		t.Errorf("held: %v", err)
	}
}

// TestRestoreWithoutSuper restores an image in which the superblock is one of
// the blocks that could not be read: the target keeps the one that it has, and
// that only by force.
func TestRestoreWithoutSuper(t *testing.T) {
	vol := ocfs2test.Unpack(t, "backup-1g") // a backup tells the rest
	image := filepath.Join(t.TempDir(), "image")
	if _, err := imager.Create(t.Context(), vol.Path, image, imager.CreateOptions{Exact: true}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Without trailer and record, as those of 1.8.7 are: hashes would tell.
	record := make([]byte, 48)
	if _, err := f.ReadAt(record, 0x80); err != nil {
		t.Fatal(err)
	}
	const bs = 4096
	for off, b := range map[int64][]byte{0x80: make([]byte, 48), 3 * bs: bytes.Repeat([]byte("O2IMAGE-NOTREAD\n"), bs/16)} {
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(int64(binary.LittleEndian.Uint64(record[32:]))); err != nil {
		t.Fatal(err)
	}

	target := ocfs2test.Unpack(t, "min-b4k-c4k").Copy(t)
	before := readBlock(t, target, 2, bs)
	_, err = imager.Restore(t.Context(), target, image, imager.RestoreOptions{})
	if !errors.Is(err, imager.ErrNoSuper) || !errors.Is(err, imager.ErrNeedsForce) {
		t.Errorf("got %v", err)
	}
	if out, err := exec.Command("cmp", target, ocfs2test.Unpack(t, "min-b4k-c4k").Path).CombinedOutput(); err != nil {
		t.Errorf("the target has changed: %s", out)
	}
	if _, err := imager.Restore(t.Context(), target, image, imager.RestoreOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readBlock(t, target, 2, bs), before) {
		t.Error("by force: the target has lost its superblock")
	}
	const backup = 1 << 30 / bs
	if !bytes.Equal(readBlock(t, target, backup, bs), readBlock(t, vol.Path, backup, bs)) {
		t.Error("by force: the backup is not that of the image")
	}
}
