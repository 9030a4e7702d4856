// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"fmt"
	"iter"
)

// Offsets of ocfs2_xattr_header, from its start: the base of all offsets in
// its area.
const (
	xhCount        = 0x00
	xhFreeStart    = 0x02
	xhNameValueLen = 0x04
	xhNumBuckets   = 0x06
	xhEntries      = 0x10
)

// Offsets of ocfs2_xattr_entry, from its start.
const (
	xeNameHash     = 0x00
	xeNameOffset   = 0x04
	xeNameLen      = 0x06
	xeType         = 0x07
	xeValueSize    = 0x08
	xattrEntrySize = 0x10

	xattrLocal      = 0x80 // bit of xe_type: the value lies in the area
	xattrLocalLimit = 80   // bytes of the longest such value (OCFS2_XATTR_INLINE_SIZE)

	// xattrRecordLimit is how long a record of buckets of several clusters can
	// grow, in bytes (OCFS2_MAX_XATTR_TREE_LEAF_SIZE).
	xattrRecordLimit = 65536
)

// Offsets of ocfs2_xattr_value_root, from its start.
const (
	xrClusters    = 0x00
	xrLastEbBlk   = 0x08
	xrList        = 0x10
	valueRootSize = 0x30
)

// XattrPrefix is what a name starts with (bits 0..6 of xe_type).
type XattrPrefix uint8

// The prefixes.
const (
	XattrUser       XattrPrefix = 1 // user.
	XattrACLAccess  XattrPrefix = 2 // system.posix_acl_access, no further name
	XattrACLDefault XattrPrefix = 3 // system.posix_acl_default, no further name
	XattrTrusted    XattrPrefix = 4 // trusted.
	XattrSecurity   XattrPrefix = 5 // security.
)

// String returns the start of the name: "user.".
func (p XattrPrefix) String() string {
	switch p {
	case XattrUser:
		return "user."
	case XattrACLAccess:
		return "system.posix_acl_access"
	case XattrACLDefault:
		return "system.posix_acl_default"
	case XattrTrusted:
		return "trusted."
	case XattrSecurity:
		return "security."
	default:
		return fmt.Sprintf("xattr-type-%d.", uint8(p))
	}
}

// XattrEntry is an ocfs2_xattr_entry with its name and its value. Name and
// Value are cut to what lies in the area, and alias it.
type XattrEntry struct {
	NameHash uint32         // xe_name_hash
	Prefix   XattrPrefix    // of the name
	Name     []byte         // the rest of the name
	Size     uint64         // xe_value_size, bytes
	Local    bool           // the value lies in the area, not in clusters
	Value    []byte         // the value, if local
	Root     XattrValueRoot // where the value lies, if not
	NameOff  int            // xe_name_offset, from the start of the area
}

// FullName returns prefix and name.
func (e XattrEntry) FullName() string { return e.Prefix.String() + string(e.Name) }

// valueOff returns where in its area the value or the value root begins.
func (e XattrEntry) valueOff(nameLen int) int { return e.NameOff + round4(nameLen) }

func round4(n int) int { return (n + 3) &^ 3 }

// XattrValueRoot is a view of an ocfs2_xattr_value_root. The zero root is empty.
type XattrValueRoot struct{ b []byte }

// Clusters returns xr_clusters, the clusters of the value.
func (r XattrValueRoot) Clusters() uint32 { return u32(r.b, xrClusters) }

// LastExtentBlk returns xr_last_eb_blk, the rightmost leaf of the value's tree.
func (r XattrValueRoot) LastExtentBlk() uint64 { return u64(r.b, xrLastEbBlk) }

// List returns xr_list, with room for one record.
func (r XattrValueRoot) List() ExtentList { return ExtentList{tail(r.b, xrList)} }

// XattrArea is a view of an ocfs2_xattr_header and the entries, names and values
// behind it, all the bytes up to the area's end. The zero area is empty.
type XattrArea struct {
	b      []byte
	bucket bool // names and values are counted, entries sorted
}

// AsBucket views b, the 4096 bytes of a bucket.
func AsBucket(b []byte) XattrArea { return XattrArea{b: b, bucket: true} }

// Bytes returns the area.
func (a XattrArea) Bytes() []byte { return a.b }

// Count returns xh_count, the entries that the header claims.
func (a XattrArea) Count() int { return int(u16(a.b, xhCount)) }

// FreeStart returns xh_free_start, in buckets the lowest offset of names and values.
func (a XattrArea) FreeStart() int { return int(u16(a.b, xhFreeStart)) }

// NameValueLen returns xh_name_value_len, in buckets the bytes of names and values.
func (a XattrArea) NameValueLen() int { return int(u16(a.b, xhNameValueLen)) }

// NumBuckets returns xh_num_buckets, in the first bucket of an extent record the
// buckets in use in that record.
func (a XattrArea) NumBuckets() int { return int(u16(a.b, xhNumBuckets)) }

// Cap returns the entries for which there is room in the area.
func (a XattrArea) Cap() int { return recordsIn(a.b, xhEntries, xattrEntrySize) }

// Len returns the entries that lie in the area.
func (a XattrArea) Len() int { return min(a.Count(), a.Cap()) }

// Entry returns entry i, 0 <= i < Len().
func (a XattrArea) Entry(i int) XattrEntry {
	b := record(a.b, xhEntries, xattrEntrySize, i)
	nameLen := int(u8(b, xeNameLen))
	typ := u8(b, xeType)
	e := XattrEntry{
		NameHash: u32(b, xeNameHash),
		Prefix:   XattrPrefix(typ &^ xattrLocal),
		Size:     u64(b, xeValueSize),
		Local:    typ&xattrLocal != 0,
		NameOff:  int(u16(b, xeNameOffset)),
	}
	e.Name = span(a.b, e.NameOff, nameLen)
	value := tail(a.b, e.valueOff(nameLen))
	if e.Local {
		e.Value = span(value, 0, clampInt(e.Size, len(value)))
	} else {
		e.Root = XattrValueRoot{span(value, 0, valueRootSize)}
	}
	return e
}

// All returns the entries with their numbers.
func (a XattrArea) All() iter.Seq2[int, XattrEntry] { return records(a.Len, a.Entry) }

// lookedAt is how many entries show whether an area is a bucket.
const lookedAt = 8

// Plausible reports whether the area could be a bucket with entries, whatever is
// damaged in it: a header that fits, with an entry that does, or an entry with
// the hash of its name.
func (a XattrArea) Plausible(sb *SuperBlock) bool {
	end := xhEntries + a.Count()*xattrEntrySize
	header := a.Count() > 0 && end <= a.FreeStart() && a.FreeStart() <= len(a.b)
	for i := range min(lookedAt, a.Cap()) {
		e := a.Entry(i)
		nameLen := int(u8(record(a.b, xhEntries, xattrEntrySize, i), xeNameLen))
		if e.Prefix < XattrUser || e.Prefix > XattrSecurity || len(e.Name) < nameLen || e.NameOff < xhEntries+xattrEntrySize {
			continue
		}
		if header && i < a.Count() || e.NameHash == XattrHash(e.Name, sb.UUIDHash, true) || e.NameHash == XattrHash(e.Name, sb.UUIDHash, false) {
			return true
		}
	}
	return false
}

// Emptied reports whether the area could be a bucket whose entries were all removed.
func (a XattrArea) Emptied(sb *SuperBlock) bool {
	return a.Count() == 0 && a.NameValueLen() == 0 && a.FreeStart() >= xhEntries && a.FreeStart() <= len(a.b) &&
		a.NumBuckets() <= maxBuckets(sb) && u64(a.b, xhEntries)|u64(a.b, xhEntries+8) == 0
}

// maxBuckets returns how many buckets a record can have.
func maxBuckets(sb *SuperBlock) int { return max(xattrRecordLimit, sb.ClusterSize()) / BucketSize }

// Faults returns the contradictions in the area.
func (a XattrArea) Faults(sb *SuperBlock) []Fault {
	f := faults{structure: "ocfs2_xattr_header"}
	f.fits("xh_count", a.Count(), a.Cap())
	if a.bucket {
		f.fits("xh_free_start", a.FreeStart(), len(a.b))
		f.fits("xh_name_value_len", a.NameValueLen(), len(a.b))
		// Buckets behind the first of a record keep what they once had.
		f.fits("xh_num_buckets", a.NumBuckets(), maxBuckets(sb))
	}
	var before uint32
	for i, e := range a.All() {
		if len(f.found) >= maxFaults {
			break
		}
		field := func(name string) string { return fmt.Sprintf("xh_entries[%d].%s", i, name) }
		b := record(a.b, xhEntries, xattrEntrySize, i)
		nameLen := int(u8(b, xeNameLen))
		if e.Prefix < XattrUser || e.Prefix > XattrSecurity {
			f.add(field("xe_type"), inHex(uint64(u8(b, xeType))), "a prefix in 1..5")
		}
		if end := xhEntries + a.Len()*xattrEntrySize; e.NameOff < end {
			f.add(field("xe_name_offset"), fmt.Sprint(e.NameOff), fmt.Sprintf("at least %d", end))
		}
		size := uint64(valueRootSize)
		switch {
		case !e.Local:
		case e.Size > xattrLocalLimit:
			f.add(field("xe_value_size"), decimal(e.Size), fmt.Sprintf("at most %d in a local value", xattrLocalLimit))
			continue
		default:
			size = uint64(round4(int(e.Size))) //nolint:gosec // at most xattrLocalLimit
		}
		if room := len(a.b) - e.valueOff(nameLen); room < 0 || size > uint64(room) {
			f.add(field("xe_name_offset"), fmt.Sprint(e.NameOff), "name and value inside the area")
			continue
		}
		if a.bucket && e.NameHash < before {
			f.add(field("xe_name_hash"), inHex(uint64(e.NameHash)), "at least "+inHex(uint64(before)))
		}
		before = e.NameHash
		if !e.Local {
			f.within(e.Root.Faults(sb, e.Size))
		}
	}
	return f.found
}

