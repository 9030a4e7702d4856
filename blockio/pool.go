// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"context"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Pool lends buffers of one size that begin at a page, as O_DIRECT wants them.
// No more than a given number of them are out at once, which bounds memory. Its
// methods may be called concurrently.
type Pool struct {
	size int
	free chan []byte // one element per buffer that is not out; nil is one not made yet

	mu     sync.Mutex
	closed bool
}

// NewPool returns a pool of at most limit buffers of size bytes each; both are
// greater than 0. A buffer takes memory when it is used first.
func NewPool(size, limit int) *Pool {
	p := &Pool{size: size, free: make(chan []byte, limit)}
	for range limit {
		p.free <- nil
	}
	return p
}

// Get lends a buffer, whose contents may be anything. While all are out it
// waits. The error is that of ctx, or of the system when it has no memory.
func (p *Pool) Get(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case b, ok := <-p.free:
		if !ok {
			return nil, fs.ErrClosed
		}
		if b != nil {
			return b, nil
		}
		b, err := p.allocate()
		if err != nil {
			p.give(nil)
		}
		return b, err
	}
}

func (p *Pool) allocate() ([]byte, error) {
	b, err := unix.Mmap(-1, 0, p.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	return b, os.NewSyscallError("mmap", err)
}

// Replace lends a buffer in place of one that a read got lost in, see [ErrLost].
// That one is never used again.
func (p *Pool) Replace(lost []byte) ([]byte, error) {
	b, err := p.allocate()
	if err != nil {
		return lost, err
	}
	return b[:len(lost)], nil
}

// Put takes back a buffer, or the beginning of one, that [Pool.Get] lent. The
// caller has no more use of it.
func (p *Pool) Put(b []byte) { p.give(b[:cap(b)]) }

func (p *Pool) give(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		unmap(b)
		return
	}
	p.free <- b
}

// Close gives the memory back, that of buffers which are still out when they
// are put back.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	close(p.free)
	for b := range p.free {
		unmap(b)
	}
}

// unmap cannot fail for memory that came from Mmap.
func unmap(b []byte) {
	if b != nil {
		_ = unix.Munmap(b)
	}
}
