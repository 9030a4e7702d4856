// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Command fill fills a volume for a benchmark. It runs in the virtual machine.
//
//	fill S|M|L|FRAG FOLDER
package main

import (
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: fill S|M|L|FRAG FOLDER")
	}
	if err := fill(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
	unix.Sync()
}

func fill(volume, root string) error {
	f := filler{root: root, rand: rand.New(rand.NewPCG(1, 2))} // the same volume every time
	for i := range f.text {
		f.text[i] = "0123456789abcdefghijklmnopqrstuvwxyz \n"[f.rand.IntN(38)]
	}
	switch volume {
	case "S":
		return f.mixed(200, 100, 2000)
	case "M":
		return f.mixed(3000, 100, 30000)
	case "L":
		return f.empty(400, 4000)
	case "FRAG":
		for _, part := range []func() error{f.fragmented, f.scattered, f.attributes} {
			if err := part(); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no such volume: %s", volume)
}

type filler struct {
	root string
	rand *rand.Rand
	text [64 << 10]byte
}

// file makes a file of that size.
func (f *filler) file(name string, size int) error {
	at := f.rand.IntN(1000)
	return os.WriteFile(name, f.text[at:at+size], 0o644)
}

// mixed makes directories, nested in every tenth, with files in each and a lot
// in the first. Two of five files are empty, as many fit into their inode, one
// has a few clusters; some have an attribute, in the inode or too large for it,
// one in a hundred is a symlink, and every twentieth is deleted again.
func (f *filler) mixed(dirs, files, first int) error {
	for d := range dirs {
		dir := filepath.Join(f.root, fmt.Sprintf("dir%05d", d))
		if d%10 != 0 {
			dir = filepath.Join(f.root, fmt.Sprintf("dir%05d", d-d%10), fmt.Sprintf("sub%d", d%10))
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		n := files
		if d == 0 {
			n = first
		}
		for i := range n {
			if err := f.any(fmt.Sprintf("%s/a-file-name-%07d.dat", dir, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *filler) any(name string) error {
	size := 0
	switch kind := f.rand.IntN(100); {
	case kind < 40:
	case kind < 79:
		size = 100 + f.rand.IntN(1900)
	case kind < 99:
		size = 4000 + f.rand.IntN(9000)
	default:
		return os.Symlink("../a/relative/target/of/a/link", name)
	}
	if err := f.file(name, size); err != nil {
		return err
	}
	if f.rand.IntN(50) == 0 {
		if err := unix.Setxattr(name, "user.note", f.text[:40], 0); err != nil {
			return err
		}
	}
	if f.rand.IntN(200) == 0 {
		if err := unix.Setxattr(name, "user.large", f.text[:1500], 0); err != nil {
			return err
		}
	}
	if f.rand.IntN(20) == 0 {
		return os.Remove(name)
	}
	return nil
}

// empty makes directories of empty files.
func (f *filler) empty(dirs, files int) error {
	for d := range dirs {
		dir := filepath.Join(f.root, fmt.Sprintf("d%04d", d))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		for i := range files {
			if err := touch(fmt.Sprintf("%s/file-%07d", dir, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func touch(name string) error { return unix.Mknod(name, unix.S_IFREG|0o644, 0) }

// fragmented makes a file of 200000 extents of one cluster.
func (f *filler) fragmented() error {
	file, err := os.Create(filepath.Join(f.root, "fragmented"))
	if err != nil {
		return err
	}
	defer file.Close()
	for i := range int64(200_000) {
		if _, err := file.WriteAt(f.text[:512], i*8192); err != nil {
			return err
		}
		if i%5000 == 4999 { // little memory is needed
			if err := file.Sync(); err != nil {
				return err
			}
		}
	}
	return file.Close()
}

// scattered makes two directories that grow in turn with a file, so that their
// blocks lie apart.
func (f *filler) scattered() error {
	dirs := []string{filepath.Join(f.root, "da"), filepath.Join(f.root, "db")}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	between, err := os.Create(filepath.Join(f.root, "between"))
	if err != nil {
		return err
	}
	defer between.Close()
	for i := range 60_000 {
		for _, dir := range dirs {
			if err := touch(fmt.Sprintf("%s/a-rather-long-name-to-fill-the-directory-%07d", dir, i)); err != nil {
				return err
			}
		}
		if i%20 == 0 {
			if _, err := between.Write(f.text[:8192]); err != nil {
				return err
			}
			if err := between.Sync(); err != nil {
				return err
			}
		}
	}
	return between.Close()
}

// attributes makes a file with a tree of attributes.
func (f *filler) attributes() error {
	name := filepath.Join(f.root, "attrs")
	if err := touch(name); err != nil {
		return err
	}
	for i := range 5000 {
		if err := unix.Setxattr(name, fmt.Sprintf("user.attribute-number-%05d", i), f.text[:100], 0); err != nil {
			return err
		}
	}
	return nil
}
