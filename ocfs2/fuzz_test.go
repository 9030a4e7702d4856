// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"errors"
	"iter"
	"testing"
)

// limit ends a test whose iterator does not end by itself.
func limit[K, V any](t *testing.T, what string, most int, seq iter.Seq2[K, V], each func(K, V)) {
	t.Helper()
	n := 0
	for k, v := range seq {
		if n++; n > most {
			t.Fatalf("%s: more than %d", what, most)
		}
		each(k, v)
	}
}

// inBlock fails a test where part does not lie in the block.
func inBlock(t *testing.T, what string, part, block []byte) {
	t.Helper()
	if cap(part) > len(block) || len(part) != cap(part) {
		t.Fatalf("%s: %d bytes, room for %d, of a block of %d", what, len(part), cap(part), len(block))
	}
}

func exerciseList(t *testing.T, l ExtentList, sb *SuperBlock) {
	t.Helper()
	limit(t, "extent records", len(l.b)/16, l.All(), func(i int, _ ExtentRec) {
		if i >= l.Cap() {
			t.Fatalf("record %d of %d", i, l.Cap())
		}
	})
	for tree := TreeData; tree <= TreeRefcount; tree++ {
		l.Faults(sb, tree)
	}
}

func exerciseArea(t *testing.T, a XattrArea, sb *SuperBlock) {
	t.Helper()
	limit(t, "xattr entries", len(a.b)/16, a.All(), func(_ int, e XattrEntry) {
		inBlock(t, "name", e.Name, a.b)
		inBlock(t, "value", e.Value, a.b)
		_ = e.FullName()
		XattrHash(e.Name, sb.UUIDHash, true)
		exerciseList(t, e.Root.List(), sb)
	})
	a.Faults(sb)
}

func exerciseDir(t *testing.T, area []byte, sb *SuperBlock) {
	t.Helper()
	off, done := 0, false
	limit(t, "directory entries", len(area)/12+1, DirEntries(area), func(e DirEntry, f *Fault) {
		if done || e.Off < off || f == nil && (e.Off != off || int(e.RecLen) > len(area)-off) {
			t.Fatalf("entry at %d behind %d in %d bytes", e.Off, off, len(area))
		}
		off, done = e.Off+int(e.RecLen), f != nil
		inBlock(t, "name", e.Name, area)
		e.Faults(sb)
		sb.DirHash(e.Name, false)
	})
	if !done && off != len(area) {
		t.Fatalf("entries end at %d of %d without a fault", off, len(area))
	}
}

// FuzzBlock takes any bytes for every structure in turn: nothing may panic,
// every iterator ends, nothing lies outside the block.
func FuzzBlock(f *testing.F) {
	vectors := loadChecks(f)
	for i, v := range vectors.Blocks {
		f.Add([]byte(v.Hex), uint8(i%8), uint64(8), uint16(1))
	}
	f.Add([]byte(nil), uint8(0), uint64(0), uint16(0))
	var volumes []*SuperBlock
	for _, v := range loadSupers(f) {
		sb, err := DecodeSuperBlock(v.block(), SuperBlockBlkno)
		if err != nil {
			f.Fatal(err)
		}
		volumes = append(volumes, sb)
	}
	f.Fuzz(func(t *testing.T, b []byte, volume uint8, blkno uint64, bpc uint16) {
		if len(b) > MaxBlockSize {
			return
		}
		sb := volumes[int(volume)%len(volumes)]
		before := bytes.Clone(b)

		for k := KindNone; k <= KindQuotaBlock+1; k++ {
			k.Identity(b, blkno, sb.Generation)
			k.Suballoc(b)
			k.Parent(b)
			k.VerifyECC(b)
		}
		_ = Identify(b).String()

		d := AsDinode(b)
		d.Faults(blkno, sb)
		inBlock(t, "inline data", d.InlineData(), b)
		inBlock(t, "symlink", d.FastSymlink(), b)
		if off, n := d.InlineDataRange(); n > 0 && n > len(b)-off {
			t.Fatalf("inline data at %d, %d bytes of %d", off, n, len(b))
		}
		exerciseList(t, d.Extents(), sb)
		limit(t, "chains", len(b)/16, d.Chains().All(), func(int, ChainRec) {})
		limit(t, "truncate records", len(b)/8, d.TruncateLog().All(), func(int, TruncateRec) {})
		limit(t, "window", len(b)*8, d.LocalAlloc().Bitmap().SetRuns(), func(int, int) {})
		if area, ok := d.InlineXattrs(); ok {
			exerciseArea(t, area, sb)
		}
		_, _, _ = d.Atime(), d.Ctime(), d.Mtime()

		exerciseList(t, AsExtentBlock(b).List(), sb)
		AsExtentBlock(b).Faults(blkno, sb, TreeData)

		gd := AsGroupDesc(b)
		gd.Faults(blkno, sb, blkno, int(volume), int(bpc))
		bits := 0
		limit(t, "runs", len(b)/16+1, gd.Runs(sb.Geometry, int(bpc)), func(start uint64, n int) {
			if bits += n; n <= 0 || !sb.Contains(start, uint64(n)) || bits > gd.Len() {
				t.Fatalf("run of %d bits at block %d, %d of %d bits", n, start, bits, gd.Len())
			}
		})
		limit(t, "set bits", gd.Len(), gd.SetRuns(), func(from, to int) {
			if from >= to || to > gd.Len() {
				t.Fatalf("bits %d to %d of %d", from, to, gd.Len())
			}
		})
		gd.BitBlock(int(volume), sb.Geometry, int(bpc))
		gd.ClusterOfBit(int(volume), sb)

		exerciseDir(t, b, sb)
		exerciseDir(t, DirArea(b, true), sb)
		AsDirTrailer(b).Faults(blkno, sb, blkno)

		AsDxRoot(b).Faults(blkno, sb, blkno)
		exerciseList(t, AsDxRoot(b).List(), sb)
		limit(t, "index entries", len(b)/16, AsDxRoot(b).Entries().All(), func(int, DxEntry) {})
		AsDxLeaf(b).Faults(blkno, sb)
		limit(t, "index entries", len(b)/16, AsDxLeaf(b).Entries().All(), func(int, DxEntry) {})

		AsXattrBlock(b).Faults(blkno, sb)
		exerciseList(t, AsXattrBlock(b).Tree(), sb)
		exerciseArea(t, AsXattrBlock(b).Area(), sb)
		exerciseArea(t, AsBucket(b), sb)

		AsRefcountBlock(b).Faults(blkno, sb, blkno)
		exerciseList(t, AsRefcountBlock(b).List(), sb)
		limit(t, "refcount records", len(b)/16, AsRefcountBlock(b).Recs().All(), func(int, RefcountRec) {})

		DecodeQuotaGlobalInfo(b)
		DecodeQuotaLocalInfo(b)
		limit(t, "quota references", len(b)/4, QuotaRefs(b), func(int, uint32) {})
		limit(t, "quota entries", len(b)/88, AsQuotaLeaf(b).All(), func(int, QuotaEntry) {})
		limit(t, "quota changes", len(b)/24, QuotaChanges(b), func(int, QuotaChange) {})
		QuotaChunk(b)

		DecodeHeartbeat(b)
		for _, wide := range []bool{false, true} {
			if n := len(DecodeSlotMap(b, wide, int(bpc))); n > len(b)/2 {
				t.Fatalf("%d slots in %d bytes", n, len(b))
			}
			limit(t, "tags", len(b)/8, JournalTags(b, wide), func(int, JournalTag) {})
			n := 0
			for range JournalRevokes(b, wide) {
				if n++; n > len(b)/4 {
					t.Fatalf("more than %d revoked blocks", n)
				}
			}
		}
		if js, ok := DecodeJournalSuper(b); ok {
			js.Faults(sb, blkno)
		}
		if !bytes.Equal(b, before) {
			t.Fatal("a view changed its block")
		}
	})
}

