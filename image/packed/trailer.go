// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package packed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"o2image/image"
	"o2image/sparse"
)

const (
	// FooterSize is the length of the footer in bytes.
	FooterSize = 0x80

	// MaxReport is the longest report that a trailer holds, in bytes.
	MaxReport = 64 << 20

	footerMagic    = "O2IMGEND"
	trailerVersion = 2
	rootDomain     = "o2image root v2\x00"
	hashSize       = sha256.Size
)

// Offsets in the footer.
const (
	offFooterVersion    = 0x08
	offFooterFlags      = 0x0A
	offFooterCRC        = 0x0C
	offFooterImageSize  = 0x10
	offFooterReportSize = 0x18
	offFooterHashes     = 0x20
	offFooterPieceSize  = 0x28
	offFooterFileSize   = 0x30
	offFooterReportHash = 0x40
	offFooterRoot       = 0x60
)

// Flags says what is known of an image when the last of it is written.
type Flags uint16

// The flags.
const (
	FlagPartial Flags = 1 << iota // something that belongs to the image is missing
	FlagLive                      // the volume may have changed meanwhile
)

// Has reports whether all flags of mask are set.
func (f Flags) Has(mask Flags) bool { return f&mask == mask }

// Trailer is what follows an image proper.
type Trailer struct {
	Flags     Flags
	ImageSize int64 // length of the image proper, bytes: the offset of the trailer
	Report    []byte
	Root      [sha256.Size]byte // stands for the whole file, see the package comment

	footer [FooterSize]byte
}

// hashStep is how many bytes of a piece are brought into their sparse form at once:
// a multiple of 4096, so that their forms make up that of the piece.
const hashStep = 64 << 10

var forms = sync.Pool{New: func() any {
	b := make([]byte, 0, sparse.MaxLen(hashStep))
	return &b
}}

// HashPiece returns the SHA-256 of the sparse form of a piece, which is a tenth of
// the work that hashing the piece would be.
func HashPiece(piece []byte) (sum [sha256.Size]byte) {
	form := forms.Get().(*[]byte)
	defer forms.Put(form)
	h := sha256.New()
	for part := range slices.Chunk(piece, hashStep) {
		*form, _ = sparse.Append((*form)[:0], part)
		h.Write(*form)
	}
	h.Sum(sum[:0])
	return sum
}

// EncodeTrailer returns the trailer of an image with the record rec, as
// [Layout.Record] has it: leaves are what [HashPiece] returns for its pieces in order. It
// fails if the report is longer than [MaxReport], or if the number of leaves is
// not that of the pieces.
func EncodeTrailer(report []byte, leaves [][sha256.Size]byte, rec Record, flags Flags) ([]byte, error) {
	if len(report) > MaxReport {
		return nil, fmt.Errorf("image report of %d bytes is longer than %d", len(report), MaxReport)
	}
	if want := pieces(rec.Trailer); int64(len(leaves)) != want {
		return nil, fmt.Errorf("%d hashes for an image of %d pieces", len(leaves), want)
	}
	size := len(report) + len(leaves)*hashSize + FooterSize
	b := make([]byte, 0, size)
	b = append(b, report...)
	for i := range leaves {
		b = append(b, leaves[i][:]...)
	}
	hashes := b[len(report):]
	b = b[:size]

	footer := b[size-FooterSize:]
	copy(footer, footerMagic)
	le.PutUint16(footer[offFooterVersion:], trailerVersion)
	le.PutUint16(footer[offFooterFlags:], uint16(flags))
	le.PutUint64(footer[offFooterImageSize:], uint64(rec.Trailer))
	le.PutUint64(footer[offFooterReportSize:], uint64(len(report)))
	le.PutUint64(footer[offFooterHashes:], uint64(len(leaves)))
	le.PutUint64(footer[offFooterPieceSize:], image.PieceSize)
	le.PutUint64(footer[offFooterFileSize:], uint64(rec.Trailer)+uint64(size))
	reportHash := sha256.Sum256(report)
	copy(footer[offFooterReportHash:], reportHash[:])
	var record [recordSize]byte
	rec.encode(record[:])
	root := newRoot(footer, record[:])
	root.Write(hashes)
	root.Sum(footer[offFooterRoot:offFooterRoot])
	le.PutUint32(footer[offFooterCRC:], footerCRC(footer))
	return b, nil
}

