// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"bytes"
	"testing"

	"o2image"
	"o2image/internal/ocfs2test"
)

// TestLoad wants the same bytes, in every format and through a pipe, however
// the volume is read.
func TestLoad(t *testing.T) {
	loads := map[string]o2image.Load{
		"jobs 1":     {Pace: o2image.Pace{Jobs: 1}},
		"jobs 2":     {Pace: o2image.Pace{Jobs: 2}},
		"jobs 64":    {Pace: o2image.Pace{Jobs: 64}},
		"rate":       {Pace: o2image.Pace{Rate: 200 << 20}},
		"keep none":  {Keep: -1},
		"keep some":  {Keep: 20_000},
		"everything": {Pace: o2image.Pace{Jobs: 3, Rate: 1 << 30}, Keep: 100_000},
	}
	names := []string{"min-b512-c4k", "discontig", "slowlinks"}
	if testing.Short() {
		names = names[:1]
	}
	for _, name := range names {
		vol := ocfs2test.Unpack(t, name)
		packed := readFile(t, create(t, vol.Path, o2image.CreateOptions{}))
		raw := readFile(t, create(t, vol.Path, o2image.CreateOptions{Raw: true}))
		for what, load := range loads {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				opts := o2image.CreateOptions{Load: load}
				if !bytes.Equal(readFile(t, create(t, vol.Path, opts)), packed) {
					t.Error("the packed image is another one")
				}
				if !bytes.Equal(throughPipe(t, vol.Path, opts), packed) {
					t.Error("the packed image is another one through a pipe")
				}
				opts.Raw = true
				if !bytes.Equal(readFile(t, create(t, vol.Path, opts)), raw) {
					t.Error("the raw image is another one")
				}
				opts.Raw, opts.Zstd = false, 1
				if !bytes.Equal(unzstd(t, create(t, vol.Path, opts)), packed) {
					t.Error("the compressed image is another one")
				}
			})
		}
	}
}
