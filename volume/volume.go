// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"o2image/blockio"
	"o2image/ocfs2"
)

// Volume is an opened OCFS2 volume.
type Volume struct {
	r  io.ReaderAt
	sb *ocfs2.SuperBlock

	found     []Finding // about the superblock
	witnesses int       // how many of the structures that it leads to are there
	salvaged  bool      // it had to be put together
}

// Super returns the superblock that the volume was opened by.
func (v *Volume) Super() *ocfs2.SuperBlock { return v.sb }

// ReadAt reads from the volume; off is in bytes from its start.
func (v *Volume) ReadAt(p []byte, off int64) (int, error) { return v.r.ReadAt(p, off) }

// ReadBlock returns a copy of block blkno.
func (v *Volume) ReadBlock(ctx context.Context, blkno uint64) ([]byte, error) {
	b := make([]byte, v.sb.BlockSize())
	if err := v.readBlocks(ctx, b, blkno); err != nil {
		return nil, err
	}
	return b, nil
}

// readBlocks fills b, whole blocks, from block blkno on.
func (v *Volume) readBlocks(ctx context.Context, b []byte, blkno uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n := uint64(len(b)) >> v.sb.BlockBits
	if total := v.sb.Blocks(); n > total || blkno > total-n {
		return &ocfs2.BlockError{Block: blkno, Fault: ocfs2.Fault{
			Field: "block number", Got: fmt.Sprint(blkno), Want: fmt.Sprintf("less than %d, the volume's blocks", total),
		}}
	}
	if err := blockio.ReadFull(v.r, b, int64(blkno)<<v.sb.BlockBits); err != nil {
		return fmt.Errorf("read block %d: %w", blkno, err)
	}
	return nil
}

// Inode returns the inode in block ino. An inode's number is its block.
func (v *Volume) Inode(ctx context.Context, ino uint64) (ocfs2.Dinode, error) {
	b, err := v.ReadBlock(ctx, ino)
	if err != nil {
		return ocfs2.Dinode{}, fmt.Errorf("inode %d: %w", ino, err)
	}
	return v.inodeIn(b, ino)
}

// inodeIn returns the inode in b, which was read from block ino.
func (v *Volume) inodeIn(b []byte, ino uint64) (ocfs2.Dinode, error) {
	if faults := ocfs2.KindInode.Identity(b, ino, v.sb.Generation); len(faults) > tolerated {
		return ocfs2.Dinode{}, corrupt(ino, faults)
	}
	return ocfs2.AsDinode(b), nil
}

// tolerated is how many of its marks a block may lack and yet be taken for what
// it should be: of signature, own number and generation the others still speak
// for it.
const tolerated = 1

// corrupt makes an error of the first of the faults found in block blkno.
func corrupt(blkno uint64, faults []ocfs2.Fault) error {
	return &ocfs2.BlockError{Block: blkno, Fault: faults[0], Err: ocfs2.ErrCorrupt}
}

// SystemFile returns the inode of a file of the system directory, for instance
// "global_bitmap" or "journal:0000". If there is no such file the error is
// [fs.ErrNotExist].
func (v *Volume) SystemFile(ctx context.Context, name string) (ocfs2.Dinode, error) {
	dir, err := v.Inode(ctx, v.sb.SystemDir)
	if err != nil {
		return ocfs2.Dinode{}, fmt.Errorf("system directory: %w", err)
	}
	return v.lookupIn(ctx, dir, name)
}

// systemFiles returns the inode numbers of the files in the system directory,
// by name, and the first error met on the way.
func (v *Volume) systemFiles(ctx context.Context) (map[string]uint64, error) {
	dir, err := v.Inode(ctx, v.sb.SystemDir)
	if err != nil {
		return nil, fmt.Errorf("system directory: %w", err)
	}
	var damaged error
	files := make(map[string]uint64)
	for e, err := range v.ReadDir(ctx, dir) {
		switch {
		case err != nil:
			damaged = cmp.Or(damaged, fmt.Errorf("system directory: %w", err))
		case e.Ino != 0 && len(files) < maxSystemFiles:
			files[string(e.Name)] = e.Ino
		}
	}
	return files, damaged
}

// maxSystemFiles bounds the system files that are looked at: some twenty names
// that every volume has, and eight for each of 255 slots.
const maxSystemFiles = 4096
