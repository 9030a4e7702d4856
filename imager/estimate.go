// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"slices"
	"time"

	"o2image/blockio"
	"o2image/image"
	"o2image/image/packed"
	"o2image/image/seekable"
	"o2image/redact"
	"o2image/volume"
)

// Forecast is what an image of a volume would be, from the totals of its
// allocators and a sample of its blocks.
type Forecast struct {
	Volume  VolumeInfo   `json:"volume"`
	Format  string       `json:"format"`
	Blocks  uint64       `json:"blocks"`
	Bytes   uint64       `json:"bytes"`   // as in Estimate
	Zstd    uint64       `json:"zstd"`    // bytes, compressed
	Seconds float64      `json:"seconds"` // for reading alone
	Classes []ClassCount `json:"classes"` // those of allocators with what is free

	// Missing tells what damage kept from being counted. If there is any, the
	// other numbers are the least that there is.
	Missing []string `json:"missing,omitempty"`
}

// Foresee returns what [Create] with the same options would make of a volume. It
// writes nothing, and takes seconds. It does not look for what damage hides.
func Foresee(ctx context.Context, device string, opts CreateOptions) (*Forecast, error) {
	opts.Load.Keep = -1 // reads are timed
	src, err := openToCopy(ctx, device, sourceOptions{load: opts.Load, backup: opts.Superblock})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if src.packed != nil {
		return nil, &OpError{"open", device, ErrPackedSource}
	}
	totals, err := src.vol.Totals(ctx, opts.Skip)
	if err != nil {
		return nil, &OpError{"scan", device, err}
	}
	sb := src.super()
	f := &Forecast{Volume: DescribeVolume(sb), Format: image.FormatPacked.String(), Missing: totals.Missing}
	for c := volume.ClassSuper; c <= volume.ClassSymlink; c++ {
		if n := totals.Blocks[c]; n > 0 {
			f.Blocks += n
			f.Classes = append(f.Classes, ClassCount{Class: c.String(), Blocks: n, Bytes: n << sb.BlockBits})
		}
	}
	f.Bytes = uint64(packed.Size(sb.Geometry, f.Blocks)) //nolint:gosec // not negative
	if opts.Raw {
		f.Format, f.Bytes = image.FormatRaw.String(), f.Blocks<<sb.BlockBits
	}
	s, err := newSampler(src, opts)
	if err != nil {
		return nil, &OpError{"scan", device, err}
	}
	if err := s.forecast(ctx, f, totals); err != nil {
		return nil, &OpError{"scan", device, err}
	}
	return f, nil
}

// sampler reads and compresses samples.
type sampler struct {
	src     *Source
	encoder *seekable.Encoder
	redact  *redact.Redactor // nil: bit for bit
}

func newSampler(src *Source, opts CreateOptions) (*sampler, error) {
	level := opts.Zstd
	if level == 0 {
		level = seekable.DefaultLevel
	}
	encoder, err := seekable.NewEncoder(level)
	if err != nil {
		return nil, err
	}
	s := &sampler{src: src, encoder: encoder}
	if !opts.Exact {
		s.redact = redact.New(src.super())
	}
	return s, nil
}

// maxSample is how many bytes of a class are read and compressed.
const maxSample = 12 << 20

// forecast fills in what samples tell.
func (s *sampler) forecast(ctx context.Context, f *Forecast, totals *volume.Totals) error {
	bits := s.src.super().BlockBits
	var size, duration float64
	for c := volume.ClassSuper; c <= volume.ClassSymlink; c++ {
		bytes := float64(totals.Blocks[c] << bits)
		if bytes == 0 {
			continue
		}
		read, small, seconds, err := s.class(ctx, totals.Samples[c])
		if err != nil {
			return err
		}
		if read == 0 { // no sample: like what comes before
			read, small = 1, min(size/max(bytes, 1), 1)
		}
		size += bytes * small / read
		duration += bytes * seconds / read
	}
	zeros := float64(f.Bytes - min(f.Bytes, f.Blocks<<bits)) // most of the bitmap
	if f.Format == image.FormatRaw.String() {
		whole := s.src.super().Bytes()
		zeros = float64(whole - min(whole, f.Blocks<<bits)) // the holes; totals of a damaged volume may be anything
	}
	size += zeros * float64(len(s.encoder.Zeros(seekable.FrameSize).Data)) / seekable.FrameSize
	f.Zstd, f.Seconds = uint64(size), duration
	return nil
}

// class reads samples of a class and compresses them together. It returns how
// many bytes it read, how many they became, and how long reading them took.
func (s *sampler) class(ctx context.Context, runs []volume.Run) (read, small, seconds float64, err error) {
	var (
		bits = s.src.super().BlockBits
		segs []blockio.Segment
		buf  = make([]byte, 0, maxSample)
	)
	for _, r := range runs {
		n := int(r.Len << bits) //nolint:gosec // samples are short
		if len(buf)+n > cap(buf) {
			break
		}
		buf = buf[:len(buf)+n]
		segs = append(segs, blockio.Segment{Off: int64(r.Start) << bits, P: buf[len(buf)-n:]}) //nolint:gosec // inside the volume
	}
	failed := make(map[int]bool)
	start := time.Now()
	err = blockio.ReadSegments(ctx, s.src, segs, blockio.ReadOptions{Gap: noGap, Failed: func(i int, _ error) { failed[i] = true }})
	if err != nil {
		return 0, 0, 0, err
	}
	seconds = time.Since(start).Seconds()
	if len(failed) > 0 { // the others stand for them
		got := make([]byte, 0, len(buf))
		for i, seg := range segs {
			if !failed[i] {
				got = append(got, seg.P...)
			}
		}
		buf = got
	}
	if s.redact != nil {
		for b := range slices.Chunk(buf, s.src.super().BlockSize()) {
			s.redact.Block(b)
		}
	}
	for len(buf) > 0 {
		part := buf[:min(len(buf), seekable.FrameSize)]
		small += float64(len(s.encoder.Encode(part).Data))
		read += float64(len(part))
		buf = buf[len(part):]
	}
	return read, small, seconds, nil
}
