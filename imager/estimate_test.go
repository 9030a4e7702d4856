// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"testing"

	"o2image/image"
	"o2image/internal/ocfs2test"
	"o2image/volume"
)

// TestForecastTooMuch has the totals of a damaged volume sum to more than the
// volume: of a raw image no holes are left.
func TestForecastTooMuch(t *testing.T) {
	t.Parallel()
	src, err := Open(t.Context(), ocfs2test.Unpack(t, "min-b2k-c4k").Path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	s, err := newSampler(src, CreateOptions{Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, beyond := range []uint64{0, 1} {
		f := &Forecast{Format: image.FormatRaw.String(), Blocks: src.super().Blocks() + beyond}
		if err := s.forecast(t.Context(), f, &volume.Totals{}); err != nil {
			t.Fatal(err)
		}
		if f.Zstd != 0 {
			t.Errorf("%d blocks more than the volume has: %d bytes of holes", beyond, f.Zstd)
		}
	}
}
