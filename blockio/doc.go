// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package blockio reads and writes block devices and files. It knows nothing of
// what is on them.
//
//   - [Open] opens a [Device] to read from, past the page cache where that is
//     possible; [ReadSegments] reads many places of it at once, joined into few
//     requests; [Pool] lends aligned buffers to read into.
//   - [CreateFile] creates an output [File], which appears whole or not at all.
//     [NewStream] writes to what only takes bytes in sequence.
//   - [OpenTarget] opens the device or file that a volume is written back to.
//   - [SameFile] and [MountPoint] tell what must not be written.
//
// Offsets and sizes are in bytes. Errors of the system have an [fs.PathError]
// inside with the name that the caller gave, and a [syscall.Errno] in that.
//
//	d, err := blockio.Open("/dev/sdb1")
//	if err != nil {
//		return err
//	}
//	defer d.Close()
//	super := make([]byte, 4096)
//	_, err = d.ReadAt(super, 2*4096)
package blockio

import (
	"errors"
	"fmt"
	"io/fs"
)

// ErrFileType says that a file is of a type that cannot be used here, such as a
// directory as a source.
var ErrFileType = errors.New("unsuitable type of file")

// typeError says of which type the file is that op cannot use.
func typeError(op, name string, mode fs.FileMode) error {
	var what string
	switch mode.Type() {
	case 0:
		what = "a regular file"
	case fs.ModeDir:
		what = "a directory"
	case fs.ModeNamedPipe:
		what = "a named pipe"
	case fs.ModeSocket:
		what = "a socket"
	case fs.ModeDevice:
		what = "a block device"
	case fs.ModeDevice | fs.ModeCharDevice:
		what = "a character device"
	default:
		what = mode.Type().String()
	}
	return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%w: %s", ErrFileType, what)}
}

// isBlock reports whether mode is that of a block device.
func isBlock(mode fs.FileMode) bool { return mode.Type() == fs.ModeDevice }
