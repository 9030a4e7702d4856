// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// ionice asks the system for the priority of all threads of this process.
func ionice(t *testing.T) []string {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, thread := range threads {
		out, err := exec.Command("ionice", "-p", thread.Name()).Output()
		if err != nil {
			t.Fatalf("ionice -p %s: %v", thread.Name(), err)
		}
		all = append(all, strings.TrimSpace(string(out)))
	}
	return all
}

// All threads get the priority, those of before and those of afterwards.
func TestSetPriority(t *testing.T) {
	t.Cleanup(func() { _ = SetPriority(PriorityNormal) })
	hold := make(chan struct{})
	var held sync.WaitGroup
	thread := func() { // a thread of its own
		ready := make(chan struct{})
		held.Go(func() {
			runtime.LockOSThread()
			close(ready)
			<-hold
		})
		<-ready
	}
	defer held.Wait()
	defer close(hold)
	for p, want := range map[Priority]string{
		PriorityIdle: "idle", PriorityLow: "best-effort: prio 7", PriorityNormal: "best-effort: prio 4",
	} {
		thread()
		if err := SetPriority(p); err != nil {
			t.Fatal(err)
		}
		thread()
		got := ionice(t)
		if len(got) < 3 {
			t.Errorf("%d threads: this tests nothing", len(got))
		}
		for _, text := range got {
			if text != want {
				t.Errorf("priority %d: a thread has %q, want %q", p, text, want)
			}
		}
		before := got
		if err := SetPriority(PriorityUnset); err != nil {
			t.Fatal(err)
		}
		if got := ionice(t); got[0] != before[0] {
			t.Errorf("unset changed %q to %q", before[0], got[0])
		}
	}
}
