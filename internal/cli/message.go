// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"o2image"
)

// complain says an error, in the words of o2image 1.8.7 where it had true ones,
// with a second line where there is something that the user can do.
func (p *program) complain(err error) {
	if errors.Is(err, errFailed) {
		return
	}
	if usage, ok := errors.AsType[*usageError](err); ok {
		if usage.problem != "" {
			p.say("%s", usage.problem)
		}
		fmt.Fprintf(p.stderr, "Usage: %s\n", p.synopsis(usage.cmd))
		return
	}
	p.say("%s", message(err))
	if hint := hint(err); hint != "" {
		p.say("%s", hint)
	}
}

// sourceError marks what was wrong with the file that is read, as opposed to
// the one that is written.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

// ofSource marks err if it is about the file called name, and that is the one
// that is read.
func ofSource(err error, name string) error {
	if op, ok := errors.AsType[*o2image.OpError](err); ok && op.Op == "open" && op.Name == name {
		return sourceError{err}
	}
	return err
}

// hintError is an error about which there is something to say that depends on
// the command line.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }

// hint returns what the user may want to know or do about an error.
func hint(err error) string {
	if own, ok := errors.AsType[hintError](err); ok {
		return own.hint
	}
	op, isOp := errors.AsType[*o2image.OpError](err)
	switch {
	case isOp && errors.Is(err, o2image.ErrNotOCFS2) && compression(op.Name) != "":
		return compression(op.Name)
	case isOp && (errors.Is(err, o2image.ErrUnsupported) || errors.Is(err, o2image.ErrNotOCFS2) && cause(op.Err) != o2image.ErrNotOCFS2.Error()):
		return escape(cause(op.Err))
	case isOp && errors.Is(err, o2image.ErrReadOnly):
		return "nothing was written; to make it writable: blockdev --setrw " + escape(op.Name)
	case errors.Is(err, o2image.ErrOwnVolume):
		return "mounted, it would lose the contents of small files; use an image made with --exact, or --force to lose them"
	case errors.Is(err, o2image.ErrMapExists):
		return "to go on from the image that it belongs to: --from IMAGE; to begin anew, remove it"
	case errors.Is(err, o2image.ErrNoMap):
		return "name the map that was written with the image, or if that is a packed one any new file: --map FILE"
	case errors.Is(err, o2image.ErrRedacted):
		return "without --exact it will do, unless it is a private one"
	case errors.Is(err, o2image.ErrNeedsForce):
		return "to do it all the same: --force"
	}
	return ""
}

// compressed tells files by their first bytes that have to be decompressed first: with
// -dc, since of a file that is cut off -d leaves nothing.
var compressed = map[string]string{
	"\x1f\x8b":         "it is compressed: decompress it with gzip -dc",
	"BZh":              "it is compressed: decompress it with bzip2 -dc",
	"\xfd7zXZ\x00":     "it is compressed: decompress it with xz -dc",
	"\x28\xb5\x2f\xfd": "it is compressed without a seek table, or cut off: decompress it with zstd -dc",
}

// compression says what to do about a file that is compressed, nothing about others.
func compression(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 6)
	n, _ := f.ReadAt(head, 0)
	for magic, advice := range compressed {
		if bytes.HasPrefix(head[:n], []byte(magic)) {
			return advice
		}
	}
	return ""
}

// message returns an error as "what is wrong while doing what". Texts from an image
// can be in what is wrong.
func message(err error) string {
	op, ok := errors.AsType[*o2image.OpError](err)
	if !ok {
		if path, ok := errors.AsType[*fs.PathError](err); ok && path.Path == os.Stdout.Name() {
			return cause(path) + " while writing to standard output"
		}
		return escape(cause(err))
	}
	doing := "while trying to " + op.Op
	switch op.Op {
	case "scan":
		doing = "while scanning disk"
	case "read":
		doing = "while reading"
	case "write":
		doing = "while writing to image"
	}
	return fmt.Sprintf("%s %s \"%s\"", escape(what(err, op)), doing, op.Name)
}

// what returns what was wrong.
func what(err error, op *o2image.OpError) string {
	_, source := errors.AsType[sourceError](err)
	switch {
	case source && op.Name == "":
		return "Illegal or malformed device name"
	case source && errors.Is(err, fs.ErrNotExist):
		return "Device name specified was not found"
	case errors.Is(err, o2image.ErrNotOCFS2), errors.Is(err, o2image.ErrPackedSource), errors.Is(err, o2image.ErrNotPacked):
		return "Bad magic number in superblock"
	case errors.Is(err, o2image.ErrUnsupported):
		return "Unsupported feature(s) found"
	case op.Op == "open" && isFolder(op.Name):
		return "Is a directory"
	}
	return cause(op.Err)
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// cause returns the text of an error. That of a system call alone is said in
// the words of the C library, whose sentences start with a capital.
func cause(err error) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) == 1 {
		err = joined.Unwrap()[0]
	}
	if path, ok := err.(*fs.PathError); ok { //nolint:errorlint // what wraps it has more to say
		err = path.Err
	}
	if errno, ok := err.(syscall.Errno); ok { //nolint:errorlint // the same
		text := errno.Error()
		return strings.ToUpper(text[:1]) + text[1:]
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}
