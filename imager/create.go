// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"o2image/blockio"
	"o2image/image"
	"o2image/redact"
	"o2image/volume"
)

// CreateOptions says how [Create] and [CreateTo] make an image. The zero value
// makes a packed image without file data.
type CreateOptions struct {
	Raw   bool // raw instead of packed
	Exact bool // store every block bit for bit, contents of inline files included
	Force bool // write onto a block device
	Zstd  int  // level of compression from 1 to 19, as of zstd; 0: none

	// Load says how the volume is read. Where it says nothing, a volume on
	// which a cluster beats is read with few jobs and low priority.
	Load Load

	// Sweep has everything read that no structure claims, for metadata that
	// nothing leads to any more. See [volume.Options].
	Sweep bool
	// Superblock is the number of the backup superblock, from 1 to 6, by which
	// the volume is opened; 0 is the one in block 2, and another if that is
	// damaged.
	Superblock int

	Retries     int           // how many more times a block is tried that cannot be read
	ReadTimeout time.Duration // after which a read counts as failed; 0: never

	// Map is the name of a file that is to tell which bytes of the device were
	// read, in the form of GNU ddrescue. It is written when the image is
	// complete, that of an interrupted run too.
	Map string
	// From is an image of the same volume that lacks something. What it has is
	// not read from the device. It needs Map, and if it is a raw image the map
	// that was written with it.
	From string
	// Stop ends the reading when it is closed. The image is completed with what
	// was read by then, and [Report.Interrupted] says so. If that is nothing
	// the error is [blockio.ErrStopped]. May be nil.
	Stop <-chan struct{}

	// Confirm, if not nil, is asked when the volume has been scanned and
	// before the output is opened. If it returns false nothing is written, and
	// the error is [ErrRefused].
	Confirm func(Estimate) bool

	// Skip says which metadata is left out.
	Skip volume.Skip

	// Progress, if not nil, is told how far the run is, from many goroutines
	// at once, and often.
	Progress func(Progress)

	Time    time.Time // of creation; zero is now
	Program string    // name and version of the program, for the report
}

// Estimate is what is known of an image before it is written.
type Estimate struct {
	// Bytes is the size of the image without its report: of a packed image
	// the header, the blocks and the bitmap, of a raw one the blocks; all
	// before compression.
	Bytes uint64
}

// Create copies the metadata of the volume on device, which may also be a file
// or a raw image, into the file output. An existing file is replaced when the
// image is complete. The errors are [OpError], for refusals with one of the
// errors of this package inside.
//
// The report is not nil if an image was written; see [Report.Incomplete].
func Create(ctx context.Context, device, output string, opts CreateOptions) (*Report, error) {
	id, err := blockio.Identify(output)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &OpError{"open", output, err}
	}
	return capture(ctx, device, opts, destination{name: output, id: id, devices: true})
}

// CreateTo is Create with an open file, standard output for instance, which is
// written in sequence from its present offset. The caller closes it.
func CreateTo(ctx context.Context, device string, f *os.File, opts CreateOptions) (*Report, error) {
	out, id, err := newStreamOutput(f)
	if err != nil {
		return nil, &OpError{"open", f.Name(), err}
	}
	return capture(ctx, device, opts, destination{name: f.Name(), id: id, stream: out})
}

