// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"o2image/internal/ocfs2test/volpack"
)

// sums is the file of checksums beside the packed volumes.
const sums = "SHA256SUMS"

// pack writes DIR/NAME.* to TESTDATA/NAME.tar.zst, but for the volumes with the
// flag large, and the checksums of all that lies there to TESTDATA/SHA256SUMS.
func pack(ctx context.Context, specs []spec, dir, testdata string) error {
	for _, s := range specs {
		if _, large := s.flag("large"); large {
			continue
		}
		if err := packOne(ctx, filepath.Join(dir, s.name), filepath.Join(testdata, s.name+volpack.Ext)); err != nil {
			return err
		}
	}
	return writeSums(testdata)
}

// packOne compresses with the zstd command, which gains a third over what the
// tests could do on their own: the files stay in the history for ever.
func packOne(ctx context.Context, prefix, dst string) error {
	cmd := exec.CommandContext(ctx, "zstd", "-q", "-f", "-19", "--long=24", "-o", dst)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = errors.Join(volpack.WriteTar(in, prefix), in.Close())
	return errors.Join(err, cmd.Wait())
}

func writeSums(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"+volpack.Ext))
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, f := range files { // sorted
		content, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(content), filepath.Base(f))
	}
	return os.WriteFile(filepath.Join(dir, sums), []byte(b.String()), 0o644)
}
