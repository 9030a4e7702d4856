// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// MountPoint reports whether the storage of a file is mounted in this mount
// namespace, and where: that of a block device; of a partition, device-mapper
// or RAID device on it; of a loop device of it or, if it is one itself, of the
// same file. Swap is no mount.
func MountPoint(path string) (string, bool, error) {
	mounts, err := mountsOf(path)
	if err != nil || len(mounts) == 0 {
		return "", false, err
	}
	return mounts[0].Mountpoint, true, nil
}

// Stores reports whether the file system of a directory lies on the storage of a
// file or device, in the sense of [MountPoint].
func Stores(path, dir string) (bool, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return false, err
	}
	mounts, err := mountsOf(path)
	if err != nil {
		return false, err
	}
	for _, m := range mounts {
		top, err := os.Stat(m.Mountpoint)
		if err == nil && top.Sys().(*syscall.Stat_t).Dev == info.Sys().(*syscall.Stat_t).Dev {
			return true, nil
		}
	}
	return false, nil
}

// mountsOf returns where the storage of a file is mounted.
func mountsOf(path string) ([]*mountinfo.Info, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	id, err := Identify(path)
	if err != nil {
		return nil, err
	}
	above := above{loops: loops(), found: make(map[FileID]bool)}
	above.add(idOf(info))
	above.add(id)
	return mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		dev := unix.Mkdev(uint32(m.Major), uint32(m.Minor))
		return !above.found[blockID(dev)] && !above.names(m.Source), false
	})
}

// above gathers the block devices that show bytes of a file or device.
type above struct {
	loops map[FileID]FileID // what is behind each loop device
	found map[FileID]bool
}

func (a *above) add(id FileID) {
	if a.found[id] {
		return
	}
	a.found[id] = true
	for loop, behind := range a.loops {
		if behind == id {
			a.add(loop)
		}
	}
	if !id.block {
		return
	}
	for _, pattern := range []string{"holders/*/dev", "*/partition"} {
		// The patterns are sound, which is all that Glob fails for.
		names, _ := filepath.Glob(filepath.Join(id.sysfs(), pattern))
		for _, name := range names {
			if dev, ok := readDev(filepath.Join(filepath.Dir(name), "dev")); ok {
				a.add(dev)
			}
		}
	}
}

// names reports whether the source of a mount, which is any text, is the name
// of a device that was found: some file systems have a device number of their
// own.
func (a *above) names(source string) bool {
	if !strings.HasPrefix(source, "/dev/") {
		return false
	}
	info, err := os.Stat(source)
	return err == nil && isBlock(info.Mode()) && a.found[idOf(info)]
}

// loops returns the loop devices in use, each with what is behind it.
func loops() map[FileID]FileID {
	found := make(map[FileID]FileID)
	names, _ := filepath.Glob("/sys/block/loop*/loop")
	for _, name := range names {
		id, ok := readDev(filepath.Join(filepath.Dir(name), "dev"))
		if !ok {
			continue
		}
		f, err := os.Open(id.node())
		if err != nil {
			continue
		}
		if behind, ok := behindLoop(f, id); ok {
			found[id] = behind
		}
		f.Close()
	}
	return found
}

// readDev reads the number of a block device from a file of sysfs.
func readDev(name string) (FileID, bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		return FileID{}, false
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
		return FileID{}, false
	}
	return blockID(unix.Mkdev(major, minor)), true
}
