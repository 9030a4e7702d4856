// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"errors"
	"fmt"
	"io"

	"o2image/blockio"
	"o2image/blockset"
	"o2image/image"
	"o2image/mapfile"
	"o2image/ocfs2"
	"o2image/redact"
	"o2image/volume"
)

// earlier is an image of the volume that was made before, and lacks something.
type earlier struct {
	src      *Source
	data     io.ReaderAt             // of the volume
	held     *blockset.Set           // the blocks that it has
	doubtful func(block []byte) bool // tells what the image does not really have
	redacted Redacted                // what had been taken out of its blocks
}

// openEarlier opens an image to go on from. A raw one does not tell which blocks
// it has: a map does.
func openEarlier(ctx context.Context, name string, m *mapfile.Map, opts CreateOptions) (*earlier, error) {
	src, err := Open(ctx, name)
	if err != nil {
		return nil, err
	}
	e := &earlier{src: src, data: src.vol}
	if src.packed != nil {
		err = e.usePacked(ctx, opts.Exact)
	} else {
		err = e.useRaw(m, opts.Exact)
	}
	if err != nil {
		return nil, errors.Join(&OpError{"resume from", name, err}, src.Close())
	}
	return e, nil
}

// usePacked verifies a packed image, and finds out what it has.
func (e *earlier) usePacked(ctx context.Context, exact bool) error {
	redaction := image.RedactionExact // what 1.8.7 makes
	if record, ok := e.src.packed.Record(); ok {
		redaction = record.Redaction
	}
	if redaction == image.RedactionPrivate || exact && redaction != image.RedactionExact {
		return fmt.Errorf("%w: its redaction is %s", ErrRedacted, redaction)
	}
	trailer, err := e.src.packed.Trailer()
	if err != nil {
		return err
	}
	if trailer != nil {
		if err := e.src.Verify(ctx, trailer, verifiers); err != nil {
			return err
		}
	}
	absent, err := e.src.absent()
	if err != nil {
		return err
	}
	if report, err := e.src.Report(); err == nil && report != nil {
		e.redacted = report.Redacted
	}
	held := blockset.NewBuilder()
	for run, err := range without(e.src.packed.Runs(), absent) {
		if err != nil {
			return err
		}
		held.Add(run.Start, run.Len, 0)
	}
	e.held = held.Seal()
	return nil
}

// useRaw finds out what a raw image has: the blocks that a map says are read.
// It does not tell whether contents of inline files were taken out. Where such
// contents are missing and are wanted, its block is not used.
func (e *earlier) useRaw(m *mapfile.Map, exact bool) error {
	if m == nil {
		return ErrNoMap
	}
	if exact {
		e.doubtful = redact.Redacted
	}
	bs, size := int64(e.src.super().BlockSize()), int64(e.src.super().Bytes())
	held := blockset.NewBuilder()
	for _, b := range m.Blocks {
		first, end := (min(b.Pos, size)+bs-1)/bs, min(b.End(), size)/bs
		if b.Status == mapfile.Finished && first < end {
			held.Add(uint64(first), uint64(end-first), 0)
		}
	}
	e.held = held.Seal()
	return nil
}

// over returns a reader of the blocks that the image has, and of device for all
// others. It fails if the device holds another volume.
func (e *earlier) over(ctx context.Context, device io.ReaderAt) (io.ReaderAt, error) {
	sb := e.src.super()
	if err := sameVolume(ctx, device, sb); err != nil {
		return nil, err
	}
	return &overlay{earlier: e, device: device, blockSize: int64(sb.BlockSize())}, nil
}

// sameVolume returns [ErrOtherVolume] unless device holds the volume of the
// superblock sb, by one of its superblocks. If none of them is whole it is by what
// is taken for the superblock. It gives a device the benefit of the doubt of which
// none can be read.
func sameVolume(ctx context.Context, device io.ReaderAt, sb *ocfs2.SuperBlock) error {
	var other error
	read := false
	b := make([]byte, sb.BlockSize())
	for _, blkno := range append([]uint64{ocfs2.SuperBlockBlkno}, sb.Backups()...) {
		if n, _ := device.ReadAt(b, int64(blkno)<<sb.BlockBits); n < len(b) {
			continue
		}
		read = true
		there, err := ocfs2.DecodeSuperBlock(b, blkno)
		if err != nil {
			continue
		}
		if err := differ(there, sb); err == nil {
			return nil
		} else if other == nil {
			other = err
		}
	}
	if other != nil || !read {
		return other
	}
	vol, err := volume.Open(ctx, device)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrOtherVolume, err) //nolint:errorlint // not a volume in another sense
	}
	return differ(vol.Super(), sb)
}

// differ returns [ErrOtherVolume] if there, on the device, is not the superblock of
// the volume in the image.
func differ(there, image *ocfs2.SuperBlock) error {
	switch {
	case there.UUID != image.UUID:
		return fmt.Errorf("%w: its UUID is %s, that of the image %s", ErrOtherVolume, there.UUIDString(), image.UUIDString())
	case there.Geometry != image.Geometry:
		return fmt.Errorf("%w: it has %d clusters of %d bytes, in the image it has %d of %d", ErrOtherVolume,
			there.Clusters, there.ClusterSize(), image.Clusters, image.ClusterSize())
	}
	return nil
}

// overlay reads the blocks that an earlier image has from there, and all others
// from the device.
type overlay struct {
	*earlier
	device    io.ReaderAt
	blockSize int64
}

// ReadAt implements [io.ReaderAt]. Its errors are those of the device.
func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	var bad []blockio.BadRange
	for done := 0; done < len(p); {
		n, held := o.next(off+int64(done), len(p)-done)
		part, at := p[done:done+n], off+int64(done)
		if !held || !o.fromImage(part, at) {
			got, err := o.device.ReadAt(part, at)
			if missing, ok := errors.AsType[*blockio.BadError](err); ok {
				bad = append(bad, missing.Ranges...)
			} else if got < n {
				return done + got, err
			}
		}
		done += n
	}
	if bad != nil {
		return int(bad[0].Off - off), &blockio.BadError{Ranges: bad}
	}
	return len(p), nil
}

// next returns how many of the n bytes from off on are all in the image, or none
// of them.
func (o *overlay) next(off int64, n int) (part int, held bool) {
	for start, count := range o.held.SpansFrom(uint64(off / o.blockSize)) {
		first, end := int64(start)*o.blockSize, int64(start+count)*o.blockSize
		if first > off {
			return int(min(int64(n), first-off)), false
		}
		part = int(min(int64(n), end-off))
		if o.doubtful != nil { // each block by itself
			part = min(part, int(o.blockSize-off%o.blockSize))
		}
		return part, true
	}
	return n, false
}

// fromImage fills p from the image, and reports whether that is what the volume
// has.
func (o *overlay) fromImage(p []byte, off int64) bool {
	if n, _ := o.data.ReadAt(p, off); n < len(p) {
		return false
	}
	if o.doubtful == nil {
		return true
	}
	block := p
	if int64(len(p)) < o.blockSize {
		block = make([]byte, o.blockSize)
		if n, _ := o.data.ReadAt(block, off/o.blockSize*o.blockSize); n < len(block) {
			return false
		}
	}
	return !o.doubtful(block)
}
