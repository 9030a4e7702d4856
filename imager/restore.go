// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"o2image/blockio"
	"o2image/image"
	"o2image/image/packed"
	"o2image/image/raw"
	"o2image/ocfs2"
	"o2image/redact"
	"o2image/volume"
)

// RestoreOptions says how [Restore] works.
type RestoreOptions struct {
	Raw   bool // the image is a raw one
	Force bool // overrides the refusals that are [ErrNeedsForce]

	Load Load // how the image is read

	// Progress, if not nil, is told how far the run is, from many goroutines
	// at once, and often.
	Progress func(Progress)

	Program string // name and version of the program, for the report
}

// verifiers is how many pieces of an image are hashed at once.
const verifiers = 4

// Restore writes the blocks in an image onto device, at their own offsets, and
// leaves everything else there as it is. A device that does not exist is
// created as a sparse file, a file that is too short is extended.
//
// The image is verified before the device is opened, and the superblocks come
// last: until then nothing mounts the device, and a second Restore completes
// what the first left.
func Restore(ctx context.Context, device, imageFile string, opts RestoreOptions) (*Report, error) {
	start := time.Now()
	src, err := openToCopy(ctx, imageFile, sourceOptions{load: opts.Load})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	r := &restoring{src: src, device: device, force: opts.Force, progress: opts.Progress, report: &Report{Program: opts.Program, Created: creation(time.Time{})}}
	if err := r.checkOperands(opts.Raw); err != nil {
		return nil, err
	}
	if err := r.readImage(ctx); err != nil {
		return nil, &OpError{"read", imageFile, err}
	}
	target, err := r.openTarget(ctx)
	if err != nil {
		return nil, &OpError{"open", device, err}
	}
	src.walked()
	err = errors.Join(r.write(ctx, target), target.Close())
	r.report.Run = src.ran(device, start)
	if err != nil {
		return r.report, during("write", device, err)
	}
	return r.report, nil
}

// restoring is an image on its way back to a device.
type restoring struct {
	src    *Source
	device string
	force  bool

	runs     func() iter.Seq2[image.Run, error] // the stored blocks
	redacted bool                               // contents of inline files are zero, or may be
	dirty    bool                               // a replay of a journal would write such contents
	stored   uint64                             // bytes of the stored blocks
	progress func(Progress)                     // nil if nobody wants to know
	report   *Report
}

// checkOperands refuses an image that is not of the format asked for, and
// operands that look swapped.
func (r *restoring) checkOperands(asRaw bool) error {
	name := r.src.name
	if id, err := blockio.Identify(r.device); err == nil {
		own, err := r.src.dev.ID()
		if err != nil {
			return &OpError{"open", name, err}
		}
		if blockio.SameFile(own, id) {
			return &OpError{"write", r.device, ErrSameFile}
		}
	}
	if asRaw != (r.src.packed == nil) {
		if asRaw {
			return &OpError{"open", name, ErrPackedSource}
		}
		if isPackedFile(r.device) {
			return &OpError{"open", name, ErrSwapped}
		}
		return &OpError{"open", name, ErrNotPacked}
	}
	return nil
}

// isPackedFile reports whether name is a packed image.
func isPackedFile(name string) bool {
	dev, err := blockio.Open(name)
	if err != nil {
		return false
	}
	defer dev.Close()
	src := &Source{dev: dev, in: paced{dev, dev}}
	if src.zstd, err = openSeekable(src.in); err != nil {
		return false
	}
	_, err = packed.Open(src.contents())
	return err == nil
}

