// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"o2image/image"
	"o2image/volume"
)

// TestDecodeReport wants the longest lists that are written to be read.
func TestDecodeReport(t *testing.T) {
	want := &Report{Program: "p", Volume: VolumeInfo{Features: []string{"a", "b"}}, Slots: make([]volume.SlotState, 255)}
	for i := range 10_000 {
		want.Findings = append(want.Findings, volume.Finding{Block: uint64(i), Path: []uint64{1, 2, 3}, Text: "text"})
	}
	for i := range 300_000 {
		want.NotRead = append(want.NotRead, image.Run{Start: uint64(i), Len: 1})
	}
	text, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeReport(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff[:min(len(diff), 1000)])
	}
}

// TestDecodeHostileReport wants reports that take much more memory than their
// text to be refused before they do.
func TestDecodeHostileReport(t *testing.T) {
	long := func(entry string) string {
		return "[" + strings.Repeat(entry+",", 16<<20/(len(entry)+1)) + entry + "]"
	}
	for name, text := range map[string]string{
		"findings":        `{"findings":` + long("{}") + `}`,
		"null findings":   `{"findings":` + long("null") + `}`,
		"wrong findings":  `{"Findings":` + long("0") + `}`,
		"slots":           `{"program":"x","volume":{"uuid":"y"},"slots":` + long("{}") + `}`,
		"runs":            `{"not_read":` + long("{}") + `}`,
		"second field":    `{"slots":[{}],"classes":[],"findings":` + long("{}") + `}`,
		"deep":            `{"findings":` + strings.Repeat("[", 16<<20),
		"fields":          `{"volume":{` + strings.Repeat(`"a":0,`, 1<<20) + `"b":0}}`,
		"no object":       `7`,
		"cut off":         `{"program":"x`,
		"something else":  `hello`,
		"something after": `{} {}`,
		"empty":           ``,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decodeReport([]byte(text))
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if name == "deep" || strings.Contains(name, "findings") {
			if used := after.TotalAlloc - before.TotalAlloc; used > 128<<20 {
				t.Errorf("%s: %d MiB for a text of %d", name, used>>20, len(text)>>20)
			}
		}
	}
}
