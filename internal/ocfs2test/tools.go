// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"o2image/internal/ocfs2test/truth"
)

// Result is the outcome of a program.
type Result struct {
	Stdout, Stderr string
	Exit           int            // exit status, -1 if a signal ended it
	Signal         syscall.Signal // that signal, or 0
}

func (r Result) String() string {
	return fmt.Sprintf("%s%sexit status %d, signal %d\n", r.Stdout, r.Stderr, r.Exit, r.Signal)
}

// run runs a program, without a time limit of its own and in no particular
// language or time zone.
func run(t testing.TB, stdin string, name string, args ...string) Result {
	t.Helper()
	return runContext(t.Context(), t, stdin, name, args...)
}

func runContext(ctx context.Context, t testing.TB, stdin string, name string, args ...string) Result {
	t.Helper()
	cmd := exec.CommandContext(ctx, tool(t, name), args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "PAGER=cat", "MALLOC_PERTURB_=255")
	err := cmd.Run()
	res := Result{Stdout: out.String(), Stderr: errOut.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		res.Exit = exit.ExitCode()
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			res.Signal = ws.Signal()
		}
	} else if err != nil {
		t.Fatal(err)
	}
	return res
}

// tool finds a program where Debian has those for the system, whatever PATH is.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if file, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return file
		}
	}
	t.Fatalf("%s is missing: tools/install-deps installs it", name)
	return ""
}

// Upstream runs o2image 1.8.7 with fresh memory zeroed (MALLOC_PERTURB_=255),
// without which it stores blocks that nothing refers to. It answers yes to
// whatever is asked.
func Upstream(t testing.TB, args ...string) Result {
	t.Helper()
	return run(t, "y\ny\n", "o2image", args...)
}

// unlocked runs a command in bash with 60 MB and without the right to lock memory.
// fsck.ocfs2 else locks a cache as large as the volume, or of two thirds of these
// 60 MB; once it then said that memory was short.
const unlocked = `ulimit -v 60000 && ulimit -l 0 && exec setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock "$0" "$@"`

// Fsck returns what "fsck.ocfs2 -fn" says about the volume at file, and its exit
// status in a last line. The name of the file is masked: the text of two volumes
// with the same metadata is the same.
func Fsck(t testing.TB, file string) string {
	t.Helper()
	r := run(t, "", "bash", "-c", unlocked, tool(t, "fsck.ocfs2"), "-fn", file)
	text := fmt.Sprintf("%s%sexit status %d\n", r.Stdout, r.Stderr, r.Exit)
	return strings.ReplaceAll(text, file, "VOLUME")
}

// Limited runs one of the C tools on a damaged volume, where it may crash, run for
// ever or eat all memory: it gets two seconds of the processor and 60 MB. It returns what the tool
// prints, with its exit status in a last line, and whether it ended by itself.
// The name of file, which is the last argument, is masked.
func Limited(t testing.TB, name string, args ...string) (text string, ended bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args = append([]string{"-c", "ulimit -t 2 && " + unlocked, tool(t, name)}, args...)
	r := runContext(ctx, t, "", "bash", args...)
	text = fmt.Sprintf("%s%sexit status %d\n", r.Stdout, r.Stderr, r.Exit)
	return strings.ReplaceAll(text, args[len(args)-1], "VOLUME"), r.Signal == 0
}

