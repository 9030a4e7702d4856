// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestLayers compares the line of layers in the package comment with the imports:
// all directories of packages are in it, and know only what stands to their left.
func TestLayers(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("o2image.go")
	if err != nil {
		t.Fatal(err)
	}
	layer := make(map[string]int) // by directory
	for line := range strings.Lines(string(text)) {
		line, ok := strings.CutPrefix(line, "//\t")
		if !ok || !strings.Contains(line, " <- ") {
			continue
		}
		for i, names := range strings.Split(strings.TrimSpace(line), " <- ") {
			for name := range strings.SplitSeq(names, ", ") {
				layer[name] = i
			}
		}
	}
	list, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		imports := strings.Fields(line)
		from := layerName(imports[0])
		switch from {
		case "cmd/o2image", "corpus", "internal/ocfs2test", "internal/upstreamset":
			continue // on top, or for tests only
		}
		at, ok := layer[from]
		if !ok {
			t.Errorf("%s is in no layer", from)
			continue
		}
		for _, path := range imports[1:] {
			if path != "o2image" && !strings.HasPrefix(path, "o2image/") {
				continue
			}
			to := layerName(path)
			if below, ok := layer[to]; to != from && (!ok || below >= at) {
				t.Errorf("%s imports %s, which does not stand to the left", from, to)
			}
		}
	}
}

// layerName returns the name that a package has among the layers: that of its
// directory, or of the one above it.
func layerName(path string) string {
	dir := strings.TrimPrefix(path, "o2image/")
	for _, parent := range []string{"image", "corpus", "internal/ocfs2test"} {
		if strings.HasPrefix(dir, parent+"/") {
			return parent
		}
	}
	return dir
}
