// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"
)

func TestLine(t *testing.T) {
	t.Parallel()
	older := []figures{
		{wall: 9 * time.Second, cpu: 3 * time.Second, requests: 900, bytes: 9 << 20, peak: 2 << 20},
		{wall: time.Second, cpu: time.Second, requests: 100, bytes: 1 << 20, peak: 3 << 20},
		{wall: 4 * time.Second, cpu: 2 * time.Second, requests: 300, bytes: 4 << 20, peak: 9 << 20},
	}
	newer := []figures{
		{wall: 600 * time.Millisecond, cpu: 100 * time.Millisecond, requests: 7, bytes: 4 << 20, peak: 20 << 20},
		{wall: 400 * time.Millisecond, cpu: 300 * time.Millisecond, requests: 9, bytes: 4 << 20, peak: 30 << 20},
	}
	want := "| S | raw | 4.00 | 0.50 | **8.0** | 2.0 / 0.2 | 300 / 8 | 4 / 4 | 3 / 25 |"
	if got := line("S", "raw", older, newer); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestParseDelays(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]time.Duration{
		"":          nil,
		"500us,5ms": {500 * time.Microsecond, 5 * time.Millisecond},
	} {
		if got, err := parseDelays(list); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
	if _, err := parseDelays("5"); err == nil {
		t.Error("no unit: no error")
	}
}

func TestParseProc(t *testing.T) {
	t.Parallel()
	got := parseProc("Name:\tcat\nVmHWM:\t    1234 kB\nsyscr: 10\n\n")
	if want := (map[string]uint64{"VmHWM": 1234, "syscr": 10}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// dd reads a file in requests of known number and size.
func TestRunCounts(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	if err := os.WriteFile(in, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	f, err := run(t.Context(), out, "sh", "-c", `exec dd if="$1" of="$2" bs=1024`, "sh", in, out)
	if err != nil {
		t.Fatal(err)
	}
	const requests, start = 3<<10 + 1, 50 // the last one finds the end; libraries are read at the start
	if f.requests < requests || f.requests > requests+start {
		t.Errorf("%d requests, want %d and a few", f.requests, requests)
	}
	if f.bytes < 3<<20 || f.bytes > 4<<20 {
		t.Errorf("%d bytes", f.bytes)
	}
	if f.wall <= 0 || f.peak == 0 || f.peak > 64<<20 {
		t.Errorf("%v, peak %d", f.wall, f.peak)
	}
}

// Requests of a slow volume are answered late, but at the same time.
func TestSlowVolume(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	want := make([]byte, 3<<20)
	for i := range want {
		want[i] = byte(i >> 12)
	}
	if err := os.WriteFile(image, want, 0o600); err != nil {
		t.Fatal(err)
	}
	mount := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	const delay = 50 * time.Millisecond
	slow, err := mountSlow(image, mount, delay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := slow.close(); err != nil {
			t.Error(err)
		}
	})
	f, err := os.Open(slow.path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const readers = 32
	got := make([]byte, len(want))
	start := time.Now()
	var all sync.WaitGroup
	for i := range readers {
		part := len(want) / readers
		all.Go(func() {
			if _, err := f.ReadAt(got[i*part:][:part], int64(i*part)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if took := time.Since(start); took < delay || took > readers*delay/2 {
		t.Errorf("%d requests took %v", readers, took)
	}
	if !bytes.Equal(got, want) {
		t.Error("not what the file holds")
	}
}
