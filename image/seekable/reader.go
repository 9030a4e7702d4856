// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package seekable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sort"
	"sync"

	"github.com/klauspost/compress/zstd"

	"o2image/image"
)

// ErrFormat says that a file is not in the seekable format.
var ErrFormat = errors.New("not a file of zstd with a seek table")

const (
	// maxFrameSize is the length of the longest frame that is read, and of
	// the longest contents of one, in bytes.
	maxFrameSize = 8 << 20

	// group is how many entries of the table stand between two offsets that
	// are kept in memory.
	group = 512

	// cached is how many decompressed frames are kept.
	cached = 8
)

// Reader reads what is compressed in a file, at any offset. All methods may be
// called concurrently.
type Reader struct {
	r         io.ReaderAt
	dec       *zstd.Decoder
	frames    int
	entrySize int
	table     int64 // offset of the first entry
	size      int64 // of the contents
	groups    []place

	mu    sync.Mutex
	cache []*contents // used last comes last
}

// place is where a frame starts.
type place struct {
	packed int64 // offset in the file
	plain  int64 // offset in the contents
}

// contents is a frame as it is decompressed.
type contents struct {
	from, to place
	once     sync.Once
	p        []byte
	err      error
}

func (c *contents) has(off int64) bool { return c.from.plain <= off && off < c.to.plain }

// Open opens the file of size bytes that r reads. It returns [ErrFormat] if it
// does not start with a frame of zstd and end with a seek table, and another
// error if the table does not agree with the length of the file, or if a frame
// is longer than 8 MiB.
//
// The table is read once; 16 bytes are kept of every 4 KiB of it.
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	const least = 4 + tableHeadSize + footerSize
	if size < least {
		return nil, ErrFormat
	}
	var head [4]byte
	if err := image.ReadFull(r, head[:], 0); err != nil {
		return nil, err
	}
	if le.Uint32(head[:]) != frameMagic {
		return nil, ErrFormat // whether or not its end can be read
	}
	var footer [footerSize]byte
	if err := image.ReadFull(r, footer[:], size-footerSize); err != nil {
		return nil, err
	}
	if le.Uint32(footer[5:]) != footerMagic {
		return nil, ErrFormat
	}
	frames, descriptor := le.Uint32(footer[:]), footer[4]
	if frames > maxFrames {
		return nil, fmt.Errorf("seek table of %d frames: there can be %d", frames, maxFrames)
	}
	if descriptor&reservedBits != 0 {
		return nil, fmt.Errorf("seek table with the unknown descriptor %#x", descriptor)
	}
	s := &Reader{r: r, frames: int(frames), entrySize: entrySize}
	if descriptor&hasChecksums != 0 {
		s.entrySize += checksumSize
	}
	length := int64(s.frames)*int64(s.entrySize) + footerSize
	if length > size-tableHeadSize {
		return nil, fmt.Errorf("seek table of %d frames in a file of %d bytes", frames, size)
	}
	s.table = size - length
	var start [tableHeadSize]byte
	if err := image.ReadFull(r, start[:], s.table-tableHeadSize); err != nil {
		return nil, err
	}
	if le.Uint32(start[:]) != tableMagic || int64(le.Uint32(start[4:])) != length {
		return nil, errors.New("seek table does not start where it should")
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	var err error
	s.dec, err = zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(runtime.NumCPU()),
		zstd.WithDecoderMaxMemory(maxFrameSize),
		zstd.WithDecoderMaxWindow(maxFrameSize))
	return s, err
}

// load reads the table.
func (s *Reader) load() error {
	length := int64(s.frames) * int64(s.entrySize)
	b := bufio.NewReaderSize(io.NewSectionReader(s.r, s.table, length), 64<<10)
	entry := make([]byte, s.entrySize)
	var at place
	for i := range s.frames {
		if i%group == 0 {
			s.groups = append(s.groups, at)
		}
		if _, err := io.ReadFull(b, entry); err != nil {
			return fmt.Errorf("read seek table: %w", err)
		}
		if err := at.add(entry, i); err != nil {
			return err
		}
	}
	if end := s.table - tableHeadSize; at.packed != end {
		return fmt.Errorf("seek table of %d bytes of frames, the file has %d", at.packed, end)
	}
	s.size = at.plain
	return nil
}

