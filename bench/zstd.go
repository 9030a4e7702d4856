// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"o2image"
	"o2image/blockset"
)

const zstdHeader = "| volume | `1.8.7 \\| gzip` s | `--zstd` s | **ratio** | to stdout: `--zstd` s | plain s | **ratio** | gzip MiB | zstd MiB | **ratio** | peak MiB | a block ms |\n" +
	"|---|---|---|---|---|---|---|---|---|---|---|---|"

// piped has a program write to gzip. The arguments are the program, the volume
// and the file.
const piped = `"$0" "$1" - | gzip >"$2"`

// compressed prints a line about compressed images.
func (c *config) compressed(ctx context.Context, out io.Writer, name, volume string) error {
	return c.inFolder(func(image string) error {
		var gzip, zstd, streamed, plain []figures
		gz, zst := image+".gz", image+".zst"
		err := inTurn(c.pairs,
			func() error { return gather(ctx, &gzip, gz, "sh", "-c", piped, c.old, volume, gz) },
			func() error { return gather(ctx, &zstd, zst, c.new, "--zstd", volume, zst) })
		if err != nil {
			return err
		}
		err = inTurn(c.pairs,
			func() error { return gather(ctx, &streamed, "-", c.new, "--zstd", volume, "-") },
			func() error { return gather(ctx, &plain, "-", c.new, volume, "-") })
		if err != nil {
			return err
		}
		gzSize, err := sizeOf(gz)
		if err != nil {
			return err
		}
		zstSize, err := sizeOf(zst)
		if err != nil {
			return err
		}
		blocks, _, err := storedBlocks(ctx, volume)
		if err != nil {
			return err
		}
		block, err := readBlocks(ctx, zst, blocks)
		if err != nil {
			return err
		}
		a, b, s, p := median(gzip, wall), median(zstd, wall), median(streamed, wall), median(plain, wall)
		fmt.Fprintf(out, "| %s | %.2f | %.2f | **%.1f** | %.2f | %.2f | **%.2f** | %.2f | %.2f | **%.3f** | %.0f | %.2f |\n", name,
			a, b, a/b, s, p, s/p, gzSize/(1<<20), zstSize/(1<<20), zstSize/gzSize,
			median(zstd, func(f figures) float64 { return float64(f.peak) / (1 << 20) }), block.Seconds()*1e3)
		return nil
	})
}

func sizeOf(name string) (float64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return float64(info.Size()), nil
}

// blockSample is how many blocks are read, each from a frame of its own for the
// most part.
const blockSample = 501

// readBlocks reads blocks here and there from an image, from a cold cache, and
// returns the median of the time that one takes.
func readBlocks(ctx context.Context, image string, blocks *blockset.Set) (time.Duration, error) {
	if err := dropCaches(); err != nil {
		return 0, err
	}
	src, err := o2image.Open(ctx, image)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	random := rand.New(rand.NewPCG(1, 2))
	var took []figures
	for range blockSample {
		blkno, _ := blocks.Select(random.Uint64N(blocks.Count()))
		start := time.Now()
		if _, err := src.Volume().ReadBlock(ctx, blkno); err != nil {
			return 0, err
		}
		took = append(took, figures{wall: time.Since(start)})
	}
	seconds := median(took, wall)
	return time.Duration(seconds * float64(time.Second)), nil
}
