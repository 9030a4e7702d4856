// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"o2image"
	"o2image/image"
	"o2image/image/packed"
	"o2image/internal/ocfs2test"
	"o2image/internal/upstreamset"
	"o2image/ocfs2"
)

// made is when the images of these tests say that they were made.
var made = time.Unix(1700000000, 0)

// create makes an image of a volume in a new file.
func create(t testing.TB, device string, opts o2image.CreateOptions) string {
	t.Helper()
	opts.Time = made
	path := filepath.Join(t.TempDir(), "image")
	report, err := o2image.Create(t.Context(), device, path, opts)
	if err != nil {
		t.Fatal(err)
	}
	if report.Incomplete() || report.Found > 0 {
		t.Errorf("findings on a sound volume: %v, not read: %v", report.Findings, report.NotRead)
	}
	return path
}

// open opens an image for the time of a test.
func open(t testing.TB, path string) *o2image.Source {
	t.Helper()
	src, err := o2image.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// stored returns the runs of blocks in a packed image.
func stored(t testing.TB, src *o2image.Source) []upstreamset.Run {
	t.Helper()
	var runs []upstreamset.Run
	for r, err := range src.Packed().Runs() {
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, upstreamset.Run{Start: r.Start, Len: r.Len})
	}
	return runs
}

// forVolumes runs a test on every volume of the corpus.
func forVolumes(t *testing.T, test func(t *testing.T, vol *ocfs2test.Volume)) {
	for _, name := range ocfs2test.Volumes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, ocfs2test.Unpack(t, name))
		})
	}
}

// TestExact compares an exact image with that of 1.8.7, block for block, and
// every block with the volume.
func TestExact(t *testing.T) {
	forVolumes(t, func(t *testing.T, vol *ocfs2test.Volume) {
		f, err := os.Open(vol.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		src := open(t, create(t, vol.Path, o2image.CreateOptions{Exact: true}))
		got := stored(t, src)

		want, err := upstreamset.Compute(f, upstreamset.Options{Fixed: true})
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(want.Runs, got); diff != "" {
			t.Fatalf("blocks (-computed +image):\n%s", diff)
		}
		sameBlocks(t, src, f)
		compareUpstream(t, vol, f, got)
	})
}

// compareUpstream compares the set of blocks with that in an image by 1.8.7:
// they may differ in what a program of its own computes from the description of
// the defects.
func compareUpstream(t *testing.T, vol *ocfs2test.Volume, f *os.File, got []upstreamset.Run) {
	t.Helper()
	if vol.Size > 1<<40 {
		return // 1.8.7 writes its zeros to the disk: gigabytes
	}
	asIs, err := upstreamset.Compute(f, upstreamset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "upstream")
	if r := ocfs2test.Upstream(t, vol.Path, path); r.Signal != 0 {
		if r.Signal != syscall.SIGSEGV || len(asIs.Misread) == 0 {
			t.Errorf("1.8.7 crashed although no symlink explains it: %v", r)
		}
		return
	}
	if len(asIs.Misread) > 0 {
		t.Errorf("1.8.7 did not crash on the symlinks %v", asIs.Misread)
	}
	upstream := open(t, path)
	theirs := stored(t, upstream)
	onlyTheirs, onlyOurs, err := upstreamset.Difference(f)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(expand(onlyTheirs), without(expand(theirs), expand(got))); diff != "" {
		t.Errorf("blocks that only 1.8.7 has (-explained +seen):\n%s", diff)
	}
	if diff := gocmp.Diff(expand(onlyOurs), without(expand(got), expand(theirs))); diff != "" {
		t.Errorf("blocks that only we have (-explained +seen):\n%s", diff)
	}
	// The library opens and reads images of 1.8.7.
	sameBlocks(t, upstream, f)
}

// expand lists the blocks of runs.
func expand(runs []upstreamset.Run) []uint64 {
	var blocks []uint64
	for _, r := range runs {
		for n := range r.Len {
			blocks = append(blocks, r.Start+n)
		}
	}
	return blocks
}

// without returns the members of a that are not in b; both ascend.
func without(a, b []uint64) []uint64 {
	var rest []uint64
	for _, n := range a {
		if _, ok := slices.BinarySearch(b, n); !ok {
			rest = append(rest, n)
		}
	}
	return rest
}

// sameBlocks checks that every block in a packed image is that of the volume.
func sameBlocks(t *testing.T, src *o2image.Source, volume io.ReaderAt) {
	t.Helper()
	eachBlock(t, src, volume, func(blkno uint64, got, want []byte) {
		if !bytes.Equal(got, want) {
			t.Fatalf("block %d differs from the volume", blkno)
		}
	})
}

// eachBlock gives every block of a packed image, and that of the volume, to check.
func eachBlock(t *testing.T, src *o2image.Source, volume io.ReaderAt, check func(blkno uint64, got, want []byte)) {
	t.Helper()
	bs := uint64(src.Packed().BlockSize())
	const chunk = 1 << 20
	a, b := make([]byte, chunk), make([]byte, chunk)
	for _, r := range stored(t, src) {
		for r.Len > 0 {
			n := min(r.Len, chunk/bs)
			if _, err := src.ReadAt(a[:n*bs], int64(r.Start*bs)); err != nil {
				t.Fatal(err)
			}
			if _, err := volume.ReadAt(b[:n*bs], int64(r.Start*bs)); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				check(r.Start+i, a[i*bs:][:bs], b[i*bs:][:bs])
			}
			r.Start, r.Len = r.Start+n, r.Len-n
		}
	}
}

