// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64

// Package faults runs a program and has one of its system calls fail, or kills
// it there. All threads are counted together, so that every call of a run can
// be made to fail in turn.
package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Fault says which system call is hit, and how. The zero value hits none.
type Fault struct {
	// Dir is the absolute path of a folder without symbolic links in it. Only
	// calls count that name it or a file below it, by path or descriptor, and
	// those that are about standard output if the command has one.
	Dir string
	// All says that every call counts.
	All bool
	// N is which of the calls that count is hit, from 1 on.
	N int

	Errno syscall.Errno // it is not made, and fails with this
	Short bool          // half of what it is to write is written; hits writes only
	Kill  bool          // the program is killed by SIGKILL instead
}

// Command is a program to be run.
type Command struct {
	Args   []string // with the path of the program
	Env    []string
	Stdout *os.File // nil: /dev/null
	Stderr *os.File
}

// Result is what came of a run.
type Result struct {
	Status syscall.WaitStatus
	Calls  int    // that counted
	Hit    string // the call that was hit, empty if there were less than N
}

// about says which argument of a system call is a descriptor or a path.
type about struct {
	name  string
	fd    int // number of the argument, -1: none
	path  int
	write bool // the third argument is the length of what is written
}

var calls = map[uint64]about{
	unix.SYS_WRITE:      {"write", 0, -1, true},
	unix.SYS_PWRITE64:   {"pwrite64", 0, -1, true},
	unix.SYS_FSYNC:      {"fsync", 0, -1, false},
	unix.SYS_FDATASYNC:  {"fdatasync", 0, -1, false},
	unix.SYS_FTRUNCATE:  {"ftruncate", 0, -1, false},
	unix.SYS_FALLOCATE:  {"fallocate", 0, -1, false},
	unix.SYS_LSEEK:      {"lseek", 0, -1, false},
	unix.SYS_FSTAT:      {"fstat", 0, -1, false},
	unix.SYS_FCHOWN:     {"fchown", 0, -1, false},
	unix.SYS_FCHMOD:     {"fchmod", 0, -1, false},
	unix.SYS_FLISTXATTR: {"flistxattr", 0, -1, false},
	unix.SYS_FGETXATTR:  {"fgetxattr", 0, -1, false},
	unix.SYS_FSETXATTR:  {"fsetxattr", 0, -1, false},
	unix.SYS_CLOSE:      {"close", 0, -1, false},
	unix.SYS_OPENAT:     {"openat", -1, 1, false},
	unix.SYS_OPENAT2:    {"openat2", -1, 1, false},
	unix.SYS_NEWFSTATAT: {"newfstatat", -1, 1, false},
	unix.SYS_STATFS:     {"statfs", -1, 0, false},
	unix.SYS_READLINKAT: {"readlinkat", -1, 1, false},
	unix.SYS_RENAMEAT:   {"renameat", -1, 1, false},
	unix.SYS_LINKAT:     {"linkat", -1, 1, false},
	unix.SYS_UNLINKAT:   {"unlinkat", -1, 1, false},
}

// tracer is a run under ptrace.
type tracer struct {
	fault  Fault
	stdout bool // counts
	pid    int
	count  int
	hit    string
	entry  map[int]bool // threads inside a system call; all threads that are known
	fail   map[int]bool // whose call is to fail
}

// Run runs a program to its end.
func Run(cmd Command, fault Fault) (Result, error) {
	// ptrace is between threads.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess(cmd.Args[0], cmd.Args, &os.ProcAttr{
		Env:   cmd.Env,
		Files: []*os.File{nil, cmd.Stdout, cmd.Stderr},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return Result{}, err
	}
	t := &tracer{fault: fault, stdout: cmd.Stdout != nil, pid: p.Pid, entry: make(map[int]bool), fail: make(map[int]bool)}
	status, err := t.run()
	if err != nil {
		err = errors.Join(err, p.Kill())
	}
	return Result{Status: status, Calls: t.count, Hit: t.hit}, errors.Join(err, p.Release())
}

