// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"strings"

	"o2image/ocfs2"
)

// plainFlags reports whether flags are those of a user's file.
func plainFlags(flags ocfs2.InodeFlags) bool {
	return flags&^(ocfs2.InodeOrphaned|ocfs2.InodeDIOOrphaned) == ocfs2.InodeValid
}

// systemFlags returns the flags that the system file of that name has, and
// whether it is a directory; 0 if there is no such file.
func systemFlags(name string) (flags ocfs2.InodeFlags, dir bool) {
	const system = ocfs2.InodeValid | ocfs2.InodeSystem
	switch base, _, _ := strings.Cut(name, ":"); base {
	case "global_bitmap", "global_inode_alloc", "inode_alloc", "extent_alloc":
		return system | ocfs2.InodeBitmap | ocfs2.InodeChain, false
	case "local_alloc":
		return system | ocfs2.InodeBitmap | ocfs2.InodeLocalAlloc, false
	case "truncate_log":
		return system | ocfs2.InodeDealloc, false
	case "journal":
		return system | ocfs2.InodeJournal, false
	case "heartbeat":
		return system | ocfs2.InodeHeartbeat, false
	case "aquota.user", "aquota.group":
		return system | ocfs2.InodeQuota, false
	case "slot_map", "bad_blocks":
		return system, false
	case "orphan_dir":
		return system, true
	}
	return 0, false
}

// corrected returns the inode d with flags, features and type as other fields,
// its name in the system directory and its contents say that they should be.
// They decide what all the rest means.
func (w *walk) corrected(ctx context.Context, d ocfs2.Dinode, ino uint64, name string, s soundness, o origin) ocfs2.Dinode {
	sb := w.v.sb
	flags, dyn, mode := d.Flags(), d.DynFeatures(), d.Mode()
	want, dir := systemFlags(name)
	if ino == sb.Root || ino == sb.SystemDir {
		want, dir = ocfs2.InodeValid|ocfs2.InodeSystem, true
	}
	switch {
	case want != 0:
		if flags != want && flagsDamaged(flags) {
			flags = want
		}
		if flags == want && dir != d.IsDir() {
			mode = withType(mode, ocfs2.ModeRegular)
			if dir {
				mode = withType(mode, ocfs2.ModeDir)
			}
		}
	case w.named && !plainFlags(flags):
		flags = flags&(ocfs2.InodeOrphaned|ocfs2.InodeDIOOrphaned) | ocfs2.InodeValid
		if !d.IsValid() && d.Dtime() != 0 {
			flags = 0 // deleted
		}
	}
	d = w.changed(d, ino, flags, dyn, mode, o)
	if s == sound {
		return d
	}
	if d.Union() == ocfs2.UnionInlineData && (d.Clusters() > 0 || d.LastExtentBlk() != 0) {
		if as := d.With(flags, dyn&^ocfs2.DynInlineData, mode); as.Extents().Faults(sb, ocfs2.TreeData) == nil && as.Extents().Len() > 0 {
			d = w.changed(d, ino, flags, dyn&^ocfs2.DynInlineData, mode, o)
		}
	}
	if d.Union() == ocfs2.UnionExtents && plainFlags(flags) && !d.IsDir() && w.holdsEntries(ctx, d, ino) {
		d = w.changed(d, ino, flags, d.DynFeatures(), withType(mode, ocfs2.ModeDir), o)
	}
	return d
}

// flagsDamaged reports whether the flags of a system file are such as no system
// file has.
func flagsDamaged(flags ocfs2.InodeFlags) bool {
	const system = ocfs2.InodeValid | ocfs2.InodeSystem
	switch flags {
	case system, system | ocfs2.InodeBitmap | ocfs2.InodeChain, system | ocfs2.InodeBitmap | ocfs2.InodeLocalAlloc,
		system | ocfs2.InodeDealloc, system | ocfs2.InodeJournal, system | ocfs2.InodeHeartbeat, system | ocfs2.InodeQuota:
		return false
	}
	return true
}

func withType(mode, kind uint16) uint16 { return mode&^ocfs2.ModeMask | kind }

// changed returns d with the given fields, and says so if they differ.
func (w *walk) changed(d ocfs2.Dinode, ino uint64, flags ocfs2.InodeFlags, dyn ocfs2.DynFeatures, mode uint16, o origin) ocfs2.Dinode {
	if flags == d.Flags() && dyn == d.DynFeatures() && mode == d.Mode() {
		return d
	}
	w.note(o, ino, Damaged, fmt.Sprintf("taken for an inode with i_flags %#x, i_dyn_features %#x, i_mode %#o; got %#x, %#x, %#o",
		uint32(flags), uint16(dyn), mode, uint32(d.Flags()), uint16(d.DynFeatures()), d.Mode()), "")
	return d.With(flags, dyn, mode)
}

// holdsEntries reports whether the contents of inode ino begin as those of a
// directory do: with an entry "." for itself.
func (w *walk) holdsEntries(ctx context.Context, d ocfs2.Dinode, ino uint64) bool {
	for x, err := range w.v.leaves(ctx, w.v.dataTree(d, ino)) {
		if err != nil {
			return false
		}
		b, err := w.v.ReadBlock(ctx, x.Blkno)
		if err != nil {
			return false
		}
		for e, fault := range ocfs2.DirEntries(b) {
			return fault == nil && e.Ino == ino && string(e.Name) == "."
		}
	}
	return false
}
