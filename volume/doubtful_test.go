// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"o2image/internal/ocfs2test"
	"o2image/ocfs2"
	"o2image/volume"
)

// TestFreeClusters has a quota file point to a free cluster. While a journal waits
// to be replayed the bitmap may lag behind the file; afterwards one of them is
// wrong.
func TestFreeClusters(t *testing.T) {
	const offDirty, offBlkno = 0xB8, 0xC0 + 0x10 + 8 // id1.journal1.ij_flags; id2.i_list.l_recs[0].e_blkno
	v, f := openFile(t, ocfs2test.Unpack(t, "quota").Path)
	sb := v.Super()
	patched := func(name string, off int, patch []byte) (at int64, block []byte) {
		d, err := v.SystemFile(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		block = bytes.Clone(d.Bytes())
		copy(block[off:], patch)
		if sb.HasECC() {
			ocfs2.KindInode.UpdateECC(block)
		}
		return int64(d.Blkno()) << sb.BlockBits, block //nolint:gosec // inside the volume
	}
	group, err := v.ReadBlock(t.Context(), sb.FirstClusterGroup)
	if err != nil {
		t.Fatal(err)
	}
	var free uint64
	for first := range ocfs2.AsGroupDesc(group).Bitmap().ClearRuns() {
		free = uint64(first) * sb.BlocksPerCluster() //nolint:gosec // not negative
		break
	}
	quota, pointer := patched("aquota.user", offBlkno, binary.LittleEndian.AppendUint64(nil, free))
	journal, dirty := patched("journal:0000", offDirty, []byte{1})

	_, meta := walkBroken(t, broken{ReaderAt: f, patches: map[int64][]byte{quota: pointer}})
	if c, ok := meta.Blocks.Tag(free); !ok || volume.Class(c) != volume.ClassDoubtful {
		t.Errorf("block %d: class %v, want %v", free, volume.Class(c), volume.ClassDoubtful)
	}
	if meta.Complete() {
		t.Errorf("the file is not said to lack its blocks: %v", meta.Findings)
	}
	_, meta = walkBroken(t, broken{ReaderAt: f, patches: map[int64][]byte{quota: pointer, journal: dirty}})
	if c, ok := meta.Blocks.Tag(free); !ok || volume.Class(c) != volume.ClassSystem {
		t.Errorf("with a dirty journal: block %d: class %v, want %v", free, volume.Class(c), volume.ClassSystem)
	}
	if !meta.Complete() {
		t.Errorf("with a dirty journal: %v", meta.Findings)
	}
}
