// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"o2image"
	"o2image/undo"
)

// toStdout is the name of an image that goes to standard output.
const toStdout = "-"

// isStdout reports whether name is one of those that stand for standard output.
func isStdout(name string) bool {
	switch name {
	case toStdout, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1":
		return true
	}
	return false
}

// create copies the metadata of device to image.
func (p *program) create(ctx context.Context, device, image string, o rootOptions) error {
	files := []string{device, image, o.reading.from} // that the report is not written over
	if err := p.checkCreate(device, image, o, files); err != nil {
		return err
	}
	at, err := imageTime()
	if err != nil {
		return err
	}
	opts := o.creation()
	opts.Time, opts.Stop = at, ctx.Done()
	m := p.watch(o.progress)
	opts.Progress = m.update()
	var asked error
	if o.interactive && !isStdout(image) { // where the question would be in the image
		opts.Confirm = func(size o2image.Estimate) bool {
			m.pause()
			defer m.resume()
			var yes bool
			yes, asked = p.askCreate(ctx, image, size, o.zstd > 0)
			return yes
		}
	}
	report, err := p.complete(ctx, device, image, opts)
	m.stop()
	if errors.Is(err, o2image.ErrRefused) {
		if asked == nil {
			_, asked = fmt.Fprintln(p.stdout, "Aborting image creation.")
		}
		return asked
	}
	packed := image
	if o.raw || isStdout(image) {
		packed = ""
	}
	return interrupted(ctx, report, p.account(report, p.explain(err, device), o, packed, files...))
}

// checkCreate refuses what would be found too late, or destroy something.
func (p *program) checkCreate(device, image string, o rootOptions, files []string) error {
	if err := checkReportFile(o.report, files...); err != nil {
		return err
	}
	if err := o.reading.checkMap(o.report); err != nil {
		return err
	}
	if !o.force {
		if err := p.checkOverUndo(device, image); err != nil {
			return err
		}
	}
	if p.inSequence(image) {
		return p.checkStdout(image)
	}
	return nil
}

// creation returns what the options say of how an image is made.
func (o *rootOptions) creation() o2image.CreateOptions {
	return o2image.CreateOptions{
		Raw:   o.raw,
		Exact: o.exact,
		Force: o.force,
		Zstd:  o.zstd,
		Load:  o.load,
		Skip:  o.skip,
		Sweep: o.reading.sweep,

		Superblock: int(o.reading.superblock),
		Program:    programVersion,

		Retries:     int(o.reading.retries),
		ReadTimeout: time.Duration(o.reading.timeout) * time.Second,
		Map:         o.reading.mapFile,
		From:        o.reading.from,
	}
}

// complete makes the image of device. A signal stops the reading only.
func (p *program) complete(ctx context.Context, device, image string, opts o2image.CreateOptions) (*o2image.Report, error) {
	if p.isFile(image) {
		p.completes.Lock()
		defer p.completes.Unlock()
	}
	return p.copyTo(context.WithoutCancel(ctx), device, image, opts)
}

// copyTo makes the image of device, as a file or on standard output.
func (p *program) copyTo(ctx context.Context, device, image string, opts o2image.CreateOptions) (*o2image.Report, error) {
	if !p.inSequence(image) {
		return o2image.Create(ctx, device, image, opts)
	}
	report, err := o2image.CreateTo(ctx, device, p.stdout, opts)
	if op, ok := errors.AsType[*o2image.OpError](err); ok && op.Name == p.stdout.Name() {
		op.Name = image
	}
	return report, err
}

// checkOverUndo refuses an image over an undo file, which may be the only way back
// to what was on a device: most likely -I was forgotten.
func (p *program) checkOverUndo(device, image string) error {
	if !isUndoFile(image) {
		return nil
	}
	return hintError{
		&o2image.OpError{Op: "open", Name: image, Err: errUndoFile},
		fmt.Sprintf("to bring back what is saved in it: %s -I %s %s; to write an image over it: --force", p.name, device, image),
	}
}

