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
	"testing"

	"o2image"
)

func TestExitStatus(t *testing.T) {
	t.Parallel()
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(interrupt{syscall.SIGINT})
	terminated, cancel := context.WithCancelCause(t.Context())
	cancel(interrupt{syscall.SIGTERM})
	hungUp, cancel := context.WithCancelCause(t.Context())
	cancel(interrupt{syscall.SIGHUP})
	pipe := func(name string) error { return &fs.PathError{Op: "write", Path: name, Err: syscall.EPIPE} }
	cancelled := &o2image.OpError{Op: "scan", Name: "v", Err: context.Canceled}
	for _, test := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"done", t.Context(), nil, 0},
		{"done before the signal", interrupted, nil, 0},
		{"failed", t.Context(), errFailed, 1},
		{"usage", t.Context(), &usageError{}, 1},
		{"not OCFS2", t.Context(), &o2image.OpError{Op: "open", Name: "v", Err: o2image.ErrNotOCFS2}, 1},
		{"incomplete", t.Context(), errIncomplete, 3},
		{"interrupted", interrupted, cancelled, 130},
		{"terminated", terminated, fmt.Errorf("wrapped: %w", cancelled), 143},
		{"failed before the signal", interrupted, syscall.ENOSPC, 1},
		{"incomplete before the signal", interrupted, errIncomplete, 3},
		{"hung up", hungUp, fmt.Errorf("wrapped: %w", interrupt{syscall.SIGHUP}), 129},
		{"cancelled without a signal", t.Context(), cancelled, 1},
		{"refused", t.Context(), &o2image.OpError{Op: "open", Name: "v", Err: o2image.ErrDevice}, 1},
		{"output not written", t.Context(), &o2image.OpError{Op: "write", Name: "o", Err: syscall.ENOSPC}, 1},
		{"broken pipe on standard output", t.Context(), &o2image.OpError{Op: "write", Name: "-", Err: pipe("/dev/stdout")}, 141},
		{"broken pipe under a text", t.Context(), fmt.Errorf("standard output: %w", pipe("/dev/stdout")), 141},
		{"broken pipe elsewhere", t.Context(), &o2image.OpError{Op: "write", Name: "fifo", Err: pipe("fifo")}, 1},
		{"standard output is full", t.Context(), &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := exitStatus(test.ctx, test.err); got != test.want {
				t.Errorf("exitStatus(%v) = %d, want %d", test.err, got, test.want)
			}
		})
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	missing := &os.PathError{Op: "open", Path: "v", Err: syscall.ENOENT}
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"source is missing", ofSource(&o2image.OpError{Op: "open", Name: "v", Err: missing}, "v"), `Device name specified was not found while trying to open "v"`},
		{"source without a name", ofSource(&o2image.OpError{Op: "open", Name: "", Err: missing}, ""), `Illegal or malformed device name while trying to open ""`},
		{"folder is missing", &o2image.OpError{Op: "open", Name: "f/o", Err: missing}, `No such file or directory while trying to open "f/o"`},
		{"not OCFS2", &o2image.OpError{Op: "open", Name: "v", Err: o2image.ErrNotOCFS2}, `Bad magic number in superblock while trying to open "v"`},
		{"disk is full", &o2image.OpError{Op: "write", Name: "o", Err: &os.PathError{Op: "write", Path: "o", Err: syscall.ENOSPC}}, `No space left on device while writing to image "o"`},
		{"place of an error", &o2image.OpError{Op: "scan", Name: "v", Err: fmt.Errorf("read block 7: %w", syscall.EIO)}, `read block 7: input/output error while scanning disk "v"`},
		{"two reasons", errors.Join(errors.New("one"), errors.New("two")), "one; two"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := message(test.err); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
