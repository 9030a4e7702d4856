// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"o2image/internal/ocfs2test"
	"o2image/volume"
)

// beat makes the unit of a node say that it has beaten so many times.
func beat(unit []byte, node byte, seq uint64) {
	binary.LittleEndian.PutUint64(unit, seq)
	unit[8] = node
}

// TestBeatsSince has nodes beat in regions with sectors of each size.
func TestBeatsSince(t *testing.T) {
	for _, sector := range []int{512, 1024, 2048, 4096} {
		before := make(volume.Beats, 256*4096)
		if !before.Never() {
			t.Error("zeros are a beat")
		}
		for _, node := range []byte{0, 3, 7, 254} {
			beat(before[int(node)*sector:], node, 100)
		}
		if before.Never() {
			t.Error("there are beats")
		}
		if got := before.Since(slices.Clone(before)); got != nil {
			t.Errorf("nothing has changed: %v", got)
		}
		now := slices.Clone(before)
		beat(now[3*sector:], 3, 101)
		beat(now[254*sector:], 254, 102)
		beat(now[5*sector:], 5, 1) // has just come
		if got := now.Since(before); !slices.Equal(got, []int{3, 5, 254}) {
			t.Errorf("sectors of %d bytes: nodes %v are alive", sector, got)
		}
	}
	// A unit that says nonsense is that of its place.
	before := make(volume.Beats, 256*512)
	now := bytes.Clone(before)
	beat(now[9*512:], 77, 5)
	if got := volume.Beats(now).Since(before); !slices.Equal(got, []int{9}) {
		t.Errorf("nodes %v are alive", got)
	}
}

// TestHeartbeatRegion finds the region where debugfs.ocfs2 does, and sees
// whether nodes have beaten in it.
func TestHeartbeatRegion(t *testing.T) {
	extent := regexp.MustCompile(`(?m)^\s+0\s+0\s+\d+\s+(\d+)\s`)
	for name, beaten := range map[string]bool{"o2cb-slot2": true, "o2cb-3slots": true, "o2cb-named": false, "plain-b1k": false, "min-b512-c1m": false} {
		vol := ocfs2test.Unpack(t, name)
		v, file := openFile(t, vol.Path)
		region, err := v.HeartbeatRegion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		beats, err := region.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		if beats.Never() == beaten {
			t.Errorf("%s: never beaten: %v", name, beats.Never())
		}
		stat := ocfs2test.Debugfs(t, vol.Path, false, "stat //heartbeat")
		found := extent.FindStringSubmatch(stat)
		if found == nil {
			t.Fatalf("%s: debugfs.ocfs2 says %s", name, stat)
		}
		blkno, err := strconv.ParseInt(found[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 256*v.Super().BlockSize())
		if _, err := file.ReadAt(want, blkno*int64(v.Super().BlockSize())); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(beats, want) {
			t.Errorf("%s: the region is not at block %d", name, blkno)
		}
	}
}

// TestHasHeartbeat tells the volumes whose nodes beat on them.
func TestHasHeartbeat(t *testing.T) {
	for name, want := range map[string][2]bool{ // clustered, has a heartbeat
		"plain-b1k":   {false, false},
		"o2cb-3slots": {true, true},
		"o2cb-named":  {true, true},
		"o2cb-global": {true, false},
		"pcmk-named":  {true, false},
	} {
		v, _ := openFile(t, ocfs2test.Unpack(t, name).Path)
		if got := [2]bool{v.Clustered(), v.HasHeartbeat()}; got != want {
			t.Errorf("%s: clustered and with a heartbeat: %v, want %v", name, got, want)
		}
	}
}

// TestSlotsDamaged breaks the inode of a journal, and then the slot map: the
// state of the other slots is known all the same.
func TestSlotsDamaged(t *testing.T) {
	vol := ocfs2test.Unpack(t, "o2cb-3slots")
	path := vol.Copy(t)
	v, _ := openFile(t, path)
	sound, err := v.Slots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	breakInode := func(name string) {
		t.Helper()
		d, err := v.SystemFile(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, v.Super().BlockSize()), int64(d.Blkno())<<v.Super().BlockBits); err != nil {
			t.Fatal(err)
		}
	}
	breakInode("journal:0004")
	damaged, err := v.Slots(t.Context())
	if err == nil || len(damaged) != len(sound) {
		t.Fatalf("%v, %v", damaged, err)
	}
	for i, s := range damaged {
		want := sound[i]
		if i == 4 {
			want.Dirty = false
			if s.Unknown == "" {
				t.Error("slot 4: it is not said that its journal could not be read")
			}
			s.Unknown = ""
		}
		if s != want {
			t.Errorf("slot %d: %+v, before %+v", i, s, want)
		}
	}
	breakInode("slot_map")
	noMap, err := v.Slots(t.Context())
	if err == nil || len(noMap) != len(sound) {
		t.Fatalf("%v, %v", noMap, err)
	}
	for i, s := range noMap {
		if s.InUse || i != 4 && s.Dirty != sound[i].Dirty {
			t.Errorf("slot %d without the slot map: %+v, before %+v", i, s, sound[i])
		}
	}
}
