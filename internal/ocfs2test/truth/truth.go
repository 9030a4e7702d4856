// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package truth holds what the kernel said about a test volume while it was
// mounted: the files beside each volume of the corpus, as Go values.
//
// The program that walks a mounted volume (corpus/guest) writes these files,
// package ocfs2test reads them.
package truth

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Entry is one path of a mounted volume: a line of a .manifest file.
type Entry struct {
	Path   string  `json:"path"` // absolute within the volume, see Escape
	Type   string  `json:"type"` // file dir symlink fifo socket char block
	Ino    uint64  `json:"ino"`  // inode number: the block number of the inode
	Mode   string  `json:"mode"` // st_mode, six octal digits
	Nlink  uint64  `json:"nlink"`
	UID    uint32  `json:"uid"`
	GID    uint32  `json:"gid"`
	Size   int64   `json:"size"`             // bytes
	Mtime  int64   `json:"mtime"`            // seconds since 1970
	Rdev   uint64  `json:"rdev,omitempty"`   // st_rdev of device nodes
	Target string  `json:"target,omitempty"` // of a symlink, see Escape
	Xattrs []Xattr `json:"xattrs,omitempty"` // sorted by name
	SHA256 string  `json:"sha256,omitempty"` // of a file's contents, files below MaxHashed only
	Inline bool    `json:"inline,omitempty"` // the contents lie within the inode
}

// MaxHashed is the size in bytes from which on a file's contents have no
// SHA256 in its Entry.
const MaxHashed = 256 << 20

// Xattr is one extended attribute of an Entry.
type Xattr struct {
	Name   string `json:"name"` // with its prefix, see Escape
	Len    int    `json:"len"`  // of the value, bytes
	SHA256 string `json:"sha256"`
}

// Flags of an Extent, as FIEMAP has them (include/uapi/linux/fiemap.h).
const (
	ExtentInline    = 0x200
	ExtentUnwritten = 0x800
	ExtentShared    = 0x2000
)

// Extent is a run of clusters of a regular file, as FIEMAP tells it: a line of
// an .extents file. Files whose contents lie within their inode have none.
type Extent struct {
	Path     string // see Escape
	Logical  uint64 // offset in the file, bytes
	Physical uint64 // offset in the volume, bytes
	Length   uint64 // bytes
	Flags    uint32
}

// Secret is a marker string that was written somewhere in the volume: a line of
// a .secrets file.
type Secret struct {
	Class  string // data, inline, xattr-inside, ... (corpus/README.md lists them)
	Marker string
	Path   string // path, or path#attribute; see Escape
}

// Escape makes a path, a symlink target or the name of an attribute printable:
// bytes outside 0x21..0x7e, and the percent sign, become %XX.
func Escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// WriteManifest writes entries in the form that ReadManifest reads.
func WriteManifest(w io.Writer, entries []Entry) error {
	enc := json.NewEncoder(w)
	for i := range entries {
		if err := enc.Encode(&entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// ReadManifest reads a .manifest file: one JSON object a line.
func ReadManifest(r io.Reader) ([]Entry, error) {
	var list []Entry
	for dec := json.NewDecoder(r); ; {
		var e Entry
		if err := dec.Decode(&e); err == io.EOF {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("manifest, entry %d: %w", len(list), err)
		}
		list = append(list, e)
	}
}

// WriteExtents writes extents in the form that ReadExtents reads.
func WriteExtents(w io.Writer, extents []Extent) error {
	for _, x := range extents {
		if _, err := fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%#x\n", x.Path, x.Logical, x.Physical, x.Length, x.Flags); err != nil {
			return err
		}
	}
	return nil
}

// ReadExtents reads an .extents file: path, logical, physical, length and flags
// separated by tabs.
func ReadExtents(r io.Reader) ([]Extent, error) {
	var list []Extent
	err := fields(r, 5, func(f []string) error {
		x := Extent{Path: f[0]}
		for i, p := range []*uint64{&x.Logical, &x.Physical, &x.Length} {
			n, err := strconv.ParseUint(f[1+i], 10, 64)
			if err != nil {
				return err
			}
			*p = n
		}
		flags, err := strconv.ParseUint(f[4], 0, 32)
		x.Flags = uint32(flags)
		list = append(list, x)
		return err
	})
	return list, err
}

// ReadSecrets reads a .secrets file: class, marker and path separated by tabs.
func ReadSecrets(r io.Reader) ([]Secret, error) {
	var list []Secret
	err := fields(r, 3, func(f []string) error {
		list = append(list, Secret{f[0], f[1], f[2]})
		return nil
	})
	return list, err
}

// fields calls fn with the n tab-separated fields of every line.
func fields(r io.Reader, n int, fn func([]string) error) error {
	s := bufio.NewScanner(r)
	for line := 1; s.Scan(); line++ {
		f := strings.Split(s.Text(), "\t")
		if len(f) != n {
			return fmt.Errorf("line %d: %d fields, want %d", line, len(f), n)
		}
		if err := fn(f); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	return s.Err()
}
