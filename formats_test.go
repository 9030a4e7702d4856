// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"o2image"
	"o2image/internal/ocfs2test"
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
	meta, err := v.Metadata(ctx)
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
// that the program took.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	program, volume := filepath.Join(dir, "o2image"), filepath.Join(dir, "volume")
	run := func(name string, args ...string) *os.ProcessState {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return cmd.ProcessState
	}
	run("go", "build", "-o", program, "./cmd/o2image")
	if err := os.WriteFile(volume, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(volume, 16<<40-1<<30); err != nil {
		t.Fatal(err)
	}
	run("mkfs.ocfs2", "-q", "-F", "-M", "local", "-b", "4K", "-C", "1M", "-N", "4", volume)
	for _, args := range [][]string{{volume, filepath.Join(dir, "packed")}, {"-r", volume, filepath.Join(dir, "raw")}} {
		const limit = 256 << 10 // KiB
		if got := run(program, args...).SysUsage().(*syscall.Rusage).Maxrss; got > limit {
			t.Errorf("o2image %s took %d KiB of memory", slices.DeleteFunc(args, filepath.IsAbs), got)
		}
	}
}
