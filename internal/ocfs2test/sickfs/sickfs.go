// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// The FUSE library does not compile for 386.

//go:build !386

// Package sickfs shows a volume as a file on a disk that fails: a file system of
// one file, by way of FUSE. It needs root.
package sickfs

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Read is a request for bytes of the volume.
type Read struct {
	N   int // which of all requests, from 1 on
	Off int64
	Len int
}

// Touches reports whether the request is for any of the n bytes from off on.
func (r Read) Touches(off, n int64) bool { return r.Off < off+n && off < r.Off+int64(r.Len) }

// Answer decides what becomes of a request: 0 is what is in the file, [Hang] no
// answer, and anything else an error. It is called concurrently.
type Answer func(r Read) syscall.Errno

// Hang lets a request wait until the volume is taken away, or until the kernel
// interrupts it because the program ends.
const Hang = syscall.EINPROGRESS

// Volume is a volume on such a disk.
type Volume struct {
	Path string

	answer  Answer
	image   *os.File
	size    uint64
	removed chan struct{}

	mu    sync.Mutex
	reads []Read
}

const (
	fileName = "volume"
	// maxRead is the largest read that Linux hands to FUSE in one piece.
	maxRead = 1 << 20
)

// Mount shows the volume in the file image for the time of a test.
func Mount(t testing.TB, image string, answer Answer) *Volume {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	v := &Volume{Path: filepath.Join(dir, fileName), answer: answer, image: f, size: uint64(info.Size()), removed: make(chan struct{})}
	server, err := fs.Mount(dir, &root{file: &file{v: v}}, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMountStrict: true,
		// Not the name of the volume: the C tools would take that for mounted, and
		// wait for a mount that does not answer.
		FsName:        "sickfs",
		Name:          "sick",
		MaxWrite:      maxRead, // of reads too
		DisableSplice: true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(v.removed)
		if err := unmount(server); err != nil {
			t.Error(err)
		}
	})
	return v
}

// unmount takes the file system away. A program that was killed holds it until
// its last read has ended.
func unmount(server *fuse.Server) (err error) {
	for range 100 {
		if err = server.Unmount(); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// Reads returns all requests so far.
func (v *Volume) Reads() []Read {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]Read(nil), v.reads...)
}

// Forget starts the count of requests anew.
func (v *Volume) Forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reads = nil
}

func (v *Volume) note(off int64, n int) Read {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := Read{N: len(v.reads) + 1, Off: off, Len: n}
	v.reads = append(v.reads, r)
	return r
}

type root struct {
	fs.Inode
	file *file
}

var _ fs.NodeOnAdder = (*root)(nil)

func (r *root) OnAdd(ctx context.Context) {
	r.AddChild(fileName, r.NewPersistentInode(ctx, r.file, fs.StableAttr{Mode: fuse.S_IFREG}), false)
}

type file struct {
	fs.Inode
	v *Volume
}

var (
	_ fs.NodeGetattrer = (*file)(nil)
	_ fs.NodeOpener    = (*file)(nil)
	_ fs.NodeReader    = (*file)(nil)
)

func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o444, f.v.size
	return fs.OK
}

func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, fs.OK
}

func (f *file) Read(ctx context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	switch errno := f.v.answer(f.v.note(off, len(dest))); errno {
	case 0:
	case Hang:
		select {
		case <-ctx.Done():
			// A disk would not answer a signal, and the runtime of Go sends itself
			// some: this has the program read again.
			return nil, syscall.EINTR
		case <-f.v.removed:
			return nil, syscall.EIO
		}
	default:
		return nil, errno
	}
	n, err := f.v.image.ReadAt(dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fs.ToErrno(err)
	}
	return fuse.ReadResultData(dest[:n]), fs.OK
}
