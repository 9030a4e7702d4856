// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package rawsys has the Linux calls of the test tools for which there is no
// form without unsafe in golang.org/x/sys/unix.
package rawsys

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	fsIocFiemap       = 0xc020660b // FS_IOC_FIEMAP, struct fiemap
	ocfs2IocReflink   = 0x40186f04 // OCFS2_IOC_REFLINK, struct reflink_arguments
	ptraceGetRegSet   = 0x4204     // PTRACE_GETREGSET
	fiemapHeader      = 32         // sizeof(struct fiemap)
	fiemapExtent      = 56         // sizeof(struct fiemap_extent)
	fiemapExtents     = 512        // extents asked for at once
	fiemapExtentLast  = 0x1        // FIEMAP_EXTENT_LAST
	seccompDataNr     = 0          // offset of nr in struct seccomp_data
	seccompDataArg0   = 16         // offset of args[0], low half on little-endian machines
	fiemapWholeLength = 1<<63 - 1
)

func ioctl(fd, request uintptr, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg)); e != 0 {
		return e
	}
	return nil
}

// FileExtent is a struct fiemap_extent; offsets and length are bytes.
type FileExtent struct {
	Logical, Physical, Length uint64
	Flags                     uint32 // FIEMAP_EXTENT_*
}

// Fiemap returns all extents of a file.
func Fiemap(fd uintptr) ([]FileExtent, error) {
	ne := binary.NativeEndian
	var list []FileExtent
	for start := uint64(0); ; {
		buf := make([]byte, fiemapHeader+fiemapExtents*fiemapExtent)
		ne.PutUint64(buf, start)                       // fm_start
		ne.PutUint64(buf[8:], fiemapWholeLength-start) // fm_length
		ne.PutUint32(buf[24:], fiemapExtents)          // fm_extent_count
		if err := ioctl(fd, fsIocFiemap, unsafe.Pointer(&buf[0])); err != nil {
			return nil, err
		}
		mapped := ne.Uint32(buf[20:]) // fm_mapped_extents
		if mapped == 0 {
			return list, nil
		}
		for i := range mapped {
			b := buf[fiemapHeader+i*fiemapExtent:]
			x := FileExtent{ne.Uint64(b), ne.Uint64(b[8:]), ne.Uint64(b[16:]), ne.Uint32(b[40:])}
			list = append(list, x)
			start = x.Logical + x.Length
			if x.Flags&fiemapExtentLast != 0 {
				return list, nil
			}
		}
	}
}

// Reflink makes the new file to share the clusters of the file from, with its
// attributes; dir is a folder of the same OCFS2 volume.
func Reflink(dir uintptr, from, to string) error {
	old, err := unix.BytePtrFromString(from)
	if err != nil {
		return err
	}
	dst, err := unix.BytePtrFromString(to)
	if err != nil {
		return err
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(old)
	pin.Pin(dst)
	args := [3]uint64{uint64(uintptr(unsafe.Pointer(old))), uint64(uintptr(unsafe.Pointer(dst))), 1} // old_path, new_path, preserve
	return ioctl(dir, ocfs2IocReflink, unsafe.Pointer(&args))
}

// DenyRegSet makes ptrace(PTRACE_GETREGSET) fail with EIO in the calling thread
// and in all processes that are started from it. The thread must be locked to
// its goroutine.
func DenyRegSet() error {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	skipUnless := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip}
	}
	ret := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	filter := []unix.SockFilter{
		load(seccompDataNr),
		skipUnless(unix.SYS_PTRACE, 3),
		load(seccompDataArg0),
		skipUnless(ptraceGetRegSet, 1),
		ret(unix.SECCOMP_RET_ERRNO | uint32(unix.EIO)),
		ret(unix.SECCOMP_RET_ALLOW),
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}
