// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package upstreamset

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// upstream is o2image 1.8.7 as the package ocfs2-tools installs it. A name
// alone might find another o2image.
const upstream = "/sbin/o2image"

// upstreamImage returns the set of blocks in the packed image that 1.8.7 makes
// of the volume in the file of that name. Without MALLOC_PERTURB_ the tool takes
// stray bits in fresh memory for marked blocks.
func upstreamImage(t *testing.T, volume string) *Result {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	cmd := exec.Command(upstream, volume, image)
	cmd.Env = append(os.Environ(), "MALLOC_PERTURB_=255")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	set, err := parsePacked(b)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// parsePacked returns the set of blocks in a packed image.
func parsePacked(b []byte) (*Result, error) {
	if len(b) < 0x78 || le.Uint32(b) != 0x72A3D45F || le.Uint64(b[0x18:]) != 1 {
		return nil, fmt.Errorf("not a packed image of version 1")
	}
	set := &Result{BlockSize: int(le.Uint64(b[0x28:])), Blocks: le.Uint64(b[0x20:])}
	stored := le.Uint64(b[0x30:])
	bitmap := (set.Blocks + 32767) / 32768 * 4096
	if want := uint64(set.BlockSize)*(1+stored) + bitmap; uint64(len(b)) != want {
		return nil, fmt.Errorf("packed image of %d bytes, want %d", len(b), want)
	}
	bits := b[uint64(len(b))-bitmap:]
	var marked []Run
	for n := range set.Blocks {
		if bits[n/8]>>(n%8)&1 != 0 {
			marked = append(marked, Run{n, 1})
		}
	}
	if uint64(len(marked)) != stored {
		return nil, fmt.Errorf("packed image with %d bits set and %d blocks", len(marked), stored)
	}
	set.Runs = merge(marked)
	return set, nil
}

// compareWithUpstream compares the set of the volume in the file of that name
// with that of 1.8.7.
func compareWithUpstream(t *testing.T, volume string) {
	t.Helper()
	f, err := os.Open(volume)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := Compute(f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(upstreamImage(t, volume), got); diff != "" {
		t.Errorf("o2image 1.8.7 and Compute differ: %s", diff)
	}
}

// TestNewVolumes compares volumes as mkfs.ocfs2 leaves them, and some that
// tunefs.ocfs2 changed.
func TestNewVolumes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		size   int64 // MiB
		mkfs   string
		blocks string // size of the file system, if it is not that of the file
		tunefs string
	}{
		{size: 24, mkfs: "-b 512 -C 4K"},
		{size: 48, mkfs: "-b 512 -C 64K"},
		{size: 600, mkfs: "-b 512 -C 4K"}, // two groups a chain
		{size: 32, mkfs: "-b 1024 -C 4K"},
		{size: 300, mkfs: "-b 1024 -C 1M -J size=16M"},
		{size: 32, mkfs: "-b 2048 -C 8K"},
		{size: 48, mkfs: "-b 2048 -C 128K"},
		{size: 32, mkfs: "-b 4096 -C 4K"},
		{size: 48, mkfs: "-b 4096 -C 32K"},
		{size: 300, mkfs: "-b 4096 -C 1M -J size=16M"},
		{size: 100, mkfs: "-b 4096 -C 4K -N 8"},
		{size: 5000, mkfs: "-b 4096 -C 64K"}, // two backup superblocks
		{size: 1200, mkfs: "-b 4096 -C 4K --fs-features=nobackup-super"},
		{size: 48, mkfs: "-b 4096 -C 4K --fs-feature-level=max-compat"},
		{size: 48, mkfs: "-b 1024 -C 4K --fs-feature-level=max-features"},
		{size: 48, mkfs: "-b 512 -C 4K --fs-features=noinline-data"}, // indexed system directory
		{size: 48, mkfs: "-b 4096 -C 4K --fs-features=noinline-data,noindexed-dirs"},
		{size: 100, mkfs: "-b 4096 -C 4K", tunefs: "-N 5"},
		{size: 64, mkfs: "-b 512 -C 4K", blocks: "100000"},
		{size: 64, mkfs: "-b 512 -C 4K", blocks: "100000", tunefs: "-S"}, // grown
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.size, "M ", tt.mkfs, " ", tt.blocks, " ", tt.tunefs), func(t *testing.T) {
			t.Parallel()
			volume := filepath.Join(t.TempDir(), "volume")
			if err := os.WriteFile(volume, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(volume, tt.size<<20); err != nil {
				t.Fatal(err)
			}
			args := strings.Fields("-q -x -M local -J size=4M " + tt.mkfs)
			args = append(args, volume)
			if tt.blocks != "" {
				args = append(args, tt.blocks)
			}
			run(t, "mkfs.ocfs2", args...)
			if tt.tunefs != "" {
				run(t, "tunefs.ocfs2", append(strings.Fields(tt.tunefs), volume)...)
			}
			compareWithUpstream(t, volume)
		})
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, args, err, out)
	}
}

