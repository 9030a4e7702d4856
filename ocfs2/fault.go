// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"errors"
	"fmt"
	"strconv"
)

var (
	// ErrNotOCFS2 is returned where the superblock's signature is missing.
	ErrNotOCFS2 = errors.New("not an OCFS2 volume")
	// ErrCorrupt is wrapped by every error about contents that the format forbids.
	ErrCorrupt = errors.New("corrupt metadata")
	// ErrChecksum is a metadata ECC that does not match; it is also ErrCorrupt.
	ErrChecksum = fmt.Errorf("checksum mismatch: %w", ErrCorrupt)
	// ErrUnsupported is a volume of this format that cannot be read in a safe way.
	ErrUnsupported = errors.New("unsupported volume")
)

// Fault says that one field of a structure contradicts the format, or another
// field.
type Fault struct {
	Struct string `json:"struct"` // C name of the structure: "ocfs2_dinode"
	Field  string `json:"field"`  // C name of the field: "i_blkno"
	Got    string `json:"got"`    // what the field holds
	Want   string `json:"want"`   // what it should hold
}

func (f Fault) String() string {
	return f.Struct + " " + f.Field + ": got " + f.Got + ", want " + f.Want
}

// BlockError places a fault on the volume.
type BlockError struct {
	Block uint64 // block number
	Fault Fault  // zero if Err says all
	Err   error  // the cause; nil means ErrCorrupt
}

func (e *BlockError) Error() string {
	s := fmt.Sprintf("block %d: ", e.Block)
	if e.Fault == (Fault{}) {
		return s + e.Unwrap().Error()
	}
	return s + e.Fault.String()
}

// Unwrap returns Err, or ErrCorrupt where Err is nil.
func (e *BlockError) Unwrap() error {
	if e.Err == nil {
		return ErrCorrupt
	}
	return e.Err
}

// maxFaults is how many faults make the rest of a long list not worth a look: the
// block holds something else.
const maxFaults = 32

// faults collects the faults of one structure. It allocates nothing as long as
// there are none.
type faults struct {
	structure string
	found     []Fault
}

func (f *faults) add(field, got, want string) {
	f.found = append(f.found, Fault{f.structure, field, got, want})
}

// equal wants a field to be one particular number.
func (f *faults) equal(field string, got, want uint64) {
	if got != want {
		f.add(field, decimal(got), decimal(want))
	}
}

// atMost wants a field not to exceed a limit.
func (f *faults) atMost(field string, got, limit uint64) {
	if got > limit {
		f.add(field, decimal(got), "at most "+decimal(limit))
	}
}

// fits wants a count not to exceed a limit.
func (f *faults) fits(field string, got, limit int) {
	if got > limit {
		f.add(field, strconv.Itoa(got), "at most "+strconv.Itoa(limit))
	}
}

// exactly wants a capacity to be what there is room for: that is what Linux and
// mkfs.ocfs2 write, and a smaller one hides records.
func (f *faults) exactly(field string, got, room int) {
	if got != room {
		f.add(field, strconv.Itoa(got), strconv.Itoa(room))
	}
}

// inVolume wants a field to be the number of a block that can be read.
func (f *faults) inVolume(field string, g Geometry, blkno uint64) {
	if !g.Contains(blkno, 1) {
		f.add(field, decimal(blkno), "a block in 2.."+decimal(g.Blocks()-1))
	}
}

// inVolumeOrNone is inVolume for a field that is zero if there is no block.
func (f *faults) inVolumeOrNone(field string, g Geometry, blkno uint64) {
	if blkno != 0 {
		f.inVolume(field, g, blkno)
	}
}

// within takes over the faults of a structure that lies in this one.
func (f *faults) within(inner []Fault) { f.found = append(f.found, inner...) }

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

func inHex(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }
