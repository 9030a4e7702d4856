// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"o2image/ocfs2"
)

// SlotState tells whether a node uses a slot, and in what state its journal is.
type SlotState struct {
	Slot    int    `json:"slot"`
	InUse   bool   `json:"in_use"`            // the slot map gives it to a node
	Node    uint32 `json:"node,omitempty"`    // that node's number
	Dirty   bool   `json:"dirty"`             // the journal needs a replay
	Unknown string `json:"unknown,omitempty"` // why it is not known whether the journal does
}

// Slots returns the state of every slot, as the slot map and the journals'
// inodes have it. An error does not take away what is known all the same: only
// InUse is not if the slot map could not be read, and Unknown tells of which
// journal the inode could not.
func (v *Volume) Slots(ctx context.Context) ([]SlotState, error) {
	used, mapErr := v.slotMap(ctx)
	files, dirErr := v.systemFiles(ctx)
	states := make([]SlotState, v.sb.MaxSlots)
	var journals error
	for i := range states {
		state := &states[i]
		state.Slot = i
		if i < len(used) {
			state.InUse, state.Node = used[i].Used, used[i].Node
		}
		journal, err := v.journal(ctx, files, i)
		if err != nil {
			state.Unknown = err.Error()
			journals = cmp.Or(journals, fmt.Errorf("journal of slot %d: %w", i, err))
			continue
		}
		state.Dirty = journal.JournalDirty()
	}
	return states, errors.Join(mapErr, dirErr, journals)
}

// journal returns the inode of the journal of a slot.
func (v *Volume) journal(ctx context.Context, files map[string]uint64, slot int) (ocfs2.Dinode, error) {
	name := SlotFile("journal", slot)
	ino, ok := files[name]
	if !ok {
		return ocfs2.Dinode{}, fmt.Errorf("find %s: %w", name, fs.ErrNotExist)
	}
	return v.Inode(ctx, ino)
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
