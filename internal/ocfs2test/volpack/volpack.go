// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package volpack keeps a test volume, with the truth about it, in one small
// file, and unpacks it with its holes: volumes are sparse, up to 8 TiB long.
//
// A packed volume is a zstd-compressed tar file that ordinary tools can look
// into. It holds the files beside the volume under the names in Parts, then
// "map", text whose first line is the length of the volume and whose other
// lines are offset and length of a run of data (decimal, bytes, ascending), and
// at last "data", the bytes of these runs without anything between them.
package volpack

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
)

// Parts are the kinds of file beside a volume, in the order in which they are
// packed. A volume need not have all of them.
var Parts = []string{"info", "pre", "manifest", "extents", "secrets"}

// Image is the kind of the volume itself.
const Image = "img"

// Ext is how the name of a packed volume ends.
const Ext = ".tar.zst"

// page is the granularity in bytes of the search for zeros.
const page = 4096

// maxMap and maxPart bound what is read into memory, in bytes.
const (
	maxMap  = 64 << 20
	maxPart = 256 << 20
)

const (
	seekData = 3 // SEEK_DATA of lseek(2)
	seekHole = 4 // SEEK_HOLE
)

// Run is a piece of a volume, in bytes.
type Run struct{ Offset, Length int64 }

// DataRuns returns the runs of f that its file system does not keep as holes.
func DataRuns(f *os.File) ([]Run, error) {
	var runs []Run
	for end := int64(0); ; {
		start, err := f.Seek(end, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return runs, nil
		} else if err != nil {
			return nil, err
		}
		if end, err = f.Seek(start, seekHole); err != nil {
			return nil, err
		}
		runs = append(runs, Run{start, end - start})
	}
}

// CopyRun copies the bytes of one run from src to the same place of dst, where
// pages of zeros are left out: dst reads as zeros there.
func CopyRun(dst io.WriterAt, src io.ReaderAt, r Run) error {
	return eachPiece(src, r, func(off int64, b []byte) error {
		_, err := dst.WriteAt(b, off)
		return err
	})
}

// CopySparse makes the file dst a copy of the file src, with holes.
func CopySparse(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	size, err := in.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	runs, err := DataRuns(in)
	if err != nil {
		return err
	}
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(size); err != nil {
		return err
	}
	for _, r := range runs {
		if err := CopyRun(out, in, r); err != nil {
			return err
		}
	}
	return nil
}

// eachPiece calls fn with the pieces of a run that are not zero, ascending, and
// where they stand in src.
func eachPiece(src io.ReaderAt, r Run, fn func(off int64, b []byte) error) error {
	buf := make([]byte, min(r.Length, 256*page))
	for end := r.Offset + r.Length; r.Offset < end; {
		b := buf[:min(int64(len(buf)), end-r.Offset)]
		if n, err := src.ReadAt(b, r.Offset); n < len(b) {
			return err
		}
		for i := 0; i < len(b); {
			j := i
			for j < len(b) && !zero(b[j:min(j+page, len(b))]) {
				j = min(j+page, len(b))
			}
			if j > i {
				if err := fn(r.Offset+int64(i), b[i:j]); err != nil {
					return err
				}
			}
			i = j + page
		}
		r.Offset += int64(len(b))
	}
	return nil
}

var zeros [page]byte

func zero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// WriteTar writes the volume PREFIX.img and what lies beside it (PREFIX.info and
// so on) to w, not yet compressed.
func WriteTar(w io.Writer, prefix string) error {
	tw := tar.NewWriter(w)
	if err := pack(tw, prefix); err != nil {
		return fmt.Errorf("pack %s: %w", prefix, err)
	}
	return tw.Close()
}

func pack(tw *tar.Writer, prefix string) error {
	for _, p := range Parts {
		b, err := os.ReadFile(prefix + "." + p)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := addFile(tw, p, b); err != nil {
			return err
		}
	}

	f, err := os.Open(prefix + "." + Image)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	runs, err := DataRuns(f)
	if err != nil {
		return err
	}
	var data []Run
	total := int64(0)
	for _, r := range runs {
		err := eachPiece(f, r, func(off int64, b []byte) error {
			total += int64(len(b))
			if n := len(data) - 1; n >= 0 && data[n].Offset+data[n].Length == off {
				data[n].Length += int64(len(b))
			} else {
				data = append(data, Run{off, int64(len(b))})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}

	var m bytes.Buffer
	fmt.Fprintln(&m, size)
	for _, r := range data {
		fmt.Fprintln(&m, r.Offset, r.Length)
	}
	if err := addFile(tw, "map", m.Bytes()); err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: "data", Mode: 0o644, Size: total}); err != nil {
		return err
	}
	for _, r := range data {
		if _, err := io.Copy(tw, io.NewSectionReader(f, r.Offset, r.Length)); err != nil {
			return err
		}
	}
	return nil
}

func addFile(tw *tar.Writer, name string, b []byte) error {
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err := tw.Write(b)
	return err
}

// Unpack reads a packed volume and writes the files PREFIX.img, PREFIX.info and
// so on. The folder of PREFIX must exist.
func Unpack(r io.Reader, prefix string) error {
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer dec.Close()
	if err := unpack(tar.NewReader(dec), prefix); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(prefix), err)
	}
	return nil
}

func unpack(tr *tar.Reader, prefix string) error {
	var layout []byte
	for {
		h, err := tr.Next()
		if err != nil {
			return err // io.EOF too: the data comes last
		}
		switch {
		case h.Name == "map":
			if layout, err = io.ReadAll(io.LimitReader(tr, maxMap)); err != nil {
				return err
			}
		case h.Name == "data":
			return writeImage(prefix+"."+Image, layout, tr)
		case strings.ContainsRune(h.Name, filepath.Separator):
			return fmt.Errorf("unexpected name %q", h.Name)
		default:
			b, err := io.ReadAll(io.LimitReader(tr, maxPart))
			if err != nil {
				return err
			}
			if err := os.WriteFile(prefix+"."+h.Name, b, 0o644); err != nil {
				return err
			}
		}
	}
}

func writeImage(name string, layout []byte, data io.Reader) (err error) {
	s := bufio.NewScanner(bytes.NewReader(layout))
	s.Scan()
	var size int64
	if _, err := fmt.Sscan(s.Text(), &size); err != nil {
		return fmt.Errorf("map: %w", err)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return err
	}
	for s.Scan() {
		var r Run
		if _, err := fmt.Sscan(s.Text(), &r.Offset, &r.Length); err != nil {
			return fmt.Errorf("map: %w", err)
		}
		if _, err := io.CopyN(io.NewOffsetWriter(f, r.Offset), data, r.Length); err != nil {
			return err
		}
	}
	return s.Err()
}
