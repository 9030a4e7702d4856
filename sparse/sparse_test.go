// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package sparse

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestSparse gives back any part of bytes of which parts are zero, and the form
// of zeros is not longer than its words.
func TestForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 3*spread).Draw(t, "bytes")
		p := make([]byte, n)
		for range rapid.IntRange(0, 20).Draw(t, "parts") {
			off := rapid.IntRange(0, n).Draw(t, "part at")
			copy(p[off:], rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "part"))
		}
		form, any := Append(nil, p)
		if want := len(bytes.Trim(p, "\x00")) > 0; any != want {
			t.Fatalf("not all zero: %v, want %v", any, want)
		}
		if len(form) > MaxLen(n) || !any && len(form) != MaxLen(n)-n {
			t.Fatalf("the form of %d bytes has %d", n, len(form))
		}
		off := rapid.IntRange(0, n).Draw(t, "from")
		got := bytes.Repeat([]byte{0xFF}, rapid.IntRange(0, n-off).Draw(t, "length"))
		Expand(got, form, off, n)
		if !bytes.Equal(got, p[off:off+len(got)]) {
			t.Fatalf("%d bytes from %d on differ", len(got), off)
		}
	})
}
