// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"o2image/blockset"
	"o2image/image"
	"o2image/image/packed"
	"o2image/image/raw"
	"o2image/ocfs2"
)

// openVolume returns a real volume.
func openVolume(tb tester, r io.ReaderAt, blockSize int) *volume {
	tb.Helper()
	b := make([]byte, blockSize)
	if _, err := r.ReadAt(b, 2*int64(blockSize)); err != nil {
		tb.Fatal(err)
	}
	sb, err := ocfs2.DecodeSuperBlock(b, 2)
	if err != nil {
		tb.Fatal(err)
	}
	return &volume{sb.Geometry, r}
}

// TestVectors images two volumes that were filled by the kernel, of which the
// blocks that 1.8.7 stores and the hashes of its images are known.
func TestVectors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		file      string
		blockSize int
		runs      [][2]uint64
		packed    string
		raw       string
		rawSize   int
	}{
		{
			"volume-512.img.gz", 512,
			[][2]uint64{
				{0, 9},
				{16, 12848},
				{28672, 1},
				{28944, 24},
				{28984, 8},
				{29112, 16},
				{29248, 8},
				{29392, 8},
				{29784, 8},
			},
			"f3b87afbcdb2e28c12a1de204919441b7838a17a25627131c8b72eae2388221b",
			"d33647050f657a7a6bee27fa1a6f52d93362b8af813bfd7a67cd117e653e65ca", 15253504,
		},
		{
			"volume-4096.img.gz", 4096,
			[][2]uint64{{0, 2587}, {2603, 2}, {2619, 3}, {2624, 4}, {2640, 2}, {7706, 1024}},
			"4e068c0e39f7bc40f2f9a2c542f7830a0bdb037dac993ab8d3fb15c1bacea712",
			"02edeb6df9af8f8ebbc8d49128f6159afffd36e46ae83cf0b0ea83efdc9068a2", 35758080,
		},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			data := gunzip(t, "../../testdata/volumes/"+tt.file)
			v := openVolume(t, bytes.NewReader(data), tt.blockSize)
			set := setOf(tt.runs...)
			file, _ := pack(t, v, set, packed.LayoutOptions{})
			old := change(file, 0x80, make([]byte, 0x30)...)
			if got := fmt.Sprintf("%x", sha256.Sum256(old)); got != tt.packed {
				t.Errorf("packed image has hash %s, want %s", got, tt.packed)
			}
			if diff := cmp.Diff(spans(set), runsOf(t, open(t, file))); diff != "" {
				t.Errorf("runs (-want +got):\n%s", diff)
			}
			// 1.8.7 ends a raw image behind the last stored block.
			file = build(t, v, raw.NewLayout(v.Geometry, func() iter.Seq2[image.Run, error] {
				return func(yield func(image.Run, error) bool) {
					for start, n := range set.Spans() {
						if !yield(image.Run{Start: start, Len: n}, nil) {
							return
						}
					}
				}
			}))
			if got := fmt.Sprintf("%x", sha256.Sum256(file[:tt.rawSize])); got != tt.raw {
				t.Errorf("raw image has hash %s, want %s", got, tt.raw)
			}
			if len(file) != len(data) || len(bytes.Trim(file[tt.rawSize:], "\x00")) > 0 {
				t.Errorf("raw image of %d bytes, want %d, zero at the end", len(file), len(data))
			}
		})
	}
}