// pieces returns the number of pieces of an image proper of size bytes.
func pieces(size int64) int64 {
	n := size / image.PieceSize
	if size%image.PieceSize != 0 {
		n++
	}
	return n
}

// newRoot returns the state of the root hash in front of the hashes of the
// pieces.
func newRoot(footer, record []byte) hash.Hash {
	h := sha256.New()
	h.Write([]byte(rootDomain))
	h.Write(footer[:offFooterCRC])
	h.Write(make([]byte, 4))
	h.Write(footer[offFooterImageSize:offFooterRoot])
	h.Write(record)
	return h
}

func footerCRC(footer []byte) uint32 {
	crc := crc32.ChecksumIEEE(footer[:offFooterCRC])
	crc = crc32.Update(crc, crc32.IEEETable, make([]byte, 4))
	return crc32.Update(crc, crc32.IEEETable, footer[offFooterImageSize:FooterSize])
}

// ReadTrailer reads the trailer of the image in the size bytes of r: the footer
// and the report, of which the check sums are compared. It returns nil and no
// error if the file does not end with a footer, as those of version 1.8.7 do
// not. Nothing of the image proper is read; [Trailer.Verify] does that.
func ReadTrailer(r io.ReaderAt, size int64) (*Trailer, error) {
	if size < FooterSize {
		return nil, nil
	}
	t := new(Trailer)
	footer := t.footer[:]
	if err := image.ReadFull(r, footer, size-FooterSize); err != nil {
		return nil, fmt.Errorf("read image footer: %w", err)
	}
	if string(footer[:len(footerMagic)]) != footerMagic {
		return nil, nil
	}
	if got, want := le.Uint32(footer[offFooterCRC:]), footerCRC(footer); got != want {
		return nil, fmt.Errorf("image trailer: check sum of the footer is 0x%08x, computed 0x%08x", got, want)
	}
	if v := le.Uint16(footer[offFooterVersion:]); v != trailerVersion {
		return nil, fmt.Errorf("image trailer: version %d, this program understands %d", v, trailerVersion)
	}
	if n := le.Uint64(footer[offFooterPieceSize:]); n != image.PieceSize {
		return nil, fmt.Errorf("image trailer: pieces of %d bytes, want %d", n, image.PieceSize)
	}
	if n := le.Uint64(footer[offFooterFileSize:]); n != uint64(size) {
		return nil, fmt.Errorf("image trailer: made for a file of %d bytes, this one has %d", n, size)
	}
	reportSize := le.Uint64(footer[offFooterReportSize:])
	if reportSize > MaxReport {
		return nil, fmt.Errorf("image trailer: report of %d bytes, at most %d are allowed", reportSize, MaxReport)
	}
	imageSize := le.Uint64(footer[offFooterImageSize:])
	if imageSize > uint64(size) {
		return nil, fmt.Errorf("image trailer: image of %d bytes in a file of %d", imageSize, size)
	}
	t.ImageSize = int64(imageSize)
	hashes := le.Uint64(footer[offFooterHashes:])
	if want := uint64(pieces(t.ImageSize)); hashes != want {
		return nil, fmt.Errorf("image trailer: %d hashes, an image of %d bytes has %d pieces", hashes, imageSize, want)
	}
	if sum := imageSize + reportSize + hashes*hashSize + FooterSize; sum != uint64(size) {
		return nil, fmt.Errorf("image trailer: its parts make a file of %d bytes, this one has %d", sum, size)
	}
	t.Flags = Flags(le.Uint16(footer[offFooterFlags:]))
	t.Root = [hashSize]byte(footer[offFooterRoot:])
	t.Report = make([]byte, reportSize)
	if err := image.ReadFull(r, t.Report, t.ImageSize); err != nil {
		return nil, fmt.Errorf("read image report: %w", err)
	}
	if sha256.Sum256(t.Report) != [hashSize]byte(footer[offFooterReportHash:]) {
		return nil, fmt.Errorf("image trailer: the report at byte %d does not have the hash that the footer says", t.ImageSize)
	}
	return t, nil
}