// TestKernelVolumes compares volumes that the kernel has filled, as they are and
// with an inode or a group changed into what they do not hold. 1.8.7 takes no
// notice of the check values, which are wrong then. The expected differences are
// extents in volumes.json and, for the index of /d_xblk, what "dx_root <8750>" of
// debugfs.ocfs2 gives.
func TestKernelVolumes(t *testing.T) {
	t.Parallel()
	// addXattr says of inode n that it has attributes, outside it if loc is not 0.
	addXattr := func(v volumeBytes, n int, loc uint64) {
		v.at(n)[0x76] |= dynHasXattr
		le.PutUint64(v.at(n)[0x78:], loc)
	}
	// moveTree gives inode to of volume4096 the attributes of /x_tree, whose
	// buckets nothing else leads to.
	moveTree := func(v volumeBytes, to int) {
		clear(v.at(1570)[0x76:0x80])
		addXattr(v, to, 7708)
	}
	longlink := Run{28808, 8}   // volume512: target of /longlink
	entries512 := Run{29256, 8} // and entries of /d_xblk
	index512 := Run{29384, 8}   // and its index
	data4096 := Run{2603, 2}    // volume4096: data of /x_inl_ext
	entries4096 := Run{2642, 2} // and entries of /d_xblk, whose index is in its root
	tests := []struct {
		name         string
		volume       string
		change       func(v volumeBytes)
		onlyUpstream []Run // what Difference gives
		onlyFixed    []Run
	}{
		{name: "as it is", volume: volume512, change: func(volumeBytes) {}, onlyFixed: []Run{longlink, entries512, index512}},
		{name: "as it is", volume: volume4096, change: func(volumeBytes) {}, onlyUpstream: []Run{data4096}, onlyFixed: []Run{entries4096}},
		{
			name:         "fragmented file with inline attributes",
			volume:       volume4096,
			change:       func(v volumeBytes) { addXattr(v, 2278, 0) },
			onlyUpstream: []Run{data4096, {2658, 260}}, // data of /frag
			onlyFixed:    []Run{entries4096},
		},
		{
			name:         "inline file with inline attributes",
			volume:       volume4096,
			change:       func(v volumeBytes) { addXattr(v, 1564, 0) },
			onlyUpstream: []Run{data4096},
			onlyFixed:    []Run{entries4096},
		},
		{
			name:         "file with an attribute block",
			volume:       volume4096,
			change:       func(v volumeBytes) { addXattr(v, 2278, 7707) },
			onlyUpstream: []Run{data4096},
			onlyFixed:    []Run{entries4096},
		},
		{
			name:      "indexed directory with an attribute block",
			volume:    volume512,
			change:    func(v volumeBytes) { addXattr(v, 10850, 8746) },
			onlyFixed: []Run{longlink, {29120, 8}, {29248, 16}, index512}, // entries and index of /d_dxtree
		},
		{
			name:         "directory with inline attributes",
			volume:       volume4096,
			change:       func(v volumeBytes) { addXattr(v, 1726, 0) },
			onlyUpstream: []Run{data4096},
			onlyFixed:    []Run{entries4096},
		},
		{
			name:         "inline directory with an attribute tree",
			volume:       volume4096,
			change:       func(v volumeBytes) { moveTree(v, 1571) },
			onlyUpstream: []Run{data4096},
			onlyFixed:    []Run{entries4096},
		},
		{
			name:      "long symlink with inline attributes",
			volume:    volume512,
			change:    func(v volumeBytes) { addXattr(v, 10821, 0) },
			onlyFixed: []Run{entries512, index512},
		},
		{
			name:   "fast symlink of four bytes with inline attributes",
			volume: volume4096,
			change: func(v volumeBytes) {
				addXattr(v, 1566, 0)
				v.at(1566)[0x20] = 4
				v.put(1566, 0xC0, 't', 'e', 'x', 't', 0, 0)
			},
			onlyUpstream: []Run{data4096},
			onlyFixed:    []Run{entries4096},
		},
		{
			name:         "fast symlink with an attribute tree",
			volume:       volume4096,
			change:       func(v volumeBytes) { moveTree(v, 1566) },
			onlyUpstream: []Run{data4096},
			onlyFixed:    []Run{entries4096},
		},
		{
			name:   "inode no longer in use, its block overwritten",
			volume: volume4096,
			change: func(v volumeBytes) {
				bit := 1564 - 1562 // group descriptor in front of lost+found
				v.at(1562)[0x40+bit/8] &^= 1 << (bit % 8)
				clear(v.at(1564))
			},
			onlyUpstream: []Run{data4096},
			onlyFixed:    []Run{entries4096},
		},
		{
			name:   "discontiguous group",
			volume: volume512,
			change: func(v volumeBytes) {
				g := v.at(8744)           // of extent_alloc:0000, 256 clusters
				v.put(8744, 0x140, 0, 0)  // depth
				v.put(8744, 0x142, 11, 0) // capacity
				v.put(8744, 0x144, 3, 0)  // records
				for i, rec := range []struct{ cpos, clusters, block uint64 }{{0, 100, 8744}, {100, 56, 40000}, {156, 100, 48000}} {
					b := g[0x150+0x10*i:]
					le.PutUint64(b, rec.cpos|rec.clusters<<32)
					le.PutUint64(b[8:], rec.block)
				}
			},
			onlyFixed: []Run{longlink, entries512, index512},
		},
	}
	for _, tt := range tests {
		t.Run(tt.volume+" "+tt.name, func(t *testing.T) {
			t.Parallel()
			b := unpack(t, tt.volume)
			blockSize := 4096
			if tt.volume == volume512 {
				blockSize = 512
			}
			tt.change(volumeBytes{b, blockSize})
			volume := filepath.Join(t.TempDir(), "volume")
			if err := os.WriteFile(volume, b, 0o600); err != nil {
				t.Fatal(err)
			}
			compareWithUpstream(t, volume)

			onlyUpstream, onlyFixed, err := Difference(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.onlyUpstream, onlyUpstream); diff != "" {
				t.Errorf("only upstream: %s", diff)
			}
			if diff := cmp.Diff(tt.onlyFixed, onlyFixed); diff != "" {
				t.Errorf("only fixed: %s", diff)
			}
		})
	}
}
