// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package blockio_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"o2image/blockio"
)

func create(t *testing.T, name string, inPlace bool) *blockio.File {
	t.Helper()
	f, err := blockio.CreateFile(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Abort)
	if f.InPlace() != inPlace || f.Name() != name {
		t.Errorf("in place %v, name %s; want %v, %s", f.InPlace(), f.Name(), inPlace, name)
	}
	return f
}

// fill writes "new" from several goroutines, then a hole up to byte 10000.
func fill(t *testing.T, f *blockio.File) {
	t.Helper()
	var wg sync.WaitGroup
	for i, c := range []byte("new") {
		wg.Go(func() {
			if n, err := f.WriteAt([]byte{c}, int64(i)); n != 1 || err != nil {
				t.Errorf("WriteAt = %d, %v", n, err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(f.Sync(), f.Truncate(10_000)); err != nil {
		t.Fatal(err)
	}
	if size, err := f.Size(); size != 10_000 || err != nil {
		t.Errorf("Size = %d, %v", size, err)
	}
}

var filled = append([]byte("new"), make([]byte, 9997)...)

// entries returns the names in a directory.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func wantEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, entries(t, dir)); diff != "" {
		t.Errorf("files in the directory (-want +got):\n%s", diff)
	}
}

func TestFileNew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	f := create(t, name, false)
	if f.ID() != (blockio.FileID{}) {
		t.Errorf("a new file has an identity")
	}
	fill(t, f)
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there before Commit: %v", err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	wantEntries(t, dir, "f")
	if !bytes.Equal(read(t, name), filled) {
		t.Errorf("other contents")
	}
	if info, err := os.Lstat(name); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := f.Commit(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Commit: %v", err)
	}
}

// TestFileTemporary wants a name that tells what the file is to become, where
// there is room for that.
func TestFileTemporary(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"sda1.out", "a*b", strings.Repeat("n", 255)} {
		dir := t.TempDir()
		f := create(t, filepath.Join(dir, base), false)
		names := entries(t, dir)
		want := "." + base + ".o2image-unfinished-"
		if len(base) == 255 {
			want = "..o2image-unfinished-"
		}
		if len(names) != 1 || !strings.HasPrefix(names[0], want) {
			t.Errorf("unfinished %s is called %q", base, names)
		}
		if err := f.Commit(); err != nil {
			t.Error(err)
		}
		wantEntries(t, dir, base)
	}
}

func TestFileAborted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := create(t, filepath.Join(dir, "f"), false)
	fill(t, f)
	f.Abort()
	f.Abort()
	wantEntries(t, dir)

	name := write(t, filepath.Join(dir, "old"), []byte("old"))
	f = create(t, name, false)
	fill(t, f)
	f.Abort()
	wantEntries(t, dir, "old")
	if got := read(t, name); string(got) != "old" {
		t.Errorf("contents %q", got)
	}
}

// TestFileLinks follows links, to files that exist and that do not, through
// directories that are links.
func TestFileLinks(t *testing.T) {
	t.Parallel()
	for _, exists := range []bool{false, true} {
		t.Run(fmt.Sprintf("exists=%v", exists), func(t *testing.T) {
			t.Parallel()
			// here/a -> there/b ; dir/there -> dir/else/where ; dir/else/where/b -> ../c
			dir := t.TempDir()
			where := filepath.Join(dir, "else", "where")
			if err := os.MkdirAll(where, 0o700); err != nil {
				t.Fatal(err)
			}
			for name, target := range map[string]string{
				filepath.Join(dir, "there"): where,
				filepath.Join(dir, "a"):     "there/b",
				filepath.Join(where, "b"):   "../c",
			} {
				if err := os.Symlink(target, name); err != nil {
					t.Fatal(err)
				}
			}
			final := filepath.Join(dir, "else", "c")
			if exists {
				write(t, final, []byte("old"))
			}
			name := filepath.Join(dir, "a")
			f := create(t, name, false)
			fill(t, f)
			if err := f.Commit(); err != nil {
				t.Fatal(err)
			}
			wantEntries(t, filepath.Dir(final), "c", "where")
			wantEntries(t, where, "b")
			wantEntries(t, dir, "a", "else", "there")
			if !bytes.Equal(read(t, final), filled) {
				t.Errorf("other contents")
			}
			if target, err := os.Readlink(name); target != "there/b" || err != nil {
				t.Errorf("the link leads to %q, %v", target, err)
			}
		})
	}
}

