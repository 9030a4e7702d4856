// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Command bench compares this o2image with version 1.8.7 on volumes that Linux
// filled. README.md in this folder tells how, and what the table means.
//
//	bench [-n PAIRS] [-delays LIST] [-dir DIR] [-new PROGRAM] [-old PROGRAM] [VOLUME...]
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx, os.Stdout, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

// delayed is the only volume whose device is made slow. 1.8.7 takes a quarter of
// an hour for it, and would take hours for the others.
const delayed = "S"

// config is the command line.
type config struct {
	pairs    int
	dir      string
	new, old string // programs
	delays   []time.Duration
}

func bench(ctx context.Context, out io.Writer, args []string) error {
	var c config
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&c.pairs, "n", 3, "`pairs` of runs for each output; with 0, only the delays")
	flags.StringVar(&c.dir, "dir", "build/bench", "`folder` of the volumes and the images")
	flags.StringVar(&c.new, "new", "bin/o2image", "this `program`")
	flags.StringVar(&c.old, "old", "/usr/sbin/o2image", "`program` to compare with")
	delays := flags.String("delays", "500us,5ms", "`latencies` of a device, for one pair of runs each of volume "+delayed)
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if c.delays, err = parseDelays(*delays); err != nil {
		return err
	}
	names := flags.Args()
	if len(names) == 0 {
		names = []string{"S", "FRAG"}
	}
	fmt.Fprintln(out, header)
	for _, name := range names {
		volume, err := provide(ctx, c.dir, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := c.volume(ctx, out, name, volume); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// parseDelays reads durations with commas between them.
func parseDelays(list string) (delays []time.Duration, err error) {
	for word := range strings.SplitSeq(list, ",") {
		if word == "" {
			continue
		}
		d, err := time.ParseDuration(word)
		if err != nil {
			return nil, err
		}
		delays = append(delays, d)
	}
	return delays, nil
}

// volume prints the lines of one volume.
func (c *config) volume(ctx context.Context, out io.Writer, name, volume string) error {
	tmp, err := os.MkdirTemp(c.dir, ".run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	image := filepath.Join(tmp, "image")
	outputs := []output{{"packed", image, nil}, {"raw", image, []string{"-r"}}, {"stdout", "-", nil}}
	if c.pairs == 0 {
		outputs = nil
	}
	for _, o := range outputs {
		older, newer, err := c.compare(ctx, c.pairs, volume, o)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, line(name, o.name, older, newer))
	}
	if name != delayed {
		return nil
	}
	mount := filepath.Join(tmp, "mnt")
	if err := os.Mkdir(mount, 0o755); err != nil {
		return err
	}
	for _, delay := range c.delays {
		slow, err := mountSlow(volume, mount, delay)
		if err != nil {
			return err
		}
		o := output{"packed, " + delay.String(), image, nil}
		older, newer, err := c.compare(ctx, 1, slow.path(), o)
		if err := errors.Join(err, slow.close()); err != nil {
			return err
		}
		fmt.Fprintln(out, line(name, o.name, older, newer))
	}
	return nil
}

// output is where an image goes, and the options for that.
type output struct {
	name, file string
	options    []string
}

// compare runs both programs in turn, each of them first in every other pair.
func (c *config) compare(ctx context.Context, pairs int, volume string, o output) (older, newer []figures, err error) {
	for i := range pairs {
		order := []string{c.old, c.new}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, program := range order {
			if err := os.Remove(o.file); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, nil, err
			}
			f, err := run(ctx, program, volume, o.file, o.options...)
			if err != nil {
				return nil, nil, err
			}
			if program == c.old {
				older = append(older, f)
			} else {
				newer = append(newer, f)
			}
		}
	}
	return older, newer, nil
}

const header = `| volume | output | 1.8.7 s | this s | **ratio** | CPU s | read requests | MiB read | peak MiB |
|---|---|---|---|---|---|---|---|---|`

// line is a line of the table: medians of 1.8.7 and of this program.
func line(volume, output string, older, newer []figures) string {
	both := func(format string, value func(figures) float64) string {
		return fmt.Sprintf(format+" / "+format, median(older, value), median(newer, value))
	}
	wall := func(f figures) float64 { return f.wall.Seconds() }
	return fmt.Sprintf("| %s | %s | %.2f | %.2f | **%.1f** | %s | %s | %s | %s |", volume, output,
		median(older, wall), median(newer, wall), median(older, wall)/median(newer, wall),
		both("%.1f", func(f figures) float64 { return f.cpu.Seconds() }),
		both("%.0f", func(f figures) float64 { return float64(f.requests) }),
		both("%.0f", func(f figures) float64 { return float64(f.bytes) / (1 << 20) }),
		both("%.0f", func(f figures) float64 { return float64(f.peak) / (1 << 20) }))
}

// median returns the median of a value of all runs, of which there is one.
func median(runs []figures, value func(figures) float64) float64 {
	sorted := slices.SortedFunc(func(yield func(float64) bool) {
		for _, f := range runs {
			if !yield(value(f)) {
				return
			}
		}
	}, cmp.Compare[float64])
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
