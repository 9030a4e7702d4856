// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2test_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"o2image/internal/ocfs2test"
)

// The kernel, mounting a volume anew, sees what it saw when it wrote it; so do
// a volume with a dirty journal, and one of a cluster.
func TestMountAll(t *testing.T) {
	var requests []ocfs2test.MountRequest
	var volumes []*ocfs2test.Volume
	for _, name := range []string{"plain-b1k", "crash", "o2cb-slot2", "xattr-dir", "min-b2k-c4k"} {
		v := ocfs2test.Unpack(t, name)
		volumes = append(volumes, v)
		requests = append(requests, ocfs2test.MountRequest{Path: v.Copy(t), Options: v.MountOptions(), Pre: v.Pre})
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	requests = append(requests, ocfs2test.MountRequest{Path: garbage, Options: "heartbeat=none"})

	results := ocfs2test.MountAll(t, requests)
	for i, v := range volumes {
		r := results[i]
		if r.Err != nil {
			t.Errorf("%s: %v", v.Name, r.Err)
			continue
		}
		if !v.Populated() {
			if len(r.Manifest) != 2 { // the root and lost+found
				t.Errorf("%s: %d entries, want 2", v.Name, len(r.Manifest))
			}
			continue
		}
		if d := ocfs2test.DiffManifests(v.Manifest, r.Manifest); d != "" {
			t.Errorf("%s: manifest (-built +now):\n%s", v.Name, d)
		}
		if d := cmp.Diff(v.Extents, r.Extents); d != "" {
			t.Errorf("%s: extents (-built +now):\n%s", v.Name, d)
		}
	}
	if results[len(volumes)].Err == nil {
		t.Error("a file of zeros was mounted")
	}
}

// A volume that stops the machine costs the others nothing.
func TestMountAllStopped(t *testing.T) {
	v := ocfs2test.Unpack(t, "min-b2k-c4k")
	requests := make([]ocfs2test.MountRequest, 3)
	for i := range requests {
		requests[i] = ocfs2test.MountRequest{Path: v.Copy(t), Options: v.MountOptions()}
	}
	requests[1].Options = "'$(busybox poweroff -f)'"
	for i, r := range ocfs2test.MountAll(t, requests) {
		if stopped := i == 1; (r.Err != nil) != stopped {
			t.Errorf("volume %d: %v", i, r.Err)
		}
	}
}

// debugfs.ocfs2 and the kernel list the same.
func TestDebugfsTree(t *testing.T) {
	t.Parallel()
	v := ocfs2test.Unpack(t, "plain-b1k")
	type line struct {
		Path  string
		Ino   uint64
		Nlink uint64
		UID   uint32
		GID   uint32
		Size  int64
	}
	want := map[string]line{}
	for _, e := range v.Manifest {
		want[e.Path] = line{e.Path, e.Ino, e.Nlink, e.UID, e.GID, e.Size}
	}
	delete(want, "/") // the listing has no line for where it starts
	got := map[string]line{}
	for _, e := range ocfs2test.DebugfsTree(t, v.Path, false, "/") {
		got[e.Path] = line{e.Path, e.Ino, e.Nlink, e.UID, e.GID, e.Size}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-kernel +debugfs.ocfs2:\n%s", d)
	}

	system := ocfs2test.DebugfsTree(t, v.Path, false, "//")
	names := map[string]bool{}
	for _, e := range system {
		names[e.Path] = true
	}
	for _, name := range []string{"//bad_blocks", "//global_bitmap", "//journal:0000", "//journal:0001", "//orphan_dir:0001"} {
		if !names[name] {
			t.Errorf("%s is not in %v", name, system)
		}
	}
}

// o2image 1.8.7 makes an image that debugfs.ocfs2 lists as it lists the volume.
func TestUpstream(t *testing.T) {
	t.Parallel()
	v := ocfs2test.Unpack(t, "plain-b1k")
	image := filepath.Join(t.TempDir(), "image")
	if r := ocfs2test.Upstream(t, v.Path, image); r.Exit != 0 || r.Stderr != "" || r.Stdout != "" {
		t.Fatal(r)
	}
	if d := cmp.Diff(ocfs2test.DebugfsTree(t, v.Path, false), ocfs2test.DebugfsTree(t, image, true)); d != "" {
		t.Errorf("-volume +image:\n%s", d)
	}
	if r := ocfs2test.Upstream(t, "-x"); r.Exit != 1 || !strings.Contains(r.Stderr, "Usage:") {
		t.Errorf("an option that there is not: %v", r)
	}
}

// What fsck.ocfs2 says does not depend on where the volume lies.
func TestFsck(t *testing.T) {
	t.Parallel()
	v := ocfs2test.Unpack(t, "plain-b1k")
	got := ocfs2test.Fsck(t, v.Path)
	if !strings.Contains(got, "All passes succeeded") || !strings.HasSuffix(got, "exit status 0\n") {
		t.Errorf("a sound volume: %s", got)
	}
	if d := cmp.Diff(got, ocfs2test.Fsck(t, v.Copy(t))); d != "" {
		t.Errorf("-volume +copy:\n%s", d)
	}
}

// Every volume that has secrets of class data has them in its data extents, and
// no other part of the volume comes along.
func TestDataOnly(t *testing.T) {
	t.Parallel()
	v := ocfs2test.Unpack(t, "xattr-reg")
	b := readFile(t, ocfs2test.DataOnly(t, v))
	if int64(len(b)) != v.Size {
		t.Errorf("length %d, want that of the volume, %d", len(b), v.Size)
	}
	found := map[string]bool{}
	for _, m := range regexp.MustCompile("S3CR3T-[0-9a-f]{32}").FindAllString(b, -1) {
		found[m] = true
	}
	for _, s := range v.Secrets {
		if has, want := found[s.Marker], s.Class == "data"; has != want {
			t.Errorf("%s %s: in the file: %v, want %v", s.Class, s.Path, has, want)
		}
	}
	whole := readFile(t, ocfs2test.DataOnly(t, v, ocfs2test.Range{Offset: 0, Length: uint64(v.Size)}))
	if whole != readFile(t, v.Path) {
		t.Error("with the whole volume as an extra range: not the volume")
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLoop(t *testing.T) {
	v := ocfs2test.Unpack(t, "min-b2k-c4k")
	device := ocfs2test.Loop(t, v.Copy(t))
	if readFile(t, device) != readFile(t, v.Path) {
		t.Errorf("%s: not the volume", device)
	}
}

func TestDiffManifests(t *testing.T) {
	t.Parallel()
	a := []ocfs2test.Entry{{Path: "/", Ino: 5}, {Path: "/a", Ino: 6}, {Path: "/b", Ino: 7}}
	if d := ocfs2test.DiffManifests(a, a); d != "" {
		t.Errorf("the same: %s", d)
	}
	b := []ocfs2test.Entry{{Path: "/", Ino: 5}, {Path: "/b", Ino: 8}, {Path: "/c", Ino: 9}}
	d := ocfs2test.DiffManifests(a, b)
	for _, want := range []string{"- {Path:/a ", "/b (-want +got)", "+ {Path:/c "} {
		if !strings.Contains(d, want) {
			t.Errorf("no %q in:\n%s", want, d)
		}
	}
}

// Each packed volume unpacks, and has what lies beside it; so do the volumes
// without anything beside them.
func TestVolumes(t *testing.T) {
	for _, name := range []string{"volume-512", "volume-4096"} {
		if v := ocfs2test.Unpack(t, name); v.Size < 20<<20 || v.Populated() || len(v.Info) > 0 {
			t.Errorf("%s: %+v", name, v)
		}
	}
	for _, name := range ocfs2test.Volumes(t) {
		v := ocfs2test.Unpack(t, name)
		if v.Info["name"] != name {
			t.Errorf("%s: info has the name %q", name, v.Info["name"])
		}
		if mkfsOnly := v.Info["ops"] == "-"; mkfsOnly == v.Populated() {
			t.Errorf("%s: populated is %v, operations %q", name, v.Populated(), v.Info["ops"])
		}
		if v.Clustered() != (v.Pre != "") {
			t.Errorf("%s: flags %q, commands of the cluster: %q", name, v.Info["flags"], v.Pre)
		}
	}
}
