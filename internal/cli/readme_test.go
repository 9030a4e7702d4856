// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"o2image"
	"o2image/internal/ocfs2test"
)

// copyAndList makes an image of the volume on device, and prints what is in it.
func copyAndList(ctx context.Context, device, name string) error {
	report, err := o2image.Create(ctx, device, name, o2image.CreateOptions{})
	if err != nil {
		return err
	}
	if report.Incomplete() {
		fmt.Println("something is missing:", report.Findings)
	}
	image, err := o2image.Open(ctx, name)
	if err != nil {
		return err
	}
	defer image.Close()
	for file, err := range image.Volume().Walk(ctx) {
		if err != nil {
			return err
		}
		fmt.Println(file.Inode.Blkno(), file.Inode.Size(), file.Path)
	}
	return nil
}

// TestReadme checks that the example in the README is the function above, which
// compiles, and that it works.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(readme), "```go\n")
	example, _, found := strings.Cut(example, "```\n")
	self, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if !found || !strings.Contains(string(self), example) {
		t.Error("the example in README.md is not copyAndList")
	}
	v := ocfs2test.Unpack(t, "inline-b512")
	if err := copyAndList(t.Context(), v.Path, filepath.Join(t.TempDir(), "image")); err != nil {
		t.Error(err)
	}
}
