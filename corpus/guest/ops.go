// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"o2image/internal/ocfs2test/rawsys"
	"o2image/internal/ocfs2test/truth"
)

// operations are all that can be done to a volume, by name.
var operations = map[string]func(*guest, params){
	"tree": opTree, "inline": opInline, "bigdir": opBigdir, "deep": opDeep, "sparse": opSparse, "prealloc": opPrealloc,
	"xattr": opXattr, "acl": opAcl, "selinux": opSelinux, "reflink": opReflink, "churn": opChurn, "owners": opOwners, "age": opAge,
	"shred": opShred, "inodes": opInodes, "slowlinks": opSlowlinks, "orphans": opOrphans, "sync": opSync, "storm": opStorm,
}

// params are the parameters of an operation.
type params map[string]int

// get returns parameter k, or what it is by default.
func (p params) get(k string, def int) int {
	if v, ok := p[k]; ok {
		return v
	}
	return def
}

// opTree: an ordinary small tree with all types of inode, odd names and modes.
func opTree(g *guest, p params) {
	dirs := []string{g.mkdir("tree-" + g.word(2))}
	for i := 1; i < p.get("dirs", 8); i++ {
		d := filepath.Join(dirs[g.rnd(len(dirs))], fmt.Sprintf("%s.%d", g.word(2), i))
		check(os.Mkdir(d, 0o755), "mkdir")
		dirs = append(dirs, d)
	}
	odd := []string{
		"with space", "\xe4\xf6\xfc latin1", "ütf-8 ☃", "-dash", `back\slash`, `quo"te'`, "tab\there",
		strings.Repeat("long", 63) + "end", "%41", "trailing ", "*glob?[]",
	}
	var made []string
	modes := []os.FileMode{0o644, 0o600, 0o755, 0o444, 0o777 | os.ModeSetuid, 0o755 | os.ModeSetgid, 0}
	for i := 0; i < p.get("files", 40); i++ {
		f := filepath.Join(dirs[g.rnd(len(dirs))], fmt.Sprintf("%s-%d", g.word(3), i))
		if i < len(odd) {
			f = filepath.Join(dirs[0], odd[i])
		}
		n := g.rnd(p.get("max", 20000))
		if i%7 == 3 {
			n = 0
		}
		g.file(f, n)
		check(os.Chown(f, 1000*g.rnd(3), 100*g.rnd(3)), "chown")
		check(os.Chmod(f, modes[g.rnd(len(modes))]), "chmod")
		made = append(made, f)
	}
	d := dirs[len(dirs)-1]
	for i := 0; i < 3; i++ {
		check(os.Link(made[len(odd)+i], filepath.Join(d, fmt.Sprintf("hard%d", i))), "link")
		g.symlink(filepath.Join(d, fmt.Sprintf("sym%d", i)), 60+i*20)
	}
	check(os.Symlink("x", filepath.Join(d, "sym-short")), "symlink")
	check(os.Symlink("sym-short", filepath.Join(d, "sym-sym")), "symlink")
	for i, t := range []uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK} {
		check(unix.Mknod(filepath.Join(d, fmt.Sprintf("special%d", i)), t|0o640, 0x0103+i), "mknod")
	}
	check(os.Chmod(dirs[0], 0o777|os.ModeSticky), "chmod")
	for i := len(odd) + 3; i < len(made); i += 9 {
		g.drop(made[i])
	}
}

// opInline: files and dirs from tiny to just beyond what an inode holds.
func opInline(g *guest, p params) {
	n := p.get("n", 30)
	for i := 0; i < n; i++ {
		d := g.mkdir("inline", fmt.Sprintf("d%d", i))
		for j := 0; j < i%6; j++ {
			g.file(filepath.Join(d, fmt.Sprintf("e%d%s", j, g.word(1))), 0)
		}
		g.file(g.path("inline", fmt.Sprintf("%s%d", g.word(2), i)), markLen+i*(g.bs-200-markLen)/(n-1))
	}
	for i := 0; i < n/5; i++ {
		f := g.path("inline", fmt.Sprintf("gone%d", i))
		g.file(f, 60+i)
		g.drop(f)
	}
}

