// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"o2image/internal/ocfs2test"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"o2image":     func() { os.Args[0] = calledAs(); os.Exit(Main()) },
		"upstream":    execUpstream,
		"status":      expectStatus,
		"nonblocking": throughNonblockingPipe,
	})
}

// calledAs returns argv[0]: testscript sets os.Args[0] to its base name.
func calledAs() string {
	line, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		panic(err)
	}
	name, _, _ := bytes.Cut(line, []byte{0})
	return string(name)
}

// execUpstream becomes o2image 1.8.7, under the name o2image, with memory that
// is zero where it is fresh: otherwise what it writes is left to chance.
func execUpstream() {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if file := filepath.Join(dir, "o2image"); dir != filepath.Dir(self) {
			_ = syscall.Exec(file, append([]string{"o2image"}, os.Args[1:]...), append(os.Environ(), "MALLOC_PERTURB_=255"))
		}
	}
	fmt.Fprintln(os.Stderr, "upstream: there is no o2image 1.8.7 on this machine")
	os.Exit(127)
}

// expectStatus runs a program and fails unless it ends with the given status:
//
//	status 141 program argument...
//
// A program killed by signal n has the status 128 + n, as in a shell.
func expectStatus() {
	want, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	// Signals to the process group are for the program.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			fmt.Fprintln(os.Stderr, "status:", err)
			os.Exit(127)
		}
	}
	got := cmd.ProcessState.ExitCode()
	if st := cmd.ProcessState.Sys().(syscall.WaitStatus); st.Signaled() {
		got = 128 + int(st.Signal())
	}
	if got != want {
		fmt.Fprintf(os.Stderr, "status: exit status %d, want %d\n", got, want)
		os.Exit(1)
	}
}

// throughNonblockingPipe runs a program with a pipe that does not block as its
// standard output, reads it slowly and copies it to its own.
func throughNonblockingPipe() {
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		panic(err)
	}
	if err := syscall.SetNonblock(pipe[1], true); err != nil {
		panic(err)
	}
	file, err := exec.LookPath(os.Args[1])
	if err != nil {
		panic(err)
	}
	pid, err := syscall.ForkExec(file, os.Args[1:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, uintptr(pipe[1]), 2}})
	if err != nil {
		panic(err)
	}
	syscall.Close(pipe[1])
	time.Sleep(100 * time.Millisecond) // the pipe is full by then
	if _, err := io.Copy(os.Stdout, os.NewFile(uintptr(pipe[0]), "pipe")); err != nil {
		panic(err)
	}
	var st syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &st, 0, nil); err != nil {
		panic(err)
	}
	os.Exit(st.ExitStatus())
}

// TestDiesOfPipe wants the program killed by the signal where the reader of standard
// output goes away, as 1.8.7 is: a status of 141 only looks like it in a shell.
func TestDiesOfPipe(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "env", "--default-signal=PIPE", "o2image", ocfs2test.Unpack(t, "plain-b1k").Path, "-")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the status says it all
	if st := cmd.ProcessState.Sys().(syscall.WaitStatus); !st.Signaled() || st.Signal() != syscall.SIGPIPE {
		t.Errorf("ended with %v", cmd.ProcessState)
	}
}

// scriptVolumes are the volumes that scripts read, by the names of the
// variables that hold their paths.
var scriptVolumes = map[string]string{
	"POPULATED": "plain-b1k",
	"CRASHED":   "crash",
	"INLINE":    "inline-b512",
	"CLUSTER":   "o2cb-slot2",
	"XATTR_DIR": "xattr-dir",
	"XATTR_LNK": "xattr-lnk",
	"XATTR_REG": "xattr-reg",
}

// TestScripts runs testdata/script. Besides the usual commands scripts have
//
//	volume FILE [SIZE]       make an empty volume with mkfs.ocfs2, 64M
//	loop VAR FILE            attach FILE to a loop device for the time of the script
//	secrets VAR FILE         write the markers of the contents of files on the volume $VAR
//	upstream ARG...          run o2image 1.8.7
//	status N PROG ARG...     run a program that has to end with status N
//	nonblocking PROG ARG...  run a program with a pipe that does not block
//
// and the variables of scriptVolumes, whose volumes are to be read only.
func TestScripts(t *testing.T) {
	volumes := make(map[string]*ocfs2test.Volume)
	for name, volume := range scriptVolumes {
		volumes[name] = ocfs2test.Unpack(t, volume)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			for name, v := range volumes {
				env.Setenv(name, v.Path)
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"volume": makeVolume,
			"loop":   attachLoop,
			"secrets": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(writeSecrets(ts.MkAbs(args[1]), volumes[args[0]]))
			},
		},
	})
}

// writeSecrets writes the markers that the contents of files have on v.
func writeSecrets(name string, v *ocfs2test.Volume) error {
	var text strings.Builder
	for _, s := range v.Secrets {
		if s.Class == "data" || s.Class == "inline" {
			fmt.Fprintln(&text, s.Marker)
		}
	}
	return os.WriteFile(name, []byte(text.String()), 0o600)
}

func makeVolume(ts *testscript.TestScript, _ bool, args []string) {
	size := "64M"
	if len(args) == 2 {
		size = args[1]
	}
	ts.Check(ts.Exec("truncate", "-s", size, args[0]))
	ts.Check(ts.Exec("mkfs.ocfs2", "-q", "-M", "local", "-b", "4096", "-C", "4K", "-N", "1", "-J", "size=4M", args[0]))
}

func attachLoop(ts *testscript.TestScript, _ bool, args []string) {
	out, err := exec.Command("losetup", "--find", "--show", ts.MkAbs(args[1])).CombinedOutput()
	if err != nil {
		ts.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	ts.Setenv(args[0], device)
	ts.Defer(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			ts.Logf("losetup --detach: %v: %s", err, out)
		}
	})
}
