// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"o2image/internal/ocfs2test"
	"o2image/ocfs2"
	"o2image/volume"
)

// broken is a volume file with some bytes changed, and with sectors that cannot
// be read.
type broken struct {
	io.ReaderAt
	patches map[int64][]byte
	bad     [][2]int64 // from, to
}

var errBad = errors.New("input/output error")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	for _, r := range b.bad {
		if off < r[1] && r[0] < off+int64(len(p)) {
			return 0, errBad
		}
	}
	n, err := b.ReaderAt.ReadAt(p, off)
	for at, patch := range b.patches {
		if from := max(at, off); from < min(at+int64(len(patch)), off+int64(n)) {
			copy(p[from-off:n], patch[from-at:])
		}
	}
	return n, err
}

func spansOf(m *volume.Metadata) [][2]uint64 {
	var list [][2]uint64
	for start, n := range m.Blocks.Spans() {
		list = append(list, [2]uint64{start, n})
	}
	return list
}

// TestDamagedSuperblock checks that the set of a volume is the same whatever
// happens to its superblock, and that it is said.
func TestDamagedSuperblock(t *testing.T) {
	u16 := func(n uint16) []byte { return binary.LittleEndian.AppendUint16(nil, n) }
	u32 := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	u64 := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	cases := map[string]struct {
		at    int64 // in the superblock
		patch []byte
	}{
		"lost":          {0, make([]byte, 512)},
		"signature":     {0, make([]byte, 8)},
		"own number":    {0x50, u64(9)},
		"generation":    {0x60, u32(0xFFFFFFFF)},
		"clusters 0":    {0x14, u32(0)},
		"clusters huge": {0x14, u32(0xFFFFFFFF)},
		"root 0":        {0xE8, u64(0)},
		"root far":      {0xE8, u64(1 << 60)},
		"system dir":    {0xF0, u64(1 << 60)},
		"system root":   {0xF0, nil}, // set below
		"block size":    {0xF8, u32(99)},
		"cluster size":  {0xFC, u32(99)},
		"cluster size2": {0xFC, u32(16)},
		"slots 0":       {0x100, u16(0)},
		"slots":         {0x100, u16(0xFFFF)},
		"first group":   {0x108, u64(1 << 50)},
		"features":      {0xE0, u32(0xFFFFFFFF)},
		"no features":   {0xE0, u32(0)},
	}
	for _, name := range []string{"plain-b1k", "metaecc", "volume-512", "backup-1g"} {
		vol := ocfs2test.Unpack(t, name)
		f, err := os.Open(vol.Path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		v, err := volume.Open(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		sound, err := v.Metadata(t.Context(), volume.Options{})
		if err != nil {
			t.Fatal(err)
		}
		super := int64(v.Super().BlockSize()) * ocfs2.SuperBlockBlkno
		for what, c := range cases {
			t.Run(name+"/"+what, func(t *testing.T) {
				if c.patch == nil {
					c.patch = u64(v.Super().Root)
				}
				b := broken{ReaderAt: f, patches: map[int64][]byte{super + c.at: c.patch}}
				was := make([]byte, len(c.patch))
				if _, err := f.ReadAt(was, super+c.at); err != nil {
					t.Fatal(err)
				}
				if slices.Equal(was, c.patch) {
					return // not a change
				}
				got, meta := walkBroken(t, b)
				if diff := gocmp.Diff(spansOf(sound), spansOf(meta)); diff != "" {
					t.Errorf("set (-want +got):\n%s", diff)
				}
				if meta.Found == 0 {
					t.Error("nothing is said")
				}
				ignored := cmpopts.IgnoreFields(ocfs2.SuperBlock{}, "Blkno", "MountCount", "Incompat", "Compat", "ROCompat", "Root", "Label", "UUID", "UUIDHash",
					"DxSeed", "CreatorOS", "MaxMountCount", "State", "Errors", "CheckInterval", "LastCheck", "XattrInlineSize", "ClusterStack", "ClusterFlags", "ClusterName",
					"MaxSlots")
				if diff := gocmp.Diff(v.Super(), got.Super(), ignored); diff != "" {
					t.Errorf("superblock (-want +got):\n%s", diff)
				}
			})
		}
		t.Run(name+"/unreadable", func(t *testing.T) {
			_, meta := walkBroken(t, broken{ReaderAt: f, bad: [][2]int64{{0, super + 512}}})
			if diff := gocmp.Diff(spansOf(sound), spansOf(meta)); diff != "" {
				t.Errorf("set (-want +got):\n%s", diff)
			}
			if meta.Found == 0 {
				t.Error("nothing is said")
			}
		})
	}
}

func walkBroken(t *testing.T, b broken) (*volume.Volume, *volume.Metadata) {
	t.Helper()
	v, err := volume.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := v.Metadata(t.Context(), volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return v, meta
}

// TestStartLost opens volumes of which the start was overwritten: one superblock
// that is left is enough, and so is what a superblock leads to.
func TestStartLost(t *testing.T) {
	zeros := make([]byte, 1<<20)
	for name, c := range map[string]struct {
		volume  string
		patches map[int64][]byte
	}{
		"all of the start":                          {"backup-1g", map[int64][]byte{0: zeros}},
		"superblock and root":                       {"backup-1g", map[int64][]byte{2 << 12: zeros[:8192], 5 << 12: zeros[:4096]}},
		"what a sound superblock leads to":          {"backup-1g", map[int64][]byte{3 << 12: zeros[:4096], 5 << 12: zeros[:8192]}},
		"mkswap":                                    {"plain-b4k", map[int64][]byte{2 << 12: zeros[:6], 0xFF6: []byte("SWAPSPACE2")}},
		"mkswap on a volume with a second chance":   {"backup-1g", map[int64][]byte{2 << 12: zeros[:6], 0xFF6: []byte("SWAPSPACE2")}},
		"superblock, the other one leads to little": {"backup-1g", map[int64][]byte{2 << 12: zeros[:5<<12]}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sound, f := openFile(t, ocfs2test.Unpack(t, c.volume).Path)
			v, meta := walkBroken(t, broken{ReaderAt: f, patches: c.patches})
			if v.Super().Blocks() != sound.Super().Blocks() || v.Super().ClusterBits != sound.Super().ClusterBits {
				t.Errorf("%d blocks, want %d", v.Super().Blocks(), sound.Super().Blocks())
			}
			if meta.Found == 0 {
				t.Error("nothing is said")
			}
		})
	}
	// What lies over little that is left of a volume is something else, and so is
	// what holds data, however much is left.
	_, f := openFile(t, ocfs2test.Unpack(t, "backup-1g").Path)
	for want, patches := range map[string]map[int64][]byte{
		"swap space": {0: zeros[:0xFF6], 0xFF6: []byte("SWAPSPACE2"), 4096: zeros},
		"ext4":       {2 << 12: zeros[:6], 0x438: []byte("\x53\xef")},
		"LVM":        {2 << 12: zeros[:6], 0x218: []byte("LVM2 001")},
	} {
		if _, err := volume.Open(t.Context(), broken{ReaderAt: f, patches: patches}); !errors.Is(err, ocfs2.ErrNotOCFS2) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s over a volume: %v", want, err)
		}
	}
}

// TestNothing opens files that hold no volume: that takes few reads.
func TestNothing(t *testing.T) {
	for name, seed := range map[string]byte{"zeros": 0, "anything": 1} {
		b := make([]byte, 64<<20)
		if seed != 0 {
			rand.NewChaCha8([32]byte{seed}).Read(b)
		}
		reads := 0
		if _, err := volume.Open(t.Context(), readFunc(func(p []byte, off int64) (int, error) {
			reads++
			return bytes.NewReader(b).ReadAt(p, off)
		})); err == nil {
			t.Errorf("%s: no error", name)
		}
		if reads > 200 {
			t.Errorf("%s: %d reads", name, reads)
		}
	}
}

type readFunc func(p []byte, off int64) (int, error)

func (r readFunc) ReadAt(p []byte, off int64) (int, error) { return r(p, off) }

// TestBackup opens a volume of 1 GiB and more by its backup alone.
func TestBackup(t *testing.T) {
	vol := ocfs2test.Unpack(t, "backup-1g")
	v, _ := openFile(t, vol.Path)
	f, err := os.Open(vol.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := volume.OpenBackup(t.Context(), f, 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(1<<30) / uint64(v.Super().BlockSize()); b.Super().Blkno != want || b.Super().UUID != v.Super().UUID {
		t.Errorf("opened by block %d, want %d", b.Super().Blkno, want)
	}
	if meta, err := b.Metadata(t.Context(), volume.Options{}); err != nil || meta.Found > 0 {
		t.Errorf("findings on a sound volume: %v, %v", meta.Findings, err)
	}
	super := int64(v.Super().BlockSize()) * ocfs2.SuperBlockBlkno
	for what, patch := range map[string]map[int64][]byte{
		"i_signature":        {super: make([]byte, 512)},
		"s_system_dir_blkno": {super + 0xF0: {77}},
	} {
		b, err := volume.OpenBackup(t.Context(), broken{ReaderAt: f, patches: patch}, 1)
		if err != nil {
			t.Fatal(err)
		}
		meta, err := b.Metadata(t.Context(), volume.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(meta.Findings, func(f volume.Finding) bool {
			return f.Block == ocfs2.SuperBlockBlkno && strings.Contains(f.Text, what)
		}) {
			t.Errorf("damage of %s in the superblock is not said: %v", what, meta.Findings)
		}
	}
	if _, err := volume.OpenBackup(t.Context(), f, 2); !errors.Is(err, ocfs2.ErrNotOCFS2) {
		t.Errorf("backup 2 of a small volume: %v", err)
	}
}

// TestSweep loses the system directory, the inodes of all system files and all
// superblocks but the backup: what shows itself is found.
func TestSweep(t *testing.T) {
	vol := ocfs2test.Unpack(t, "backup-1g")
	v, f := openFile(t, vol.Path)
	sound, err := v.Metadata(t.Context(), volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bs := int64(v.Super().BlockSize())
	group := int64(v.Super().SystemDir) * bs / (1 << 20) * (1 << 20)
	lost := broken{ReaderAt: f, bad: [][2]int64{{bs * 2, bs * 3}, {group, group + 1<<20}}}
	_, meta := walkBroken(t, lost)
	if meta.Complete() {
		t.Error("nothing is missing")
	}
	found := 0
	for run := range sound.Blocks.All() {
		if volume.Class(run.Tag) != volume.ClassInode && volume.Class(run.Tag) != volume.ClassDirectory {
			continue
		}
		for n := range run.Len {
			b, err := v.ReadBlock(t.Context(), run.Start+n)
			if err != nil {
				t.Fatal(err)
			}
			at := int64(run.Start+n) * bs
			if at >= group && at < group+1<<20 || !ocfs2.AsDinode(b).HasSignature() || !ocfs2.AsDinode(b).IsValid() {
				continue
			}
			found++
			if !meta.Blocks.Has(run.Start + n) {
				t.Errorf("inode %d is not in the set", run.Start+n)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d inodes to find", found)
	}
	t.Logf("%d inodes found", found)
}
