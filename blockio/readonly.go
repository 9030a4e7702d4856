// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"os"

	"golang.org/x/sys/unix"
)

// ReadOnly reports whether a block device takes no writes. The system opens one for
// writing all the same, and fails the first write.
func ReadOnly(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	set, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return set != 0, nil
}
