// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"o2image/internal/ocfs2test/truth"
	"o2image/internal/ocfs2test/uml"
)

// MountRequest is a volume for the kernel to mount.
type MountRequest struct {
	Path    string // of the volume. Mounting writes to it
	Options string // mount options; Volume.MountOptions has them
	Pre     string // commands that start the cluster stack; Volume.Pre has them
}

// MountResult is what the kernel made of a volume.
type MountResult struct {
	Manifest []Entry
	Extents  []Extent
	Kernel   string // what the kernel said meanwhile
	Err      error  // the volume was not mounted, not walked to the end, or not unmounted
}

// mountTime bounds one boot: some two seconds, and a few for each volume.
const mountTime = 5 * time.Minute

// Mount has the kernel mount one volume, walk it and unmount it; it fails the
// test if that does not work.
func Mount(t testing.TB, r MountRequest) MountResult {
	t.Helper()
	res := MountAll(t, []MountRequest{r})[0]
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	return res
}

// MountAll has the kernel mount all the volumes, walk and unmount them. A boot
// takes seconds and a mount much less, so that tests with many volumes make one
// call. A volume of a cluster has a machine of its own; it takes a while until a
// heartbeat is believed.
func MountAll(t testing.TB, requests []MountRequest) []MountResult {
	t.Helper()
	b := batches{requests: requests, results: make([]MountResult, len(requests)), tempDir: t.TempDir}
	var local []int
	var g errgroup.Group
	for i, r := range requests {
		if r.Pre == "" {
			local = append(local, i)
		} else {
			g.Go(func() error { return b.run(t.Context(), []int{i}) })
		}
	}
	g.Go(func() error {
		var g errgroup.Group
		g.SetLimit(runtime.NumCPU())
		for batch := range slices.Chunk(local, uml.MaxDisks) {
			g.Go(func() error { return b.run(t.Context(), batch) })
		}
		return g.Wait()
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return b.results
}

// batches mounts requests, named by their numbers, and fills in their results.
type batches struct {
	requests []MountRequest
	results  []MountResult
	tempDir  func() string
}

// run mounts a batch, in as many boots as it takes: the machine may stop at a
// volume.
func (b *batches) run(ctx context.Context, batch []int) error {
	lost, err := b.boot(ctx, batch)
	if err != nil || len(lost) == 0 || len(batch) == 1 {
		return err
	}
	if _, err := b.boot(ctx, lost[:1]); err != nil || len(lost) == 1 {
		return err
	}
	return b.run(ctx, lost[1:])
}

// boot mounts a batch in one boot, and returns those that the machine did not
// come to.
func (b *batches) boot(ctx context.Context, batch []int) (lost []int, err error) {
	m, err := uml.New(b.tempDir())
	if err != nil {
		return nil, err
	}
	disks := make([]string, len(batch))
	var script strings.Builder
	script.WriteString(mountFunction)
	for n, i := range batch {
		disks[n] = b.requests[i].Path
		script.WriteString(b.requests[i].Pre)
		fmt.Fprintf(&script, "\nwalk %d ubd%c '%s'\n", n, 'a'+n, b.requests[i].Options)
	}
	ctx, cancel := context.WithTimeout(ctx, mountTime)
	defer cancel()
	console, bootErr := m.Boot(ctx, script.String(), disks...)
	for n, i := range batch {
		status, err := os.ReadFile(m.Job(fmt.Sprintf("%d.status", n)))
		if err != nil {
			b.results[i].Err = fmt.Errorf("the machine stopped at %s: %w; console:\n%s", disks[n], errors.Join(bootErr, err), tail(console))
			lost = append(lost, i)
			continue
		}
		b.results[i] = readResult(m, n, disks[n], strings.TrimSpace(string(status)), console)
	}
	return lost, nil
}

// mountFunction is the shell function that looks at one volume.
const mountFunction = `walk() { # NUMBER DEVICE OPTIONS
	busybox dmesg -c >/dev/null
	if busybox mount -t ocfs2 -o "$3" /dev/$2 /mnt/v; then
		/guest walk -root /mnt/v -out /job/$1 && status=ok || status=walk
		busybox umount /mnt/v || status=umount
	else
		status=mount
	fi
	busybox dmesg -c >/job/$1.dmesg
	echo $status >/job/$1.status
}
`

func readResult(m *uml.Machine, n int, path, status, console string) (res MountResult) {
	file := func(kind string) []byte {
		b, err := os.ReadFile(m.Job(fmt.Sprintf("%d.%s", n, kind)))
		if err != nil && res.Err == nil {
			res.Err = err
		}
		return b
	}
	res.Kernel = string(file("dmesg"))
	if status != "ok" {
		res.Err = fmt.Errorf("%s of %s does not work; kernel:\n%s\nconsole:\n%s", status, path, tail(res.Kernel), tail(console))
		return res
	}
	var manifestErr, extentsErr error
	res.Manifest, manifestErr = truth.ReadManifest(bytes.NewReader(file("manifest")))
	res.Extents, extentsErr = truth.ReadExtents(bytes.NewReader(file("extents")))
	res.Err = errors.Join(res.Err, manifestErr, extentsErr)
	return res
}

// tail is the end of a long text.
func tail(s string) string {
	const limit = 4000
	return s[max(0, len(s)-limit):]
}

// maxDiffs is how many entries DiffManifests shows.
const maxDiffs = 20

// DiffManifests tells how two listings of a volume differ, in the form of
// cmp.Diff; the empty string if they do not.
func DiffManifests(want, got []Entry) string {
	var b strings.Builder
	diffs := 0
	report := func(format string, args ...any) {
		if diffs++; diffs <= maxDiffs {
			fmt.Fprintf(&b, format+"\n", args...)
		}
	}
	left := make(map[string]Entry, len(got))
	for _, e := range got {
		left[e.Path] = e
	}
	for _, w := range want {
		g, ok := left[w.Path]
		delete(left, w.Path)
		if !ok {
			report("- %+v", w)
		} else if d := cmp.Diff(w, g); d != "" {
			report("%s (-want +got):\n%s", w.Path, d)
		}
	}
	for _, e := range got {
		if _, ok := left[e.Path]; ok {
			report("+ %+v", e)
		}
	}
	if diffs > maxDiffs {
		fmt.Fprintf(&b, "and %d more\n", diffs-maxDiffs)
	}
	return b.String()
}
