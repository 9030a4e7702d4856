// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package upstreamset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bits of i_flags and i_dyn_features, and types in i_mode (struct ocfs2_dinode).
const (
	flagSystem     = 0x0010
	flagSuper      = 0x0020
	flagLocalAlloc = 0x0040
	flagChain      = 0x0400
	flagDealloc    = 0x0800

	dynInlineData  = 0x0001
	dynHasXattr    = 0x0002
	dynInlineXattr = 0x0004
	dynIndexedDir  = 0x0008

	typeMask    = 0xF000
	typeDir     = 0x4000
	typeSymlink = 0xA000
)

// maxDepth bounds the depth of an extent tree (OCFS2_MAX_PATH_DEPTH is 5).
const maxDepth = 16

var le = binary.LittleEndian

// inode is the block of an inode (struct ocfs2_dinode).
type inode []byte

func (d inode) clusters() uint32    { return le.Uint32(d[0x14:]) }
func (d inode) size() uint64        { return le.Uint64(d[0x20:]) } // bytes
func (d inode) kind() uint16        { return le.Uint16(d[0x28:]) & typeMask }
func (d inode) flags() uint32       { return le.Uint32(d[0x2C:]) }
func (d inode) dyn() uint16         { return le.Uint16(d[0x76:]) }
func (d inode) xattrLoc() uint64    { return le.Uint64(d[0x78:]) }
func (d inode) indexRoot() uint64   { return le.Uint64(d[0x88:]) }
func (d inode) is(flag uint32) bool { return d.flags()&flag != 0 }
func (d inode) has(dyn uint16) bool { return d.dyn()&dyn != 0 }

// fastSymlink tells whether the union holds the target of a symlink.
func (d inode) fastSymlink() bool {
	return d.kind() == typeSymlink && d.size() > 0 && d.clusters() == 0
}

// hasList tells whether the union holds an extent list.
func (d inode) hasList() bool {
	return !d.is(flagSuper|flagLocalAlloc|flagChain|flagDealloc) && !d.has(dynInlineData) && !d.fastSymlink()
}

// union returns the bytes of the union id2, without the inline attributes that
// take the block's end.
func (d inode) union() ([]byte, error) {
	end := len(d)
	if d.has(dynInlineXattr) {
		x := int(le.Uint16(d[0x12:]))
		if x > len(d)-0xD0 {
			return nil, fmt.Errorf("inline attributes of %d bytes", x)
		}
		end -= x
	}
	return d[0xC0:end], nil
}

// volume is an OCFS2 volume and what its superblock says.
type volume struct {
	r                io.ReaderAt
	blockSize        int    // bytes
	blocksPerCluster uint64 // blocks
	blocks           uint64 // size of the volume
	backup           bool   // backup superblocks are maintained
	systemDir        uint64 // block of the inode
	maxSlots         int
	firstGroup       uint64 // descriptor of the global bitmap's first group
}

// open finds the superblock of the volume in r.
func open(r io.ReaderAt) (*volume, error) {
	for bits := 9; bits <= 12; bits++ {
		v := &volume{r: r, blockSize: 1 << bits, blocks: 3}
		b, err := v.read(2)
		if err != nil {
			return nil, err
		}
		if !bytes.HasPrefix(b, []byte("OCFSV2")) {
			continue
		}
		if got := le.Uint32(b[0xF8:]); got != uint32(bits) {
			return nil, fmt.Errorf("superblock: block size bits %d in a block of %d bytes", got, v.blockSize)
		}
		clusterBits := le.Uint32(b[0xFC:])
		if clusterBits < 12 || clusterBits > 20 {
			return nil, fmt.Errorf("superblock: cluster size bits %d", clusterBits)
		}
		v.blocksPerCluster = 1 << (clusterBits - uint32(bits))
		v.blocks = uint64(inode(b).clusters()) * v.blocksPerCluster
		v.backup = le.Uint32(b[0xDC:])&1 != 0
		v.systemDir = le.Uint64(b[0xF0:])
		v.maxSlots = int(le.Uint16(b[0x100:]))
		v.firstGroup = le.Uint64(b[0x108:])
		if v.firstGroup >= v.blocks {
			return nil, fmt.Errorf("superblock: first cluster group %d in a volume of %d blocks", v.firstGroup, v.blocks)
		}
		return v, nil
	}
	return nil, errors.New("superblock: none found")
}

// read returns block n. Blocks 0 and 1, which no structure refers to, are
// refused as those behind the volume's end are.
func (v *volume) read(n uint64) ([]byte, error) {
	if n < 2 || n >= v.blocks {
		return nil, fmt.Errorf("block %d of %d: out of range", n, v.blocks)
	}
	b := make([]byte, v.blockSize)
	if k, err := v.r.ReadAt(b, int64(n)*int64(v.blockSize)); k < len(b) {
		return nil, fmt.Errorf("block %d: %w", n, err)
	}
	return b, nil
}

// readSigned returns block n, which must carry the signature.
func (v *volume) readSigned(n uint64, signature string) ([]byte, error) {
	b, err := v.read(n)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, []byte(signature)) {
		return nil, fmt.Errorf("block %d: signature %q, want %q", n, b[:8], signature)
	}
	return b, nil
}

// readInode returns the inode in block n.
func (v *volume) readInode(n uint64) (inode, error) {
	b, err := v.readSigned(n, "INODE01")
	return inode(b), err
}