// opBigdir: one directory of n entries; every (n/inodes)th is a file, the rest hard links.
func opBigdir(g *guest, p params) {
	n, ino, l := p.get("n", 20000), p.get("inodes", 400), p.get("len", 12)
	d := g.mkdir("big-" + g.word(2))
	cur, step := "", n/ino+1
	if ino >= n {
		step = 1
	}
	var all []string
	for i := 0; i < n; i++ {
		f := filepath.Join(d, fmt.Sprintf("%s%0*d", g.word(1), l-2, i))
		if i%step == 0 {
			g.file(f, (i/step%3)*50)
			cur = f
		} else {
			check(os.Link(cur, f), "link %s", f)
			all = append(all, f)
		}
	}
	for i := 0; i < p.get("rm", n/20) && len(all) > 0; i++ { // holes in the directory
		k := g.rnd(len(all))
		check(os.Remove(all[k]), "remove")
		all = append(all[:k], all[k+1:]...)
	}
}

// opDeep: a file of n one-cluster extents with holes between them.
func opDeep(g *guest, p params) {
	d := g.mkdir("deep")
	f := filepath.Join(d, g.word(3))
	n := p.get("n", 1000)
	fd, err := os.Create(f)
	check(err, "create")
	m := g.marker()
	g.markers[f] = append(g.markers[f], m)
	for i := 0; i < n; i++ {
		off := int64(i*p.get("step", 2)) * int64(g.cs)
		_, err := fd.WriteAt(content(m, off, p.get("len", 600)), off)
		check(err, "write")
	}
	fd.Close()
}

// opSparse: huge files with little in them.
func opSparse(g *guest, p params) {
	d := g.mkdir("sparse")
	for i := 0; i < 3; i++ {
		f := filepath.Join(d, fmt.Sprintf("%s%d", g.word(2), i))
		check(g.put(f, int64(i)<<uint(p.get("shift", 30)), 5000), "sparse")
	}
	f := filepath.Join(d, "only-a-hole")
	g.file(f, 0)
	check(os.Truncate(f, 1<<uint(p.get("shift", 30))), "truncate")
}

// opPrealloc: unwritten extents, with and without size, and punched holes.
func opPrealloc(g *guest, p params) {
	const keep, punch = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	d := g.mkdir("prealloc")
	for i := 0; i < p.get("n", 6); i++ {
		f := filepath.Join(d, fmt.Sprintf("%s%d", g.word(2), i))
		g.file(f, 3*g.cs+100)
		fd, err := os.OpenFile(f, os.O_RDWR, 0)
		check(err, "open")
		mode := []uint32{0, keep, punch, punch}[i%4]
		if mode == punch {
			err = unix.Fallocate(int(fd.Fd()), mode, int64(g.cs), int64(g.cs))
		} else {
			err = unix.Fallocate(int(fd.Fd()), mode, int64(8*g.cs), int64(5*g.cs))
		}
		check(err, "fallocate %s", f)
		if i%4 == 1 { // write into the middle of the unwritten range
			check(g.put(f, int64(10*g.cs), 700), "write")
		}
		fd.Close()
	}
}