// TestDefault checks that a default image has the same blocks as an exact one,
// that they differ only in the contents of inline files, and that no contents
// of a file are in it at all.
func TestDefault(t *testing.T) {
	forVolumes(t, func(t *testing.T, vol *ocfs2test.Volume) {
		f, err := os.Open(vol.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		path := create(t, vol.Path, o2image.CreateOptions{})
		src := open(t, path)
		exact := open(t, create(t, vol.Path, o2image.CreateOptions{Exact: true}))
		if diff := gocmp.Diff(stored(t, exact), stored(t, src)); diff != "" {
			t.Errorf("blocks (-exact +default):\n%s", diff)
		}
		ecc := src.Volume().Super().HasECC()
		var changed, withheld uint64
		eachBlock(t, src, f, func(blkno uint64, got, want []byte) {
			if bytes.Equal(got, want) {
				return
			}
			if string(got) == strings.Repeat("O2IMAGE-WITHHELD", len(got)/16) {
				withheld++
				if kind := ocfs2.Identify(want); kind.Identity(want, blkno, src.Volume().Super().Generation) == nil && kind != ocfs2.KindNone {
					t.Errorf("block %d, %s, is withheld", blkno, kind)
				}
				return
			}
			changed++
			d := ocfs2.AsDinode(want)
			if !d.IsRegular() || d.Union() != ocfs2.UnionInlineData {
				t.Errorf("block %d was changed, and is no inline file", blkno)
			}
			if ecc {
				was, _ := ocfs2.KindInode.VerifyECC(want)
				if is, _ := ocfs2.KindInode.VerifyECC(got); is != was && (is == ocfs2.ECCValid || was == ocfs2.ECCValid) {
					t.Errorf("block %d: the check value was %v and is %v", blkno, was, is)
				}
			}
		})
		report, err := src.Report()
		if err != nil {
			t.Fatal(err)
		}
		if report.Redacted.Inodes != changed {
			t.Errorf("the report says %d inodes were redacted, it is %d", report.Redacted.Inodes, changed)
		}
		if report.Redacted.Blocks != withheld {
			t.Errorf("the report says %d blocks were withheld, it is %d", report.Redacted.Blocks, withheld)
		}
		noContents(t, path, vol)
		if !vol.Populated() {
			return
		}
		tree := ocfs2test.DebugfsTree(t, path, true)
		if diff := gocmp.Diff(ocfs2test.DebugfsTree(t, vol.Path, false), tree); diff != "" {
			t.Errorf("debugfs.ocfs2 (-volume +image):\n%s", diff)
		}
		if !vol.Crashed() {
			tree = slices.DeleteFunc(tree, func(e ocfs2test.TreeEntry) bool { return strings.HasPrefix(e.Path, "//") })
			if diff := gocmp.Diff(listing(vol.Manifest), tree); diff != "" {
				t.Errorf("debugfs.ocfs2 on the image against the kernel (-kernel +image):\n%s", diff)
			}
		}
		commands := sample(vol)
		want := ocfs2test.Debugfs(t, vol.Path, false, commands...)
		if diff := gocmp.Diff(want, ocfs2test.Debugfs(t, exact.Name(), true, commands...)); diff != "" {
			t.Errorf("dumps of inodes (-volume +exact image):\n%s", diff)
		}
		if diff := gocmp.Diff(maskChecks(want), maskChecks(ocfs2test.Debugfs(t, path, true, commands...))); diff != "" {
			t.Errorf("dumps of inodes (-volume +default image):\n%s", diff)
		}
	})
}

// checks are the check values in what debugfs.ocfs2 prints of an inode.
var checks = regexp.MustCompile(`(CRC32|ECC): [0-9a-fA-F]+`)

func maskChecks(s string) string { return checks.ReplaceAllString(s, "$1: -") }

// listing gives a manifest as debugfs.ocfs2 lists it.
func listing(manifest []ocfs2test.Entry) []ocfs2test.TreeEntry {
	var tree []ocfs2test.TreeEntry
	for _, e := range manifest {
		if e.Path == "/" {
			continue
		}
		var mode uint32
		fmt.Sscanf(e.Mode, "%o", &mode)
		tree = append(tree, ocfs2test.TreeEntry{
			Path: e.Path, Ino: e.Ino, Mode: modeString(mode), Nlink: e.Nlink, UID: e.UID, GID: e.GID, Size: e.Size,
		})
	}
	slices.SortFunc(tree, func(a, b ocfs2test.TreeEntry) int { return cmp.Compare(a.Path, b.Path) })
	return tree
}

// modeString gives a mode as debugfs.ocfs2 does: like ls -l, but f for a FIFO.
func modeString(mode uint32) string {
	s := []byte("?rwxrwxrwx")
	s[0] = map[uint32]byte{0x1000: 'f', 0x2000: 'c', 0x4000: 'd', 0x6000: 'b', 0x8000: '-', 0xA000: 'l', 0xC000: 's'}[mode&0xF000]
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			s[i+1] = '-'
		}
	}
	for _, special := range []struct {
		bit   uint32
		at    int
		plain byte
	}{{0o4000, 3, 's'}, {0o2000, 6, 's'}, {0o1000, 9, 't'}} {
		if mode&special.bit == 0 {
			continue
		}
		if s[special.at] == '-' {
			s[special.at] = special.plain - 'a' + 'A'
		} else {
			s[special.at] = special.plain
		}
	}
	return string(s)
}

