// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"errors"
	"fmt"
)

// Refusals: what is asked for would do harm, or cannot work.
var (
	// ErrRefused says that the question before the copy was answered with no.
	ErrRefused = errors.New("refused")
	// ErrPackedSource says that the source of a capture is a packed image.
	ErrPackedSource = errors.New("this is a packed image, not a volume")
	// ErrNotPacked says that an image to be restored is not a packed one.
	ErrNotPacked = errors.New("this is not a packed image")
	// ErrSameFile says that source and output are the same file or device.
	ErrSameFile = errors.New("source and output are the same")
	// ErrDevice says that an image is to be written onto a block device.
	ErrDevice = errors.New("the output is a block device")
	// ErrDeviceZstd says that a compressed image is to be written onto a block
	// device, where its end, which it is read by, would not be found.
	ErrDeviceZstd = errors.New("a compressed image cannot be on a block device")
	// ErrTooLarge says that an image is too long to be compressed.
	ErrTooLarge = errors.New("the image is too long to be compressed")
	// ErrSwapped says that the operands of a restore look swapped: the device
	// is an image, and the image a volume.
	ErrSwapped = errors.New("device and image look swapped")
	// ErrTargetImage says that the target of a restore is an image or an undo file,
	// of which nothing would be left.
	ErrTargetImage = errors.New("the device is an image itself, or an undo file")
	// ErrMounted says that the target of a restore is mounted on this node.
	ErrMounted = errors.New("the device is mounted")
	// ErrHeld says that something on this node holds the target of a restore for
	// itself: a volume manager, another program.
	ErrHeld = errors.New("something else has the device in use")
	// ErrInUse says that another node uses the volume on the target of a restore.
	ErrInUse = errors.New("the volume on the device is in use")
	// ErrNoSuper says that an image does not hold the superblock of its volume.
	ErrNoSuper = errors.New("the image lacks the superblock, which could not be read: the device would keep the one that it has")
	// ErrUndoFile says that what should be a volume or an image is an undo file.
	ErrUndoFile = errors.New("this is an undo file, which only a restore reads")
	// ErrUndoPlace says that an undo file cannot be on the device that it is for.
	ErrUndoPlace = errors.New("it would lie on the device that is overwritten")
	// ErrOtherTarget says that an undo file belongs to another device or file.
	ErrOtherTarget = errors.New("the undo file was made for another target")
	// ErrTooSmall says that a device is shorter than the volume in the image.
	ErrTooSmall = errors.New("the device is smaller than the volume")
	// ErrReadOnly says that a device takes no writes.
	ErrReadOnly = errors.New("the device is set read-only")
	// ErrOwnVolume says that a redacted image with a dirty journal is to be
	// restored onto the volume that it was made of: replaying that journal
	// would write zeros over the contents of small files.
	ErrOwnVolume = errors.New("the image holds a dirty journal without the contents of inline files, or may do so, and the device holds the same volume")
	// ErrDeviceSource says that a block device is to be converted.
	ErrDeviceSource = errors.New("a block device is no image")

	// ErrMapExists says that there is a map of an earlier run, and nothing to
	// go on from.
	ErrMapExists = errors.New("there is a map of an earlier run")
	// ErrNoMap says that an image is to be gone on from without a map.
	ErrNoMap = errors.New("there is no map of what is in the image")
	// ErrFromDevice says that what is to be gone on from is the device.
	ErrFromDevice = errors.New("this is the device itself, and no image of it")
	// ErrOtherVolume says that an image to go on from is not that of the volume
	// on the device.
	ErrOtherVolume = errors.New("the device does not hold the volume of the image")
	// ErrRedacted says that an image to go on from lacks what the new one is to
	// have.
	ErrRedacted = errors.New("something was taken out of the image that the new one is to have")

	// ErrNeedsForce is what all refusals are that Force overrides.
	ErrNeedsForce = errors.New("refused without force")
)

// OpError says which step failed for which file.
type OpError struct {
	Op   string // what was being done: "open", "scan", "read", "write", "restore", ...
	Name string // the file or device, as it was given
	Err  error
}

func (e *OpError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Name, e.Err) }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// during says that err came up in a step, unless it names a step of its own.
func during(op, name string, err error) error {
	if own, ok := errors.AsType[*OpError](err); ok {
		return own
	}
	return &OpError{op, name, err}
}

// refusal is an error that Force overrides.
type refusal struct{ error }

func (refusal) Is(target error) bool { return target == ErrNeedsForce }

func (r refusal) Unwrap() error { return r.error }
