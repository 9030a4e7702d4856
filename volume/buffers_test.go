// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"testing"

	"o2image/blockio"
	"o2image/internal/ocfs2test"
	"o2image/volume"
)

// TestBuffers has a walk borrow its buffers, be it a single one, and give them back.
func TestBuffers(t *testing.T) {
	t.Parallel()
	v, _ := openFile(t, ocfs2test.Unpack(t, "xattr-reg").Path)
	want, err := v.Metadata(t.Context(), volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pool := blockio.NewPool(volume.BufferSize, 1)
	defer pool.Close()
	got, err := v.Metadata(t.Context(), volume.Options{Buffers: pool})
	if err != nil {
		t.Fatal(err)
	}
	if got.Blocks.Count() != want.Blocks.Count() || got.Found != 0 {
		t.Errorf("%d blocks and %d findings, want %d and none", got.Blocks.Count(), got.Found, want.Blocks.Count())
	}
	b, err := pool.Get(t.Context())
	if err != nil {
		t.Fatalf("the buffer was not given back: %v", err)
	}
	pool.Put(b)
}
