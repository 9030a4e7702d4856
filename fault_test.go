// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// The race detector sees nothing of another process.

//go:build amd64 && !race

package o2image_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"o2image"
	"o2image/internal/ocfs2test"
	"o2image/internal/ocfs2test/faults"
)

// capture is a way to run the program so that it writes an image.
type capture struct {
	name    string
	options []string
	old     bool // there is an image already
	linked  bool // and it has a second name, so that it is written in place
	stdout  bool // the image goes to standard output, which is a file
	pipe    bool // which is a pipe
	faults  []faults.Fault
}

var (
	broken      = faults.Fault{Errno: syscall.EIO}
	quota       = faults.Fault{Errno: syscall.EDQUOT}
	interrupted = faults.Fault{Errno: syscall.EINTR}
	again       = faults.Fault{Errno: syscall.EAGAIN}
	short       = faults.Fault{Short: true}
)

var captures = []capture{
	{name: "packed", faults: []faults.Fault{broken, interrupted, short}},
	{name: "replaced", old: true, faults: []faults.Fault{broken, interrupted}},
	{name: "in place", old: true, linked: true, faults: []faults.Fault{broken, short}},
	{name: "raw", options: []string{"-r"}, faults: []faults.Fault{broken}},
	{name: "raw in place", options: []string{"-r"}, old: true, linked: true, faults: []faults.Fault{broken}},
	{name: "zstd", options: []string{"--zstd"}, faults: []faults.Fault{broken, quota, short}},
	{name: "zstd in place", options: []string{"--zstd"}, old: true, linked: true, faults: []faults.Fault{broken}},
	{name: "stdout", stdout: true, faults: []faults.Fault{broken, quota, interrupted, short}},
	{name: "raw stdout", options: []string{"-r"}, stdout: true, faults: []faults.Fault{broken}},
	{name: "pipe", pipe: true, faults: []faults.Fault{broken, again}},
}

// inPlace reports whether the image is written under its own name.
func (c capture) inPlace() bool { return c.linked || c.stdout || c.pipe }

// oldImage is what is in an image before it is written. No program takes it for one.
var oldImage = []byte("an old image")

// scene is a folder in which an image is made.
type scene struct {
	capture
	dir, image string // their paths
	stderr     string // the path of what was said
}

// captured is what came of a run.
type captured struct {
	faults.Result
	stderr string
	image  []byte   // nil if there is none
	extra  []string // other files in the folder of the image
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newScene(t *testing.T, c capture) scene {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	dir := filepath.Join(base, "out")
	s := scene{capture: c, dir: dir, image: filepath.Join(dir, "image"), stderr: filepath.Join(base, "stderr")}
	must(t, os.Mkdir(dir, 0o700))
	if c.old {
		must(t, os.WriteFile(s.image, oldImage, 0o600))
	}
	if c.linked {
		must(t, os.Link(s.image, filepath.Join(dir, "other")))
	}
	return s
}

// run runs the program.
func (s scene) run(t *testing.T, program, volume string, fault faults.Fault) captured {
	t.Helper()
	stderr, err := os.Create(s.stderr)
	must(t, err)
	defer stderr.Close()
	cmd := faults.Command{
		Args:   append(append([]string{program}, s.options...), volume, s.image),
		Env:    []string{"SOURCE_DATE_EPOCH=1700000000"},
		Stderr: stderr,
	}
	piped := make(chan []byte, 1)
	switch {
	case s.pipe:
		cmd.Args[len(cmd.Args)-1] = "-"
		r, w, err := os.Pipe()
		must(t, err)
		_, err = unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, 1<<20)
		must(t, err)
		defer r.Close()
		go func() {
			b, _ := io.ReadAll(r)
			piped <- b
		}()
		cmd.Stdout = w
	case s.stdout:
		cmd.Args[len(cmd.Args)-1] = "-"
		cmd.Stdout, err = os.Create(s.image)
		must(t, err)
	}
	fault.Dir = s.dir
	var got captured
	got.Result, err = faults.Run(cmd, fault)
	must(t, err)
	if cmd.Stdout != nil {
		cmd.Stdout.Close()
	}
	text, err := os.ReadFile(s.stderr)
	must(t, err)
	got.stderr = string(text)
	if s.pipe {
		got.image = <-piped
	} else if got.image, err = os.ReadFile(s.image); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.dir)
	must(t, err)
	for _, e := range entries {
		if name := e.Name(); name != "image" && name != "other" {
			got.extra = append(got.extra, name)
		}
	}
	return got
}

