// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"syscall"
	"time"

	"o2image/blockio"
	"o2image/image"
	"o2image/image/packed"
	"o2image/image/raw"
	"o2image/image/seekable"
	"o2image/ocfs2"
	"o2image/redact"
	"o2image/undo"
	"o2image/volume"
)

// RestoreOptions says how [Restore] works.
type RestoreOptions struct {
	Raw   bool   // the image is a raw one
	Force bool   // overrides the refusals that are [ErrNeedsForce]
	Undo  string // the undo file to make, empty for none; it must not exist

	Load Load // how the image is read

	// Progress, if not nil, is told how far the run is, from many goroutines
	// at once, and often.
	Progress func(Progress)

	Program string // name and version of the program, for the report

	disks disks
}

// disks opens what a restore writes.
type disks struct {
	target  func(name string, opts blockio.TargetOptions) (device, error) // nil: blockio.OpenTarget
	newFile func(name string) (newFile, error)                            // nil: blockio.CreateNew
}

func (d disks) openTarget(name string, opts blockio.TargetOptions) (device, error) {
	if d.target != nil {
		return d.target(name, opts)
	}
	return blockio.OpenTarget(name, opts)
}

func (d disks) createNew(name string) (newFile, error) {
	if d.newFile != nil {
		return d.newFile(name)
	}
	return blockio.CreateNew(name)
}

// verifiers is how many pieces of an image are hashed at once.
const verifiers = 4

// Restore writes the blocks in an image onto device, at their own offsets, and
// leaves everything else there as it is. A device that does not exist is
// created as a sparse file, a file that is too short is extended.
//
// The image is verified, or read whole if it has no hashes, before the device is
// opened, and the superblocks come last: until then nothing mounts the device, and
// a second Restore completes what the first left. What is overwritten is saved in an
// undo file before, if one is wanted.
//
// If the image is an undo file, Restore brings back what is saved in it.
//
// The report is not nil once it writes: after an error the device is unfinished.
func Restore(ctx context.Context, device, imageFile string, opts RestoreOptions) (*Report, error) {
	start := time.Now()
	report := &Report{Program: opts.Program, Created: creation(time.Time{})}
	undone, err := openUndo(imageFile)
	if err != nil {
		return nil, &OpError{"open", imageFile, err}
	}
	if undone != nil {
		defer undone.Close()
		return undone.restore(ctx, device, opts, report)
	}
	src, err := openToCopy(ctx, imageFile, sourceOptions{load: opts.Load})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	report.Format, report.Redaction = src.Format().String(), src.Redaction().String()
	r := &restoring{src: src, device: device, opts: opts, report: report}
	if err := r.checkOperands(); err != nil {
		return nil, err
	}
	if err := r.readImage(ctx); err != nil {
		return nil, during("read", imageFile, err)
	}
	target, err := r.openTarget(ctx)
	if err != nil {
		return nil, during("open", device, err)
	}
	src.walked()
	held := r.holdback(target)
	if opts.Undo != "" {
		if err := r.save(ctx, target, held); err != nil {
			return nil, during("write the undo file", opts.Undo, errors.Join(err, target.Discard()))
		}
	}
	err = errors.Join(r.write(ctx, target, held), target.Close())
	r.report.Run = src.ran(device, start)
	if err != nil {
		return r.report, during("restore", device, err)
	}
	return r.report, nil
}

// restoring is an image on its way back to a device.
type restoring struct {
	src    *Source
	device string
	opts   RestoreOptions

	runs     func() iter.Seq2[image.Run, error] // the stored blocks
	lacking  bool                               // zeros in the image may stand for blocks that it does not have
	redacted bool                               // contents of inline files are zero, or may be
	dirty    bool                               // a replay of a journal would write such contents, or may
	stored   uint64                             // bytes of the stored blocks
	report   *Report
}