// Faults returns the contradictions in the root of a value of size bytes.
func (r XattrValueRoot) Faults(sb *SuperBlock, size uint64) []Fault {
	f := faults{structure: "ocfs2_xattr_value_root"}
	list := r.List()
	if have := uint64(r.Clusters()) << sb.ClusterBits; size > have {
		f.add("xr_clusters", decimal(uint64(r.Clusters())), fmt.Sprintf("room for %d bytes", size))
	}
	f.within(list.Faults(sb, TreeData))
	if list.Depth() > 0 {
		f.inVolume("xr_last_eb_blk", sb.Geometry, r.LastExtentBlk())
	} else {
		f.equal("xr_clusters", uint64(r.Clusters()), list.leafClusters())
	}
	return f.found
}

// Offsets of ocfs2_xattr_block and of the ocfs2_xattr_tree_root in it.
const (
	xbFlags     = 0x20
	xbAttrs     = 0x30
	xtClusters  = 0x30
	xtLastEbBlk = 0x38
	xtList      = 0x40

	xattrIndexed = 1 // bit of xb_flags (OCFS2_XATTR_INDEXED)
)

// XattrBlock is a view of an ocfs2_xattr_block.
type XattrBlock struct{ b []byte }

// AsXattrBlock views b, one whole block.
func AsXattrBlock(b []byte) XattrBlock { return XattrBlock{b} }

// Bytes returns the block.
func (x XattrBlock) Bytes() []byte { return x.b }

// HasSignature reports whether the block says that it is an xattr block.
func (x XattrBlock) HasSignature() bool { return KindXattrBlock.signed(x.b) }

// Blkno returns xb_blkno, the block's own number.
func (x XattrBlock) Blkno() uint64 { n, _ := KindXattrBlock.Blkno(x.b); return n }

// Flags returns xb_flags.
func (x XattrBlock) Flags() uint16 { return u16(x.b, xbFlags) }

// Indexed reports whether the block holds the root of a tree of buckets, not
// entries.
func (x XattrBlock) Indexed() bool { return x.Flags()&xattrIndexed != 0 }

// Area returns the entries of a block that is not indexed. In others it means
// nothing.
func (x XattrBlock) Area() XattrArea { return XattrArea{b: tail(x.b, xbAttrs)} }

// Tree returns xt_list of an indexed block. In others it means nothing.
func (x XattrBlock) Tree() ExtentList { return ExtentList{tail(x.b, xtList)} }

// TreeClusters returns xt_clusters, the clusters with buckets, of an indexed block.
func (x XattrBlock) TreeClusters() uint32 { return u32(x.b, xtClusters) }

// TreeLastExtentBlk returns xt_last_eb_blk of an indexed block.
func (x XattrBlock) TreeLastExtentBlk() uint64 { return u64(x.b, xtLastEbBlk) }

// Faults returns the contradictions that this block alone shows, for one that
// was read from blkno.
func (x XattrBlock) Faults(blkno uint64, sb *SuperBlock) []Fault {
	f := faults{structure: "ocfs2_xattr_block"}
	f.within(KindXattrBlock.Identity(x.b, blkno, sb.Generation))
	f.within(KindXattrBlock.suballocFaults(x.b, blkno, sb))
	if x.Flags()&^xattrIndexed != 0 {
		f.add("xb_flags", inHex(uint64(x.Flags())), "0 or 1")
	}
	if !x.Indexed() {
		f.within(x.Area().Faults(sb))
		return f.found
	}
	tree := x.Tree()
	f.within(tree.Faults(sb, TreeHash))
	if tree.Depth() > 0 {
		f.inVolume("xt_last_eb_blk", sb.Geometry, x.TreeLastExtentBlk())
	} else {
		f.equal("xt_clusters", uint64(x.TreeClusters()), tree.leafClusters())
	}
	return f.found
}
