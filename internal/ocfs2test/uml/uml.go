// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package uml boots the Linux kernel as an ordinary process (Debian package
// user-mode-linux) with OCFS2 volumes as its disks: a second and a half for the
// judgement of the only full implementation of OCFS2 there is.
//
// The machine sees one folder of its own and the disks it is given, nothing
// else of the host, and has no network.
package uml

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"o2image/internal/ocfs2test/rawsys"
)

// MaxDisks is how many disks a machine can have.
const MaxDisks = 16

// modules of the kernel that a local mount needs, in the order of loading.
var modules = []string{"configfs", "quota_tree", "ocfs2_stackglue", "ocfs2_nodemanager", "ocfs2"}

// noAVX keeps glibc off the registers that the machine does not save; see Boot.
const noAVX = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW," +
	"-AVX_Fast_Unaligned_Load,-AVX2_Usable,-AVX512F_Usable,-ERMS,-XSAVE,-XSAVEC"

// guestEnv does the same for the Go program. With single features off, AVX of
// each kind, one walk in a hundred still hashed wrongly or crashed; with all off,
// none of 650 did.
const guestEnv = "GODEBUG=cpu.all=off"

// Machine is a virtual machine that is switched off.
type Machine struct{ dir string }

// New prepares a machine in the empty folder dir. In the machine, the program
// /guest is corpus/guest, compiled.
func New(dir string) (*Machine, error) {
	m := &Machine{dir}
	for _, d := range []string{"bin", "dev", "proc", "sys", "mnt", "mod", "job"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	if err := copyFile(filepath.Join(dir, "bin", "busybox"), busybox); err != nil {
		return nil, err
	}
	if err := m.copyModules("/usr/lib/uml/modules"); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "init"), []byte(initScript()), 0o755); err != nil {
		return nil, err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "guest"), "o2image/corpus/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build corpus/guest: %w: %s", err, out)
	}
	return m, nil
}

// copyModules copies the modules of the cluster file system and what it needs.
func (m *Machine) copyModules(root string) error {
	found := false
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, part := range []string{"/fs/configfs/", "/fs/quota/", "/fs/ocfs2/"} {
			if strings.HasSuffix(path, ".ko") && strings.Contains(path, part) {
				found = true
				return copyFile(filepath.Join(m.dir, "mod", filepath.Base(path)), path)
			}
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("no OCFS2 modules in %s", root)
	}
	return err
}

func copyFile(dst, src string) error {
	b, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	return os.WriteFile(dst, b, 0o755)
}

// initScript is the first process of the machine: it runs /job/script.
func initScript() string {
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/busybox sh
export PATH=/bin %s
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs tmpfs /mnt
busybox mkdir /mnt/v
busybox date -s @1700000000 >/dev/null
`, guestEnv)
	for _, mod := range modules {
		fmt.Fprintf(&b, "busybox insmod /mod/%s.ko || echo insmod %s failed\n", mod, mod)
	}
	b.WriteString(". /job/script\nbusybox sync\nbusybox poweroff -f\n")
	return b.String()
}

// Job is the name, outside the machine, of the file /job/NAME.
func (m *Machine) Job(name string) string { return filepath.Join(m.dir, "job", name) }

// Boot switches the machine on, with the files as its disks /dev/ubda, /dev/ubdb
// and so on, runs the shell script in it, and switches it off. The script finds
// what /job held before Boot; a volume can be mounted on /mnt/v. The output is
// that of the console.
//
// The kernel of the machine reads the registers of its processes with ptrace. On
// processors with more state than it has room for it would die of that, so the
// call is denied to it, and it falls back on one without these registers. That
// is why no process in the machine may use AVX.
func (m *Machine) Boot(ctx context.Context, script string, disks ...string) (console string, err error) {
	if len(disks) > MaxDisks {
		return "", fmt.Errorf("%d disks, %d at most", len(disks), MaxDisks)
	}
	if err := os.WriteFile(m.Job("script"), []byte(script), 0o644); err != nil {
		return "", err
	}
	args := []string{
		"mem=768M", "root=/dev/root", "rootfstype=hostfs", "rootflags=" + m.dir, "rw", "init=/init", noAVX,
		"con=null", "con0=null,fd:1",
	}
	for i, d := range disks {
		if d, err = filepath.Abs(d); err != nil {
			return "", err
		}
		args = append(args, fmt.Sprintf("ubd%d=%s", i, d))
	}
	cmd := exec.CommandContext(ctx, "linux.uml", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "TMPDIR="+memoryDir(), "HOME="+m.dir)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) } // its processes too
	cmd.WaitDelay = 5 * time.Second

	done := make(chan error)
	go func() { // the thread ends with the goroutine, as it is locked and never unlocked
		runtime.LockOSThread()
		if err := rawsys.DenyRegSet(); err != nil {
			done <- fmt.Errorf("seccomp: %w", err)
			return
		}
		done <- cmd.Run()
	}()
	err = <-done
	return out.String(), errors.Join(err, context.Cause(ctx))
}

// memoryDir is where the machine keeps its memory: in memory, if there is room.
func memoryDir() string {
	const shm, need = "/dev/shm", 800 << 20
	var st unix.Statfs_t
	if unix.Statfs(shm, &st) == nil && st.Bavail*uint64(st.Bsize) > need {
		return shm
	}
	return os.TempDir()
}
