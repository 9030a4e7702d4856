// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"encoding/binary"
	"testing"

	"o2image/ocfs2"
)

// TestGroupCount counts groups of sizes that a damaged allocator can claim: the
// largest is no int on a machine with 32 bits.
func TestGroupCount(t *testing.T) {
	t.Parallel()
	const (
		iFlags, iTotal, clCPG, clBPC = 0x2C, 0xBC, 0xC0, 0xC2
		isChain                      = 0x400
	)
	for _, test := range []struct {
		cpg, bpc uint16
		total    uint32
		want     uint64
	}{
		{256, 4, 4096, 4},
		{0, 4, 4096, 4096},
		{0x8000, 0xFFFF, 0xFFFFFFFF, 2},
		{0xFFFF, 0xFFFF, 0xFFFFFFFF, 1},
	} {
		b := make([]byte, 512)
		binary.LittleEndian.PutUint32(b[iFlags:], isChain)
		binary.LittleEndian.PutUint32(b[iTotal:], test.total)
		binary.LittleEndian.PutUint16(b[clCPG:], test.cpg)
		binary.LittleEndian.PutUint16(b[clBPC:], test.bpc)
		if got := groupCount(ocfs2.AsDinode(b)); got != test.want {
			t.Errorf("%+v: %d groups", test, got)
		}
	}
}
