// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Stream writes in sequence to a file that somebody else has opened: standard
// output, a pipe, a device.
type Stream struct {
	f        *os.File
	conn     syscall.RawConn
	regular  bool
	append   bool
	seekable bool
	skipped  bool // what was written last is a hole
}

// pipeSize is how much a pipe holds, in bytes: what everybody may set.
const pipeSize = 1 << 20

// NewStream returns a stream to f, from its present offset on. The caller closes f.
func NewStream(f *os.File) (*Stream, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Stream{f: f, conn: conn, regular: info.Mode().IsRegular()}
	var flags int
	if cerr := conn.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0) }); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	s.append = flags&unix.O_APPEND != 0
	if info.Mode()&fs.ModeNamedPipe != 0 {
		// Fewer, longer turns of writer and reader. If it cannot be, nothing is lost.
		_ = control(f, "fcntl", func(fd int) error {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
			return err
		})
	}
	if s.regular || isBlock(info.Mode()) {
		_, err := f.Seek(0, io.SeekCurrent)
		s.seekable = err == nil
	}
	return s, nil
}

// Write writes all of p, or returns an error. On a descriptor that does not
// block it waits until the reader has made room.
func (s *Stream) Write(p []byte) (int, error) {
	if len(p) > 0 {
		s.skipped = false
	}
	done := 0
	for {
		n, err := s.f.Write(p[done:])
		done += n
		if !errors.Is(err, unix.EAGAIN) {
			return done, err
		}
		if err := s.wait(); err != nil {
			return done, err
		}
	}
}

// zeros is what [Stream.Skip] writes where there can be no hole.
var zeros [1 << 20]byte

// Skip writes n zero bytes. At the end of a regular file, unless it is open for
// appending, they are a hole; if that would end where no file may, nothing has changed
// and the error is EFBIG.
func (s *Stream) Skip(n int64) error {
	if s.Sparse() {
		pos, err := s.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		info, err := s.f.Stat()
		if err != nil {
			return err
		}
		if pos >= info.Size() {
			_, err := s.f.Seek(n, io.SeekCurrent)
			if errors.Is(err, unix.EINVAL) {
				// What a write would say behind the largest offset of the file system.
				return &fs.PathError{Op: "seek", Path: s.f.Name(), Err: unix.EFBIG}
			}
			s.skipped = s.skipped || err == nil && n > 0
			return err
		}
	}
	for n > 0 {
		done, err := s.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(done)
	}
	return nil
}

// Flush gives the file its length if what was written last is a hole, and puts
// what was written on stable storage, which a pipe does not have.
func (s *Stream) Flush() error {
	if s.skipped {
		pos, err := s.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if err := s.f.Truncate(pos); err != nil {
			return err
		}
	}
	if !s.seekable {
		return nil
	}
	return s.f.Sync()
}

// wait returns when a write would not find the pipe full.
func (s *Stream) wait() error {
	var err error
	cerr := s.conn.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		for {
			if _, err = unix.Poll(fds, -1); err != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(cerr, os.NewSyscallError("poll", err))
}

// Sparse reports whether zeros can be holes: in a regular file that is not open
// for appending.
func (s *Stream) Sparse() bool { return s.regular && s.seekable && !s.append }

// Append reports whether everything is written to the end of the file, whatever
// the offset (O_APPEND).
func (s *Stream) Append() bool { return s.append }

// Seekable reports whether this is a regular file or block device, which has
// an offset.
func (s *Stream) Seekable() bool { return s.seekable }

// Name returns the name of the file.
func (s *Stream) Name() string { return s.f.Name() }

// ID returns what [SameFile] compares.
func (s *Stream) ID() (FileID, error) { return identify(s.f) }