// add moves at behind the frame of a table entry. The sums cannot overflow:
// there are 2^27 frames of 2^23 bytes.
func (at *place) add(entry []byte, index int) error {
	packed, plain := le.Uint32(entry), le.Uint32(entry[4:])
	if packed == 0 || packed > maxFrameSize || plain > maxFrameSize {
		return fmt.Errorf("seek table: frame %d has %d bytes, %d decompressed; the limit is %d", index, packed, plain, maxFrameSize)
	}
	at.packed += int64(packed)
	at.plain += int64(plain)
	return nil
}

// Size returns the length of the contents in bytes.
func (s *Reader) Size() int64 { return s.size }

// Frames returns the number of frames.
func (s *Reader) Frames() int { return s.frames }

// ReadAt reads contents from byte off on. It decompresses the frames that the
// range touches, but for those that it has still.
func (s *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at offset %d", off)
	}
	done := 0
	for done < len(p) {
		if off >= s.size {
			return done, io.EOF
		}
		c, err := s.frame(off)
		if err != nil {
			return done, err
		}
		n := copy(p[done:], c.p[off-c.from.plain:])
		done += n
		off += int64(n)
	}
	return done, nil
}

// frame returns the frame that holds byte off, decompressed.
func (s *Reader) frame(off int64) (*contents, error) {
	c := s.cachedFrame(off)
	if c == nil {
		found, err := s.find(off)
		if err != nil {
			return nil, err
		}
		c = s.remember(found)
	}
	c.once.Do(func() {
		var packed []byte
		if packed, c.err = s.read(c.from, c.to); c.err != nil {
			s.forget(c) // it may be there the next time, which a frame that is damaged is not
			return
		}
		c.p, c.err = s.decode(packed, c.to.plain-c.from.plain)
	})
	if c.err != nil {
		return nil, fmt.Errorf("frame of zstd at byte %d: %w", c.from.packed, c.err)
	}
	return c, nil
}

// find looks the frame up that holds byte off.
func (s *Reader) find(off int64) (*contents, error) {
	g := sort.Search(len(s.groups), func(i int) bool { return s.groups[i].plain > off }) - 1
	index := g * group
	entries := make([]byte, min(group, s.frames-index)*s.entrySize)
	if err := image.ReadFull(s.r, entries, s.table+int64(index)*int64(s.entrySize)); err != nil {
		return nil, fmt.Errorf("read seek table: %w", err)
	}
	at := s.groups[g]
	for entry := range slices.Chunk(entries, s.entrySize) {
		from := at
		if err := at.add(entry, index); err != nil {
			return nil, err
		}
		if off < at.plain {
			return &contents{from: from, to: at}, nil
		}
		index++
	}
	return nil, errors.New("seek table has changed")
}

// cachedFrame returns the frame that holds byte off if it is in the cache.
func (s *Reader) cachedFrame(off int64) *contents {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.touch(off)
}

// touch is cachedFrame, with the lock held.
func (s *Reader) touch(off int64) *contents {
	i := slices.IndexFunc(s.cache, func(c *contents) bool { return c.has(off) })
	if i < 0 {
		return nil
	}
	c := s.cache[i]
	s.cache = append(slices.Delete(s.cache, i, i+1), c)
	return c
}

// remember puts c into the cache, and returns it or the same frame that somebody
// else has put there.
func (s *Reader) remember(c *contents) *contents {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.touch(c.from.plain); other != nil {
		return other
	}
	if len(s.cache) == cached {
		s.cache = slices.Delete(s.cache, 0, 1)
	}
	s.cache = append(s.cache, c)
	return c
}

// forget takes a frame that could not be read out of the cache.
func (s *Reader) forget(c *contents) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache = slices.DeleteFunc(s.cache, func(other *contents) bool { return other == c })
}

// read reads a frame.
func (s *Reader) read(from, to place) ([]byte, error) {
	packed := make([]byte, to.packed-from.packed)
	return packed, image.ReadFull(s.r, packed, from.packed)
}

// decode decompresses a frame of which size bytes are to come.
func (s *Reader) decode(packed []byte, size int64) ([]byte, error) {
	p, err := s.dec.DecodeAll(packed, make([]byte, 0, size))
	if err != nil {
		return nil, err
	}
	if int64(len(p)) != size {
		return nil, fmt.Errorf("%d bytes decompressed, the seek table says %d", len(p), size)
	}
	return p, nil
}