func gunzip(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// run runs a tool with fresh memory of the C library zero, without which 1.8.7
// stores what it finds there, and returns what it printed.
func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "MALLOC_PERTURB_=255", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// TestUpstream compares with the C tools on volumes of every block size: the
// image that 1.8.7 makes is opened, laid out anew from what was read, and must
// be the same file; what is laid out here, 1.8.7 must restore and debugfs.ocfs2
// must read like the volume.
func TestUpstream(t *testing.T) {
	t.Parallel()
	tests := []struct {
		blockSize   int
		clusterSize int
		size        int64 // bytes
		journal     string
	}{
		{512, 4096, 40 << 20, "4M"},
		{1024, 16384, 48 << 20, "4M"},
		{2048, 4096, 100<<20 + 4096, "4M"},
		{4096, 4096, 300<<20 + 8192, "4M"},
		{4096, 1 << 20, 1<<30 + 5<<20, "16M"}, // room for a backup superblock
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("b%d-C%d", tt.blockSize, tt.clusterSize), func(t *testing.T) {
			dir := t.TempDir()
			volumeName := filepath.Join(dir, "volume")
			if err := os.WriteFile(volumeName, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(volumeName, tt.size); err != nil {
				t.Fatal(err)
			}
			run(t, "", "mkfs.ocfs2", "-q", "-x", "-F", "-M", "local", "-N", "2", "-J", "size="+tt.journal, "-L", "label",
				"-b", strconv.Itoa(tt.blockSize), "-C", strconv.Itoa(tt.clusterSize), volumeName)
			v := openVolume(t, openFile(t, volumeName), tt.blockSize)

			upstreamName := filepath.Join(dir, "upstream")
			run(t, "", "o2image", volumeName, upstreamName)
			want, err := os.ReadFile(upstreamName)
			if err != nil {
				t.Fatal(err)
			}
			r := open(t, want)
			if _, ok := r.Record(); ok {
				t.Error("image of 1.8.7 has a record")
			}
			if trailer, err := r.Trailer(); trailer != nil || err != nil {
				t.Errorf("image of 1.8.7 has trailer %v, %v", trailer, err)
			}
			b := blockset.NewBuilder()
			for _, run := range runsOf(t, r) {
				b.Add(run.Start, run.Len, 0)
				image := volume{v.Geometry, r}
				if !bytes.Equal(image.blocks(t, run.Start, run.Len), v.blocks(t, run.Start, run.Len)) {
					t.Errorf("blocks of %+v are not those of the volume", run)
				}
			}
			set := b.Seal()
			got, l := pack(t, v, set, packed.LayoutOptions{Timestamp: r.Header().Timestamp, Redaction: image.RedactionDefault})
			if !bytes.Equal(change(got, 0x80, make([]byte, 0x30)...), want) {
				t.Error("laid out anew, the image is another")
			}

			trailer, err := packed.EncodeTrailer([]byte("{}"), leaves(got), l.Record(), 0)
			if err != nil {
				t.Fatal(err)
			}
			ourName := filepath.Join(dir, "ours")
			if err := os.WriteFile(ourName, append(got, trailer...), 0o600); err != nil {
				t.Fatal(err)
			}
			if len(r.Header().Superblocks) > 0 {
				want := run(t, "", "debugfs.ocfs2", "-s", "1", "-R", "stats", volumeName)
				if diff := cmp.Diff(want, run(t, "", "debugfs.ocfs2", "-i", "-s", "1", "-R", "stats", ourName)); diff != "" {
					t.Errorf("debugfs.ocfs2 by the backup superblock (-volume +image):\n%s", diff)
				}
			}
			for _, command := range []string{"stats", "ls -l //", "ls -l /", "stat //inode_alloc:0001", "stat //journal:0000"} {
				want := run(t, "", "debugfs.ocfs2", "-R", command, volumeName)
				if diff := cmp.Diff(want, run(t, "", "debugfs.ocfs2", "-i", "-R", command, ourName)); diff != "" {
					t.Errorf("debugfs.ocfs2 %s (-volume +image):\n%s", command, diff)
				}
			}

			restoredName := filepath.Join(dir, "restored")
			run(t, "y\n", "o2image", "-I", restoredName, ourName)
			restored := volume{v.Geometry, openFile(t, restoredName)}
			for start, n := range set.Spans() {
				if !bytes.Equal(restored.blocks(t, start, n), v.blocks(t, start, n)) {
					t.Errorf("restored by 1.8.7, blocks %d to %d are not those of the volume", start, start+n-1)
				}
			}
		})
	}
}

func openFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
