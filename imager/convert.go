// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"o2image/blockio"
	"o2image/image"
	"o2image/image/raw"
	"o2image/volume"
)

// ConvertOptions says how [Convert] works.
type ConvertOptions struct {
	Time    time.Time // of creation; zero is now
	Program string    // name and version of the program, for the report
	Zstd    int       // level of compression of the target from 1 to 19, as of zstd; 0: none
	Load    Load      // how the source is read

	// Progress, if not nil, is told how far the run is, from many goroutines
	// at once, and often.
	Progress func(Progress)
}

// Convert writes a packed image as a raw one, or a raw one as a packed one. It
// changes no block. The source may be compressed. Where the source is damaged, be it
// by its hashes or because a part of it cannot be read, what there is is converted:
// see [Report.Damage]. Neither source nor target can be a block device: to make an
// image of a volume is the work of [Create].
func Convert(ctx context.Context, source, target string, opts ConvertOptions) (*Report, error) {
	start := time.Now()
	src, err := openToCopy(ctx, source, sourceOptions{load: opts.Load, salvage: &blockio.SalvageOptions{}})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if src.dev.IsBlock() {
		return nil, &OpError{"read", source, ErrDeviceSource}
	}
	id, err := blockio.Identify(target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &OpError{"open", target, err}
	}
	dest := destination{name: target, id: id}
	if err := dest.compress(opts.Zstd); err != nil {
		return nil, err
	}
	if err := dest.distinct(src); err != nil {
		return nil, err
	}
	report := &Report{Program: opts.Program, Created: creation(opts.Time)}
	in := &faultReader{r: src}
	c := &copier{src: in, name: source, blockSize: src.super().BlockSize(), progress: opts.Progress}
	var p *plan
	if src.packed != nil {
		p, err = unpack(ctx, src, c, report)
	} else {
		c.holes, c.texts = src.holes(), true
		p, err = pack(ctx, src, report, opts.Progress)
	}
	if err != nil {
		return nil, &OpError{"read", source, err}
	}
	src.walked()
	p.copied = func() {
		if report.Damage == "" && in.fault != nil {
			report.Damage = in.fault.Error()
		}
	}
	err = p.write(ctx, c, dest, false)
	report.Run = src.ran(target, start)
	return report, err
}

// faultReader remembers why something could not be read: of all reads the one that
// lies first.
type faultReader struct {
	r     io.ReaderAt
	mu    sync.Mutex
	fault error
	at    int64 // of fault
}

func (f *faultReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.r.ReadAt(p, off)
	if n < len(p) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if at := off + int64(n); f.fault == nil || at < f.at {
			f.fault, f.at = err, at
		}
	}
	return n, err
}

// unpack plans a raw image of a packed one that c copies. The report is that of the
// source, if it has one. A raw image has no hashes: what those of the source show to
// be damaged has to be said now.
func unpack(ctx context.Context, src *Source, c *copier, report *Report) (*plan, error) {
	c.gap, c.texts = noGap, true
	trailer, err := src.packed.Trailer()
	if err == nil && trailer != nil {
		var carried *Report
		if carried, err = decodeReport(trailer.Report); err == nil {
			carried.Program, carried.Created = report.Program, report.Created
			*report = *carried
			c.absent, c.texts = sortedRuns(report.NotRead, src.super().Blocks()), false
			err = src.Verify(ctx, trailer, verifiers)
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		report.Damage = err.Error()
	}
	report.Volume = DescribeVolume(src.super())
	redaction := image.RedactionExact // what 1.8.7 makes
	if record, ok := src.packed.Record(); ok {
		redaction = record.Redaction
	}
	g := src.super().Geometry
	p := planRaw(raw.NewLayout(g, src.packed.Runs), g, redaction, report)
	p.stored = src.packed.Header().Stored << g.BlockBits
	return p, nil
}

// pack plans a packed image of a raw one, which does not say what was taken out
// of it.
func pack(ctx context.Context, src *Source, report *Report, progress func(Progress)) (*plan, error) {
	meta, err := src.vol.Metadata(ctx, volume.Options{Progress: ofScan(progress, src.super().BlockBits)})
	if err != nil {
		return nil, err
	}
	report.describe(ctx, src.vol, meta)
	return planImage(meta, src.super().Geometry, false, image.RedactionUnknown, report)
}
