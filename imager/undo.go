// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"

	"o2image/blockio"
	"o2image/image"
	"o2image/undo"
)

// newFile is a file that appears under its name whole or not at all: a
// [blockio.File].
type newFile interface {
	io.WriterAt
	Commit() error
	Abort()
}

// formatUndo stands for the format of an undo file in a report.
const formatUndo = "undo"

// readBatch is how many bytes of a device are read at once to be saved.
const readBatch = 4 * image.PieceSize

// save writes what the restore will overwrite into the undo file.
func (r *restoring) save(ctx context.Context, target device, held *holdback) error {
	header, err := r.undoHeader(target)
	if err != nil {
		return err
	}
	dev, err := blockio.Open(r.device) // past the page cache, as another node may have written
	if err != nil {
		return err
	}
	defer dev.Close()
	if sb := primarySuper(dev); sb != nil {
		header.OldUUID = sb.UUID
	}
	all := func(w io.Writer) error {
		return writeUndo(ctx, w, header, dev, r.overwritten(held, header.OldSize))
	}
	if err := r.checkSpace(held, header.OldSize, all); err != nil {
		return err
	}
	f, err := r.opts.disks.createNew(r.opts.Undo)
	if err != nil {
		return &OpError{"open", r.opts.Undo, err}
	}
	defer f.Abort()
	if err := all(io.NewOffsetWriter(f, 0)); err != nil {
		return err
	}
	return f.Commit()
}

// undoHeader describes the target, which must not hold the undo file.
func (r *restoring) undoHeader(target device) (undo.Header, error) {
	h := undo.Header{
		Created: r.report.Created,
		Block:   target.IsBlock(),
		OldSize: target.Size(),
		NewSize: max(target.Size(), int64(r.src.super().Bytes())),
		NewUUID: r.src.super().UUID,
	}
	on, err := blockio.Stores(r.device, filepath.Dir(r.opts.Undo))
	if err != nil {
		return h, &OpError{"open", r.opts.Undo, err}
	}
	if on {
		return h, &OpError{"open", r.opts.Undo, ErrUndoPlace}
	}
	if h.Name, err = filepath.Abs(r.device); err != nil {
		return h, err
	}
	id, err := target.ID()
	if err != nil {
		return h, err
	}
	h.Identity = id.String()
	return h, nil
}

// overwritten yields the ranges of the target below size that a restore writes,
// ascending: the blocks in the image and the parts that are held back.
func (r *restoring) overwritten(held *holdback, size int64) iter.Seq2[span, error] {
	return func(yield func(span, error) bool) {
		places := held.places
		emit := func(s span) bool {
			s.end = min(s.end, size)
			return s.off >= s.end || yield(s, nil)
		}
		for run, err := range r.runs() {
			if err != nil {
				yield(span{}, err)
				return
			}
			bits := r.src.super().BlockBits
			s := span{int64(run.Start) << bits, int64(run.Start+run.Len) << bits}
			for len(places) > 0 && places[0] < s.end {
				if places[0] < s.off && !emit(span{places[0], places[0] + superSize}) {
					return
				}
				places = places[1:]
			}
			if !emit(s) {
				return
			}
		}
		for _, place := range places {
			if !emit(span{place, place + superSize}) {
				return
			}
		}
	}
}

