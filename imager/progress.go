// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

// Progress is how far a run is.
type Progress struct {
	Phase       Phase
	Done, Total uint64 // bytes; Total may still grow while a volume is scanned
}

// Phase is a part of a run.
type Phase uint8

// The phases.
const (
	PhaseScan Phase = iota // the walk over the volume
	PhaseCopy              // of the blocks that it found
)

// String returns the phase in a word.
func (p Phase) String() string {
	if p == PhaseScan {
		return "scanning"
	}
	return "copying"
}

// ofScan returns what a walk over a volume tells its progress, nil if nobody
// wants to know.
func ofScan(tell func(Progress), blockBits uint8) func(done, total uint64) {
	if tell == nil {
		return nil
	}
	return func(done, total uint64) { tell(Progress{PhaseScan, done << blockBits, total << blockBits}) }
}

// advance says that the blocks of a piece have been copied.
func (c *copier) advance(f *filled) {
	if c.progress == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += f.stored(c.blockSize)
	c.progress(Progress{PhaseCopy, c.done, c.total})
}

// stored returns how many bytes of blocks are in a piece.
func (f *filled) stored(blockSize int) uint64 {
	n := 0
	for _, s := range f.Segments {
		n += s.Count
	}
	return uint64(n) * uint64(blockSize) //nolint:gosec // not negative
}
