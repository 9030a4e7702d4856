// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// The race detector sees nothing of another process.

//go:build !race

package o2image_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"o2image"
	"o2image/internal/ocfs2test"
)

// limit is the address space that the program gets, in KiB. The runtime of Go
// reserves the most of it without using it.
const limit = 1536 << 10

// runLimited runs the program with little address space and returns its exit
// status and what it said. Only statuses that it has for its work are right.
func runLimited(t *testing.T, program string, args ...string) int {
	t.Helper()
	script := fmt.Sprintf(`ulimit -v %d && exec "$@"`, limit)
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", script, "-", program}, args...)...)
	out, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	status := cmd.ProcessState.ExitCode()
	if status != 0 && status != 1 && status != 3 || bytes.Contains(out, []byte("goroutine")) {
		t.Errorf("o2image %q: exit status %d\n%.2000s", args, status, out)
	}
	return status
}

// TestLimitedMemory makes images of all volumes with little address space.
func TestLimitedMemory(t *testing.T) {
	program := buildProgram(t)
	forVolumes(t, func(t *testing.T, vol *ocfs2test.Volume) {
		if status := runLimited(t, program, vol.Path, filepath.Join(t.TempDir(), "image")); status != 0 {
			t.Errorf("exit status %d", status)
		}
	})
}

// TestLimitedMemoryHostile reads images and a volume whose numbers are huge, with
// little address space.
func TestLimitedMemoryHostile(t *testing.T) {
	program := buildProgram(t)
	volume := ocfs2test.Unpack(t, "min-b1k-c4k").Path
	const blockSize = 1024
	packed := create(t, volume, o2image.CreateOptions{})
	info, err := os.Stat(packed)
	if err != nil {
		t.Fatal(err)
	}
	compressed := create(t, volume, o2image.CreateOptions{Zstd: 3})
	zstd, err := os.Stat(compressed)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		file       string
		start, end int64 // bytes that are made large
		args       []string
	}{
		{"header", packed, 0, 0xC0, []string{"convert", "FILE", "OUT"}},
		{"footer", packed, info.Size() - 0x80, info.Size(), []string{"info", "--verify", "FILE"}},
		{"seek table", compressed, zstd.Size() - 64, zstd.Size(), []string{"convert", "FILE", "OUT"}},
		{"superblock in an image", packed, (1+2)*blockSize + 0xC0, (1+2)*blockSize + 0x130, []string{"convert", "FILE", "OUT"}},
		{"superblock", volume, 2*blockSize + 0xC0, 2*blockSize + 0x130, []string{"FILE", "OUT"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file, out := filepath.Join(dir, "file"), filepath.Join(dir, "out")
			if o, err := exec.CommandContext(t.Context(), "cp", "--sparse=always", test.file, file).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, o)
			}
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			args := make([]string, len(test.args))
			for i, arg := range test.args {
				args[i] = map[string]string{"FILE": file, "OUT": out}[arg]
				if args[i] == "" {
					args[i] = arg
				}
			}
			for at := test.start; at < test.end; at += 4 {
				old := make([]byte, min(8, test.end-at))
				if _, err := f.ReadAt(old, at); err != nil {
					t.Fatal(err)
				}
				for _, huge := range [][]byte{{0xFF, 0xFF, 0xFF, 0x7F}, {0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0}} {
					if _, err := f.WriteAt(huge[:min(len(huge), len(old))], at); err != nil {
						t.Fatal(err)
					}
					runLimited(t, program, args...)
					os.Remove(out)
				}
				if _, err := f.WriteAt(old, at); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