// endBehind returns where the footer ends that belongs to the image proper of
// imageSize bytes in the size bytes of r, 0 if there is none. It looks for the footer:
// on a device, or where a copy was padded, something follows.
func endBehind(r io.ReaderAt, imageSize, size int64) (int64, error) {
	first := imageSize + pieces(imageSize)*hashSize
	limit := min(size, first+MaxReport+FooterSize)
	buf := make([]byte, 1<<20)
	for off := first; limit-off >= FooterSize; {
		chunk := buf[:min(int64(len(buf)), limit-off)]
		if err := image.ReadFull(r, chunk, off); err != nil {
			return 0, fmt.Errorf("read image at byte %d: %w", off, err)
		}
		for i := 0; ; i++ {
			next := bytes.Index(chunk[i:], []byte(footerMagic))
			if next < 0 || len(chunk)-i-next < FooterSize {
				break
			}
			i += next
			footer, end := chunk[i:][:FooterSize], off+int64(i)+FooterSize
			if le.Uint32(footer[offFooterCRC:]) == footerCRC(footer) && le.Uint64(footer[offFooterFileSize:]) == uint64(end) {
				return end, nil
			}
		}
		off += int64(len(chunk)) - (FooterSize - 1)
	}
	return 0, nil
}

// DamageError says which bytes of an image do not have the hash that its
// trailer says.
type DamageError struct {
	Off int64 // offset in the file, bytes
	Len int64 // bytes
}

// Error names the bytes by their first and last.
func (e *DamageError) Error() string {
	return fmt.Sprintf("image is damaged: bytes %d to %d do not have the hash that the trailer says", e.Off, e.Off+e.Len-1)
}

// errRoot is what is left to say where all pieces are right.
var errRoot = errors.New("image trailer: the root hash is wrong: the list of hashes, the record or the footer was changed")

// leaf is a piece and the hash that it should have.
type leaf struct {
	off  int64
	hash [hashSize]byte
}

// Verify reads the whole image proper from the file r that the trailer was read
// from, with parallel pieces in memory at a time, and compares all hashes. It
// returns a [*DamageError] for the first piece that differs, another error if
// the root hash is wrong, and an error of reading as it is.
func (t *Trailer) Verify(ctx context.Context, r io.ReaderAt, parallel int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var (
		leaves = make(chan leaf)
		wg     sync.WaitGroup
		mu     sync.Mutex
		first  error
		at     = t.ImageSize // offset of first
	)
	for range max(parallel, 1) {
		wg.Go(func() {
			buf := make([]byte, min(image.PieceSize, t.ImageSize))
			for l := range leaves {
				// Pieces are handed out in order: all before the
				// first that is bad are looked at.
				if err := t.verifyPiece(r, l, buf); err != nil {
					mu.Lock()
					if l.off < at {
						first, at = err, l.off
					}
					mu.Unlock()
					cancel()
				}
			}
		})
	}
	rootErr := t.verifyRoot(ctx, r, leaves)
	close(leaves)
	wg.Wait()
	if first != nil {
		return first
	}
	return rootErr
}

// verifyPiece compares the hash of a piece. It overwrites buf.
func (t *Trailer) verifyPiece(r io.ReaderAt, l leaf, buf []byte) error {
	buf = buf[:min(image.PieceSize, t.ImageSize-l.off)]
	if err := image.ReadFull(r, buf, l.off); err != nil {
		return fmt.Errorf("read image at byte %d: %w", l.off, err)
	}
	if HashPiece(buf) != l.hash {
		return &DamageError{Off: l.off, Len: int64(len(buf))}
	}
	return nil
}

// verifyRoot reads the hashes of the pieces, sends them to leaves in order, and
// compares the root hash.
func (t *Trailer) verifyRoot(ctx context.Context, r io.ReaderAt, leaves chan<- leaf) error {
	record := make([]byte, recordSize)
	if err := image.ReadFull(r, record, recordOff); err != nil {
		return fmt.Errorf("read image record: %w", err)
	}
	root := newRoot(t.footer[:], record)
	at := t.ImageSize + int64(len(t.Report))
	buf := make([]byte, 1<<11*hashSize)
	for off := int64(0); off < t.ImageSize; {
		chunk := buf[:min(int64(len(buf)), pieces(t.ImageSize-off)*hashSize)]
		if err := image.ReadFull(r, chunk, at); err != nil {
			return fmt.Errorf("read image hashes: %w", err)
		}
		root.Write(chunk)
		at += int64(len(chunk))
		for ; len(chunk) > 0; chunk = chunk[hashSize:] {
			select {
			case leaves <- leaf{off: off, hash: [hashSize]byte(chunk)}:
			case <-ctx.Done():
				return ctx.Err()
			}
			off += image.PieceSize
		}
	}
	if [hashSize]byte(root.Sum(nil)) != t.Root {
		return errRoot
	}
	return nil
}