func TestFileKeepsAttributes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := write(t, filepath.Join(dir, "f"), []byte("old"))
	// What a directory with a default ACL gives to new files only.
	acl, err := hex.DecodeString( // version 2: owner rwx, user 1 rwx, group r, mask rwx, others none
		"02000000" + "01000700ffffffff" + "0200070001000000" + "04000400ffffffff" + "10000700ffffffff" + "20000000ffffffff")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(dir, "system.posix_acl_default", acl, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(name, 12345, 54321); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o640|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	keep := map[string][]byte{
		"user.note":    []byte("kept"),
		"user.long":    random(2000), // more than the first guess
		"user.empty":   {},
		"trusted.note": []byte("kept too"),
	}
	for attr, value := range keep {
		if err := unix.Setxattr(name, attr, value, 0); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	f := create(t, name, false)
	want, err := blockio.Identify(name)
	if err != nil || !blockio.SameFile(f.ID(), want) {
		t.Errorf("ID is not that of the existing file, %v", err)
	}
	fill(t, f)
	if got := read(t, name); string(got) != "old" {
		t.Errorf("contents before Commit: %q", got)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	after, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	stat := after.Sys().(*syscall.Stat_t)
	if after.Mode() != before.Mode() || stat.Uid != 12345 || stat.Gid != 54321 || os.SameFile(before, after) {
		t.Errorf("mode %v, owner %d:%d, replaced %v", after.Mode(), stat.Uid, stat.Gid, !os.SameFile(before, after))
	}
	got := map[string][]byte{}
	list := make([]byte, 4096)
	n, err := unix.Listxattr(name, list)
	if err != nil {
		t.Fatal(err)
	}
	for attr := range bytes.SplitSeq(bytes.TrimSuffix(list[:n], []byte{0}), []byte{0}) {
		value := make([]byte, 4096)
		n, err := unix.Getxattr(name, string(attr), value)
		if err != nil {
			t.Fatal(err)
		}
		got[string(attr)] = value[:n]
	}
	if diff := cmp.Diff(keep, got); diff != "" {
		t.Errorf("extended attributes (-want +got):\n%s", diff)
	}
	wantEntries(t, dir, "f")
}

// TestFileInPlace writes files that cannot be replaced.
func TestFileInPlace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		setup func(t *testing.T, dir, file string) (name string)
	}{
		{"two links", func(t *testing.T, dir, file string) string {
			if err := os.Link(file, filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			return file
		}},
		{"descriptor", func(t *testing.T, _, file string) string {
			f := openFile(t, file, os.O_RDWR)
			t.Cleanup(func() { f.Close() })
			return fmt.Sprintf("/dev/fd/%d", f.Fd())
		}},
		{"mounted", func(t *testing.T, _, file string) string {
			run(t, "mount", "--bind", file, file)
			t.Cleanup(func() { run(t, "umount", file) })
			return file
		}},
		{"read-only directory", func(t *testing.T, dir, file string) string {
			// For root a mode is no obstacle. A mount is, except for the file.
			run(t, "mount", "--bind", dir, dir)
			t.Cleanup(func() { run(t, "umount", dir) })
			run(t, "mount", "--bind", file, file)
			t.Cleanup(func() { run(t, "umount", file) })
			run(t, "mount", "-o", "remount,bind,ro", dir)
			return file
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := write(t, filepath.Join(dir, "f"), random(20_000))
			name := test.setup(t, dir, file)
			list := entries(t, dir)
			before, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			f := create(t, name, true)
			if id, err := blockio.Identify(file); f.ID() != id || err != nil {
				t.Errorf("other identity, %v", err)
			}
			if size, err := f.Size(); size != 20_000 || err != nil {
				t.Errorf("%d bytes before the first change, %v", size, err)
			}
			f.Abort()
			if info, err := os.Stat(file); err != nil || info.Size() != 20_000 {
				t.Errorf("aborted before the first change: %d bytes, %v", info.Size(), err)
			}
			f = create(t, name, true)
			fill(t, f)
			if err := f.Commit(); err != nil {
				t.Fatal(err)
			}
			after, err := os.Stat(file)
			if err != nil || !os.SameFile(before, after) || !bytes.Equal(read(t, file), filled) {
				t.Errorf("replaced, or other contents: %v", err)
			}
			wantEntries(t, dir, list...)
		})
	}
}

func TestFileRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	full := tmpfs(t, "64k")
	for _, test := range []struct {
		name, file string
		want       error
	}{
		{"directory", dir, blockio.ErrFileType},
		{"character device", "/dev/null", blockio.ErrFileType},
		{"block device", loop(t, sparse(t, filepath.Join(dir, "disk"), 1<<20)), blockio.ErrFileType},
		{"no such directory", filepath.Join(dir, "no", "such"), fs.ErrNotExist},
		{"not a directory", filepath.Join(dir, "disk", "f"), syscall.ENOTDIR},
		{"name too long", filepath.Join(dir, string(bytes.Repeat([]byte("x"), 300))), syscall.ENAMETOOLONG},
		{"read-only file system", filepath.Join(mount(t, "-o", "ro", loop(t, ext4(t))), "f"), syscall.EROFS},
		{"no such descriptor", "/dev/fd/9999", fs.ErrNotExist},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := blockio.CreateFile(test.file, 0)
			wantPathError(t, err, test.want, test.file)
		})
	}
	wantEntries(t, dir, "disk")

	t.Run("no space", func(t *testing.T) {
		name := filepath.Join(full, "f")
		f := create(t, name, false)
		_, err := f.WriteAt(make([]byte, 100_000), 0)
		wantPathError(t, err, syscall.ENOSPC, name)
		if want := "write " + name + ": no space left on device"; err.Error() != want {
			t.Errorf("message %q, want %q", err, want)
		}
		wantPathError(t, f.Truncate(-1), syscall.EINVAL, name)
		f.Abort()
		wantEntries(t, full)
	})
	t.Run("name taken by a directory", func(t *testing.T) {
		name := filepath.Join(full, "g")
		f := create(t, name, false)
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
		wantPathError(t, f.Commit(), fs.ErrExist, name)
		wantEntries(t, full, "g")
	})
}

