// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a command, which many of these tests need root for.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// loop attaches a file to a new loop device.
func loop(t *testing.T, file string, options ...string) string {
	t.Helper()
	dev := run(t, "losetup", append([]string{"--find", "--show", file}, options...)...)
	t.Cleanup(func() { run(t, "losetup", "--detach", dev) })
	return dev
}

// mount mounts something on a new directory.
func mount(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", append(args, dir)...)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

// tmpfs mounts a file system of the given size.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	return mount(t, "-t", "tmpfs", "-o", "size="+size, "tmpfs")
}

// ext4 makes a file system of 16 MiB and returns the file that it is in.
func ext4(t *testing.T) string {
	t.Helper()
	file := sparse(t, filepath.Join(t.TempDir(), "ext4"), 16<<20)
	run(t, "mkfs.ext4", "-q", file)
	return file
}

// sparse creates a file that is one hole.
func sparse(t *testing.T, name string, size int64) string {
	t.Helper()
	write(t, name, nil)
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	return name
}

func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// link makes a link to a file in a new directory.
func link(t *testing.T, make func(old, name string) error, old string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "link")
	if err := make(old, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// random returns n bytes in which no sector is like another.
func random(n int) []byte {
	var seed [32]byte
	b := make([]byte, n)
	rand.NewChaCha8(seed).Read(b)
	return b
}

// wantPathError fails unless err is want and names the file.
func wantPathError(t *testing.T, err, want error, name string) {
	t.Helper()
	var path *fs.PathError
	if !errors.Is(err, want) || !errors.As(err, &path) || path.Path != name {
		t.Errorf("error is %v, want %v of %s", err, want, name)
	}
}
