// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// File is a regular file that is written, and that appears under its name whole
// or not at all: until Commit it has another name in the same directory. Where
// that cannot be it is written in place. WriteAt may be called concurrently.
type File struct {
	f     *os.File
	name  string // as given
	final string // behind all links
	temp  string // "" in place
	id    FileID
	begin func() error // before the first change
	fresh bool         // nothing must have the name
	done  bool

	direct   atomic.Bool // writes go past the page cache
	reserves atomic.Bool // room for such a write is reserved first
}

// CreateFile creates a regular file, or opens an existing one to be replaced,
// following symbolic links, also those to a file that does not exist. A new
// file has mode 0600, less the umask; an existing one keeps its mode, owner and
// extended attributes, and its contents until Commit.
//
// An existing file is written in place if it has more than one link, if it is
// mounted or named by a descriptor (/dev/fd/N), if its directory or the rights of
// the user do not allow another file to take its place, or if size bytes of data
// have room in its stead and not beside it. Then its contents are gone with the
// first WriteAt or Truncate. The error is [ErrFileType] for any other type of
// file.
func CreateFile(path string, size uint64) (*File, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return createNew(path)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, typeError("create", path, info.Mode())
	}
	// Whoever may not write the file may not replace it either.
	old, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	if info, err = old.Stat(); err != nil {
		old.Close()
		return nil, err
	}
	if f := replace(path, old, info, size); f != nil {
		old.Close()
		return f, nil
	}
	f := &File{f: old, name: path, final: path, id: idOf(info)}
	f.begin = sync.OnceValue(func() error { return f.renamed(old.Truncate(0)) })
	return f, nil
}

// tempLength is how many bytes, of the 255 that a name can have, a temporary
// file has besides the name that it is to get.
const tempLength = 40

// createTemp creates the file that is to become final. Its name says what it is
// to whoever finds it where the program was killed.
func createTemp(final string) (*os.File, error) {
	dir, base := filepath.Split(final)
	if len(base) > unix.NAME_MAX-tempLength {
		base = ""
	}
	return os.CreateTemp(dir, "."+base+".o2image-unfinished-*")
}

// CreateNew creates a regular file, as [CreateFile] does, of which the name must
// not exist, now nor when it gets its name: the error is [fs.ErrExist] then.
// Under /dev, where it would be gone with the next start, it is not created.
func CreateNew(path string) (*File, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: unix.EEXIST}
	}
	f, err := createNew(path)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(f.final, "/dev/") {
		f.Abort()
		return nil, &fs.PathError{Op: "create", Path: path, Err: unix.EPERM}
	}
	f.fresh = true
	return f, nil
}

func createNew(path string) (*File, error) {
	final, err := resolve(path)
	if err != nil {
		return nil, err
	}
	f, err := createTemp(final)
	if err != nil {
		return nil, renamed(err, path)
	}
	return &File{f: f, name: path, final: final, temp: f.Name()}, nil
}

// replace returns a file that will replace the open file old, or nil if none can.
func replace(path string, old *os.File, info os.FileInfo, size uint64) *File {
	final, err := resolve(path)
	if err != nil || !replaceable(final, info) {
		return nil
	}
	// Where there is no room for two there may be for one. If there is not, the
	// old one should not be lost for nothing.
	own := uint64(info.Sys().(*syscall.Stat_t).Blocks) * 512
	if free, err := FreeSpace(filepath.Dir(final)); err == nil && free < size && size-free <= own {
		return nil
	}
	// In a directory such as /tmp nobody replaces a file of another owner; but
	// then neither can the temporary get that owner.
	temp, err := createTemp(final)
	if err != nil {
		return nil
	}
	if err := copyAttributes(temp, old, info); err != nil {
		temp.Close()
		os.Remove(temp.Name())
		return nil
	}
	return &File{f: temp, name: path, final: final, temp: temp.Name(), id: idOf(info)}
}

// replaceable reports whether the file with that name can be replaced by one of
// the same name without anybody losing it, as far as can be known before.
func replaceable(name string, info os.FileInfo) bool {
	stat := info.Sys().(*syscall.Stat_t)
	if stat.Nlink > 1 {
		return false
	}
	if again, err := os.Lstat(name); err != nil || !os.SameFile(again, info) {
		return false
	}
	mounted, err := mountinfo.Mounted(name)
	return err != nil || !mounted
}

// copyAttributes gives owner, mode and extended attributes of old to temp.
func copyAttributes(temp, old *os.File, info os.FileInfo) error {
	stat := info.Sys().(*syscall.Stat_t)
	// Changing the owner takes away set-user-ID bits, which the mode then sets.
	if err := temp.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if err := temp.Chmod(info.Mode()); err != nil {
		return err
	}
	keep, err := xattrs(old)
	if err != nil {
		return err
	}
	have, err := xattrs(temp)
	if err != nil {
		return err
	}
	for name := range have {
		if _, ok := keep[name]; !ok {
			// Inherited from the directory: a default ACL.
			if err := unix.Fremovexattr(int(temp.Fd()), name); err != nil {
				return err
			}
		}
	}
	for name, value := range keep {
		if other, ok := have[name]; ok && bytes.Equal(value, other) {
			continue
		}
		if err := unix.Fsetxattr(int(temp.Fd()), name, value, 0); err != nil {
			return err
		}
	}
	return nil
}

// xattrs returns the extended attributes of a file.
func xattrs(f *os.File) (map[string][]byte, error) {
	list, err := grow(func(b []byte) (int, error) { return unix.Flistxattr(int(f.Fd()), b) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	values := make(map[string][]byte)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value, err := grow(func(b []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), name, b) })
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, nil
}

