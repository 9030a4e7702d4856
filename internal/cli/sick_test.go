// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// The FUSE library does not compile for 386, and the race detector sees nothing
// of another process.

//go:build !386 && !race

package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"o2image/internal/ocfs2test"
	"o2image/internal/ocfs2test/sickfs"
)

// started is the program under test, running.
type started struct {
	*exec.Cmd
	stderr bytes.Buffer
}

// start starts o2image, which must not run for ever.
func start(t *testing.T, args ...string) *started {
	t.Helper()
	// Whoever runs the tests may have signals ignored, and programs inherit that.
	s := &started{Cmd: exec.CommandContext(t.Context(), "env", append([]string{"--default-signal=HUP,INT,TERM", "o2image"}, args...)...)}
	s.Stderr = &s.stderr
	s.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, func() { _ = s.Process.Kill() })
	t.Cleanup(func() { late.Stop() })
	return s
}

// wait waits for the end of the program and returns its exit status.
func (s *started) wait() int {
	_ = s.Wait() // the status says it all
	return s.ProcessState.ExitCode()
}

// info returns what o2image info says about an image.
func info(t *testing.T, image string) string {
	t.Helper()
	out, err := exec.Command("o2image", "info", image).CombinedOutput()
	if err != nil {
		t.Fatalf("info: %v\n%s", err, out)
	}
	return string(out)
}

func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	first, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(b)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("%s and %s differ (%v)", a, b, err)
	}
}

// TestHangingBlock copies a volume of which one block never comes: the rest is
// in the image, and the program ends.
func TestHangingBlock(t *testing.T) {
	t.Parallel()
	sick := sickfs.Mount(t, ocfs2test.Unpack(t, "plain-b1k").Path, func(r sickfs.Read) syscall.Errno {
		if r.Touches(1<<20, 512) {
			return sickfs.Hang
		}
		return 0
	})
	dir := t.TempDir()
	out, mapFile := filepath.Join(dir, "out"), filepath.Join(dir, "map")
	run := start(t, "--read-timeout", "1", "--map", mapFile, sick.Path, out)
	if status := run.wait(); status != 3 {
		t.Fatalf("exit status %d: %s", status, run.stderr.String())
	}
	if text := info(t, out); !strings.Contains(text, "partial") || !strings.Contains(text, "block 1024 on") {
		t.Errorf("info says\n%s", text)
	}
	if text, err := os.ReadFile(mapFile); err != nil || !strings.Contains(string(text), "0x00100000  0x00001000  -") {
		t.Errorf("map: %v\n%s", err, text)
	}
}

// TestHangingStart opens a volume of which not even the first block comes.
func TestHangingStart(t *testing.T) {
	t.Parallel()
	sick := sickfs.Mount(t, ocfs2test.Unpack(t, "plain-b1k").Path, func(r sickfs.Read) syscall.Errno {
		return sickfs.Hang
	})
	out := filepath.Join(t.TempDir(), "out")
	run := start(t, "--read-timeout", "1", "--retries", "0", sick.Path, out)
	if status := run.wait(); status != 1 || !strings.Contains(run.stderr.String(), "does not answer") {
		t.Errorf("exit status %d: %s", status, run.stderr.String())
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("there is an image")
	}
}

// TestInterrupted ends runs by a signal while the device hangs: early on, in the
// walk, and in the copy.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	well := ocfs2test.Unpack(t, "plain-b1k").Path
	whole := filepath.Join(t.TempDir(), "whole")
	if status := start(t, well, whole).wait(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	for _, test := range []struct {
		signal syscall.Signal
		reads  int
		image  bool
	}{
		{syscall.SIGINT, 3, false},
		{syscall.SIGTERM, 12, true},
		{syscall.SIGINT, 30, true},
		{syscall.SIGHUP, 60, true},
	} {
		hangs := make(chan struct{})
		sick := sickfs.Mount(t, well, func(r sickfs.Read) syscall.Errno {
			if r.N < test.reads {
				return 0
			}
			if r.N == test.reads {
				close(hangs)
			}
			return sickfs.Hang
		})
		dir := t.TempDir()
		out, mapFile := filepath.Join(dir, "out"), filepath.Join(dir, "map")
		run := start(t, "--read-timeout", "0", "--map", mapFile, sick.Path, out)
		<-hangs
		if err := run.Process.Signal(test.signal); err != nil {
			t.Fatal(err)
		}
		if status := run.wait(); status != 128+int(test.signal) {
			t.Errorf("%v at read %d: exit status %d: %s", test.signal, test.reads, status, run.stderr.String())
		}
		if !test.image {
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%v at read %d: left behind: %v, %v", test.signal, test.reads, left, err)
			}
			continue
		}
		if !strings.Contains(run.stderr.String(), "o2image: interrupted: --map and --from") {
			t.Errorf("%v at read %d: it says %s", test.signal, test.reads, run.stderr.String())
		}
		if text := info(t, out); !strings.Contains(text, "partial") || !strings.Contains(text, "interrupted") {
			t.Errorf("%v at read %d: info says\n%s", test.signal, test.reads, text)
		}
		resumed := start(t, "--map", mapFile, "--from", out, well, out)
		if status := resumed.wait(); status != 0 {
			t.Errorf("%v at read %d: resumed: exit status %d: %s", test.signal, test.reads, status, resumed.stderr.String())
		}
		sameFiles(t, whole, out)
	}
}

