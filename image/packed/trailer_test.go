// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"o2image/image"
	"o2image/image/packed"
)

var report = []byte(`{"tool":"o2image"}`)

// withTrailer returns an image of four pieces, the last one shorter, and the
// same with a trailer.
func withTrailer(tb tester, flags packed.Flags) (proper, file []byte) {
	tb.Helper()
	v := newVolume(tb, 4096, 4096, 2000)
	proper, l := pack(tb, v, setOf([2]uint64{0, 800}, [2]uint64{1990, 10}), packed.LayoutOptions{Redaction: image.RedactionDefault})
	trailer, err := packed.EncodeTrailer(report, leaves(proper), l.Record(), flags)
	if err != nil {
		tb.Fatal(err)
	}
	return proper, append(bytes.Clone(proper), trailer...)
}

func readTrailer(file []byte) (*packed.Trailer, error) {
	return packed.ReadTrailer(bytes.NewReader(file), int64(len(file)))
}

// sparseForm is the form of a piece as package sparse describes it.
func sparseForm(piece []byte) []byte {
	var form []byte
	for part := range slices.Chunk(piece, 4096) {
		var granules []byte
		word := uint64(0)
		for i := 0; i < len(part); i += 64 {
			if g := part[i:min(i+64, len(part))]; len(bytes.Trim(g, "\x00")) > 0 {
				word |= 1 << (i / 64)
				granules = append(granules, g...)
			}
		}
		form = append(le.AppendUint64(form, word), granules...)
	}
	return form
}

// TestTrailerBytes has the trailer as the package comment lays it out.
func TestTrailerBytes(t *testing.T) {
	proper, file := withTrailer(t, packed.FlagPartial|packed.FlagLive)
	const size = 4096*(1+810) + 4096
	if len(proper) != size {
		t.Fatalf("image of %d bytes, want %d", len(proper), size)
	}
	var hashes []byte
	for _, piece := range [][]byte{proper[:1<<20], proper[1<<20 : 2<<20], proper[2<<20 : 3<<20], proper[3<<20:]} {
		sum := sha256.Sum256(sparseForm(piece))
		hashes = append(hashes, sum[:]...)
	}
	reportHash := sha256.Sum256(report)
	rest := bytes.Join([][]byte{
		u64(size), u64(18), u64(4), u64(1048576), u64(size + 18 + 4*32 + 128), u64(0),
		reportHash[:],
	}, nil)
	start := append([]byte("O2IMGEND"), 2, 0, 3, 0)
	root := sha256.Sum256(bytes.Join([][]byte{
		[]byte("o2image root v2\x00"), start, {0, 0, 0, 0}, rest, proper[0x80:0xB0], hashes,
	}, nil))
	crc := crc32.ChecksumIEEE(bytes.Join([][]byte{start, {0, 0, 0, 0}, rest, root[:]}, nil))
	want := bytes.Join([][]byte{report, hashes, start, le.AppendUint32(nil, crc), rest, root[:]}, nil)
	if diff := cmp.Diff(want, file[len(proper):]); diff != "" {
		t.Errorf("trailer (-want +got):\n%s", diff)
	}

	r, err := readTrailer(file)
	if err != nil {
		t.Fatal(err)
	}
	if r.Flags != packed.FlagPartial|packed.FlagLive || r.ImageSize != size || !bytes.Equal(r.Report, report) || r.Root != root {
		t.Errorf("got %+v", r)
	}
}

func TestFlags(t *testing.T) {
	for _, flags := range []packed.Flags{0, packed.FlagPartial, packed.FlagLive} {
		_, file := withTrailer(t, flags)
		got, err := readTrailer(file)
		if err != nil {
			t.Fatal(err)
		}
		if got.Flags.Has(packed.FlagPartial) != (flags == packed.FlagPartial) || got.Flags.Has(packed.FlagLive) != (flags == packed.FlagLive) {
			t.Errorf("got flags %d, want %d", got.Flags, flags)
		}
	}
}

