// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"o2image/imager"
	"o2image/internal/ocfs2test"
)

// imageField is a number in an image.
type imageField struct {
	name      string
	off, size int
}

// changes returns what each field is changed to: 0, all ones, one more and less,
// and one bit at the top. A change that is none is left out.
func (f imageField) changes(b []byte) map[string][]byte {
	old := make([]byte, 8)
	copy(old, b[f.off:][:f.size])
	value := binary.LittleEndian.Uint64(old)
	list := make(map[string][]byte)
	for what, v := range map[string]uint64{
		"0": 0, "all ones": ^uint64(0), "one more": value + 1, "one less": value - 1,
		"top bit": value ^ 1<<(8*f.size-1), "half": value / 2, "double": value * 2,
	} {
		part := binary.LittleEndian.AppendUint64(nil, v)[:f.size]
		if !bytes.Equal(part, old[:f.size]) {
			list[what] = part
		}
	}
	return list
}

// numbers returns fields of 8 bytes from first to before end.
func numbers(name string, first, end int) []imageField {
	var list []imageField
	for off := first; off < end; off += 8 {
		list = append(list, imageField{fmt.Sprintf("%s+%#x", name, off-first), off, 8})
	}
	return list
}

// TestHostileImages restores images in which each field is wrong, and that end in
// every place where something ends. The restore brings just the bytes of the
// sound image, or the target is untouched.
func TestHostileImages(t *testing.T) {
	dir := tmpfs(t, "512m") // it is much written and synced
	vol := ocfs2test.Unpack(t, "min-b2k-c4k")
	read := func(opts imager.CreateOptions) []byte {
		t.Helper()
		path := filepath.Join(dir, "sound")
		if _, err := imager.Create(t.Context(), vol.Path, path, opts); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sound := read(imager.CreateOptions{})
	le := binary.LittleEndian
	trailer, bitmap := int(le.Uint64(sound[0xA0:])), int(le.Uint64(sound[0x30:])+1)*2048
	footer := len(sound) - 128
	bare := bytes.Clone(sound[:trailer])
	clear(bare[0x80:0xB0]) // as 1.8.7 makes them
	zstd := read(imager.CreateOptions{Zstd: 1})
	table := len(zstd) - 9 - 8*int(le.Uint32(zstd[len(zstd)-9:])) - 8

	header := []imageField{
		{"hdr_magic", 0x00, 4},
		{"hdr_timestamp", 0x04, 4},
		{"hdr_magic_desc", 0x08, 8},
	}
	header = append(header, numbers("header", 0x18, 0x78)...)
	own := []imageField{{"record version", 0x88, 2}, {"redaction", 0x8A, 1}, {"record check", 0xA8, 4}}
	own = append(own, numbers("record", 0x80, 0xB0)...)
	own = append(own, imageField{"bitmap", bitmap, 8}, imageField{"report", trailer, 8}, imageField{"hash", footer - 32, 8})
	own = append(own, imageField{"footer version", footer + 8, 2}, imageField{"flags", footer + 10, 2}, imageField{"footer check", footer + 12, 4})
	own = append(own, numbers("footer", footer, len(sound))...)

	ends := []int{0, 1, 0x77, 0x78, 0x80, 0xAF, 0xB0, 511, 512, 2047, 2048, 3 * 2048, 5 * 2048, bitmap - 1, bitmap, bitmap + 1, bitmap + 4095, bitmap + 4096}
	formats := map[string]struct {
		image  []byte
		fields []imageField
		ends   []int
	}{
		"with a trailer":    {sound, slices.Concat(header, own), append(ends, trailer-1, trailer, trailer+1, footer-33, footer-1, footer, footer+1, len(sound)-1)},
		"without a trailer": {bare, header, append(ends, trailer-1)},
		"compressed":        {zstd, bytewise("table", table, len(zstd)), []int{0, 4, 100, table - 1, table, table + 1, table + 8, len(zstd) - 9, len(zstd) - 1}},
	}

	junk := bytes.Repeat([]byte("what the target holds "), 5000)
	target := filepath.Join(dir, "target")
	restore := func(image []byte) ([]byte, error) {
		t.Helper()
		path := filepath.Join(dir, "image")
		for name, b := range map[string][]byte{path: image, target: junk} {
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, restored := imager.Restore(t.Context(), target, path, imager.RestoreOptions{})
		if info, err := os.Stat(target); err != nil || info.Size() > vol.Size {
			t.Fatalf("target: %v, %v", info, err)
		}
		got, err := os.ReadFile(target)
		if err != nil {
			t.Fatal(err)
		}
		return got, restored
	}
	want, err := restore(sound)
	if err != nil {
		t.Fatal(err)
	}
	cases, refused := 0, 0
	check := func(what string, image []byte) {
		t.Helper()
		cases++
		got, err := restore(image)
		switch {
		case err != nil && bytes.Equal(got, junk):
			refused++
		case err != nil:
			t.Errorf("%s: refused after the target was written: %v", what, err)
		case !bytes.Equal(got, want):
			t.Errorf("%s: the restore brings other bytes than that of the sound image", what)
		}
	}
	for format, f := range formats {
		for _, field := range f.fields {
			for value, part := range field.changes(f.image) {
				bad := bytes.Clone(f.image)
				copy(bad[field.off:], part)
				check(fmt.Sprintf("%s, %s: %s", format, field.name, value), bad)
			}
		}
		for _, end := range f.ends {
			check(fmt.Sprintf("%s, cut off at %d of %d", format, end, len(f.image)), f.image[:end])
		}
		for _, more := range []int{1, 128, 4096} {
			check(fmt.Sprintf("%s, %d bytes longer", format, more), append(bytes.Clone(f.image), make([]byte, more)...))
		}
	}
	t.Logf("%d images, %d refused", cases, refused)
	if cases < 400 || refused < cases/2 {
		t.Errorf("%d images, %d refused", cases, refused)
	}
}

// bytewise returns fields of one byte.
func bytewise(name string, first, end int) []imageField {
	var list []imageField
	for off := first; off < end; off++ {
		list = append(list, imageField{fmt.Sprintf("%s+%d", name, off-first), off, 1})
	}
	return list
}
