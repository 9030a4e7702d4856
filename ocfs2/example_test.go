// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"o2image/ocfs2"
)

// An inode as it comes from disk: its fields, and what is wrong with it.
func ExampleDinode() {
	block := make([]byte, 4096) // block 5121 of a volume
	copy(block, "INODE01\x00")
	le := binary.LittleEndian
	le.PutUint16(block[0x28:], 0o100644)       // i_mode
	le.PutUint32(block[0x2C:], 1)              // i_flags
	le.PutUint64(block[0x50:], 81234)          // i_blkno
	le.PutUint16(block[0xC2:], (4096-0xD0)/16) // l_count
	le.PutUint16(block[0xC4:], 1)              // l_next_free_rec
	le.PutUint16(block[0xD4:], 2)              // e_leaf_clusters
	le.PutUint64(block[0xD8:], 6400)           // e_blkno
	le.PutUint32(block[0x14:], 2)              // i_clusters
	volume := &ocfs2.SuperBlock{
		Geometry: ocfs2.Geometry{BlockBits: 12, ClusterBits: 12, Clusters: 100000},
		MaxSlots: 4,
	}

	inode := ocfs2.AsDinode(block)
	fmt.Println(inode.Union(), inode.IsRegular())
	for _, rec := range inode.Extents().All() {
		fmt.Println(rec.Clusters, "clusters from block", rec.Blkno)
	}
	for _, fault := range inode.Faults(5121, volume) {
		fmt.Println(fault)
	}
	// Output:
	// extent list true
	// 2 clusters from block 6400
	// ocfs2_dinode i_blkno: got 81234, want 5121
}

func BenchmarkDinode(b *testing.B) {
	block := make([]byte, 4096)
	var sum uint64
	b.ReportAllocs()
	for b.Loop() {
		d := ocfs2.AsDinode(block)
		sum += d.Blkno() + d.Size() + uint64(d.Mode()) + uint64(d.Flags()) + uint64(d.Extents().Len())
	}
	_ = sum
}
