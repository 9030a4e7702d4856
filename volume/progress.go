// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"sync/atomic"

	"o2image/ocfs2"
)

// progress counts the blocks that a walk reads of the allocators: by far the
// most of what it reads.
type progress struct {
	tell        func(done, total uint64) // nil if nobody wants to know
	done, total atomic.Uint64
}

// expect counts the blocks of an allocator that the walk will read: all, but of
// clusters the descriptors alone.
func (p *progress) expect(r role, chains ocfs2.ChainList, bits uint64) {
	if r == roleClusters {
		group := max(uint64(chains.CPG())*uint64(chains.BPC()), 1) //nolint:gosec // from 16 bits
		bits = (bits + group - 1) / group
	}
	p.total.Add(bits)
}

// read counts n blocks that have been read, or need not be.
func (p *progress) read(n int) {
	done := p.done.Add(uint64(n)) //nolint:gosec // not negative
	if p.tell != nil {
		p.tell(done, max(done, p.total.Load()))
	}
}
