// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"o2image/internal/ocfs2test/truth"
	"o2image/internal/ocfs2test/volpack"
)

// The truth about a volume; see package truth.
type (
	Entry  = truth.Entry
	Xattr  = truth.Xattr
	Extent = truth.Extent
	Secret = truth.Secret
)

// Volume is an unpacked volume of testdata, shared by all tests: read only.
type Volume struct {
	Name     string
	Path     string            // of the volume, a sparse file
	Size     int64             // of that file, bytes
	Info     map[string]string // name, size, blocksize, clustersize, flags, mountopts, mkfs, ops
	Manifest []Entry           // every path of the volume; nil where nothing but mkfs wrote to it
	Extents  []Extent          // the data of its regular files
	Secrets  []Secret          // the markers written to it
	Pre      string            // commands of the virtual machine that start the cluster stack
}

// MountOptions returns the options that the kernel mounts the volume with.
func (v *Volume) MountOptions() string {
	if o := v.Info["mountopts"]; o != "-" && o != "" {
		return o
	}
	return "heartbeat=none,noatime" // nothing but mkfs has seen the volume
}

// Populated reports whether the kernel has written to the volume.
func (v *Volume) Populated() bool { return v.Manifest != nil }

// Crashed reports whether the volume was cut off without being unmounted: its
// journal is dirty, and Manifest is what a replay of it brings to light.
func (v *Volume) Crashed() bool { return v.flag("crash") }

// Clustered reports whether a node of an o2cb cluster wrote to the volume.
func (v *Volume) Clustered() bool { return v.flag("cluster=") }

func (v *Volume) flag(prefix string) bool {
	return slices.ContainsFunc(strings.Split(v.Info["flags"], ","), func(f string) bool {
		return strings.HasPrefix(f, prefix)
	})
}

// Copy makes a copy of the volume, with holes, that the test may write to.
func (v *Volume) Copy(t testing.TB) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), v.Name+".img")
	if err := volpack.CopySparse(dst, v.Path); err != nil {
		t.Fatal(err)
	}
	return dst
}

// short are the volumes that tests run on with -short: one or two of each kind.
var short = []string{
	"crash", "deep-b512", "discontig", "dx-inline", "inline-b512", "max-features", "min-b2k-c4k",
	"o2cb-slot2", "old-b1k", "partial-dev", "plain-b1k", "reflink-b1k", "slowlinks", "xattr-dir",
}

// Volumes returns the names of the volumes of testdata/corpus, sorted; a chosen
// few of them with -short.
func Volumes(t testing.TB) []string {
	t.Helper()
	if testing.Short() {
		return short
	}
	files, err := filepath.Glob(filepath.Join(moduleDir(t), "testdata", "corpus", "*"+volpack.Ext))
	if err != nil || len(files) == 0 {
		t.Fatalf("no volumes in testdata/corpus (%v)", err)
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = strings.TrimSuffix(filepath.Base(f), volpack.Ext)
	}
	slices.Sort(names)
	return names
}

// Unpack gives the volume testdata/corpus/NAME.tar.zst, or the volume without
// anything beside it testdata/volumes/NAME.img.gz. It is unpacked once on a
// machine, into a cache in the folder for temporary files.
func Unpack(t testing.TB, name string) *Volume {
	t.Helper()
	v, err := unpack(moduleDir(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func unpack(module, name string) (*Volume, error) {
	file := filepath.Join(module, "testdata", "corpus", name+volpack.Ext)
	write := volpack.Unpack
	packed, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		file = filepath.Join(module, "testdata", "volumes", name+".img.gz")
		write = gunzip
		packed, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}

	cache := filepath.Join(os.TempDir(), fmt.Sprintf("o2image-testdata-%d", os.Getuid()))
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(packed)
	dir := filepath.Join(cache, fmt.Sprintf("%s-%x", name, sum[:8]))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		tmp, err := os.MkdirTemp(cache, ".unpack-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(tmp)
		if err := write(bytes.NewReader(packed), filepath.Join(tmp, name)); err != nil {
			return nil, err
		}
		// Another process may have been faster: its result is as good.
		if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return load(filepath.Join(dir, name), name)
}

// gunzip writes the volume PREFIX.img, which a gzip file holds.
func gunzip(r io.Reader, prefix string) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(z)
	if err != nil {
		return err
	}
	return os.WriteFile(prefix+"."+volpack.Image, b, 0o644)
}

func load(prefix, name string) (*Volume, error) {
	v := &Volume{Name: name, Path: prefix + "." + volpack.Image, Info: map[string]string{}}
	st, err := os.Stat(v.Path)
	if err != nil {
		return nil, err
	}
	v.Size = st.Size()
	readers := map[string]func(io.Reader) error{
		"info": func(r io.Reader) error {
			s := bufio.NewScanner(r)
			for s.Scan() {
				key, value, _ := strings.Cut(s.Text(), "=")
				v.Info[key] = strings.TrimSpace(value)
			}
			return s.Err()
		},
		"pre": func(r io.Reader) error {
			b, err := io.ReadAll(r)
			v.Pre = string(b)
			return err
		},
		"manifest": func(r io.Reader) (err error) { v.Manifest, err = truth.ReadManifest(r); return },
		"extents":  func(r io.Reader) (err error) { v.Extents, err = truth.ReadExtents(r); return },
		"secrets":  func(r io.Reader) (err error) { v.Secrets, err = truth.ReadSecrets(r); return },
	}
	for part, read := range readers {
		f, err := os.Open(prefix + "." + part)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		err = read(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s of volume %s: %w", part, name, err)
		}
	}
	return v, nil
}

// Range is a run of bytes of a volume.
type Range struct{ Offset, Length uint64 }

// DataOnly makes a file of the volume's length that holds nothing but the
// contents of its regular files, where the kernel said that they lie, and the
// bytes of the extra ranges; all the rest is a hole. Restored to it, the
// metadata must make the volume whole again.
func DataOnly(t testing.TB, v *Volume, extra ...Range) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), v.Name+".data.img")
	if err := dataOnly(dst, v, extra); err != nil {
		t.Fatal(err)
	}
	return dst
}

func dataOnly(dst string, v *Volume, extra []Range) (err error) {
	ranges := slices.Clone(extra)
	for _, x := range v.Extents {
		if x.Flags&truth.ExtentUnwritten == 0 {
			ranges = append(ranges, Range{x.Physical, x.Length})
		}
	}
	in, err := os.Open(v.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(v.Size); err != nil {
		return err
	}
	for _, r := range ranges {
		if size := uint64(v.Size); r.Offset > size || r.Length > size-r.Offset {
			return fmt.Errorf("%s: range %d+%d lies outside the volume", v.Name, r.Offset, r.Length)
		}
		if err := volpack.CopyRun(out, in, volpack.Run{Offset: int64(r.Offset), Length: int64(r.Length)}); err != nil {
			return err
		}
	}
	return nil
}

// moduleDir is the folder of go.mod, above that of the test.
func moduleDir(t testing.TB) string {
	t.Helper()
	dir, err := findModule()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var findModule = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the test's folder")
		}
	}
})
