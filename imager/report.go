// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"o2image/blockio"
	"o2image/image"
	"o2image/ocfs2"
	"o2image/volume"
)

// Report says what an image holds, what it lacks and where it comes from. It
// is the same for the same volume and options, but for the time.
type Report struct {
	Program     string             `json:"program,omitempty"` // name and version
	Options     []string           `json:"options,omitempty"` // what was asked for, as far as it decides what is in the image
	Created     time.Time          `json:"created"`
	Format      string             `json:"format"`
	Redaction   string             `json:"redaction"`
	Volume      VolumeInfo         `json:"volume"`
	Mounted     string             `json:"mounted,omitempty"` // where on this node
	Slots       []volume.SlotState `json:"slots"`
	Alive       []int              `json:"alive,omitempty"` // nodes whose heartbeat was seen to move
	Classes     []ClassCount       `json:"classes"`
	Skipped     []ClassCount       `json:"skipped,omitempty"` // left out because it was asked for
	Redacted    Redacted           `json:"redacted"`
	NotRead     []image.Run        `json:"not_read,omitempty"`    // blocks that were not read when they were copied
	Interrupted bool               `json:"interrupted,omitempty"` // reading was stopped: metadata that was not found by then is missing too
	Damage      string             `json:"damage,omitempty"`      // of the image that this one was converted from: the first that was found
	Findings    []volume.Finding   `json:"findings,omitempty"`
	Found       int                `json:"found,omitempty"`    // findings in all; the list is bounded
	Warnings    []string           `json:"warnings,omitempty"` // what a person should know although nothing is missing
	Run         *Run               `json:"run,omitempty"`      // in no image
}

// Run is what differs from run to run although the image is the same.
type Run struct {
	Source    string  `json:"source"` // the file or device that was read
	Output    string  `json:"output"` // and that was written
	Seconds   float64 `json:"seconds"`
	Jobs      int     `json:"jobs"`              // reads under way at once at most, 0: no limit
	Direct    bool    `json:"direct"`            // the source was read past the page cache
	Reads     uint64  `json:"reads"`             // requests to the source
	BytesRead uint64  `json:"bytes_read"`        // from the source
	Watched   float64 `json:"watched,omitempty"` // how long the heartbeat was watched, seconds

	// ComparedBelow is the first cluster that was not looked at for a second
	// owner of file data, for want of memory; 0: all were.
	ComparedBelow uint64 `json:"compared_below,omitempty"`
}

// VolumeInfo identifies a volume.
type VolumeInfo struct {
	UUID        string   `json:"uuid"`
	Label       string   `json:"label"`
	BlockSize   int      `json:"block_size"`   // bytes
	ClusterSize int      `json:"cluster_size"` // bytes
	Blocks      uint64   `json:"blocks"`
	Slots       int      `json:"slots"`
	Features    []string `json:"features"`
}

// ClassCount is how many blocks of one class an image stores.
type ClassCount struct {
	Class  string `json:"class"`
	Blocks uint64 `json:"blocks"`
	Bytes  uint64 `json:"bytes"`
}

// Redacted counts what was taken out of the stored blocks.
type Redacted struct {
	Inodes uint64 `json:"inodes"` // inode blocks whose contents were zeroed, copies in journals included
	Bytes  uint64 `json:"bytes"`
	Blocks uint64 `json:"blocks"` // blocks that were withheld, since nothing shows that they are metadata
}

// classFree is the name under which a report counts the blocks of allocators
// that are not allocated.
const classFree = "free"

// DescribeVolume returns what identifies the volume with the superblock sb.
func DescribeVolume(sb *ocfs2.SuperBlock) VolumeInfo {
	var features []string
	features = append(features, sb.Compat.Names()...)
	features = append(features, sb.Incompat.Names()...)
	features = append(features, sb.ROCompat.Names()...)
	return VolumeInfo{
		UUID: sb.UUIDString(), Label: sb.Label, BlockSize: sb.BlockSize(), ClusterSize: sb.ClusterSize(),
		Blocks: sb.Blocks(), Slots: sb.MaxSlots, Features: features,
	}
}

