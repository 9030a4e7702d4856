// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// figures are what one run of a program took.
type figures struct {
	wall     time.Duration // until what it wrote is on the disk
	cpu      time.Duration // user and system
	requests uint64        // system calls that read
	bytes    uint64        // that these returned
	peak     uint64        // bytes of memory, resident
}

// gather runs a command and adds its figures to a list. An old file out is
// removed before.
func gather(ctx context.Context, list *[]figures, out string, command ...string) error {
	if err := os.Remove(out); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := run(ctx, out, command...)
	*list = append(*list, f)
	return err
}

// run runs a command that writes the file out, or to a pipe if out is "-".
func run(ctx context.Context, out string, command ...string) (figures, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = io.Discard, &stderr // a pipe, not the null device
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return figures{}, err
	}
	f, err := observe(cmd.Process.Pid)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return figures{}, fmt.Errorf("%s: %w: %s", cmd, err, stderr.Bytes())
	}
	if out != "-" {
		if err = syncFile(out); err != nil {
			return figures{}, err
		}
	}
	f.wall = time.Since(start)
	f.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return f, nil
}

// dropCaches leaves nothing to write and nothing in the page cache.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// peakInterval is how often the peak of memory is looked at.
const peakInterval = 10 * time.Millisecond

// observe waits for the end of a child and returns what the kernel counted,
// without reaping it. The peak of memory is not that of wait4(2), which is at
// least the memory that this program had at the time of the fork.
func observe(pid int) (figures, error) {
	var f figures
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(peakInterval)
		defer tick.Stop()
		for {
			if status, err := procFile(pid, "status"); err == nil && status["VmHWM"] > 0 {
				f.peak = status["VmHWM"] << 10
			}
			select {
			case <-ended:
				return
			case <-tick.C:
			}
		}
	})
	err := waitEnd(pid)
	close(ended)
	watch.Wait()
	if err != nil {
		return f, err
	}
	counts, err := procFile(pid, "io")
	f.requests, f.bytes = counts["syscr"], counts["rchar"]
	return f, err
}

// waitEnd waits until the child has ended, and leaves it to be waited for.
func waitEnd(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// procFile returns the numbers in a file of /proc/PID.
func procFile(pid int, name string) (map[string]uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	return parseProc(string(b)), err
}

// parseProc reads lines "NAME: NUMBER" or "NAME: NUMBER UNIT" and skips others.
func parseProc(text string) map[string]uint64 {
	numbers := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		if fields := strings.Fields(value); len(fields) > 0 {
			if n, err := strconv.ParseUint(fields[0], 10, 64); err == nil {
				numbers[name] = n
			}
		}
	}
	return numbers
}
