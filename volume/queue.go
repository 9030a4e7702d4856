// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"sync"
)

// task is a piece of the walk. It may queue others.
type task func(ctx context.Context)

// maxBulk is how many bulk tasks may wait before they go first.
const maxBulk = 4096

// queue holds the tasks of a walk. Tasks that lead to others go first, newest
// first, so that much work is known early and little waits; only when much
// bulk work waits does that go first, which bounds the queue.
type queue struct {
	mu      sync.Mutex
	changed sync.Cond
	leading []task
	bulky   []task
	running int
}

func newQueue() *queue {
	q := new(queue)
	q.changed.L = &q.mu
	return q
}

// near queues a task that reads little and leads to others.
func (q *queue) near(t task) { q.push(&q.leading, t) }

// bulk queues a task that reads much.
func (q *queue) bulk(t task) { q.push(&q.bulky, t) }

func (q *queue) push(stack *[]task, t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	*stack = append(*stack, t)
	q.changed.Signal()
}

// run does all tasks, and those that they queue, n at once. It returns the
// error of ctx if that ended first.
func (q *queue) run(ctx context.Context, n int) error {
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for t := q.next(); t != nil; t = q.next() {
				if ctx.Err() == nil {
					t(ctx)
				}
				q.done()
			}
		})
	}
	workers.Wait()
	return ctx.Err()
}

// next waits for a task; nil means that there will be none.
func (q *queue) next() task {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.leading)+len(q.bulky) == 0 {
		if q.running == 0 {
			return nil
		}
		q.changed.Wait()
	}
	stack := &q.leading
	if len(q.leading) == 0 || len(q.bulky) > maxBulk {
		stack = &q.bulky
	}
	last := len(*stack) - 1
	t := (*stack)[last]
	(*stack)[last] = nil
	*stack = (*stack)[:last]
	q.running++
	return t
}

// done ends a task; the last one wakes the workers that wait in vain.
func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	if q.running == 0 {
		q.changed.Broadcast()
	}
}
