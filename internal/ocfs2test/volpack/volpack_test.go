// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volpack_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"o2image/internal/ocfs2test/volpack"
)

// writeSparse makes a file with a hole of a terabyte in it, and returns what
// stands where.
func writeSparse(t *testing.T, name string, size int64) map[int64][]byte {
	t.Helper()
	pieces := map[int64][]byte{
		0:             []byte("at the start"),
		4096 * 3:      bytes.Repeat([]byte("page"), 1024),
		4096 * 4:      make([]byte, 4096), // zeros, written out
		4096 * 5:      bytes.Repeat([]byte("next"), 3000),
		1<<40 + 12345: []byte("beyond"),
		size - 3:      []byte("end"),
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off, b := range pieces {
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	return pieces
}

func checkSparse(t *testing.T, name string, size int64, pieces map[int64][]byte) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off, want := range pieces {
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
			t.Errorf("at %d: %.20q, %v, want %.20q", off, got, err, want)
		}
	}
	st, err := f.Stat()
	if err != nil || st.Size() != size {
		t.Errorf("length %d, %v, want %d", st.Size(), err, size)
	}
	runs, err := volpack.DataRuns(f)
	total := int64(0)
	for _, r := range runs {
		total += r.Length
	}
	if err != nil || total > 1<<20 {
		t.Errorf("%d bytes of data, %v", total, err)
	}
}

const size = 2<<40 + 777

func TestPack(t *testing.T) {
	t.Parallel()
	prefix := filepath.Join(t.TempDir(), "volume")
	pieces := writeSparse(t, prefix+".img", size)
	if err := os.WriteFile(prefix+".info", []byte("name=volume\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	enc, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if err := volpack.WriteTar(enc, prefix); err != nil {
		t.Fatal(err)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	if err := volpack.Unpack(&packed, filepath.Join(dir, "copy")); err != nil {
		t.Fatal(err)
	}
	checkSparse(t, filepath.Join(dir, "copy.img"), size, pieces)
	info, err := os.ReadFile(filepath.Join(dir, "copy.info"))
	if d := cmp.Diff("name=volume\n", string(info)); d != "" || err != nil {
		t.Errorf("info: %v %s", err, d)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%v %v, want two files", files, err)
	}
}

func TestCopySparse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pieces := writeSparse(t, filepath.Join(dir, "a"), size)
	if err := volpack.CopySparse(filepath.Join(dir, "b"), filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	checkSparse(t, filepath.Join(dir, "b"), size, pieces)
}

// A packed volume that was cut off is an error, wherever the cut is.
func TestUnpackShort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	prefix := filepath.Join(dir, "volume")
	if err := os.WriteFile(prefix+".img", bytes.Repeat([]byte("volume"), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	var tar bytes.Buffer
	if err := volpack.WriteTar(&tar, prefix); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 100, 512, 1024, 5000, 20000} {
		var packed bytes.Buffer
		enc, err := zstd.NewWriter(&packed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := enc.Write(tar.Bytes()[:n]); err != nil {
			t.Fatal(err)
		}
		if err := enc.Close(); err != nil {
			t.Fatal(err)
		}
		if err := volpack.Unpack(&packed, filepath.Join(dir, "copy")); err == nil {
			t.Errorf("cut at %d bytes: no error", n)
		}
	}
}
