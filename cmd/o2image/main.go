// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Command o2image copies the metadata of an OCFS2 volume into an image file,
// and restores it.
package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"o2image/internal/cli"
)

// gcPercent is how much garbage there may be for what is in use, in percent, where
// the user does not say (GOGC). Most of what is in use stays to the end, and little
// garbage is made: memory is worth more than the time to find it.
const gcPercent = 20

// processors is how many of them Go is to believe in, at least, where the user does
// not say (GOMAXPROCS). Go takes one from a thread that waits for a read only when
// a timer of its own finds that out: with two processors hardly more than two short
// reads were under way.
const processors = 8

func main() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), processors))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(cli.Main())
}
