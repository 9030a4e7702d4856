// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"io"
	"time"

	"o2image/volume"
)

// watch looks at the heartbeat of a volume twice: a node whose sector has changed
// in between is alive.
type watch struct {
	region volume.HeartbeatRegion
	r      io.ReaderAt // of the device, past all caches
	before volume.Beats
	since  time.Time
	took   time.Duration // from then to the last look
}

// newWatch looks for the first time. It returns nil if no node can beat on the
// volume in src, or none ever has.
func newWatch(ctx context.Context, src *Source) (*watch, error) {
	if src.packed != nil || src.zstd != nil || !src.vol.HasHeartbeat() {
		return nil, nil
	}
	region, err := src.vol.HeartbeatRegion(ctx)
	if err != nil {
		return nil, err
	}
	w := &watch{region: region, r: src.in, since: time.Now()}
	if w.before, err = region.Read(w.r); err != nil || w.before.Never() {
		return nil, err
	}
	return w, nil
}

// alive looks again, and returns the nodes that have beaten meanwhile.
func (w *watch) alive() ([]int, error) {
	now, err := w.region.Read(w.r)
	if err != nil {
		return nil, err
	}
	w.took = time.Since(w.since)
	return now.Since(w.before), nil
}

// seconds returns how long the heartbeat was watched; 0 if it was not.
func (w *watch) seconds() float64 {
	if w == nil {
		return 0
	}
	return w.took.Seconds()
}

// beatTime is how long a heartbeat is watched: a node that is alive beats every
// 2 seconds (O2HB_REGION_TIMEOUT_MS of fs/ocfs2/cluster/heartbeat.h).
const beatTime = 4 * time.Second

// aliveNow watches the heartbeat of the volume in src for beatTime, and returns
// the nodes that are alive.
func aliveNow(ctx context.Context, src *Source) ([]int, error) {
	w, err := newWatch(ctx, src)
	if w == nil {
		return nil, err
	}
	select {
	case <-time.After(beatTime):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return w.alive()
}
