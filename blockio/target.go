// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Target is a block device or regular file that a volume is written to. ReadAt
// and WriteAt may be called concurrently.
type Target struct {
	f     *os.File
	size  int64
	block bool
	fresh bool // made by us: zero where nothing was written
}

// TargetOptions says how [OpenTarget] opens. The zero value is the careful way.
type TargetOptions struct {
	// Size is the length in bytes of a file that has to be created.
	Size int64
	// Shared opens a block device even if something holds it for itself, as a
	// mount does.
	Shared bool
}

// OpenTarget opens a block device or regular file for writing. A device is
// opened for exclusive use: the error is [unix.EBUSY] if it is mounted or part
// of another device. A file keeps its contents. One that is missing is created
// with mode 0600 as one hole, but never under /dev, where a missing name is a
// mistyped one. The error is [ErrFileType] for any other type of file.
func OpenTarget(path string, opts TargetOptions) (*Target, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createTarget(path, opts.Size)
	}
	if err != nil {
		return nil, err
	}
	flags := os.O_RDWR
	switch {
	case info.Mode().IsRegular():
	case !isBlock(info.Mode()):
		return nil, typeError("open", path, info.Mode())
	case !opts.Shared:
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	t := &Target{f: f, block: isBlock(info.Mode())}
	if t.size, err = f.Seek(0, io.SeekEnd); err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

func createTarget(path string, size int64) (*Target, error) {
	final, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(final, "/dev/") {
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	f, err := os.OpenFile(final, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, renamed(err, path)
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		os.Remove(final)
		return nil, renamed(err, path)
	}
	return &Target{f: f, size: size, fresh: true}, nil
}

// maxLinks is how many symbolic links in a row the kernel follows
// (MAXSYMLINKS of linux/namei.h).
const maxLinks = 40

// errDescriptor says that a path leads to an open file, whatever its name.
var errDescriptor = errors.New("is an open file")

// resolve returns the absolute name that path leads to through symbolic links.
// The file need not exist, its directory must. The links that /dev/fd/N leads
// to only look like names.
func resolve(path string) (string, error) {
	name, err := absolute(path)
	if err != nil {
		return "", err
	}
	for range maxLinks {
		info, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", renamed(err, path)
		}
		if info.Mode().Type() != fs.ModeSymlink {
			return name, nil
		}
		if onProc(filepath.Dir(name)) {
			return "", &fs.PathError{Op: "open", Path: path, Err: errDescriptor}
		}
		link, err := os.Readlink(name)
		if err != nil {
			return "", renamed(err, path)
		}
		if !filepath.IsAbs(link) {
			// Join would take "link/.." for nothing.
			link = filepath.Dir(name) + "/" + link
		}
		if name, err = absolute(link); err != nil {
			return "", renamed(err, path)
		}
	}
	return "", &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
}

// SameName reports whether two paths lead to the same name, whether or not there
// is a file of that name.
func SameName(a, b string) bool {
	first, err := resolve(a)
	if err != nil {
		return false
	}
	second, err := resolve(b)
	return err == nil && first == second
}

// onProc reports whether a directory belongs to procfs.
func onProc(dir string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(dir, &stat) == nil && int64(stat.Type) == unix.PROC_SUPER_MAGIC
}

// absolute resolves all links but the last part of a path.
func absolute(path string) (string, error) {
	dir, base := filepath.Split(path)
	if base == "" {
		return "", &fs.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	if dir == "" {
		dir = "."
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", renamed(err, path)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", renamed(err, path)
	}
	return filepath.Join(dir, base), nil
}

// renamed returns an error of a file operation under the name that the user
// knows.
func renamed(err error, name string) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return &fs.PathError{Op: path.Op, Path: name, Err: path.Err}
	}
	if link := (*os.LinkError)(nil); errors.As(err, &link) {
		return &fs.PathError{Op: link.Op, Path: name, Err: link.Err}
	}
	return &fs.PathError{Op: "open", Path: name, Err: err}
}

// ReadAt reads through the page cache of this machine: to see what another
// machine writes, use [Open].
func (t *Target) ReadAt(p []byte, off int64) (int, error) { return t.f.ReadAt(p, off) }

// WriteAt writes all of p, or returns an error.
func (t *Target) WriteAt(p []byte, off int64) (int, error) { return t.f.WriteAt(p, off) }

// WriteZeros makes n bytes from off on zero, which nothing was written to before,
// without writing them where the device or the file system knows a faster way.
// A file that OpenTarget created keeps its hole there.
func (t *Target) WriteZeros(off, n int64) error {
	if n <= 0 || t.fresh {
		return nil
	}
	if unix.Fallocate(int(t.f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n) == nil {
		return nil
	}
	for n > 0 {
		part := zeros[:min(n, int64(len(zeros)))]
		if _, err := t.WriteAt(part, off); err != nil {
			return err
		}
		off, n = off+int64(len(part)), n-int64(len(part))
	}
	return nil
}

// Size returns the size in bytes, as it was when the target was opened or
// extended last.
func (t *Target) Size() int64 { return t.size }

// Extend makes a file size bytes long if it is shorter. A block device that is
// shorter has no space left.
func (t *Target) Extend(size int64) error {
	if size <= t.size {
		return nil
	}
	if t.block {
		return &fs.PathError{Op: "truncate", Path: t.f.Name(), Err: unix.ENOSPC}
	}
	if err := t.f.Truncate(size); err != nil {
		return err
	}
	t.size = size
	return nil
}

// Truncate makes a file size bytes long if it is longer. A block device keeps its
// length.
func (t *Target) Truncate(size int64) error {
	if t.block || size >= t.size {
		return nil
	}
	if err := t.f.Truncate(size); err != nil {
		return err
	}
	t.size = size
	return nil
}

// Discard closes the target, and removes it if OpenTarget has created it.
func (t *Target) Discard() error {
	if !t.fresh {
		return t.Close()
	}
	return errors.Join(os.Remove(t.f.Name()), t.Close())
}

// Sync returns when all that was written is on stable storage.
func (t *Target) Sync() error { return t.f.Sync() }

// Close closes the target. It does not sync.
func (t *Target) Close() error { return t.f.Close() }

// IsBlock reports whether this is a block device.
func (t *Target) IsBlock() bool { return t.block }

// Name returns the name of the target.
func (t *Target) Name() string { return t.f.Name() }

// ID returns what [SameFile] compares.
func (t *Target) ID() (FileID, error) { return identify(t.f) }

// Held reports whether something holds a block device for itself, as a mount or
// a volume manager does, so that [OpenTarget] would not open it.
func Held(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, f.Close()
}
