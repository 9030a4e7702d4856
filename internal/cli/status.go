// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// The exit statuses, and 128 + n for signal n.
const (
	exitDone       = 0 // nothing is known to be missing
	exitFailed     = 1
	exitIncomplete = 3 // an image was written, but something is missing
	exitPipe       = 128 + int(syscall.SIGPIPE)
)

var (
	// errFailed ends the program with exitFailed when all has been said.
	errFailed = errors.New("failed")

	// errIncomplete says that what was written is not all there was.
	errIncomplete = errors.New("incomplete")
)

// closedStdout reports whether err says that the reader of standard output went
// away.
func closedStdout(err error) bool {
	path, ok := errors.AsType[*fs.PathError](err)
	return ok && path.Path == os.Stdout.Name() && errors.Is(path.Err, syscall.EPIPE)
}

// finish says what went wrong, if anything did, and returns the exit status.
func (p *program) finish(ctx context.Context, err error) int {
	status := exitStatus(ctx, err)
	if status == exitFailed {
		p.complain(err)
	}
	return status
}

// exitStatus is the one place where it is decided what the program ends with.
func exitStatus(ctx context.Context, err error) int {
	stopped, isStopped := errors.AsType[interrupt](context.Cause(ctx))
	switch {
	case err == nil:
		return exitDone
	case isStopped && (errors.Is(err, context.Canceled) || errors.Is(err, stopped)):
		return 128 + int(stopped.signal)
	case closedStdout(err):
		return exitPipe
	case errors.Is(err, errIncomplete):
		return exitIncomplete
	}
	return exitFailed
}

// say prints a line on standard error, behind the name of the program.
func (p *program) say(format string, args ...any) {
	fmt.Fprintf(p.stderr, "%s: %s\n", p.name, fmt.Sprintf(format, args...))
}
