// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"o2image/blockio"
	"o2image/ocfs2"
)

// remains is what tells of a volume that lost its superblock and what that leads
// to: blocks that bear their own number, by which follows how large a block is.
type remains struct {
	blocks   int          // how many
	clusters [32]int      // how many of them speak for a cluster size, by its log2
	bitmap   ocfs2.Dinode // the inode of the global bitmap
	journals int          // inodes of journals
	checked  int          // inodes whose check value is right
	inodes   int
}

// kinship is what the blocks of a volume have in common.
type kinship struct {
	blockBits  uint8
	generation uint32 // i_fs_generation
}

// geometry returns that of the volume, as far as a block tells of it.
func (k kinship) geometry() ocfs2.Geometry {
	return ocfs2.Geometry{BlockBits: k.blockBits, ClusterBits: 12}
}

const (
	// scanWindow is how much of a device is looked through for remains at a time,
	// in bytes. mkfs.ocfs2 puts the inodes of system files into the first one.
	scanWindow = 4 << 20
	// scanLimit is where it ends at the latest.
	scanLimit = 1 << 30
	// maxKinships bounds how many volumes the blocks can be of.
	maxKinships = 1024
)

// fromRemains opens a volume of which neither a superblock nor the first group of
// the global bitmap is left, by what else there is near the start and where the
// second group can lie. It goes on behind the first window only if there is sure to
// be one, or that holds something of it, such as journals with their copies of blocks.
func fromRemains(ctx context.Context, r io.ReaderAt, sure bool) *Volume {
	found := make(map[kinship]*remains)
	for start := int64(0); start < scanLimit && ctx.Err() == nil; start += scanWindow {
		traces, more := scanFor(ctx, r, start, found)
		if start == 0 {
			secondGroups(ctx, r, found)
		}
		if !sure && !traces && start == 0 || !more {
			break
		}
		if _, best := mostOf(found); best != nil && best.blocks >= enoughWitnesses {
			if _, alone := best.clusterBits(); alone {
				break
			}
		}
	}
	kin, best := mostOf(found)
	if best == nil || best.blocks < enoughWitnesses || ctx.Err() != nil {
		return nil
	}
	return best.open(ctx, r, kin)
}

// mostOf returns those remains that are the most blocks.
func mostOf(found map[kinship]*remains) (kin kinship, best *remains) {
	for k, f := range found {
		if best == nil || f.blocks > best.blocks || f.blocks == best.blocks && k.generation > kin.generation {
			kin, best = k, f
		}
	}
	return kin, best
}

// scanFor adds to found what is in a window from byte start on. It reports whether
// there are traces of a volume, and whether there is more behind the window.
func scanFor(ctx context.Context, r io.ReaderAt, start int64, found map[kinship]*remains) (traces, more bool) {
	buf := make([]byte, scanPiece)
	for off := start; off < start+scanWindow && ctx.Err() == nil; off += scanPiece {
		err := blockio.ReadFull(r, buf, off)
		if errors.Is(err, blockio.ErrEnd) {
			return traces, false
		}
		for at := 0; at < len(buf); at += ocfs2.MinBlockSize {
			if blockio.Within(err, off+int64(at), ocfs2.MinBlockSize) == nil {
				_, log := ocfs2.DecodeJournalHeader(buf[at:])
				traces = lookFor(found, buf[at:], uint64(off)+uint64(at)) || log || traces //nolint:gosec // not negative
			}
		}
	}
	return traces, true
}

// lookFor adds to found what block b, read from byte off, tells of a volume. It
// reports whether b is a block of one, wherever it belongs.
func lookFor(found map[kinship]*remains, b []byte, off uint64) bool {
	kind := ocfs2.Identify(b)
	own, ok := kind.Blkno(b)
	generation, _ := kind.Generation(b)
	if !ok || own < ocfs2.SuperBlockBlkno || off%own != 0 {
		return kind != ocfs2.KindNone
	}
	size := off / own
	if bits.OnesCount64(size) != 1 || size < ocfs2.MinBlockSize || size > ocfs2.MaxBlockSize || uint64(len(b)) < size {
		return true
	}
	k := kinship{uint8(bits.TrailingZeros64(size)), generation} //nolint:gosec // at most 12
	if found[k] == nil {
		if len(found) >= maxKinships {
			return true
		}
		found[k] = new(remains)
	}
	found[k].blocks++
	if kind == ocfs2.KindInode {
		found[k].inode(b[:size], k)
	}
	return true
}