// sample gives commands that dump a choice of the inodes of a volume, system
// files included.
func sample(vol *ocfs2test.Volume) []string {
	commands := []string{"stats", "stat //global_bitmap", "stat //global_inode_alloc", "stat //inode_alloc:0000", "stat //extent_alloc:0000", "stat //journal:0000", "slotmap"}
	step := max(1, len(vol.Manifest)/40)
	for i := 0; i < len(vol.Manifest); i += step {
		ino := vol.Manifest[i].Ino
		commands = append(commands, fmt.Sprintf("stat <%d>", ino), fmt.Sprintf("xattr -v <%d>", ino))
	}
	return commands
}

// noContents checks that no marker of file contents is in an image.
func noContents(t *testing.T, path string, vol *ocfs2test.Volume) {
	t.Helper()
	classes := map[string]string{}
	for _, s := range vol.Secrets {
		classes[s.Marker] = s.Class
	}
	found := map[string]int{}
	for marker, n := range markers(t, path) {
		found[classes[marker]] += n
	}
	for _, class := range []string{"data", "inline", "stale-inline"} {
		if n := found[class]; n > 0 {
			t.Errorf("%d markers of class %s in the image", n, class)
		}
	}
}

// markers counts the markers in a file.
func markers(t *testing.T, path string) map[string]int {
	t.Helper()
	const prefix, length = "S3CR3T-", 39
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := map[string]int{}
	buf := make([]byte, 1<<20)
	for _, r := range dataRuns(t, f) {
		for off := r[0]; off < r[1]; off += int64(len(buf)) - length {
			n, err := f.ReadAt(buf[:min(int64(len(buf)), r[1]-off)], off)
			if err != nil && err != io.EOF {
				t.Fatal(err)
			}
			for b := buf[:n]; ; {
				i := bytes.Index(b, []byte(prefix))
				if i < 0 || len(b) < i+length {
					break
				}
				found[string(b[i:i+length])]++
				b = b[i+length:]
			}
		}
	}
	return found
}

