// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"o2image/image"
	"o2image/image/packed"
)

// patched returns a copy of a file with changes: each three bytes of patch are
// an offset and the byte that goes there. Small inputs of a fuzz target so
// reach every field of a large file.
func patched(file, patch []byte) []byte {
	file = bytes.Clone(file)
	for ; len(patch) >= 3; patch = patch[3:] {
		if off := int(le.Uint16(patch)); off < len(file) {
			file[off] = patch[2]
		}
	}
	return file
}

// FuzzOpen opens images that were changed anywhere, and reads all of a volume
// that opens. What is claimed must be so: every run can be read, no block
// beside them, and there are as many blocks as the header says.
func FuzzOpen(f *testing.F) {
	var files [][]byte
	v := newVolume(f, 512, 4096, 40)
	small, l := pack(f, v, setOf([2]uint64{0, 9}, [2]uint64{100, 7}), packed.LayoutOptions{})
	trailer, err := packed.EncodeTrailer(report, leaves(small), l.Record(), packed.FlagLive)
	if err != nil {
		f.Fatal(err)
	}
	files = append(files, append(small, trailer...))
	twoPages, _ := pack(f, newVolume(f, 512, 4096, 32768/8+1), setOf([2]uint64{1, 3}, [2]uint64{32760, 16}), packed.LayoutOptions{})
	files = append(files, twoPages)
	large, _ := pack(f, newVolume(f, 4096, 4096, 20), setOf([2]uint64{2, 1}), packed.LayoutOptions{})
	files = append(files, large)
	for i := range files {
		f.Add(uint8(i), uint16(0), []byte{})
		f.Add(uint8(i), uint16(1), []byte{0x20, 0, 7, 0x30, 0, 8})
	}

	f.Fuzz(func(t *testing.T, base uint8, cut uint16, patch []byte) {
		file := patched(files[int(base)%len(files)], patch)
		file = file[:max(0, len(file)-int(cut))]
		r, err := packed.Open(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			if r != nil {
				t.Fatal("a reader beside an error")
			}
			return
		}
		bs := uint64(r.BlockSize())
		buf := make([]byte, bs)
		var count, next uint64
		for run, err := range r.Runs() {
			if err != nil {
				t.Fatal(err)
			}
			if run.Len == 0 || run.Start < next || run.Start > r.Blocks() || run.Len > r.Blocks()-run.Start {
				t.Fatalf("run %+v behind block %d of %d", run, next, r.Blocks())
			}
			if n := min(run.Len, 4096); n > 0 {
				if _, err := r.ReadAt(make([]byte, n*bs), int64(run.Start*bs)); err != nil {
					t.Fatal(err)
				}
			}
			if run.Start > next {
				if _, err := r.ReadAt(buf, int64((run.Start-1)*bs)); !errors.Is(err, image.ErrAbsent) {
					t.Fatalf("block %d: got error %v", run.Start-1, err)
				}
			}
			next = run.Start + run.Len
			count += run.Len
		}
		if count != r.Header().Stored {
			t.Fatalf("%d blocks, the header says %d", count, r.Header().Stored)
		}
		if _, err := r.ReadAt(buf, r.Size()); !errors.Is(err, io.EOF) {
			t.Fatalf("at the end: got error %v", err)
		}
		if _, err := r.Has(r.Blocks() - 1); err != nil {
			t.Fatal(err)
		}
		r.Record()
		if trailer, err := r.Trailer(); err == nil && trailer != nil {
			_ = trailer.Verify(t.Context(), bytes.NewReader(file), 2)
		}
	})
}

// FuzzReadTrailer reads anything as a trailer, with a check sum that is made to
// fit so that the checks behind it are reached.
func FuzzReadTrailer(f *testing.F) {
	_, file := withTrailer(f, packed.FlagPartial)
	f.Add(file[len(file)-packed.FooterSize-4*32-len(report):])
	small, l := pack(f, newVolume(f, 512, 4096, 40), setOf([2]uint64{0, 9}), packed.LayoutOptions{})
	trailer, err := packed.EncodeTrailer(report, leaves(small), l.Record(), packed.FlagLive)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(small, trailer...))

	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) >= packed.FooterSize {
			file = refoot(file, 0)
		}
		trailer, err := readTrailer(file)
		if err != nil || trailer == nil {
			if trailer != nil {
				t.Fatal("a trailer beside an error")
			}
			return
		}
		if trailer.ImageSize < 0 || trailer.ImageSize > int64(len(file)) || len(trailer.Report) > len(file) {
			t.Fatalf("image of %d bytes, report of %d, in a file of %d", trailer.ImageSize, len(trailer.Report), len(file))
		}
		if err := trailer.Verify(t.Context(), bytes.NewReader(file), 2); err == nil {
			// Only what EncodeTrailer makes can be right, since SHA-256 is.
			if _, err := packed.EncodeTrailer(trailer.Report, leaves(file[:trailer.ImageSize]), packed.Record{Trailer: trailer.ImageSize}, trailer.Flags); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzDecodeHeader wants a header that is accepted to be the same once encoded
// and decoded again.
func FuzzDecodeHeader(f *testing.F) {
	f.Add(headerBytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := packed.DecodeHeader(b)
		if err != nil {
			return
		}
		again := make([]byte, packed.HeaderSize)
		h.Encode(again)
		h2, err := packed.DecodeHeader(again)
		if err != nil {
			t.Fatal(err)
		}
		if len(h2.Superblocks) != len(h.Superblocks) || h2.Stored != h.Stored || h2.Blocks != h.Blocks ||
			h2.BlockSize != h.BlockSize || h2.Version != h.Version || h2.Timestamp != h.Timestamp {
			t.Fatalf("got %+v, want %+v", h2, h)
		}
	})
}
