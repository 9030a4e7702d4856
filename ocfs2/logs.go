// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"fmt"
	"iter"
)

// Offsets of ocfs2_local_alloc, in the block.
const (
	laBmOff  = 0xC0
	laSize   = 0xC4
	laBitmap = 0xD0
)

// LocalAlloc is a view of an ocfs2_local_alloc and of the inode around it: the
// clusters that a node has taken from the global bitmap in advance.
type LocalAlloc struct{ b []byte }

// FirstCluster returns la_bm_off, the first cluster of the window.
func (l LocalAlloc) FirstCluster() uint32 { return u32(l.b, laBmOff) }

// Size returns la_size, bytes of the bitmap area.
func (l LocalAlloc) Size() int { return int(u16(l.b, laSize)) }

// Clusters returns the clusters of the window (i_total), 0 if it is closed.
func (l LocalAlloc) Clusters() uint32 { return u32(l.b, iTotal) }

// Used returns the clusters of the window that are in use (i_used).
func (l LocalAlloc) Used() uint32 { return u32(l.b, iUsed) }

// Bitmap returns the bits of the window that lie in the block: bit i stands for
// cluster FirstCluster+i, set if in use.
func (l LocalAlloc) Bitmap() Bitmap {
	area := span(l.b, laBitmap, l.Size())
	return newBitmap(area, clampInt(uint64(l.Clusters()), len(area)*bitsPerByte))
}

// Faults returns the contradictions in the window.
func (l LocalAlloc) Faults(sb *SuperBlock) []Fault {
	f := faults{structure: "ocfs2_local_alloc"}
	f.exactly("la_size", l.Size(), max(0, len(l.b)-laBitmap))
	window := uint64(l.Clusters())
	if window == 0 {
		return f.found
	}
	if window > uint64(l.Size())*bitsPerByte { //nolint:gosec // from 16 bits
		f.within([]Fault{{"ocfs2_dinode", "i_total", decimal(window), fmt.Sprintf("at most %d bits", l.Size()*bitsPerByte)}})
		return f.found
	}
	if uint64(l.FirstCluster())+window > uint64(sb.Clusters) {
		f.add("la_bm_off", decimal(uint64(l.FirstCluster())), "a window inside the volume")
	}
	if used := uint64(l.Bitmap().Count()); used != uint64(l.Used()) { //nolint:gosec // not negative
		f.within([]Fault{{"ocfs2_dinode", "i_used", decimal(uint64(l.Used())), decimal(used)}})
	}
	return f.found
}

// Offsets of ocfs2_truncate_log, from its start, and of ocfs2_truncate_rec.
const (
	tlCount         = 0x00
	tlUsed          = 0x02
	tlRecs          = 0x08
	tStart          = 0x00
	tClusters       = 0x04
	truncateRecSize = 0x08
)

// TruncateRec is an ocfs2_truncate_rec: clusters that no file has any more.
type TruncateRec struct {
	Start    uint32 // t_start, first cluster; 0 if the record is unused
	Clusters uint32 // t_clusters
}

// TruncateLog is a view of an ocfs2_truncate_log. The zero log is empty.
type TruncateLog struct{ b []byte }

// Count returns tl_count, the capacity that the log claims.
func (l TruncateLog) Count() int { return int(u16(l.b, tlCount)) }

// Used returns tl_used, the records in use that the log claims.
func (l TruncateLog) Used() int { return int(u16(l.b, tlUsed)) }

// Cap returns the records for which there is room in the block.
func (l TruncateLog) Cap() int { return recordsIn(l.b, tlRecs, truncateRecSize) }

// Len returns the records in use that lie in the block.
func (l TruncateLog) Len() int { return min(l.Used(), l.Cap()) }

// Rec returns record i, 0 <= i < Len().
func (l TruncateLog) Rec(i int) TruncateRec {
	b := record(l.b, tlRecs, truncateRecSize, i)
	return TruncateRec{Start: u32(b, tStart), Clusters: u32(b, tClusters)}
}

// All returns the records in use with their numbers.
func (l TruncateLog) All() iter.Seq2[int, TruncateRec] { return records(l.Len, l.Rec) }

// Faults returns the contradictions in the log.
func (l TruncateLog) Faults(sb *SuperBlock) []Fault {
	f := faults{structure: "ocfs2_truncate_log"}
	f.exactly("tl_count", l.Count(), l.Cap())
	f.fits("tl_used", l.Used(), min(l.Count(), l.Cap()))
	for i, rec := range l.All() {
		if rec.Start != 0 && uint64(rec.Start)+uint64(rec.Clusters) > uint64(sb.Clusters) {
			f.add(fmt.Sprintf("tl_recs[%d].t_start", i), decimal(uint64(rec.Start)),
				decimal(uint64(rec.Clusters))+" clusters inside the volume")
		}
	}
	return f.found
}
