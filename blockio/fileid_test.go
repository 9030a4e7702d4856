// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"o2image/blockio"
)

// node makes another node of a block device.
func node(t *testing.T, dev string) string {
	t.Helper()
	// Some file systems do not allow nodes to be opened.
	name := filepath.Join("/dev", "o2image-test-"+filepath.Base(dev))
	number := strings.Split(strings.TrimSpace(string(read(t, "/sys/class/block/"+filepath.Base(dev)+"/dev"))), ":")
	major, _ := strconv.Atoi(number[0])
	minor, _ := strconv.Atoi(number[1])
	if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(major), uint32(minor)))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(name) })
	return name
}

func TestSameFile(t *testing.T) {
	t.Parallel()
	file := sparse(t, filepath.Join(t.TempDir(), "file"), 1<<20)
	twin := sparse(t, filepath.Join(t.TempDir(), "file"), 1<<20)
	dev, again, other := loop(t, file), loop(t, file, "--offset", "65536"), loop(t, twin)
	stacked := loop(t, dev)
	hard := filepath.Join(filepath.Dir(file), "hard")
	if err := os.Link(file, hard); err != nil {
		t.Fatal(err)
	}
	same := map[string]string{
		"itself":                       file,
		"symbolic link":                link(t, os.Symlink, file),
		"hard link":                    hard,
		"loop device":                  dev,
		"loop device of a part":        again,
		"loop device on a loop device": stacked,
		"other node of it":             node(t, dev),
		"symbolic link to it":          link(t, os.Symlink, dev),
	}
	different := map[string]string{
		"other file":        twin,
		"other loop device": other,
		"null":              "/dev/null",
	}
	id := func(name string) blockio.FileID {
		t.Helper()
		id, err := blockio.Identify(name)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for what, name := range same {
		for what2, name2 := range same {
			if !blockio.SameFile(id(name), id(name2)) {
				t.Errorf("%s and %s are said to differ", what, what2)
			}
		}
		for what2, name2 := range different {
			if blockio.SameFile(id(name), id(name2)) {
				t.Errorf("%s and %s are said to be the same", what, what2)
			}
		}
		if got, err := open(t, name).ID(); got != id(file) || err != nil {
			t.Errorf("Device.ID of %s is %v, %v", what, got, err)
		}
		target, err := blockio.OpenTarget(name, blockio.TargetOptions{Shared: true})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := target.ID(); got != id(file) || err != nil {
			t.Errorf("Target.ID of %s is %v, %v", what, got, err)
		}
		target.Close()
	}
	if blockio.SameFile(blockio.FileID{}, blockio.FileID{}) {
		t.Errorf("two missing files are said to be the same")
	}
	_, err := blockio.Identify(filepath.Join(t.TempDir(), "missing"))
	if err == nil {
		t.Errorf("a missing file has an identity")
	}
}

func TestMountPoint(t *testing.T) {
	t.Parallel()
	file := ext4(t)
	dev := loop(t, file)
	twin := loop(t, file)
	stacked := loop(t, dev)
	idle := loop(t, sparse(t, filepath.Join(t.TempDir(), "idle"), 1<<20))
	check := func(when, name, want string) {
		t.Helper()
		got, mounted, err := blockio.MountPoint(name)
		if err != nil || got != want || mounted != (want != "") {
			t.Errorf("%s, MountPoint(%s) = %q, %v, %v, want %q", when, name, got, mounted, err, want)
		}
	}
	names := []string{file, link(t, os.Symlink, file), dev, twin, stacked, node(t, dev)}
	for _, name := range names {
		check("before", name, "")
	}
	t.Run("mounted", func(t *testing.T) {
		dir := mount(t, dev)
		for _, name := range names {
			check("mounted", name, dir)
		}
		check("another is mounted", idle, "")
		check("another is mounted", write(t, filepath.Join(dir, "f"), nil), "")
	})
	t.Run("mounted above", func(t *testing.T) {
		dir := mount(t, stacked)
		check("mounted above", file, dir)
		check("mounted above", dev, dir)
	})
	check("unmounted", dev, "")

	if _, _, err := blockio.MountPoint(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Errorf("no error for a missing file")
	}
}

// TestMountPointPartition mounts a partition: the disk is in use, the other
// partition is not.
func TestMountPointPartition(t *testing.T) {
	t.Parallel()
	file := sparse(t, filepath.Join(t.TempDir(), "disk"), 32<<20)
	dev := loop(t, file)
	partition := func(number, start, sectors string) string {
		run(t, "addpart", dev, number, start, sectors)
		t.Cleanup(func() { run(t, "delpart", dev, number) })
		return dev + "p" + number
	}
	first, second := partition("1", "2048", "32768"), partition("2", "34816", "16384")
	run(t, "mkfs.ext4", "-q", first)
	dir := mount(t, first)
	for name, want := range map[string]string{file: dir, dev: dir, first: dir, second: ""} {
		got, mounted, err := blockio.MountPoint(name)
		if err != nil || got != want || mounted != (want != "") {
			t.Errorf("MountPoint(%s) = %q, %v, %v, want %q", name, got, mounted, err, want)
		}
	}
	one, _ := blockio.Identify(first)
	two, _ := blockio.Identify(second)
	if blockio.SameFile(one, two) {
		t.Errorf("two partitions are said to be the same")
	}
}

// TestStores asks of folders whether they lie on a device.
func TestStores(t *testing.T) {
	t.Parallel()
	file := ext4(t)
	dev := loop(t, file)
	dir := mount(t, dev)
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]bool{dir: true, below: true, filepath.Dir(file): false, "/": false} {
		for _, name := range []string{dev, file} {
			if got, err := blockio.Stores(name, folder); got != want || err != nil {
				t.Errorf("%s on %s: %v, %v, want %v", folder, name, got, err, want)
			}
		}
	}
	if _, err := blockio.Stores(dev, filepath.Join(dir, "missing")); err == nil {
		t.Error("no error for a missing folder")
	}
}

// TestFileIDString wants the same text for the same storage only.
func TestFileIDString(t *testing.T) {
	t.Parallel()
	file, other := write(t, filepath.Join(t.TempDir(), "f"), nil), write(t, filepath.Join(t.TempDir(), "f"), nil)
	id := func(name string) string {
		t.Helper()
		id, err := blockio.Identify(name)
		if err != nil {
			t.Fatal(err)
		}
		return id.String()
	}
	if id(file) != id(link(t, os.Symlink, file)) || id(file) == id(other) || !strings.Contains(id(file), "inode") {
		t.Errorf("%s, %s", id(file), id(other))
	}
}
