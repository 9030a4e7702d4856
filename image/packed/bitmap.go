// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"slices"
	"sync/atomic"

	"o2image/image"
)

// scanSize is how many bytes of the bitmap are read at a time where all of it
// is read.
const scanSize = 1 << 20

// cachedPages is how many pages of the bitmap are kept in memory: 1 MiB, a
// window of eight million blocks.
const cachedPages = 256

// bitmap looks up blocks in the bitmap of an image. Of its pages it keeps but
// those that were asked for last, so that a bitmap of any length needs little
// memory.
type bitmap struct {
	r      io.ReaderAt
	off    int64  // offset in the file, bytes
	pages  uint64 // length
	blocks uint64 // size of the volume: bits that have a meaning

	// The pages that have a bit set, in ascending order, and for each the
	// number of bits set in the pages before.
	full []uint32
	rank []uint64

	// Page i is kept at i % cachedPages.
	cache [cachedPages]atomic.Pointer[page]
}

// page is a page of the bitmap without bits that have no meaning.
type page struct {
	index uint64
	rank  uint64 // bits set in the pages before; not set by scan
	bits  [PageSize]byte
}

func (b *bitmap) init(r io.ReaderAt, h *Header) {
	b.r, b.off, b.pages, b.blocks = r, h.bitmapOff(), h.pages(), h.Blocks
}

// load reads the bitmap for the first time. It fails unless the number of
// blocks is stored.
func (b *bitmap) load(stored uint64) error {
	var rank uint64
	for p, err := range b.scan() {
		if err != nil {
			return err
		}
		n := uint64(p.rankOf(pageBlocks))
		if n == 0 {
			continue
		}
		b.full = append(b.full, uint32(p.index))
		b.rank = append(b.rank, rank)
		rank += n
		if rank > stored {
			break
		}
	}
	switch {
	case rank > stored:
		return fmt.Errorf("image bitmap: more blocks are marked than the %d that the header says are stored", stored)
	case rank < stored:
		return fmt.Errorf("image bitmap: %d blocks are marked, the header says that %d are stored", rank, stored)
	}
	return nil
}

// scan reads the bitmap from start to end and yields its pages in ascending
// order, but for those that lie in a hole of the file. A page is valid until
// the next one. An error comes last.
func (b *bitmap) scan() iter.Seq2[*page, error] {
	return func(yield func(*page, error) bool) {
		buf := make([]byte, min(scanSize, b.pages*PageSize))
		p := new(page)
		for next := uint64(0); next < b.pages; {
			var err error
			if next, err = b.skipHole(next); err != nil {
				yield(nil, fmt.Errorf("read image bitmap: %w", err))
				return
			}
			chunk := buf[:min(uint64(len(buf)), (b.pages-next)*PageSize)]
			if err := image.ReadFull(b.r, chunk, b.off+int64(next)*PageSize); err != nil {
				yield(nil, fmt.Errorf("read image bitmap from page %d on: %w", next, err))
				return
			}
			for ; len(chunk) > 0; chunk = chunk[PageSize:] {
				p.index = next
				copy(p.bits[:], chunk)
				p.mask(b.blocks)
				if !yield(p, nil) {
					return
				}
				next++
			}
		}
	}
}

// skipHole returns the first page from the given one on that does not lie in a
// hole of the file as a whole, or the number of pages.
func (b *bitmap) skipHole(from uint64) (uint64, error) {
	holes, ok := b.r.(interface {
		NextData(off int64) (start, end int64, err error)
	})
	if !ok {
		return from, nil
	}
	off := b.off + int64(from)*PageSize
	start, _, err := holes.NextData(off)
	if errors.Is(err, io.EOF) {
		return b.pages, nil
	}
	if err != nil {
		return 0, err
	}
	if start <= off {
		return from, nil
	}
	return min(from+uint64(start-off)/PageSize, b.pages), nil
}

// page returns a page from the cache or from the file. It must be inside the
// bitmap.
func (b *bitmap) page(index uint64) (*page, error) {
	slot := &b.cache[index%cachedPages]
	if p := slot.Load(); p != nil && p.index == index {
		return p, nil
	}
	p := &page{index: index}
	if i, found := slices.BinarySearch(b.full, uint32(index)); found {
		p.rank = b.rank[i]
		if err := image.ReadFull(b.r, p.bits[:], b.off+int64(index)*PageSize); err != nil {
			return nil, fmt.Errorf("read page %d of the image bitmap: %w", index, err)
		}
		p.mask(b.blocks)
	}
	slot.Store(p)
	return p, nil
}

// rankOfRun returns the number of stored blocks below the first, or an
// [image.ErrAbsent] for the first block up to the last, inclusive, that is not
// stored. The blocks must be inside the volume.
func (b *bitmap) rankOfRun(first, last uint64) (uint64, error) {
	p, err := b.page(first / pageBlocks)
	if err != nil {
		return 0, err
	}
	rank := p.rank + p.rankOf(first%pageBlocks)
	for n := first; ; {
		end := min(last-p.index*pageBlocks, pageBlocks-1) // last block of the run in this page
		if gap := p.nextClear(n % pageBlocks); gap <= end {
			return 0, fmt.Errorf("block %d: %w", p.index*pageBlocks+gap, image.ErrAbsent)
		}
		if n = (p.index + 1) * pageBlocks; n > last {
			return rank, nil
		}
		if p, err = b.page(p.index + 1); err != nil {
			return 0, err
		}
	}
}

// mask clears the bits of blocks behind the end of the volume.
func (p *page) mask(blocks uint64) {
	left := blocks - p.index*pageBlocks
	if left >= pageBlocks {
		return
	}
	if left%8 != 0 {
		p.bits[left/8] &= 1<<(left%8) - 1
	}
	clear(p.bits[(left+7)/8:])
}

func (p *page) has(i uint64) bool { return p.bits[i/8]&(1<<(i%8)) != 0 }

// rankOf returns the number of bits set below bit i, which is at most
// pageBlocks.
func (p *page) rankOf(i uint64) uint64 {
	n := 0
	words := i / 64
	for w := range words {
		n += bits.OnesCount64(le.Uint64(p.bits[8*w:]))
	}
	if i%64 != 0 {
		n += bits.OnesCount64(le.Uint64(p.bits[8*words:]) & (1<<(i%64) - 1))
	}
	return uint64(n)
}

// next returns the first bit from bit i on that is set in the page xor flip,
// which is 0 to look for a set bit and all ones to look for a clear one. It
// returns pageBlocks if there is none.
func (p *page) next(i, flip uint64) uint64 {
	for ; i < pageBlocks; i = i/64*64 + 64 {
		if word := (le.Uint64(p.bits[i/64*8:]) ^ flip) >> (i % 64); word != 0 {
			return i + uint64(bits.TrailingZeros64(word))
		}
	}
	return pageBlocks
}

func (p *page) nextSet(i uint64) uint64   { return p.next(i, 0) }
func (p *page) nextClear(i uint64) uint64 { return p.next(i, ^uint64(0)) }

// runs yields the first bit and the length of the runs of bits that are set.
func (p *page) runs() iter.Seq2[uint64, uint64] {
	return func(yield func(start, n uint64) bool) {
		for start := p.nextSet(0); start < pageBlocks; {
			end := p.nextClear(start)
			if !yield(start, end-start) {
				return
			}
			start = p.nextSet(end)
		}
	}
}