func TestEncodeTrailerErrors(t *testing.T) {
	hashes := make([][sha256.Size]byte, 3)
	tests := []struct {
		name   string
		report []byte
		hashes [][sha256.Size]byte
		size   int64
		want   string
	}{
		{"report too long", make([]byte, packed.MaxReport+1), hashes, 3 << 20, "longer than 67108864"},
		{"hash too few", nil, hashes, 3<<20 + 1, "3 hashes for an image of 4 pieces"},
		{"hash too many", nil, hashes, 2 << 20, "3 hashes for an image of 2 pieces"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := packed.EncodeTrailer(tt.report, tt.hashes, packed.Record{Trailer: tt.size}, 0)
			if err == nil || b != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %d bytes, %v, want error %q", len(b), err, tt.want)
			}
		})
	}
}

func TestNoTrailer(t *testing.T) {
	proper, file := withTrailer(t, 0)
	tests := map[string][]byte{
		"empty":           nil,
		"short":           make([]byte, packed.FooterSize-1),
		"image of 1.8.7":  proper,
		"cut off":         file[:len(file)-1],
		"something added": append(bytes.Clone(file), 0),
	}
	for name, file := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := readTrailer(file); got != nil || err != nil {
				t.Errorf("got %v, %v, want none", got, err)
			}
		})
	}
}

// refoot returns a copy of an image with other bytes at an offset in its footer
// and the check sum right again: what somebody makes on purpose.
func refoot(file []byte, off int, other ...byte) []byte {
	at := len(file) - packed.FooterSize
	file = change(file, at+off, other...)
	footer := file[at:]
	le.PutUint32(footer[0x0C:], 0)
	le.PutUint32(footer[0x0C:], crc32.ChecksumIEEE(footer))
	return file
}

func TestReadTrailerErrors(t *testing.T) {
	proper, file := withTrailer(t, 0)
	size := uint64(len(proper))
	total := uint64(len(file))
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"a bit of the footer", change(file, len(file)-1, file[len(file)-1]^4), "check sum of the footer"},
		{"flags without check sum", change(file, len(file)-packed.FooterSize+0x0A, 1), "check sum of the footer"},
		{"version 1", refoot(file, 0x08, 1), "version 1, this program understands 2"},
		{"version 0", refoot(file, 0x08, 0), "version 0, this program understands 2"},
		{"pieces of 0 bytes", refoot(file, 0x28, u64(0)...), "pieces of 0 bytes, want 1048576"},
		{"other file", refoot(file, 0x30, u64(total+1)...), "made for a file of 3326227 bytes, this one has 3326226"},
		{"in front of it more", append([]byte("more"), file...), "made for a file of 3326226 bytes, this one has 3326230"},
		{"report of 64 MiB and a byte", refoot(file, 0x18, u64(64<<20+1)...), "report of 67108865 bytes, at most 67108864"},
		{"report of 2^63 bytes", refoot(file, 0x18, u64(1<<63)...), "report of 9223372036854775808 bytes"},
		{"report longer than the file", refoot(file, 0x18, u64(64<<20)...), "its parts make a file of"},
		{"report of no bytes", refoot(file, 0x18, u64(0)...), "its parts make a file of"},
		{"image longer than the file", refoot(file, 0x10, u64(total+1)...), "image of 3326227 bytes in a file of 3326226"},
		{"image of 2^63 bytes", refoot(file, 0x10, u64(1<<63)...), "image of 9223372036854775808 bytes"},
		{"image of no bytes", refoot(file, 0x10, u64(0)...), "4 hashes, an image of 0 bytes has 0 pieces"},
		{"image a byte shorter", refoot(file, 0x10, u64(size-1)...), "its parts make a file of"},
		{"2^60 hashes", refoot(file, 0x20, u64(1<<60)...), "1152921504606846976 hashes"},
		{"image and report moved", refoot(refoot(file, 0x10, u64(size-1)...), 0x18, u64(19)...), "the report at byte"},
		{"report changed", change(file, len(proper)+3, 'x'), "the report at byte 3325952 does not have the hash"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readTrailer(tt.file)
			if err == nil || got != nil {
				t.Fatalf("got %+v, %v, want an error alone", got, err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %q, want %q", err, tt.want)
			}
		})
	}
}