// opXattr: n attributes on one file, one directory and one symlink of each weight.
func opXattr(g *guest, p params) {
	d := g.mkdir("xattr")
	ns := map[string][]string{"reg": {"user.", "trusted.", "security."}, "dir": {"user.", "trusted.", "security."}, "lnk": {"trusted.", "security."}}
	for _, t := range []string{"reg", "dir", "lnk"} {
		if p.get(t, 1) == 0 {
			continue
		}
		for _, w := range []string{"inline", "block", "bucket", "outside", "mixed"} {
			if p.get(w, 1) == 0 {
				continue
			}
			f := filepath.Join(d, t+"-"+w)
			switch t {
			case "reg":
				g.file(f, g.cs+3000)
			case "dir":
				check(os.Mkdir(f, 0o755), "mkdir")
				for i := 0; i < p.get("entries", 3); i++ {
					g.file(filepath.Join(f, fmt.Sprintf("%s%d", g.word(3), i)), 0)
				}
			case "lnk":
				g.symlink(f, 50)
			}
			n, size := map[string]int{"inline": 1, "block": 4, "bucket": p.get("n", 300), "outside": 4, "mixed": 60}[w], 42
			if w == "block" && g.bs >= 2048 {
				n = 12
			}
			for i := 0; i < n; i++ {
				switch w {
				case "outside":
					size = []int{81, 600, 9000, 60000}[i]
				case "mixed":
					size = []int{40, 80, 81, 42, 5000, 77}[i%6]
				}
				name := fmt.Sprintf("%s%s.%d", ns[t][i%len(ns[t])], g.word(2), i)
				if err := g.xattr(f, name, size); errors.Is(err, unix.ENOSPC) {
					fmt.Printf("note: %s takes %d attributes only\n", f, i)
					break
				} else {
					check(err, "setxattr %s %s", f, name)
				}
			}
		}
	}
}

// acl: POSIX ACLs on files and (default) on directories.
func opAcl(g *guest, p params) {
	acl := func(uid uint32) []byte {
		b := []byte{2, 0, 0, 0}
		for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {2, 4, uid}, {4, 4, ^uint32(0)}, {16, 6, ^uint32(0)}, {32, 0, ^uint32(0)}} {
			b = append(b, byte(e[0]), 0, byte(e[1]), 0)
			b = append(b, byte(e[2]), byte(e[2]>>8), byte(e[2]>>16), byte(e[2]>>24))
		}
		return b
	}
	d := g.mkdir("acl")
	check(setxattr(d, "system.posix_acl_default", acl(77)), "acl")
	for i := 0; i < p.get("n", 20); i++ {
		f := filepath.Join(d, fmt.Sprintf("%s%d", g.word(2), i))
		if i%4 == 0 {
			check(os.Mkdir(f, 0o750), "mkdir")
			f = filepath.Join(f, "inner")
		}
		g.file(f, []int{i * 100, 2*g.cs + i*1000}[i%2])
		check(setxattr(f, "system.posix_acl_access", acl(uint32(1000+i))), "acl %s", f)
	}
}

// opSelinux: a label on everything there is, as a labelled system has it.
func opSelinux(g *guest, p params) {
	check(filepath.WalkDir(g.root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return setxattr(path, "security.selinux", []byte("system_u:object_r:"+g.word(1+g.rnd(3))+"_t:s0\x00"))
	}), "label")
}

// opReflink: a file of n extents, copies of it that share them, writes that break some sharing.
func opReflink(g *guest, p params) {
	d := g.mkdir("reflink")
	src := filepath.Join(d, g.word(3))
	n := p.get("n", 64)
	fd, err := os.Create(src)
	check(err, "create")
	m := g.marker()
	g.markers[src] = append(g.markers[src], m)
	for i := 0; i < n; i++ {
		off := int64(i*2) * int64(g.cs)
		_, err := fd.WriteAt(content(m, off, g.cs), off)
		check(err, "write")
	}
	check(fd.Sync(), "fsync")
	fd.Close()
	if p.get("xattr", 0) != 0 {
		check(g.xattr(src, "user.copied", 70), "xattr")
		check(g.xattr(src, "user.shared", 9000), "xattr")
	}
	dir, err := os.Open(d)
	check(err, "open")
	defer dir.Close()
	for k := 0; k < p.get("copies", 4); k++ {
		to := filepath.Join(d, fmt.Sprintf("copy%d", k))
		check(rawsys.Reflink(dir.Fd(), src, to), "reflink %s", to)
		for i := 0; i < p.get("cow", 10); i++ {
			check(g.put(to, int64(2*g.rnd(n))*int64(g.cs), 300), "cow")
		}
	}
}