// inode counts an inode of the volume, in b.
func (f *remains) inode(b []byte, k kinship) {
	f.inodes++
	if state, _ := ocfs2.KindInode.VerifyECC(b); state == ocfs2.ECCValid {
		f.checked++
	}
	d := ocfs2.AsDinode(b)
	if !d.IsValid() {
		return
	}
	if d.Flags().Has(ocfs2.InodeJournal) {
		f.journals++
	}
	n := uint64(d.Clusters())
	if n == 0 {
		return
	}
	for size := uint(12); size <= 20; size++ {
		if (d.Size()+1<<size-1)>>size == n {
			f.clusters[size]++
		}
	}
	chains := d.Chains()
	if d.Union() == ocfs2.UnionChain && chains.BPC() == 1 && chains.CPG() == k.geometry().GroupBits() && uint64(d.BitmapTotal()) == n {
		f.bitmap = ocfs2.AsDinode(bytes.Clone(b))
	}
}

// decisive is how many inodes a group outweighs that tells the cluster size.
const decisive = 1 << 20

// secondGroups looks for the second group of the global bitmap, whose place follows
// from the sizes of blocks and clusters.
func secondGroups(ctx context.Context, r io.ReaderAt, found map[kinship]*remains) {
	for blockBits := uint8(9); blockBits <= 12; blockBits++ {
		for clusterBits := uint8(12); clusterBits <= 20 && ctx.Err() == nil; clusterBits++ {
			g := ocfs2.Geometry{BlockBits: blockBits, ClusterBits: clusterBits}
			b, blkno := make([]byte, g.BlockSize()), g.GroupBlkno(1)
			if blockio.ReadFull(r, b, int64(blkno)<<blockBits) != nil { //nolint:gosec // at most 32 GiB
				continue
			}
			generation, _ := ocfs2.KindGroup.Generation(b)
			if ocfs2.KindGroup.Identity(b, blkno, generation) != nil {
				continue
			}
			k := kinship{blockBits, generation}
			if found[k] == nil {
				found[k] = new(remains)
			}
			// Where it lies says as much as that it is there. For larger clusters a
			// later group is in the place of the second one.
			found[k].blocks += enoughWitnesses
			found[k].clusters[clusterBits] += decisive
			break
		}
	}
}

// clusterBits returns the cluster size that most blocks speak for, by its log2, the
// smallest if several do; alone says that it is the only one.
func (f *remains) clusterBits() (size uint8, alone bool) {
	size, alone = 12, true
	for other := size + 1; other <= 20; other++ {
		switch {
		case f.clusters[other] > f.clusters[size]:
			size, alone = other, true
		case f.clusters[other] == f.clusters[size]:
			alone = false
		}
	}
	return size, alone
}

// open opens the volume that left the remains.
func (f *remains) open(ctx context.Context, r io.ReaderAt, k kinship) *Volume {
	sb := &ocfs2.SuperBlock{
		Geometry: k.geometry(), Blkno: ocfs2.SuperBlockBlkno,
		Compat: ocfs2.CompatBackupSB, MinorRev: 90, Generation: k.generation, MaxSlots: min(f.journals, ocfs2.MaxSlots),
	}
	sb.ClusterBits, _ = f.clusterBits()
	if f.inodes > 0 && 2*f.checked > f.inodes {
		sb.Incompat = ocfs2.IncompatMetaECC
	}
	sb.FirstClusterGroup = sb.GroupBlkno(0)
	v := &Volume{r: r, sb: sb, salvaged: true, witnesses: enoughWitnesses}
	v.correctBy(ctx, f.bitmap)
	return v
}

// length returns the length of what r reads, in bytes, rounded down to sectors.
func length(ctx context.Context, r io.ReaderAt) int64 {
	const sector = ocfs2.MinBlockSize
	b := make([]byte, sector)
	holds := func(n int64) bool {
		return ctx.Err() == nil && !errors.Is(blockio.ReadFull(r, b, n*sector), blockio.ErrEnd)
	}
	end := int64(1)
	for end < 1<<50 && holds(end) {
		end *= 2
	}
	first := int64(0) // sectors below it are there, those from end on are not
	for first < end {
		if middle := first + (end-first)/2; holds(middle) {
			first = middle + 1
		} else {
			end = middle
		}
	}
	return first * sector
}

// measured says what the length of a volume was taken from that its superblock does
// not tell: the inode of the global bitmap, if the system directory leads to that, or
// else the device, as Clusters has it.
func (v *Volume) measured(ctx context.Context) {
	sb, from := v.sb, "the length of the device"
	d, err := v.SystemFile(ctx, "global_bitmap")
	if total := d.BitmapTotal(); err == nil && d.Union() == ocfs2.UnionChain && total > 0 && uint64(total) == d.Size()>>sb.ClusterBits {
		sb.Clusters, from = total, "the inode of the global bitmap"
	}
	v.found = append(v.found, Finding{
		Severity: Damaged, Class: ClassSuper, Block: sb.Blkno,
		Text: fmt.Sprintf("ocfs2_super_block i_clusters: got 0, taken for %d by %s", sb.Clusters, from),
	})
}
