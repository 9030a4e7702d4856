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

// XattrHash returns the hash of an xattr's name without prefix, as
// xe_name_hash holds it; uuidHash is the volume's s_uuid_hash. See DirHash for
// unsignedChar.
func XattrHash(name []byte, uuidHash uint32, unsignedChar bool) uint32 {
	h := uuidHash
	for _, c := range name {
		h = bits.RotateLeft32(h, hashShift) ^ char(c, unsignedChar)
	}
	return h
}

// char returns a byte as the C type char, widened to 32 bits.
func char(c byte, unsigned bool) uint32 {
	if unsigned {
		return uint32(c)
	}
	return uint32(int32(int8(c))) //nolint:gosec // the sign is meant to spread
}

const (
	dirHashPiece = 16 // bytes of a name that are hashed at once
	teaDelta     = 0x9E3779B9
	teaRounds    = 16
)

// DirHash returns the hash of a name as the directory index holds it. Names
// with bytes above 0x7F hash in one way where the writer's C type char was
// unsigned and in another where it was signed, as on x86 up to Linux 6.1; a
// checker accepts both.
func (s *SuperBlock) DirHash(name []byte, unsignedChar bool) (major, minor uint32) {
	if (DirEntry{Name: name}).IsDot() {
		return 0, 0
	}
	major, minor = s.DxSeed[0], s.DxSeed[1]
	for {
		key := dirHashKey(name, unsignedChar)
		b0, b1 := major, minor
		var sum uint32
		for range teaRounds {
			sum += teaDelta
			b0 += ((b1 << 4) + key[0]) ^ (b1 + sum) ^ ((b1 >> 5) + key[1])
			b1 += ((b0 << 4) + key[2]) ^ (b0 + sum) ^ ((b0 >> 5) + key[3])
		}
		major += b0
		minor += b1
		if len(name) <= dirHashPiece {
			return major, minor
		}
		name = name[dirHashPiece:]
	}
}

// dirHashKey returns the words of the first piece of what is left of a name.
func dirHashKey(name []byte, unsignedChar bool) [4]uint32 {
	pad := uint32(len(name)) | uint32(len(name))<<8 //nolint:gosec // wraps as in C
	pad |= pad << 16
	key := [4]uint32{pad, pad, pad, pad}
	for i, c := range name[:min(len(name), dirHashPiece)] {
		key[i/4] = key[i/4]<<8 + char(c, unsignedChar)
	}
	return key
}
