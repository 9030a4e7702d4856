// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"o2image"
	"o2image/image/packed"
)

// rootOptions are those of the form of o2image 1.8.7. The first three are its
// letters; the others have long names only, since its other letters must stay
// errors.
type rootOptions struct {
	raw         bool
	install     bool
	interactive bool
	exact       bool
	force       bool
	verbose     bool
	report      string
	undo        string
	zstd        int
	load        o2image.Load
	skip        o2image.Skip
	progress    bool
	estimate    bool
	json        bool
	version     bool
	reading     readOptions
}

const rootText = `o2image copies the metadata of the OCFS2 volume on device to
image_file, so that damage or the layout of the volume can be studied
elsewhere. The image holds the names and the structure of all files,
deleted ones too as far as they can still be seen, but not what is in the
files. The volume is only read.

Directories, inodes, extent and attribute trees, allocation bitmaps and
all system files with the journals are in the image. Attribute values and
targets of symlinks that lie in these blocks are in it as well. Contents of
small files that lie in inode blocks, also in old copies of them in a
journal, are replaced by zeros. Blocks of allocators and directories, and of
journals that point to what files hold or to what is free, hold the text
O2IMAGE-WITHHELD, again and again, where nothing shows that they are metadata;
with --exact they are copied as they are.

Damage on the volume does not end the run. Every structure is checked, and
where one is damaged other ways lead on: backup superblocks, the places where
structures should be, names, links between them, and in the end the marks that
blocks bear. What could not be read or followed all the same is left out, and
the exit status and the report say so.
A first signal ends only the reading: the image is completed with what was
read by then, and with --map and --from a second run reads the rest. In a raw
image nothing but the map and the report tells what is missing: without a map
of it, nothing goes on from there.

The image is packed: the blocks one after the other, with a bitmap that
tells their places. With -r it is raw: a sparse file as long as the volume
that can be used like the volume itself. An image_file of - is standard
output. A regular image_file appears under its name when it is whole, with
mode 0600 if it is new; an existing one keeps its mode. Where the program was
killed, a file .image_file.o2image-unfinished-NUMBER stays; it can be removed.
With --zstd the image is compressed; such images are read like the others.

With -I the roles are turned round: image_file is read and device is written.
While that lasts the device has no superblock, so that nothing mounts it;
after a failure or an interruption running it again completes it. With --undo
what was on the device can be brought back.

If the first operand is the name of a command, that command is run. A file of
that name is written with its folder, as ./info, and a file called - as ./-.
`