// checkOperands refuses an image that is not of the format asked for, and
// operands that look swapped.
func (r *restoring) checkOperands() error {
	name, asRaw := r.src.name, r.opts.Raw
	if id, err := blockio.Identify(r.device); err == nil {
		own, err := r.src.dev.ID()
		if err != nil {
			return &OpError{"open", name, err}
		}
		if blockio.SameFile(own, id) {
			return &OpError{"restore", r.device, ErrSameFile}
		}
	}
	packedImage := r.src.packed != nil
	switch {
	case asRaw && packedImage:
		return &OpError{"open", name, ErrPackedSource}
	case !packedImage && holdsImage(r.device) && !(asRaw && r.opts.Force):
		return &OpError{"open", name, ErrSwapped}
	case !asRaw && !packedImage:
		return &OpError{"open", name, ErrNotPacked}
	}
	return nil
}

// holdsImage reports whether name is a packed or compressed image or an undo file,
// be it whole or not: what a restore would destroy.
func holdsImage(name string) bool {
	dev, err := blockio.Open(name)
	if err != nil {
		return false
	}
	defer dev.Close()
	if n, err := dev.ReadAt(make([]byte, 1), 0); n == 0 || err != nil {
		return false
	}
	if _, err := undo.Open(dev, dev.Size()); !errors.Is(err, undo.ErrFormat) {
		return true
	}
	if _, err := seekable.Open(dev, dev.Size()); !errors.Is(err, seekable.ErrFormat) {
		return true
	}
	_, err = packed.Open(dev, dev.Size())
	return !errors.Is(err, image.ErrFormat)
}

