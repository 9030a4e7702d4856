// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"o2image/image"
)

// TestFileOutputInPlace writes pieces over a file with two names, and looks at
// it in between.
func TestFileOutputInPlace(t *testing.T) {
	t.Parallel()
	const size = 2 * image.PieceSize
	data := bytes.Repeat([]byte("data"), image.PieceSize/4)
	for _, test := range []struct {
		name   string
		pieces []int64 // offsets of those that are not zero
	}{
		{"all", []int64{image.PieceSize, 0}},
		{"the vital part is zero", []int64{image.PieceSize}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Link(name, name+"2"); err != nil {
				t.Fatal(err)
			}
			out, err := newFileOutput(name, size, []span{{image.PieceSize + 4096, image.PieceSize + 8192}, {8192, 12288}})
			if err != nil {
				t.Fatal(err)
			}
			defer out.abort()
			want := make([]byte, size)
			for _, off := range test.pieces {
				copy(want[off:], data)
				f := &filled{Piece: image.Piece{Off: off, Len: image.PieceSize}, buf: bytes.Clone(data)}
				if err := out.write(f); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.HasPrefix(got[8192:], []byte("O2IMAGE-UNFINISHED\x00")) {
					t.Errorf("nothing says that the image is not finished: %q", got[8192:8220])
				}
				if b := got[min(image.PieceSize+4096, len(got)):]; bytes.HasPrefix(b, []byte("data")) {
					t.Errorf("another vital part is there before the rest")
				}
			}
			if !slices.Contains(test.pieces, 0) {
				f := &filled{Piece: image.Piece{Len: image.PieceSize}, buf: make([]byte, image.PieceSize), zero: true}
				if err := out.write(f); err != nil {
					t.Fatal(err)
				}
			}
			if err := out.finish(size); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the image is not what was written, %v", err)
			}
		})
	}
}
