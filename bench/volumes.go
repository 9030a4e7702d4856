// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"o2image/internal/ocfs2test/uml"
)

// spec says how a volume is made.
type spec struct {
	size   int64
	mkfs   string // options
	filled bool   // by the program in the folder fill; else by mkfs.ocfs2 alone
}

const (
	features = " --fs-features=indexed-dirs,inline-data,xattr,refcount"
	huge     = 16<<40 - 1<<30 // ext4 has no files of 16 TiB
)

var specs = map[string]spec{
	"S":      {4 << 30, "-b 4K -C 4K -N 4" + features, true},
	"M":      {32 << 30, "-b 4K -C 4K -N 4" + features, true},
	"L":      {64 << 30, "-b 4K -C 4K -N 4" + features, true},
	"FRAG":   {16 << 30, "-b 4K -C 4K -N 2" + features, true},
	"HUGE4K": {huge, "-b 4K -C 4K -N 4" + features, false},
	"HUGE1M": {huge, "-b 4K -C 1M -N 4" + features, false},
}

// fillTime bounds how long a volume is filled; L takes ten minutes.
const fillTime = time.Hour

// volumeFile returns where a volume is in dir.
func volumeFile(dir, name string) string { return filepath.Join(dir, name+".img") }

// provide returns the file of a volume in dir, which it makes if it is not there.
func provide(ctx context.Context, dir, name string) (string, error) {
	s, ok := specs[name]
	if !ok {
		return "", errors.New("no such volume")
	}
	file := volumeFile(dir, name)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		return file, err
	}
	log.Printf("%s: building %s", name, file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	img := filepath.Join(work, "img")
	if err := format(ctx, img, name, s); err != nil {
		return "", err
	}
	if s.filled {
		if err := fill(ctx, work, img, name); err != nil {
			return "", err
		}
	}
	return file, os.Rename(img, file)
}

// format makes an empty volume.
func format(ctx context.Context, img, name string, s spec) error {
	f, err := os.Create(img)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(s.size), f.Close()); err != nil {
		return err
	}
	args := append([]string{"-q", "-F", "-M", "local", "-L", name}, strings.Fields(s.mkfs)...)
	if out, err := exec.CommandContext(ctx, "mkfs.ocfs2", append(args, img)...).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ocfs2: %w: %s", err, out)
	}
	return nil
}

// fill has Linux fill a volume.
func fill(ctx context.Context, work, img, name string) error {
	dir := filepath.Join(work, "machine")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	m, err := uml.New(dir)
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "-C", "bench", "build", "-o", m.Job("fill"), "./fill")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build bench/fill: %w: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(ctx, fillTime)
	defer cancel()
	console, err := m.Boot(ctx, fmt.Sprintf(`
busybox mount -t ocfs2 -o heartbeat=none,user_xattr,acl,data=writeback,commit=30 /dev/ubda /mnt/v &&
/job/fill %s /mnt/v && busybox umount /mnt/v && echo filled >/job/status
`, name), img)
	if _, statErr := os.Stat(m.Job("status")); err != nil || statErr != nil {
		return fmt.Errorf("guest: %w: %s", errors.Join(err, statErr), console)
	}
	return nil
}
