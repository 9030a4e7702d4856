// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Device is a block device or regular file that is read. Its methods may be
// called concurrently.
type Device struct {
	f      *os.File
	size   int64
	align  int // of offset and length of an O_DIRECT read: a power of two
	block  bool
	direct bool

	reads, bytes atomic.Uint64
}

// Open opens a block device or regular file for reading, with O_DIRECT: the
// page cache of this machine does not know what other machines have written to
// a shared device. Only where the file system refuses that, the page cache is
// used; [Device.Direct] tells. The error is [ErrFileType] for any other type of
// file, none of which is opened.
func Open(path string) (*Device, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && !isBlock(info.Mode()) {
		return nil, typeError("open", path, info.Mode())
	}
	d, err := open(path, true)
	if refusesDirect(err) {
		d, err = open(path, false)
	}
	return d, err
}

// refusesDirect reports whether err is how a file system says that it has no
// O_DIRECT.
func refusesDirect(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

func open(path string, direct bool) (*Device, error) {
	flags := unix.O_RDONLY | unix.O_CLOEXEC | unix.O_LARGEFILE
	if direct {
		flags |= unix.O_DIRECT
	}
	fd, err := unix.Open(path, flags, 0)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Open(path, flags, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	// To close a file of os.OpenFile can mean to wait for the reads under way.
	f := os.NewFile(uintptr(fd), path)
	d := &Device{f: f, align: defaultAlign, direct: direct}
	if err := d.measure(); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// defaultAlign suits every device there is where nobody tells what is needed.
const defaultAlign = 4096

// measure finds out size and sector size, and whether direct reads work.
func (d *Device) measure() error {
	info, err := d.f.Stat()
	if err != nil {
		return err
	}
	d.block = isBlock(info.Mode())
	if d.size, err = d.f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if err := control(d.f, "open", d.measureSector); err != nil {
		return err
	}
	if !d.direct {
		return nil
	}
	// Some file systems take O_DIRECT and then refuse to read. Other errors
	// belong to the place that was read, and to whoever asks for it.
	tried := make(chan error, 1)
	go func() {
		b := getBounce()
		defer putBounce(b)
		_, err := d.pread((*b)[:d.align], 0)
		tried <- err
	}()
	select {
	case err := <-tried:
		if refusesDirect(err) {
			return err
		}
	case <-time.After(openTimeout):
	}
	return nil
}

// openTimeout is how long Open waits to find out whether direct reads work. A
// device that does not answer has not refused them.
const openTimeout = 5 * time.Second

func (d *Device) measureSector(fd int) error {
	if d.block {
		size, err := unix.IoctlGetUint32(fd, unix.BLKSSZGET)
		d.align = int(size)
		return err
	}
	if !d.direct {
		// Readahead doubles the work where reads are as scattered as ours.
		// This is advice: if it is not taken, nothing is lost.
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM)
		return nil
	}
	var stat unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &stat)
	if err != nil || stat.Mask&unix.STATX_DIOALIGN == 0 {
		return nil // a kernel before 6.1, or a file system that does not tell
	}
	if stat.Dio_offset_align == 0 || stat.Dio_offset_align > bounceSize {
		return unix.EOPNOTSUPP
	}
	d.align = int(stat.Dio_offset_align)
	return nil
}

// control calls a function with the descriptor of f, which stays open meanwhile.
func control(f *os.File, op string, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if conn.Control(func(fd uintptr) { err = do(int(fd)) }) != nil {
		err = fs.ErrClosed
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: err}
	}
	return nil
}

// pread reads once, again only if a signal interrupts it. At the end of the
// file it returns 0 and no error.
func (d *Device) pread(p []byte, off int64) (n int, err error) {
	err = control(d.f, "read", func(fd int) (err error) {
		for {
			n, err = unix.Pread(fd, p, off)
			if err != unix.EINTR {
				return err
			}
		}
	})
	n = max(n, 0)
	d.reads.Add(1)
	d.bytes.Add(uint64(n))
	return n, err
}

