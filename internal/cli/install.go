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

	"o2image"
)

// install writes the metadata in image to device.
func (p *program) install(ctx context.Context, device, image string, o rootOptions) error {
	if device == toStdout || image == toStdout {
		p.say("Operation not permitted cannot install to/from file - ") // the blank at the end is that of 1.8.7
		return errFailed
	}
	if err := checkReportFile(o.report, device, image, o.undo); err != nil {
		return err
	}
	if err := checkUndoFile(o.undo); err != nil {
		return err
	}
	yes, err := p.ask(ctx, fmt.Sprintf("Install %s image to %s. Continue? (y/N): ", image, device))
	if err != nil {
		return err
	}
	if !yes {
		fmt.Fprintln(p.stderr, "Aborting operation.")
		return errFailed
	}
	m := p.watch(o.progress)
	report, err := o2image.Restore(ctx, device, image, o2image.RestoreOptions{
		Raw: o.raw, Force: o.force, Undo: o.undo, Load: o.load, Progress: m.update(), Program: programVersion,
	})
	m.stop()
	err = ofSource(err, image)
	switch {
	case errors.Is(err, o2image.ErrUndoFile):
		err = hintError{err, fmt.Sprintf("to bring back what is saved in it: %s -I %s %s", p.name, device, image)}
	case errors.Is(err, o2image.ErrSwapped):
		err = hintError{err, fmt.Sprintf("the device comes first: %s -I %s %s", p.name, image, device)}
	case errors.Is(err, o2image.ErrPackedSource):
		err = hintError{err, fmt.Sprintf("it is a packed image; without -r: %s -I %s %s", p.name, device, image)}
	case errors.Is(err, o2image.ErrNotPacked):
		err = hintError{err, fmt.Sprintf("it is no packed image; a raw one needs -r: %s -I -r %s %s", p.name, device, image)}
	}
	if report != nil && err != nil {
		if advice := p.toComplete(device, image, o); ctx.Err() != nil {
			p.say("interrupted: %s", advice)
		} else {
			err = hintError{err, advice}
		}
	}
	told := image
	if o.raw {
		told = "" // of what was found in a raw image it says nothing
	}
	return p.account(report, err, o, told, device, image, o.undo)
}

// toComplete says what to do about a device onto which not everything was written.
func (p *program) toComplete(device, image string, o rootOptions) string {
	options := "-I"
	if o.raw {
		options += " -r"
	}
	if o.force {
		options += " --force"
	}
	advice := fmt.Sprintf("%s may be unfinished, and nothing mounts it then; to complete it: %s %s %s %s", device, p.name, options, device, image)
	if o.undo != "" {
		advice += fmt.Sprintf("; to bring back what was on it: %s -I %s %s", p.name, device, o.undo)
	}
	return advice
}

// checkUndoFile refuses an undo file that exists already: it may be the only way
// back.
func checkUndoFile(name string) error {
	switch name {
	case "":
		return nil
	case toStdout:
		return errors.New("an undo file cannot be standard output; a file called - is ./-")
	}
	if _, err := os.Lstat(name); err != nil {
		return nil //nolint:nilerr // it is said when the file is created
	}
	return hintError{
		&o2image.OpError{Op: "open", Name: name, Err: &fs.PathError{Op: "create", Path: name, Err: syscall.EEXIST}},
		"it may be the only way back to what was on the device; to complete a restore that was cut off: without --undo",
	}
}