var errUndoFile = errors.New("this is an undo file")

// isUndoFile reports whether there is an undo file of that name, damaged or not.
// What cannot be opened is said when it is.
func isUndoFile(name string) bool {
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		return false
	}
	u, err := o2image.OpenUndo(name)
	if err == nil {
		u.Close()
	}
	return err == nil || errors.Is(err, undo.ErrDamaged)
}

// inSequence reports whether an image goes to standard output, in sequence. Of its
// names only - will do for a block device, which the others open anew: that takes
// --force.
func (p *program) inSequence(image string) bool {
	if image == toStdout || !isStdout(image) {
		return image == toStdout
	}
	info, err := p.stdout.Stat()
	return err != nil || info.Mode().Type() != fs.ModeDevice
}

// isFile reports whether an image goes to a regular file, which takes what it is
// given, sooner or later.
func (p *program) isFile(image string) bool {
	if isStdout(image) {
		info, err := p.stdout.Stat()
		return err == nil && info.Mode().IsRegular()
	}
	info, err := os.Stat(image)
	return err != nil || info.Mode().IsRegular()
}

// interrupted returns the error of ctx in place of err if it is for that that
// the image is not complete, or that there is none.
func interrupted(ctx context.Context, report *o2image.Report, err error) error {
	stopped := errors.Is(err, o2image.ErrStopped)
	if report != nil && report.Interrupted {
		stopped = errors.Is(err, errIncomplete)
	}
	if stopped && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// explain adds to an error of a copy what the user may not know.
func (p *program) explain(err error, device string) error {
	err = ofSource(err, device)
	if errors.Is(err, o2image.ErrPackedSource) {
		return hintError{err, fmt.Sprintf("it is a packed image; to restore it: %s -I DEVICE %s", p.name, device)}
	}
	op, ok := errors.AsType[*o2image.OpError](err)
	if !ok || op.Op != "write" {
		return err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return hintError{err, fmt.Sprintf("less room is needed with --zstd, and none here through a pipe: %s --zstd %s - | ssh HOST 'cat > FILE'", p.name, device)}
	case errors.Is(err, syscall.EFBIG):
		return hintError{err, "the limit is that of the file system, or of ulimit -f; with --zstd the image is smaller"}
	}
	return err
}

// askCreate asks whether to write an image of the given size. How small it will be
// when it is compressed is not known before; --estimate tells by a sample.
func (p *program) askCreate(ctx context.Context, image string, size o2image.Estimate, compressed bool) (bool, error) {
	free, err := freeSpace(image)
	if err != nil {
		return false, &o2image.OpError{Op: "open", Name: image, Err: err}
	}
	var before string
	if compressed {
		before = " before compression"
	}
	return p.ask(ctx, fmt.Sprintf("Image file expected to be %dK%s, Available free space %dK. Continue ? (y/N): ",
		size.Bytes>>10, before, free>>10))
}

// imageTime returns the time that the image is to bear: that of
// SOURCE_DATE_EPOCH if it is set, and now otherwise.
func imageTime() (time.Time, error) {
	text, ok := os.LookupEnv("SOURCE_DATE_EPOCH")
	if !ok {
		return time.Now(), nil
	}
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q: it must be a number of seconds since 1970", text)
	}
	return time.Unix(int64(seconds), 0).UTC(), nil
}

// checkStdout refuses a standard output, named as image, that was closed by the
// caller. The runtime of Go opens /dev/null in its place, for reading and writing, which
// the shell's >/dev/null is not.
func (p *program) checkStdout(image string) error {
	info, err := p.stdout.Stat()
	if err != nil {
		return &o2image.OpError{Op: "open", Name: image, Err: err}
	}
	null, err := os.Stat(os.DevNull)
	if err != nil || !os.SameFile(info, null) {
		return nil
	}
	if _, err := p.stdout.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return nil // open for writing only
	}
	return &o2image.OpError{Op: "open", Name: image, Err: &fs.PathError{Op: "write", Path: p.stdout.Name(), Err: syscall.EBADF}}
}
