// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"cmp"
	"context"
	"io"

	"o2image/blockio"
)

// Load is what a run may ask of the device that it reads, so that others who use
// it hardly notice. The zero value is as fast as it can be.
type Load struct {
	blockio.Pace

	// Keep is how much memory may hold, compressed, what a scan has read, so
	// that it is not read again, in bytes. 0 stands for 32 MiB, less for none.
	Keep int

	// Priority is for the whole process, and stays.
	Priority blockio.Priority
}

// keep returns how many bytes may be kept.
func (l Load) keep() int { return max(cmp.Or(l.Keep, 32<<20), 0) }

// sharedJobs is how many reads are under way at once, unless it is said, on a
// device on which a cluster beats: a node whose beat comes late is fenced.
const sharedJobs = 4

// yield reads the source with few jobs and low priority if it is a device on
// which a cluster beats, as far as load does not say how to read it.
func (s *Source) yield(ctx context.Context, load Load) {
	if !s.dev.IsBlock() || !s.vol.HasHeartbeat() {
		return
	}
	region, err := s.vol.HeartbeatRegion(ctx)
	if err != nil {
		return
	}
	if beats, err := region.Read(s.dev); err != nil || beats.Never() {
		return
	}
	if load.Jobs == 0 {
		s.pace.LimitJobs(sharedJobs)
	}
	if load.Priority == blockio.PriorityUnset {
		// Where it cannot be set the few jobs have to do.
		_ = blockio.SetPriority(blockio.PriorityLow)
	}
}

// paced is a device that is read through something else.
type paced struct {
	*blockio.Device
	through io.ReaderAt
}

// ReadAt implements [io.ReaderAt].
func (p paced) ReadAt(b []byte, off int64) (int, error) { return p.through.ReadAt(b, off) }
