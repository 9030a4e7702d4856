// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"o2image/internal/ocfs2test"
	"o2image/internal/ocfs2test/truth"
	"o2image/internal/upstreamset"
	"o2image/ocfs2"
	"o2image/volume"
)

// openFile opens the volume in a file for the time of a test.
func openFile(t testing.TB, path string) (*volume.Volume, *os.File) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	v, err := volume.Open(t.Context(), f)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	return v, f
}

// TestMetadataSet compares the metadata set of every volume with what an
// independent program computes from the description of the format.
func TestMetadataSet(t *testing.T) {
	for _, name := range ocfs2test.Volumes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, f := openFile(t, ocfs2test.Unpack(t, name).Path)
			meta, err := v.Metadata(t.Context(), volume.Options{})
			if err != nil {
				t.Fatal(err)
			}
			want, err := upstreamset.Compute(f, upstreamset.Options{Fixed: true})
			if err != nil {
				t.Fatal(err)
			}
			var got []upstreamset.Run
			for start, n := range meta.Blocks.Spans() {
				got = append(got, upstreamset.Run{Start: start, Len: n})
			}
			if diff := gocmp.Diff(want.Runs, got); diff != "" {
				t.Errorf("metadata set (-want +got):\n%s", diff)
			}
			if len(meta.Findings) > 0 || meta.Found > 0 || !meta.Complete() {
				t.Errorf("findings on a sound volume: %v", meta.Findings)
			}
			if n := len(meta.Blocks.Overlaps()); n > 0 {
				t.Errorf("%d runs claimed twice, for instance %v", n, meta.Blocks.Overlaps()[0])
			}
		})
	}
}

// TestClasses checks what the classes say against the kernel and the bitmaps
// against the counts in the allocators' inodes.
func TestClasses(t *testing.T) {
	for _, name := range ocfs2test.Volumes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vol := ocfs2test.Unpack(t, name)
			v, _ := openFile(t, vol.Path)
			meta, err := v.Metadata(t.Context(), volume.Options{})
			if err != nil {
				t.Fatal(err)
			}
			// i_used and i_total count the descriptors, which are a class of their own.
			var used, total, groups [2]uint64
			for i, files := range [][]string{inodeAllocators(v), extentAllocators(v)} {
				for _, file := range files {
					d, err := v.SystemFile(t.Context(), file)
					if err != nil {
						t.Fatal(err)
					}
					used[i] += uint64(d.BitmapUsed())
					total[i] += uint64(d.BitmapTotal())
					if bits := d.Chains().CPG() * d.Chains().BPC(); bits > 0 {
						groups[i] += uint64(d.BitmapTotal()) / uint64(bits)
					}
				}
			}
			for i, class := range []volume.Class{volume.ClassInode, volume.ClassExtent} {
				if got, want := meta.Count(class), total[i]-groups[i]; got != want {
					t.Errorf("class %v: %d blocks, the allocators have %d", class, got, want)
				}
				if got, want := meta.Free[class], total[i]-used[i]; got != want {
					t.Errorf("class %v: %d free, the allocators say %d", class, got, want)
				}
			}
			for _, x := range vol.Extents {
				if vol.Crashed() {
					break // the manifest is that of the volume after a replay
				}
				for at := x.Physical; at < x.Physical+x.Length; at += uint64(v.Super().BlockSize()) {
					if class, ok := meta.Blocks.Tag(at >> v.Super().BlockBits); ok {
						t.Fatalf("data of %s at byte %d is in the set as %v", x.Path, at, volume.Class(class))
					}
				}
			}
		})
	}
}

func inodeAllocators(v *volume.Volume) []string {
	return append(slotFiles(v, "inode_alloc"), "global_inode_alloc")
}

func extentAllocators(v *volume.Volume) []string { return slotFiles(v, "extent_alloc") }

func slotFiles(v *volume.Volume, kind string) []string {
	var names []string
	for slot := range v.Super().MaxSlots {
		names = append(names, volume.SlotFile(kind, slot))
	}
	return names
}

var fileTypes = map[uint16]string{
	ocfs2.ModeFIFO: "fifo", ocfs2.ModeChar: "char", ocfs2.ModeDir: "dir", ocfs2.ModeBlock: "block",
	ocfs2.ModeRegular: "file", ocfs2.ModeSymlink: "symlink", ocfs2.ModeSocket: "socket",
}