// TestReadTrailerHuge wants a footer that claims much in a file of 8 EiB
// refused without reading or allocating much.
func TestReadTrailerHuge(t *testing.T) {
	const total = 1<<63 - 1
	footer := make([]byte, packed.FooterSize)
	copy(footer, "O2IMGEND\x01")
	const size = total - packed.FooterSize - 64<<20
	const hashes = size / (1<<20 + 32)
	le.PutUint64(footer[0x10:], size-hashes*32)
	le.PutUint64(footer[0x18:], 64<<20)
	le.PutUint64(footer[0x20:], (size-hashes*32+1<<20-1)/(1<<20))
	le.PutUint64(footer[0x28:], 1<<20)
	le.PutUint64(footer[0x30:], total)
	file := refoot(footer, 0)
	got, err := packed.ReadTrailer(atEnd{file, total}, total)
	if got != nil || err == nil {
		t.Errorf("got %+v, %v, want an error", got, err)
	}
}

// atEnd is a file of zeros but for its last bytes.
type atEnd struct {
	data []byte
	size int64
}

func (r atEnd) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if at := off - (r.size - int64(len(r.data))); at >= 0 {
		copy(p, r.data[at:])
	}
	return len(p), nil
}

func TestVerify(t *testing.T) {
	t.Parallel()
	proper, file := withTrailer(t, 0)
	hashesAt := len(proper) + len(report)
	const mib = 1 << 20
	flip := func(offs ...int) []byte {
		b := bytes.Clone(file)
		for _, off := range offs {
			b[off] ^= 0x10
		}
		return b
	}
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"sound", file, ""},
		{"header", flip(0), "bytes 0 to 1048575 do not have the hash"},
		{"record", flip(0x8A), "bytes 0 to 1048575 do not have the hash"},
		{"last byte of a piece", flip(mib - 1), "bytes 0 to 1048575 do not have the hash"},
		{"first byte of the next", flip(mib), "bytes 1048576 to 2097151 do not have the hash"},
		{"last byte of the image", flip(len(proper) - 1), "bytes 3145728 to 3325951 do not have the hash"},
		{"all but the first piece", flip(3*mib, mib, 2*mib), "bytes 1048576 to 2097151 do not have the hash"},
		{"a hash", flip(hashesAt + 32), "bytes 1048576 to 2097151 do not have the hash"},
		{"flags", refoot(file, 0x0A, 1), "root hash is wrong"},
		{"root", refoot(file, 0x60, file[len(file)-32]^1), "root hash is wrong"},
		{"reserved", refoot(file, 0x38, 1), "root hash is wrong"},
	}
	// A piece and its hash exchanged for others that agree.
	forged := flip(2 * mib)
	sum := packed.HashPiece(forged[2*mib : 3*mib])
	copy(forged[hashesAt+64:], sum[:])
	tests = append(tests, struct {
		name string
		file []byte
		want string
	}{"a piece and its hash", forged, "root hash is wrong"})

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			trailer, err := readTrailer(tt.file)
			if err != nil {
				t.Fatal(err)
			}
			for _, parallel := range []int{0, 1, 2, 16} {
				err := trailer.Verify(t.Context(), bytes.NewReader(tt.file), parallel)
				if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("%d at once: got error %v, want %q", parallel, err, tt.want)
				}
				if damage, ok := errors.AsType[*packed.DamageError](err); ok != strings.HasPrefix(tt.want, "bytes") {
					t.Errorf("%d at once: got damage %+v", parallel, damage)
				}
			}
		})
	}
}