// ReadAt reads len(p) bytes from byte off on, as [io.ReaderAt] demands, of any
// alignment and length. Fastest are reads that are whole sectors into memory
// that is aligned as well, such as a buffer of a [Pool].
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: d.f.Name(), Err: unix.EINVAL}
	}
	done := 0
	for done < len(p) {
		if off >= d.size {
			return done, io.EOF
		}
		n, err := d.readSome(p[done:], off)
		done += n
		off += int64(n)
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF // it has become shorter
		}
	}
	return done, nil
}

// readSome reads at least one byte into p, unless off is the end or there is an
// error. Bytes come with an error if what follows them cannot be read.
func (d *Device) readSome(p []byte, off int64) (int, error) {
	if !d.direct {
		return d.pread(p, off)
	}
	align := int64(d.align)
	skip := int(off % align)
	if whole := len(p) - len(p)%d.align; skip == 0 && whole > 0 && d.aligned(p) {
		return d.pread(p[:whole], off)
	}
	b := getBounce()
	defer putBounce(b)
	size := len(*b)
	if want := skip + len(p); want < size {
		size = (want + d.align - 1) / d.align * d.align
	}
	n, err := d.pread((*b)[:size], off-int64(skip))
	if n <= skip {
		return 0, err
	}
	return copy(p, (*b)[skip:n]), err
}

// aligned reports whether the memory of p is aligned as O_DIRECT needs it.
func (d *Device) aligned(p []byte) bool {
	return reflect.ValueOf(p).Pointer()%uintptr(min(d.align, pageSize)) == 0
}

// Size returns the size in bytes, as it was when the device was opened.
func (d *Device) Size() int64 { return d.size }

// SectorSize returns the size of a logical sector in bytes: the unit that
// O_DIRECT reads in. Of a file it is what its file system demands, 4096 if that
// does not tell.
func (d *Device) SectorSize() int { return d.align }

// Direct reports whether reads go past the page cache.
func (d *Device) Direct() bool { return d.direct }

// Reads returns how many requests have been made so far, those that failed
// included, and how many bytes they have read.
func (d *Device) Reads() (requests, bytes uint64) { return d.reads.Load(), d.bytes.Load() }

// IsBlock reports whether this is a block device.
func (d *Device) IsBlock() bool { return d.block }

// Name returns the name that was given to [Open].
func (d *Device) Name() string { return d.f.Name() }

// ID returns what [SameFile] compares.
func (d *Device) ID() (FileID, error) { return identify(d.f) }

// NextData returns the first range at or behind byte off that is not a hole. In
// block devices, and where the file system does not tell, nothing is a hole.
// The error is [io.EOF] if no data follows.
func (d *Device) NextData(off int64) (start, end int64, err error) {
	if off >= d.size {
		return 0, 0, io.EOF
	}
	if d.block {
		return off, d.size, nil
	}
	// The position that Seek moves is used by nobody.
	start, err = d.f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, 0, io.EOF
	case refusesDirect(err): // the same two errors
		return off, d.size, nil
	case err != nil:
		return 0, 0, err
	}
	end, err = d.f.Seek(start, unix.SEEK_HOLE)
	if errors.Is(err, unix.ENXIO) || start >= d.size { // changed meanwhile
		return 0, 0, io.EOF
	}
	return start, min(end, d.size), err
}

// Close closes the device.
func (d *Device) Close() error { return d.f.Close() }

var pageSize = os.Getpagesize()

// bounceSize is the size in bytes of the buffers through which reads go that
// O_DIRECT cannot do.
const bounceSize = 256 << 10

var bounces = sync.Pool{New: func() any {
	b := alignedBytes(bounceSize)
	return &b
}}

func getBounce() *[]byte  { return bounces.Get().(*[]byte) }
func putBounce(b *[]byte) { bounces.Put(b) }

// alignedBytes returns n bytes that begin at a page.
func alignedBytes(n int) []byte {
	b := make([]byte, n+pageSize)
	skip := 0
	if over := int(reflect.ValueOf(b).Pointer() % uintptr(pageSize)); over > 0 {
		skip = pageSize - over
	}
	return b[skip:][:n:n]
}