// backups returns the blocks of the backup superblocks.
func (v *volume) backups() []uint64 {
	var blocks []uint64
	if v.backup {
		for i := range 6 {
			n := uint64(1) << (30 + 2*i) / uint64(v.blockSize)
			if n >= v.blocks {
				break
			}
			blocks = append(blocks, n)
		}
	}
	return blocks
}

// record is a record of an extent tree: an extent block, or a run of clusters.
type record struct {
	leaf  bool
	start uint64 // first block
	count uint64 // blocks; 0 in a leaf record that is empty
}

// tree returns the records of the extent tree whose root is list, in the order
// of their keys, each extent block before the records in it. The bytes of list
// go as far as its records may.
func (v *volume) tree(list []byte) ([]record, error) {
	return v.appendTree(nil, list, -1, make(map[uint64]bool))
}

// appendTree appends the records of the tree below list to recs. The list has the
// given depth; -1 stands for any, which is that of a root. Seen are the extent
// blocks met.
func (v *volume) appendTree(recs []record, list []byte, depth int, seen map[uint64]bool) ([]record, error) {
	if len(list) < 0x10 {
		return nil, fmt.Errorf("extent list of %d bytes", len(list))
	}
	used, capacity := int(le.Uint16(list[4:])), int(le.Uint16(list[2:]))
	if used == 0 {
		return recs, nil
	}
	if used > capacity || used > (len(list)-0x10)/0x10 {
		return nil, fmt.Errorf("extent list: %d records of %d in %d bytes", used, capacity, len(list))
	}
	own := int(le.Uint16(list))
	if own > maxDepth || depth >= 0 && own != depth {
		return nil, fmt.Errorf("extent list: depth %d", own)
	}
	for i := range used {
		rec := list[0x10+0x10*i:]
		start := le.Uint64(rec[8:])
		if own == 0 {
			count := uint64(le.Uint16(rec[4:])) * v.blocksPerCluster
			if count > 0 && (start >= v.blocks || count > v.blocks-start) {
				return nil, fmt.Errorf("extent list: blocks %d and the %d from there, of %d", start, count, v.blocks)
			}
			recs = append(recs, record{leaf: true, start: start, count: count})
			continue
		}
		if seen[start] {
			return nil, fmt.Errorf("extent block %d: found twice", start)
		}
		seen[start] = true
		b, err := v.readSigned(start, "EXBLK01")
		if err != nil {
			return nil, err
		}
		recs = append(recs, record{start: start, count: 1})
		if recs, err = v.appendTree(recs, b[0x30:], own-1, seen); err != nil {
			return nil, fmt.Errorf("extent block %d: %w", start, err)
		}
	}
	return recs, nil
}

// allocators looks up in the system directory the inodes of the allocators that
// are not like the others.
func (v *volume) allocators() (globalBitmap, globalInodes uint64, inodeAllocs map[uint64]bool, err error) {
	names, err := v.systemFiles()
	if err != nil {
		return 0, 0, nil, fmt.Errorf("system directory %d: %w", v.systemDir, err)
	}
	find := func(name string) uint64 {
		n, ok := names[name]
		if !ok && err == nil {
			err = fmt.Errorf("system directory %d: no %s", v.systemDir, name)
		}
		return n
	}
	inodeAllocs = make(map[uint64]bool)
	for slot := range v.maxSlots {
		inodeAllocs[find(fmt.Sprintf("inode_alloc:%04d", slot))] = true
	}
	return find("global_bitmap"), find("global_inode_alloc"), inodeAllocs, err
}

// systemFiles returns the names in the system directory with their inodes.
func (v *volume) systemFiles() (map[string]uint64, error) {
	dir, err := v.readInode(v.systemDir)
	if err != nil {
		return nil, err
	}
	union, err := dir.union()
	if err != nil {
		return nil, err
	}
	names := make(map[string]uint64)
	if dir.has(dynInlineData) {
		if room := uint64(len(union) - 8); dir.size() > room {
			return nil, fmt.Errorf("%d bytes of entries in room for %d", dir.size(), room)
		}
		return names, addEntries(names, union[8:8+dir.size()])
	}
	recs, err := v.tree(union)
	if err != nil {
		return nil, err
	}
	left := dir.size() / uint64(v.blockSize)
	for _, rec := range recs {
		if !rec.leaf {
			continue
		}
		for i := uint64(0); i < rec.count && left > 0; i++ {
			b, err := v.read(rec.start + i)
			if err != nil {
				return nil, err
			}
			if err := addEntries(names, b); err != nil {
				return nil, fmt.Errorf("block %d: %w", rec.start+i, err)
			}
			left--
		}
	}
	return names, nil
}

// addEntries adds to names the entries in area (struct ocfs2_dir_entry). A
// block's trailer looks like an entry without an inode.
func addEntries(names map[string]uint64, area []byte) error {
	for len(area) >= 12 {
		length, nameLen := int(le.Uint16(area[8:])), int(area[0x0A])
		if length < 12+nameLen || length > len(area) {
			return fmt.Errorf("directory entry of %d bytes with a name of %d", length, nameLen)
		}
		if n := le.Uint64(area); n != 0 {
			names[string(area[12:12+nameLen])] = n
		}
		area = area[length:]
	}
	return nil
}
