// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"o2image/blockio"
	"o2image/ocfs2"
)

// File is an inode with a path that leads to it.
type File struct {
	Path  string // from the root directory, "/" itself included
	Inode ocfs2.Dinode
}

// Walk yields every file that the root directory leads to, directories before
// what is in them, in the order of the disk. A file with several links appears
// under each of its names; a directory is entered once.
func (v *Volume) Walk(ctx context.Context) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) { v.walk(ctx, "/", v.sb.Root, yield) }
}

// WalkFrom is Walk for the tree under the file f.
func (v *Volume) WalkFrom(ctx context.Context, f File) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) { v.walk(ctx, f.Path, f.Inode.Blkno(), yield) }
}

// walk yields an inode and what lies under it. What is still to be visited
// stands on a stack of its own: a disk can nest directories deeper than Go
// functions.
func (v *Volume) walk(ctx context.Context, path string, ino uint64, yield func(File, error) bool) {
	type link struct {
		path string
		ino  uint64
	}
	var entered marks
	stack := []link{{path, ino}}
	ahead := inodesAhead{v: v}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		f := File{Path: at.path}
		var err error
		if !ahead.has(at.ino) {
			var next []uint64
			for _, l := range stack[max(0, len(stack)-readAhead):] {
				next = append(next, l.ino)
			}
			ahead.read(ctx, next)
		}
		f.Inode, err = ahead.inode(ctx, at.ino)
		stack = stack[:len(stack)-1]
		if err == nil && f.Inode.IsDir() && !entered.add(at.ino) {
			err = corrupt(at.ino, []ocfs2.Fault{{Struct: "directory", Field: at.path, Got: "a second name", Want: "one name"}})
		}
		if !yield(f, err) {
			return
		}
		if err != nil || !f.Inode.IsDir() {
			continue
		}
		first := len(stack)
		for e, err := range v.ReadDir(ctx, f.Inode) {
			if err != nil {
				if !yield(File{Path: at.path}, err) {
					return
				}
				continue
			}
			if e.Ino != 0 && !e.IsDot() {
				stack = append(stack, link{join(at.path, e.Name), e.Ino})
			}
		}
		slices.Reverse(stack[first:])
	}
}

// Children yields the files in directory dir, with their names as paths, but for
// "." and "..".
func (v *Volume) Children(ctx context.Context, dir File) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		var (
			ahead = inodesAhead{v: v}
			names []string
			inos  []uint64
		)
		give := func() bool {
			ahead.read(ctx, inos)
			for i, ino := range inos {
				inode, err := ahead.inode(ctx, ino)
				if !yield(File{names[i], inode}, err) {
					return false
				}
			}
			names, inos = names[:0], inos[:0]
			return true
		}
		for e, err := range v.ReadDir(ctx, dir.Inode) {
			switch {
			case err != nil:
				if !give() || !yield(File{Path: dir.Path}, err) {
					return
				}
			case e.Ino != 0 && !e.IsDot():
				names, inos = append(names, string(e.Name)), append(inos, e.Ino)
				if len(inos) == readAhead && !give() {
					return
				}
			}
		}
		give()
	}
}

// readAhead is how many inodes are read at once.
const readAhead = 256

// inodesAhead holds inodes that will be wanted: to read many at once takes hardly
// longer than one.
type inodesAhead struct {
	v      *Volume
	blocks map[uint64][]byte // by inode, nil if it cannot be read
}

// has reports whether inode ino has been read, or cannot be.
func (a *inodesAhead) has(ino uint64) bool {
	_, ok := a.blocks[ino]
	return ok
}

