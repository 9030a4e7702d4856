// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package volume reads an OCFS2 volume through an [io.ReaderAt]: its system
// files, directories, extent trees and extended attributes, and above all its
// metadata set, the blocks that an image of the volume has to hold.
//
// Anything that gives bytes at the volume's own offsets is a volume: a device,
// a raw image, a packed image.
//
//	v, err := volume.Open(ctx, device)
//	if err != nil {
//		return err
//	}
//	for f, err := range v.Walk(ctx) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(f.Inode.Blkno(), f.Inode.Size(), f.Path)
//	}
//
// The methods that list something (Walk, Children, ReadDir, Extents, Xattrs) yield an
// error for each part that cannot be read or contradicts the format, and go on
// with the next if the caller does. [Volume.Metadata] never fails because of
// damage: it reports findings.
//
// A Volume may be used by several goroutines if its reader may.
package volume
