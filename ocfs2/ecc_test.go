// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"bytes"
	"testing"
)

func TestCodePositions(t *testing.T) {
	for _, c := range loadChecks(t).CodePositions {
		b := make([]byte, MaxBlockSize)
		RepairBit(b, c.DataBit)
		if got := Hamming(b, NoCheck); int(got) != c.CodePosition {
			t.Errorf("parity of bit %d is %d, want %d", c.DataBit, got, c.CodePosition)
		}
		if bit, ok := dataBit(c.CodePosition); !ok || bit != c.DataBit {
			t.Errorf("position %d belongs to bit %d, %v, want %d", c.CodePosition, bit, ok, c.DataBit)
		}
	}
}

// TestHammingByDefinition counts through the code positions as the format's
// text does.
func TestHammingByDefinition(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 9, 20, 512, 1000, 1024, 2048, 4096} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(i*i*31 + i>>3)
		}
		var want uint16
		position := 3
		for i := range size * 8 {
			if b[i/8]>>(i%8)&1 == 1 {
				want ^= uint16(position)
			}
			if position++; position&(position-1) == 0 {
				position++
			}
		}
		if got := Hamming(b, NoCheck); got != want {
			t.Errorf("%d bytes: got %#x, want %#x", size, got, want)
		}
	}
}

func TestSyntheticChecks(t *testing.T) {
	for _, c := range loadChecks(t).Synthetic {
		b := []byte(c.Hex)
		if b == nil {
			b = bytes.Repeat(c.Fill, c.Length)
		}
		if got := CRC32(b, NoCheck); got != uint32(c.CRC32) {
			t.Errorf("%s: CRC %#x, want %#x", c.Name, got, c.CRC32)
		}
		if got := Hamming(b, NoCheck); got != uint16(c.ECC) {
			t.Errorf("%s: ECC %#x, want %#x", c.Name, got, c.ECC)
		}
	}
}

func TestBlockChecks(t *testing.T) {
	for _, v := range loadChecks(t).Blocks {
		kind := v.kind(t)
		if off, ok := kind.CheckOffset(len(v.Hex)); !ok || off != v.CheckOffset {
			t.Errorf("%s: check at %#x, %v, want %#x", v.Name, off, ok, v.CheckOffset)
		}
		if got := CRC32(v.Hex, v.CheckOffset); got != uint32(v.CRC32) {
			t.Errorf("%s: CRC %#x, want %#x", v.Name, got, v.CRC32)
		}
		if got := Hamming(v.Hex, v.CheckOffset); got != uint16(v.ECC) {
			t.Errorf("%s: ECC %#x, want %#x", v.Name, got, v.ECC)
		}
		if state, _ := kind.VerifyECC(v.Hex); state != ECCValid {
			t.Errorf("%s: %v", v.Name, state)
		}
		b := bytes.Clone(v.Hex)
		for i := range checkBytes {
			b[v.CheckOffset+i] = 0xA5
		}
		if kind.UpdateECC(b); !bytes.Equal(b, v.Hex) {
			t.Errorf("%s: UpdateECC does not restore the check", v.Name)
		}
	}
}

func TestRepairs(t *testing.T) {
	vectors := loadChecks(t)
	for _, r := range vectors.Repairs {
		v := vectors.block(t, r.Base)
		kind := v.kind(t)
		for _, bit := range r.FlipDataBits {
			RepairBit(v.Hex, bit)
		}
		for _, bit := range r.FlipCheckBits {
			RepairBit(v.Hex, v.CheckOffset*8+bit)
		}
		broken := bytes.Clone(v.Hex)
		state, bit := kind.VerifyECC(v.Hex)
		if !bytes.Equal(v.Hex, broken) {
			t.Fatalf("%s: VerifyECC changed the block", r.Base)
		}
		want := map[string]ECCState{"valid": ECCValid, "repaired": ECCRepairable, "invalid": ECCInvalid}[r.Result]
		if state != want || state == ECCRepairable && bit != r.RepairedBit {
			t.Errorf("%s, data bits %v, check bits %v: got %v, bit %d, want %s, bit %d",
				r.Base, r.FlipDataBits, r.FlipCheckBits, state, bit, r.Result, r.RepairedBit)
		}
		if got := CRC32(v.Hex, v.CheckOffset); r.ComputedCRC32 != 0 && got != uint32(r.ComputedCRC32) {
			t.Errorf("%s: CRC %#x, want %#x", r.Base, got, r.ComputedCRC32)
		}
		if state == ECCRepairable {
			RepairBit(v.Hex, bit)
			if !bytes.Equal(v.Hex, vectors.block(t, r.Base).Hex) {
				t.Errorf("%s: repaired block differs from the original", r.Base)
			}
		}
	}
}

// A bucket spans several blocks; a kind without check, or a block too short
// for one, must never pass.
func TestVerifyECCWithoutCheck(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		b    []byte
	}{
		{KindNone, make([]byte, MinBlockSize)},
		{KindInode, make([]byte, 0x80)},
		{KindQuotaBlock, make([]byte, 7)},
		{Kind(200), make([]byte, MinBlockSize)},
	} {
		if state, _ := c.kind.VerifyECC(c.b); state != ECCInvalid {
			t.Errorf("%v of %d bytes: %v", c.kind, len(c.b), state)
		}
		c.kind.UpdateECC(c.b)
	}
}

func BenchmarkHamming(b *testing.B) {
	block := loadChecks(b).block(b, "dx-leaf-4096").Hex
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		Hamming(block, 8)
	}
}

func BenchmarkCRC32(b *testing.B) {
	block := loadChecks(b).block(b, "dx-leaf-4096").Hex
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		CRC32(block, 8)
	}
}

func BenchmarkVerifyECC(b *testing.B) {
	block := loadChecks(b).block(b, "dx-leaf-4096").Hex
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		KindDxLeaf.VerifyECC(block)
	}
}