// read reads inodes in place of those there were.
func (a *inodesAhead) read(ctx context.Context, inos []uint64) {
	a.blocks = make(map[uint64][]byte, len(inos))
	var segs []blockio.Segment
	for _, ino := range inos {
		if !a.has(ino) && a.v.sb.Contains(ino, 1) {
			segs = append(segs, blockio.Segment{Off: int64(ino) << a.v.sb.BlockBits, P: make([]byte, a.v.sb.BlockSize())}) //nolint:gosec // inside the volume
		}
		a.blocks[ino] = nil
	}
	failed := make([]bool, len(segs))
	if blockio.ReadSegments(ctx, a.v.r, segs, blockio.ReadOptions{Failed: func(i int, _ error) { failed[i] = true }}) != nil {
		return
	}
	for i, s := range segs {
		if !failed[i] {
			a.blocks[uint64(s.Off)>>a.v.sb.BlockBits] = s.P //nolint:gosec // not negative
		}
	}
}

// inode returns inode ino. What could not be read is read once more by itself,
// which tells why.
func (a *inodesAhead) inode(ctx context.Context, ino uint64) (ocfs2.Dinode, error) {
	if b := a.blocks[ino]; b != nil {
		return a.v.inodeIn(b, ino)
	}
	return a.v.Inode(ctx, ino)
}

func join(dir string, name []byte) string {
	return strings.TrimSuffix(dir, "/") + "/" + string(name)
}

// ReadDir yields the entries of directory d, unused ones (with inode 0) and "."
// and ".." among them. An entry's name is valid until the next is yielded.
func (v *Volume) ReadDir(ctx context.Context, d ocfs2.Dinode) iter.Seq2[ocfs2.DirEntry, error] {
	return func(yield func(ocfs2.DirEntry, error) bool) {
		v.readDir(ctx, d, func(e ocfs2.DirEntry, _ uint64, err error) bool { return yield(e, err) })
	}
}

// readDir is ReadDir that tells the block of each entry as well.
func (v *Volume) readDir(ctx context.Context, d ocfs2.Dinode, yield func(e ocfs2.DirEntry, blkno uint64, err error) bool) {
	ino := d.Blkno()
	if d.Union() == ocfs2.UnionInlineData {
		area := d.InlineData()
		v.entries(area[:min(uint64(len(area)), d.Size())], ino, yield)
		return
	}
	trailer := ocfs2.HasDirTrailer(d, v.sb)
	for run, err := range v.contents(ctx, d) {
		if err != nil {
			if !yield(ocfs2.DirEntry{}, ino, fmt.Errorf("directory %d: %w", ino, err)) {
				return
			}
			continue
		}
		bs := v.sb.BlockSize()
		for i := 0; i < len(run.data); i += bs {
			blkno := run.blkno + uint64(i/bs)
			if !v.entries(ocfs2.DirArea(run.data[i:][:bs], trailer), blkno, yield) {
				return
			}
		}
	}
}

// entries yields the entries in one area of block blkno.
func (v *Volume) entries(area []byte, blkno uint64, yield func(e ocfs2.DirEntry, blkno uint64, err error) bool) bool {
	for e, fault := range ocfs2.DirEntries(area) {
		var err error
		if fault != nil {
			err = corrupt(blkno, []ocfs2.Fault{*fault})
		}
		if !yield(e, blkno, err) {
			return false
		}
	}
	return true
}

// readChunk is how much of a file's contents is read at once, in bytes.
const readChunk = 256 << 10

// chunk is a piece of a file's contents: whole blocks, from block blkno on.
type chunk struct {
	blkno uint64
	data  []byte
}

