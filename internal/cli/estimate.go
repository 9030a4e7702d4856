// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"o2image"
)

// estimate tells what an image of device would be.
func (p *program) estimate(ctx context.Context, device string, o rootOptions) error {
	f, err := o2image.Foresee(ctx, device, o.creation())
	if err != nil {
		return p.explain(err, device)
	}
	if o.json {
		err = printJSON(p.stdout, f)
	} else {
		err = printForecast(p.stdout, f)
	}
	if err != nil || len(f.Missing) == 0 {
		return err
	}
	// One line for what is always to be said, and the others as in a summary.
	for i, text := range f.Missing {
		if rest := len(f.Missing) - i; i == maxSummary-2 && rest > 1 {
			p.say("and %d more", rest)
			break
		}
		p.say("not counted: %s", escape(text))
	}
	p.say("the volume is damaged: an image of it has at least this size")
	return errIncomplete
}

// printForecast prints a forecast for people.
func printForecast(output io.Writer, f *o2image.Forecast) error {
	w := tabwriter.NewWriter(output, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, escape(fmt.Sprintf(format, args...)))
	}
	row("volume", "UUID %s", f.Volume.UUID)
	row("label", "%s", f.Volume.Label)
	row(f.Format, "about %s: %d blocks of %d bytes", bytesText(f.Bytes), f.Blocks, f.Volume.BlockSize)
	row("with --zstd", "about %s", bytesText(f.Zstd))
	row("time", "about %s to read it", max(time.Duration(f.Seconds*float64(time.Second)).Round(time.Second), time.Second))
	for _, c := range f.Classes {
		row("class "+c.Class, "about %d blocks, %s", c.Blocks, bytesText(c.Bytes))
	}
	return w.Flush()
}
