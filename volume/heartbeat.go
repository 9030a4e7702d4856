// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"io"
	"slices"

	"o2image/blockio"
	"o2image/ocfs2"
)

// HeartbeatRegion is where the nodes that mount a volume count up, each in a
// sector of its own, so that the others know that they are alive.
type HeartbeatRegion struct {
	off  int64 // bytes from the start of the volume
	size int   // bytes
}

// heartbeatBlocks is the size of the heartbeat file in blocks.
const heartbeatBlocks = ocfs2.HeartbeatNodes + 1

// HeartbeatRegion finds the heartbeat region: the first extent of the system
// file, which mkfs.ocfs2 makes in one piece.
func (v *Volume) HeartbeatRegion(ctx context.Context) (HeartbeatRegion, error) {
	d, err := v.SystemFile(ctx, "heartbeat")
	if err != nil {
		return HeartbeatRegion{}, fmt.Errorf("heartbeat: %w", err)
	}
	for e, err := range v.Extents(ctx, d) {
		if err != nil {
			return HeartbeatRegion{}, fmt.Errorf("heartbeat: %w", err)
		}
		if e.Logical == 0 && e.Blocks > 0 {
			return HeartbeatRegion{
				off:  int64(e.Blkno) << v.sb.BlockBits,
				size: int(min(e.Blocks, heartbeatBlocks)) << v.sb.BlockBits,
			}, nil
		}
	}
	return HeartbeatRegion{}, corrupt(d.Blkno(), []ocfs2.Fault{{Struct: "heartbeat", Field: "extents", Got: "none", Want: "room for all nodes"}})
}

// Beats is what a heartbeat region held at one moment.
type Beats []byte

// Read reads the region from r, whose offsets are those of the volume. It must
// go past all caches: other machines write there.
func (h HeartbeatRegion) Read(r io.ReaderAt) (Beats, error) {
	b := make(Beats, h.size)
	if err := blockio.ReadFull(r, b, h.off); err != nil {
		return nil, fmt.Errorf("read heartbeat at byte %d: %w", h.off, err)
	}
	return b, nil
}

// Never reports whether no node has ever beaten in the region.
func (b Beats) Never() bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
}

// Since returns the numbers of the nodes that have beaten since before was read,
// in ascending order: those nodes are alive.
func (b Beats) Since(before Beats) []int {
	var nodes []int
	for off := 0; off+ocfs2.HeartbeatUnit <= min(len(b), len(before)); off += ocfs2.HeartbeatUnit {
		unit := b[off:][:ocfs2.HeartbeatUnit]
		if string(unit) != string(before[off:][:ocfs2.HeartbeatUnit]) {
			nodes = append(nodes, beating(unit, off))
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// beating returns the number of the node whose heartbeat stands at off in the
// region. Its place depends on the sector size of the device, which an image
// does not tell: what the node says of itself is believed if it fits.
func beating(unit []byte, off int) int {
	beat, _ := ocfs2.DecodeHeartbeat(unit)
	for sector := ocfs2.HeartbeatUnit; sector <= ocfs2.MaxBlockSize; sector *= 2 {
		if off == int(beat.Node)*sector {
			return int(beat.Node)
		}
	}
	return off / ocfs2.HeartbeatUnit
}

// HasHeartbeat reports whether the nodes that mount the volume beat in its own
// heartbeat region: not where one node alone can mount it, where the heartbeat is
// on other devices, and where another cluster stack than o2cb is in charge.
func (v *Volume) HasHeartbeat() bool { return v.Clustered() && !v.beatsElsewhere() }

// Clustered reports whether more than one node can mount the volume.
func (v *Volume) Clustered() bool { return !v.sb.Incompat.Has(ocfs2.IncompatLocalMount) }

// o2cb is the name of the cluster stack that keeps a heartbeat on the volume.
const o2cb = "o2cb"

func (v *Volume) beatsElsewhere() bool {
	switch {
	case v.sb.Incompat.Has(ocfs2.IncompatUserspaceStack):
		return true
	case v.sb.Incompat.Has(ocfs2.IncompatClusterInfo):
		return v.sb.ClusterStack != o2cb || v.sb.ClusterFlags&ocfs2.ClusterGlobalHeartbeat != 0
	}
	return false
}