// entries lists a volume in the form of the kernel's manifest.
func entries(t *testing.T, v *volume.Volume) []ocfs2test.Entry {
	t.Helper()
	var list []ocfs2test.Entry
	for f, err := range v.Walk(t.Context()) {
		if err != nil {
			t.Fatalf("%s: %v", f.Path, err)
		}
		d := f.Inode
		sec, _ := d.MtimeRaw()
		e := ocfs2test.Entry{
			Path: truth.Escape(f.Path), Type: fileTypes[d.Type()], Ino: d.Blkno(), Mode: fmt.Sprintf("%06o", d.Mode()),
			Nlink: uint64(d.Links()), UID: d.UID(), GID: d.GID(), Size: int64(d.Size()), Mtime: int64(sec),
			Inline: d.IsRegular() && d.Union() == ocfs2.UnionInlineData && d.Size() > 0,
		}
		if d.IsDevice() {
			major, minor := d.Rdev()
			e.Rdev = uint64(minor&0xFF) | uint64(major&0xFFF)<<8 | uint64(minor&^0xFF)<<12
		}
		if d.IsSymlink() {
			target, err := v.Readlink(t.Context(), d)
			if err != nil {
				t.Fatalf("%s: %v", f.Path, err)
			}
			e.Target = truth.Escape(target)
		}
		for x, err := range v.Xattrs(t.Context(), d) {
			if err != nil {
				t.Fatalf("%s: %v", f.Path, err)
			}
			if !d.IsRegular() && !d.IsDir() && !d.IsSymlink() {
				continue // the kernel does not list those of device nodes, FIFOs and sockets
			}
			content := value(t, v, x)
			if strings.HasPrefix(x.Name, "system.posix_acl_") {
				content = append([]byte{2, 0, 0, 0}, content...) // the version, as getxattr(2) gives it
			}
			e.Xattrs = append(e.Xattrs, ocfs2test.Xattr{
				Name: truth.Escape(x.Name), Len: len(content), SHA256: sum(content),
			})
		}
		slices.SortFunc(e.Xattrs, func(a, b ocfs2test.Xattr) int { return cmp.Compare(a.Name, b.Name) })
		list = append(list, e)
	}
	slices.SortFunc(list, byPath)
	return list
}