// grow calls a function that fills a buffer with a larger one until it fits.
func grow(fill func([]byte) (int, error)) ([]byte, error) {
	// No list or value is longer (XATTR_LIST_MAX, XATTR_SIZE_MAX).
	for size := 1 << 10; ; size *= 8 {
		b := make([]byte, size)
		n, err := fill(b)
		if err == nil {
			return slices.Clone(b[:n]), nil
		}
		if !errors.Is(err, unix.ERANGE) || size > 64<<10 {
			return nil, err
		}
	}
}

// change is called before each change of the contents.
func (f *File) change() error {
	if f.begin == nil {
		return nil
	}
	return f.begin()
}

func (f *File) renamed(err error) error {
	if err == nil {
		return nil
	}
	return renamed(err, f.name)
}

// WriteAt writes all of p, or returns an error.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if err := f.change(); err != nil {
		return 0, err
	}
	if f.direct.Load() {
		if n, err := f.writeDirect(p, off); !refusesDirect(err) {
			return n, f.renamed(err)
		}
		if err := f.SetDirect(false); err != nil {
			return 0, err
		}
	}
	n, err := f.f.WriteAt(p, off)
	return n, f.renamed(err)
}

// SetDirect says whether writes go past the page cache, where the file system
// can do that: they take a fraction of the processor's time, leave the cache to
// others, and nothing for Sync to wait for. Until it is taken back, offset,
// length and memory of each write are multiples of 4096 bytes; where a write is
// refused all the same it and all others go by way of the cache. The caller must
// not call it at the same time as WriteAt. WriteAt itself takes it back while
// others write: they all clear the same flag, and a write either has begun, and ends
// past the cache, or finds the flag cleared, and what may be written past the cache
// may be written through it.
func (f *File) SetDirect(direct bool) error {
	if err := f.change(); err != nil || direct == f.direct.Load() {
		return err
	}
	err := control(f.f, "fcntl", func(fd int) error {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return err
		}
		if direct {
			flags |= unix.O_DIRECT
		} else {
			flags &^= unix.O_DIRECT
		}
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
		return err
	})
	if direct && refusesDirect(err) {
		return nil
	}
	if err != nil {
		return f.renamed(err)
	}
	f.direct.Store(direct)
	f.reserves.Store(direct)
	return nil
}

// writeDirect writes p past the page cache. Room for it is reserved before: some
// file systems write to room that a file has many pieces at once, and else one
// after the other.
func (f *File) writeDirect(p []byte, off int64) (int, error) {
	if f.reserves.Load() {
		err := control(f.f, "fallocate", func(fd int) error {
			for {
				if err := unix.Fallocate(fd, 0, off, int64(len(p))); err != unix.EINTR {
					return err
				}
			}
		})
		switch {
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
			f.reserves.Store(false)
		case err != nil:
			return 0, err
		}
	}
	return f.f.WriteAt(p, off)
}

// Truncate makes the file size bytes long. What it did not have before is a hole.
func (f *File) Truncate(size int64) error {
	if err := f.change(); err != nil {
		return err
	}
	return f.renamed(f.f.Truncate(size))
}

// Size returns the present length in bytes, which in place is that of the old
// contents before the first change.
func (f *File) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, f.renamed(err)
	}
	return info.Size(), nil
}

// Sync returns when all that was written is on stable storage.
func (f *File) Sync() error { return f.renamed(f.f.Sync()) }

// Name returns the name that was given to [CreateFile].
func (f *File) Name() string { return f.name }

// ID returns what [SameFile] compares: the identity of the file that is to be
// replaced, the zero value if there is none.
func (f *File) ID() FileID { return f.id }

// InPlace reports whether the file is written under its own name, so that
// Abort leaves it as it is then.
func (f *File) InPlace() bool { return f.temp == "" }

// Commit puts what was written on stable storage and gives it its name. If it
// returns an error, nothing is left behind, unless the file was written in
// place, or only the name may not be on stable storage yet.
func (f *File) Commit() error {
	if f.done {
		return f.renamed(&fs.PathError{Op: "commit", Err: fs.ErrClosed})
	}
	defer f.Abort()
	if err := f.change(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.f.Close(); err != nil {
		return f.renamed(err)
	}
	if f.InPlace() {
		f.done = true
		return nil
	}
	if err := f.giveName(); err != nil {
		return f.renamed(err)
	}
	f.done = true
	return f.renamed(syncDir(filepath.Dir(f.final)))
}

// giveName renames the temporary file.
func (f *File) giveName() error {
	if !f.fresh {
		return os.Rename(f.temp, f.final)
	}
	err := unix.Renameat2(unix.AT_FDCWD, f.temp, unix.AT_FDCWD, f.final, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // the file system has no such thing
		if err = os.Link(f.temp, f.final); err == nil {
			err = os.Remove(f.temp)
		}
	}
	return err
}

// Abort gives up, and removes what was written unless it was written in place.
// After Commit it does nothing.
func (f *File) Abort() {
	if f.done {
		return
	}
	f.done = true
	// Nobody wants the contents: what Close says does not matter.
	f.f.Close()
	if !f.InPlace() {
		os.Remove(f.temp)
	}
}

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); !errors.Is(err, unix.EINVAL) { // has no such thing
		return err
	}
	return nil
}

// FreeSpace returns how many bytes the user can still write to the file system
// of a directory.
func FreeSpace(dir string) (uint64, error) {
	var stat unix.Statfs_t
	for {
		err := unix.Statfs(dir, &stat)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
		}
	}
	unit := uint64(stat.Frsize)
	if unit == 0 {
		unit = uint64(stat.Bsize)
	}
	high, low := bits.Mul64(stat.Bavail, unit)
	if high > 0 {
		return math.MaxUint64, nil
	}
	return low, nil
}
