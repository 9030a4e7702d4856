// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"testing"

	"o2image/blockio"
	"o2image/blockset"
	"o2image/ocfs2"
)

// TestClaimantsSayOnce has inodes read a second time, for what they claim. That they
// cannot be read was said the first time.
func TestClaimantsSayOnce(t *testing.T) {
	t.Parallel()
	sb := &ocfs2.SuperBlock{Geometry: ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 1000}}
	w := &walk{
		v:     &Volume{r: bytes.NewReader(nil), sb: sb}, // no block is there
		set:   blockset.NewBuilder(),
		bufs:  blockio.NewPool(BufferSize, 1),
		queue: newQueue(),
	}
	defer w.bufs.Close()
	for _, ino := range []uint64{100, 101, 500} {
		w.inodes.add(ino)
	}
	w.claimants(t.Context())
	for _, f := range w.findings.sorted() {
		t.Errorf("said again: %s", f)
	}
}
