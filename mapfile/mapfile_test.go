// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package mapfile_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"o2image/mapfile"
)

// texts are map files in the forms that the manual of ddrescue describes.
var texts = []struct {
	name, text string
	want       mapfile.Map
}{
	{
		"interrupted", `# Mapfile. Created by GNU ddrescue version 1.27
# Command line: ddrescue -d /dev/sdb disk.img disk.map
# Start time:   2024-01-20 06:01:03
# Current time: 2024-01-20 15:27:54
# Copying non-tried blocks... Pass 1 (forwards)
# current_pos  current_status  current_pass
0x04310000     ?               1
#      pos        size  status
0x00000000  0x04300000  +
0x04300000  0x00010000  *
0x04310000  0x01320000  ?
`,
		mapfile.Map{Pos: 0x4310000, State: '?', Pass: 1, Blocks: []mapfile.Block{
			{0, 0x4300000, mapfile.Finished}, {0x4300000, 0x10000, mapfile.NonTrimmed}, {0x4310000, 0x1320000, mapfile.NonTried},
		}},
	},
	{
		"finished", "0x773FF0000     +               1\n0x00000000  0x774000000  +\n",
		mapfile.Map{Pos: 0x773FF0000, State: '+', Pass: 1, Blocks: []mapfile.Block{{0, 0x774000000, mapfile.Finished}}},
	},
	{
		"numbers of all kinds, comments behind, before 1.20", "\t16 -  # here\n\n0 010 -\t#eight\n8 0X08 /\n16 1 +\n",
		mapfile.Map{Pos: 16, State: '-', Pass: 1, Blocks: []mapfile.Block{
			{0, 8, mapfile.BadSector}, {8, 8, mapfile.NonScraped}, {16, 1, mapfile.Finished},
		}},
	},
	{
		"a part, of unknown end", "0 G 3\n0x1000 0x7FFFFFFFFFFFEFFF ?",
		mapfile.Map{State: 'G', Pass: 3, Blocks: []mapfile.Block{{0x1000, 0x7FFFFFFFFFFFEFFF, mapfile.NonTried}}},
	},
	{"no blocks", "0 F 2\n", mapfile.Map{State: 'F', Pass: 2}},
}

func TestRead(t *testing.T) {
	for _, test := range texts {
		t.Run(test.name, func(t *testing.T) {
			got, err := mapfile.Read(strings.NewReader(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":         "",
		"comments alone":  "# Mapfile\n",
		"another text":    "root:x:0:0:root:/root:/bin/bash\n",
		"state":           "0 x 1\n",
		"state of two":    "0 ++ 1\n",
		"pass":            "0 + 0\n",
		"a field more":    "0 + 1 1\n",
		"only a position": "0\n",
		"negative":        "0 + 1\n-1 1 +\n",
		"underscore":      "0 + 1\n1_0 1 +\n",
		"not octal":       "0 + 1\n08 1 +\n",
		"binary":          "0 + 1\n0b1 1 +\n",
		"no digits":       "0 + 1\n0x 1 +\n",
		"a gap":           "0 + 1\n0 1 +\n2 1 +\n",
		"an overlap":      "0 + 1\n0 2 +\n1 1 +\n",
		"backwards":       "0 + 1\n5 1 +\n0 5 +\n",
		"empty block":     "0 + 1\n0 0 +\n",
		"too far":         "0 + 1\n0x7FFFFFFFFFFFFFFF 1 +\n",
		"too large":       "0 + 1\n0 0x8000000000000000 +\n",
		"status":          "0 + 1\n0 1 F\n",
		"block of two":    "0 + 1\n0 1\n",
		"endless line":    strings.Repeat(" ", 1<<20),
	} {
		if m, err := mapfile.Read(strings.NewReader(text)); !errors.Is(err, mapfile.ErrFormat) || m != nil {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	broken := errors.New("broken")
	if _, err := mapfile.Read(iotest.ErrReader(broken)); !errors.Is(err, broken) || errors.Is(err, mapfile.ErrFormat) {
		t.Errorf("a read error: %v", err)
	}
}

func TestAdd(t *testing.T) {
	var m mapfile.Map
	m.Add(10, mapfile.Finished)
	m.Add(5, mapfile.Finished)
	m.Add(0, mapfile.BadSector)
	m.Add(1, mapfile.NonTried)
	want := []mapfile.Block{{0, 15, mapfile.Finished}, {15, 1, mapfile.NonTried}}
	if diff := cmp.Diff(want, m.Blocks); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// example is a map with every status and numbers of more than 32 bits.
func example() *mapfile.Map {
	m := &mapfile.Map{Pos: 0x1000, State: '?', Pass: 1}
	for i, status := range []mapfile.Status{'+', '-', '?', '/', '*', '+', '?'} {
		m.Add(0x1000<<(2*i), status)
	}
	return m
}

// TestWrite has ddrescuelog read a map, as it is and made anew by it.
func TestWrite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "map")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(example().Write(f, "a test"), f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, status := range []mapfile.Status{'+', '-', '?', '/', '*'} {
		out, err := exec.Command("ddrescuelog", "--list-blocks="+string(rune(status)), "--block-size=4096", name).CombinedOutput()
		if err != nil {
			t.Fatalf("ddrescuelog: %v\n%s", err, out)
		}
		n := int64(0)
		for _, b := range example().Blocks {
			if b.Status == status {
				n += b.Size / 4096
			}
		}
		if got := int64(bytes.Count(out, []byte("\n"))); got != n {
			t.Errorf("ddrescuelog finds %d blocks of status %c, want %d", got, status, n)
		}
	}
	out, err := exec.Command("ddrescuelog", "--change-types=?,?", name).Output()
	if err != nil {
		t.Fatalf("ddrescuelog: %v", err)
	}
	again, err := mapfile.Read(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example().Blocks, again.Blocks); diff != "" {
		t.Errorf("through ddrescuelog (-written +read):\n%s", diff)
	}
}

// FuzzRead wants that what is read is in order, and survives being written.
func FuzzRead(f *testing.F) {
	for _, test := range texts {
		f.Add([]byte(test.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := mapfile.Read(bytes.NewReader(text))
		if err != nil {
			if m != nil {
				t.Errorf("a map and %v", err)
			}
			return
		}
		for i, b := range m.Blocks {
			if b.Pos < 0 || b.Size <= 0 || b.End() < b.Pos || i > 0 && b.Pos != m.Blocks[i-1].End() {
				t.Fatalf("block %d: %+v", i, b)
			}
		}
		var buf bytes.Buffer
		if err := m.Write(&buf, "fuzz\nfuzz"); err != nil {
			t.Fatal(err)
		}
		again, err := mapfile.Read(&buf)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Errorf("-read +read again:\n%s", diff)
		}
	})
}
