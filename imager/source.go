// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"o2image/blockio"
	"o2image/image"
	"o2image/image/packed"
	"o2image/image/seekable"
	"o2image/ocfs2"
	"o2image/volume"
)

// Source is a volume opened for reading: on a device, in a raw image or in a
// packed image.
type Source struct {
	name   string
	dev    *blockio.Device
	in     paced             // dev, as it is read
	zstd   *seekable.Reader  // nil if the file is not compressed
	kept   *blockio.Retainer // what the walk read, nil unless the source is to be copied
	packed *packed.Reader    // nil if the format is not packed
	vol    *volume.Volume
}

// Open opens a device, a raw image or a packed image, where the images may be
// compressed with a seek table. Errors are [OpError].
func Open(ctx context.Context, name string) (*Source, error) {
	return openSource(ctx, name, Load{Keep: -1})
}

// openToCopy is Open for a source that will be walked and then copied: what the
// walk reads of a volume is kept for the copy, up to a limit.
func openToCopy(ctx context.Context, name string, load Load) (*Source, error) {
	if err := blockio.SetPriority(load.Priority); err != nil {
		return nil, &OpError{"set the I/O priority for", name, err}
	}
	return openSource(ctx, name, load)
}

func openSource(ctx context.Context, name string, load Load) (*Source, error) {
	dev, err := blockio.Open(name)
	if err != nil {
		return nil, &OpError{"open", name, err}
	}
	s := &Source{name: name, dev: dev, in: paced{dev, blockio.NewThrottle(ctx, dev, load.Pace)}}
	if err := s.probe(ctx, load.keep()); err != nil {
		return nil, errors.Join(&OpError{"open", name, err}, dev.Close())
	}
	return s, nil
}

// probe finds out the format.
func (s *Source) probe(ctx context.Context, keep int) error {
	var err error
	if s.zstd, err = openSeekable(s.in); err != nil {
		return err
	}
	r, size := s.contents()
	p, err := packed.Open(r, size)
	switch {
	case err == nil:
		s.packed, r = p, p
	case !errors.Is(err, image.ErrFormat):
		return err
	case keep > 0:
		s.kept = blockio.NewRetainer(r, keep)
		r = s.kept
	}
	s.vol, err = volume.Open(ctx, r)
	return err
}

// openSeekable opens a compressed file; it returns nil for all others.
func openSeekable(dev paced) (*seekable.Reader, error) {
	z, err := seekable.Open(dev, dev.Size())
	if errors.Is(err, seekable.ErrFormat) {
		return nil, nil
	}
	return z, err
}

// contents returns the bytes of the device or image, decompressed, and their
// number.
func (s *Source) contents() (io.ReaderAt, int64) {
	if s.zstd != nil {
		return s.zstd, s.zstd.Size()
	}
	return s.in, s.in.Size()
}

// holes returns what tells where the volume has holes, nil if nothing does.
func (s *Source) holes() *blockio.Device {
	if s.packed != nil || s.zstd != nil {
		return nil
	}
	return s.dev
}

// walked says that the walk is over and the copy begins.
func (s *Source) walked() {
	if s.kept != nil {
		s.kept.Seal()
	}
}

// ran tells about a run that copied the source to output since start.
func (s *Source) ran(output string, start time.Time) *Run {
	reads, bytes := s.dev.Reads()
	return &Run{
		Source: s.name, Output: output, Seconds: time.Since(start).Seconds(),
		Direct: s.dev.Direct(), Reads: reads, BytesRead: bytes,
	}
}

// Name returns the name that the source was opened by.
func (s *Source) Name() string { return s.name }

// Format returns what kind of file the source is.
func (s *Source) Format() image.Format {
	if s.packed != nil {
		return image.FormatPacked
	}
	return image.FormatRaw
}

// Volume returns the volume in the source.
func (s *Source) Volume() *volume.Volume { return s.vol }

// Packed returns the packed image that the source is, nil if it is none.
func (s *Source) Packed() *packed.Reader { return s.packed }

// Zstd returns the compressed file that the source is in, nil if it is in none.
func (s *Source) Zstd() *seekable.Reader { return s.zstd }

// Verify compares a packed image with the hashes in its trailer, as
// [packed.Trailer.Verify] does.
func (s *Source) Verify(ctx context.Context, trailer *packed.Trailer, parallel int) error {
	r, _ := s.contents()
	return trailer.Verify(ctx, r, parallel)
}

// Close closes the source.
func (s *Source) Close() error { return s.dev.Close() }

// ReadAt reads at an offset of the volume, in bytes.
func (s *Source) ReadAt(p []byte, off int64) (int, error) { return s.vol.ReadAt(p, off) }

func (s *Source) super() *ocfs2.SuperBlock { return s.vol.Super() }

// Report returns the report that a packed image carries, nil if there is none:
// in raw images and in those of 1.8.7.
func (s *Source) Report() (*Report, error) {
	if s.packed == nil {
		return nil, nil
	}
	trailer, err := s.packed.Trailer()
	if err != nil || trailer == nil {
		return nil, err
	}
	report := new(Report)
	if err := json.Unmarshal(trailer.Report, report); err != nil {
		return nil, fmt.Errorf("report in the image: %w", err)
	}
	return report, nil
}
