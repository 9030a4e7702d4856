// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

// Limits and fixed places of the format.
const (
	SuperBlockBlkno = 2       // block number of the superblock (OCFS2_SUPER_BLOCK_BLKNO)
	MinBlockSize    = 512     // bytes
	MaxBlockSize    = 4096    // bytes
	MinClusterSize  = 4096    // bytes
	MaxClusterSize  = 1 << 20 // bytes
	MaxTreeDepth    = 16      // levels above the leaves; a real tree stays below 6
	MaxSlots        = 255     // node slots of a volume
	InvalidSlot     = 0xFFFF  // slot number of what belongs to no slot (OCFS2_INVALID_SLOT)
	BucketSize      = 4096    // bytes of an xattr bucket, whatever the block size
	bitsPerByte     = 8
)

// Geometry is what turns cluster and block numbers of a volume into each other.
type Geometry struct {
	BlockBits   uint8  // log2 of the block size in bytes, 9..12 (s_blocksize_bits)
	ClusterBits uint8  // log2 of the cluster size in bytes, 12..20 (s_clustersize_bits)
	Clusters    uint32 // length of the volume in clusters (i_clusters of the superblock)
}

// BlockSize returns the bytes of a block.
func (g Geometry) BlockSize() int { return 1 << g.BlockBits }

// ClusterSize returns the bytes of a cluster.
func (g Geometry) ClusterSize() int { return 1 << g.ClusterBits }

// BlocksPerCluster returns the blocks of a cluster, 1..2048.
func (g Geometry) BlocksPerCluster() uint64 { return 1 << (g.ClusterBits - g.BlockBits) }

// Blocks returns the length of the volume in blocks.
func (g Geometry) Blocks() uint64 { return uint64(g.Clusters) << (g.ClusterBits - g.BlockBits) }

// Bytes returns the length of the volume in bytes; the device may be longer.
func (g Geometry) Bytes() uint64 { return uint64(g.Clusters) << g.ClusterBits }

// ClusterBlock returns the first block of cluster c.
func (g Geometry) ClusterBlock(c uint32) uint64 {
	return uint64(c) << (g.ClusterBits - g.BlockBits)
}

// BlockCluster returns the cluster that holds a block of the volume.
func (g Geometry) BlockCluster(blkno uint64) uint32 {
	return uint32(blkno >> (g.ClusterBits - g.BlockBits)) //nolint:gosec // a block of the volume lies in a 32-bit cluster
}

// Contains reports whether the n blocks from start on may be read: none lies
// before the superblock or behind the volume's end.
func (g Geometry) Contains(start, n uint64) bool {
	blocks := g.Blocks()
	return start >= SuperBlockBlkno && start <= blocks && n <= blocks-start
}

// GroupBits returns the clusters of every group of the global bitmap but the
// last one (cl_cpg of global_bitmap).
func (g Geometry) GroupBits() int { return groupBitmapBytes(g.BlockSize()) * bitsPerByte }

// Groups returns the number of groups of the global bitmap.
func (g Geometry) Groups() int {
	per := uint64(g.GroupBits()) //nolint:gosec // positive
	return int((uint64(g.Clusters) + per - 1) / per)
}

// firstClusterGroup returns the block that s_first_cluster_group must name:
// the first one of the first whole cluster behind the superblock.
func (g Geometry) firstClusterGroup() uint64 {
	bpc := g.BlocksPerCluster()
	return (SuperBlockBlkno + bpc) / bpc * bpc
}

// GroupBlkno returns the block of the descriptor of group i of the global bitmap.
func (g Geometry) GroupBlkno(i int) uint64 {
	if i == 0 {
		return g.firstClusterGroup()
	}
	return uint64(i) * uint64(g.GroupBits()) << (g.ClusterBits - g.BlockBits) //nolint:gosec // not negative
}

// BucketBlocks returns the blocks of an xattr bucket, 1..8.
func (g Geometry) BucketBlocks() uint64 { return BucketSize >> g.BlockBits }
