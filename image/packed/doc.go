// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package packed is the packed image format, version 1, that o2image 1.8.7
// writes and debugfs.ocfs2 -i reads: the stored blocks of a volume one after
// the other, and a bitmap that says which they are.
//
// All integers are little-endian, bs is the block size of the volume.
//
//	0                         header, padded to bs bytes
//	bs                        the stored blocks in ascending order
//	bs x (1+hdr_imgblkcnt)    bitmap, in pages of 4096 bytes
//
// That is the image proper. Block n is stored if bit n of the bitmap is set
// (byte n/8, value 1 << n%8); then it is image block 1 + the number of bits set
// below n. The bitmap has a page for every 32768 blocks of the volume. Bits
// behind the last block mean nothing.
//
// # Header
//
//	0x00   4   hdr_magic: 0x72A3D45F
//	0x04   4   hdr_timestamp: seconds since 1970, cut to 32 bits
//	0x08  16   hdr_magic_desc: "OCFS2 IMAGE" and zeros
//	0x18   8   hdr_version: 1
//	0x20   8   hdr_fsblkcnt: blocks of the volume
//	0x28   8   hdr_fsblksz: bs
//	0x30   8   hdr_imgblkcnt: blocks stored
//	0x38   8   hdr_bmpblksz: 4096
//	0x40   8   hdr_superblkcnt: places of backup superblocks in the volume
//	0x48  48   hdr_superblocks: image block of each, all ones if not stored
//	0x80  48   the record of this project
//
// The rest is zero here and anything in images of 1.8.7. Nothing of ours may
// lie at 0x200 or behind: where bs allows it, debugfs.ocfs2 looks there for
// the label of an OCFS1 volume.
//
// # Record
//
// What is known before the first byte of an image goes out, for readers that
// may not have the end of the file. Offsets are those of the file.
//
//	0x80   8   "O2IMGREC"
//	0x88   2   version of the record: 1
//	0x8A   1   redaction: 0 exact, 1 default, 2 private, 255 unknown
//	0x8B   5   zero
//	0x90  16   key id: which key private names were made with; zero if none
//	0xA0   8   offset of the trailer, which is the length of the image proper
//	0xA8   4   CRC-32 (IEEE) of the 40 bytes before
//	0xAC   4   zero
//
// Images of 1.8.7 have no record.
//
// # Trailer
//
// Behind the image proper, where readers that do not know it never look:
//
//	T              report: JSON, R bytes, at most 64 MiB
//	T + R          a hash of each piece of 1 MiB of the image proper, the last
//	               of which may be shorter: N hashes of 32 bytes
//	T + R + 32 N   footer of 128 bytes, which ends the file; something may follow
//	               on a device
//
// A piece is hashed without its zeros: the hash is the SHA-256 of its sparse form,
// as package sparse describes it. Where N, T and the length of a piece are known,
// that form stands for one piece only.
//
// The footer, with offsets from its own start:
//
//	0x00   8   "O2IMGEND"
//	0x08   2   version of the trailer: 2
//	0x0A   2   flags: 1 partial, 2 live
//	0x0C   4   CRC-32 (IEEE) of the footer with this field zero
//	0x10   8   T
//	0x18   8   R
//	0x20   8   N
//	0x28   8   length of a piece: 1048576
//	0x30   8   length of the file, T + R + 32 N + 128
//	0x38   8   zero
//	0x40  32   SHA-256 of the report
//	0x60  32   root hash
//
// The root hash stands for the whole file: it is the SHA-256 of the 16 bytes
// "o2image root v2" and NUL, the footer up to 0x60 with its CRC-32 zero, the
// record (48 bytes), and the N hashes, in this order.
package packed
