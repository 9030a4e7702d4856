// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"errors"
	"io/fs"
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
// changes no block. The source may be compressed. Neither source nor target can
// be a block device: to make an image of a volume is the work of [Create].
func Convert(ctx context.Context, source, target string, opts ConvertOptions) (*Report, error) {
	start := time.Now()
	src, err := openToCopy(ctx, source, sourceOptions{load: opts.Load})
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
	c := &copier{src: src, name: source, blockSize: src.super().BlockSize(), strict: true, progress: opts.Progress}
	var p *plan
	if src.packed != nil {
		c.gap = noGap
		p, err = unpack(ctx, src, report)
		c.absent = sortedRuns(report.NotRead, src.super().Blocks())
	} else {
		c.holes, c.texts = src.holes(), true
		p, err = pack(ctx, src, report, opts.Progress)
	}
	if err != nil {
		return nil, &OpError{"read", source, err}
	}
	src.walked()
	err = p.write(ctx, c, dest, false)
	report.Run = src.ran(target, start)
	return report, err
}

// unpack plans a raw image of a packed one. The report is that of the source,
// if it has one. A raw image has no hashes: what those of the source show to be
// damaged has to be said now.
func unpack(ctx context.Context, src *Source, report *Report) (*plan, error) {
	carried, err := src.Report()
	if err != nil {
		return nil, err
	}
	if carried != nil {
		carried.Program, carried.Created = report.Program, report.Created
		*report = *carried
	}
	report.Volume = DescribeVolume(src.super())
	trailer, err := src.packed.Trailer()
	if err != nil {
		return nil, err
	}
	if trailer != nil {
		if err := src.Verify(ctx, trailer, verifiers); ctx.Err() != nil {
			return nil, ctx.Err()
		} else if err != nil {
			report.Damage = err.Error()
		}
	}
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
