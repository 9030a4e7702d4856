// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Command guest runs inside the virtual machine, on a mounted OCFS2 volume. It
// fills the volume with what the operations ask for, then writes down the truth
// about it: manifest, extents and secrets (see corpus/README.md).
//
//	guest fill -root DIR -out PREFIX -seed S -bs N -cs N [-crash] OPERATION...
//	guest walk -root DIR -out PREFIX
//
// An operation is NAME[:KEY=NUMBER]...; they are the functions in ops.go. walk
// changes nothing and writes no secrets.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"o2image/internal/ocfs2test/truth"
)

// epoch is the earliest modification time that a filled volume shows.
const epoch = 1700000000

func main() {
	log.SetFlags(0)
	log.SetPrefix("GUEST ERROR ")
	unix.Umask(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: guest fill|walk ...")
	}
	flags := flag.NewFlagSet("guest", flag.ExitOnError)
	root := flags.String("root", "", "where the volume is mounted")
	out := flags.String("out", "", "prefix of the files to write")
	seed := flags.String("seed", "", "what names and contents are made from")
	bs := flags.Int("bs", 4096, "block size, bytes")
	cs := flags.Int("cs", 4096, "cluster size, bytes")
	crash := flags.Bool("crash", false, "switch off without unmounting")
	_ = flags.Parse(os.Args[2:]) // exits on errors

	switch os.Args[1] {
	case "walk":
		check(walk(*root, *out), "walk")
	case "fill":
		g := newGuest(*root, *seed, *bs, *cs)
		g.run(flags.Args())
		if !*crash {
			g.fixTimes()
			unix.Sync()
		}
		check(walk(*root, *out), "walk")
		check(os.WriteFile(*out+".secrets", g.report(), 0o644), "secrets")
		if *crash {
			g.crash(*out + ".status")
		}
	default:
		log.Fatalf("unknown command %q", os.Args[1])
	}
}

// check ends the program if something did not work: a volume is filled whole or
// not used.
func check(err error, what string, args ...any) {
	if err != nil {
		log.Fatalf("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

// guest is the state of filling one volume.
type guest struct {
	root, seed string
	bs, cs     int    // block and cluster size, bytes
	state      uint64 // of the random numbers
	serial     int    // number of the last marker
	markers    map[string][]string
	secrets    []truth.Secret // those that are not in markers
	held       []*os.File     // open until the machine dies
	last       func()         // what to do right before switching off
}

func newGuest(root, seed string, bs, cs int) *guest {
	return &guest{root: root, seed: seed, bs: bs, cs: cs, markers: map[string][]string{}}
}

// run does the operations, each with random numbers of its own.
func (g *guest) run(list []string) {
	for i, op := range list {
		name, rest, _ := strings.Cut(op, ":")
		p := params{}
		for kv := range strings.SplitSeq(rest, ":") {
			key, value, ok := strings.Cut(kv, "=")
			if !ok {
				continue
			}
			n, err := strconv.Atoi(value)
			check(err, "operation %s", op)
			p[key] = n
		}
		fn := operations[name]
		if fn == nil {
			log.Fatalf("no operation %q", name)
		}
		h := sha256.Sum256(fmt.Appendf(nil, "%s/%d%s", g.seed, i, op))
		g.state = binary.LittleEndian.Uint64(h[:])
		fn(g, p)
	}
}

// fixTimes gives all files times that depend on their names only, so that two
// builds of a volume list the same.
func (g *guest) fixTimes() {
	check(filepath.WalkDir(g.root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		h := sha256.Sum256([]byte(g.seed + path))
		ts := unix.NsecToTimespec((epoch + int64(binary.LittleEndian.Uint32(h[:])%1e7)) * 1e9)
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}), "set times")
}

// report lists all markers, those of live files by name.
func (g *guest) report() []byte {
	var names []string
	for name := range g.markers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		class := "data"
		if isInline(name) {
			class = "inline"
		}
		for _, m := range g.markers[name] {
			g.secrets = append(g.secrets, truth.Secret{Class: class, Marker: m, Path: name})
		}
	}
	var b []byte
	for _, s := range g.secrets {
		b = fmt.Appendf(b, "%s\t%s\t%s\n", s.Class, s.Marker, truth.Escape(strings.TrimPrefix(s.Path, g.root)))
	}
	return b
}

// crash notes success in the file rc and switches the machine off, with the
// volume mounted and inodes open.
func (g *guest) crash(status string) {
	check(os.WriteFile(status, []byte("0\n"), 0o644), "note success")
	if g.last != nil {
		g.last()
	}
	check(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF), "switch off")
	runtime.KeepAlive(g.held)
}
