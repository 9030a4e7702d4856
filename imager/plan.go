// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"syscall"

	"o2image/image"
	"o2image/image/packed"
	"o2image/image/raw"
	"o2image/ocfs2"
	"o2image/volume"
)

// plan is an image of which everything is known but the contents of the blocks.
type plan struct {
	layout image.Layout
	packed *packed.Layout // layout, if it is one with hashes and a trailer
	vital  []span         // the parts without which nothing opens the image, the one that is looked at first last
	end    int64          // of the last block of a raw image, in bytes
	size   uint64         // as in Estimate
	stored uint64         // bytes of the blocks
	report *Report
	copied func() // completes the report when the blocks have been copied; nil for nothing
}

// planImage plans an image of the blocks of meta.
func planImage(meta *volume.Metadata, g ocfs2.Geometry, asRaw bool, redaction image.Redaction, report *Report) (*plan, error) {
	if asRaw {
		p := planRaw(raw.NewLayout(g, spans(meta)), g, redaction, report)
		p.stored = meta.Blocks.Count() << g.BlockBits
		p.size = p.stored
		if last, ok := meta.Blocks.Max(); ok {
			p.end = int64(last+1) << g.BlockBits
		}
		return p, nil
	}
	report.Format, report.Redaction = image.FormatPacked.String(), redaction.String()
	layout, err := packed.NewLayout(meta.Blocks, g, packed.LayoutOptions{
		Timestamp: uint32(report.Created.Unix() & math.MaxUint32), //nolint:gosec // cut to 32 bits, as the format has it
		Redaction: redaction,
	})
	if err != nil {
		return nil, err
	}
	return &plan{
		layout: layout, packed: layout, report: report,
		vital:  []span{{0, int64(g.BlockSize())}},
		size:   uint64(layout.Size()),
		stored: meta.Blocks.Count() << g.BlockBits,
	}, nil
}

// spans gives the blocks of meta in the form in which packed images give theirs.
func spans(meta *volume.Metadata) func() iter.Seq2[image.Run, error] {
	return func() iter.Seq2[image.Run, error] { return unfailing(meta.Blocks.Spans()) }
}

// unfailing gives the spans of a set in the form in which packed images give
// theirs.
func unfailing(spans iter.Seq2[uint64, uint64]) iter.Seq2[image.Run, error] {
	return func(yield func(image.Run, error) bool) {
		for start, n := range spans {
			if !yield(image.Run{Start: start, Len: n}, nil) {
				return
			}
		}
	}
}

// planRaw plans a raw image. Without its superblock, and what can take its
// place, nothing opens it.
func planRaw(layout *raw.Layout, g ocfs2.Geometry, redaction image.Redaction, report *Report) *plan {
	report.Format, report.Redaction = image.FormatRaw.String(), redaction.String()
	var vital []span
	for _, blkno := range append(ocfs2.BackupBlknos(g), ocfs2.SuperBlockBlkno) {
		off := int64(blkno) << g.BlockBits //nolint:gosec // a block of the volume
		vital = append(vital, span{off, off + int64(g.BlockSize())})
	}
	return &plan{layout: layout, report: report, vital: vital}
}

// write makes the image, and completes the report.
func (p *plan) write(ctx context.Context, c *copier, dest destination, force bool) error {
	out, err := dest.open(p, c.blockSize, force)
	if err != nil {
		return &OpError{"open", dest.name, err}
	}
	defer out.abort()
	if err := p.writeTo(ctx, c, dest, out); err != nil {
		return during("write", dest.name, err)
	}
	return nil
}

func (p *plan) writeTo(ctx context.Context, c *copier, dest destination, out output) error {
	c.ordered, c.hash, c.encoder, c.total = out.ordered(), p.packed != nil, dest.encoder, p.stored
	leaves, err := c.run(ctx, p.layout, out)
	if err != nil {
		return err
	}
	p.report.NotRead = coarse(sortedRuns(append(p.report.NotRead, c.missing()...), math.MaxUint64), maxNotRead)
	p.report.Interrupted = p.report.Interrupted || c.interrupted
	p.report.Redacted.Inodes += c.inodes.Load()
	p.report.Redacted.Bytes += c.bytes.Load()
	p.report.Redacted.Blocks += c.withheld.Load()
	if p.copied != nil {
		p.copied()
	}
	if p.packed == nil {
		return p.finishRaw(out, c.encoder != nil)
	}
	text, err := p.report.encode()
	if err != nil {
		return err
	}
	var flags packed.Flags
	if p.report.Incomplete() {
		flags |= packed.FlagPartial
	}
	if p.report.Live() {
		flags |= packed.FlagLive
	}
	trailer, err := packed.EncodeTrailer(text, leaves, p.packed.Record(), flags)
	if err != nil {
		return err
	}
	if err := out.write(&filled{Piece: image.Piece{Off: p.layout.Size(), Len: len(trailer)}, buf: trailer}); err != nil {
		return err
	}
	return out.finish(p.layout.Size() + int64(len(trailer)))
}

// finishRaw gives a raw image the length of the volume, or where the file system
// does not allow that, of all that is in it.
func (p *plan) finishRaw(out output, compressed bool) error {
	err := out.finish(p.layout.Size())
	if !errors.Is(err, syscall.EFBIG) || p.end == 0 || compressed {
		return err
	}
	p.report.Warnings = append(p.report.Warnings, fmt.Sprintf(
		"the file system of the image does not allow a file of %d bytes: the image ends behind its last block, at %d", p.layout.Size(), p.end))
	return out.finish(p.end)
}
