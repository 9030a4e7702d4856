// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"o2image"
	"o2image/image/packed"
)

type infoOptions struct {
	json   bool
	verify bool
}

func (p *program) newInfoCommand() *cobra.Command {
	var o infoOptions
	cmd := &cobra.Command{
		Use:   "info [--json] [--verify] image",
		Short: "tell what an image is, and of which volume",
		Long: `info tells the format of image, which may also be a device: the volume that
it was made of with its features, and, where a packed image of this program
has them recorded, the blocks that it holds by class, what was taken out of
them, and what was found wrong with the volume. Where the end of an image is
missing or damaged the rest is told, and the exit status is 1. Of an undo file
it tells which device it belongs to, and from when it is.
`,
		Example: `Whether an image came over whole:

  # o2image info --verify sda1.out
`,
		DisableFlagsInUseLine: true,
		Args:                  operands(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.info(cmd.Context(), args[0], o)
		},
		ValidArgsFunction: completeFiles,
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	addSwitch(flags, &o.verify, "verify", "", `read a packed image or an undo file and compare it with the hashes that it
carries. If it was damaged on the way, or has no hashes, the exit status is 1.`)
	addSwitch(flags, &o.json, "json", "", "print all of it as an object in JSON.")
	addHelp(cmd)
	return cmd
}

// facts is what info tells about an image.
type facts struct {
	File      string             `json:"file"`
	Format    string             `json:"format"`
	Zstd      *zstdFacts         `json:"zstd,omitempty"`
	Packed    *packedFacts       `json:"packed,omitempty"`
	Redaction string             `json:"redaction"`
	Volume    o2image.VolumeInfo `json:"volume"`
	Report    *o2image.Report    `json:"report,omitempty"`
	Damage    string             `json:"damage,omitempty"` // to the image, not to the volume
}

// zstdFacts is what is known of a compressed file.
type zstdFacts struct {
	Frames  int   `json:"frames"`
	Content int64 `json:"content"` // bytes, decompressed
}

// packedFacts is what the header and the trailer of a packed image hold.
type packedFacts struct {
	Version   uint64    `json:"version"`
	Written   time.Time `json:"written"`
	BlockSize int       `json:"block_size"` // bytes
	Blocks    uint64    `json:"blocks"`     // of the volume
	Stored    uint64    `json:"stored"`     // blocks
	Partial   bool      `json:"partial"`
	Live      bool      `json:"live"`
	Hashes    string    `json:"hashes"` // "none", "lost", "not verified", "verified", "differ"
}

// info prints what the image called name is.
func (p *program) info(ctx context.Context, name string, o infoOptions) error {
	src, err := o2image.Open(ctx, name)
	if errors.Is(err, o2image.ErrUndoFile) {
		return p.undoInfo(ctx, name, o)
	}
	if err != nil {
		return ofSource(err, name)
	}
	defer src.Close()
	f := facts{File: name, Format: src.Format().String(), Redaction: src.Redaction().String(), Volume: o2image.DescribeVolume(src.Volume().Super())}
	var damage error
	if f.Report, err = src.Report(); err != nil {
		damage = &o2image.OpError{Op: "read", Name: name, Err: err}
	}
	if z := src.Zstd(); z != nil {
		f.Zstd = &zstdFacts{Frames: z.Frames(), Content: z.Size()}
	}
	if src.Packed() != nil {
		var differs error
		if f.Packed, differs, err = describePacked(ctx, src, o.verify); err != nil {
			return err
		}
		damage = cmp.Or(damage, differs)
	}
	if o.verify && (f.Packed == nil || f.Packed.Hashes == "none") {
		damage = fmt.Errorf("%q carries no hashes to verify it by", name)
	}
	if op, ok := errors.AsType[*o2image.OpError](damage); ok {
		f.Damage = op.Err.Error()
	}
	if o.json {
		err = printJSON(p.stdout, f)
	} else {
		err = printFacts(p.stdout, f)
	}
	if err != nil {
		return err
	}
	return damage
}

// describePacked returns the facts about a packed image, and what is damaged as far
// as that shows: all of it if the image is to be verified.
func describePacked(ctx context.Context, src *o2image.Source, verify bool) (f *packedFacts, damage, err error) {
	name, r := src.Name(), src.Packed()
	header := r.Header()
	f = &packedFacts{
		Version:   header.Version,
		Written:   time.Unix(int64(header.Timestamp), 0).UTC(),
		BlockSize: header.BlockSize,
		Blocks:    header.Blocks,
		Stored:    header.Stored,
		Hashes:    "none",
	}
	trailer, err := r.Trailer()
	switch {
	case err != nil:
		f.Hashes = "lost"
		return f, &o2image.OpError{Op: "read", Name: name, Err: err}, ctx.Err()
	case trailer == nil:
		return f, nil, nil
	}
	f.Partial, f.Live = trailer.Flags.Has(packed.FlagPartial), trailer.Flags.Has(packed.FlagLive)
	f.Hashes = "not verified"
	if !verify {
		return f, nil, nil
	}
	f.Hashes = "verified"
	if err := src.Verify(ctx, trailer, runtime.NumCPU()); err != nil {
		f.Hashes, damage = "differ", &o2image.OpError{Op: "verify", Name: name, Err: err}
	}
	return f, damage, ctx.Err()
}

func printJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

// printFacts prints facts for people.
func printFacts(output io.Writer, f facts) error {
	w := tabwriter.NewWriter(output, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, escape(fmt.Sprintf(format, args...)))
	}
	row("file", "%s", f.File)
	if f.Packed == nil {
		row("format", "%s: a device or a raw image", f.Format)
	} else {
		row("format", "%s, version %d", f.Format, f.Packed.Version)
	}
	if f.Zstd != nil {
		row("zstd", "%d frames, %s decompressed", f.Zstd.Frames, bytesText(uint64(f.Zstd.Content)))
	}
	if f.Packed != nil {
		row("written", "%s", f.Packed.Written.Format(time.DateTime+" UTC"))
		row("stored", "%d blocks, %s", f.Packed.Stored, bytesText(f.Packed.Stored*uint64(f.Packed.BlockSize)))
		row("redaction", "%s", f.Redaction)
		row("hashes", "%s", f.Packed.Hashes)
		if f.Packed.Partial {
			row("partial", "something that belongs to the image is missing")
		}
		if f.Packed.Live {
			row("live", "the volume may have changed while it was copied")
		}
	}
	v := f.Volume
	row("volume", "UUID %s", v.UUID)
	row("label", "%s", v.Label)
	row("size", "%d blocks of %d bytes, %s", v.Blocks, v.BlockSize, bytesText(v.Blocks*uint64(v.BlockSize)))
	row("cluster", "%d bytes", v.ClusterSize)
	row("slots", "%d", v.Slots)
	row("features", "%s", strings.Join(v.Features, " "))
	if f.Report != nil {
		printReport(row, f.Report)
	}
	return w.Flush()
}

