// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package damage

import (
	"fmt"
	"io"
)

// Patch is a run of bytes that stand somewhere else than on the sound volume.
type Patch struct {
	Off  int64 // bytes from the start of the volume
	Data []byte
}

// Overlay shows a volume as it is after some bytes of it were changed. It may be
// used concurrently.
type Overlay struct {
	Base    io.ReaderAt
	Patches []Patch // later ones lie over earlier ones
}

// ReadAt reads from the changed volume.
func (o Overlay) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.Base.ReadAt(p, off)
	for _, c := range o.Patches {
		from, to := max(off, c.Off), min(off+int64(n), c.Off+int64(len(c.Data)))
		if from < to {
			copy(p[from-off:to-off], c.Data[from-c.Off:])
		}
	}
	return n, err
}

// Apply writes the changes of a case to a copy of the volume.
func (c *Case) Apply(w io.WriterAt) error {
	for _, p := range c.Patches {
		if _, err := w.WriteAt(p.Data, p.Off); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}
