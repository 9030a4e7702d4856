// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package o2image copies the metadata of an OCFS2 volume into an image file,
// without file data, and restores it.
//
// An image holds inodes, directories and their names, extent trees, extended
// attributes, allocators and journals: the whole skeleton of a volume, enough
// to study its layout or to find the fault in it on another machine. There are
// two formats. A packed image has the blocks back to back and is small; a raw
// image is a sparse file in which every block stands at its own offset, so that
// any program that reads volumes reads it too.
//
// The verbs are those of the program of the same name:
//
//	report, err := o2image.Create(ctx, "/dev/sdb1", "sdb1.img", o2image.CreateOptions{})
//	report, err := o2image.Restore(ctx, "/dev/sdc1", "sdb1.img", o2image.RestoreOptions{})
//	report, err := o2image.Convert(ctx, "sdb1.img", "sdb1.raw", o2image.ConvertOptions{})
//	source, err := o2image.Open(ctx, "sdb1.img")
//
// [Open] reads a device, a raw image and a packed image alike; what can be
// asked of the volume in it is in package [o2image/volume].
//
// The directories below are the layers, each of which knows only those that
// stand further to the left:
//
//	ocfs2, blockset, sparse, undo, mapfile <- blockio, image <- volume <- redact <- imager <- o2image <- internal/cli
package o2image

import (
	"context"
	"os"

	"o2image/blockio"
	"o2image/image"
	"o2image/imager"
	"o2image/ocfs2"
	"o2image/volume"
)

// What the verbs take and give; the documentation is with the types.
type (
	CreateOptions  = imager.CreateOptions
	RestoreOptions = imager.RestoreOptions
	ConvertOptions = imager.ConvertOptions
	Load           = imager.Load
	Pace           = blockio.Pace
	Priority       = blockio.Priority
	Skip           = volume.Skip
	Progress       = imager.Progress
	Forecast       = imager.Forecast
	Estimate       = imager.Estimate
	Report         = imager.Report
	Run            = imager.Run
	VolumeInfo     = imager.VolumeInfo
	OpError        = imager.OpError
	Source         = imager.Source
	UndoFile       = imager.UndoFile
	Format         = image.Format
)

// The formats of a [Source].
const (
	FormatRaw    = image.FormatRaw
	FormatPacked = image.FormatPacked
)

// The priorities of a [Load].
const (
	PriorityNormal = blockio.PriorityNormal
	PriorityLow    = blockio.PriorityLow
	PriorityIdle   = blockio.PriorityIdle
)

// Errors that a caller may want to tell apart, with [errors.Is].
var (
	ErrNotOCFS2     = ocfs2.ErrNotOCFS2
	ErrUnsupported  = ocfs2.ErrUnsupported
	ErrRefused      = imager.ErrRefused
	ErrPackedSource = imager.ErrPackedSource
	ErrNotPacked    = imager.ErrNotPacked
	ErrSameFile     = imager.ErrSameFile
	ErrDevice       = imager.ErrDevice
	ErrDeviceZstd   = imager.ErrDeviceZstd
	ErrTooLarge     = imager.ErrTooLarge
	ErrDeviceSource = imager.ErrDeviceSource
	ErrSwapped      = imager.ErrSwapped
	ErrTargetImage  = imager.ErrTargetImage
	ErrMounted      = imager.ErrMounted
	ErrTooSmall     = imager.ErrTooSmall
	ErrHeld         = imager.ErrHeld
	ErrInUse        = imager.ErrInUse
	ErrNoSuper      = imager.ErrNoSuper
	ErrUndoFile     = imager.ErrUndoFile
	ErrUndoPlace    = imager.ErrUndoPlace
	ErrOtherTarget  = imager.ErrOtherTarget
	ErrReadOnly     = imager.ErrReadOnly
	ErrOwnVolume    = imager.ErrOwnVolume
	ErrMapExists    = imager.ErrMapExists
	ErrNoMap        = imager.ErrNoMap
	ErrFromDevice   = imager.ErrFromDevice
	ErrOtherVolume  = imager.ErrOtherVolume
	ErrRedacted     = imager.ErrRedacted
	ErrStopped      = blockio.ErrStopped
	ErrNeedsForce   = imager.ErrNeedsForce
)

// Create copies the metadata of the volume on device, which may also be a file
// or a raw image, into the file output. An existing file is replaced when the
// image is complete. If the report is not nil an image was written; see
// [Report.Incomplete]. Errors are [*OpError].
func Create(ctx context.Context, device, output string, opts CreateOptions) (*Report, error) {
	return imager.Create(ctx, device, output, opts)
}

// CreateTo is [Create] with an open file, standard output for instance, which
// is written in sequence from its present offset.
func CreateTo(ctx context.Context, device string, output *os.File, opts CreateOptions) (*Report, error) {
	return imager.CreateTo(ctx, device, output, opts)
}

// Foresee tells within seconds what [Create] with the same options would make of
// the volume on device.
func Foresee(ctx context.Context, device string, opts CreateOptions) (*Forecast, error) {
	return imager.Foresee(ctx, device, opts)
}

// Restore writes the blocks of an image onto device at their own offsets, and
// leaves everything else there as it is. If image is an undo file, it brings back
// what an earlier Restore has overwritten.
func Restore(ctx context.Context, device, image string, opts RestoreOptions) (*Report, error) {
	return imager.Restore(ctx, device, image, opts)
}

// Convert writes a packed image as a raw one, or a raw one as a packed one.
func Convert(ctx context.Context, source, target string, opts ConvertOptions) (*Report, error) {
	return imager.Convert(ctx, source, target, opts)
}

// DescribeVolume returns what identifies the volume with the superblock sb.
func DescribeVolume(sb *ocfs2.SuperBlock) VolumeInfo { return imager.DescribeVolume(sb) }

// Open opens a device, a raw image or a packed image for reading, where the
// images may be compressed.
func Open(ctx context.Context, name string) (*Source, error) {
	return imager.Open(ctx, name)
}

// OpenUndo opens an undo file, which [Restore] has made. The error is
// [o2image/undo.ErrFormat] for other files.
func OpenUndo(name string) (*UndoFile, error) { return imager.OpenUndo(name) }
