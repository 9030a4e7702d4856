// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Priority is the priority that the system gives to the reads and writes of
// this process, where the scheduler of the device knows priorities.
type Priority int

// The priorities. PriorityUnset leaves what the process was started with.
const (
	PriorityUnset  Priority = iota
	PriorityNormal          // best effort, level 4: the default of the system
	PriorityLow             // best effort, level 7, the last
	PriorityIdle            // only while nobody else uses the device
)

// A value of ioprio_set(2) is a class above 13 bits of level; the process of
// its second argument is a thread.
const (
	ioprioClassShift = 13
	ioprioBestEffort = 2
	ioprioIdle       = 3
	ioprioWhoProcess = 1
)

func (p Priority) value() uintptr {
	switch p {
	case PriorityLow:
		return ioprioBestEffort<<ioprioClassShift | 7
	case PriorityIdle:
		return ioprioIdle << ioprioClassShift
	default:
		return ioprioBestEffort<<ioprioClassShift | 4
	}
}

// SetPriority gives this process a priority: all its threads, and those that
// they will start.
func SetPriority(p Priority) error {
	if p == PriorityUnset {
		return nil
	}
	// A thread inherits the priority of the one that starts it. While one that
	// has none yet starts another, a second look is needed.
	for {
		changed, err := setThreads(p.value())
		if err != nil || !changed {
			return err
		}
	}
}

// setThreads gives all threads a value, and reports whether any had another.
func setThreads(value uintptr) (changed bool, err error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err != nil {
			continue // not a thread
		}
		done, err := setThread(uintptr(tid), value)
		if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
			return changed, err
		}
		changed = changed || done
	}
	return changed, nil
}

func setThread(tid, value uintptr) (changed bool, err error) {
	now, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, tid, 0)
	if errno == 0 && now == value {
		return false, nil
	}
	_, _, errno = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, tid, value)
	if errno != 0 {
		return false, os.NewSyscallError("ioprio_set", errno)
	}
	return true, nil
}
