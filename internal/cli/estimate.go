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
	f, err := o2image.Foresee(ctx, device, o2image.CreateOptions{
		Raw: o.raw, Exact: o.exact, Zstd: o.zstd, Load: o.load, Skip: o.skip,
		Superblock: int(o.reading.superblock),
	})
	if err != nil {
		return p.explain(err, device)
	}
	if o.json {
		return printJSON(p.stdout, f)
	}
	return printForecast(p.stdout, f)
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
