// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Command bench compares this o2image with version 1.8.7 on volumes that Linux
// filled. README.md in this folder tells how, and what the table means.
//
//	bench [-n PAIRS] [-tables LIST] [-outputs LIST] [-delays LIST] [-dir DIR] [-new PROGRAM] [-old PROGRAM] [VOLUME...]
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
	outputs  []string
	delays   []time.Duration
}

// table is one of the tables that are printed.
type table struct {
	name, header string
	volume       func(c *config, ctx context.Context, out io.Writer, name, file string) error // its lines of a volume
}

var tables = []table{
	{"old", oldHeader, (*config).againstOld},
	{"slow", oldHeader, (*config).slow},
	{"limit", limitHeader, (*config).againstLimit},
	{"zstd", zstdHeader, (*config).compressed},
}

func bench(ctx context.Context, out io.Writer, args []string) error {
	var c config
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&c.pairs, "n", 3, "`pairs` of runs of each kind")
	flags.StringVar(&c.dir, "dir", "build/bench", "`folder` of the volumes and the images")
	flags.StringVar(&c.new, "new", "bin/o2image", "this `program`")
	flags.StringVar(&c.old, "old", "/usr/sbin/o2image", "`program` to compare with")
	chosen := flags.String("tables", "old,slow,limit,zstd", "`tables` to print; none: only build the volumes")
	outputs := flags.String("outputs", "packed,raw,stdout", "`outputs` to compare")
	delays := flags.String("delays", "500us,5ms", "`latencies` of a device, for one pair of runs each of volume "+delayed)
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if c.delays, err = parseDelays(*delays); err != nil {
		return err
	}
	c.outputs = strings.Split(*outputs, ",")
	names := flags.Args()
	if len(names) == 0 {
		names = []string{"S", "FRAG"}
	}
	for _, name := range names {
		if _, err := provide(ctx, c.dir, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, t := range tables {
		if !slices.Contains(strings.Split(*chosen, ","), t.name) {
			continue
		}
		fmt.Fprintf(out, "\n%s\n", t.header)
		for _, name := range names {
			if err := t.volume(&c, ctx, out, name, volumeFile(c.dir, name)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
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

// inFolder calls do with the name of an image in a folder of its own.
func (c *config) inFolder(do func(image string) error) error {
	tmp, err := os.MkdirTemp(c.dir, ".run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	return do(filepath.Join(tmp, "image"))
}

// againstOld prints a line for each output.
func (c *config) againstOld(ctx context.Context, out io.Writer, name, volume string) error {
	return c.inFolder(func(image string) error {
		for _, o := range []output{{"packed", image, nil}, {"raw", image, []string{"-r"}}, {"stdout", "-", nil}} {
			if !slices.Contains(c.outputs, o.name) {
				continue
			}
			older, newer, err := c.compare(ctx, c.pairs, volume, o)
			if err != nil {
				return err
			}
			fmt.Fprintln(out, line(name, o.name, older, newer))
		}
		return nil
	})
}

// slow prints a line for each latency.
func (c *config) slow(ctx context.Context, out io.Writer, name, volume string) error {
	if name != delayed {
		return nil
	}
	return c.inFolder(func(image string) error {
		mount := image + ".mnt"
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
	})
}

// inTurn does two things in turn, n times, each of them first in every other
// pair, with the caches of the system cold.
func inTurn(n int, first, second func() error) error {
	for i := range n {
		order := []func() error{first, second}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, do := range order {
			if err := errors.Join(dropCaches(), do()); err != nil {
				return err
			}
		}
	}
	return nil
}

// output is where an image goes, and the options for that.
type output struct {
	name, file string
	options    []string
}

// compare runs both programs in turn.
func (c *config) compare(ctx context.Context, pairs int, volume string, o output) (older, newer []figures, err error) {
	err = inTurn(pairs,
		func() error { return gather(ctx, &older, o.file, o.command(c.old, volume)...) },
		func() error { return gather(ctx, &newer, o.file, o.command(c.new, volume)...) })
	return older, newer, err
}

// command is the command line of a program that copies a volume to the output.
func (o output) command(program, volume string) []string {
	return append(append([]string{program}, o.options...), volume, o.file)
}

const oldHeader = `| volume | output | 1.8.7 s | this s | **ratio** | CPU s | read requests | MiB read | peak MiB |
|---|---|---|---|---|---|---|---|---|`

// line is a line of the table: medians of 1.8.7 and of this program.
func line(volume, output string, older, newer []figures) string {
	both := func(format string, value func(figures) float64) string {
		return fmt.Sprintf(format+" / "+format, median(older, value), median(newer, value))
	}
	return fmt.Sprintf("| %s | %s | %.2f | %.2f | **%.1f** | %s | %s | %s | %s |", volume, output,
		median(older, wall), median(newer, wall), median(older, wall)/median(newer, wall),
		both("%.1f", func(f figures) float64 { return f.cpu.Seconds() }),
		both("%.0f", func(f figures) float64 { return float64(f.requests) }),
		both("%.0f", func(f figures) float64 { return float64(f.bytes) / (1 << 20) }),
		both("%.0f", func(f figures) float64 { return float64(f.peak) / (1 << 20) }))
}

// wall is the seconds of a run.
func wall(f figures) float64 { return f.wall.Seconds() }

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
