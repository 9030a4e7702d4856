// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Command o2image copies the metadata of an OCFS2 volume into an image file,
// and restores it.
package main

import (
	"os"
	"runtime/debug"

	"o2image/internal/cli"
)

// gcPercent is how much garbage there may be for what is in use, in percent, where
// the user does not say (GOGC). Most of what is in use stays to the end, and little
// garbage is made: memory is worth more than the time to find it.
const gcPercent = 20

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(cli.Main())
}
