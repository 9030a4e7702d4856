// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"o2image"
	"o2image/internal/ocfs2test"
	"o2image/volume"
)

// describe lists all that the walkers find on a volume, whatever it is read from.
func describe(t *testing.T, name string) []string {
	t.Helper()
	ctx, v := t.Context(), open(t, name).Volume()
	var list []string
	for f, err := range v.Walk(ctx) {
		if err != nil {
			t.Fatalf("%s: %s: %v", name, f.Path, err)
		}
		line := fmt.Sprintf("%q %d %o %d", f.Path, f.Inode.Blkno(), f.Inode.Mode(), f.Inode.Size())
		if f.Inode.IsSymlink() {
			target, err := v.Readlink(ctx, f.Inode)
			if err != nil {
				t.Fatal(err)
			}
			line += fmt.Sprintf(" -> %q", target)
		}
		for x, err := range v.Extents(ctx, f.Inode) {
			if err != nil {
				t.Fatal(err)
			}
			line += fmt.Sprint(" ", x)
		}
		for x, err := range v.Xattrs(ctx, f.Inode) {
			if err != nil {
				t.Fatal(err)
			}
			line += fmt.Sprintf(" %s=%q", x.Name, x.Value)
			for e, err := range v.XattrExtents(ctx, x) {
				if err != nil {
					t.Fatal(err)
				}
				line += fmt.Sprint(" ", e)
			}
		}
		list = append(list, line)
	}
	slots, err := v.Slots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := v.Metadata(ctx, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for run := range meta.Blocks.All() {
		list = append(list, fmt.Sprint(run))
	}
	return append(list, fmt.Sprint(slots, meta.Findings))
}

// TestEveryFormatReads wants the same of a device, a file, a raw and a packed
// image of the same volume.
func TestEveryFormatReads(t *testing.T) {
	for _, name := range []string{"metaecc", "xattr-b512", "slowlinks", "dx-tree-b1k", "reflink-b1k", "discontig"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vol := ocfs2test.Unpack(t, name)
			want := describe(t, vol.Path)
			for what, path := range map[string]string{
				"device":       ocfs2test.Loop(t, vol.Copy(t)),
				"raw image":    create(t, vol.Path, o2image.CreateOptions{Raw: true}),
				"packed image": create(t, vol.Path, o2image.CreateOptions{}),
			} {
				if diff := gocmp.Diff(want, describe(t, path)); diff != "" {
					t.Errorf("%s (-volume +it):\n%s", what, diff)
				}
			}
		})
	}
}

// TestMemory images an empty volume of nearly 16 TiB and looks at the memory
// that the program takes.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	program, volume := buildProgram(t), filepath.Join(dir, "volume")
	if err := os.WriteFile(volume, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(volume, 16<<40-1<<30); err != nil {
		t.Fatal(err)
	}
	mkfs := exec.CommandContext(t.Context(), "mkfs.ocfs2", "-q", "-F", "-M", "local", "-b", "4K", "-C", "1M", "-N", "4", volume)
	if out, err := mkfs.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, args := range [][]string{{volume, filepath.Join(dir, "packed")}, {"-r", volume, filepath.Join(dir, "raw")}} {
		const limit = 256 << 10 // KiB
		peak := peakMemory(t, program, args...)
		t.Logf("%d KiB", peak)
		if peak == 0 || peak > limit {
			t.Errorf("o2image %q took %d KiB of memory", args, peak)
		}
	}
}

// buildProgram builds the program and returns where it is.
func buildProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "o2image")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/o2image")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// peakMemory runs a program and returns how much memory it took at most, in
// KiB. It is looked up while the program runs: what the kernel adds up for the
// parent includes the parent's own size at the moment of the fork.
func peakMemory(t *testing.T, program string, args ...string) (peak int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	status := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
	for tick := time.Tick(5 * time.Millisecond); ; {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%s %q: %v", program, args, err)
			}
			return peak
		case <-tick:
			text, _ := os.ReadFile(status) // gone when the program has ended
			if _, after, ok := strings.Cut(string(text), "VmHWM:"); ok {
				_, _ = fmt.Sscan(after, &peak)
			}
		}
	}
}