// describe fills in what is known of a volume once it has been walked.
func (r *Report) describe(ctx context.Context, vol *volume.Volume, meta *volume.Metadata) {
	r.Volume = DescribeVolume(vol.Super())
	r.describeSlots(ctx, vol)
	r.Findings, r.Found = meta.Findings, meta.Found
	counts := meta.Blocks.CountByTag()
	free := uint64(0)
	for c := volume.ClassSuper; c <= volume.ClassSymlink; c++ {
		n := counts[c] - min(counts[c], meta.Free[c])
		free += counts[c] - n
		r.Classes = r.count(r.Classes, c.String(), n)
		r.Skipped = r.count(r.Skipped, c.String(), meta.Skipped[c])
	}
	r.Classes = r.count(r.Classes, classFree, free)
}

// count adds a number of blocks to counts, if there are any.
func (r *Report) count(counts []ClassCount, name string, blocks uint64) []ClassCount {
	if blocks == 0 {
		return counts
	}
	return append(counts, ClassCount{Class: name, Blocks: blocks, Bytes: blocks * uint64(r.Volume.BlockSize)})
}

// describeSlots fills in the state of the slots, and warns of what it means.
func (r *Report) describeSlots(ctx context.Context, vol *volume.Volume) {
	var err error
	if r.Slots, err = vol.Slots(ctx); err != nil {
		r.Warnings = append(r.Warnings, "the state of the slots is not known: "+err.Error())
	}
	var used, dirty []string
	for _, s := range r.Slots {
		if s.InUse {
			used = append(used, fmt.Sprint(s.Slot))
		}
		if s.Dirty {
			dirty = append(dirty, fmt.Sprint(s.Slot))
		}
	}
	if len(used) > 0 {
		r.Warnings = append(r.Warnings, "the volume is in use, or was not unmounted: slot "+strings.Join(used, ", "))
	}
	if len(dirty) > 0 {
		r.Warnings = append(r.Warnings, "a journal needs a replay: slot "+strings.Join(dirty, ", "))
	}
}

// describeMount fills in where the volume is mounted on this node, if it is.
func (r *Report) describeMount(device string) {
	at, mounted, err := blockio.MountPoint(device)
	if err != nil || !mounted {
		return
	}
	r.Mounted = at
	r.Warnings = append(r.Warnings, "the volume is mounted at "+at+": what was not written yet is missing")
}

// describeBeats fills in which nodes have beaten while the volume was copied. w
// is nil where none can, and err says why it could not be watched.
func (r *Report) describeBeats(w *watch, err error) {
	if w != nil {
		r.Alive, err = w.alive()
	}
	if err != nil {
		r.Warnings = append(r.Warnings, "whether other nodes use the volume is not known: "+err.Error())
	}
	if len(r.Alive) > 0 {
		r.Warnings = append(r.Warnings, nodesAre(r.Alive)+" alive: the volume may have changed while it was copied")
	}
}

// inherit fills in what the image that is restored holds and lacks, by the report
// that it carries.
func (r *Report) inherit(carried *Report) {
	r.Findings, r.Found = carried.Findings, carried.Found
	r.NotRead, r.Interrupted = carried.NotRead, carried.Interrupted
	r.Classes, r.Skipped, r.Redacted = carried.Classes, carried.Skipped, carried.Redacted
	if len(r.Skipped) > 0 {
		r.Warnings = append(r.Warnings,
			"the image was made without free blocks or clean journals: what the device has in their places stays")
	}
}

// Dirty reports whether the journal of any slot needs a replay.
func (r *Report) Dirty() bool {
	return slices.ContainsFunc(r.Slots, func(s volume.SlotState) bool { return s.Dirty })
}

// mayBeDirty reports whether the journal of any slot needs a replay for all that
// is known.
func (r *Report) mayBeDirty() bool {
	return slices.ContainsFunc(r.Slots, func(s volume.SlotState) bool { return s.Dirty || s.Unknown != "" })
}

// Live reports whether the volume may have changed while it was copied.
func (r *Report) Live() bool {
	return r.Mounted != "" || len(r.Alive) > 0 || slices.ContainsFunc(r.Slots, func(s volume.SlotState) bool { return s.InUse })
}

// Incomplete reports whether something is known to be missing from the image.
func (r *Report) Incomplete() bool {
	return r.Interrupted || r.Damage != "" || len(r.NotRead) > 0 ||
		slices.ContainsFunc(r.Findings, func(f volume.Finding) bool { return f.Severity != volume.Damaged })
}

// encode returns the report in the form that an image carries.
func (r *Report) encode() ([]byte, error) {
	carried := *r
	carried.Run = nil
	b, err := json.MarshalIndent(carried, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}
