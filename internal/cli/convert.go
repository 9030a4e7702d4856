// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"o2image"
)

func (p *program) newConvertCommand() *cobra.Command {
	var (
		opts     o2image.ConvertOptions
		report   string
		progress bool
	)
	cmd := &cobra.Command{
		Use:   "convert [option...] source target",
		Short: "make a raw image of a packed one, or the other way round",
		Long: `convert reads the image source and writes the image target in the other
format. It asks nothing, and changes nothing in the blocks. Neither is a
block device: the one is made an image without a command, and the other
written with -I. The source may be compressed, and the target is with --zstd.
Of a packed image the hashes are compared. If the source was damaged on the
way, or its end is missing, what there is is converted, and the exit status is
3: blocks that cannot be read hold the text O2IMAGE-NOTREAD, again and again.
Of a packed image no more than the trailer may be missing: without the bitmap
nothing tells the places of the blocks.
`,
		Example: `The raw form of a packed image:

  # o2image convert sda1.out sda1.raw
`,
		DisableFlagsInUseLine: true,
		Args:                  operands(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.convert(cmd.Context(), args[0], args[1], opts, report, progress)
		},
		ValidArgsFunction: completeFiles,
	}
	cmd.Flags().Var((*fileName)(&report), "report", `write to `+"`file`"+` what was copied, found and left out, as JSON.`)
	addZstd(cmd.Flags(), &opts.Zstd)
	addLoad(cmd.Flags(), &opts.Load)
	addProgress(cmd.Flags(), &progress)
	addHelp(cmd)
	return cmd
}

// convert writes the image source to target in the other format.
func (p *program) convert(ctx context.Context, source, target string, opts o2image.ConvertOptions, reportFile string, progress bool) error {
	if source == toStdout || target == toStdout {
		return errors.New("convert reads and writes files only; one that is called - is ./-")
	}
	if isUndoFile(target) {
		return &o2image.OpError{Op: "open", Name: target, Err: errUndoFile}
	}
	if err := checkReportFile(reportFile, source, target); err != nil {
		return err
	}
	var err error
	if opts.Time, err = imageTime(); err != nil {
		return err
	}
	opts.Program = programVersion
	m := p.watch(progress)
	opts.Progress = m.update()
	report, err := o2image.Convert(ctx, source, target, opts)
	m.stop()
	err = ofSource(err, source)
	switch {
	case errors.Is(err, o2image.ErrDevice):
		err = hintError{err, fmt.Sprintf("to write an image onto a device: %s -I %s %s", p.name, target, source)}
	case errors.Is(err, o2image.ErrDeviceSource):
		err = hintError{err, fmt.Sprintf("to make an image of a device: %s %s %s", p.name, source, target)}
	}
	packed := target
	if report != nil && report.Format != o2image.FormatPacked.String() {
		packed = source
	}
	return p.account(report, err, rootOptions{report: reportFile}, packed, source, target)
}
