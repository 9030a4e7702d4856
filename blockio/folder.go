// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import "path/filepath"

// Folder returns the directory in which the file is that path leads to through
// symbolic links. The file need not exist, its directory must.
func Folder(path string) (string, error) {
	name, err := resolve(path)
	if err != nil {
		return "", err
	}
	return filepath.Dir(name), nil
}
