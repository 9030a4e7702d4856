// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package damage

// inodeFields returns the fields of an inode, with what contradicts them.
func (m *Map) inodeFields(d dinode) []*field {
	fs := rows(d.ino, "ocfs2_dinode", 0, dinodeRows)
	m.allocated(fs, d.ino, "i_")
	var (
		union    = d.union()
		bs       = uint64(m.BlockSize)
		clusters = uint64(d.clusters())                    //nolint:gosec // 32 bits
		measured = union == "extents" || union == "inline" // the room tells where the xattrs begin
	)
	owed(fs, "i_flags", func(v uint64) bool {
		changed := v ^ uint64(d.flags())
		return v&^flagsKnown != 0 || changed&^(flagOrphaned|flagDIO) != 0
	})
	owed(fs, "i_mode", func(v uint64) bool {
		switch v & 0xF000 {
		case 0x1000, 0x2000, modeDir, 0x6000, modeFile, modeSymlink, 0xC000:
			return union == "inline" && v&0xF000 != modeDir && v&0xF000 != modeFile
		}
		return true
	})
	owed(fs, "i_dyn_features", func(v uint64) bool {
		changed := v ^ uint64(d.dyn())
		now := func(bit uint64) bool { return v&bit != 0 }
		return v&^dynKnown != 0 ||
			changed&dynInline != 0 && measured ||
			now(dynInlineXattr) && !now(dynXattr) ||
			changed&dynInlineXattr != 0 && measured ||
			!now(dynXattr) && fieldOf(fs, "i_xattr_loc").get(d.b) != 0 ||
			changed&dynIndexed != 0 ||
			now(dynRefcount) && !d.has(dynRefcount)
	})
	if d.has(dynInlineXattr) {
		owed(fs, "i_xattr_inline_size", func(v uint64) bool { return measured || v%16 != 0 || v < 16 || v > bs-0xD0 })
	}
	owed(fs, "i_xattr_loc", func(v uint64) bool {
		return v != 0 && v != fieldOf(fs, "i_xattr_loc").get(d.b) || d.has(dynXattr) && !d.has(dynInlineXattr)
	})
	if d.has(dynIndexed) {
		owed(fs, "i_dx_root", always)
	}
	if d.has(dynRefcount) {
		owed(fs, "i_refcount_loc", func(v uint64) bool { return m.byBlock[v] == nil || m.byBlock[v].kind[:2] != "re" })
	}
	if d.flags()&flagJournal != 0 {
		fs = append(fs, rows(d.ino, "ocfs2_dinode", 0, journalRows)...)
	}
	switch union {
	case "extents":
		owed(fs, "i_clusters", always)
		owed(fs, "i_last_eb_blk", always)
		if d.mode() == modeDir {
			owed(fs, "i_size", func(v uint64) bool { return v == 0 || v%bs != d.size()%bs || v/bs > clusters*m.bpc })
		}
		return append(append(fs, m.listFields(d.ino, "id2.i_list", 0xC0, d.b, treeKind{
			dense: d.mode() == modeDir, data: true, shared: d.has(dynRefcount),
			signed: d.mode() == modeDir && (m.HasECC || d.has(dynIndexed)),
		})...), m.inlineXattrs(d)...)
	case "inline":
		data := rows(d.ino, "ocfs2_inline_data", 0xC0, inlineDataRows)
		room := data[0].get(d.b)
		owed(fs, "i_clusters", always)
		owed(fs, "i_size", func(v uint64) bool { return v > room || d.mode() == modeDir })
		if d.mode() == modeDir {
			end := 0xC8 + int(d.size()) //nolint:gosec // a sound volume
			data = append(data, m.entryFields(d.ino, parse(d.b, d.ino, 0xC8, end), end)...)
		}
		return append(append(fs, data...), m.inlineXattrs(d)...)
	case "text":
		owed(fs, "i_size", func(v uint64) bool { return v >= bs-0xC0-uint64(d.tail()) }) //nolint:gosec // not negative
		return append(fs, m.inlineXattrs(d)...)
	case "chains":
		return append(fs, m.chainFields(d, fs)...)
	case "local alloc":
		window := rows(d.ino, "ocfs2_dinode", 0, bitmapRows)
		size := uint64(le.Uint16(d.b[0xC4:]))
		owed(window, "i_total", func(v uint64) bool { return v > 8*size })
		owed(window, "i_used", func(v uint64) bool { return v > window[1].get(d.b) })
		return append(append(fs, window...), rows(d.ino, "ocfs2_local_alloc", 0xC0, localAllocRows)...)
	case "truncate log":
		log := rows(d.ino, "ocfs2_truncate_log", 0xC0, truncateLogRows)
		room := log[0].get(d.b)
		owed(log, "tl_used", func(v uint64) bool { return v > room })
		return append(append(fs, log...), rows(d.ino, "ocfs2_truncate_rec", 0xC8, truncateRecRows)...)
	}
	return fs
}

func fieldOf(fs []*field, name string) *field {
	for _, f := range fs {
		if f.name == name {
			return f
		}
	}
	return nil
}

func (m *Map) inlineXattrs(d dinode) []*field {
	if !d.has(dynInlineXattr) {
		return nil
	}
	return m.xattrFields(d.ino, m.BlockSize-d.tail(), d.b, d.tail())
}

// chainFields returns the fields of an allocator, and owes those of fs that its
// chains contradict.
func (m *Map) chainFields(d dinode, fs []*field) []*field {
	owed(fs, "i_clusters", always)
	owed(fs, "i_size", always)
	sums := rows(d.ino, "ocfs2_dinode", 0, bitmapRows)
	owed(sums, "i_used", always)
	owed(sums, "i_total", always)
	list := rows(d.ino, "ocfs2_chain_list", 0xC0, chainListRows)
	used, room := list[3].get(d.b), list[2].get(d.b)
	owed(list, "cl_cpg", always)
	owed(list, "cl_bpc", always)
	owed(list, "cl_next_free_rec", func(v uint64) bool { return v < used || v > room })
	list = append(list, sums...)
	for _, i := range some(int(used)) { //nolint:gosec // 16 bits
		rec := rows(d.ino, "ocfs2_chain_rec", 0xD0+16*i, chainRecRows)
		for _, f := range rec {
			f.contradicted = always
		}
		list = append(list, rec...)
	}
	return list
}