func capture(ctx context.Context, device string, opts CreateOptions, dest destination) (*Report, error) {
	start := time.Now()
	if err := dest.compress(opts.Zstd); err != nil {
		return nil, err
	}
	reading, done := opts.reading(ctx)
	defer done()
	r, err := openRescue(reading, device, opts, &dest)
	if err != nil {
		return nil, err
	}
	defer r.close()
	src, err := opts.openVolume(reading, device, r.earlier)
	if err != nil {
		if cause := context.Cause(reading); ctx.Err() == nil && cause != nil {
			err = &OpError{"open", device, cause}
		}
		return nil, err
	}
	defer src.Close()
	if err := dest.distinct(src); err != nil {
		return nil, err
	}
	src.yield(reading, opts.Load)
	vol := src.vol
	beats, beatErr := newWatch(ctx, src)
	buffers := newBuffers() // for the walk, and then for the copy
	defer buffers.Close()
	meta, err := vol.Metadata(reading, opts.scan(src, buffers))
	if err != nil {
		return nil, &OpError{"scan", device, err}
	}
	report := &Report{Program: opts.Program, Options: opts.chosen(), Created: creation(opts.Time), Interrupted: reading.Err() != nil}
	if r.earlier != nil {
		report.Redacted = r.earlier.redacted
	}
	src.walked()
	report.describe(ctx, vol, meta)
	report.describeMount(device)

	c := &copier{src: vol, name: device, holes: src.holes(), blockSize: vol.Super().BlockSize(), buffers: buffers, progress: opts.Progress}
	redaction := image.RedactionExact
	if !opts.Exact {
		redaction = image.RedactionDefault
		c.redact, c.classes = redact.New(vol.Super()), meta.Blocks
	}
	p, err := planImage(meta, vol.Super().Geometry, opts.Raw, redaction, report)
	if err != nil {
		return nil, &OpError{"scan", device, err}
	}
	if opts.Confirm != nil && !opts.Confirm(Estimate{Bytes: p.size}) {
		return nil, ErrRefused
	}
	p.copied = func() { report.describeBeats(beats, beatErr) }
	err = p.write(ctx, c, dest, opts.Force)
	report.Run = src.ran(dest.name, start)
	report.Run.Watched, report.Run.ComparedBelow = beats.seconds(), meta.ComparedBelow
	if err == nil {
		err = r.write(vol.Super().Geometry, meta.Blocks, c.missing(), src.salvager.Bad(), opts.Program)
	}
	return report, err
}

// openVolume opens the volume on device, which may fail, so that reading ends with ctx.
func (o CreateOptions) openVolume(ctx context.Context, device string, from *earlier) (*Source, error) {
	src, err := openToCopy(ctx, device, sourceOptions{
		load:    o.Load,
		backup:  o.Superblock,
		salvage: &blockio.SalvageOptions{Retries: o.Retries, Timeout: o.ReadTimeout, Stop: ctx.Done()},
		earlier: from,
	})
	if err != nil {
		return nil, err
	}
	if src.packed != nil {
		return nil, errors.Join(&OpError{"open", device, ErrPackedSource}, src.Close())
	}
	return src, nil
}

// scan says how src is walked, with the given buffers.
func (o CreateOptions) scan(src *Source, buffers *blockio.Pool) volume.Options {
	scan := volume.Options{
		Sweep:    o.Sweep,
		Skip:     o.Skip,
		Buffers:  buffers,
		Progress: ofScan(o.Progress, src.super().BlockBits),
	}
	if holes := src.holes(); holes != nil {
		scan.NextData = holes.NextData
	}
	return scan
}

// reading returns a context that ends with ctx and, with [blockio.ErrStopped] as
// its cause, when o.Stop is closed.
func (o CreateOptions) reading(ctx context.Context) (context.Context, func()) {
	reading, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-o.Stop:
			cancel(blockio.ErrStopped)
		case <-reading.Done():
		}
	}()
	return reading, func() { cancel(nil) }
}

// chosen names the options that decide what is in an image, as the command line
// has them.
func (o CreateOptions) chosen() []string {
	var names []string
	if o.Raw {
		names = append(names, "raw")
	}
	if o.Exact {
		names = append(names, "exact")
	}
	if o.Skip.Free {
		names = append(names, "skip=free")
	}
	if o.Skip.JournalClean {
		names = append(names, "skip=journal-clean")
	}
	if o.Sweep {
		names = append(names, "sweep")
	}
	if o.Superblock > 0 {
		names = append(names, fmt.Sprintf("superblock=%d", o.Superblock))
	}
	return names
}

// creation returns the time that an image carries: t, or now, in seconds.
func creation(t time.Time) time.Time {
	if t.IsZero() {
		t = time.Now()
	}
	return t.UTC().Truncate(time.Second)
}
