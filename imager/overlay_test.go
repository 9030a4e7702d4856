// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"o2image/blockio"
	"o2image/blockset"
	"o2image/image"
	"o2image/volume"
)

// uneven is a device of which every seventh block cannot be read.
type uneven struct{ r io.ReaderAt }

const overlayBlock = 512

func (u uneven) ReadAt(p []byte, off int64) (int, error) {
	var bad []blockio.BadRange
	_, _ = u.r.ReadAt(p, off)
	for at := off / overlayBlock * overlayBlock; at < off+int64(len(p)); at += overlayBlock {
		if at/overlayBlock%7 == 0 {
			from, to := max(at, off), min(at+overlayBlock, off+int64(len(p)))
			clear(p[from-off : to-off])
			bad = append(bad, blockio.BadRange{Off: from, Len: to - from, Err: io.ErrNoProgress, Tried: true})
		}
	}
	if bad != nil {
		return int(bad[0].Off - off), &blockio.BadError{Ranges: bad}
	}
	return len(p), nil
}

// FuzzOverlay reads from an image laid over a device, where each byte of the
// input says whether the image has a block: what comes is of the image where it
// has the block, of the device where it does not, and missing where neither has.
func FuzzOverlay(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 0, 0, 1}, uint16(0), uint16(7*512), false)
	f.Add([]byte{1, 1, 1, 1, 1, 1, 1, 1, 1}, uint16(100), uint16(4000), true)
	f.Add(bytes.Repeat([]byte{0}, 40), uint16(511), uint16(2), false)
	f.Add(bytes.Repeat([]byte{1, 0, 0}, 40), uint16(5000), uint16(9000), true)
	f.Fuzz(func(t *testing.T, has []byte, off, n uint16, doubtful bool) {
		if len(has) == 0 || len(has) > 200 || n == 0 {
			return
		}
		size := len(has) * overlayBlock
		device, old := bytes.Repeat([]byte{'D'}, size), bytes.Repeat([]byte{'I'}, size)
		held := blockset.NewBuilder()
		for i, b := range has {
			if b&1 != 0 {
				held.Add(uint64(i), 1, 0)
			}
			if b&2 != 0 { // not what it looks like
				old[i*overlayBlock] = '?'
			}
		}
		from := int(off) % size
		length := min(int(n), size-from)
		e := &earlier{held: held.Seal(), data: bytes.NewReader(old)}
		if doubtful {
			e.doubtful = func(block []byte) bool {
				if len(block) != overlayBlock {
					t.Errorf("judged by %d bytes", len(block))
				}
				return block[0] == '?'
			}
		}
		o := &overlay{earlier: e, device: uneven{bytes.NewReader(device)}, blockSize: overlayBlock}
		p := make([]byte, length)
		_, err := o.ReadAt(p, int64(from))
		for i, got := range p {
			block := (from + i) / overlayBlock
			inImage := has[block]&1 != 0 && !(doubtful && has[block]&2 != 0)
			missing := blockio.Within(err, int64(from+i), 1) != nil
			switch want := byte('D'); {
			case inImage:
				if missing || got != old[from+i] {
					t.Fatalf("byte %d is %c, missing %t: the image has %c", from+i, got, missing, old[from+i])
				}
			case block%7 == 0:
				if !missing {
					t.Fatalf("byte %d is %c: the device cannot read it", from+i, got)
				}
			case missing || got != want:
				t.Fatalf("byte %d is %c, missing %t: the device has it", from+i, got, missing)
			}
		}
	})
}

// TestRuns checks the arithmetic of runs against sets of single blocks.
func TestRuns(t *testing.T) {
	runs := []image.Run{{Start: 2, Len: 3}, {Start: 5, Len: 1}, {Start: 10, Len: 5}, {Start: 100, Len: 1}}
	if diff := cmp.Diff([]image.Run{{Start: 2, Len: 4}, {Start: 10, Len: 5}, {Start: 100, Len: 1}}, coarse(runs, 4)); diff != "" {
		t.Errorf("joined (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]image.Run{{Start: 2, Len: 13}, {Start: 100, Len: 1}}, coarse(runs, 2)); diff != "" {
		t.Errorf("joined to two (-want +got):\n%s", diff)
	}
	if got := coarse(runs, 1); len(got) != 1 || got[0].Start != 2 || got[0].Len != 99 {
		t.Errorf("joined to one: %v", got)
	}
	if diff := cmp.Diff([]image.Run{{Start: 4, Len: 2}, {Start: 10, Len: 2}}, overlap(coarse(runs, 4), 4, 8)); diff != "" {
		t.Errorf("overlap (-want +got):\n%s", diff)
	}
	hostile := []image.Run{{Start: 1 << 63, Len: 1 << 63}, {Start: 50, Len: 1<<64 - 1}, {Start: 7, Len: 1}, {Start: 40, Len: 20}}
	if diff := cmp.Diff([]image.Run{{Start: 7, Len: 1}, {Start: 40, Len: 60}}, sortedRuns(hostile, 100)); diff != "" {
		t.Errorf("of a hostile list (-want +got):\n%s", diff)
	}
	set := blockset.NewBuilder()
	set.Add(0, 12, 0)
	set.Add(90, 20, 0)
	var left []image.Run
	for run, err := range without(spans(&volume.Metadata{Blocks: set.Seal()})(), coarse(runs, 4)) {
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, run)
	}
	want := []image.Run{{Start: 0, Len: 2}, {Start: 6, Len: 4}, {Start: 90, Len: 10}, {Start: 101, Len: 9}}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("without (-want +got):\n%s", diff)
	}
	broken := errors.New("broken")
	for _, err := range without(func(yield func(image.Run, error) bool) { yield(image.Run{}, broken) }, nil) {
		if !errors.Is(err, broken) {
			t.Errorf("error is lost: %v", err)
		}
	}
}