// Debugfs runs commands of debugfs.ocfs2 on the volume at file, or with image on
// the packed image at file. It returns what they print, errors included.
func Debugfs(t testing.TB, file string, image bool, commands ...string) string {
	t.Helper()
	list := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(list, []byte(strings.Join(commands, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"-n", "-f", list}
	if image {
		args = append(args, "-i")
	}
	r := run(t, "", "debugfs.ocfs2", append(args, file)...) // with -f, its exit status is always 1
	if r.Signal != 0 {
		t.Fatalf("debugfs.ocfs2 %s: %v", file, r.Signal)
	}
	return r.Stdout + strings.ReplaceAll(r.Stderr, "debugfs.ocfs2 1.8.7\n", "")
}

// TreeEntry is a line of a directory listing of debugfs.ocfs2.
type TreeEntry struct {
	Path  string // absolute, escaped as in Entry
	Ino   uint64
	Mode  string // as ls -l has it: drwxr-xr-x
	Nlink uint64
	UID   uint32
	GID   uint32
	Size  int64 // bytes
}

// DebugfsTree lists a whole volume, or with image a packed image, with
// debugfs.ocfs2: everything below the directories roots ("/" and "//", the
// system directory, if there are none), sorted by path, without "." and "..".
// Directories that cannot be listed fail the test.
func DebugfsTree(t testing.TB, file string, image bool, roots ...string) []TreeEntry {
	t.Helper()
	if len(roots) == 0 {
		roots = []string{"/", "//"}
	}
	var tree []TreeEntry
	names := slices.Clone(roots)
	commands := make([]string, len(roots))
	for i, r := range roots {
		commands[i] = "ls -l " + r
	}
	for len(names) > 0 {
		listings := splitListings(Debugfs(t, file, image, commands...))
		if len(listings) != len(names) {
			t.Fatalf("debugfs.ocfs2 listed %d of %d directories of %s", len(listings), len(names), file)
		}
		var nextNames, nextCommands []string
		for i, lines := range listings {
			for _, line := range lines {
				e, name, err := parseListing(line)
				if err != nil {
					t.Fatalf("debugfs.ocfs2 on %s: %v", file, err)
				}
				if name == "." || name == ".." {
					continue
				}
				e.Path = join(names[i], truth.Escape(name))
				tree = append(tree, e)
				if e.Mode[0] == 'd' {
					nextNames = append(nextNames, e.Path)
					nextCommands = append(nextCommands, fmt.Sprintf("ls -l <%d>", e.Ino))
				}
			}
		}
		names, commands = nextNames, nextCommands
	}
	slices.SortFunc(tree, func(a, b TreeEntry) int { return cmp.Compare(a.Path, b.Path) })
	return tree
}

// join is path.Join, but leaves the name of the system directory as it is.
func join(dir, name string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + name
	}
	return path.Join(dir, name)
}

// listing is a line of "ls -l": a tab, inode, mode, links, uid, gid, size, date,
// time and name.
var listing = regexp.MustCompile(`^\t(\d+) +(\S{10}) +(\d+) +(\d+) +(\d+) +(\d+) +\S+ +\S+ (.*)$`)

// splitListings splits what several "ls -l" print: each starts with ".".
func splitListings(text string) [][]string {
	var all [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := listing.FindStringSubmatch(line); m != nil && m[7] == "." {
			all = append(all, nil)
		}
		if n := len(all); n > 0 && line != "" {
			all[n-1] = append(all[n-1], line)
		}
	}
	return all
}

func parseListing(line string) (e TreeEntry, name string, err error) {
	m := listing.FindStringSubmatch(line)
	if m == nil {
		return e, "", fmt.Errorf("line %q", line)
	}
	number := func(s string, bits int) uint64 {
		n, convErr := strconv.ParseUint(s, 10, bits)
		err = errors.Join(err, convErr)
		return n
	}
	e = TreeEntry{
		Ino: number(m[1], 64), Mode: m[2], Nlink: number(m[3], 64), UID: uint32(number(m[4], 32)),
		GID: uint32(number(m[5], 32)), Size: int64(number(m[6], 63)),
	}
	return e, m[7], err
}

// Loop makes a read-write loop device of a file, for the time of the test.
func Loop(t testing.TB, file string) string {
	t.Helper()
	r := run(t, "", "losetup", "--find", "--show", file)
	device := strings.TrimSpace(r.Stdout)
	if r.Exit != 0 || device == "" {
		t.Fatalf("losetup %s: %v", file, r)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(tool(t, "losetup"), "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach %s: %v: %s", device, err, out)
		}
	})
	return device
}
