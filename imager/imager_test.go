// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"o2image/image"
	"o2image/imager"
	"o2image/internal/ocfs2test"
	"o2image/ocfs2"
	"o2image/volume"
)

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// tmpfs mounts a file system of the given size.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	command(t, "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir)
	t.Cleanup(func() { command(t, "umount", dir) })
	return dir
}

// TestTruncatedDevice images a device that is shorter than its volume: what
// lies behind the end is said to be missing, marked in the image, and not
// written when that is restored.
func TestTruncatedDevice(t *testing.T) {
	vol := ocfs2test.Unpack(t, "min-b2k-c4k") // a group descriptor half way
	path := vol.Copy(t)
	if err := os.Truncate(path, vol.Size/4); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(t.TempDir(), "packed")
	report, err := imager.Create(t.Context(), path, packed, imager.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.NotRead) == 0 || !report.Incomplete() {
		t.Fatalf("not read: %v, findings %v", report.NotRead, report.Findings)
	}
	src, err := imager.Open(t.Context(), packed)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	// The blocks behind the end, by the set of the whole volume, are just those.
	whole := openVolume(t, vol.Path)
	meta, err := whole.Metadata(t.Context(), volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	end := uint64(vol.Size/4) >> whole.Super().BlockBits
	var want []image.Run
	for start, n := range meta.Blocks.SpansFrom(end) {
		want = append(want, image.Run{Start: start, Len: n})
	}
	if !slices.Equal(report.NotRead, want) {
		t.Errorf("not read: %v, behind the end lie %v", report.NotRead, want)
	}
	// In a raw image these blocks have a piece of their own.
	asRaw, err := imager.Create(t.Context(), path, filepath.Join(t.TempDir(), "raw"), imager.CreateOptions{Raw: true})
	if err != nil || !slices.Equal(asRaw.NotRead, want) {
		t.Errorf("raw: not read: %v, %v; behind the end lie %v", asRaw.NotRead, err, want)
	}
	converted, err := imager.Convert(t.Context(), packed, filepath.Join(t.TempDir(), "raw"), imager.ConvertOptions{})
	if err != nil || !slices.Equal(converted.NotRead, want) || !converted.Incomplete() {
		t.Errorf("converted: %v, %v", converted, err)
	}
	carried, err := src.Report()
	if err != nil || !slices.Equal(carried.NotRead, report.NotRead) {
		t.Errorf("the image reports %v, %v", carried, err)
	}
	bs := int64(src.Volume().Super().BlockSize())
	lost := int64(report.NotRead[0].Start)
	if lost*bs < vol.Size/4 {
		t.Errorf("block %d lies before the end of the device", lost)
	}
	block := make([]byte, bs)
	if _, err := src.ReadAt(block, lost*bs); err != nil {
		t.Fatal(err)
	}
	if want := bytes.Repeat([]byte("O2IMAGE-NOTREAD\n"), int(bs)/16); !bytes.Equal(block, want) {
		t.Errorf("block %d is %q", lost, block)
	}

	target := vol.Copy(t)
	if _, err := imager.Restore(t.Context(), target, packed, imager.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	got := readBlock(t, target, lost, bs)
	if want := readBlock(t, vol.Path, lost, bs); !bytes.Equal(got, want) {
		t.Errorf("restoring changed block %d, which the image does not have", lost)
	}
}

func openVolume(t *testing.T, path string) *volume.Volume {
	t.Helper()
	src, err := imager.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src.Volume()
}

func readBlock(t *testing.T, path string, blkno, bs int64) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, bs)
	if _, err := f.ReadAt(b, blkno*bs); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRestoreInterrupted lets a restore run out of space: the target does not
// open as a volume until a second one completes it.
func TestRestoreInterrupted(t *testing.T) {
	vol := ocfs2test.Unpack(t, "plain-b4k")
	packed := filepath.Join(t.TempDir(), "packed")
	if _, err := imager.Create(t.Context(), vol.Path, packed, imager.CreateOptions{Exact: true}); err != nil {
		t.Fatal(err)
	}
	dir := tmpfs(t, "300k")
	target := filepath.Join(dir, "target")
	if _, err := imager.Restore(t.Context(), target, packed, imager.RestoreOptions{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("restoring to a full file system: %v", err)
	}
	if src, err := imager.Open(t.Context(), target); !errors.Is(err, ocfs2.ErrNotOCFS2) {
		t.Errorf("half a restore opens as a volume: %v", err)
		src.Close()
	}
	command(t, "mount", "-o", "remount,size=64m", dir)
	if _, err := imager.Restore(t.Context(), target, packed, imager.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, want := ocfs2test.Fsck(t, target), ocfs2test.Fsck(t, vol.Path); got != want {
		t.Errorf("after the second restore fsck.ocfs2 says\n%s\nof the volume\n%s", got, want)
	}
}

// TestInPlace writes images over a file with two links, which both must show.
func TestInPlace(t *testing.T) {
	vol := ocfs2test.Unpack(t, "plain-b1k")
	for _, raw := range []bool{false, true} {
		dir := t.TempDir()
		name, link := filepath.Join(dir, "name"), filepath.Join(dir, "link")
		if err := os.WriteFile(name, bytes.Repeat([]byte("old"), 1<<20), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(name, link); err != nil {
			t.Fatal(err)
		}
		fresh := filepath.Join(dir, "fresh")
		for _, path := range []string{name, fresh} {
			opts := imager.CreateOptions{Raw: raw, Time: time.Unix(1e9, 0)}
			if _, err := imager.Create(t.Context(), vol.Path, path, opts); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(fresh)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{name, link} {
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("raw %v: %s has %d bytes that differ from those of a new file, %v", raw, path, len(got), err)
			}
		}
	}
}

// TestInPlaceInterrupted wants that half an image written in place does not
// open as one.
func TestInPlaceInterrupted(t *testing.T) {
	vol := ocfs2test.Unpack(t, "plain-b4k")
	for _, raw := range []bool{false, true} {
		dir := tmpfs(t, "300k")
		name := filepath.Join(dir, "name")
		if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(name, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		if _, err := imager.Create(t.Context(), vol.Path, name, imager.CreateOptions{Raw: raw}); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("raw %v: %v", raw, err)
		}
		if src, err := imager.Open(t.Context(), name); err == nil {
			t.Errorf("raw %v: half an image opens as %v", raw, src.Format())
			src.Close()
		}
	}
}

// TestFileTooLong makes a raw image where files cannot be as long as the volume.
func TestFileTooLong(t *testing.T) {
	dir := t.TempDir()
	volume := filepath.Join(dir, "volume")
	const size = 4<<40 + 64<<20 // ext4 with blocks of 1 KiB has files of 4 TiB
	if err := os.WriteFile(volume, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(volume, size); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ocfs2", "-q", "-F", "-M", "local", "-b", "4096", "-C", "1M", "-N", "1", volume)
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 8<<30); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", "-b", "1024", disk)
	mnt := t.TempDir()
	command(t, "mount", "-o", "loop", disk, mnt)
	t.Cleanup(func() { command(t, "umount", mnt) })

	for name, create := range map[string]func(out string) (*imager.Report, error){
		"file": func(out string) (*imager.Report, error) {
			return imager.Create(t.Context(), volume, out, imager.CreateOptions{Raw: true})
		},
		"stream": func(out string) (*imager.Report, error) {
			f, err := os.Create(out)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return imager.CreateTo(t.Context(), volume, f, imager.CreateOptions{Raw: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(mnt, name)
			report, err := create(out)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(out)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() >= size || !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, "does not allow") }) {
				t.Errorf("image of %d bytes, warnings %v", info.Size(), report.Warnings)
			}
			if got := ocfs2test.Debugfs(t, out, false, "ls -l //"); !strings.Contains(got, "global_bitmap") {
				t.Errorf("debugfs.ocfs2 says %s", got)
			}
		})
	}
}

// TestCancelled wants that a cancelled capture leaves nothing behind.
func TestCancelled(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := imager.Create(ctx, ocfs2test.Unpack(t, "plain-b1k").Path, filepath.Join(dir, "image"), imager.CreateOptions{
		Confirm: func(imager.Estimate) bool { cancel(); return true },
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestConvertRefuses wants no image of a device, and none on one.
func TestConvertRefuses(t *testing.T) {
	vol := ocfs2test.Unpack(t, "plain-b1k")
	device := ocfs2test.Loop(t, vol.Copy(t))
	if _, err := imager.Convert(t.Context(), device, filepath.Join(t.TempDir(), "out"), imager.ConvertOptions{}); !errors.Is(err, imager.ErrDeviceSource) {
		t.Errorf("from a device: %v", err)
	}
	if _, err := imager.Convert(t.Context(), vol.Path, device, imager.ConvertOptions{}); !errors.Is(err, imager.ErrSameFile) && !errors.Is(err, imager.ErrDevice) {
		t.Errorf("onto a device: %v", err)
	}
	copied := vol.Copy(t)
	if _, err := imager.Convert(t.Context(), copied, copied, imager.ConvertOptions{}); !errors.Is(err, imager.ErrSameFile) {
		t.Errorf("onto itself: %v", err)
	}
	if _, err := imager.Convert(t.Context(), filepath.Join(t.TempDir(), "none"), copied, imager.ConvertOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("from nothing: %v", err)
	}
}

// TestFormats checks what Open makes of each kind of file.
func TestFormats(t *testing.T) {
	vol := ocfs2test.Unpack(t, "plain-b1k")
	packed, raw := filepath.Join(t.TempDir(), "packed"), filepath.Join(t.TempDir(), "raw")
	for path, opts := range map[string]imager.CreateOptions{packed: {}, raw: {Raw: true}} {
		if _, err := imager.Create(t.Context(), vol.Path, path, opts); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]image.Format{
		vol.Path: image.FormatRaw, ocfs2test.Loop(t, vol.Copy(t)): image.FormatRaw, raw: image.FormatRaw, packed: image.FormatPacked,
	} {
		src, err := imager.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if src.Format() != want || src.Volume().Super().Label != "plain-b1k" {
			t.Errorf("%s: %v, label %q", path, src.Format(), src.Volume().Super().Label)
		}
		src.Close()
	}
}

// TestUnreadableImage wants the error of a restore to name the image where that
// cannot be read: a raw one that has been cut off behind its superblock.
func TestUnreadableImage(t *testing.T) {
	vol := ocfs2test.Unpack(t, "min-b2k-c4k")
	raw := vol.Copy(t)
	if err := os.Truncate(raw, vol.Size/4); err != nil {
		t.Fatal(err)
	}
	_, err := imager.Restore(t.Context(), filepath.Join(t.TempDir(), "target"), raw, imager.RestoreOptions{Raw: true})
	op, ok := errors.AsType[*imager.OpError](err)
	if !ok || op.Op != "read" || op.Name != raw {
		t.Errorf("got %v", err)
	}
}