// readImage verifies the image and finds out what it holds.
func (r *restoring) readImage(ctx context.Context) error {
	vol := r.src.vol
	inline := vol.Super().Incompat.Has(ocfs2.IncompatInlineData)

	if r.src.packed == nil {
		meta, err := vol.Metadata(ctx, volume.Options{Progress: ofScan(r.opts.Progress, vol.Super().BlockBits)})
		if err != nil {
			return err
		}
		r.report.describe(ctx, vol, meta)
		r.runs = spans(meta)
		r.lacking = !meta.Complete()
		r.stored = meta.Blocks.Count() << vol.Super().BlockBits
		r.redacted = inline // a raw image does not say
		if inline && r.report.mayBeDirty() {
			if r.dirty, err = r.journalRedacted(ctx, meta); err != nil {
				return err
			}
		}
		return r.tryAll(ctx)
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
	if carried != nil {
		r.report.inherit(carried)
	}
	r.runs = r.src.packed.Runs
	r.stored = r.src.packed.Header().Stored << vol.Super().BlockBits
	if record, ok := r.src.packed.Record(); ok {
		r.redacted = inline && record.Redaction != image.RedactionExact
		r.dirty = r.redacted && r.report.mayBeDirty()
	}
	if trailer == nil {
		return r.tryAll(ctx)
	}
	return nil
}

// tryAll reads all blocks of an image that has no hashes: found out in the middle of
// the restore, one that cannot be read would leave a device that nothing completes.
func (r *restoring) tryAll(ctx context.Context) error {
	_, err := r.copier().run(ctx, raw.NewLayout(r.src.super().Geometry, r.runs), nowhere{})
	return err
}

// nowhere is a sink that drops everything.
type nowhere struct{}

func (nowhere) write(*filled) error { return nil }

// copier returns a copier of the image that ends with the first block that cannot
// be read.
func (r *restoring) copier() *copier {
	c := &copier{src: r.src, name: r.src.name, blockSize: r.src.super().BlockSize(), strict: true, total: r.stored}
	if r.src.packed != nil {
		c.gap = noGap
	}
	return c
}

// journalRedacted reports whether a journal holds an inode whose contents have
// been zeroed.
func (r *restoring) journalRedacted(ctx context.Context, meta *volume.Metadata) (bool, error) {
	bs := r.src.super().BlockSize()
	buf := make([]byte, image.PieceSize)
	for run := range meta.Blocks.All() {
		if c := volume.Class(run.Tag); c != volume.ClassJournal && c != volume.ClassDoubtful {
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
func (r *restoring) openTarget(ctx context.Context) (device, error) {
	if err := r.refuse(ctx); err != nil {
		return nil, err
	}
	size := int64(r.src.super().Bytes())
	if r.opts.Undo != "" {
		size = 0 // a new file grows when it is known how to undo that
	}
	target, err := r.opts.disks.openTarget(r.device, blockio.TargetOptions{Size: size, Shared: r.opts.Force})
	if errors.Is(err, syscall.EBUSY) {
		return nil, refusal{ErrHeld}
	}
	return target, err
}

// refuse returns what speaks against writing the device: all of it.
func (r *restoring) refuse(ctx context.Context) error {
	var why reasons
	super := make([]byte, r.src.super().BlockSize())
	n, err := r.src.ReadAt(super, int64(len(super))*ocfs2.SuperBlockBlkno)
	if n < len(super) {
		return &OpError{"read", r.src.name, err}
	}
	if isNotRead(super) {
		why.add(ErrNoSuper)
	}
	if r.dirty && r.ownVolume(ctx) {
		why.add(ErrOwnVolume)
	}
	if holdsImage(r.device) {
		why.add(ErrTargetImage)
	}
	if err := why.ofDevice(ctx, r.device, int64(r.src.super().Bytes()), r.opts.Force); err != nil {
		return err
	}
	return why.err(r.opts.Force)
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

// holdback returns the parts of the device to be written last: where the volume
// in the image has its superblocks, and where one stands now, be it that of
// another volume with blocks of another size. They have what the device has now
// until the image brings something else.
func (r *restoring) holdback(target device) *holdback {
	sb := r.src.super()
	held := &holdback{end: math.MaxInt64}
	own := append(sb.Backups(), ocfs2.SuperBlockBlkno)
	for _, place := range superPlaces() {
		old := make([]byte, superSize)
		if n, _ := target.ReadAt(old, place); n < len(old) {
			clear(old) // it ends before, or cannot be read: there is nothing to keep
		}
		if slices.Contains(own, uint64(place)>>sb.BlockBits) && place%int64(sb.BlockSize()) == 0 || isSuper(old) {
			held.hold(place, old)
		}
	}
	return held
}

// write copies the blocks. In between the device has no superblock.
func (r *restoring) write(ctx context.Context, target device, held *holdback) error {
	sb := r.src.super()
	if err := target.Extend(int64(sb.Bytes())); err != nil {
		return err
	}
	out := &targetSink{target: target, blockSize: sb.BlockSize(), held: held, lacking: r.lacking}
	if r.redacted {
		out.redact = redact.New(sb)
	}
	if err := held.erase(target); err != nil {
		return err
	}
	c := r.copier()
	c.progress = r.opts.Progress
	if r.src.packed != nil {
		var err error
		if c.absent, err = r.src.absent(); err != nil {
			return err
		}
	}
	if _, err := c.run(ctx, raw.NewLayout(sb.Geometry, r.runs), out); err != nil {
		return err
	}
	return held.finish(target)
}

// zeroRange is from how many zero bytes on a device is asked to zero a range
// rather than sent zeros.
const zeroRange = 64 << 10

// targetSink writes the blocks of a volume onto a device, and nothing between
// them.
type targetSink struct {
	target    device
	blockSize int
	redact    *redact.Redactor // nil: the blocks hold all that they had
	lacking   bool             // zeros may stand for blocks that the image does not have
	held      *holdback
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

// writeBlocks writes blocks from block blkno on, but for the parts that come last
// and the blocks that the image does not really have.
func (s *targetSink) writeBlocks(blocks []byte, blkno uint64) error {
	off := int64(blkno) * int64(s.blockSize)
	from := 0
	for i := 0; i < len(blocks); i += s.blockSize {
		b := blocks[i:][:s.blockSize]
		if !isNotRead(b) && !redact.IsWithheld(b) && !(s.lacking && bytes.Equal(b, zeroPiece[:len(b)])) {
			continue
		}
		if err := s.writePart(blocks[from:i], off+int64(from)); err != nil {
			return err
		}
		from = i + s.blockSize
	}
	return s.writePart(blocks[from:], off+int64(from))
}

func (s *targetSink) writePart(p []byte, off int64) error {
	s.held.take(p, off)
	return s.held.around(off, int64(len(p)), func(at, n int64) error {
		part := p[at-off:][:n]
		if len(part) >= zeroRange && bytes.Equal(part, zeroPiece[:len(part)]) {
			return s.target.WriteZeros(at, n)
		}
		_, err := s.target.WriteAt(part, at)
		return err
	})
}
