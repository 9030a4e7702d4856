// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import "math/bits"

const hashShift = 5 // OCFS2_HASH_SHIFT

// UUIDHash returns the hash of a volume's UUID as s_uuid_hash holds it.
func UUIDHash(uuid [16]byte) uint32 {
	var h uint32
	for _, c := range uuid {
		h = bits.RotateLeft32(h, hashShift) ^ uint32(c)
	}
	return h
}
