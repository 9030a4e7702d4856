// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package ocfs2 is the disk format of OCFS2, revision 0.90: bytes in, values
// out. It reads no file and keeps no state.
//
// Every structure has a view, a small value over the bytes of one whole block,
// made with a function whose name starts with As ([AsDinode], [AsGroupDesc]).
// A view takes whatever the block holds: its accessors return the fields as
// they stand, lists are cut to what fits in the block, and a field beyond the
// end of the bytes reads as zero. What contradicts the format is told by a
// separate method, Faults:
//
//	sb, err := ocfs2.DecodeSuperBlock(block, ocfs2.SuperBlockBlkno)
//	...
//	inode := ocfs2.AsDinode(block)
//	for _, fault := range inode.Faults(blkno, sb) {
//		log.Printf("block %d: %v", blkno, fault)
//	}
//	for _, rec := range inode.Extents().All() {
//		...
//	}
//
// A view aliases the block it was made from and never changes it. Only
// [Kind.UpdateECC] and [RepairBit] write.
//
// Integers on disk are little-endian, but for the journal, which is
// big-endian. Block numbers count blocks of the volume, cluster numbers count
// clusters; both start at the start of the volume.
package ocfs2
