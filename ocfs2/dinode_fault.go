// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import "fmt"

// Faults returns every contradiction that this block alone shows, for an inode
// that was read from blkno and is in use. The fields of an inode that is not
// (IsValid) mean nothing but for its identity. A superblock's own fields are
// for SuperBlock.
func (d Dinode) Faults(blkno uint64, sb *SuperBlock) []Fault {
	kind := d.Kind()
	f := faults{structure: "ocfs2_dinode"}
	f.within(kind.Identity(d.b, blkno, sb.Generation))
	flags := d.Flags()
	if unknown := flags &^ inodeFlagsKnown; unknown != 0 || !d.IsValid() {
		f.add("i_flags", inHex(uint64(flags)), "valid, and known bits only")
	}
	if super := kind == KindSuper; super != flags.Has(InodeSuperBlock) {
		f.add("i_flags", inHex(uint64(flags)), "the superblock bit in superblocks only")
	} else if super {
		f.equal("i_generation", uint64(d.Generation()), uint64(d.FSGeneration()))
		return f.found
	}
	f.within(kind.suballocFaults(d.b, blkno, sb))
	d.modeFaults(&f)
	d.featureFaults(&f, sb)
	d.pointerFaults(&f, sb)
	switch d.Union() {
	case UnionLocalAlloc:
		f.within(d.LocalAlloc().Faults(sb))
	case UnionChain:
		f.within(d.Chains().Faults(sb))
		d.chainSums(&f, sb)
	case UnionTruncateLog:
		f.within(d.TruncateLog().Faults(sb))
	case UnionInlineData:
		d.inlineFaults(&f)
	case UnionExtents:
		d.extentFaults(&f, sb)
	case UnionFastSymlink, UnionSuper:
	}
	return f.found
}

func (d Dinode) modeFaults(f *faults) {
	switch d.Type() {
	case ModeFIFO, ModeChar, ModeDir, ModeBlock, ModeRegular, ModeSymlink, ModeSocket:
	default:
		f.add("i_mode", fmt.Sprintf("%#o", d.Mode()), "a POSIX file type")
	}
}

func (d Dinode) featureFaults(f *faults, sb *SuperBlock) {
	dyn := d.DynFeatures()
	bad := func(want string) { f.add("i_dyn_features", inHex(uint64(dyn)), want) }
	if dyn&^dynFeaturesKnown != 0 {
		bad("known bits only")
	}
	if dyn.Has(DynInlineData) && !sb.Incompat.Has(IncompatInlineData) {
		bad("no inline data without the inline-data feature")
	}
	if dyn.Has(DynInlineData) && !d.IsDir() && !d.IsRegular() {
		bad("inline data in files and directories only")
	}
	if dyn.Has(DynHasXattr) && !sb.Incompat.Has(IncompatXattr) {
		bad("no xattrs without the xattr feature")
	}
	if dyn.Has(DynHasXattr) && !dyn.Has(DynInlineXattr) && d.XattrLoc() == 0 {
		f.add("i_xattr_loc", "0", "a block, or inline xattrs")
	}
	if dyn.Has(DynInlineXattr) {
		if !dyn.Has(DynHasXattr) {
			bad("has-xattr beside inline-xattr")
		}
		if d.XattrTail() == 0 {
			f.add("i_xattr_inline_size", decimal(uint64(d.XattrInlineSize())),
				fmt.Sprintf("a multiple of 16 in 16..%d", len(d.b)-iID2Recs))
		} else if area, ok := d.InlineXattrs(); ok {
			f.within(area.Faults(sb))
		}
	}
	if d.XattrLoc() != 0 && !dyn.Has(DynHasXattr) {
		f.add("i_xattr_loc", decimal(d.XattrLoc()), "0 without has-xattr")
	}
	if dyn.Has(DynIndexedDir) {
		if !sb.Incompat.Has(IncompatIndexedDirs) {
			bad("no index without the indexed-dirs feature")
		}
		if !d.IsDir() || dyn.Has(DynInlineData) {
			bad("an index in directories with blocks only")
		}
	}
	if dyn.Has(DynHasRefcount) && !sb.Incompat.Has(IncompatRefcountTree) {
		bad("no refcount tree without the refcount feature")
	}
}

