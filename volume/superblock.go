// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"strings"

	"o2image/blockio"
	"o2image/ocfs2"
)

// Open finds the superblock in r, whose offsets are bytes from the start of
// the volume, by trying all block sizes. If it is damaged, a backup and what
// the volume itself says stand in, and [Volume.Metadata] says so.
//
// The error is [ocfs2.ErrNotOCFS2] if there is no sign of a volume,
// [ocfs2.ErrUnsupported] if it is one that this program does not know, or else
// what r returned.
func Open(ctx context.Context, r io.ReaderAt) (*Volume, error) { return open(ctx, r, false) }

// OpenImage is Open for what is known to be the metadata of a volume, as a packed
// image is: it does not ask what else r may hold. The volume may have been opened by
// a backup although something else was written over its start.
func OpenImage(ctx context.Context, r io.ReaderAt) (*Volume, error) { return open(ctx, r, true) }

func open(ctx context.Context, r io.ReaderAt, sure bool) (*Volume, error) {
	v, damaged := openPrimary(ctx, r)
	if v != nil {
		return v, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	kind := ""
	if !sure {
		kind = foreign(r)
	}
	if kind != "" && kind != swapSpace {
		return nil, holds(kind)
	}
	var best *Volume
	for _, c := range candidates(r) {
		if c.correct(ctx); best == nil || c.witnesses > best.witnesses {
			best = c
		}
	}
	if best == nil || best.witnesses < enoughWitnesses {
		// mkswap writes one page, and swapping begins behind it: a volume that is
		// still there was not used for that. Others write more, and hold data.
		if kind != "" {
			return nil, holds(kind)
		}
		if best == nil || best.denied() {
			if found := fromNothing(ctx, r, sure); found != nil {
				best = found
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if best == nil || !best.supported() {
		return nil, damaged
	}
	best.because(damaged)
	return best, nil
}

// holds is the error for something that is no volume.
func holds(kind string) error { return fmt.Errorf("%w: it holds %s", ocfs2.ErrNotOCFS2, kind) }

// denied reports whether something else is where the superblock says that the
// first group and the directories are. What cannot be read denies nothing.
func (v *Volume) denied() bool {
	for _, blkno := range []uint64{v.sb.FirstClusterGroup, v.sb.SystemDir, v.sb.Root} {
		if b := v.at(blkno); b != nil && ocfs2.Identify(b) == ocfs2.KindNone {
			return true
		}
	}
	return false
}

// supported reports whether the volume is one that this program knows.
func (v *Volume) supported() bool { return v.sb.Incompat&^ocfs2.KnownIncompat == 0 }

// OpenBackup opens the volume in r by its backup superblock n, from 1 to
// [ocfs2.MaxBackups], and by no other. What differs in the superblock is a finding.
func OpenBackup(ctx context.Context, r io.ReaderAt, n int) (*Volume, error) {
	found := backups(r, n, n)
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: no backup superblock at byte %d", ocfs2.ErrNotOCFS2, ocfs2.BackupOffset(n))
	}
	v := found[0]
	if v.correct(ctx); !v.supported() {
		return nil, fmt.Errorf("%w: incompatible features %v", ocfs2.ErrUnsupported, v.sb.Incompat)
	}
	if b := v.at(ocfs2.SuperBlockBlkno); b != nil { // else the copy says so
		v.found = append(v.found, v.checkCopy(b, ocfs2.SuperBlockBlkno)...)
	}
	return v, ctx.Err()
}

// because notes why the volume was not opened by the superblock in block 2.
func (v *Volume) because(err error) {
	text := "no superblock is left; sizes and places are taken from what it should lead to"
	severity, lost := NotFollowed, "label, UUID and features of the volume"
	if !v.salvaged {
		severity, lost = Damaged, ""
		text = fmt.Sprintf("superblock: %v; the one in block %d is used", err, v.sb.Blkno)
	}
	v.found = append(v.found, Finding{Severity: severity, Class: ClassSuper, Block: ocfs2.SuperBlockBlkno, Text: text, Lost: lost})
}

// openPrimary opens a volume by the superblock in block 2 if that is sound, or
// bears all its marks. Otherwise the error says what is wrong with it.
func openPrimary(ctx context.Context, r io.ReaderAt) (*Volume, error) {
	var damaged error
	for size := ocfs2.MinBlockSize; size <= ocfs2.MaxBlockSize; size *= 2 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		block := make([]byte, size)
		if err := blockio.ReadFull(r, block, int64(size)*ocfs2.SuperBlockBlkno); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			damaged = cmp.Or(damaged, fmt.Errorf("read superblock at byte %d: %w", size*ocfs2.SuperBlockBlkno, err))
			continue
		}
		sb, err := ocfs2.DecodeSuperBlock(block, ocfs2.SuperBlockBlkno)
		if err == nil {
			v := &Volume{r: r, sb: sb}
			v.found = v.checkSuper(block, ocfs2.SuperBlockBlkno)
			if v.correct(ctx); v.witnesses >= enoughWitnesses || len(backups(r, 1, ocfs2.MaxBackups)) == 0 {
				return v, nil
			}
			damaged = cmp.Or(damaged, errContradicted)
		} else if !errors.Is(err, ocfs2.ErrNotOCFS2) {
			damaged = cmp.Or(damaged, err)
		}
	}
	return nil, cmp.Or(damaged, ocfs2.ErrNotOCFS2)
}

// checkSuper returns what contradicts the superblock or backup b in block blkno.
func (v *Volume) checkSuper(b []byte, blkno uint64) (found []Finding) {
	note := func(text string) {
		found = append(found, Finding{Severity: Damaged, Class: ClassSuper, Block: blkno, Text: text})
	}
	if v.sb.HasECC() {
		switch state, bit := ocfs2.KindSuper.VerifyECC(b); state {
		case ocfs2.ECCValid:
		case ocfs2.ECCRepairable:
			note(fmt.Sprintf("superblock: bit %d of the block is wrong by its check value", bit))
		case ocfs2.ECCInvalid:
			note("superblock: wrong check value")
		}
	}
	sb, faults := ocfs2.SalvageSuperBlock(b, blkno)
	if sb != nil {
		faults = append(faults, ocfs2.AsDinode(b).Faults(blkno, v.sb)...)
	}
	for _, f := range faults {
		note(f.String())
	}
	return found
}

// checkBackups returns what is damaged in the backup superblocks, or differs from
// the superblock and is never changed.
func (v *Volume) checkBackups(ctx context.Context) (found []Finding) {
	for _, blkno := range v.sb.Backups() {
		b, err := v.ReadBlock(ctx, blkno)
		if err != nil {
			continue // the copy says so
		}
		found = append(found, v.checkCopy(b, blkno)...)
	}
	return found
}

// checkCopy returns what is damaged in b, the superblock or a backup in block blkno,
// or differs from the one in use and is never changed.
func (v *Volume) checkCopy(b []byte, blkno uint64) []Finding {
	found := v.checkSuper(b, blkno)
	sb, _ := ocfs2.SalvageSuperBlock(b, blkno)
	if sb == nil {
		return found
	}
	what := "backup superblock"
	if blkno == ocfs2.SuperBlockBlkno {
		what = "superblock"
	}
	for _, f := range []struct {
		field     string
		got, want any
	}{
		{"i_fs_generation", sb.Generation, v.sb.Generation},
		{"i_clusters", sb.Clusters, v.sb.Clusters},
		{"s_clustersize_bits", sb.ClusterBits, v.sb.ClusterBits},
		{"s_root_blkno", sb.Root, v.sb.Root},
		{"s_system_dir_blkno", sb.SystemDir, v.sb.SystemDir},
		{"s_first_cluster_group", sb.FirstClusterGroup, v.sb.FirstClusterGroup},
		{"s_uuid", sb.UUID, v.sb.UUID},
		{"s_uuid_hash", sb.UUIDHash, v.sb.UUIDHash},
		{"s_dx_seed", sb.DxSeed, v.sb.DxSeed},
	} {
		if f.got != f.want {
			found = append(found, Finding{
				Severity: Damaged, Class: ClassSuper, Block: blkno,
				Text: fmt.Sprintf("%s %s: got %v, the superblock in use has %v", what, f.field, f.got, f.want),
			})
		}
	}
	return found
}

var errContradicted = fmt.Errorf("%w: the superblock leads to nothing", ocfs2.ErrCorrupt)

// candidates returns what may be left of the superblock and its backups.
func candidates(r io.ReaderAt) []*Volume {
	var list []*Volume
	for size := ocfs2.MinBlockSize; size <= ocfs2.MaxBlockSize; size *= 2 {
		list = append(list, candidate(r, int64(size)*ocfs2.SuperBlockBlkno, size)...)
	}
	return append(list, backups(r, 1, ocfs2.MaxBackups)...)
}

// backups returns the backup superblocks from number first to number last.
func backups(r io.ReaderAt, first, last int) []*Volume {
	var list []*Volume
	for n := first; n <= last; n++ {
		for size := ocfs2.MinBlockSize; size <= ocfs2.MaxBlockSize; size *= 2 {
			list = append(list, candidate(r, ocfs2.BackupOffset(n), size)...)
		}
	}
	return list
}

// candidate returns the volume with the superblock at byte off, if there is one
// for the given block size. A single bit that is wrong is put right.
func candidate(r io.ReaderAt, off int64, size int) []*Volume {
	b := make([]byte, size)
	if blockio.ReadFull(r, b, off) != nil {
		return nil
	}
	blkno := uint64(off) / uint64(size) //nolint:gosec // both positive
	if state, bit := ocfs2.KindSuper.VerifyECC(b); state == ocfs2.ECCRepairable {
		ocfs2.RepairBit(b, bit)
	}
	sb, faults := ocfs2.SalvageSuperBlock(b, blkno)
	if sb == nil || blkno != ocfs2.SuperBlockBlkno && sb.Blkno != blkno {
		return nil
	}
	v := &Volume{r: r, sb: sb}
	for _, f := range faults {
		v.found = append(v.found, Finding{Severity: Damaged, Class: ClassSuper, Block: blkno, Text: f.String()})
	}
	return []*Volume{v}
}

// Unfinished stands in place of the superblock as long as a volume, or the raw
// image of one, is written and not all of it is there.
const (
	Unfinished = "O2IMAGE-UNFINISHED"
	unfinished = "something that was being written and was not finished"
	swapSpace  = "swap space"
)

// foreign returns what other thing r holds by the signatures at its start, ""
// if none of them is there. Old metadata may still lie under it.
func foreign(r io.ReaderAt) string {
	for _, f := range []struct {
		off       int64
		signature string
		what      string
	}{
		{0x438, "\x53\xef", "an ext2, ext3 or ext4 file system"},
		{0, "XFSB", "an XFS file system"},
		{0x10040, "_BHRfS_M", "a Btrfs file system"},
		{0x218, "LVM2 001", "an LVM physical volume"},
		{0, "LUKS\xba\xbe", "a LUKS volume"},
		{0xFF6, "SWAPSPACE2", swapSpace},
		{0x10000, "\x01\x16\x19\x70", "a GFS2 file system"},
		{3, "NTFS    ", "an NTFS file system"},
		{0x200, "EFI PART", "a partition table"},
		{0, Unfinished, unfinished},
		{ocfs2.SuperBlockBlkno << 9, Unfinished, unfinished},
		{ocfs2.SuperBlockBlkno << 10, Unfinished, unfinished},
		{ocfs2.SuperBlockBlkno << 11, Unfinished, unfinished},
		{ocfs2.SuperBlockBlkno << 12, Unfinished, unfinished},
	} {
		b := make([]byte, len(f.signature))
		if blockio.ReadFull(r, b, f.off) == nil && string(b) == f.signature {
			return f.what
		}
	}
	return ""
}

// enoughWitnesses is how many of the structures that a superblock leads to must
// be there for it to be taken for that of a volume: of the first group, the
// global bitmap, the system directory and the root directory.
const enoughWitnesses = 2

// correct puts right what the superblock says wrong by what it leads to, and
// counts the structures that speak for it. What it changes becomes a finding.
func (v *Volume) correct(ctx context.Context) {
	sb := *v.sb
	v.sb = &sb
	v.witnesses = 0

	bitmap := v.clusterBitmap(ctx)
	if v.salvaged && v.witnesses == 0 {
		return // the directories alone are not enough, and take long to look for
	}
	v.correctBy(ctx, bitmap)
}

// correctBy is correct once the inode of the global bitmap is known, as far as it is.
func (v *Volume) correctBy(ctx context.Context, bitmap ocfs2.Dinode) {
	sb := v.sb
	v.correctGeneration(ctx, bitmap)
	if v.witnesses > 0 && bitmap.HasSignature() {
		v.witnesses++
		total, size := uint64(bitmap.BitmapTotal()), bitmap.Size()
		if total == uint64(bitmap.Clusters()) || total == size>>sb.ClusterBits {
			set(v, "i_clusters", &sb.Clusters, bitmap.BitmapTotal())
		}
	}
	noLength := sb.Clusters == 0
	if noLength {
		sb.Clusters = uint32(min(length(ctx, v.r)>>sb.ClusterBits, math.MaxUint32)) //nolint:gosec // checked
	}
	names := v.correctDirectories(ctx, bitmap)
	if noLength {
		v.measured(ctx)
	}
	slots := 0
	for slot := range ocfs2.MaxSlots {
		if slices.Contains(names, SlotFile("journal", slot)) {
			slots = slot + 1
		}
	}
	if slots > 0 && (sb.MaxSlots > ocfs2.MaxSlots || sb.MaxSlots < slots) {
		set(v, "s_max_slots", &sb.MaxSlots, slots)
	} else if slots > 0 && slots != sb.MaxSlots {
		v.found = append(v.found, Finding{
			Severity: Damaged, Class: ClassSuper, Block: sb.Blkno,
			Text: fmt.Sprintf("s_max_slots: got %d, the system directory has journals of %d", sb.MaxSlots, slots),
		})
	}
	v.correctFeatures(ctx, bitmap, names)
}

// set changes a field of the superblock, and says so if that is a change.
func set[T comparable](v *Volume, field string, at *T, to T) {
	if *at == to {
		return
	}
	v.found = append(v.found, Finding{
		Severity: Damaged, Class: ClassSuper, Block: v.sb.Blkno,
		Text: fmt.Sprintf("ocfs2_super_block %s: got %v, taken for %v by what the superblock leads to", field, *at, to),
	})
	*at = to
}

// at returns block blkno, whatever size the superblock gives the volume; nil if
// it cannot be read.
func (v *Volume) at(blkno uint64) []byte {
	b := make([]byte, v.sb.BlockSize())
	if blkno < ocfs2.SuperBlockBlkno || blkno > 1<<62>>v.sb.BlockBits || blockio.ReadFull(v.r, b, int64(blkno)<<v.sb.BlockBits) != nil {
		return nil
	}
	return b
}

// inodeAt returns the inode in block blkno, the zero view if that holds none.
func (v *Volume) inodeAt(blkno uint64) ocfs2.Dinode { return asInode(v.at(blkno), blkno) }

// asInode returns the inode that b, read from block blkno, holds, the zero view if
// it holds none.
func asInode(b []byte, blkno uint64) ocfs2.Dinode {
	if own, _ := ocfs2.KindInode.Blkno(b); b == nil || own != blkno || ocfs2.Identify(b) != ocfs2.KindInode {
		return ocfs2.Dinode{}
	}
	return ocfs2.AsDinode(b)
}

// clusterBitmap finds the first group of the global bitmap, whose place follows
// from the sizes of blocks and clusters, and by it the inode of the global
// bitmap. The cluster size is that by which the group is found, or which the
// inode confirms.
func (v *Volume) clusterBitmap(ctx context.Context) ocfs2.Dinode {
	own := v.sb.ClusterBits
	sizes := []uint8{own}
	for b := max(v.sb.BlockBits, 12); b <= 20; b++ {
		if b != own {
			sizes = append(sizes, b)
		}
	}
	for _, size := range sizes {
		if ctx.Err() != nil || size < v.sb.BlockBits {
			continue
		}
		g := v.sb.Geometry
		g.ClusterBits = size
		blkno := g.GroupBlkno(0)
		b := v.at(blkno)
		gd := ocfs2.AsGroupDesc(b)
		if b == nil || gd.Blkno() != blkno && size != own || !gd.HasSignature() {
			continue
		}
		d := v.inodeAt(gd.ParentDinode())
		if chains := d.Chains(); chains.Rec(gd.Chain()).Blkno != blkno && chains.CPG() != g.GroupBits() {
			d = ocfs2.Dinode{} // another allocator
		}
		total := uint64(d.BitmapTotal())
		if q := d.Size() / max(total, 1); bits.OnesCount64(q) == 1 && q >= ocfs2.MinClusterSize && q <= ocfs2.MaxClusterSize {
			size = uint8(bits.TrailingZeros64(q)) //nolint:gosec // at most 64
		} else if size != own && d.HasSignature() {
			continue // the group behind the first one, of another allocator
		}
		g.ClusterBits = size
		if size < v.sb.BlockBits || g.GroupBlkno(0) != blkno {
			continue
		}
		set(v, "s_clustersize_bits", &v.sb.ClusterBits, size)
		set(v, "s_first_cluster_group", &v.sb.FirstClusterGroup, v.sb.GroupBlkno(0))
		v.witnesses++
		return d
	}
	return ocfs2.Dinode{}
}

// correctGeneration takes the generation that most structures bear.
func (v *Volume) correctGeneration(ctx context.Context, bitmap ocfs2.Dinode) {
	votes := map[uint32]int{v.sb.Generation: 1}
	for _, d := range []ocfs2.Dinode{bitmap, v.inodeAt(v.sb.SystemDir), v.inodeAt(v.sb.Root)} {
		if d.HasSignature() && ctx.Err() == nil {
			votes[d.FSGeneration()]++
		}
	}
	if gd := ocfs2.AsGroupDesc(v.at(v.sb.FirstClusterGroup)); gd.HasSignature() {
		votes[gd.Generation()]++
	}
	best := v.sb.Generation
	for generation, n := range votes {
		if n > votes[best] || n == votes[best] && n > 1 && generation > best {
			best = generation
		}
	}
	set(v, "i_fs_generation", &v.sb.Generation, best)
}

// correctDirectories sees to it that the superblock names the system directory
// and the root directory, and returns the names in the former.
func (v *Volume) correctDirectories(ctx context.Context, bitmap ocfs2.Dinode) []string {
	names := v.systemNames(ctx, v.sb.SystemDir)
	root := v.inodeAt(v.sb.Root)
	if names == nil || !root.IsDir() || v.sb.Root == v.sb.SystemDir {
		var roots []uint64
		for _, ino := range v.systemInodes(ctx, bitmap) {
			switch found := v.systemNames(ctx, ino); {
			case found == nil:
				if !slices.Contains(names, "") && v.inodeAt(ino).Links() > 0 {
					roots = append(roots, ino)
				}
			case names == nil:
				set(v, "s_system_dir_blkno", &v.sb.SystemDir, ino)
				names = found
			}
		}
		if !root.IsDir() || v.sb.Root == v.sb.SystemDir {
			for _, ino := range roots {
				if !v.isOrphanDir(ctx, ino) {
					set(v, "s_root_blkno", &v.sb.Root, ino)
					root = v.inodeAt(ino)
					break
				}
			}
		}
	}
	if names != nil {
		v.witnesses++
	}
	if root.IsDir() {
		v.witnesses++
	}
	return names
}

// systemNames returns the names in directory ino if it is the system directory,
// else nil.
func (v *Volume) systemNames(ctx context.Context, ino uint64) []string {
	d := v.inodeAt(ino)
	if !d.HasSignature() || ctx.Err() != nil {
		return nil
	}
	if d.Union() != ocfs2.UnionInlineData {
		d = d.With(ocfs2.InodeValid|ocfs2.InodeSystem, d.DynFeatures(), ocfs2.ModeDir)
	}
	var names []string
	for e, err := range v.ReadDir(ctx, d) {
		if err == nil && e.Ino != 0 && len(names) < maxSystemFiles {
			names = append(names, string(e.Name))
		}
	}
	if !slices.Contains(names, "global_bitmap") && !slices.Contains(names, "global_inode_alloc") {
		return nil
	}
	return names
}

// isOrphanDir reports whether ino is a directory whose parent is the system
// directory.
func (v *Volume) isOrphanDir(ctx context.Context, ino uint64) bool {
	for e, err := range v.ReadDir(ctx, v.inodeAt(ino)) {
		if err == nil && string(e.Name) == ".." {
			return e.Ino == v.sb.SystemDir
		}
	}
	return false
}

// systemScan is how many blocks behind the first group are looked through for
// the inodes of system files, where their group cannot be found.
const systemScan = 8192

// scanPiece is how much of them is read at once, in bytes: the most that cannot get
// lost (see [blockio.ErrLost]).
const scanPiece = 64 << 10

// systemInodes returns the directories among the inodes that lie beside that of
// the global bitmap, or near the start of the volume.
func (v *Volume) systemInodes(ctx context.Context, bitmap ocfs2.Dinode) []uint64 {
	first, n := v.sb.FirstClusterGroup+1, uint64(systemScan)
	if bit := uint64(bitmap.SuballocBit()); bitmap.HasSignature() && bitmap.Blkno() > bit {
		loc := cmp.Or(bitmap.SuballocLoc(), bitmap.Blkno()-bit)
		if gd := ocfs2.AsGroupDesc(v.at(loc)); gd.HasSignature() {
			first, n = loc+1, uint64(gd.Len()) //nolint:gosec // not negative
		}
	}
	var (
		list  []uint64
		bs    = v.sb.BlockSize()
		buf   = make([]byte, scanPiece)
		piece = uint64(scanPiece) >> v.sb.BlockBits
		err   error
	)
	for ; n > 0 && ctx.Err() == nil && first < 1<<62>>v.sb.BlockBits && !errors.Is(err, blockio.ErrEnd); first, n = first+piece, n-min(n, piece) {
		part, off := buf[:min(n, piece)<<v.sb.BlockBits], int64(first)<<v.sb.BlockBits //nolint:gosec // checked
		err = blockio.ReadFull(v.r, part, off)
		for i := range len(part) / bs {
			blkno, b := first+uint64(i), part[i*bs:][:bs] //nolint:gosec // not negative
			if blockio.Within(err, off+int64(i*bs), int64(bs)) != nil {
				b = v.at(blkno)
			}
			if d := asInode(b, blkno); d.IsDir() && d.IsSystem() {
				list = append(list, blkno)
			}
		}
	}
	return list
}

// correctFeatures takes out features that are not known, if everything else
// shows a volume as they are known, and tells by the blocks themselves whether
// they carry check values.
func (v *Volume) correctFeatures(ctx context.Context, bitmap ocfs2.Dinode, names []string) {
	if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "journal:") }) || ctx.Err() != nil {
		return // not sure to be a file system
	}
	incompat := v.sb.Incompat & ocfs2.KnownIncompat
	if incompat != v.sb.Incompat {
		v.found = append(v.found, Finding{
			Severity: NotFollowed, Class: ClassSuper, Block: v.sb.Blkno,
			Text: fmt.Sprintf("s_feature_incompat: %#x has features that are not known", uint32(v.sb.Incompat)),
			Lost: "what these features add, should they be real",
		})
		v.sb.Incompat = incompat
	}
	valid, zero := 0, 0
	blocks := [][]byte{bitmap.Bytes(), v.at(v.sb.SystemDir), v.at(v.sb.Root)}
	for _, b := range blocks {
		off, ok := ocfs2.KindInode.CheckOffset(len(b))
		if !ok || len(b) < off+8 {
			continue
		}
		if bytes.Equal(b[off:off+8], make([]byte, 8)) {
			zero++
		} else if state, _ := ocfs2.KindInode.VerifyECC(b); state == ocfs2.ECCValid {
			valid++
		}
	}
	switch {
	case !v.sb.HasECC() && valid == len(blocks):
		incompat |= ocfs2.IncompatMetaECC
	case v.sb.HasECC() && zero == len(blocks):
		incompat &^= ocfs2.IncompatMetaECC
	}
	set(v, "s_feature_incompat", &v.sb.Incompat, incompat)
}

// fromNothing opens a volume of which no superblock is left, by the first group
// of the global bitmap or by what else there is. sure says that there is one.
func fromNothing(ctx context.Context, r io.ReaderAt, sure bool) *Volume {
	for bits := uint8(9); bits <= 12; bits++ {
		v := &Volume{r: r, salvaged: true, sb: &ocfs2.SuperBlock{
			Geometry: ocfs2.Geometry{BlockBits: bits, ClusterBits: 12}, Blkno: ocfs2.SuperBlockBlkno,
			Compat: ocfs2.CompatBackupSB, MinorRev: 90,
		}}
		if v.correct(ctx); v.witnesses > enoughWitnesses {
			return v
		}
	}
	return fromRemains(ctx, r, sure)
}
