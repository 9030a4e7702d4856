// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"o2image"
	"o2image/ocfs2"
	"o2image/volume"
)

type listOptions struct {
	recursive bool
	long      bool
	json      bool
}

func (p *program) newListCommand() *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:   "ls [-lR] [--json] image [path]",
		Short: "list the files on a volume or in an image",
		Long: `ls lists what is in the directory path, or the file path itself, on a
device, in a raw or in a packed image. Without path it is the root directory;
// is the system directory, and //NAME a file or directory in it. Names come
in the order of the disk. Characters that could do harm to a terminal are
shown as \xNN.
`,
		Example: `What is in a directory, everywhere, and in the system directory:

  # o2image ls -l sda1.out /home
  # o2image ls -R sda1.out
  # o2image ls -l sda1.out //
`,
		DisableFlagsInUseLine: true,
		Args:                  operands(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "/"
			if len(args) == 2 {
				dir = args[1]
			}
			return p.list(cmd.Context(), args[0], dir, o)
		},
		ValidArgsFunction: completeFiles,
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	addSwitch(flags, &o.long, "long", "l", `a line has the number of the inode, mode, links, owner, group, size in bytes
(of a device its numbers), time of the last change (UTC), name, and what a
symlink points to.`)
	addSwitch(flags, &o.recursive, "recursive", "R", `list the directories below, too, with full paths.`)
	addSwitch(flags, &o.json, "json", "", `print an object in JSON for each file, one a line. mtime is in seconds since
1970.`)
	addHelp(cmd)
	return cmd
}

// list prints the files under the path top of the volume called name.
func (p *program) list(ctx context.Context, name, top string, o listOptions) error {
	src, err := o2image.Open(ctx, name)
	if err != nil {
		return ofSource(err, name)
	}
	defer src.Close()
	v := src.Volume()
	start, err := lookup(ctx, v, top)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s in %q", escape(top), name)
	}
	if err != nil {
		return &o2image.OpError{Op: "find " + escape(top) + " in", Name: name, Err: err}
	}
	files := v.Children(ctx, start)
	if o.recursive || !start.Inode.IsDir() {
		files = v.WalkFrom(ctx, start)
	}

	out := bufio.NewWriter(p.stdout)
	var result error
	for f, err := range files {
		if ctx.Err() != nil {
			result = ctx.Err()
			break
		}
		if err == nil {
			err = listFile(ctx, out, v, f, o)
		}
		if err != nil {
			if err := out.Flush(); err != nil {
				return err // which says the same of every file
			}
			p.say("%s: %s", escape(f.Path), escape(err.Error()))
			result = errFailed
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return result
}

// lookup finds the file of the given path. Paths that start with two slashes
// are those of the system directory, as in debugfs.ocfs2.
func lookup(ctx context.Context, v *volume.Volume, name string) (volume.File, error) {
	system, isSystem := strings.CutPrefix(name, "//")
	var d ocfs2.Dinode
	var err error
	switch {
	case isSystem && system == "":
		d, err = v.Inode(ctx, v.Super().SystemDir)
	case isSystem:
		d, err = v.SystemFile(ctx, system)
	default:
		name = path.Clean("/" + name)
		d, err = v.Lookup(ctx, name)
	}
	return volume.File{Path: name, Inode: d}, err
}

// listedFile is a file in JSON.
type listedFile struct {
	Inode   uint64     `json:"inode"`
	Mode    string     `json:"mode"`
	Links   uint32     `json:"links"`
	UID     uint32     `json:"uid"`
	GID     uint32     `json:"gid"`
	Size    uint64     `json:"size"` // bytes
	Device  *[2]uint32 `json:"device,omitempty"`
	Mtime   int64      `json:"mtime"` // seconds since 1970
	Path    string     `json:"path"`
	RawPath []byte     `json:"raw_path,omitempty"` // where the path is no UTF-8
	Target  *string    `json:"target,omitempty"`
}

// listFile prints one file.
func listFile(ctx context.Context, w io.Writer, v *volume.Volume, f volume.File, o listOptions) error {
	if !o.long && !o.json {
		_, err := fmt.Fprintln(w, escape(f.Path))
		return err
	}
	d := f.Inode
	line := listedFile{
		Inode: d.Blkno(),
		Mode:  modeString(d.Mode()),
		Links: d.Links(),
		UID:   d.UID(),
		GID:   d.GID(),
		Size:  d.Size(),
		Mtime: d.Mtime().Unix(),
		Path:  f.Path,
	}
	if d.IsDevice() {
		major, minor := d.Rdev()
		line.Device = &[2]uint32{major, minor}
	}
	var unread error
	if d.IsSymlink() {
		target, err := v.Readlink(ctx, d)
		line.Target, unread = &target, err
	}
	if o.json {
		if !utf8.ValidString(f.Path) {
			line.RawPath = []byte(f.Path)
		}
		text, err := json.Marshal(line)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n", text); err != nil {
			return err
		}
		return unread
	}
	size := fmt.Sprint(line.Size)
	if line.Device != nil {
		size = fmt.Sprintf("%d, %d", line.Device[0], line.Device[1])
	}
	var target string
	if line.Target != nil {
		target = " -> " + escape(*line.Target)
	}
	if _, err := fmt.Fprintf(w, "%10d %s %4d %5d %5d %12s %s %s%s\n", line.Inode, line.Mode, line.Links, line.UID, line.GID, size,
		d.Mtime().UTC().Format("2006-01-02 15:04:05"), escape(f.Path), target); err != nil {
		return err
	}
	return unread
}
