// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"errors"
	"io"
	"time"

	"o2image/blockio"
	"o2image/image"
	"o2image/image/packed"
	"o2image/image/seekable"
	"o2image/ocfs2"
	"o2image/undo"
	"o2image/volume"
)

// Source is a volume opened for reading: on a device, in a raw image or in a
// packed image.
type Source struct {
	name     string
	dev      *blockio.Device
	in       paced             // dev, as it is read
	pace     *blockio.Throttle // what in is read through
	zstd     *seekable.Reader  // nil if the file is not compressed
	salvager *blockio.Salvager // reads a device that may fail, nil unless that is wanted
	kept     *blockio.Retainer // what the walk read, nil unless the source is to be copied
	packed   *packed.Reader    // nil if the format is not packed
	overlaid bool              // an earlier image has part of the volume
	vol      *volume.Volume
}

// Open opens a device, a raw image or a packed image, where the images may be
// compressed with a seek table. Errors are [OpError].
func Open(ctx context.Context, name string) (*Source, error) {
	return openSource(ctx, name, sourceOptions{load: Load{Keep: -1}})
}

// openToCopy is Open for a source that will be walked and then copied: what the
// walk reads of a volume is kept for the copy, up to a limit.
func openToCopy(ctx context.Context, name string, opts sourceOptions) (*Source, error) {
	if err := blockio.SetPriority(opts.load.Priority); err != nil {
		return nil, &OpError{"set the I/O priority for", name, err}
	}
	return openSource(ctx, name, opts)
}

// sourceOptions says how a source is opened. Reading ends with the context that
// it is opened with.
type sourceOptions struct {
	load    Load
	salvage *blockio.SalvageOptions // not nil: the device may fail
	backup  int                     // number of the superblock to open the volume by, 0: any
	earlier *earlier                // not nil, with salvage: an image that has part of the volume
}

func openSource(ctx context.Context, name string, opts sourceOptions) (*Source, error) {
	dev, err := blockio.Open(name)
	if err != nil {
		return nil, &OpError{"open", name, err}
	}
	s := &Source{name: name, dev: dev}
	if err := s.probe(ctx, opts); err != nil {
		return nil, errors.Join(during("open", name, err), dev.Close())
	}
	return s, nil
}

// probe finds out the format.
func (s *Source) probe(ctx context.Context, opts sourceOptions) error {
	pace := func(r io.ReaderAt) *blockio.Throttle {
		s.pace = blockio.NewThrottle(ctx, r, opts.load.Pace)
		return s.pace
	}
	plain := paced{s.dev, pace(s.dev)}
	s.in = plain
	if opts.salvage != nil {
		s.salvager = blockio.NewSalvager(s.dev, s.dev.Size(), *opts.salvage)
		s.salvager.SetBlockSize(s.dev.SectorSize())
		s.in.through = pace(s.salvager)
	}
	imageErr := s.probeImage(plain)
	r, size := s.contents()
	if imageErr != nil {
		// A volume may be there although its first bytes cannot be read.
		if _, readErr := r.ReadAt(make([]byte, 1), 0); readErr == nil || errors.Is(readErr, io.EOF) {
			return imageErr
		}
	}
	if s.packed != nil {
		r, size = s.packed, s.packed.Size()
	}
	if opts.salvage != nil && s.isImage() {
		s.salvager = blockio.NewSalvager(r, size, *opts.salvage)
		r = s.salvager
	}
	if s.packed == nil {
		if opts.earlier != nil {
			s.setBlockSize(opts.earlier.src.super())
			var err error
			if r, err = opts.earlier.over(ctx, r); err != nil {
				return err
			}
			s.overlaid = true
		}
		if keep := opts.load.keep(); keep > 0 {
			var err error
			if s.kept, err = blockio.NewRetainer(r, keep); err != nil {
				return err
			}
			r = s.kept
		}
	}
	_, undoErr := undo.Open(s.in, s.in.Size())
	if undoErr == nil {
		return ErrUndoFile
	}
	var err error
	switch {
	case opts.backup > 0:
		s.vol, err = volume.OpenBackup(ctx, r, opts.backup)
	case s.packed != nil:
		s.vol, err = volume.OpenImage(ctx, r)
	default:
		s.vol, err = volume.Open(ctx, r)
	}
	if err != nil {
		if errors.Is(undoErr, undo.ErrDamaged) {
			return ErrUndoFile
		}
		if s.zstd != nil && imageErr != nil {
			return imageErr // which says more than that there is no volume
		}
		return err
	}
	if s.salvager != nil {
		s.setBlockSize(s.super())
	}
	return nil
}

// isImage reports whether the volume lies in the file in another form: its offsets
// are not those of the file.
func (s *Source) isImage() bool { return s.packed != nil || s.zstd != nil }

// setBlockSize tells the salvager what is worth trying by itself: what is smaller
// than the device reads is not.
func (s *Source) setBlockSize(sb *ocfs2.SuperBlock) {
	size := sb.BlockSize()
	if !s.isImage() {
		size = max(size, s.dev.SectorSize())
	}
	s.salvager.SetBlockSize(size)
}

// probeImage finds out whether the source is a compressed file and whether it is
// a packed image. Images are read by way of plain: frames whole or not at all, and
// errors are about the volume.
func (s *Source) probeImage(plain paced) error {
	z, err := openSeekable(s.in)
	if z != nil {
		s.zstd, err = openSeekable(plain)
	}
	if err != nil {
		return err
	}
	p, err := packed.Open(s.contents())
	if errors.Is(err, image.ErrFormat) {
		return nil
	}
	if err == nil && s.salvager != nil && s.zstd == nil { // what is salvaged is blocks of the volume, not bytes of the file
		s.in = plain
		p, err = packed.Open(s.contents())
	}
	s.packed = p
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

// holes returns what tells where the volume has holes, nil if nothing does. With an
// earlier image nothing does: that may have blocks where the device has a hole, which
// in a copy of a failing disk is what could not be copied.
func (s *Source) holes() *blockio.Device {
	if s.overlaid || s.isImage() {
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
	jobs := 0
	if t, ok := s.in.through.(*blockio.Throttle); ok {
		jobs = t.Jobs()
	}
	return &Run{
		Source: s.name, Output: output, Seconds: time.Since(start).Seconds(),
		Jobs: jobs, Direct: s.dev.Direct(), Reads: reads, BytesRead: bytes,
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

// Redaction returns what was taken out of an image, as far as it says so.
func (s *Source) Redaction() image.Redaction {
	if s.packed == nil {
		return image.RedactionUnknown
	}
	record, ok := s.packed.Record()
	if !ok {
		return image.RedactionUnknown
	}
	return record.Redaction
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
	return decodeReport(trailer.Report)
}

// absent returns the blocks that a packed image stores and does not really have:
// those that were not read when it was made.
func (s *Source) absent() ([]image.Run, error) {
	report, err := s.Report()
	if err != nil || report == nil {
		return nil, err
	}
	return sortedRuns(report.NotRead, s.super().Blocks()), nil
}
