// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Command o2image copies the metadata of an OCFS2 volume into an image file,
// and restores it.
package main

import (
	"os"

	"o2image/internal/cli"
)

func main() { os.Exit(cli.Main()) }