func (t *tracer) run() (status syscall.WaitStatus, err error) {
	if _, err := syscall.Wait4(t.pid, &status, 0, nil); err != nil {
		return status, fmt.Errorf("wait for the start: %w", err)
	}
	options := unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL
	if err := syscall.PtraceSetOptions(t.pid, options); err != nil {
		return status, fmt.Errorf("ptrace: %w", err)
	}
	t.entry[t.pid] = false
	tid := t.pid
	for signal := 0; ; {
		// A thread that was killed meanwhile is gone.
		if err := syscall.PtraceSyscall(tid, signal); err != nil && err != syscall.ESRCH {
			return status, fmt.Errorf("ptrace: %w", err)
		}
		for {
			tid, err = syscall.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
			if err == syscall.EINTR {
				continue
			}
			if err != nil {
				return status, fmt.Errorf("wait: %w", err)
			}
			if status.Stopped() {
				break
			}
			if tid == t.pid {
				return status, nil
			}
		}
		if signal, err = t.stopped(tid, status); err != nil && err != syscall.ESRCH {
			return status, fmt.Errorf("ptrace: %w", err)
		}
	}
}

// syscallStop is what a stop at a system call has for a signal.
const syscallStop = syscall.SIGTRAP | 0x80

// stopped looks at a thread that has stopped, and returns the signal that it
// gets.
func (t *tracer) stopped(tid int, status syscall.WaitStatus) (signal int, err error) {
	inside, known := t.entry[tid]
	switch {
	case status.StopSignal() == syscallStop:
		t.entry[tid] = !inside
		if inside {
			return 0, t.leave(tid)
		}
		return 0, t.enter(tid)
	case status>>16 != 0: // a thread was made
		return 0, nil
	case !known: // and starts
		t.entry[tid] = false
		return 0, nil
	}
	return int(status.StopSignal()), nil
}

// enter looks at a system call before it is made.
func (t *tracer) enter(tid int) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	call := calls[regs.Orig_rax]
	if !t.counts(tid, call, &regs) || t.fault.Short && !(call.write && regs.Rdx > 1) {
		return nil
	}
	t.count++
	if t.count != t.fault.N {
		return nil
	}
	t.hit = fmt.Sprintf("%s (%d)", call.name, regs.Orig_rax)
	switch {
	case t.fault.Kill:
		return syscall.Kill(t.pid, syscall.SIGKILL)
	case t.fault.Short:
		regs.Rdx /= 2
	default:
		t.fail[tid] = true
		regs.Orig_rax = ^uint64(0) // there is no such call
	}
	return syscall.PtraceSetRegs(tid, &regs)
}

// counts reports whether a call counts.
func (t *tracer) counts(tid int, call about, regs *syscall.PtraceRegs) bool {
	if t.fault.All {
		return true
	}
	if call.name == "" {
		return false
	}
	args := []uint64{regs.Rdi, regs.Rsi, regs.Rdx}
	var path string
	if call.fd >= 0 {
		fd := int32(args[call.fd]) //nolint:gosec // an int in C
		if fd == 1 {
			return t.stdout
		}
		path, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", t.pid, fd))
	} else {
		path = readString(tid, uintptr(args[call.path]))
	}
	return path == t.fault.Dir || strings.HasPrefix(path, t.fault.Dir+"/")
}

// readString returns a string of C in the memory of a thread, as far as it can
// be read.
func readString(tid int, addr uintptr) string {
	var text []byte
	for part := make([]byte, 32); len(text) < unix.PathMax; addr += uintptr(len(part)) {
		n, err := syscall.PtracePeekData(tid, addr, part)
		if end := bytes.IndexByte(part[:n], 0); end >= 0 {
			return string(append(text, part[:end]...))
		}
		text = append(text, part[:n]...)
		if err != nil {
			break
		}
	}
	return string(text)
}

// leave looks at a system call that is over.
func (t *tracer) leave(tid int) error {
	if !t.fail[tid] {
		return nil
	}
	delete(t.fail, tid)
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Rax = -uint64(t.fault.Errno)
	return syscall.PtraceSetRegs(tid, &regs)
}
