// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package imager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"o2image/blockio"
	"o2image/volume"
)

// reasons gathers what speaks against writing a device, so that a user hears
// all of it at once.
type reasons struct {
	list  []error
	final bool // there is one that Force does not override
}

// add adds a reason that Force overrides.
func (r *reasons) add(err error) { r.list = append(r.list, err) }

// addFinal adds one that it does not.
func (r *reasons) addFinal(err error) {
	r.list = append(r.list, err)
	r.final = true
}

// err returns the reasons as one error, nil if they do not count.
func (r *reasons) err(force bool) error {
	switch {
	case r.final:
		return errors.Join(r.list...)
	case len(r.list) == 0 || force:
		return nil
	}
	return refusal{errors.Join(r.list...)}
}

// ofDevice adds what speaks against writing size bytes onto a device, whatever
// they are. It waits for the heartbeat only if that can make a difference.
func (r *reasons) ofDevice(ctx context.Context, name string, size int64, force bool) error {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	at, mounted, err := blockio.MountPoint(name)
	if err != nil {
		return err
	}
	if mounted {
		r.add(fmt.Errorf("%w: at %s", ErrMounted, at))
	}
	if info.Mode().Type() == fs.ModeDevice {
		held, err := blockio.Held(name)
		if err != nil {
			return err
		}
		if held && !mounted {
			r.add(ErrHeld)
		}
		readOnly, err := blockio.ReadOnly(name)
		if err != nil {
			return err
		}
		if readOnly {
			r.addFinal(ErrReadOnly)
		}
		dev, err := blockio.Open(name)
		if err != nil {
			return err
		}
		if dev.Size() < size {
			r.addFinal(fmt.Errorf("%w: it has %d bytes, the volume %d", ErrTooSmall, dev.Size(), size))
		}
		if err := dev.Close(); err != nil {
			return err
		}
	}
	if force || r.final {
		return nil
	}
	return r.ofNodes(ctx, name)
}

// ofNodes adds which other nodes use the volume on a device, if there is one.
// Without a superblock no node has mounted it, as where a restore was cut off.
func (r *reasons) ofNodes(ctx context.Context, name string) error {
	mountable, err := hasSuper(name)
	if err != nil || !mountable {
		return err
	}
	there, err := Open(ctx, name)
	if err != nil {
		return ctx.Err()
	}
	defer there.Close()
	if there.packed != nil || there.zstd != nil || !there.vol.Clustered() {
		return nil
	}
	if !there.vol.HasHeartbeat() {
		r.ofSlots(ctx, there.vol)
		return nil
	}
	alive, err := aliveNow(ctx, there)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.add(fmt.Errorf("whether another node uses the volume on the device is not known: %w", err))
	}
	if len(alive) > 0 {
		r.add(fmt.Errorf("%w: its heartbeat shows that %s alive", ErrInUse, nodesAre(alive)))
	}
	return nil
}

// hasSuper reports whether there is a superblock by which a volume can be mounted.
func hasSuper(name string) (bool, error) {
	dev, err := blockio.Open(name)
	if err != nil {
		return false, err
	}
	defer dev.Close()
	return primarySuper(dev) != nil, nil
}

// ofSlots adds which nodes have a slot on a volume that does not tell whether
// they are alive.
func (r *reasons) ofSlots(ctx context.Context, vol *volume.Volume) {
	slots, _ := vol.Slots(ctx) // what can be known
	for _, s := range slots {
		if s.InUse {
			r.add(fmt.Errorf("%w, or was not unmounted: node %d has slot %d, and no heartbeat on the volume tells whether it is alive", ErrInUse, s.Node, s.Slot))
		}
	}
}

// nodesAre names nodes in front of what they are.
func nodesAre(nodes []int) string {
	if len(nodes) == 1 {
		return fmt.Sprintf("node %d is", nodes[0])
	}
	return "nodes " + strings.Trim(fmt.Sprint(nodes), "[]") + " are"
}