func hashFile(t *testing.T, name string) [sha256.Size]byte {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	must(t, err)
	return [sha256.Size]byte(h.Sum(nil))
}

// untouched returns a volume that must be as it was when the test ends.
func untouched(t *testing.T) string {
	t.Helper()
	volume := ocfs2test.Unpack(t, "min-b1k-c4k").Path
	before := hashFile(t, volume)
	t.Cleanup(func() {
		if hashFile(t, volume) != before {
			t.Error("the volume has changed")
		}
	})
	return volume
}

// TestOutputFaults has every system call fail in turn that the program makes on
// its output, and checks that it then says so or makes a whole image all the same.
func TestOutputFaults(t *testing.T) {
	program, volume := buildProgram(t), untouched(t)
	for _, c := range captures {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			whole := newScene(t, c).run(t, program, volume, faults.Fault{})
			if whole.Status.ExitStatus() != 0 || whole.stderr != "" {
				t.Fatalf("without a fault: status %x\n%s", whole.Status, whole.stderr)
			}
			for _, fault := range c.faults {
				for fault.N = 1; ; fault.N++ {
					s := newScene(t, c)
					got := s.run(t, program, volume, fault)
					if got.Hit == "" {
						break
					}
					s.judge(t, fault, got, whole.image)
				}
				t.Logf("%d calls, error %v", fault.N-1, fault.Errno)
				if fault.N == 1 {
					t.Errorf("no call was hit with error %v", fault.Errno)
				}
			}
		})
	}
}

// claimsWhole reports whether a file is taken for a whole image. One that only
// lacks its trailer opens, and is called cut off when the trailer is asked for.
func claimsWhole(t *testing.T, name string) bool {
	t.Helper()
	src, err := o2image.Open(t.Context(), name)
	if err != nil {
		return false
	}
	defer src.Close()
	_, err = src.Report()
	return err == nil
}

// judge checks what came of a fault.
func (s scene) judge(t *testing.T, fault faults.Fault, got captured, whole []byte) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("call %d, %s, error %v, status %x:", fault.N, got.Hit, fault.Errno, got.Status)
		t.Errorf(format+"\n%s", append(args, got.stderr)...)
	}
	if len(got.extra) > 0 && !strings.HasPrefix(got.Hit, "unlinkat") {
		fail("left behind: %q", got.extra)
	}
	same := bytes.Equal(got.image, whole)
	switch {
	case !got.Status.Exited() || got.Status.ExitStatus() > 1:
		fail("neither done nor failed")
	case got.Status.ExitStatus() == 0:
		if !same || got.stderr != "" {
			fail("done, but the image is not whole")
		}
		return
	case fault.Errno == 0:
		fail("a short write is no fault")
	}
	name := s.image
	if s.stdout || s.pipe {
		name = "-"
	}
	cause := fault.Errno.Error()
	message, advice, _ := strings.Cut(got.stderr, "\n")
	if !strings.Contains(message, cause[1:]) || !strings.Contains(message, `"`+name+`"`) {
		fail("the message does not name the output and the cause")
	}
	if wantsAdvice := fault.Errno == quota.Errno && strings.Contains(message, "while writing"); wantsAdvice != strings.Contains(advice, "--zstd") || !wantsAdvice && advice != "" {
		fail("what the user can do is not said, or where nothing helps")
	}
	if same || s.pipe || got.image == nil && !s.inPlace() || s.old && bytes.Equal(got.image, oldImage) {
		return
	}
	if !s.inPlace() {
		fail("half an image")
	}
	if s.stdout && s.options != nil {
		return // the head of a raw image is all that there can be
	}
	if claimsWhole(t, s.image) {
		fail("half an image that claims to be whole")
	}
}

