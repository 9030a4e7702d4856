// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"
	"os"
	"syscall"

	"o2image/blockio"
)

// maxAnswer is how much of an answer is read before its end is no longer
// waited for, in bytes: the length of a line that a terminal can hold.
const maxAnswer = 4096

// ask prints a question and reports whether the answer starts with a y. The
// end of the input is a no.
func (p *program) ask(ctx context.Context, question string) (bool, error) {
	if _, err := p.stdout.WriteString(question); err != nil {
		return false, err
	}
	answer := make(chan bool, 1)
	go func() { answer <- readAnswer(p.stdin) }()
	select {
	case yes := <-answer:
		return yes, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// readAnswer reads one line, byte by byte: what follows belongs to whoever
// reads the same input next.
func readAnswer(input *os.File) bool {
	var first byte
	b := make([]byte, 1)
	for i := range maxAnswer {
		if n, _ := input.Read(b); n == 0 {
			break
		}
		if i == 0 {
			first = b[0]
		}
		if b[0] == '\n' {
			break
		}
	}
	return first == 'y' || first == 'Y'
}

// freeSpace returns how many bytes there are for an image called name: what is
// free in its file system, and what an existing file gives back. A block device
// has its size.
func freeSpace(name string) (uint64, error) {
	info, err := os.Stat(name)
	if err != nil {
		folder, err := blockio.Folder(name)
		if err != nil {
			return 0, err
		}
		return blockio.FreeSpace(folder)
	}
	if info.Mode().Type() == os.ModeDevice {
		return deviceSize(name)
	}
	free, err := blockio.FreeSpace(name)
	if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
		free += uint64(st.Blocks) * 512
	}
	return free, err
}

// deviceSize returns the size of a block device in bytes.
func deviceSize(name string) (uint64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	return uint64(end), err
}
