// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"io"
	"iter"
	"maps"
	"slices"
	"sync"

	"o2image/blockio"
	"o2image/ocfs2"
)

// device is what a restore writes onto: a [blockio.Target].
type device interface {
	io.ReaderAt
	io.WriterAt
	WriteZeros(off, n int64) error
	Extend(size int64) error
	Truncate(size int64) error
	Sync() error
	Close() error
	Discard() error
	Size() int64
	IsBlock() bool
	ID() (blockio.FileID, error)
}

// superSize is how much of a superblock is held back, in bytes: what is in it
// stands in its first 512 bytes, whatever the size of a block.
const superSize = 512

// primaryPlaces yields where the superblock of a volume can stand, in bytes: it
// is block 2, with blocks of 512 bytes to 4 KiB.
func primaryPlaces() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for size := int64(ocfs2.MinBlockSize); size <= ocfs2.MaxBlockSize; size *= 2 {
			if !yield(size * ocfs2.SuperBlockBlkno) {
				return
			}
		}
	}
}

// superPlaces returns where superblocks and their backups can stand on any
// volume, in bytes, ascending.
func superPlaces() []int64 {
	places := slices.Collect(primaryPlaces())
	for n := 1; n <= ocfs2.MaxBackups; n++ {
		places = append(places, ocfs2.BackupOffset(n))
	}
	return places
}

// isSuper reports whether b starts as a superblock does.
func isSuper(b []byte) bool { return ocfs2.Identify(b) == ocfs2.KindSuper }

// primarySuper returns the superblock by which a volume on r is mounted, nil if
// there is none.
func primarySuper(r io.ReaderAt) *ocfs2.SuperBlock {
	for place := range primaryPlaces() {
		b := make([]byte, place/ocfs2.SuperBlockBlkno)
		if n, _ := r.ReadAt(b, place); n < len(b) {
			continue
		}
		if sb, _ := ocfs2.SalvageSuperBlock(b, ocfs2.SuperBlockBlkno); sb != nil {
			return sb
		}
	}
	return nil
}

// holdback is the parts of a device by which a volume on it is found: those
// where superblocks stand, or will. They are not there as long as the rest is
// being written, so that nothing mounts it, and are written last. The places do not
// change once erase has been called.
type holdback struct {
	end    int64 // of what is written, in bytes: parts behind it are only erased
	places []int64

	mu    sync.Mutex
	parts map[int64][]byte // what is to be there, by place
}

// hold adds a part of superSize bytes.
func (h *holdback) hold(place int64, part []byte) {
	if h.parts == nil {
		h.parts = make(map[int64][]byte)
	}
	h.parts[place] = part
	h.places = slices.Sorted(maps.Keys(h.parts))
}

// erase takes the parts away: first those by which a volume on the device is
// mounted now, the one that is looked at first as the last. In their places it is
// said that the device is unfinished, since a volume can also be found without.
func (h *holdback) erase(d device) error {
	var first []int64
	for place := range primaryPlaces() {
		now := make([]byte, superSize)
		if n, _ := d.ReadAt(now, place); n == superSize && h.parts[place] != nil && isSuper(now) {
			first = append(first, place)
		}
	}
	slices.Reverse(first)
	others := slices.DeleteFunc(slices.Clone(h.places), func(place int64) bool { return slices.Contains(first, place) })
	for _, places := range [][]int64{first, others} {
		for _, place := range places {
			n := min(superSize, d.Size()-place)
			if n <= 0 {
				continue
			}
			if _, err := d.WriteAt(unfinished(make([]byte, superSize))[:n], place); err != nil {
				return err
			}
		}
		if err := d.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// take keeps what of p belongs to a part, where p is what is to be at byte off.
func (h *holdback) take(p []byte, off int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, place := range h.places {
		from, to := max(off, place), min(off+int64(len(p)), place+superSize)
		if from < to {
			copy(h.parts[place][from-place:], p[from-off:to-off])
		}
	}
}

// around calls do for what of the n bytes from off on belongs to no part.
func (h *holdback) around(off, n int64, do func(off, n int64) error) error {
	end := off + n
	for _, place := range h.places {
		if place+superSize <= off || place >= end {
			continue
		}
		if off < place {
			if err := do(off, place-off); err != nil {
				return err
			}
		}
		off = place + superSize
	}
	if off >= end {
		return nil
	}
	return do(off, end-off)
}

// finish writes the parts once everything else is durable: last of all those by
// which volumes are mounted, and of these the first one that is looked at first.
func (h *holdback) finish(d device) error {
	var last []int64
	for place := range primaryPlaces() {
		if isSuper(h.parts[place]) {
			last = append(last, place)
		}
	}
	others := slices.DeleteFunc(slices.Clone(h.places), func(place int64) bool { return slices.Contains(last, place) })
	for _, places := range [][]int64{others, last} {
		if err := d.Sync(); err != nil {
			return err
		}
		for _, place := range places {
			part := h.parts[place][:max(0, min(superSize, h.end-place))]
			if _, err := d.WriteAt(part, place); err != nil {
				return err
			}
		}
	}
	return d.Sync()
}
