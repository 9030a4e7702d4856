// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// slowVolume is a file system of one file, which answers like a device with a
// latency: any number of requests at a time, none of them before its time.
type slowVolume struct {
	server *fuse.Server
	image  *os.File
	dir    string
}

// maxRequest is the largest read that Linux hands to FUSE in one piece.
const maxRequest = 1 << 20

// mountSlow mounts the volume in the file image on the empty folder dir. Each
// request takes the delay, or as long as the file takes, if that is longer.
func mountSlow(image, dir string, delay time.Duration) (*slowVolume, error) {
	f, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	file := &slowFile{image: f, size: uint64(info.Size()), delay: delay}
	root := &slowRoot{file: file}
	server, err := fs.Mount(dir, root, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMountStrict: true,
		FsName:            image,
		Name:              "slow",
		MaxWrite:          maxRequest, // of reads too
		DisableSplice:     true,       // pipes are too small for such an answer
	}})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &slowVolume{server: server, image: f, dir: dir}, nil
}

// path is the name of the slow file.
func (v *slowVolume) path() string { return filepath.Join(v.dir, slowName) }

// close unmounts the file system.
func (v *slowVolume) close() error { return errors.Join(v.server.Unmount(), v.image.Close()) }

const slowName = "volume"

type slowRoot struct {
	fs.Inode
	file *slowFile
}

var _ fs.NodeOnAdder = (*slowRoot)(nil)

func (r *slowRoot) OnAdd(ctx context.Context) {
	r.AddChild(slowName, r.NewPersistentInode(ctx, r.file, fs.StableAttr{Mode: fuse.S_IFREG}), false)
}

type slowFile struct {
	fs.Inode
	image *os.File
	size  uint64
	delay time.Duration
}

var (
	_ fs.NodeGetattrer = (*slowFile)(nil)
	_ fs.NodeOpener    = (*slowFile)(nil)
	_ fs.NodeReader    = (*slowFile)(nil)
)

func (f *slowFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o444, f.size
	return fs.OK
}

func (f *slowFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, fs.OK
}

func (f *slowFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	due, err := monotonic(f.delay)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	n, err := f.image.ReadAt(dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fs.ToErrno(err)
	}
	if err := sleepUntil(due); err != nil {
		return nil, fs.ToErrno(err)
	}
	return fuse.ReadResultData(dest[:n]), fs.OK
}

// monotonic returns the time that it will be after d.
func monotonic(d time.Duration) (unix.Timespec, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return unix.NsecToTimespec(now.Nano() + d.Nanoseconds()), err
}

// sleepUntil sleeps in the kernel: timers of Go that nothing else keeps awake
// are rounded up to a millisecond.
func sleepUntil(due unix.Timespec) error {
	for {
		err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &due, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
