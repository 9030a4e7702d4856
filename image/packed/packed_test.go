// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/bits"

	"o2image/blockset"
	"o2image/image"
	"o2image/image/packed"
	"o2image/ocfs2"
)

var le = binary.LittleEndian

// tester is what *testing.T, B, F and *rapid.T have in common, as far as it is
// used here.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// volume is a volume and its geometry.
type volume struct {
	ocfs2.Geometry
	io.ReaderAt
}

// newVolume returns a volume that has nothing but a superblock in block 2, and
// bytes that tell where they stand in all others.
func newVolume(tb tester, blockSize, clusterSize int, clusters uint32) *volume {
	tb.Helper()
	g := ocfs2.Geometry{
		BlockBits:   uint8(bits.Len(uint(blockSize)) - 1),
		ClusterBits: uint8(bits.Len(uint(clusterSize)) - 1),
		Clusters:    clusters,
	}
	return &volume{g, content{size: int64(g.Bytes()), super: superBlock(g, 2)}}
}

// content is the bytes of such a volume.
type content struct {
	size  int64
	super []byte
}

func (c content) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(p)), c.size-off)))
	for i := range n {
		at := uint64(off) + uint64(i)
		p[i] = byte((at / 8 * 0x9E3779B97F4A7C15) >> (8 * (at % 8)))
	}
	if at := 2*int64(len(c.super)) - off; at >= 0 && at < int64(n) {
		copy(p[at:n], c.super)
	} else if at < 0 && -at < int64(len(c.super)) {
		copy(p[:n], c.super[-at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// superBlock returns a block with the fields of a superblock that the format
// text (struct ocfs2_dinode and struct ocfs2_super_block) asks of one.
func superBlock(g ocfs2.Geometry, blkno uint64) []byte {
	b := make([]byte, g.BlockSize())
	copy(b, "OCFSV2")
	le.PutUint32(b[0x08:], 0x12345678)                 // i_generation
	le.PutUint32(b[0x14:], g.Clusters)                 // i_clusters
	le.PutUint32(b[0x2C:], 0x31)                       // i_flags
	le.PutUint64(b[0x50:], blkno)                      // i_blkno
	le.PutUint32(b[0x60:], 0x12345678)                 // i_fs_generation
	le.PutUint16(b[0xC2:], 90)                         // s_minor_rev_level
	le.PutUint64(b[0xC0+0x28:], 5)                     // s_root_blkno
	le.PutUint64(b[0xC0+0x30:], 6)                     // s_system_dir_blkno
	le.PutUint32(b[0xC0+0x38:], uint32(g.BlockBits))   // s_blocksize_bits
	le.PutUint32(b[0xC0+0x3C:], uint32(g.ClusterBits)) // s_clustersize_bits
	le.PutUint16(b[0xC0+0x40:], 1)                     // s_max_slots
	return b
}

// blocks returns the bytes of n blocks.
func (v *volume) blocks(tb tester, start, n uint64) []byte {
	tb.Helper()
	b := make([]byte, n<<v.BlockBits)
	if _, err := v.ReadAt(b, int64(start)<<v.BlockBits); err != nil {
		tb.Fatal(err)
	}
	return b
}

// setOf returns the set of the blocks of runs, each a start and a length.
func setOf(runs ...[2]uint64) *blockset.Set {
	b := blockset.NewBuilder()
	for _, r := range runs {
		b.Add(r[0], r[1], 0)
	}
	return b.Seal()
}

// build writes the image proper of a layout as the package comment of image
// tells a copier to.
func build(tb tester, v *volume, l image.Layout) []byte {
	tb.Helper()
	file := make([]byte, l.Size())
	bs := v.BlockSize()
	next := int64(0)
	for p, err := range l.Pieces() {
		if err != nil {
			tb.Fatal(err)
		}
		if p.Off < next || p.Off%image.PieceSize != 0 || p.Len > image.PieceSize || p.Off+int64(p.Len) > l.Size() {
			tb.Fatalf("piece %+v behind byte %d of %d", p, next, l.Size())
		}
		next = p.Off + int64(p.Len)
		buf := make([]byte, p.Len)
		l.Fill(p, buf)
		at := 0
		for _, s := range p.Segments {
			if s.At < at || s.Count <= 0 || s.At+s.Count*bs > p.Len {
				tb.Fatalf("segment %+v of piece %+v behind byte %d", s, p, at)
			}
			at = s.At + s.Count*bs
			for i := s.At; i < at; i++ {
				if buf[i] != 0 {
					tb.Fatalf("Fill wrote at byte %d of piece %+v, where a block belongs", i, p)
				}
			}
			if _, err := v.ReadAt(buf[s.At:at], int64(s.Blkno)*int64(bs)); err != nil {
				tb.Fatal(err)
			}
		}
		copy(file[p.Off:], buf)
	}
	return file
}

// pack returns the image proper with the blocks of set.
func pack(tb tester, v *volume, set *blockset.Set, opts packed.LayoutOptions) ([]byte, *packed.Layout) {
	tb.Helper()
	l, err := packed.NewLayout(set, v.Geometry, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return build(tb, v, l), l
}

// leaves hashes the pieces of an image.
func leaves(file []byte) [][sha256.Size]byte {
	var list [][sha256.Size]byte
	for len(file) > 0 {
		n := min(len(file), image.PieceSize)
		list = append(list, packed.HashPiece(file[:n]))
		file = file[n:]
	}
	return list
}

func open(tb tester, file []byte) *packed.Reader {
	tb.Helper()
	r, err := packed.Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// runsOf returns what Runs yields.
func runsOf(tb tester, r *packed.Reader) []image.Run {
	tb.Helper()
	var runs []image.Run
	for run, err := range r.Runs() {
		if err != nil {
			tb.Fatal(err)
		}
		runs = append(runs, run)
	}
	return runs
}

// spans returns the runs of a set.
func spans(set *blockset.Set) []image.Run {
	var runs []image.Run
	for start, n := range set.Spans() {
		runs = append(runs, image.Run{Start: start, Len: n})
	}
	return runs
}
