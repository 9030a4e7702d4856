// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/pflag"

	"o2image/blockio"
	"o2image/ocfs2"
)

// readOptions are those about a device that fails and a volume that is damaged.
type readOptions struct {
	sweep      bool
	superblock backup

	retries count
	timeout count // seconds
	mapFile string
	from    string
}

// addTo adds the options, with their defaults.
func (o *readOptions) addTo(flags *pflag.FlagSet) {
	o.retries, o.timeout = 1, 60
	addSwitch(flags, &o.sweep, "sweep", "", `read everything on device that nothing claims, and keep what shows by itself
that it is metadata of this volume. It takes as long as reading the whole
device. Without this option that is done only where groups of an allocator
cannot be found in another way.`)
	flags.Var(&o.superblock, "superblock", `open the volume by its backup superblock N, from 1 to 6. Without this option
a backup is used if the superblock is damaged.`)
	flags.Var(&o.retries, "retries", `try a block that cannot be read N more times; 1 without this option. Where a
large read fails, smaller ones find the blocks that are at fault.`)
	flags.Var(&o.timeout, "read-timeout", `let a read count as failed that has not come back after N seconds; 60 without
this option, never with 0. The rest is read meanwhile. While 256 reads
hang, nothing more is read.`)
	flags.Var((*fileName)(&o.mapFile), "map", "write to `file` which bytes of device are in the image (+), which cannot be\n"+`read (-), and which were not tried or are not metadata (?): a map of GNU
ddrescue. It is written when the image is complete, that of an interrupted
run too.`)
	flags.Var((*fileName)(&o.from), "from", "make a whole image of one that lacks something: what `image` has is taken\n"+`from there, and only the rest is read from device. With --map, which names
the map that was written with image, or if that is a packed one may also name
a new file. It is replaced by that of the new image.`)
}

// checkMap refuses a map that is the report.
func (o *readOptions) checkMap(report string) error {
	if o.mapFile != "" && report != "" && blockio.SameName(o.mapFile, report) {
		return fmt.Errorf("the map is not written over the report %q", report)
	}
	return nil
}

var (
	notWithInstall  = []string{"exact", "zstd", "skip", "sweep", "superblock", "retries", "read-timeout", "map", "from"}
	notWithEstimate = []string{"retries", "read-timeout", "map", "from", "report"}
)

// refuseWith returns an error if one of the options was given, all for making an image,
// that mean nothing with the option other.
func refuseWith(other string, flags *pflag.FlagSet, options []string) error {
	for _, name := range options {
		if flags.Changed(name) {
			return fmt.Errorf("--%s is for making an image: it does not go with %s", name, other)
		}
	}
	return nil
}

// backup is the number of a backup superblock.
type backup int

func (b *backup) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > ocfs2.MaxBackups {
		return fmt.Errorf("it must be a number from 1 to %d", ocfs2.MaxBackups)
	}
	*b = backup(n)
	return nil
}

func (b *backup) String() string {
	if *b == 0 {
		return ""
	}
	return strconv.Itoa(int(*b))
}

func (b *backup) Type() string { return "N" }

// count is the value of an option that is a number.
type count int

// maxCount bounds it: a day in seconds.
const maxCount = 24 * 60 * 60

func (c *count) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > maxCount {
		return fmt.Errorf("it must be a number from 0 to %d", maxCount)
	}
	*c = count(n)
	return nil
}

func (c *count) String() string { return strconv.Itoa(int(*c)) }

func (c *count) Type() string { return "N" }