// contents yields the blocks of d up to its size in chunks of at most
// readChunk bytes, which are valid until the next one. Holes are left out.
func (v *Volume) contents(ctx context.Context, d ocfs2.Dinode) iter.Seq2[chunk, error] {
	return func(yield func(chunk, error) bool) {
		var buf []byte
		end := (d.Size() + uint64(v.sb.BlockSize()) - 1) >> v.sb.BlockBits // blocks
		if d.Size() > v.sb.Bytes() {
			end = v.sb.Blocks()
		}
		found, behind := uint64(0), uint64(0) // blocks before the end, and an extent behind it
		for x, err := range v.Extents(ctx, d) {
			if err != nil {
				if !yield(chunk{}, err) {
					return
				}
				continue
			}
			if x.Logical >= end {
				behind = x.Logical
				continue // others may follow that are not, and errors
			}
			n := min(x.Blocks, end-x.Logical)
			found += n
			for done, step := uint64(0), uint64(readChunk)>>v.sb.BlockBits; done < n; done += step {
				if buf == nil {
					buf = make([]byte, readChunk)
				}
				c := chunk{blkno: x.Blkno + done, data: buf[:min(step, n-done)<<v.sb.BlockBits]}
				err := v.readBlocks(ctx, c.data, c.blkno)
				if !yield(c, err) {
					return
				}
			}
		}
		if behind > 0 && found < end {
			yield(chunk{}, corrupt(d.Blkno(), []ocfs2.Fault{{
				Struct: "ocfs2_extent_rec", Field: "e_cpos", Got: fmt.Sprintf("an extent of block %d of the contents", behind),
				Want: fmt.Sprintf("contents of %d blocks, of which %d are there", end, found),
			}}))
		}
	}
}

// Lookup returns the inode that path names, from the root directory on. It
// does not follow symlinks. If there is no such file the error is
// [fs.ErrNotExist].
func (v *Volume) Lookup(ctx context.Context, path string) (ocfs2.Dinode, error) {
	d, err := v.Inode(ctx, v.sb.Root)
	if err != nil {
		return ocfs2.Dinode{}, fmt.Errorf("root directory: %w", err)
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		if d, err = v.lookupIn(ctx, d, name); err != nil {
			return ocfs2.Dinode{}, err
		}
	}
	return d, nil
}

// lookupIn returns the inode that name has in directory dir.
func (v *Volume) lookupIn(ctx context.Context, dir ocfs2.Dinode, name string) (ocfs2.Dinode, error) {
	if !dir.IsDir() {
		return ocfs2.Dinode{}, fmt.Errorf("%q: inode %d is not a directory: %w", name, dir.Blkno(), fs.ErrNotExist)
	}
	var damaged error
	for e, err := range v.ReadDir(ctx, dir) {
		if err != nil {
			damaged = err
		} else if e.Ino != 0 && string(e.Name) == name {
			return v.Inode(ctx, e.Ino)
		}
	}
	if damaged != nil {
		return ocfs2.Dinode{}, fmt.Errorf("look for %q: %w", name, damaged)
	}
	return ocfs2.Dinode{}, fmt.Errorf("%q in directory %d: %w", name, dir.Blkno(), fs.ErrNotExist)
}

// maxTarget bounds the target of a symlink (PATH_MAX of Linux), in bytes.
const maxTarget = 4096

// Readlink returns the target of the symlink d.
func (v *Volume) Readlink(ctx context.Context, d ocfs2.Dinode) (string, error) {
	if !d.IsSymlink() {
		return "", fmt.Errorf("inode %d is not a symlink: %w", d.Blkno(), fs.ErrInvalid)
	}
	if d.Union() == ocfs2.UnionFastSymlink {
		return string(d.FastSymlink()), nil
	}
	if d.Size() > maxTarget {
		return "", &ocfs2.BlockError{Block: d.Blkno(), Err: ocfs2.ErrCorrupt, Fault: ocfs2.Fault{
			Struct: "ocfs2_dinode", Field: "i_size", Got: fmt.Sprint(d.Size()), Want: fmt.Sprintf("at most %d in a symlink", maxTarget),
		}}
	}
	var target []byte
	for c, err := range v.contents(ctx, d) {
		if err != nil {
			return "", fmt.Errorf("symlink %d: %w", d.Blkno(), err)
		}
		target = append(target, c.data...)
	}
	return string(target[:min(uint64(len(target)), d.Size())]), nil
}