func TestFreeSpace(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "1m")
	if got, err := blockio.FreeSpace(dir); got != 1<<20 || err != nil {
		t.Errorf("FreeSpace = %d, %v, want 1 MiB", got, err)
	}
	write(t, filepath.Join(dir, "f"), random(1<<19))
	if got, err := blockio.FreeSpace(dir); got != 1<<19 || err != nil {
		t.Errorf("FreeSpace = %d, %v, want half a MiB", got, err)
	}
	missing := filepath.Join(dir, "missing")
	_, err := blockio.FreeSpace(missing)
	wantPathError(t, err, fs.ErrNotExist, missing)
}

// asNobody calls a function on a thread of its own with the rights of nobody.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		const unchanged, nobody = ^uintptr(0), 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, unchanged, nobody, unchanged); errno != 0 {
			done <- errno
			return
		}
		do()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestFileOfOthers writes files with the rights of somebody who may write them,
// but not make another with the same owner, or not in that directory.
func TestFileOfOthers(t *testing.T) {
	t.Parallel()
	const root, nobody = 0, 65534
	for _, test := range []struct {
		name             string
		dirMode          fs.FileMode
		dirUser          int
		fileMode         fs.FileMode
		fileUser         int
		inPlace, refused bool
	}{
		{"everything is ours", 0o755, nobody, 0o644, nobody, false, false},
		{"only the file is ours", 0o777, root, 0o644, nobody, false, false},
		{"only the file is ours, sticky", 0o777 | fs.ModeSticky, root, 0o644, nobody, false, false},
		{"only the file is ours, directory not writable", 0o755, root, 0o644, nobody, true, false},
		{"only the directory is ours", 0o755, nobody, 0o666, root, true, false},
		{"nothing is ours, sticky", 0o777 | fs.ModeSticky, root, 0o666, root, true, false},
		{"nothing is ours", 0o777, root, 0o644, root, false, true},
		{"read-only", 0o755, nobody, 0o444, nobody, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			parent := tmpfs(t, "1m")
			if err := os.Chmod(filepath.Dir(parent), 0o755); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(parent, "d")
			name := filepath.Join(dir, "f")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, name, []byte("old"))
			if err := errors.Join(
				os.Chown(dir, test.dirUser, root), os.Chown(name, test.fileUser, root),
				os.Chmod(dir, test.dirMode), os.Chmod(name, test.fileMode),
			); err != nil {
				t.Fatal(err)
			}
			want := filled
			asNobody(t, func() {
				f, err := blockio.CreateFile(name, 0)
				if test.refused {
					wantPathError(t, err, fs.ErrPermission, name)
					want = []byte("old")
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if f.InPlace() != test.inPlace {
					t.Errorf("in place %v, want %v", f.InPlace(), test.inPlace)
				}
				if _, err := f.WriteAt([]byte("new"), 0); err != nil {
					t.Error(err)
				}
				if err := errors.Join(f.Truncate(10_000), f.Commit()); err != nil {
					t.Error(err)
				}
			})
			if !bytes.Equal(read(t, name), want) {
				t.Errorf("other contents")
			}
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != test.fileUser || info.Mode() != test.fileMode {
				t.Errorf("owner %d, mode %v", owner, info.Mode())
			}
			wantEntries(t, dir, "f")
		})
	}
}

