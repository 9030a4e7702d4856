// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package ocfs2

import (
	"fmt"
	"hash/crc32"
)

// Offsets of ocfs2_extended_slot, from its start, and sizes of both formats.
const (
	esValid          = 0x00
	esNodeNum        = 0x04
	extendedSlotSize = 8
	oldSlotSize      = 2
)

// SlotMapEntry says which node mounts the volume in a slot.
type SlotMapEntry struct {
	Slot int    // 0 and up
	Used bool   // a node has the slot
	Node uint32 // number of the node, if used (es_node_num)
}

// DecodeSlotMap decodes the start of the file slot_map: an entry for each of so
// many slots, fewer where b ends before. The extended format is that of volumes
// with IncompatExtendedSlotMap.
func DecodeSlotMap(b []byte, extended bool, slots int) []SlotMapEntry {
	size := oldSlotSize
	if extended {
		size = extendedSlotSize
	}
	slots = min(slots, recordsIn(b, 0, size))
	entries := make([]SlotMapEntry, 0, max(0, slots))
	for i := range slots {
		r := record(b, 0, size, i)
		e := SlotMapEntry{Slot: i}
		if extended {
			e.Used = u8(r, esValid) != 0
			e.Node = u32(r, esNodeNum)
		} else {
			e.Node = uint32(u16(r, 0))
			e.Used = e.Node != InvalidSlot
		}
		if !e.Used {
			e.Node = 0
		}
		entries = append(entries, e)
	}
	return entries
}

// SlotMapFaults returns the contradictions in the slot map at the start of b.
func SlotMapFaults(b []byte, sb *SuperBlock) []Fault {
	f := faults{structure: "slot_map"}
	extended := sb.Incompat.Has(IncompatExtendedSlotMap)
	slotOf := make(map[uint32]int)
	for i, e := range DecodeSlotMap(b, extended, sb.MaxSlots) {
		if valid := u8(record(b, 0, extendedSlotSize, i), esValid); extended && valid > 1 {
			f.add(fmt.Sprintf("se_slots[%d].es_valid", i), decimal(uint64(valid)), "0 or 1")
		}
		if !e.Used {
			continue
		}
		if !extended && !sb.Incompat.Has(IncompatUserspaceStack) && e.Node >= HeartbeatNodes {
			f.add(fmt.Sprintf("sm_slots[%d]", i), decimal(uint64(e.Node)), fmt.Sprintf("less than %d, or %d", HeartbeatNodes, InvalidSlot))
		}
		if other, ok := slotOf[e.Node]; ok {
			f.add(fmt.Sprintf("slot %d", i), fmt.Sprintf("node %d, as slot %d", e.Node, other), "each node once")
		}
		slotOf[e.Node] = i
	}
	return f.found
}

// SlotMapBytes returns the bytes of the slot map of a volume.
func SlotMapBytes(sb *SuperBlock) int {
	if sb.Incompat.Has(IncompatExtendedSlotMap) {
		return extendedSlotSize * sb.MaxSlots
	}
	return oldSlotSize * sb.MaxSlots
}

// Offsets of o2hb_disk_heartbeat_block.
const (
	hbSeq        = 0x00
	hbNode       = 0x08
	hbCksum      = 0x0C
	hbGeneration = 0x10
	hbDeadMS     = 0x18
	hbSize       = 0x20
)

// HeartbeatNodes is the number of units in a heartbeat region that belong to
// nodes: unit n belongs to node n.
const HeartbeatNodes = 255

// Heartbeat is an o2hb_disk_heartbeat_block: one node's unit of the region.
// The zero value is that of a node that never beat.
type Heartbeat struct {
	Seq        uint64 // hb_seq, counts beats
	Node       uint8  // hb_node
	Checksum   uint32 // hb_cksum
	Generation uint64 // hb_generation, of the region's use by the node
	DeadMS     uint32 // hb_dead_ms, milliseconds until others take the node for dead
}

// HeartbeatUnit is the bytes of a unit of the region on devices with sectors
// of 512 bytes. The checksum covers the whole unit.
const HeartbeatUnit = 512

// DecodeHeartbeat decodes b, one whole unit; valid reports whether its checksum
// is right. It is a CRC-32 of the unit with hb_cksum zero that starts at 0 and
// is not inverted, so a unit of zeros is valid.
func DecodeHeartbeat(b []byte) (beat Heartbeat, valid bool) {
	beat = Heartbeat{
		Seq:        u64(b, hbSeq),
		Node:       u8(b, hbNode),
		Checksum:   u32(b, hbCksum),
		Generation: u64(b, hbGeneration),
		DeadMS:     u32(b, hbDeadMS),
	}
	if len(b) < hbSize {
		return beat, false
	}
	crc := ^uint32(0) // package crc32 inverts before and after
	crc = crc32.Update(crc, crc32.IEEETable, b[:hbCksum])
	crc = crc32.Update(crc, crc32.IEEETable, zeroCheck[:4])
	crc = crc32.Update(crc, crc32.IEEETable, b[hbCksum+4:])
	return beat, ^crc == beat.Checksum
}