// TestRaw checks length, holes and contents of raw images, and that converting
// a packed image gives the same bytes.
func TestRaw(t *testing.T) {
	forVolumes(t, func(t *testing.T, vol *ocfs2test.Volume) {
		fsck := ocfs2test.Fsck(t, vol.Path)
		for _, exact := range []bool{false, true} {
			path := create(t, vol.Path, o2image.CreateOptions{Raw: true, Exact: exact})
			sb := open(t, path).Volume().Super()
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() != int64(sb.Bytes()) {
				t.Errorf("raw image of %d bytes, volume of %d", info.Size(), sb.Bytes())
			}
			packedPath := create(t, vol.Path, o2image.CreateOptions{Exact: exact})
			image := open(t, packedPath)
			if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > int64(image.Packed().Header().Stored)*int64(sb.BlockSize())+1<<20 {
				t.Errorf("raw image takes %d bytes of disk, its blocks are %d", used, image.Packed().Header().Stored*uint64(sb.BlockSize()))
			}
			if got := ocfs2test.Fsck(t, path); got != fsck {
				t.Errorf("fsck.ocfs2 (-volume +raw image, exact %v):\n%s", exact, gocmp.Diff(fsck, got))
			}
			back := filepath.Join(t.TempDir(), "converted")
			if _, err := o2image.Convert(t.Context(), packedPath, back, o2image.ConvertOptions{}); err != nil {
				t.Fatal(err)
			}
			sameFiles(t, path, back)
			again := filepath.Join(t.TempDir(), "packed")
			if _, err := o2image.Convert(t.Context(), path, again, o2image.ConvertOptions{Time: made}); err != nil {
				t.Fatal(err)
			}
			converted := open(t, again)
			if diff := gocmp.Diff(stored(t, image), stored(t, converted)); diff != "" {
				t.Errorf("packed image of the raw one (-direct +converted):\n%s", diff)
			}
			sameBlocks(t, converted, image)
			if record, ok := converted.Packed().Record(); !ok || record.Redaction != redactionUnknown {
				t.Errorf("a converted image says %v of its redaction", record.Redaction)
			}
		}
	})
}

const redactionUnknown = image.RedactionUnknown

// sameFiles compares two sparse files, holes and all.
func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	fa, err := os.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer fb.Close()
	ia, _ := fa.Stat()
	ib, _ := fb.Stat()
	if ia.Size() != ib.Size() {
		t.Fatalf("%s has %d bytes, %s %d", a, ia.Size(), b, ib.Size())
	}
	if da, db := dataRuns(t, fa), dataRuns(t, fb); len(da) > 0 || len(db) > 0 {
		bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
		for _, r := range append(da, db...) {
			for off := r[0]; off < r[1]; off += int64(len(bufA)) {
				n := min(int64(len(bufA)), r[1]-off)
				if _, err := fa.ReadAt(bufA[:n], off); err != nil {
					t.Fatal(err)
				}
				if _, err := fb.ReadAt(bufB[:n], off); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(bufA[:n], bufB[:n]) {
					t.Fatalf("%s and %s differ in the MiB from byte %d on", a, b, off)
				}
			}
		}
	}
}

// dataRuns returns where a file has no holes.
func dataRuns(t *testing.T, f *os.File) [][2]int64 {
	t.Helper()
	const seekData, seekHole = 3, 4
	var runs [][2]int64
	for at := int64(0); ; {
		start, err := f.Seek(at, seekData)
		if err != nil {
			return runs // ENXIO: only a hole is left
		}
		if at, err = f.Seek(start, seekHole); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, [2]int64{start, at})
	}
}

// TestDeterministic checks that the same volume gives the same bytes, and that
// a stream gets those of a file.
func TestDeterministic(t *testing.T) {
	for _, name := range []string{"plain-b1k", "metaecc", "discontig", "backup-1g"} {
		vol := ocfs2test.Unpack(t, name)
		for _, raw := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/raw=%v", name, raw), func(t *testing.T) {
				t.Parallel()
				opts := o2image.CreateOptions{Raw: raw, Time: made}
				first := create(t, vol.Path, opts)
				sameFiles(t, first, create(t, vol.Path, opts))
				stream := filepath.Join(t.TempDir(), "stream")
				f, err := os.Create(stream)
				if err != nil {
					t.Fatal(err)
				}
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				go func() {
					_, err := o2image.CreateTo(context.Background(), vol.Path, w, opts)
					w.Close()
					done <- err
				}()
				if _, err := io.Copy(f, r); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				f.Close()
				sameFiles(t, first, stream)
			})
		}
	}
}

// TestTrailer checks that an image verifies, and that a changed byte anywhere
// is found.
func TestTrailer(t *testing.T) {
	path := create(t, ocfs2test.Unpack(t, "plain-b1k").Path, o2image.CreateOptions{})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(b []byte) error {
		trailer, err := packed.ReadTrailer(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		if trailer == nil {
			return fmt.Errorf("no trailer")
		}
		return trailer.Verify(t.Context(), bytes.NewReader(b), 2)
	}
	if err := verify(b); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{4, 0x80, 1024, len(b) / 2, len(b) - 200, len(b) - 1} {
		changed := slices.Clone(b)
		changed[at] ^= 0x10
		if err := verify(changed); err == nil {
			t.Errorf("a changed byte at %d of %d was not found", at, len(b))
		}
	}
	report, err := open(t, path).Report()
	if err != nil {
		t.Fatal(err)
	}
	if report.Volume.Label != "plain-b1k" || !strings.Contains(strings.Join(report.Volume.Features, " "), "inline-data") || !report.Created.Equal(made) {
		t.Errorf("report: %+v", report)
	}
}
