// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"o2image"
)

// undoFacts is what info tells about an undo file.
type undoFacts struct {
	File     string     `json:"file"`
	Format   string     `json:"format"`
	Target   undoTarget `json:"target"`
	Made     time.Time  `json:"made"`
	Restored string     `json:"restored"` // UUID of the volume that was written
	Extents  uint64     `json:"extents"`
	Bytes    uint64     `json:"bytes"`  // saved, without zeros
	Hashes   string     `json:"hashes"` // "not verified", "verified", "differ"
}

// undoTarget is the device or file that an undo file belongs to.
type undoTarget struct {
	Name     string `json:"name"`
	Identity string `json:"identity"`
	Size     int64  `json:"size"`             // before, bytes
	Volume   string `json:"volume,omitempty"` // UUID of the volume on it before, if there was one
}

// undoInfo prints what the undo file called name is.
func (p *program) undoInfo(ctx context.Context, name string, o infoOptions) error {
	u, err := o2image.OpenUndo(name)
	if err != nil {
		return ofSource(err, name)
	}
	defer u.Close()
	h := u.Header()
	f := undoFacts{
		File: name, Format: "undo file",
		Target:   undoTarget{Name: h.Name, Identity: h.Identity, Size: h.OldSize, Volume: uuidText(h.OldUUID)},
		Made:     h.Created,
		Restored: uuidText(h.NewUUID),
		Hashes:   "not verified",
	}
	f.Extents, f.Bytes = u.Saved()
	var damage error
	if o.verify {
		f.Hashes = "verified"
		if err := u.Check(ctx); err != nil {
			f.Hashes, damage = "differ", &o2image.OpError{Op: "verify", Name: name, Err: err}
		}
	}
	if o.json {
		err = printJSON(p.stdout, f)
	} else {
		err = printUndo(p.stdout, f)
	}
	if err != nil {
		return err
	}
	return damage
}

// uuidText returns a UUID as the tools print it, nothing if there is none.
func uuidText(uuid [16]byte) string {
	if uuid == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%X", uuid)
}

func printUndo(output io.Writer, f undoFacts) error {
	w := tabwriter.NewWriter(output, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, escape(fmt.Sprintf(format, args...)))
	}
	row("file", "%s", f.File)
	row("format", "%s: what -I has overwritten", f.Format)
	row("target", "%s, %s", f.Target.Name, f.Target.Identity)
	row("size", "%d bytes before", f.Target.Size)
	if f.Target.Volume != "" {
		row("volume", "UUID %s before", f.Target.Volume)
	}
	row("restored", "UUID %s", f.Restored)
	row("made", "%s", f.Made.Format(time.DateTime+" UTC"))
	row("saved", "%s that are not zero, %d extents", bytesText(f.Bytes), f.Extents)
	row("hashes", "%s", f.Hashes)
	return w.Flush()
}