// TestCreateFileWithoutName wants the error of the system, not a file in the
// directory that an empty name could stand for.
func TestCreateFileWithoutName(t *testing.T) {
	for _, name := range []string{"", filepath.Join(t.TempDir(), "missing") + "/"} {
		if _, err := blockio.CreateFile(name, 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := blockio.OpenTarget(name, blockio.TargetOptions{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("target %q: %v", name, err)
		}
	}
}

// TestCreateFileWithoutRoom wants a file replaced in place where a file system
// has room for one of the old and the new one, and not otherwise.
func TestCreateFileWithoutRoom(t *testing.T) {
	name := filepath.Join(tmpfs(t, "1m"), "file")
	if err := os.WriteFile(name, make([]byte, 700<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for size, inPlace := range map[uint64]bool{100 << 10: false, 700 << 10: true, 2 << 20: false} {
		f, err := blockio.CreateFile(name, size)
		if err != nil {
			t.Fatal(err)
		}
		if f.InPlace() != inPlace {
			t.Errorf("%d bytes: in place %v", size, f.InPlace())
		}
		f.Abort()
	}
}

// TestCreateNew wants a new file to take the place of nothing.
func TestCreateNew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := write(t, filepath.Join(dir, "old"), []byte("old"))
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "nothing"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{old, dangling, dir} {
		if _, err := blockio.CreateNew(name); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s exists: %v", name, err)
		}
	}
	if _, err := blockio.CreateNew("/dev/o2image-test-missing"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("under /dev: %v", err)
	}

	name := filepath.Join(dir, "new")
	f, err := blockio.CreateNew(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, name); string(got) != "new" {
		t.Errorf("the file has %q", got)
	}

	// Somebody else makes it meanwhile.
	name = filepath.Join(dir, "late")
	if f, err = blockio.CreateNew(name); err != nil {
		t.Fatal(err)
	}
	write(t, name, []byte("theirs"))
	if err := f.Commit(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made meanwhile: %v", err)
	}
	if got := read(t, name); string(got) != "theirs" {
		t.Errorf("the file of somebody else has %q", got)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 4 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestFileDirect writes whole pages past the page cache and what is none by way
// of it. The file gets what was written either way.
func TestFileDirect(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "f")
	f := create(t, name, false)
	defer f.Abort()
	pool := blockio.NewPool(1<<20, 1)
	defer pool.Close()
	page, err := pool.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	copy(page, random(len(page)))
	want := make([]byte, 3<<20+5)
	put := func(p []byte, off int64) {
		t.Helper()
		if n, err := f.WriteAt(p, off); n != len(p) || err != nil {
			t.Fatalf("%d bytes of %d, %v", n, len(p), err)
		}
		copy(want[off:], p)
	}
	if err := f.SetDirect(true); err != nil {
		t.Fatal(err)
	}
	put(page, 2<<20)
	put(page[:8192], 4096)
	put(page[:100], 50) // wrong use, and what a file system says that cannot do it after all
	if err := f.SetDirect(false); err != nil {
		t.Fatal(err)
	}
	put([]byte("the end"), int64(len(want)-7))
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, name); !bytes.Equal(got, want) {
		t.Error("the file is not what was written")
	}
	var stat unix.Stat_t
	if err := unix.Stat(name, &stat); err != nil || stat.Blocks*512 > 2<<20 {
		t.Errorf("%d blocks on disk, %v", stat.Blocks, err)
	}
}
