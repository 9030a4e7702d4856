// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// Pace says how gently a device is read. The zero value is as fast as it can be.
type Pace struct {
	Jobs int   // how many reads are under way at once; 0: no limit, or 4 with a Rate
	Rate int64 // bytes per second; 0: no limit
}

// Throttle reads through to another reader at a [Pace]. Its methods may be
// called concurrently.
type Throttle struct {
	r    io.ReaderAt
	ctx  context.Context //nolint:containedctx // lives for one opened source
	jobs chan struct{}   // an element per read under way; nil: no limit
	unit int             // the largest read, in bytes; 0: no limit

	mu      sync.Mutex
	perByte float64   // seconds
	next    time.Time // when the next read may start
}

const (
	// beat is the time that one read at a limited rate may stand for.
	beat = time.Second / 20
	// minUnit and maxUnit are the smallest and the largest piece of a read at a
	// limited rate, in bytes.
	minUnit, maxUnit = 4096, 1 << 20
	// pacedJobs is how many reads share a limited rate: enough to wait for a
	// device together, few enough for each to end soon.
	pacedJobs = 4
)

// NewThrottle returns a reader of r that keeps to a pace. When ctx ends, reads
// that wait for their turn fail with its cause.
func NewThrottle(ctx context.Context, r io.ReaderAt, pace Pace) *Throttle {
	t := &Throttle{r: r, ctx: ctx}
	if pace.Rate > 0 {
		pace.Jobs = cmp.Or(pace.Jobs, pacedJobs)
		t.perByte = 1 / float64(pace.Rate)
		unit := float64(pace.Rate) * beat.Seconds()
		t.unit = int(min(max(unit, minUnit), maxUnit)) / minUnit * minUnit
	}
	if pace.Jobs > 0 {
		t.LimitJobs(pace.Jobs)
	}
	return t
}

// LimitJobs sets how many reads are under way at once, which is greater than 0.
// It must not be called at the same time as ReadAt.
func (t *Throttle) LimitJobs(n int) { t.jobs = make(chan struct{}, n) }

// Jobs returns how many reads are under way at once at most, 0 for no limit.
func (t *Throttle) Jobs() int { return cap(t.jobs) }

// ReadAt implements [io.ReaderAt]. Where the rate is limited a long read is made
// in pieces, so that the device is busy all the time and never for long. Errors
// are those of the reader; of a [*BadError] all pieces have their part.
func (t *Throttle) ReadAt(p []byte, off int64) (int, error) {
	if t.jobs != nil {
		select {
		case t.jobs <- struct{}{}:
			defer func() { <-t.jobs }()
		case <-t.ctx.Done():
			return 0, context.Cause(t.ctx)
		}
	}
	if t.unit == 0 {
		return t.r.ReadAt(p, off)
	}
	var (
		done = 0
		bad  []BadRange
	)
	for {
		part := p[done:min(done+t.unit, len(p))]
		if err := t.wait(len(part)); err != nil {
			return done, err
		}
		n, err := t.r.ReadAt(part, off+int64(done))
		if missing, ok := errors.AsType[*BadError](err); ok {
			bad = append(bad, missing.Ranges...)
			n, err = len(part), nil
		}
		done += n
		if err == nil && done == len(p) && bad != nil {
			return int(bad[0].Off - off), &BadError{bad}
		}
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// wait returns when it is the turn of a read of n bytes.
func (t *Throttle) wait(n int) error {
	delay := time.NewTimer(t.reserve(n))
	defer delay.Stop()
	select {
	case <-delay.C:
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

// reserve takes the next turn, for n bytes, and returns how far off it is.
// Time that nobody used is lost: it does not make what follows faster.
func (t *Throttle) reserve(n int) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.next.Before(now) {
		t.next = now
	}
	delay := t.next.Sub(now)
	// No turn is longer than a day: a time far away would overflow.
	seconds := min(float64(n)*t.perByte, 24*3600)
	t.next = t.next.Add(time.Duration(seconds * float64(time.Second)))
	return delay
}
