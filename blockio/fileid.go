// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// FileID tells whether two names or open files mean the same storage: see
// [SameFile]. The zero value is no file.
type FileID struct {
	dev, ino uint64 // of a block device: its own number, and 0
	block    bool
}

// SameFile reports whether two files have their bytes in the same place: links
// to one file, nodes of one block device, or a loop device and the file or
// device behind it. Loop devices of one file are the same, whatever part of it
// they show. Partitions differ from the disk that they are on.
func SameFile(a, b FileID) bool { return a == b && a != FileID{} }

// String returns a text that is the same for the same storage, as long as the
// machine gives its devices the same numbers.
func (id FileID) String() string {
	major, minor := unix.Major(id.dev), unix.Minor(id.dev)
	if id.block {
		return fmt.Sprintf("block device %d:%d", major, minor)
	}
	return fmt.Sprintf("inode %d of device %d:%d", id.ino, major, minor)
}

// Identify returns the identity of the file that a path leads to. Block devices
// are opened for that.
func Identify(path string) (FileID, error) {
	info, err := os.Stat(path)
	if err != nil {
		return FileID{}, err
	}
	if !isBlock(info.Mode()) {
		return idOf(info), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return FileID{}, err
	}
	defer f.Close()
	return identify(f)
}

// idOf is the identity of a file that stands for itself.
func idOf(info os.FileInfo) FileID {
	stat := info.Sys().(*syscall.Stat_t)
	if isBlock(info.Mode()) {
		return blockID(uint64(stat.Rdev))
	}
	return FileID{dev: uint64(stat.Dev), ino: stat.Ino}
}

func blockID(dev uint64) FileID { return FileID{dev: dev, block: true} }

// identify returns the identity of an open file, of a loop device that of what
// is behind it.
func identify(f *os.File) (FileID, error) {
	info, err := f.Stat()
	if err != nil {
		return FileID{}, err
	}
	id := idOf(info)
	behind, ok := behindLoop(f, id)
	if !ok {
		return id, nil
	}
	// Loop devices can be stacked, but only on those that exist already.
	if behind.block {
		if deeper, err := Identify(behind.node()); err == nil {
			return deeper, nil
		}
	}
	return behind, nil
}

// loopMajor is the major number of loop devices (LOOP_MAJOR of linux/major.h).
const loopMajor = 7

// behindLoop returns what is behind the loop device id that f has open. It
// reports false if id is no loop device, or one without a file.
func behindLoop(f *os.File, id FileID) (FileID, bool) {
	if !id.block || unix.Major(id.dev) != loopMajor {
		return FileID{}, false
	}
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return FileID{}, false
	}
	if info.Rdevice != 0 {
		return blockID(info.Rdevice), true
	}
	return FileID{dev: info.Device, ino: info.Inode}, true
}

// sysfs returns the directory that sysfs has for a block device.
func (id FileID) sysfs() string {
	return fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(id.dev), unix.Minor(id.dev))
}

// node returns the name of a block device in /dev.
func (id FileID) node() string {
	dir, err := filepath.EvalSymlinks(id.sysfs())
	if err != nil {
		dir = id.sysfs()
	}
	return filepath.Join("/dev", filepath.Base(dir))
}
