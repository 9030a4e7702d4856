// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"o2image/blockset"
	"o2image/image"
	"o2image/image/packed"
	"o2image/ocfs2"
)

// TestRoundTrip packs random sets of random volumes, and wants the same set and
// the same blocks back.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		blockSize := 512 << rapid.IntRange(0, 3).Draw(t, "block size")
		clusterSize := 4096 << rapid.IntRange(0, 2).Draw(t, "cluster size")
		// Up to 3 pages of the bitmap with the smallest blocks.
		clusters := rapid.Uint32Range(3, uint32(100_000*512/clusterSize)).Draw(t, "clusters")
		v := newVolume(t, blockSize, clusterSize, clusters)
		blocks := v.Blocks()

		b := blockset.NewBuilder()
		b.Add(0, 3, 0)
		for range rapid.IntRange(0, 50).Draw(t, "runs") {
			start := rapid.Uint64Range(0, blocks-1).Draw(t, "start")
			b.Add(start, rapid.Uint64Range(1, min(blocks-start, 1000)).Draw(t, "length"), uint8(start%3))
		}
		set := b.Seal()
		file, l := pack(t, v, set, packed.LayoutOptions{})
		if want := int64(blockSize)*int64(1+set.Count()) + int64((blocks-1)/32768+1)*4096; l.Size() != want {
			t.Fatalf("image of %d bytes, want %d", l.Size(), want)
		}
		r := open(t, file)
		if diff := cmp.Diff(spans(set), runsOf(t, r)); diff != "" {
			t.Fatalf("runs (-want +got):\n%s", diff)
		}
		for start, n := range set.Spans() {
			got := make([]byte, n*uint64(blockSize))
			if _, err := r.ReadAt(got, int64(start)*int64(blockSize)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, v.blocks(t, start, n)) {
				t.Fatalf("blocks %d to %d differ", start, start+n-1)
			}
		}
		for range 50 {
			blkno := rapid.Uint64Range(0, blocks+1).Draw(t, "block")
			has, err := r.Has(blkno)
			if err != nil || has != set.Has(blkno) {
				t.Fatalf("Has(%d) is %v, %v, want %v", blkno, has, err, set.Has(blkno))
			}
		}
	})
}

// TestReadAt reads ranges of a volume of which blocks 0 to 8, 20 to 39 and the
// last 10 are stored.
func TestReadAt(t *testing.T) {
	v := newVolume(t, 1024, 4096, 25)
	file, _ := pack(t, v, setOf([2]uint64{0, 9}, [2]uint64{20, 20}, [2]uint64{90, 10}), packed.LayoutOptions{})
	r := open(t, file)
	size := v.Bytes()
	if r.ImageSize() != int64(len(file)) || r.Size() != int64(size) || r.BlockSize() != 1024 || r.Blocks() != 100 {
		t.Errorf("image size %d, size %d, block size %d, blocks %d", r.ImageSize(), r.Size(), r.BlockSize(), r.Blocks())
	}
	tests := []struct {
		name   string
		off    int64
		len    int
		want   int
		absent string // text of the error
		err    error
	}{
		{"one block", 20 << 10, 1024, 1024, "", nil},
		{"all blocks of a run", 20 << 10, 20 << 10, 20 << 10, "", nil},
		{"any bytes", 20<<10 + 7, 5000, 5000, "", nil},
		{"nothing", 10 << 10, 0, 0, "", nil},
		{"the last byte of a run", 9<<10 - 1, 1, 1, "", nil},
		{"the first byte behind", 9 << 10, 1, 0, "block 9: not in the image", image.ErrAbsent},
		{"across the end of a run", 9<<10 - 1, 2, 0, "block 9: not in the image", image.ErrAbsent},
		{"across a gap", 8 << 10, 13 << 10, 0, "block 9: not in the image", image.ErrAbsent},
		{"in front of a run", 19<<10 + 5, 2048, 0, "block 19: not in the image", image.ErrAbsent},
		{"up to the end", 98 << 10, 2048, 2048, "", nil},
		{"across the end", 98 << 10, 4096, 2048, "", io.EOF},
		{"at the end", 100 << 10, 1, 0, "", io.EOF},
		{"far behind", 1 << 62, 1, 0, "", io.EOF},
		{"negative", -1, 1, 0, "negative offset -1", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make([]byte, tt.len)
			n, err := r.ReadAt(got, tt.off)
			if n != tt.want {
				t.Errorf("read %d bytes, want %d", n, tt.want)
			}
			switch {
			case tt.absent != "":
				if err == nil || !strings.Contains(err.Error(), tt.absent) {
					t.Errorf("got error %v, want %q", err, tt.absent)
				}
				if tt.err != nil && !errors.Is(err, tt.err) {
					t.Errorf("got error %v, want %v", err, tt.err)
				}
			case !errors.Is(err, tt.err):
				t.Errorf("got error %v, want %v", err, tt.err)
			}
			want := make([]byte, n)
			if _, err := v.ReadAt(want, tt.off); n > 0 && (err != nil || !bytes.Equal(got[:n], want)) {
				t.Errorf("other bytes than the volume has, %v", err)
			}
			if !bytes.Equal(got[n:], make([]byte, tt.len-n)) {
				t.Errorf("bytes written behind those that were read")
			}
		})
	}
}

