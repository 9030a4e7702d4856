// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"slices"
)

// Class says why a block belongs to the metadata set. Where two structures
// claim a block, the class with the lower number has it.
type Class uint8

// The classes.
const (
	ClassSuper     Class = iota // from block 0 to the first cluster group, and backup superblocks
	ClassGroup                  // group descriptors of all allocators
	ClassInode                  // blocks of inode allocators
	ClassExtent                 // blocks of extent allocators: extent blocks, xattr blocks, index roots, refcount blocks
	ClassDoubtful               // clusters of journals and other system files that hold file data as well, or are free
	ClassJournal                // clusters of journals
	ClassSystem                 // clusters of other system files: slot map, heartbeat, quota, bad blocks
	ClassDirectory              // clusters of directories
	ClassDxLeaf                 // clusters of directory indexes
	ClassSlack                  // what is no bucket in clusters of indexed xattr trees, and what lies behind the end of quota files and symlinks
	ClassBucket                 // clusters of indexed xattr trees
	ClassSymlink                // clusters of symlinks too long for their inode
	numClasses
)

var classNames = [numClasses]string{
	"super", "group", "inode", "extent", "doubtful", "journal", "system", "directory", "dxleaf", "slack", "bucket", "symlink",
}

func (c Class) String() string {
	if c >= numClasses {
		return "none"
	}
	return classNames[c]
}

// MarshalText gives the name of the class.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText takes what MarshalText gives.
func (c *Class) UnmarshalText(text []byte) error {
	i := slices.Index(classNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("unknown class %q", text)
	}
	*c = Class(i)
	return nil
}