// TestKilled kills the program with SIGKILL at every system call that it makes
// on its output, and at 200 points anywhere. What is left is never taken for a
// whole image, and does not disturb the next run.
func TestKilled(t *testing.T) {
	program, volume := buildProgram(t), untouched(t)
	for _, c := range captures {
		if c.stdout || c.pipe {
			continue // whoever opened it sees that the program was killed
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			whole := newScene(t, c).run(t, program, volume, faults.Fault{All: true})
			kill := faults.Fault{Kill: true}
			for kill.N = 1; ; kill.N++ {
				if !newScene(t, c).kill(t, program, volume, kill, whole.image) {
					break
				}
			}
			if kill.N < 5 {
				t.Errorf("killed only %d times", kill.N-1)
			}
			kill.All = true
			random := rand.New(rand.NewPCG(1, uint64(len(c.name))))
			for range 30 {
				kill.N = 1 + random.IntN(whole.Calls)
				newScene(t, c).kill(t, program, volume, kill, whole.image)
			}
		})
	}
}

// kill runs the program, which is killed, and then again. It reports whether the
// program was killed.
func (s scene) kill(t *testing.T, program, volume string, kill faults.Fault, whole []byte) bool {
	t.Helper()
	got := s.run(t, program, volume, kill)
	if got.Hit == "" {
		return false
	}
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("killed at call %d (all: %v), %s:", kill.N, kill.All, got.Hit)
		t.Errorf(format, args...)
	}
	if !got.Status.Signaled() || got.Status.Signal() != syscall.SIGKILL {
		fail("status %x\n%s", got.Status, got.stderr)
	}
	untouched := got.image == nil || s.old && bytes.Equal(got.image, oldImage)
	if !untouched && !bytes.Equal(got.image, whole) {
		if !s.inPlace() {
			fail("half an image")
		}
		if claimsWhole(t, s.image) {
			fail("half an image that claims to be whole")
		}
		for _, packed := range []bool{false, true} {
			if list := ocfs2test.Debugfs(t, s.image, packed, "ls -l //"); strings.Contains(list, "global_bitmap") {
				fail("debugfs.ocfs2 opens it (packed: %v):\n%s", packed, list)
			}
		}
	}
	for _, name := range got.extra {
		if !strings.HasPrefix(name, ".image.o2image-unfinished-") {
			fail("left behind: %q", name)
		}
	}
	again := s.run(t, program, volume, faults.Fault{})
	if again.Status.ExitStatus() != 0 || !bytes.Equal(again.image, whole) || !slices.Equal(got.extra, again.extra) {
		fail("the next run: status %x, files besides the image %q\n%s", again.Status, again.extra, again.stderr)
	}
	return true
}

// TestKilledBackups kills the program while it writes a raw image in place, and
// looks for superblocks: by a backup a part of the image would open as well.
func TestKilledBackups(t *testing.T) {
	program, volume := buildProgram(t), ocfs2test.Unpack(t, "backup-1g").Path
	c := capture{options: []string{"-r"}, old: true, linked: true}
	supers := func(s scene) (found []int64) {
		f, err := os.Open(s.image)
		must(t, err)
		defer f.Close()
		for _, off := range []int64{2 * 4096, 1 << 30} {
			b := make([]byte, 6)
			if _, err := f.ReadAt(b, off); err == nil && string(b) == "OCFSV2" {
				found = append(found, off)
			}
		}
		return found
	}
	count := func(kill faults.Fault) (scene, faults.Result) {
		s := newScene(t, c)
		stderr, err := os.Create(s.stderr)
		must(t, err)
		defer stderr.Close()
		kill.Dir = s.dir
		result, err := faults.Run(faults.Command{Args: append([]string{program, "-r"}, volume, s.image), Stderr: stderr}, kill)
		must(t, err)
		return s, result
	}
	s, whole := count(faults.Fault{})
	if found := supers(s); len(found) != 2 {
		t.Fatalf("superblocks of the whole image are at %d", found)
	}
	synced := false
	for n := max(1, whole.Calls-30); n <= whole.Calls; n++ {
		s, killed := count(faults.Fault{Kill: true, N: n})
		synced = synced || strings.HasPrefix(killed.Hit, "fsync")
		if found := supers(s); !synced && len(found) > 0 {
			t.Errorf("killed at call %d, %s, before all was on the disk: superblocks at %d", n, killed.Hit, found)
		}
	}
	if !synced {
		t.Error("the file is not synced")
	}
}