// readImage verifies the image and finds out what it holds.
func (r *restoring) readImage(ctx context.Context) error {
	vol := r.src.vol
	inline := vol.Super().Incompat.Has(ocfs2.IncompatInlineData)

	if r.src.packed == nil {
		meta, err := vol.Metadata(ctx, volume.Options{Progress: ofScan(r.progress, vol.Super().BlockBits)})
		if err != nil {
			return err
		}
		r.report.describe(ctx, vol, meta)
		r.runs = spans(meta)
		r.stored = meta.Blocks.Count() << vol.Super().BlockBits
		r.redacted = inline // a raw image does not say
		if inline && r.report.Dirty() {
			r.dirty, err = r.journalRedacted(ctx, meta)
		}
		return err
	}
	r.report.Volume = DescribeVolume(vol.Super())
	r.report.describeSlots(ctx, vol)
	trailer, err := r.src.packed.Trailer()
	if err != nil {
		return err
	}
	if trailer != nil {
		if err := r.src.Verify(ctx, trailer, verifiers); err != nil {
			return err
		}
	}
	carried, err := r.src.Report()
	if err != nil {
		return err
	}
	if carried != nil && len(carried.Skipped) > 0 {
		r.report.Skipped = carried.Skipped
		r.report.Warnings = append(r.report.Warnings,
			"the image was made without free blocks or clean journals: what the device has in their places stays")
	}
	r.runs = r.src.packed.Runs
	r.stored = r.src.packed.Header().Stored << vol.Super().BlockBits
	if record, ok := r.src.packed.Record(); ok {
		r.redacted = inline && record.Redaction != image.RedactionExact
		r.dirty = r.redacted && r.report.Dirty()
	}
	return nil
}