// writeUndo saves ranges of dev.
func writeUndo(ctx context.Context, w io.Writer, header undo.Header, dev io.ReaderAt, ranges iter.Seq2[span, error]) error {
	out, err := undo.NewWriter(w, header)
	if err != nil {
		return err
	}
	var batch []blockio.Segment
	buf := make([]byte, readBatch)
	free := buf
	flush := func() error {
		if err := blockio.ReadSegments(ctx, dev, batch, blockio.ReadOptions{}); err != nil {
			return &OpError{"read", header.Name, err}
		}
		for _, s := range batch {
			if err := out.Add(s.Off, s.P); err != nil {
				return err
			}
		}
		batch, free = batch[:0], buf
		return nil
	}
	for s, err := range ranges {
		if err != nil {
			return err
		}
		for s.off < s.end {
			n := min(int64(len(free)), s.end-s.off)
			batch = append(batch, blockio.Segment{Off: s.off, P: free[:n]})
			free = free[n:]
			s.off += n
			if len(free) == 0 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return out.Close()
}

// undoOverhead is how much an undo file has for each MiB besides what it saves,
// in bytes: records. Of unfavourable contents it is less than that.
const undoOverhead = 16 << 10

// checkSpace compares what an undo file needs with what there is. Only if all
// that is saved would not fit it looks how much of it is zero.
func (r *restoring) checkSpace(held *holdback, size int64, write func(io.Writer) error) error {
	free, err := blockio.FreeSpace(filepath.Dir(r.opts.Undo))
	if err != nil {
		return &OpError{"open", r.opts.Undo, err}
	}
	var total uint64
	for s, err := range r.overwritten(held, size) {
		if err != nil {
			return err
		}
		total += uint64(s.end - s.off)
	}
	if total+(total>>20+1)*undoOverhead <= free {
		return nil
	}
	var need counter
	if err := write(&need); err != nil {
		return err
	}
	if uint64(need) > free {
		return &OpError{"write the undo file", r.opts.Undo, fmt.Errorf("%w: it needs %d bytes, %d are free", syscall.ENOSPC, need, free)}
	}
	return nil
}

// counter counts what is written to it.
type counter uint64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// UndoFile is an undo file that has been opened.
type UndoFile struct {
	*undo.Reader
	name string
	dev  *blockio.Device
}

// OpenUndo opens an undo file. The error is [undo.ErrFormat] for other files.
func OpenUndo(name string) (*UndoFile, error) {
	u, err := openUndo(name)
	if err == nil && u == nil {
		err = undo.ErrFormat
	}
	if err != nil {
		return nil, &OpError{"open", name, err}
	}
	return u, nil
}

// openUndo returns nil if a file is no undo file.
func openUndo(name string) (*UndoFile, error) {
	dev, err := blockio.Open(name)
	if err != nil {
		return nil, err
	}
	r, err := undo.Open(dev, dev.Size())
	if err != nil {
		if errors.Is(err, undo.ErrFormat) {
			err = nil
		}
		return nil, errors.Join(err, dev.Close())
	}
	return &UndoFile{Reader: r, name: name, dev: dev}, nil
}

// Check reads the whole file and compares its hash.
func (u *UndoFile) Check(ctx context.Context) error {
	for _, err := range u.Verify() {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the file.
func (u *UndoFile) Close() error { return u.dev.Close() }

// restore brings back what is saved.
func (u *UndoFile) restore(ctx context.Context, name string, opts RestoreOptions, report *Report) (*Report, error) {
	report.Format = formatUndo
	if opts.Raw || opts.Undo != "" {
		return nil, &OpError{"open", u.name, ErrUndoFile}
	}
	if err := u.distinct(name); err != nil {
		return nil, err
	}
	held, err := u.holdback(ctx)
	if err != nil {
		return nil, &OpError{"read", u.name, err}
	}
	target, err := u.openTarget(ctx, name, opts)
	if err != nil {
		return nil, during("open", name, err)
	}
	if err := errors.Join(u.write(ctx, target, held), target.Close()); err != nil {
		return report, during("restore", name, err)
	}
	return report, nil
}

// distinct refuses a target that is the undo file.
func (u *UndoFile) distinct(name string) error {
	own, err := u.dev.ID()
	if err != nil {
		return &OpError{"open", u.name, err}
	}
	if id, err := blockio.Identify(name); err == nil && blockio.SameFile(own, id) {
		return &OpError{"restore", name, ErrSameFile}
	}
	return nil
}

// holdback verifies the file, and returns the parts of the target to be written
// last: of the places where superblocks can stand those that are saved, and
// those behind the old end, which are gone in the end.
func (u *UndoFile) holdback(ctx context.Context) (*holdback, error) {
	size := u.Header().OldSize
	held := &holdback{end: size}
	places := superPlaces()
	for e, err := range u.Verify() {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		for _, place := range places {
			from, to := max(e.Off, place), min(e.Off+e.Len, place+superSize)
			if from >= to {
				continue
			}
			if held.parts[place] == nil {
				held.hold(place, make([]byte, superSize))
			}
			if e.Bytes != nil {
				held.take(e.Bytes, e.Off)
			}
		}
	}
	for _, place := range places {
		if place >= size && place < u.Header().NewSize {
			held.hold(place, make([]byte, superSize))
		}
	}
	return held, nil
}

// openTarget opens the target, once nothing speaks against writing it.
func (u *UndoFile) openTarget(ctx context.Context, name string, opts RestoreOptions) (device, error) {
	var why reasons
	h := u.Header()
	if err := why.ofTarget(name, h); err != nil {
		return nil, err
	}
	if err := why.ofDevice(ctx, name, h.OldSize, opts.Force); err != nil {
		return nil, err
	}
	if err := why.err(opts.Force); err != nil {
		return nil, err
	}
	target, err := opts.disks.openTarget(name, blockio.TargetOptions{Size: h.OldSize, Shared: opts.Force})
	if errors.Is(err, syscall.EBUSY) {
		return nil, refusal{ErrHeld}
	}
	return target, err
}

// ofTarget adds what tells a target from the one that an undo file was made for.
func (r *reasons) ofTarget(name string, h undo.Header) error {
	other := func(format string, args ...any) error {
		r.add(fmt.Errorf("%w, %s: %s", ErrOtherTarget, h.Name, fmt.Sprintf(format, args...)))
		return nil
	}
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return other("this one does not exist")
	}
	if err != nil {
		return err
	}
	if block := info.Mode().Type() == fs.ModeDevice; block != h.Block {
		return other("one of them is a block device, the other a file")
	}
	dev, err := blockio.Open(name)
	if err != nil {
		return err
	}
	defer dev.Close()
	id, err := dev.ID()
	if err != nil {
		return err
	}
	if id.String() != h.Identity {
		return other("that was %s, this is %s", h.Identity, id)
	}
	if size := dev.Size(); size != h.OldSize && (h.Block || size != h.NewSize) {
		return other("that had %d bytes, and %d afterwards; this has %d", h.OldSize, h.NewSize, size)
	}
	return nil
}

// write brings back what the target had. In between it has no superblock.
func (u *UndoFile) write(ctx context.Context, target device, held *holdback) error {
	size := u.Header().OldSize
	if err := target.Extend(size); err != nil {
		return err
	}
	if err := held.erase(target); err != nil {
		return err
	}
	if err := target.Truncate(size); err != nil {
		return err
	}
	for e, err := range u.Extents() {
		if err != nil {
			return &OpError{"read", u.name, err}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := held.around(e.Off, e.Len, func(off, n int64) error {
			if e.Bytes == nil {
				return target.WriteZeros(off, n)
			}
			_, err := target.WriteAt(e.Bytes[off-e.Off:][:n], off)
			return err
		}); err != nil {
			return err
		}
	}
	return held.finish(target)
}