// value reads the value of an attribute wherever it is kept.
func value(t *testing.T, v *volume.Volume, x volume.Xattr) []byte {
	t.Helper()
	if x.Value != nil || x.Size == 0 {
		return x.Value
	}
	b := make([]byte, 0, x.Size)
	for e, err := range v.XattrExtents(t.Context(), x) {
		if err != nil {
			t.Fatal(err)
		}
		part := make([]byte, e.Blocks<<v.Super().BlockBits)
		if _, err := v.ReadAt(part, int64(e.Blkno<<v.Super().BlockBits)); err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	return b[:x.Size]
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func byPath(a, b ocfs2test.Entry) int { return cmp.Compare(a.Path, b.Path) }

// TestManifest compares names, inodes, targets, attributes and extents with
// what the kernel saw when it had the volume mounted.
func TestManifest(t *testing.T) {
	for _, name := range ocfs2test.Volumes(t) {
		vol := ocfs2test.Unpack(t, name)
		if !vol.Populated() || vol.Crashed() {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, _ := openFile(t, vol.Path)
			want := slices.Clone(vol.Manifest)
			for i := range want {
				want[i].SHA256 = "" // contents are not this package's business
			}
			slices.SortFunc(want, byPath)
			if diff := gocmp.Diff(want, entries(t, v)); diff != "" {
				t.Errorf("entries (-kernel +volume):\n%s", diff)
			}
			if diff := gocmp.Diff(kernelExtents(vol), fileExtents(t, v, vol)); diff != "" {
				t.Errorf("extents (-kernel +volume):\n%s", diff)
			}
		})
	}
}

// run is a stretch of a file's data, bytes, neighbours with the same flags joined.
type run struct {
	logical, physical, length uint64
	unwritten                 bool
}

func join(runs []run, r run) []run {
	if last := len(runs) - 1; last >= 0 {
		p := &runs[last]
		if p.logical+p.length == r.logical && p.physical+p.length == r.physical && p.unwritten == r.unwritten {
			p.length += r.length
			return runs
		}
	}
	return append(runs, r)
}

// kernelExtents gives FIEMAP's extents by path.
func kernelExtents(vol *ocfs2test.Volume) map[string]string {
	runs := map[string][]run{}
	for _, x := range vol.Extents {
		runs[x.Path] = join(runs[x.Path], run{x.Logical, x.Physical, x.Length, x.Flags&truth.ExtentUnwritten != 0})
	}
	return printed(runs)
}

func fileExtents(t *testing.T, v *volume.Volume, vol *ocfs2test.Volume) map[string]string {
	t.Helper()
	runs := map[string][]run{}
	bits := v.Super().BlockBits
	for _, e := range vol.Manifest {
		if e.Type != "file" {
			continue
		}
		d, err := v.Inode(t.Context(), e.Ino)
		if err != nil {
			t.Fatal(err)
		}
		for x, err := range v.Extents(t.Context(), d) {
			if err != nil {
				t.Fatalf("%s: %v", e.Path, err)
			}
			runs[e.Path] = join(runs[e.Path], run{x.Logical << bits, x.Blkno << bits, x.Blocks << bits, x.Flags&ocfs2.ExtUnwritten != 0})
		}
	}
	return printed(runs)
}

func printed(runs map[string][]run) map[string]string {
	out := map[string]string{}
	for path, r := range runs {
		out[path] = fmt.Sprint(r)
	}
	return out
}

// TestSlots checks the state of slots on volumes whose history is known.
func TestSlots(t *testing.T) {
	for name, want := range map[string]struct{ used, dirty []int }{
		"plain-b1k":  {nil, nil},
		"old-b1k":    {nil, nil},
		"crash":      {[]int{0}, []int{0}},
		"o2cb-slot2": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v, _ := openFile(t, ocfs2test.Unpack(t, name).Path)
			slots, err := v.Slots(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var used, dirty []int
			for _, s := range slots {
				if s.InUse {
					used = append(used, s.Slot)
				}
				if s.Dirty {
					dirty = append(dirty, s.Slot)
				}
			}
			if !slices.Equal(used, want.used) || !slices.Equal(dirty, want.dirty) {
				t.Errorf("used %v dirty %v, want %v %v", used, dirty, want.used, want.dirty)
			}
			if len(slots) != v.Super().MaxSlots {
				t.Errorf("%d slots, superblock says %d", len(slots), v.Super().MaxSlots)
			}
		})
	}
}

// TestLookup looks up every path that needs no escaping.
func TestLookup(t *testing.T) {
	vol := ocfs2test.Unpack(t, "plain-b1k")
	v, _ := openFile(t, vol.Path)
	looked := 0
	for _, e := range vol.Manifest {
		if strings.Contains(e.Path, "%") {
			continue
		}
		looked++
		d, err := v.Lookup(t.Context(), e.Path)
		if err != nil || d.Blkno() != e.Ino {
			t.Errorf("%s: inode %d, %v; want %d", e.Path, d.Blkno(), err, e.Ino)
		}
	}
	if looked < 20 {
		t.Errorf("only %d paths to look up", looked)
	}
	if _, err := v.Lookup(t.Context(), "/no/such/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	ext4 := make([]byte, 64<<10)
	copy(ext4[0x438:], "\x53\xef")
	heartbeat := filepath.Join(t.TempDir(), "heartbeat")
	if err := os.WriteFile(heartbeat, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ocfs2", "-F", "-q", "-M", "local", "-H", heartbeat).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ocfs2: %v\n%s", err, out)
	}
	device, err := os.ReadFile(heartbeat)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":          {nil, ocfs2.ErrNotOCFS2},
		"zeros":            {make([]byte, 1<<20), ocfs2.ErrNotOCFS2},
		"ext4":             {ext4, ocfs2.ErrNotOCFS2},
		"heartbeat device": {device, ocfs2.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := volume.Open(t.Context(), readerAt(c.data)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

type readerAt []byte

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(r)) {
		return 0, io.EOF
	}
	n := copy(p, r[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// TestMetadataCancelled checks that the walk ends with its context.
func TestMetadataCancelled(t *testing.T) {
	v, _ := openFile(t, ocfs2test.Unpack(t, "plain-b1k").Path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Metadata(ctx, volume.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