// FuzzSuperBlock: an error or a superblock whose geometry can be used.
func FuzzSuperBlock(f *testing.F) {
	for _, v := range loadSupers(f) {
		f.Add(v.block(), uint64(SuperBlockBlkno))
	}
	f.Fuzz(func(t *testing.T, b []byte, blkno uint64) {
		IsOCFS1(b)
		s, err := DecodeSuperBlock(b, blkno)
		if (s == nil) == (err == nil) {
			t.Fatalf("got %v, %v", s, err)
		}
		if err != nil && !errors.Is(err, ErrNotOCFS2) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
			t.Fatalf("error without a class: %v", err)
		}
		salvaged, faults := SalvageSuperBlock(b, blkno)
		if s != nil && salvaged == nil {
			t.Fatalf("sound, but not salvaged: %v", faults)
		}
		if salvaged == nil {
			return
		}
		s = salvaged
		if s.BlockSize() != len(b) || s.ClusterSize() < s.BlockSize() || s.BlocksPerCluster() == 0 || s.MaxSlots < 0 {
			t.Fatalf("geometry %+v", s.Geometry)
		}
		for _, backup := range s.Backups() {
			if !s.Contains(backup, 1) {
				t.Fatalf("backup %d of %d blocks", backup, s.Blocks())
			}
		}
		if n := s.Groups(); n > 0 && s.GroupBlkno(n-1) >= s.Blocks()+s.BlocksPerCluster() {
			t.Fatalf("last group at %d of %d blocks", s.GroupBlkno(n-1), s.Blocks())
		}
		_, _, _ = s.Compat.String(), s.Incompat.String(), s.ROCompat.String()
		AsDinode(b).Faults(blkno, s)
	})
}

// FuzzRepair: whatever a block holds, a check that was computed is valid, and
// one flipped bit outside the check is found.
func FuzzRepair(f *testing.F) {
	for _, v := range loadChecks(f).Blocks {
		f.Add([]byte(v.Hex), uint8(v.kind(f)), uint16(77))
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, flip uint16) {
		k := Kind(kind)
		off, ok := k.CheckOffset(len(b))
		if !ok || len(b) > MaxBlockSize || !inside(b, off, checkBytes) || off%wordBytes != 0 {
			return
		}
		b = bytes.Clone(b)
		k.UpdateECC(b)
		if state, _ := k.VerifyECC(b); state != ECCValid {
			t.Fatalf("%v after UpdateECC", state)
		}
		bit := int(flip) % (len(b) * bitsPerByte)
		if inCheck(bit, off) {
			return
		}
		RepairBit(b, bit)
		if state, found := k.VerifyECC(b); state != ECCRepairable || found != bit {
			t.Fatalf("bit %d of %d bytes: %v, bit %d", bit, len(b), state, found)
		}
	})
}
