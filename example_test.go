// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package o2image_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"

	"o2image"
	"o2image/image"
	"o2image/internal/ocfs2test/volpack"
)

// exampleVolume gives a small volume that Linux wrote.
var exampleVolume = sync.OnceValue(func() string {
	packed, err := os.Open("testdata/corpus/slowlinks" + volpack.Ext)
	if err != nil {
		log.Fatal(err)
	}
	defer packed.Close()
	prefix := filepath.Join(exampleDir(), "slowlinks")
	if err := volpack.Unpack(packed, prefix); err != nil {
		log.Fatal(err)
	}
	return prefix + "." + volpack.Image
})

func exampleDir() string {
	dir, err := os.MkdirTemp("", "o2image-example-")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

// List the files of a volume, or of an image of it, with their sizes and where
// their data lies.
func ExampleOpen() {
	ctx := context.Background()
	source, err := o2image.Open(ctx, exampleVolume())
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	volume := source.Volume()
	for file, err := range volume.Walk(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(file.Path, file.Inode.Size())
		for extent, err := range volume.Extents(ctx, file.Inode) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("  %d blocks from block %d on\n", extent.Blocks, extent.Blkno)
		}
	}
	// Output:
	// / 824
	// /lost+found 824
	// /slowlinks 824
	// /slowlinks/l830 830
	// /slowlinks/l831 831
	// /slowlinks/l832 832
	//   4 blocks from block 30724 on
	// /slowlinks/l833 833
	//   4 blocks from block 30728 on
	// /slowlinks/l4090 4090
	//   4 blocks from block 30732 on
}

// Make a packed image of a volume.
func ExampleCreate() {
	dir := exampleDir()
	defer os.RemoveAll(dir)
	report, err := o2image.Create(context.Background(), exampleVolume(), filepath.Join(dir, "volume.o2i"), o2image.CreateOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Volume.Label, report.Format, "incomplete:", report.Incomplete())
	// Output:
	// slowlinks packed incomplete: false
}

// Make a packed image through a pipe, and write it back to a new file.
func ExampleCreateTo() {
	dir := exampleDir()
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "volume.o2i")
	f, err := os.Create(name)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := o2image.CreateTo(context.Background(), exampleVolume(), f, o2image.CreateOptions{Exact: true}); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	report, err := o2image.Restore(context.Background(), filepath.Join(dir, "restored.img"), name, o2image.RestoreOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Volume.Label, "restored")
	// Output:
	// slowlinks restored
}

// Turn a packed image into a raw one, which fsck.ocfs2 and mount read.
func ExampleConvert() {
	ctx, dir := context.Background(), exampleDir()
	defer os.RemoveAll(dir)
	packed, raw := filepath.Join(dir, "volume.o2i"), filepath.Join(dir, "volume.raw")
	if _, err := o2image.Create(ctx, exampleVolume(), packed, o2image.CreateOptions{}); err != nil {
		log.Fatal(err)
	}
	if _, err := o2image.Convert(ctx, packed, raw, o2image.ConvertOptions{}); err != nil {
		log.Fatal(err)
	}
	info, err := os.Stat(raw)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(image.FormatRaw, info.Size())
	// Output:
	// raw 134217728
}
