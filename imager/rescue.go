// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"o2image/blockio"
	"o2image/blockset"
	"o2image/image"
	"o2image/mapfile"
	"o2image/ocfs2"
)

// rescue is what a run does about a failing device besides the image: a map of
// what was read, and an earlier image to go on from.
type rescue struct {
	name    string
	file    *blockio.File // of the map, nil if there is to be none
	earlier *earlier      // nil if there is none
}

// openRescue opens the map that is to be written, and what there is to go on
// from.
func openRescue(ctx context.Context, device string, opts CreateOptions, dest *destination) (*rescue, error) {
	r := &rescue{name: opts.Map}
	if opts.Map == "" {
		if opts.From != "" {
			return nil, &OpError{"resume from", opts.From, ErrNoMap}
		}
		return r, nil
	}
	if err := r.distinct(device, opts, dest); err != nil {
		return nil, during("write the map", opts.Map, err)
	}
	m, err := readMap(opts.Map)
	if err != nil {
		return nil, err
	}
	if m != nil && opts.From == "" {
		return nil, &OpError{"write the map", opts.Map, ErrMapExists}
	}
	if opts.From != "" {
		if r.earlier, err = openEarlier(ctx, opts.From, m, opts); err != nil {
			return nil, err
		}
		if dest.keep, err = r.earlier.src.dev.ID(); err != nil {
			r.close()
			return nil, &OpError{"open", opts.From, err}
		}
	}
	if r.file, err = blockio.CreateFile(opts.Map, 0); err != nil {
		r.close()
		return nil, &OpError{"write the map", opts.Map, err}
	}
	return r, nil
}

// distinct refuses a map that is one of the other files of the run, and an
// earlier image that is the device.
func (r *rescue) distinct(device string, opts CreateOptions, dest *destination) error {
	id, err := blockio.Identify(opts.Map)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if blockio.SameFile(id, dest.id) || dest.stream == nil && blockio.SameName(opts.Map, dest.name) {
		return ErrSameFile
	}
	source, err := blockio.Identify(device)
	if err != nil {
		return nil //nolint:nilerr // to be said when it is opened
	}
	from, err := blockio.Identify(opts.From)
	if err == nil && blockio.SameFile(from, source) {
		return &OpError{"resume from", opts.From, ErrFromDevice}
	}
	if err == nil && blockio.SameFile(from, id) || blockio.SameFile(id, source) {
		return ErrSameFile
	}
	return nil
}

// readMap reads a map; it returns nil if there is none.
func readMap(name string) (*mapfile.Map, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = mapfile.ErrFormat
	}
	if err != nil {
		return nil, &OpError{"read the map", name, err}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, &OpError{"read the map", name, err}
	}
	defer f.Close()
	m, err := mapfile.Read(f)
	if err != nil {
		return nil, &OpError{"read the map", name, err}
	}
	return m, nil
}

// write writes the map of a volume of geometry g: what the image has of its
// blocks, which are those of set but for notRead, and what could not be read. A
// map that was there is replaced.
func (r *rescue) write(g ocfs2.Geometry, set *blockset.Set, notRead []image.Run, bad []blockio.BadRange, program string) error {
	if r.file == nil {
		return nil
	}
	// In units that are as small as a device has them. What is both is in the
	// image: it was read in another way.
	const unit = 512
	const read, failed = 0, 1
	areas := blockset.NewBuilder()
	perBlock := uint64(g.BlockSize()) / unit
	for run := range without(unfailing(set.Spans()), notRead) {
		areas.Add(run.Start*perBlock, run.Len*perBlock, read)
	}
	for _, b := range bad {
		first, end := uint64(b.Off)/unit, (uint64(b.Off+b.Len)+unit-1)/unit
		areas.Add(first, min(end, g.Bytes()/unit)-min(first, g.Bytes()/unit), failed)
	}
	m := &mapfile.Map{State: '+', Pass: 1}
	if len(notRead) > 0 {
		m.State = '?'
	}
	var at uint64
	for run := range areas.Seal().All() {
		status := mapfile.Finished
		if run.Tag == failed {
			status = mapfile.BadSector
		}
		m.Add(int64(run.Start-at)*unit, mapfile.NonTried)
		m.Add(int64(run.Len)*unit, status)
		at = run.Start + run.Len
	}
	m.Add(int64(g.Bytes()-at*unit), mapfile.NonTried)
	if err := m.Write(&sequence{file: r.file}, program); err != nil {
		return &OpError{"write the map", r.name, err}
	}
	if err := r.file.Commit(); err != nil {
		return &OpError{"write the map", r.name, err}
	}
	return nil
}

// close gives up what is not written yet.
func (r *rescue) close() {
	if r.file != nil {
		r.file.Abort()
	}
	if r.earlier != nil {
		r.earlier.src.Close()
	}
}

// sequence writes a file from its start on.
type sequence struct {
	file *blockio.File
	pos  int64
}

func (s *sequence) Write(p []byte) (int, error) {
	n, err := s.file.WriteAt(p, s.pos)
	s.pos += int64(n)
	return n, err
}