// printReport prints what a report adds to the facts.
func printReport(row func(name, format string, args ...any), r *o2image.Report) {
	row("made by", "%s", r.Program)
	if len(r.Options) > 0 {
		row("options", "%s", strings.Join(r.Options, " "))
	}
	for _, s := range r.Slots {
		switch {
		case s.Unknown != "":
			row("slot", "%d: in use %t, node %d, journal not known: %s", s.Slot, s.InUse, s.Node, s.Unknown)
		case s.InUse || s.Dirty:
			row("slot", "%d: in use %t, node %d, journal dirty %t", s.Slot, s.InUse, s.Node, s.Dirty)
		}
	}
	if r.Mounted != "" {
		row("mounted", "at %s while it was copied", r.Mounted)
	}
	for _, node := range r.Alive {
		row("alive", "node %d, while it was copied", node)
	}
	for _, c := range r.Classes {
		row("class "+c.Class, "%d blocks, %s", c.Blocks, bytesText(c.Bytes))
	}
	for _, c := range r.Skipped {
		row("skipped "+c.Class, "%d blocks, %s", c.Blocks, bytesText(c.Bytes))
	}
	row("zeroed", "%d inodes, %s", r.Redacted.Inodes, bytesText(r.Redacted.Bytes))
	row("withheld", "%d blocks", r.Redacted.Blocks)
	if r.Interrupted {
		row("interrupted", "what had not been found by then is missing")
	}
	for _, run := range r.NotRead {
		row("not read", "%d blocks from block %d on", run.Len, run.Start)
	}
	for _, text := range r.Warnings {
		row("warning", "%s", text)
	}
	for _, finding := range r.Findings {
		row("finding", "%s", findingText(finding))
	}
	if more := r.Found - len(r.Findings); more > 0 {
		row("finding", "and %d more, which were only counted", more)
	}
}
