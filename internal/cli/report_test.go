// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"o2image"
	"o2image/image"
	"o2image/volume"
)

func TestSummary(t *testing.T) {
	t.Parallel()
	find := func(severity volume.Severity, class volume.Class, n int) (list []volume.Finding) {
		for i := range n {
			list = append(list, volume.Finding{Severity: severity, Class: class, Block: uint64(100*int(class) + i), Inode: 5, Text: "bad\n"})
		}
		return list
	}
	several := append(append(find(volume.Damaged, volume.ClassInode, 3), find(volume.NotFollowed, volume.ClassGroup, 1)...), find(volume.NotFollowed, volume.ClassInode, 2)...)
	for _, test := range []struct {
		name   string
		report o2image.Report
		want   []string
	}{
		{"nothing", o2image.Report{}, nil},
		{
			"worst first",
			o2image.Report{Findings: several, Found: 6, NotRead: []image.Run{{Start: 7, Len: 2}, {Start: 20, Len: 1}}},
			[]string{
				"not read when they were copied: 3; the first is block 7",
				"not followed, inode: 2; the first is block 200 (inode 5): bad\\x0a",
				"not followed, group: 1; the first is block 100 (inode 5): bad\\x0a",
				"damaged, inode: 3; the first is block 200 (inode 5): bad\\x0a",
				"where",
			},
		},
		{
			"only counted",
			o2image.Report{Findings: find(volume.NotFollowed, volume.ClassGroup, 1), Found: 12},
			[]string{"not followed, group: 1; the first is block 100 (inode 5): bad\\x0a", "and 11 more", "where"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, summary(&test.report, "resume", "where")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	// More kinds than lines: none is lost in the count.
	for kinds := range int(volume.ClassSymlink) + 1 {
		var list []volume.Finding
		for c := range kinds {
			list = append(list, find(volume.Damaged, volume.Class(c), c+1)...)
		}
		lines := summary(&o2image.Report{Findings: list, Found: len(list)}, "resume", "where")
		total := 0
		for _, line := range lines {
			var n int
			if _, text, ok := strings.Cut(line, ": "); ok {
				fmt.Sscan(text, &n)
			} else {
				fmt.Sscanf(line, "and %d more", &n)
			}
			total += n
		}
		if len(lines) > 10 || total != len(list) {
			t.Errorf("%d kinds: %d lines for %d findings, want %d:\n%s", kinds, len(lines), total, len(list), strings.Join(lines, "\n"))
		}
	}
}

func TestFindingText(t *testing.T) {
	t.Parallel()
	f := volume.Finding{Severity: volume.NotFollowed, Class: volume.ClassExtent, Block: 9, Inode: 5, Path: []uint64{7, 8}, Text: "the depth is 9, not 1", Lost: "its 3 records"}
	want := "block 9 (inode 5): extent: the depth is 9, not 1, not followed; by way of blocks 7, 8; lost: its 3 records"
	if got := findingText(f); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	f.Inode, f.Path, f.Lost = 9, nil, ""
	if got, want := findingText(f), "block 9: extent: the depth is 9, not 1, not followed"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestReportWhole wants the old report where the new one cannot be written.
func TestReportWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := dir + "/report"
	if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeReport(name, &o2image.Report{}, nil); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(before, after) {
		t.Errorf("the report was written over the old one")
	}
}
