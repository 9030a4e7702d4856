// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"o2image/internal/ocfs2test/volpack"
)

// testdata/corpus holds the volumes of the table, but for the large ones, and
// their checksums.
func TestTable(t *testing.T) {
	t.Parallel()
	seed, specs, err := readTable(table)
	if err != nil || seed == "" {
		t.Fatalf("seed %q: %v", seed, err)
	}
	testdata := filepath.Join("..", "testdata", "corpus")
	var want strings.Builder
	slices.SortFunc(specs, func(a, b spec) int { return strings.Compare(a.name+volpack.Ext, b.name+volpack.Ext) })
	for _, s := range specs {
		if size, err := parseSize(s.size); err != nil || size < 64<<20 {
			t.Errorf("%s: size %d, %v", s.name, size, err)
		}
		if nodes, ok := s.flag("cluster"); ok && strings.Count(nodes, "+")+1 != len(s.phases) {
			t.Errorf("%s: nodes %s for %d phases", s.name, nodes, len(s.phases))
		}
		if _, large := s.flag("large"); large {
			continue
		}
		b, err := os.ReadFile(filepath.Join(testdata, s.name+volpack.Ext))
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(&want, "%x  %s\n", sha256.Sum256(b), s.name+volpack.Ext)
	}
	got, err := os.ReadFile(filepath.Join(testdata, sums))
	if d := cmp.Diff(want.String(), string(got)); d != "" || err != nil {
		t.Errorf("%s: %v, -want +got:\n%s", sums, err, d)
	}
}

func TestReadTable(t *testing.T) {
	t.Parallel()
	_, got, err := readTable("# name | ...\n#seed x\n\na | 64M/300 | -b 512  -N 1 | local | crash,cluster=1+6 | tree:n=1 sync / tree\nb | 1G | | - | - | -\n")
	want := []spec{
		{
			name: "a", size: "64M", blocks: "300", mkfs: []string{"-b", "512", "-N", "1"}, options: localMount,
			flags: []string{"crash", "cluster=1+6"}, phases: []string{"tree:n=1 sync", "tree"},
		},
		{name: "b", size: "1G", mkfs: []string{}, options: "-", flags: []string{"-"}},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(spec{})); d != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, d)
	}
	if _, _, err := readTable("a | b\n"); err == nil {
		t.Error("two columns: no error")
	}
}

// A volume built now lists as the one that testdata has.
func TestBuild(t *testing.T) {
	t.Parallel()
	seed, specs, err := readTable(table)
	if err != nil {
		t.Fatal(err)
	}
	const name = "slowlinks"
	dir := t.TempDir()
	if err := build(t.Context(), seed, choose(specs, []string{name}), dir); err != nil {
		t.Fatal(err)
	}
	packed, err := os.Open(filepath.Join("..", "testdata", "corpus", name+volpack.Ext))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	old := t.TempDir()
	if err := volpack.Unpack(packed, filepath.Join(old, name)); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"manifest", "extents", "secrets"} {
		want, err := os.ReadFile(filepath.Join(old, name+"."+kind))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, name+"."+kind))
		if d := cmp.Diff(string(want), string(got)); d != "" || err != nil {
			t.Errorf("%s: %v, -testdata +now:\n%s", kind, err, d)
		}
	}
}
