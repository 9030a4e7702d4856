// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"o2image/blockio"
	"o2image/image"
)

// TestMissing wants that what is remembered of blocks that were not read is in
// proportion to the pieces that they are in, which come in any order.
func TestMissing(t *testing.T) {
	t.Parallel()
	const bs, piece = 512, 2048 // blocks
	text := bytes.Repeat([]byte(notRead), piece*bs/len(notRead))
	for name, leave := range map[string]func(c *copier, blkno uint64, b []byte){
		"stopped": func(c *copier, blkno uint64, b []byte) { c.leaveOut(blkno, b, blockio.ErrStopped) },
		"texts":   func(c *copier, blkno uint64, b []byte) { c.markAbsent(blkno, b) },
	} {
		c := &copier{blockSize: bs, texts: true}
		for _, n := range []uint64{4, 0, 1, 7, 3} {
			leave(c, n*piece, bytes.Clone(text))
		}
		part := make([]byte, 3*bs)
		copy(part[bs:], text[:bs])
		c.markAbsent(20*piece, part)
		if len(c.notRead) > 6 {
			t.Errorf("%s: %d runs for 6 pieces", name, len(c.notRead))
		}
		want := []image.Run{
			{Start: 0, Len: 2 * piece},
			{Start: 3 * piece, Len: 2 * piece},
			{Start: 7 * piece, Len: piece},
			{Start: 20*piece + 1, Len: 1},
		}
		if diff := cmp.Diff(want, c.missing()); diff != "" {
			t.Errorf("%s: missing (-want +got):\n%s", name, diff)
		}
	}
}
