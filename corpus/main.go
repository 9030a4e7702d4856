// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Command corpus builds the volumes of the corpus with mkfs.ocfs2 and a Linux
// kernel in a virtual machine, and packs them for testdata/corpus:
//
//	go run ./corpus build DIR [NAME...]
//	go run ./corpus pack DIR TESTDATA [NAME...]
//
// README.md in this folder tells what is in which file. The volumes are those of
// the table volumes.tab.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
)

//go:embed volumes.tab
var table string

func main() {
	log.SetFlags(0)
	log.SetPrefix("corpus: ")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	seed, specs, err := readTable(table)
	if err != nil {
		return err
	}
	switch {
	case len(args) >= 2 && args[0] == "build":
		return build(ctx, seed, choose(specs, args[2:]), args[1])
	case len(args) >= 3 && args[0] == "pack":
		return pack(ctx, choose(specs, args[3:]), args[1], args[2])
	}
	return errors.New("usage: corpus build DIR [NAME...] | pack DIR TESTDATA [NAME...]")
}

// spec is a line of the table.
type spec struct {
	name    string
	size    string // of the device, as truncate(1) has it
	blocks  string // of the file system, where that is smaller than its device
	mkfs    []string
	options string   // of mount; - if it is never mounted
	flags   []string // crash, cluster=A+B, large; or - for none
	phases  []string // operations of each boot; none if nothing but mkfs writes to it
}

// flag returns the value of the flag NAME or NAME=VALUE, and whether it is there.
func (s *spec) flag(name string) (value string, ok bool) {
	for _, f := range s.flags {
		if key, value, _ := strings.Cut(f, "="); key == name {
			return value, true
		}
	}
	return "", false
}

// localMount is what "local" stands for in the column of mount options.
const localMount = "heartbeat=none,noatime,user_xattr,acl"

// readTable reads the table: the seed in a line "#seed SEED", and a line of six
// columns for each volume.
func readTable(text string) (seed string, specs []spec, err error) {
	s := bufio.NewScanner(strings.NewReader(text))
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if rest, ok := strings.CutPrefix(line, "#seed "); ok {
			seed = rest
		}
		if line == "" || line[0] == '#' {
			continue
		}
		col := strings.Split(line, "|")
		if len(col) != 6 {
			return "", nil, fmt.Errorf("table: %d columns, want 6: %s", len(col), line)
		}
		for i := range col {
			col[i] = strings.TrimSpace(col[i])
		}
		v := spec{name: col[0], mkfs: strings.Fields(col[2]), options: col[3], flags: strings.Split(col[4], ",")}
		v.size, v.blocks, _ = strings.Cut(col[1], "/")
		if v.options == "local" {
			v.options = localMount
		}
		if col[5] != "-" {
			v.phases = strings.Split(col[5], " / ")
		}
		specs = append(specs, v)
	}
	return seed, specs, s.Err()
}

// choose returns the volumes of these names; all of them if there are no names.
func choose(specs []spec, names []string) []spec {
	if len(names) == 0 {
		return specs
	}
	return slices.DeleteFunc(slices.Clone(specs), func(s spec) bool { return !slices.Contains(names, s.name) })
}
