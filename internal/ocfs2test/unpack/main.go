// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Command unpack unpacks a volume of testdata/corpus, with its holes:
//
//	go run ./internal/ocfs2test/unpack NAME FILE
//
// It runs in the top folder of the source. Only the volume is written, not the
// files that the packed form has beside it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"o2image/internal/ocfs2test/volpack"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: unpack NAME FILE")
		os.Exit(2)
	}
	if err := unpack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "unpack:", err)
		os.Exit(1)
	}
}

func unpack(name, file string) error {
	in, err := os.Open(filepath.Join("testdata", "corpus", name+volpack.Ext))
	if err != nil {
		return err
	}
	defer in.Close()
	dir, err := os.MkdirTemp(filepath.Dir(file), ".unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	prefix := filepath.Join(dir, name)
	if err := volpack.Unpack(in, prefix); err != nil {
		return err
	}
	return os.Rename(prefix+"."+volpack.Image, file)
}