// journalRedacted reports whether a journal holds an inode whose contents have
// been zeroed.
func (r *restoring) journalRedacted(ctx context.Context, meta *volume.Metadata) (bool, error) {
	bs := r.src.super().BlockSize()
	buf := make([]byte, image.PieceSize)
	for run := range meta.Blocks.All() {
		if volume.Class(run.Tag) != volume.ClassJournal {
			continue
		}
		for step := uint64(len(buf) / bs); run.Len > 0; run.Start, run.Len = run.Start+min(step, run.Len), run.Len-min(step, run.Len) {
			b := buf[:min(step, run.Len)*uint64(bs)]
			if err := ctx.Err(); err != nil {
				return false, err
			}
			if n, err := r.src.ReadAt(b, int64(run.Start)*int64(bs)); n < len(b) {
				return false, fmt.Errorf("read journal at block %d: %w", run.Start, err)
			}
			for block := range slices.Chunk(b, bs) {
				if redact.Redacted(block) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// openTarget opens the device, once nothing speaks against writing it.
func (r *restoring) openTarget(ctx context.Context) (*blockio.Target, error) {
	if err := r.refuse(ctx); err != nil && !(r.force && errors.Is(err, ErrNeedsForce)) {
		return nil, err
	}
	size := int64(r.src.super().Bytes())
	target, err := blockio.OpenTarget(r.device, blockio.TargetOptions{Size: size, Shared: r.force})
	if err != nil {
		if errors.Is(err, syscall.EBUSY) {
			return nil, refusal{err}
		}
		return nil, err
	}
	if target.IsBlock() && target.Size() < size {
		err := fmt.Errorf("%w: it has %d bytes, the volume %d", ErrTooSmall, target.Size(), size)
		return nil, errors.Join(err, target.Close())
	}
	if err := target.Extend(size); err != nil {
		return nil, errors.Join(err, target.Close())
	}
	return target, nil
}

// refuse returns what speaks against writing the device: all of it.
func (r *restoring) refuse(ctx context.Context) error {
	var reasons []error
	if _, err := os.Stat(r.device); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	at, mounted, err := blockio.MountPoint(r.device)
	if err != nil {
		return err
	}
	if mounted {
		reasons = append(reasons, fmt.Errorf("%w: at %s", ErrMounted, at))
	}
	if r.dirty && r.ownVolume(ctx) {
		reasons = append(reasons, ErrOwnVolume)
	}
	if len(reasons) == 0 {
		return nil
	}
	return refusal{errors.Join(reasons...)}
}

// ownVolume reports whether the device holds the volume that the image was
// made of.
func (r *restoring) ownVolume(ctx context.Context) bool {
	there, err := Open(ctx, r.device)
	if err != nil {
		return false
	}
	defer there.Close()
	return there.super().UUID == r.src.super().UUID
}

// write copies the blocks. In between the device has no superblock.
func (r *restoring) write(ctx context.Context, target *blockio.Target) error {
	sb := r.src.super()
	out := &targetSink{target: target, blockSize: sb.BlockSize(), last: make(map[uint64][]byte)}
	for _, blkno := range append(sb.Backups(), ocfs2.SuperBlockBlkno) {
		out.last[blkno] = nil
	}
	if r.redacted {
		out.redact = redact.New(sb)
	}
	if err := out.eraseSupers(); err != nil {
		return err
	}
	c := &copier{src: r.src, name: r.src.name, blockSize: sb.BlockSize(), strict: true, total: r.stored, progress: r.progress}
	if r.src.packed != nil {
		c.gap = noGap
		var err error
		if c.absent, err = r.src.absent(); err != nil {
			return err
		}
	}
	if _, err := c.run(ctx, raw.NewLayout(sb.Geometry, r.runs), out); err != nil {
		return err
	}
	return out.writeSupers()
}

// zeroRange is from how many zero bytes on a device is asked to zero a range
// rather than sent zeros.
const zeroRange = 64 << 10

// targetSink writes the blocks of a volume onto a device, and nothing between
// them. Superblocks are held back to the end.
type targetSink struct {
	target    *blockio.Target
	blockSize int
	redact    *redact.Redactor // nil: the blocks hold all that they had

	mu   sync.Mutex
	last map[uint64][]byte // superblocks by block number, nil until they come by
}

func (s *targetSink) write(f *filled) error {
	p, buf := f.Piece, f.buf
	for _, seg := range p.Segments {
		blocks := buf[seg.At:][:seg.Count*s.blockSize]
		if s.redact != nil {
			if err := s.keep(blocks, p.Off+int64(seg.At)); err != nil {
				return err
			}
		}
		if err := s.writeBlocks(blocks, seg.Blkno); err != nil {
			return err
		}
	}
	return nil
}

// keep puts the contents of inline files that the device has at off into
// blocks, where these lack them.
func (s *targetSink) keep(blocks []byte, off int64) error {
	if !slices.ContainsFunc(slices.Collect(slices.Chunk(blocks, s.blockSize)), redact.Redacted) {
		return nil
	}
	old := make([]byte, len(blocks))
	if n, err := s.target.ReadAt(old, off); n < len(old) {
		return err
	}
	for i := 0; i < len(blocks); i += s.blockSize {
		s.redact.Keep(blocks[i:][:s.blockSize], old[i:][:s.blockSize])
	}
	return nil
}

// writeBlocks writes blocks from block blkno on, but for those that come last
// and those that the image does not really have.
func (s *targetSink) writeBlocks(blocks []byte, blkno uint64) error {
	flush := func(from, to int) error {
		part, off := blocks[from:to], int64(blkno)*int64(s.blockSize)+int64(from)
		if len(part) >= zeroRange && bytes.Equal(part, zeroPiece[:len(part)]) {
			return s.target.WriteZeros(off, int64(len(part)))
		}
		_, err := s.target.WriteAt(part, off)
		return err
	}
	from := 0
	for i := 0; i < len(blocks); i += s.blockSize {
		block := blocks[i:][:s.blockSize]
		if !s.hold(blkno+uint64(i/s.blockSize), block) && !isNotRead(block) {
			continue
		}
		if err := flush(from, i); err != nil {
			return err
		}
		from = i + s.blockSize
	}
	return flush(from, len(blocks))
}

// hold keeps a block that is to come last, and reports whether it is one.
func (s *targetSink) hold(blkno uint64, block []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.last[blkno]; !ok {
		return false
	}
	s.last[blkno] = bytes.Clone(block)
	return true
}

// eraseSupers makes the device unmountable: it puts a text in place of the
// superblock and the backups.
func (s *targetSink) eraseSupers() error {
	unfinished := make([]byte, s.blockSize)
	copy(unfinished, volume.Unfinished)
	for blkno := range s.last {
		if _, err := s.target.WriteAt(unfinished, int64(blkno)*int64(s.blockSize)); err != nil {
			return err
		}
	}
	return s.target.Sync()
}

// writeSupers writes the superblocks when everything else is durable, and of
// those the first one, by which volumes are mounted, behind the backups.
func (s *targetSink) writeSupers() error {
	if err := s.target.Sync(); err != nil {
		return err
	}
	for _, blkno := range slices.Backward(slices.Sorted(maps.Keys(s.last))) {
		if s.last[blkno] == nil {
			continue // the image has no such backup
		}
		if _, err := s.target.WriteAt(s.last[blkno], int64(blkno)*int64(s.blockSize)); err != nil {
			return err
		}
	}
	return s.target.Sync()
}
