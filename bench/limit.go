// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"o2image"
	"o2image/blockio"
	"o2image/blockset"
	"o2image/volume"
)

const limitHeader = `| volume | this, to stdout s | reading alone s | **ratio** | requests | MiB |
|---|---|---|---|---|---|`

const (
	limitRequest  = 1 << 20 // bytes of the requests of reading alone
	limitInFlight = 16
)

// againstLimit compares this program with a loop that reads what it stores, and
// does nothing with that: what the device allows.
func (c *config) againstLimit(ctx context.Context, out io.Writer, name, volume string) error {
	blocks, blockBits, err := storedBlocks(ctx, volume)
	if err != nil {
		return err
	}
	requests, err := requestsFor(volume, blocks, blockBits)
	if err != nil {
		return err
	}
	var program, alone []figures
	err = inTurn(c.pairs,
		func() error { return gather(ctx, &program, "-", c.new, volume, "-") },
		func() error {
			f, err := readAlone(ctx, volume, requests)
			alone = append(alone, f)
			return err
		})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "| %s | %.2f | %.2f | **%.2f** | %d | %d |\n", name, median(program, wall), median(alone, wall),
		median(program, wall)/median(alone, wall), len(requests), alone[0].bytes>>20)
	return nil
}

// storedBlocks returns which blocks an image of a volume holds.
func storedBlocks(ctx context.Context, name string) (*blockset.Set, uint8, error) {
	src, err := o2image.Open(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	defer src.Close()
	meta, err := src.Volume().Metadata(ctx, volume.Options{})
	if err != nil {
		return nil, 0, err
	}
	return meta.Blocks, src.Volume().Super().BlockBits, nil
}

// request is a range of bytes.
type request struct{ off, n int64 }

// requestsFor returns the requests in ascending order that read the blocks, but
// for the holes of the file.
func requestsFor(name string, blocks *blockset.Set, blockBits uint8) ([]request, error) {
	dev, err := blockio.Open(name)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	var list []request
	for start, n := range blocks.Spans() {
		off, end := int64(start)<<blockBits, int64(start+n)<<blockBits
		for off < end {
			from, to, err := dev.NextData(off)
			if err == io.EOF || from >= end {
				break
			}
			if err != nil {
				return nil, err
			}
			off = max(off, from)
			r := request{off, min(limitRequest, to-off, end-off)}
			list = append(list, r)
			off += r.n
		}
	}
	return list, nil
}

// readAlone reads the requests, many at a time.
func readAlone(ctx context.Context, name string, requests []request) (figures, error) {
	start := time.Now()
	dev, err := blockio.Open(name)
	if err != nil {
		return figures{}, err
	}
	defer dev.Close()
	pool := blockio.NewPool(limitRequest, limitInFlight)
	defer pool.Close()
	var (
		next    = make(chan request)
		readers sync.WaitGroup
		mu      sync.Mutex
		failed  error
	)
	for range limitInFlight {
		readers.Go(func() {
			for r := range next {
				buf, err := pool.Get(ctx)
				if err == nil {
					_, err = dev.ReadAt(buf[:r.n], r.off)
					pool.Put(buf)
				}
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	for _, r := range requests {
		next <- r
	}
	close(next)
	readers.Wait()
	f := figures{wall: time.Since(start)}
	f.requests, f.bytes = dev.Reads()
	return f, failed
}