func TestVerifyStops(t *testing.T) {
	proper, file := withTrailer(t, 0)
	trailer, err := readTrailer(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trailer.Verify(ctx, bytes.NewReader(file), 2); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got error %v", err)
	}
	r := unreadable{bytes.NewReader(file), 2<<20 + 5}
	if err := trailer.Verify(t.Context(), r, 2); !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "read image at byte 2097152") {
		t.Errorf("bad sector: got error %v", err)
	}
	if err := trailer.Verify(t.Context(), bytes.NewReader(proper), 2); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off meanwhile: got error %v", err)
	}
}

// unreadable fails to read one byte.
type unreadable struct {
	io.ReaderAt
	at int64
}

func (u unreadable) ReadAt(p []byte, off int64) (int, error) {
	if off <= u.at && u.at < off+int64(len(p)) {
		return 0, errDisk
	}
	return u.ReaderAt.ReadAt(p, off)
}

// TestReaderTrailer asks an open image for its trailer.
func TestReaderTrailer(t *testing.T) {
	proper, file := withTrailer(t, packed.FlagPartial)
	trailer, err := open(t, file).Trailer()
	if err != nil || !trailer.Flags.Has(packed.FlagPartial) || string(trailer.Report) != string(report) {
		t.Errorf("got %+v, %v", trailer, err)
	}

	old := change(proper, 0x80, make([]byte, 0x30)...)
	if trailer, err := open(t, old).Trailer(); trailer != nil || err != nil {
		t.Errorf("image of 1.8.7: got %+v, %v, want none", trailer, err)
	}
	_, err = open(t, proper).Trailer()
	if err == nil || !strings.Contains(err.Error(), "cut off: it has no trailer behind byte 3325952") {
		t.Errorf("trailer gone: got error %v", err)
	}

	// The trailer of a larger image behind a smaller one, in a file as long.
	small, _ := pack(t, newVolume(t, 4096, 4096, 2000), setOf([2]uint64{0, 9}), packed.LayoutOptions{})
	mixed := append(small, file[len(small):]...)
	_, err = open(t, mixed).Trailer()
	if err == nil || !strings.Contains(err.Error(), "made for an image of 3325952 bytes, this one has 45056") {
		t.Errorf("trailer of another image: got error %v", err)
	}
}

// TestTrailerFollowed has something behind a trailer, as on a device. What only
// looks like a footer is passed over.
func TestTrailerFollowed(t *testing.T) {
	v := newVolume(t, 4096, 4096, 2000)
	proper, l := pack(t, v, setOf([2]uint64{0, 800}, [2]uint64{1990, 10}), packed.LayoutOptions{Redaction: image.RedactionDefault})
	for _, length := range []int{0, 1, 100, 1<<20 - 4*32 - 128, 1<<20 - 4*32 - 127, 1<<20 - 4*32 - 1, 1<<20 - 4*32, 3 << 20} {
		report := bytes.Repeat([]byte("O2IMGEND"), length/8+1)[:length]
		trailer, err := packed.EncodeTrailer(report, leaves(proper), l.Record(), packed.FlagLive)
		if err != nil {
			t.Fatal(err)
		}
		whole := slices.Concat(proper, trailer)
		for _, behind := range []int{1, 127, 128, 4096, 2 << 20} {
			file := slices.Concat(whole, make([]byte, behind))
			r, err := packed.Open(bytes.NewReader(file), int64(len(file)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Trailer()
			if err != nil || !bytes.Equal(got.Report, report) || got.Flags != packed.FlagLive {
				t.Fatalf("report of %d bytes, %d bytes behind it: got error %v", length, behind, err)
			}
			if err := got.Verify(t.Context(), bytes.NewReader(file), 2); err != nil {
				t.Errorf("report of %d bytes, %d bytes behind it: verify: %v", length, behind, err)
			}
		}
	}
}
