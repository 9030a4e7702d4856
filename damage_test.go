// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"cmp"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"o2image"
	"o2image/internal/ocfs2test"
	"o2image/internal/ocfs2test/damage"
)

// TestDamageTools damages volumes and asks the C tools: fsck.ocfs2 must find the
// same in a raw image as on the volume, and debugfs.ocfs2 must see the same in a
// packed one. No contents of files may get into an image by damage.
func TestDamageTools(t *testing.T) {
	names := []string{"min-b512-c4k", "nometaecc", "metaecc", "discontig", "old-b1k", "reflink-b1k", "xattr-b512", "quota"}
	perVolume := 40
	if testing.Short() {
		names, perVolume = names[:1], 5
	}
	var (
		covered = damage.Coverage{}
		tally   = toolTally{kinds: map[string]bool{}}
	)
	// The tools wait more than they compute: all volumes at once.
	var volumes sync.WaitGroup
	for _, name := range names {
		vol := ocfs2test.Unpack(t, name)
		f, err := os.Open(vol.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m, err := damage.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		d := damagedVolume{vol: vol, sound: f, dir: t.TempDir(), tally: &tally}
		// fsck.ocfs2 uses memory that it did not clear: what it says of damage may
		// depend on the length of the file's name.
		for _, folder := range []string{"disk", "bare", "full", "pack"} {
			if err := os.Mkdir(filepath.Join(d.dir, folder), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		d.copy = filepath.Join(d.dir, "disk", "volume")
		if err := os.Rename(vol.Copy(t), d.copy); err != nil {
			t.Fatal(err)
		}
		d.commands = filepath.Join(d.dir, "commands")
		if err := os.WriteFile(d.commands, []byte("stats\nls -l /\nls -l //\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cases := sampleCases(m.Cases(covered, 1), perVolume)
		volumes.Go(func() {
			d.text, _ = ocfs2test.Limited(t, "fsck.ocfs2", "-fn", d.copy)
			for _, c := range cases {
				d.check(t, c)
			}
		})
	}
	volumes.Wait()
	t.Logf("%d cases; fsck.ocfs2 finds faults in %d kinds; it or debugfs.ocfs2 is no judge in %d; %d images incomplete, %d volumes unusable",
		tally.cases, len(tally.kinds), tally.noOracle, tally.incomplete, tally.unusable)
	if !testing.Short() && (tally.cases < 300 || len(tally.kinds) < 100) {
		t.Errorf("%d cases, %d kinds with faults; want 300 and 100", tally.cases, len(tally.kinds))
	}
}

// sampleCases chooses n cases that something contradicts, from all kinds of
// blocks in turn.
func sampleCases(cases []*damage.Case, n int) []*damage.Case {
	hash := func(s string) uint32 {
		h := fnv.New32a()
		h.Write([]byte(s))
		return h.Sum32()
	}
	cases = slices.DeleteFunc(cases, func(c *damage.Case) bool { return !c.Witness })
	slices.SortFunc(cases, func(a, b *damage.Case) int {
		return cmp.Or(cmp.Compare(hash(a.Name), hash(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	round := map[*damage.Case]int{}
	seen := map[string]int{}
	for _, c := range cases {
		block, _, _ := strings.Cut(c.Kind, ":")
		round[c] = seen[block]
		seen[block]++
	}
	slices.SortStableFunc(cases, func(a, b *damage.Case) int { return cmp.Compare(round[a], round[b]) })
	return cases[:min(n, len(cases))]
}

// toolTally counts what the C tools said, over all volumes.
type toolTally struct {
	mu                                    sync.Mutex
	cases, noOracle, incomplete, unusable int
	kinds                                 map[string]bool // in which fsck.ocfs2 finds a fault
}

func (y *toolTally) count(n *int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	*n++
}

// damagedVolume is a copy of a volume that is damaged and mended again.
type damagedVolume struct {
	vol   *ocfs2test.Volume
	sound *os.File
	copy  string
	dir   string // for images: folders with names of the same length

	commands string // a file for debugfs.ocfs2
	text     string // what fsck.ocfs2 says of the sound volume
	tally    *toolTally
}

// check damages the volume, makes images of it and shows them to the C tools.
func (d *damagedVolume) check(t *testing.T, c *damage.Case) {
	if err := d.damage(c); err != nil {
		t.Errorf("%s: %v", c.Name, err)
		return
	}
	defer func() {
		if err := d.mend(c); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}()
	d.tally.count(&d.tally.cases)

	image := func(folder string, opts o2image.CreateOptions) (string, *o2image.Report) {
		opts.Time = made
		path := filepath.Join(d.dir, folder, "volume") // replaced by the next one
		report, err := o2image.Create(t.Context(), d.copy, path, opts)
		switch {
		case report == nil && c.Unusable:
			d.tally.count(&d.tally.unusable)
			return "", nil
		case report == nil || err != nil:
			t.Errorf("%s: %v", c.Name, err)
			return "", nil
		case report.Incomplete():
			d.tally.count(&d.tally.incomplete)
		}
		return path, report
	}
	raw, report := image("bare", o2image.CreateOptions{Raw: true})
	if report == nil {
		return
	}
	exact, _ := image("full", o2image.CreateOptions{Raw: true, Exact: true})
	packed, _ := image("pack", o2image.CreateOptions{})

	d.compare(t, c, "debugfs.ocfs2", "packed image", []string{"-n", "-f", d.commands}, packed, "-i")
	if d.compare(t, c, "fsck.ocfs2", "raw image", []string{"-fn"}, raw) && report.Redacted.Inodes > 0 {
		d.compare(t, c, "fsck.ocfs2", "exact raw image", []string{"-fn"}, exact)
	}
	classes := map[string]string{}
	for _, s := range d.vol.Secrets {
		classes[s.Marker] = s.Class
	}
	for marker := range markers(t, raw) {
		if class := classes[marker]; class == "data" || class == "inline" {
			t.Errorf("%s: a marker of class %s is in the default image", c.Name, class)
			break
		}
	}
}

func (d *damagedVolume) damage(c *damage.Case) (err error) {
	f, err := os.OpenFile(d.copy, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return c.Apply(f)
}

// mend writes back what stood on the sound volume.
func (d *damagedVolume) mend(c *damage.Case) (err error) {
	old := damage.Case{Name: c.Name}
	for _, p := range c.Patches {
		b := make([]byte, len(p.Data))
		if _, err := d.sound.ReadAt(b, p.Off); err != nil {
			return err
		}
		old.Patches = append(old.Patches, damage.Patch{Off: p.Off, Data: b})
	}
	return d.damage(&old)
}

// compare compares what a tool says of the damaged volume with what it says of
// an image, and reports whether it is a judge at all.
func (d *damagedVolume) compare(t *testing.T, c *damage.Case, tool, what string, args []string, image string, imageArgs ...string) bool {
	want, ended := ocfs2test.Limited(t, tool, append(slices.Clone(args), d.copy)...)
	if !ended {
		d.tally.count(&d.tally.noOracle)
		return false
	}
	if tool == "fsck.ocfs2" && want != d.text {
		d.tally.mu.Lock()
		d.tally.kinds[c.Kind] = true
		d.tally.mu.Unlock()
	}
	got, _ := ocfs2test.Limited(t, tool, append(append(slices.Clone(args), imageArgs...), image)...)
	if diff := gocmp.Diff(want, got); diff != "" {
		// fsck.ocfs2 reads past what it read, and says what it found there.
		if again, _ := ocfs2test.Limited(t, tool, append(slices.Clone(args), d.copy)...); again != want {
			d.tally.count(&d.tally.noOracle)
			return false
		}
		t.Errorf("%s: %s on the %s (-volume +image):\n%s", c.Name, tool, what, diff)
	}
	return true
}
