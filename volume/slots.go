// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"

	"o2image/ocfs2"
)

// SlotState tells whether a node uses a slot, and in what state its journal is.
type SlotState struct {
	Slot  int    `json:"slot"`
	InUse bool   `json:"in_use"`         // the slot map gives it to a node
	Node  uint32 `json:"node,omitempty"` // that node's number
	Dirty bool   `json:"dirty"`          // the journal needs a replay
}

// Slots returns the state of every slot, as the slot map and the journals'
// inodes have it.
func (v *Volume) Slots(ctx context.Context) ([]SlotState, error) {
	used, err := v.slotMap(ctx)
	if err != nil {
		return nil, err
	}
	files, err := v.systemFiles(ctx)
	if err != nil {
		return nil, err
	}
	states := make([]SlotState, v.sb.MaxSlots)
	for i := range states {
		states[i].Slot = i
		if i < len(used) {
			states[i].InUse, states[i].Node = used[i].Used, used[i].Node
		}
		journal, err := v.Inode(ctx, files[SlotFile("journal", i)])
		if err != nil {
			return nil, fmt.Errorf("journal of slot %d: %w", i, err)
		}
		states[i].Dirty = journal.JournalDirty()
	}
	return states, nil
}

func (v *Volume) slotMap(ctx context.Context) ([]ocfs2.SlotMapEntry, error) {
	d, err := v.SystemFile(ctx, "slot_map")
	if err != nil {
		return nil, err
	}
	extended := v.sb.Incompat.Has(ocfs2.IncompatExtendedSlotMap)
	for c, err := range v.contents(ctx, d) {
		if err != nil {
			return nil, fmt.Errorf("slot map: %w", err)
		}
		return ocfs2.DecodeSlotMap(c.data, extended, v.sb.MaxSlots), nil
	}
	return nil, corrupt(d.Blkno(), []ocfs2.Fault{{Struct: "slot_map", Field: "i_size", Got: fmt.Sprint(d.Size()), Want: "room for all slots"}})
}

// SlotFile returns the name of the system file that slot has of the given
// kind, for instance "journal:0001".
func SlotFile(kind string, slot int) string { return fmt.Sprintf("%s:%04d", kind, slot) }