// counting counts the reads of a file.
type counting struct {
	io.ReaderAt
	reads int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	return c.ReaderAt.ReadAt(p, off)
}

// TestReadAtIsOneRead reads a run that lies in four pages of the bitmap.
func TestReadAtIsOneRead(t *testing.T) {
	v := newVolume(t, 512, 4096, 4*32768/8)
	file, _ := pack(t, v, setOf([2]uint64{0, 4 * 32768}), packed.LayoutOptions{})
	c := &counting{ReaderAt: bytes.NewReader(file)}
	r, err := packed.Open(c, int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, v.Bytes())
	c.reads = 0
	if _, err := r.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	// Page 0 was looked at for the superblock.
	if want := 3 + 1; c.reads != want {
		t.Errorf("%d reads, want %d", c.reads, want)
	}
	if !bytes.Equal(got, v.blocks(t, 0, v.Blocks())) {
		t.Error("other bytes than the volume has")
	}
}

// TestConcurrentReads reads from many goroutines at once, over more pages of
// the bitmap than are kept.
func TestConcurrentReads(t *testing.T) {
	t.Parallel()
	const pages = 300
	v := newVolume(t, 512, 4096, pages*32768/8)
	b := blockset.NewBuilder()
	b.Add(0, 3, 0)
	for n := uint64(3); n < v.Blocks(); n += 5000 {
		b.Add(n, 7, 0)
	}
	set := b.Seal()
	file, _ := pack(t, v, set, packed.LayoutOptions{})
	r := open(t, file)
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 0))
			got := make([]byte, 512)
			for range 3000 {
				n, _ := set.Select(rnd.Uint64N(set.Count()))
				if _, err := r.ReadAt(got, int64(n)*512); err != nil || !bytes.Equal(got, v.blocks(t, n, 1)) {
					t.Errorf("block %d: %v, or other bytes than the volume has", n, err)
					return
				}
				n = rnd.Uint64N(v.Blocks())
				if has, err := r.Has(n); err != nil || has != set.Has(n) {
					t.Errorf("Has(%d) is %v, %v", n, has, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestBitsBehindTheEnd opens images with noise where bits have no meaning, as
// 1.8.7 makes them.
func TestBitsBehindTheEnd(t *testing.T) {
	for _, blocks := range []uint64{3, 797, 800, 32767, 32768, 32769} {
		v := newVolume(t, 4096, 4096, uint32(blocks))
		set := setOf([2]uint64{0, 3}, [2]uint64{blocks - 3, 3})
		file, l := pack(t, v, set, packed.LayoutOptions{})
		bitmap := file[int64(1+set.Count())*4096 : l.Size()]
		for i := blocks; i < uint64(len(bitmap))*8; i++ {
			bitmap[i/8] |= 1 << (i % 8)
		}
		if diff := cmp.Diff(spans(set), runsOf(t, open(t, file))); diff != "" {
			t.Errorf("%d blocks: runs (-want +got):\n%s", blocks, diff)
		}
	}
}

// recordAt and recordLen say where an image has its record, which those of 1.8.7
// lack.
const recordAt, recordLen = 0x80, 0x30

// TestOpenErrors breaks an image without a record one thing at a time.
func TestOpenErrors(t *testing.T) {
	v := newVolume(t, 4096, 4096, 2000)
	set := setOf([2]uint64{0, 9}, [2]uint64{100, 50})
	file, l := pack(t, v, set, packed.LayoutOptions{})
	file = change(file, recordAt, make([]byte, recordLen)...)
	size := int(l.Size())
	bitmapAt := size - 4096
	const superAt = 3 * 4096 // image block of block 2
	tests := []struct {
		name   string
		file   []byte
		format bool
		want   string
	}{
		{"empty", nil, true, ""},
		{"a header and no more", file[:120], true, ""},
		{"a volume", v.blocks(t, 0, 3), true, ""},
		{"version 2", change(file, 0x18, 2), false, "image version 2 is newer"},
		{"block size 0", change(file, 0x28, u64(0)...), false, "block size is 0"},
		{"block count 1", change(file, 0x20, u64(1)...), false, "volume of 1 blocks"},
		{"block count 2^36", change(file, 0x20, u64(1<<36)...), false, "image is cut off: the file has 249856 bytes, its header promises 8590180352"},
		{"block count 2^60", change(file, 0x20, u64(1<<60)...), false, "volume of 1152921504606846976 blocks"},
		{"image count 2^62", change(file, 0x30, u64(1<<62)...), false, "blocks stored of a volume"},
		{"image count larger than the file", change(file, 0x30, u64(1000)...), false, "image is cut off"},
		{"bitmap missing", file[:bitmapAt], false, "image is cut off: the file has 245760 bytes, its header promises 249856"},
		{"half the file", file[:size/2], false, "image is cut off"},
		{"a byte missing", file[:size-1], false, "image is cut off"},
		{"bitmap all ones", change(file, bitmapAt, bytes.Repeat([]byte{0xFF}, 4096)...), false, "more blocks are marked than the 59"},
		{"bitmap all zeros", change(file, bitmapAt, make([]byte, 4096)...), false, "0 blocks are marked, the header says that 59 are stored"},
		{"a bit less", change(file, bitmapAt+1, 0), false, "58 blocks are marked"},
		{"a bit more", change(file, bitmapAt+1, 3), false, "more blocks are marked"},
		{"image count one less", change(file, 0x30, u64(58)...), false, "image bitmap"},
		{"bit of the superblock moved", change(file, bitmapAt, 0xFB, 0x03), false, "block 2: not in the image"},
		{"no superblock", change(file, superAt, make([]byte, 4096)...), false, "i_signature"},
		{"block size of the superblock", change(file, superAt+0xF8, 10), false, "s_blocksize_bits"},
		{"size of the superblock", change(file, superAt+0x14, 0xD1), false, "block 2: volume of 2001 blocks, the image header says 2000"},
		{"size of the header", change(file, 0x20, u64(2001)...), false, "volume of 2000 blocks, the image header says 2001"},
		{"cluster size of the superblock", change(file, superAt+0xFC, 13), false, "volume of 4000 blocks"},
		{"absurd cluster size", change(file, superAt+0xFC, 0xFF, 0xFF, 0xFF, 0xFF), false, "s_clustersize_bits"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := packed.Open(bytes.NewReader(tt.file), int64(len(tt.file)))
			if err == nil || r != nil {
				t.Fatalf("got %v, %v, want an error alone", r, err)
			}
			if errors.Is(err, image.ErrFormat) != tt.format || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %q, want %q, ErrFormat %v", err, tt.want, tt.format)
			}
		})
	}
}

// TestOpenTolerates opens images that are odd, but of which every block can be
// had.
func TestOpenTolerates(t *testing.T) {
	v := newVolume(t, 4096, 4096, 2000)
	file, _ := pack(t, v, setOf([2]uint64{0, 9}), packed.LayoutOptions{})
	const superAt = 3 * 4096
	tests := map[string][]byte{
		"version 0":             change(file, 0x18, 0),
		"superblock count 1000": change(file, 0x40, u64(1000)...),
		"a longer file":         append(bytes.Clone(file), "anything"...),
		"heap in the padding":   change(file, 0x1F0, 1, 2, 3, 4),
		"a damaged superblock":  change(file, superAt+0xE8, bytes.Repeat([]byte{0xFF}, 16)...),
	}
	for name, file := range tests {
		t.Run(name, func(t *testing.T) {
			want := []image.Run{{Start: 0, Len: 9}}
			if diff := cmp.Diff(want, runsOf(t, open(t, file))); diff != "" {
				t.Errorf("runs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOpenBackup opens an image of a volume that lost its superblock, but whose
// backup is stored.
func TestOpenBackup(t *testing.T) {
	g := ocfs2.Geometry{BlockBits: 12, ClusterBits: 20, Clusters: 1025}
	const backup = 1 << 30 / 4096
	set := setOf([2]uint64{0, 9}, [2]uint64{backup, 1})
	l, err := packed.NewLayout(set, g, packed.LayoutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	file := make([]byte, l.Size())
	for p := range l.Pieces() {
		l.Fill(p, file[p.Off:p.Off+int64(p.Len)])
	}
	if _, err := packed.Open(bytes.NewReader(file), l.Size()); err != nil {
		t.Errorf("no superblock, but a record: %v", err)
	}
	file = change(file, recordAt, make([]byte, recordLen)...)
	if _, err := packed.Open(bytes.NewReader(file), l.Size()); err == nil || !strings.Contains(err.Error(), "block 2") {
		t.Errorf("no superblock: got error %v, want one that names block 2", err)
	}
	copy(file[10*4096:], superBlock(g, backup))
	if _, err := packed.Open(bytes.NewReader(file), l.Size()); err != nil {
		t.Errorf("backup superblock: %v", err)
	}
}

// sparse is a file of which only the first bytes are not a hole.
type sparse struct {
	data []byte
	size int64
	read int64 // bytes
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), s.size-off))
	clear(p[:n])
	if off < int64(len(s.data)) {
		copy(p[:n], s.data[off:])
	}
	s.read += int64(n)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *sparse) NextData(off int64) (start, end int64, err error) {
	if off >= int64(len(s.data)) {
		return 0, 0, io.EOF
	}
	return off, int64(len(s.data)), nil
}

// TestOpenHuge opens an image of the largest volume that there can be: a bitmap
// of 1 TiB, which is a hole but for its beginning.
func TestOpenHuge(t *testing.T) {
	g := ocfs2.Geometry{BlockBits: 9, ClusterBits: 20, Clusters: 1<<32 - 1}
	set := setOf([2]uint64{0, 9})
	l, err := packed.NewLayout(set, g, packed.LayoutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := &sparse{data: make([]byte, image.PieceSize), size: l.Size()}
	l.Fill(image.Piece{Len: image.PieceSize}, s.data)
	copy(s.data[3*512:], superBlock(g, 2))
	var r *packed.Reader
	perRun := testing.AllocsPerRun(1, func() {
		s.read = 0
		if r, err = packed.Open(s, s.size); err != nil {
			t.Fatal(err)
		}
		if s.read > 3<<20 {
			t.Errorf("%d bytes read, want the hole to be skipped", s.read)
		}
	})
	if perRun > 50 {
		t.Errorf("%v allocations", perRun)
	}
	if diff := cmp.Diff(spans(set), runsOf(t, r)); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	if has, err := r.Has(1<<43 - 2049); has || err != nil {
		t.Errorf("Has of the last block is %v, %v", has, err)
	}
}

// TestFillHuge makes a piece from the middle of a bitmap of 1 TiB, byte by byte
// against the set.
func TestFillHuge(t *testing.T) {
	t.Parallel()
	g := ocfs2.Geometry{BlockBits: 9, ClusterBits: 20, Clusters: 1<<32 - 1}
	const middle = 1 << 42
	set := setOf([2]uint64{0, 9}, [2]uint64{middle - 3, 1}, [2]uint64{middle + 5, 20}, [2]uint64{middle + 1000, 7_000_000},
		[2]uint64{middle + 9_000_003, 2}, [2]uint64{middle + 9_000_006, 1}, [2]uint64{1 << 43 / 2 * 1, 1})
	l, err := packed.NewLayout(set, g, packed.LayoutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bitmapAt := int64(1+set.Count()) * 512
	off := (bitmapAt + middle/8) / image.PieceSize * image.PieceSize
	p := image.Piece{Off: off, Len: image.PieceSize}
	buf := make([]byte, p.Len)
	l.Fill(p, buf)
	first := uint64(off-bitmapAt) * 8
	for i := range uint64(len(buf)) * 8 {
		if got, want := buf[i/8]>>(i%8)&1 == 1, set.Has(first+i); got != want {
			t.Fatalf("bit of block %d is %v", first+i, got)
		}
	}
}

// failing fails from a byte of the file on.
type failing struct {
	io.ReaderAt
	from int64
}

var errDisk = errors.New("disk on fire")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(p, off)
}

// shrunk is a file that has become shorter since its size was asked for.
type shrunk struct{ *bytes.Reader }

func TestOpenReadErrors(t *testing.T) {
	v := newVolume(t, 4096, 4096, 2000)
	file, l := pack(t, v, setOf([2]uint64{0, 9}), packed.LayoutOptions{})
	r := bytes.NewReader(file)
	tests := []struct {
		name string
		r    io.ReaderAt
		want error
		text string
	}{
		{"header", failing{r, 100}, errDisk, "read image header: disk on fire"},
		{"bitmap", failing{r, l.Size() - 1}, errDisk, "read image bitmap from page 0 on: disk on fire"},
		{"shorter than it was", shrunk{bytes.NewReader(file[:l.Size()-1])}, io.ErrUnexpectedEOF, "read image bitmap"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := packed.Open(tt.r, l.Size())
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got error %v, want %q", err, tt.text)
			}
		})
	}
}

// broken fails every read once it is set.
type broken struct {
	*bytes.Reader
	set bool
}

func (b *broken) ReadAt(p []byte, off int64) (int, error) {
	if b.set {
		return 0, errDisk
	}
	return b.Reader.ReadAt(p, off)
}

// TestReadErrors has a disk fail after the image was opened.
func TestReadErrors(t *testing.T) {
	v := newVolume(t, 512, 4096, 3*32768/8)
	file, _ := pack(t, v, setOf([2]uint64{0, 3}, [2]uint64{32760, 32776}), packed.LayoutOptions{})
	b := &broken{Reader: bytes.NewReader(file)}
	r, err := packed.Open(b, int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	b.set = true
	buf := make([]byte, 512)
	if _, err := r.ReadAt(buf, 512); !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "read block 1 from the image") {
		t.Errorf("block: got error %v", err)
	}
	if _, err := r.ReadAt(buf, 40000*512); !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "read page 1 of the image bitmap") {
		t.Errorf("page of the bitmap: got error %v", err)
	}
	if _, err := r.ReadAt(make([]byte, 1<<20), 32767*512); !errors.Is(err, errDisk) {
		t.Errorf("second page of the bitmap: got error %v", err)
	}
	if _, err := r.Has(40000); !errors.Is(err, errDisk) {
		t.Errorf("Has: got error %v", err)
	}
	if has, err := r.Has(70000); has || err != nil {
		t.Errorf("Has where the bitmap is empty: got %v, %v", has, err)
	}
	if _, err := r.Trailer(); !errors.Is(err, errDisk) {
		t.Errorf("Trailer: got error %v", err)
	}
	last := error(nil)
	for _, err := range r.Runs() {
		last = err
	}
	if !errors.Is(last, errDisk) {
		t.Errorf("Runs: got error %v", last)
	}
}

// TestRunsStops breaks off the listing of runs at each of them.
func TestRunsStops(t *testing.T) {
	want := []image.Run{{Start: 0, Len: 3}, {Start: 9, Len: 1}, {Start: 32760, Len: 16}}
	file, _ := pack(t, newVolume(t, 512, 4096, 2*32768/8), setOf([2]uint64{0, 3}, [2]uint64{9, 1}, [2]uint64{32760, 16}), packed.LayoutOptions{})
	r := open(t, file)
	for n := range len(want) {
		var got []image.Run
		for run, err := range r.Runs() {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, run); len(got) > n {
				break
			}
		}
		if diff := cmp.Diff(want[:n+1], got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// closing remembers that it was closed.
type closing struct {
	*bytes.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func TestClose(t *testing.T) {
	file, l := pack(t, newVolume(t, 512, 4096, 100), setOf([2]uint64{0, 9}), packed.LayoutOptions{})
	if err := open(t, file).Close(); err != nil {
		t.Error(err)
	}
	c := &closing{Reader: bytes.NewReader(file)}
	r, err := packed.Open(c, l.Size())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil || !c.closed {
		t.Errorf("closed %v, %v", c.closed, err)
	}
}
