// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"o2image/internal/ocfs2test/rawsys"
	"o2image/internal/ocfs2test/truth"
)

// types are the names of inode types in a manifest.
var types = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
	unix.S_IFSOCK: "socket", unix.S_IFCHR: "char", unix.S_IFBLK: "block",
}

// walk writes PREFIX.manifest and PREFIX.extents of what is below root. Both
// stay in memory until the walk is over: the files lie on another file system,
// but the memory of the machine does not.
func walk(root, prefix string) error {
	var entries []truth.Entry
	var extents []truth.Extent
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e, x, err := look(path, "/"+strings.TrimPrefix(strings.TrimPrefix(path, root), "/"))
		entries = append(entries, e)
		extents = append(extents, x...)
		return err
	})
	if err != nil {
		return err
	}
	var m, x bytes.Buffer
	return errors.Join(
		truth.WriteManifest(&m, entries), os.WriteFile(prefix+".manifest", m.Bytes(), 0o644),
		truth.WriteExtents(&x, extents), os.WriteFile(prefix+".extents", x.Bytes(), 0o644))
}

// look describes the file at path, which is called name on the volume.
func look(path, name string) (truth.Entry, []truth.Extent, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return truth.Entry{}, nil, err
	}
	st := fi.Sys().(*syscall.Stat_t)
	e := truth.Entry{
		Path: truth.Escape(name), Type: types[st.Mode&unix.S_IFMT], Ino: st.Ino, Mode: fmt.Sprintf("%06o", st.Mode),
		Nlink: uint64(st.Nlink), UID: st.Uid, GID: st.Gid, Size: st.Size, Mtime: fi.ModTime().Unix(),
	}
	if e.Xattrs, err = xattrs(path); err != nil {
		return e, nil, fmt.Errorf("attributes of %s: %w", path, err)
	}
	switch e.Type {
	case "char", "block":
		e.Rdev = uint64(st.Rdev)
	case "symlink":
		target, err := os.Readlink(path)
		e.Target = truth.Escape(target)
		return e, nil, err
	case "file":
		if st.Size < truth.MaxHashed {
			if e.SHA256, err = hashFile(path); err != nil {
				return e, nil, err
			}
		}
		list, err := fiemap(path)
		if err != nil {
			return e, nil, fmt.Errorf("extents of %s: %w", path, err)
		}
		var extents []truth.Extent
		for _, x := range list {
			if x.Flags&truth.ExtentInline != 0 {
				e.Inline = true
				continue
			}
			extents = append(extents, truth.Extent{Path: e.Path, Logical: x.Logical, Physical: x.Physical, Length: x.Length, Flags: x.Flags})
		}
		return e, extents, nil
	}
	return e, nil, nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// xattrs lists the attributes of a file, or of the symlink itself. One that
// cannot be read counts as empty.
func xattrs(path string) ([]truth.Xattr, error) {
	buf := make([]byte, 1<<16) // XATTR_LIST_MAX and XATTR_SIZE_MAX
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var list []truth.Xattr
	for _, name := range names {
		n, err := unix.Lgetxattr(path, name, buf)
		if err != nil {
			n = 0
		}
		sum := sha256.Sum256(buf[:n])
		list = append(list, truth.Xattr{Name: truth.Escape(name), Len: n, SHA256: hex.EncodeToString(sum[:])})
	}
	return list, nil
}

func fiemap(path string) ([]rawsys.FileExtent, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return rawsys.Fiemap(f.Fd())
}

// isInline reports whether a file's contents lie within its inode.
func isInline(path string) bool {
	x, err := fiemap(path)
	return err == nil && len(x) > 0 && x[0].Flags&truth.ExtentInline != 0
}