// newRootCommand returns the command line with all its commands.
func (p *program) newRootCommand() *cobra.Command {
	var o rootOptions
	cmd := &cobra.Command{
		Use:   programName + " [-rIi] device image_file",
		Short: "copy or restore the metadata of an OCFS2 volume",
		Long:  rootText,
		Example: `The metadata of /dev/sda1 in the packed image sda1.out, and written back:

  # o2image /dev/sda1 sda1.out
  # o2image -I /dev/sda1 sda1.out

Written back so that it can be undone, and undone:

  # o2image -I --undo sda1.undo /dev/sda1 sda1.out
  # o2image -I /dev/sda1 sda1.undo

A raw image:

  # o2image -r /dev/sda1 sda1.raw

Compressed on the way, and without a file on this node:

  # o2image --zstd /dev/sda1 - | ssh host 'cat > sda1.out.zst'
  # o2image /dev/sda1 - | gzip | ssh host 'cat > sda1.out.gz'

From a disk that fails, and once more for what is missing:

  # o2image --map sda1.map /dev/sda1 sda1.out
  # o2image --map sda1.map --from sda1.out /dev/sda1 sda1.out

A raw image through a pipe, and its holes made again:

  # o2image -r /dev/sda1 - | gzip > sda1.raw.gz
  # zcat sda1.raw.gz | cp --sparse=always /dev/fd/0 sda1.raw

To look at a packed image and at a raw one:

  # debugfs.ocfs2 -i sda1.out
  # debugfs.ocfs2 sda1.raw
`,
		SilenceErrors:         true,
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,
		CompletionOptions:     cobra.CompletionOptions{DisableDefaultCmd: true},
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.version:
				return nil
			case o.estimate:
				return operands(1, 2)(cmd, args)
			}
			return operands(2, 2)(cmd, args)
		},
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.version:
				return p.printVersion()
			case o.json && !o.estimate:
				return errors.New("--json is for --estimate; what a run did is written as JSON with --report FILE")
			case o.estimate && o.install:
				return errors.New("--estimate is for making an image, -I writes one back")
			case o.undo != "" && !o.install:
				return &usageError{cmd: cmd, problem: "--undo goes with -I"}
			case o.estimate:
				if err := refuseWith("--estimate", cmd.Flags(), notWithEstimate); err != nil {
					return err
				}
				return p.estimate(cmd.Context(), args[0], o)
			case o.install:
				if err := refuseWith("-I", cmd.Flags(), notWithInstall); err != nil {
					return err
				}
				return p.install(cmd.Context(), args[0], args[1], o)
			}
			return p.create(cmd.Context(), args[0], args[1], o)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	if _, posix := os.LookupEnv("POSIXLY_CORRECT"); posix {
		flags.SetInterspersed(false)
	}
	addSwitch(flags, &o.raw, "raw", "r", `the image is raw: every block at its own place in a sparse file. Use it only
where image_file can have holes. With -I, image_file is a raw image.`)
	addSwitch(flags, &o.install, "install", "I", `write the metadata in image_file to device. CAUTION: this overwrites a
volume. It asks first, on standard output; an answer that starts with y or
Y goes on. The image is verified, and the device is refused if it is
mounted, in use, read-only, too small or an image itself, or if another node uses the
volume on it: where there is a heartbeat, it is watched for 4 seconds. File data on a
device stays; the blocks of the image replace what is in their places. If
image_file is an undo file (see --undo), what it holds is brought back.`)
	addSwitch(flags, &o.interactive, "interactive", "i", `before the image is written, tell its size, before compression, and the space
that is free, and ask. It has no effect with -I or on standard output.`)
	addSwitch(flags, new(bool), "help", "", `print a description and leave.`)
	addSwitch(flags, &o.version, "version", "", `print the versions of the program and of the formats that it writes and
leave.`)
	addSwitch(flags, &o.exact, "exact", "", `copy every block bit for bit. The image then holds the contents of small
files.`)
	addSwitch(flags, &o.force, "force", "", `go on although something speaks against it that the message names: an
image onto a block device or over an undo file; with -I onto a device that
is mounted or in use, onto another image, an image without the superblock,
or an undo file of another device.`)
	addSwitch(flags, &o.verbose, "verbose", "", `say on standard error what was done, and everything that was found wrong.
Otherwise that is summed up in at most ten lines, and a run without
failures or findings prints nothing, but on a terminal it warns of a volume
that is mounted or has a journal to replay.`)
	flags.Var((*fileName)(&o.report), "report", "write to `file` what was copied, found and left out, as JSON: the report\nthat a packed image carries, how long the run took and what it read, and how far\nthe owners of file data were compared if that was too much for all of them.")
	flags.Var((*fileName)(&o.undo), "undo", `with -I, first save in the new `+"`file`"+` what will be overwritten, zeros
excepted. "-I device file" brings it back, and asks as usual: the device, or
file, is as it was before, also in its length. It must be the same one,
unless --force is given. file cannot be on the device.`)
	addZstd(flags, &o.zstd)
	addLoad(flags, &o.load)
	o.reading.addTo(flags)
	flags.Var((*skip)(&o.skip), "skip", `leave out what a sound volume has no use for: free for blocks of allocators
that are not allocated, where deleted files can still be seen, and
journal-clean for the contents of journals that need no replay. Of a new
volume these are nearly all of the image. Several are separated by commas.`)
	addSwitch(flags, &o.estimate, "estimate", "", `write nothing, but tell within seconds how large the image would be, plain
and compressed, and how long it takes to read it: from the totals of the
allocators and a sample. image_file may be left out. What --sweep would
find is not in it. Where damage keeps something from being counted that is
said, the size is the least that it is, and the exit status is 3.`)
	addSwitch(flags, &o.json, "json", "", `print what --estimate tells as an object in JSON.`)
	addProgress(flags, &o.progress)

	cmd.SetFlagErrorFunc(flagError)
	cmd.SetUsageFunc(func(*cobra.Command) error { return nil })
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		if !cmd.HasParent() {
			cmd = p.newRootCommand() // with all its commands
		}
		p.helpErr = p.printHelp(cmd)
	})
	cmd.SetHelpCommand(p.newHelpCommand())
	cmd.AddCommand(p.newInfoCommand(), p.newListCommand(), p.newConvertCommand(), p.newCompletionCommand(), p.newManCommand())
	cmd.InitDefaultHelpCmd()
	return cmd
}

// printVersion prints the versions of the program and of its formats.
func (p *program) printVersion() error {
	_, err := fmt.Fprintf(p.stdout, "%s %s\npacked image: version %d\nraw image\n", programName, version, packed.Version)
	return err
}