// opChurn: n random operations on files that share their clusters: copies, copies of
// copies, writes, cuts, preallocation, holes, large attributes, deletions.
func opChurn(g *guest, p params) {
	const files, blocks = 60, 100
	d := g.mkdir("churn")
	dir, err := os.Open(d)
	check(err, "open")
	defer dir.Close()
	at := func() int64 { return int64(g.rnd(blocks))*int64(g.cs) + int64(g.rnd(g.cs)) }
	var live []string
	for i := range 4 {
		f := filepath.Join(d, fmt.Sprintf("base%d", i))
		for j := range blocks / 2 {
			check(g.put(f, int64(2*j)*int64(g.cs), 3000), "write")
		}
		check(g.xattr(f, "user.shared", 9000), "xattr")
		live = append(live, f)
	}
	for i := range p.get("n", 2000) {
		k := g.rnd(len(live))
		f := live[k]
		switch c := g.rnd(12); {
		case c < 3 && len(live) < files:
			to := filepath.Join(d, fmt.Sprintf("copy%d", i))
			check(rawsys.Reflink(dir.Fd(), f, to), "reflink %s", to)
			live = append(live, to)
		case c < 7:
			check(g.put(f, at(), 1+g.rnd(5*g.cs)), "write")
		case c == 7:
			check(os.Truncate(f, at()), "truncate")
		case c == 8:
			check(g.xattr(f, "user.shared", 5000+g.rnd(9000)), "xattr")
		case c == 9 && len(live) > 4:
			g.drop(f)
			live[k] = live[len(live)-1]
			live = live[:len(live)-1]
		default:
			mode := uint32(g.rnd(2)) * (unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
			fd, err := os.OpenFile(f, os.O_RDWR, 0)
			check(err, "open")
			check(unix.Fallocate(int(fd.Fd()), mode, at(), int64(1+g.rnd(20*g.cs))), "fallocate")
			fd.Close()
		}
		if i%200 == 0 {
			unix.Sync()
		}
	}
}

// opOwners: files of many users and groups (quota records).
func opOwners(g *guest, p params) {
	d := g.mkdir("owners")
	for i := 0; i < p.get("n", 100); i++ {
		f := filepath.Join(d, fmt.Sprintf("%s%d", g.word(2), i))
		g.file(f, g.rnd(3000))
		check(os.Chown(f, 10000+i*37, 20000+i*91), "chown")
	}
}

// opAge: rounds of creating and deleting, so that metadata comes to lie where file data was.
func opAge(g *guest, p params) {
	d := g.mkdir("aged")
	var live []string
	for r := 0; r < p.get("rounds", 10); r++ {
		for i := 0; i < p.get("n", 60); i++ {
			f := filepath.Join(d, fmt.Sprintf("r%d-%d", r, i))
			check(g.put(f, 0, 100+g.rnd(p.get("max", 60000))), "age write")
			live = append(live, f)
		}
		unix.Sync()
		for i := len(live) * 6 / 10; i > 0; i-- {
			k := g.rnd(len(live))
			g.drop(live[k])
			live[k] = live[len(live)-1]
			live = live[:len(live)-1]
		}
		unix.Sync()
		s := g.mkdir("aged", fmt.Sprintf("sub%d", r))
		for i := 0; i < p.get("entries", 60); i++ {
			g.file(filepath.Join(s, fmt.Sprintf("%s-%s-%d", g.word(6), g.word(6), i)), 0)
		}
	}
}

// opShred: fill the volume with files of one cluster, then delete every step-th.
func opShred(g *guest, p params) {
	d := g.mkdir("shred")
	ballast := filepath.Join(d, "ballast")
	fd, err := os.Create(ballast)
	check(err, "create")
	filler, err := os.Create(ballast + "2")
	check(err, "create")
	var st unix.Statfs_t
	check(unix.Statfs(g.root, &st), "statfs")
	free := int64(st.Bavail) * int64(st.Bsize)
	size := free - int64(p.get("files", 3000))*int64(g.cs+g.bs)
	if size > 0 {
		check(unix.Fallocate(int(fd.Fd()), 0, 0, size), "fallocate ballast")
	}
	fd.Close()
	n := 0
	var list []string
	for ; ; n++ {
		f := filepath.Join(d, fmt.Sprintf("s%05d", n))
		if err := g.put(f, 0, g.cs); err != nil {
			os.Remove(f)
			break
		}
		list = append(list, f)
	}
	end := int64(0) // and now whatever is left over
	for k := int64(64 * g.cs); k >= int64(g.cs); {
		if unix.Fallocate(int(filler.Fd()), 0, end, k) != nil {
			k /= 2
		} else {
			end += k
		}
	}
	filler.Close()
	unix.Sync()
	step := p.get("step", 2)
	for i, f := range list {
		if i%step == 0 {
			g.drop(f)
		}
	}
	unix.Sync()
	time.Sleep(time.Duration(p.get("wait", 3)) * time.Second) // the truncate log is flushed with a delay
	unix.Sync()
	fmt.Printf("note: shred wrote %d files\n", n)
}

// opInodes: n empty or tiny files, to make the inode allocator grow.
func opInodes(g *guest, p params) {
	d := g.mkdir("inodes-" + g.word(2))
	for i := 0; i < p.get("n", 2000); i++ {
		if err := g.put(filepath.Join(d, fmt.Sprintf("i%05d", i)), 0, p.get("size", 0)); err != nil {
			fmt.Printf("note: inodes stops at %d: %v\n", i, err)
			break
		}
	}
}

// opSlowlinks: symlinks whose target does not fit into the inode.
func opSlowlinks(g *guest, p params) {
	d := g.mkdir("slowlinks")
	for i := 0; i < p.get("n", 5); i++ {
		n := g.bs - 192 - 2 + i
		if i > 3 {
			n = 4090
		}
		g.symlink(filepath.Join(d, fmt.Sprintf("l%d", n)), n)
	}
}

// opOrphans: inodes unlinked while open (they stay open until the machine dies).
func opOrphans(g *guest, p params) {
	d := g.mkdir("orphans")
	for i := 0; i < p.get("n", 10); i++ {
		f := filepath.Join(d, fmt.Sprintf("o%d", i))
		g.file(f, 60+i*3000)
		fd, err := os.Open(f)
		check(err, "open")
		g.held = append(g.held, fd)
		g.drop(f)
	}
	f := filepath.Join(d, "dir")
	check(os.Mkdir(f, 0o755), "mkdir")
	fd, err := os.Open(f)
	check(err, "open")
	g.held = append(g.held, fd)
	check(os.Remove(f), "rmdir")
}

// opStorm: the last thing before the machine dies: n files are made, some deleted and renamed, and the
// journal committed, but (with luck) not yet checkpointed. Only with -crash.
func opStorm(g *guest, p params) {
	n, d := p.get("n", 200), g.mkdir("storm")
	marks := make([]string, n)
	for i := range marks {
		marks[i] = g.marker()
		class := "data"
		if i%3 == 0 {
			class = "inline"
		}
		g.secrets = append(g.secrets, truth.Secret{Class: class, Marker: marks[i], Path: filepath.Join(d, fmt.Sprint(i))})
	}
	g.last = func() {
		var f *os.File
		for i, m := range marks {
			name := filepath.Join(d, fmt.Sprintf("s%d", i))
			f, _ = os.Create(name)
			size := []int{100, 9000, 20000}[i%3]
			f.Write(content(m, 0, size))
			if i%4 == 3 {
				os.Remove(filepath.Join(d, fmt.Sprintf("s%d", i-2)))
			}
			if i%5 == 4 {
				os.Mkdir(name+".d", 0o755)
				os.Rename(name, name+".d/moved")
			}
			if i == n/2 {
				unix.Sync()
			}
		}
		f.Sync()
	}
}

// opSync: what was done so far reaches the disk.
func opSync(*guest, params) { unix.Sync() }
