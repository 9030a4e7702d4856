// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"o2image/internal/ocfs2test"
	"o2image/ocfs2"
	"o2image/volume"
)

// TestStartZeroed opens volumes without a backup superblock, the start of which was
// overwritten. What shows itself behind that is in the set, and as long as the
// inodes of the system files are, all the rest as well.
func TestStartZeroed(t *testing.T) {
	for _, name := range []string{
		"plain-b512", "plain-b1k", "plain-b4k", "plain-c64k", "min-b2k-c4k", "min-b2k-c64k", "min-b4k-c64k",
		"nometaecc", "xattr-b1k", "selinux-b4k", "reflink-b4k", "dx-tree-b1k",
	} {
		v, f := openFile(t, ocfs2test.Unpack(t, name).Path)
		sound, err := v.Metadata(t.Context(), volume.Options{})
		if err != nil {
			t.Fatal(err)
		}
		sb := v.Super()
		inodes := sb.GroupBlkno(0) + sb.BlocksPerCluster() + 1 // of system files
		for _, lost := range []uint64{8, 64, 1024} {
			t.Run(fmt.Sprintf("%s/%d KiB", name, lost), func(t *testing.T) {
				end := lost << 10 >> sb.BlockBits // the first block that is left
				got, meta := walkBroken(t, broken{ReaderAt: f, patches: map[int64][]byte{0: make([]byte, lost<<10)}})
				if end <= ocfs2.SuperBlockBlkno {
					return
				}
				g := got.Super()
				if g.BlockBits != sb.BlockBits || g.Generation != sb.Generation {
					t.Errorf("block size %d, generation %#x; want %d, %#x", g.BlockSize(), g.Generation, sb.BlockSize(), sb.Generation)
				}
				// Without a second group the inodes of journals tell of clusters and length.
				if (sb.Groups() > 1 || end < inodes+12) && (g.ClusterBits != sb.ClusterBits || g.Clusters != sb.Clusters) {
					t.Errorf("%d clusters of %d bytes, want %d of %d", g.Clusters, g.ClusterSize(), sb.Clusters, sb.ClusterSize())
				}
				if meta.Complete() {
					t.Error("nothing is missing")
				}
				wanted, missing := 0, 0
				for run := range sound.Blocks.From(end) {
					for blkno := run.Start; blkno < run.Start+run.Len; blkno++ {
						if end > inodes {
							b, err := v.ReadBlock(t.Context(), blkno)
							if err != nil {
								t.Fatal(err)
							}
							if kind := ocfs2.Identify(b); kind == ocfs2.KindNone || kind.Identity(b, blkno, sb.Generation) != nil {
								continue
							}
						}
						wanted++
						if !meta.Blocks.Has(blkno) {
							if missing++; missing < 5 {
								t.Errorf("block %d of class %s is not in the set", blkno, volume.Class(run.Tag))
							}
						}
					}
				}
				if n := meta.Free[volume.ClassExtent]; n > sound.Free[volume.ClassExtent] {
					t.Errorf("%d free blocks of extent allocators, want at most %d", n, sound.Free[volume.ClassExtent])
				}
				if wanted == 0 {
					t.Error("nothing was left to be found")
				}
			})
		}
	}
}

// TestImageOfRemains opens what was stored of a volume by what was found of it.
func TestImageOfRemains(t *testing.T) {
	_, f := openFile(t, ocfs2test.Unpack(t, "plain-c64k").Path)
	lost := broken{ReaderAt: f, patches: map[int64][]byte{0: make([]byte, 1<<20)}}
	v, meta := walkBroken(t, lost)
	bits := v.Super().BlockBits
	image := readFunc(func(p []byte, off int64) (int, error) {
		n, err := lost.ReadAt(p, off)
		for i := 0; i < n; i += ocfs2.MinBlockSize {
			if !meta.Blocks.Has(uint64(off+int64(i)) >> bits) { //nolint:gosec // not negative
				clear(p[i:min(n, i+ocfs2.MinBlockSize)])
			}
		}
		return n, err
	})
	got, err := volume.OpenImage(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	if got.Super().Generation != v.Super().Generation || got.Super().BlockBits != bits {
		t.Errorf("opened as %+v, generation %#x", got.Super().Geometry, got.Super().Generation)
	}
}

// TestNoLength opens a volume whose superblock says that it has no clusters.
func TestNoLength(t *testing.T) {
	const offClusters = 0x14
	v, f := openFile(t, ocfs2test.Unpack(t, "plain-b4k").Path)
	bitmap, err := v.SystemFile(t.Context(), "global_bitmap")
	if err != nil {
		t.Fatal(err)
	}
	sb := v.Super()
	at := func(blkno uint64) int64 { return int64(blkno) << sb.BlockBits } //nolint:gosec // inside the volume
	zeros := make([]byte, sb.BlockSize())
	for from, lost := range map[string][]uint64{
		"the inode of the global bitmap": {sb.FirstClusterGroup},
		"the length of the device":       {sb.FirstClusterGroup, bitmap.Blkno()},
	} {
		patches := map[int64][]byte{at(ocfs2.SuperBlockBlkno) + offClusters: zeros[:4]}
		for _, blkno := range lost {
			patches[at(blkno)] = zeros
		}
		got, meta := walkBroken(t, broken{ReaderAt: f, patches: patches})
		if got.Super().Clusters != sb.Clusters {
			t.Errorf("%d clusters, want %d", got.Super().Clusters, sb.Clusters)
		}
		if !slices.ContainsFunc(meta.Findings, func(f volume.Finding) bool { return strings.HasSuffix(f.Text, from) }) {
			t.Errorf("no finding that tells of %s: %v", from, meta.Findings)
		}
	}
}
