// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// readVectors decodes a file of testdata.
func readVectors(tb testing.TB, name string, into any) {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		tb.Fatal(err)
	}
}

// hexBytes is text in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// hexNumber is a text like 0x1f.
type hexNumber uint32

func (h *hexNumber) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 0, 32)
	*h = hexNumber(n)
	return err
}

// checkVectors is blockcheck.json.
type checkVectors struct {
	CodePositions []struct {
		DataBit      int `json:"data_bit"`
		CodePosition int `json:"code_position"`
	} `json:"code_positions"`
	Synthetic []struct {
		Name   string
		CRC32  hexNumber
		ECC    hexNumber
		Length int
		Fill   hexBytes
		Hex    hexBytes
	}
	Blocks  []blockVector
	Repairs []struct {
		Base          string
		FlipDataBits  []int     `json:"flip_data_bits"`
		FlipCheckBits []int     `json:"flip_check_bits"`
		ComputedCRC32 hexNumber `json:"computed_crc32"`
		Syndrome      hexNumber
		Result        string
		RepairedBit   int `json:"repaired_bit"`
	}
}

type blockVector struct {
	Name        string
	Structure   string
	BlockSize   int `json:"block_size"`
	CheckOffset int `json:"check_offset"`
	CRC32       hexNumber
	ECC         hexNumber
	Hex         hexBytes
}

// kind returns the kind that the vector's name of the structure means.
func (v blockVector) kind(tb testing.TB) Kind {
	tb.Helper()
	for name, kind := range map[string]Kind{
		"superblock":       KindSuper,
		"system inode":     KindInode,
		"inode":            KindInode,
		"extent block":     KindExtentBlock,
		"group descriptor": KindGroup,
		"dx root":          KindDxRoot,
		"dx leaf":          KindDxLeaf,
		"xattr block":      KindXattrBlock,
		"xattr bucket":     KindBucket,
		"refcount":         KindRefcountBlock,
		"directory block":  KindDirBlock,
		"quota":            KindQuotaBlock,
	} {
		if strings.HasPrefix(v.Structure, name) {
			return kind
		}
	}
	tb.Fatalf("unknown structure %q", v.Structure)
	return KindNone
}

func loadChecks(tb testing.TB) checkVectors {
	tb.Helper()
	var v checkVectors
	readVectors(tb, "blockcheck.json", &v)
	if len(v.Blocks) == 0 || len(v.Repairs) == 0 || len(v.Synthetic) == 0 || len(v.CodePositions) == 0 {
		tb.Fatal("blockcheck.json: empty section")
	}
	return v
}

// block returns a copy of the bytes of a named vector.
func (v checkVectors) block(tb testing.TB, name string) blockVector {
	tb.Helper()
	for _, b := range v.Blocks {
		if b.Name == name {
			b.Hex = append(hexBytes(nil), b.Hex...)
			return b
		}
	}
	tb.Fatalf("no block %q", name)
	return blockVector{}
}