func (d Dinode) pointerFaults(f *faults, sb *SuperBlock) {
	f.inVolumeOrNone("i_xattr_loc", sb.Geometry, d.XattrLoc())
	if d.DynFeatures().Has(DynIndexedDir) {
		f.inVolume("i_dx_root", sb.Geometry, d.DxRoot())
	} else if d.IsDir() && d.DxRoot() != 0 { // who removes an index clears both
		f.add("i_dx_root", decimal(d.DxRoot()), "0 without indexed-dir")
	}
	if d.DynFeatures().Has(DynHasRefcount) {
		f.inVolume("i_refcount_loc", sb.Geometry, d.RefcountLoc())
	}
	slot := func(flag InodeFlags, field string, slot uint16) {
		if d.Flags().Has(flag) && int(slot) >= sb.MaxSlots {
			f.add(field, decimal(uint64(slot)), fmt.Sprintf("less than %d", sb.MaxSlots))
		}
	}
	slot(InodeOrphaned, "i_orphaned_slot", d.OrphanedSlot())
	slot(InodeDIOOrphaned, "i_dio_orphaned_slot", d.DIOOrphanedSlot())
	f.atMost("i_clusters", uint64(d.Clusters()), uint64(sb.Clusters))
	if d.Flags().Has(InodeBitmap) {
		f.atMost("i_used", uint64(d.BitmapUsed()), uint64(d.BitmapTotal()))
	}
}

// chainSums compares the bit counts of an allocator with those of its chains.
func (d Dinode) chainSums(f *faults, sb *SuperBlock) {
	var free, total uint64
	for _, chain := range d.Chains().All() {
		free += uint64(chain.Free)
		total += uint64(chain.Total)
	}
	f.equal("i_total", uint64(d.BitmapTotal()), total)
	if bpc := uint64(d.Chains().BPC()); bpc > 0 { //nolint:gosec // from 16 bits
		f.equal("i_clusters", uint64(d.Clusters()), uint64(d.BitmapTotal())/bpc)
	}
	f.equal("i_size", d.Size(), uint64(d.Clusters())<<sb.ClusterBits)
	f.equal("i_used", uint64(d.BitmapUsed()), total-free)
}

func (d Dinode) inlineFaults(f *faults) {
	room := uint64(len(d.id2(idData)))
	count := uint64(d.InlineCount())
	if count != room {
		f.within([]Fault{{"ocfs2_inline_data", "id_count", decimal(count), decimal(room)}})
	}
	if d.IsDir() {
		f.equal("i_size", d.Size(), count)
	} else {
		f.atMost("i_size", d.Size(), count)
	}
	f.equal("i_clusters", uint64(d.Clusters()), 0)
}

func (d Dinode) extentFaults(f *faults, sb *SuperBlock) {
	list := d.Extents()
	if d.IsSymlink() && d.Size() > 0 && d.Clusters() == 0 {
		f.add("i_size", decimal(d.Size()), fmt.Sprintf("less than %d in a fast symlink", len(d.id2(iID2))))
	}
	if d.IsSymlink() && d.Clusters() > 0 && !d.IsLongSymlink() {
		f.add("i_size", decimal(d.Size()), fmt.Sprintf("%d to %d in a symlink with clusters", len(d.b)-iID2, MaxTarget))
	}
	f.within(list.Faults(sb, TreeData))
	if list.Depth() == 0 {
		d.flagFaults(f, list)
	}
	if d.IsDir() && d.Size() == 0 {
		f.add("i_size", "0", "room for entries")
	}
	if list.Depth() > 0 {
		f.inVolume("i_last_eb_blk", sb.Geometry, d.LastExtentBlk())
	} else {
		f.equal("i_last_eb_blk", d.LastExtentBlk(), 0)
		f.equal("i_clusters", uint64(d.Clusters()), list.leafClusters())
	}
	// mkfs.ocfs2 leaves the trailer out of the size of an indexed lost+found.
	if over := d.Size() % uint64(sb.BlockSize()); d.IsDir() && over != 0 && over != uint64(sb.BlockSize()-dirTrailerSize) { //nolint:gosec // a size
		f.add("i_size", decimal(d.Size()), "a multiple of the block size")
	}
}

// flagFaults checks that only extents of regular files are unwritten, and only
// those of files with a refcount tree are shared.
func (d Dinode) flagFaults(f *faults, list ExtentList) {
	allowed := uint8(ExtUnwritten)
	if d.DynFeatures().Has(DynHasRefcount) {
		allowed |= ExtRefcounted
	}
	if !d.IsRegular() || d.IsSystem() {
		allowed = 0
	}
	for i, rec := range list.All() {
		if rec.Clusters > 0 && rec.Flags&^allowed != 0 {
			f.add(fmt.Sprintf("l_recs[%d].e_flags", i), inHex(uint64(rec.Flags)), "no bits but "+inHex(uint64(allowed)))
		}
	}
}
