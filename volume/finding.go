// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"o2image/blockio"
	"o2image/ocfs2"
)

// Severity says what a finding means for an image.
type Severity uint8

// The severities, from the worst down.
const (
	NotRead     Severity = iota // a block that leads to others could not be read
	NotFollowed                 // a structure is damaged so that what it leads to is not known
	Damaged                     // a contradiction; everything it could lead to was found all the same
)

var severityNames = []string{"not read", "not followed", "damaged"}

func (s Severity) String() string { return severityNames[min(s, Damaged)] }

// MarshalText gives the words for the severity.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes what MarshalText gives.
func (s *Severity) UnmarshalText(text []byte) error {
	i := slices.Index(severityNames, string(text))
	if i < 0 {
		return fmt.Errorf("unknown severity %q", text)
	}
	*s = Severity(i)
	return nil
}

// Finding is something that the walk found wrong with the volume.
type Finding struct {
	Severity Severity `json:"severity"`
	Class    Class    `json:"class"`           // of the block or of what it would have led to
	Block    uint64   `json:"block"`           // the block at fault
	Inode    uint64   `json:"inode,omitempty"` // the inode whose structure led there, 0 if none
	Path     []uint64 `json:"path,omitempty"`  // blocks that led from the inode to the block, the inode not among them
	Text     string   `json:"text"`            // what was seen and what was expected
	Lost     string   `json:"lost,omitempty"`  // what was therefore not followed
}

func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "block %d", f.Block)
	if f.Inode != 0 && f.Inode != f.Block {
		fmt.Fprintf(&b, " (inode %d)", f.Inode)
	}
	fmt.Fprintf(&b, ": %s: %s, %s", f.Class, f.Text, f.Severity)
	return b.String()
}

// maxFindings bounds how many findings are kept, the worst; all are counted.
const maxFindings = 10000

// findings gathers what concurrent walkers find.
type findings struct {
	mu    sync.Mutex
	kept  [Damaged + 1][]Finding // by severity
	total int
}

func (f *findings) add(found Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total++
	f.kept[found.Severity] = append(f.kept[found.Severity], found)
	if f.total <= maxFindings {
		return
	}
	for s := len(f.kept) - 1; s >= 0; s-- {
		if last := len(f.kept[s]) - 1; last >= 0 {
			f.kept[s] = f.kept[s][:last]
			return
		}
	}
}

// any reports whether anything was found.
func (f *findings) any() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total > 0
}

// origin says how the walk came to a block.
type origin struct {
	class Class    // of the block or of what it leads to
	ino   uint64   // the inode whose structure led there, 0 if none
	path  []uint64 // the blocks between
	tree  uint64   // the root of the inode's refcount tree, 0 if it has none
}

// via returns the origin of what block blkno leads to.
func (o origin) via(blkno uint64) origin {
	path := slices.Clone(o.path[max(0, len(o.path)-maxPath+1):])
	o.path = append(path, blkno)
	return o
}

// maxPath bounds the blocks that a finding names as the way to its place.
const maxPath = 16

// note adds a finding about block blkno.
func (w *walk) note(o origin, blkno uint64, s Severity, text, lost string) {
	w.findings.add(Finding{Severity: s, Class: o.class, Block: blkno, Inode: o.ino, Path: o.path, Text: text, Lost: lost})
}

// faults adds findings for contradictions in block blkno by which nothing is
// lost.
func (w *walk) faults(o origin, blkno uint64, faults []ocfs2.Fault) {
	for _, f := range faults {
		w.note(o, blkno, Damaged, f.String(), "")
	}
}

// failed adds a finding for an error that kept the walk from something. That
// reading was stopped is no fault of the volume.
func (w *walk) failed(o origin, blkno uint64, err error, lost string) {
	if errors.Is(err, blockio.ErrStopped) || errors.Is(err, context.Canceled) {
		return
	}
	if errors.Is(err, errNoted) {
		return
	}
	if at, ok := errors.AsType[*badBlock](err); ok {
		blkno, o.path = at.blkno, at.path
	}
	severity, text := NotRead, err.Error()
	if at, ok := errors.AsType[*ocfs2.BlockError](err); ok {
		severity, blkno, text = NotFollowed, at.Block, at.Fault.String()
	}
	if _, ok := errors.AsType[recoveredError](err); ok {
		severity, lost = Damaged, ""
	}
	w.note(o, blkno, severity, text, lost)
}

// sorted returns what was found, by block.
func (f *findings) sorted() []Finding {
	list := slices.Concat(f.kept[:]...)
	slices.SortFunc(list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Block, b.Block), cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Class, b.Class),
			cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Lost, b.Lost), slices.Compare(a.Path, b.Path))
	})
	return list
}