// TestInterruptedRaw ends a run that makes a raw image by a signal: without a map
// nothing can go on from there.
func TestInterruptedRaw(t *testing.T) {
	t.Parallel()
	for _, withMap := range []bool{false, true} {
		hangs := make(chan struct{})
		sick := sickfs.Mount(t, ocfs2test.Unpack(t, "plain-b1k").Path, func(r sickfs.Read) syscall.Errno {
			if r.N < 30 {
				return 0
			}
			if r.N == 30 {
				close(hangs)
			}
			return sickfs.Hang
		})
		dir := t.TempDir()
		args := []string{"-r", "--read-timeout", "0", sick.Path, filepath.Join(dir, "out")}
		want := "o2image: interrupted: a new run makes a whole image; only with --map can it go on from a raw one\n"
		if withMap {
			args = append([]string{"--map", filepath.Join(dir, "map")}, args...)
			want = "o2image: interrupted: --map and --from make a whole image of this one\n"
		}
		run := start(t, args...)
		<-hangs
		if err := run.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if status := run.wait(); status != 130 || !strings.Contains(run.stderr.String(), want) {
			t.Errorf("with a map: %t: exit status %d: %s", withMap, status, run.stderr.String())
		}
	}
}

// TestConvertUnreadable converts an image from a disk that fails: all but the block
// that cannot be read is there.
func TestConvertUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	packed, whole, out := filepath.Join(dir, "packed"), filepath.Join(dir, "whole"), filepath.Join(dir, "out")
	if status := start(t, ocfs2test.Unpack(t, "plain-b1k").Path, packed).wait(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	if status := start(t, "convert", packed, whole).wait(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	sick := sickfs.Mount(t, packed, func(r sickfs.Read) syscall.Errno {
		if r.Touches(5<<20, 4096) {
			return syscall.EIO
		}
		return 0
	})
	run := start(t, "convert", sick.Path, out)
	if status := run.wait(); status != 3 || !strings.Contains(run.stderr.String(), "input/output error") {
		t.Fatalf("exit status %d: %s", status, run.stderr.String())
	}
	want, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil || len(got) != len(want) {
		t.Fatal(err, len(got), len(want))
	}
	text := bytes.Repeat([]byte("O2IMAGE-NOTREAD\n"), 64)
	lost := 0
	for at := 0; at < len(want); at += 1024 {
		if g := got[at:][:1024]; bytes.Equal(g, text) {
			lost++
		} else if !bytes.Equal(g, want[at:][:1024]) {
			t.Errorf("block %d is not that of the image", at>>10)
		}
	}
	if lost != 4 {
		t.Errorf("%d blocks were not read, want those of 4096 bytes", lost)
	}
}

// TestInterruptedTwice ends a run at once by a second signal.
func TestInterruptedTwice(t *testing.T) {
	t.Parallel()
	hangs := make(chan struct{})
	sick := sickfs.Mount(t, ocfs2test.Unpack(t, "plain-b1k").Path, func(r sickfs.Read) syscall.Errno {
		if r.N == 10 {
			close(hangs)
		}
		if r.N >= 10 {
			return sickfs.Hang
		}
		return 0
	})
	out := filepath.Join(t.TempDir(), "out")
	run := start(t, "--read-timeout", "0", sick.Path, out)
	<-hangs
	for range 20 { // until it does not take them any more
		if run.Process.Signal(syscall.SIGINT) != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = run.Wait()
	if st := run.ProcessState.Sys().(syscall.WaitStatus); st.Signal() != syscall.SIGINT && st.ExitStatus() != 130 {
		t.Errorf("ended with %v: %s", st, run.stderr.String())
	}
}
