// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package mapfile reads and writes the map files of GNU ddrescue, which tell
// what has been rescued of a failing disk. The format is that of the chapter
// "Mapfile structure" in the manual of ddrescue 1.27.
//
// A map file is text. What follows a # is a comment. The first line is the state
// of the work: a position, a status, and the number of the pass, which versions
// before 1.20 leave out. Each line after it is a block, by its position and size
// in bytes and its status. The blocks follow one another without a gap.
//
//	# current_pos  current_status  current_pass
//	0x00000000     ?               1
//	#      pos        size  status
//	0x00000000  0x00100000  +
//	0x00100000  0x00001000  -
//	0x00101000  0x03EFF000  ?
package mapfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// ErrFormat says that a file is no map file.
var ErrFormat = errors.New("not a map file of ddrescue")

// Status is what has become of a block.
type Status byte

// The statuses of blocks.
const (
	NonTried   Status = '?' // not tried, or not wanted
	NonTrimmed Status = '*' // a large read failed
	NonScraped Status = '/' // its edges were tried
	BadSector  Status = '-' // cannot be read
	Finished   Status = '+' // has been read
)

// Block is a range of bytes of one status.
type Block struct {
	Pos    int64
	Size   int64 // greater than 0
	Status Status
}

// End returns the position behind the block.
func (b Block) End() int64 { return b.Pos + b.Size }

// Map is the contents of a map file, without its comments.
type Map struct {
	Pos    int64 // where the work stands
	State  byte  // what is being done: one of ?*/-FG+
	Pass   int   // from 1 on
	Blocks []Block
}

const (
	statuses = "?*/-+"
	states   = "?*/-FG+"

	// maxBlocks bounds the memory that a map takes: 24 bytes each.
	maxBlocks = 4 << 20
	// maxLine is the longest line that is read, in bytes.
	maxLine = 64 << 10
)

// Add adds size bytes of a status behind the last block.
func (m *Map) Add(size int64, status Status) {
	if size <= 0 {
		return
	}
	last := len(m.Blocks) - 1
	switch {
	case last < 0:
		m.Blocks = append(m.Blocks, Block{Size: size, Status: status})
	case m.Blocks[last].Status == status:
		m.Blocks[last].Size += size
	default:
		m.Blocks = append(m.Blocks, Block{Pos: m.Blocks[last].End(), Size: size, Status: status})
	}
}

// Write writes a map file, with a comment that names the program.
func (m *Map) Write(w io.Writer, program string) error {
	buf := bufio.NewWriter(w)
	program, _, _ = strings.Cut(program, "\n")
	fmt.Fprintf(buf, "# Mapfile. Created by %s\n", program)
	fmt.Fprint(buf, "# current_pos  current_status  current_pass\n")
	fmt.Fprintf(buf, "0x%08X     %c               %d\n", m.Pos, m.State, m.Pass)
	fmt.Fprint(buf, "#      pos        size  status\n")
	for _, b := range m.Blocks {
		fmt.Fprintf(buf, "0x%08X  0x%08X  %c\n", b.Pos, b.Size, b.Status)
	}
	return buf.Flush()
}

// Read reads a map file. The error is [ErrFormat], with the line, if it is none,
// and an error of r as it is.
func Read(r io.Reader) (*Map, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var m *Map
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		if i := strings.IndexByte(text, '#'); i == 0 || i > 0 && strings.IndexByte(" \t", text[i-1]) >= 0 {
			text = text[:i]
		}
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		var err error
		if m == nil {
			m, err = parseState(fields)
		} else {
			err = m.parseBlock(fields)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrFormat, n, err)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%w: a line is longer than %d bytes", ErrFormat, maxLine)
	case err != nil:
		return nil, err
	case m == nil:
		return nil, fmt.Errorf("%w: it has no status line", ErrFormat)
	}
	return m, nil
}

// parseState parses the status line.
func parseState(fields []string) (*Map, error) {
	m := &Map{Pass: 1}
	if len(fields) != 2 && len(fields) != 3 {
		return nil, fmt.Errorf("%d fields, the status line has 3", len(fields))
	}
	var err error
	if m.Pos, err = parseNumber(fields[0]); err != nil {
		return nil, err
	}
	if len(fields[1]) != 1 || !strings.Contains(states, fields[1]) {
		return nil, fmt.Errorf("status %.10q", fields[1])
	}
	m.State = fields[1][0]
	if len(fields) == 3 {
		pass, err := parseNumber(fields[2])
		if err != nil || pass == 0 || pass > math.MaxInt32 {
			return nil, fmt.Errorf("pass %.30q", fields[2])
		}
		m.Pass = int(pass)
	}
	return m, nil
}

// parseBlock parses the line of a block.
func (m *Map) parseBlock(fields []string) error {
	if len(fields) != 3 {
		return fmt.Errorf("%d fields, a block has 3", len(fields))
	}
	pos, err := parseNumber(fields[0])
	if err != nil {
		return err
	}
	size, err := parseNumber(fields[1])
	if err != nil {
		return err
	}
	if size == 0 || size > math.MaxInt64-pos {
		return fmt.Errorf("a block of %d bytes at %d", size, pos)
	}
	if last := len(m.Blocks) - 1; last >= 0 && m.Blocks[last].End() != pos {
		return fmt.Errorf("a block at %d, the one before ends at %d", pos, m.Blocks[last].End())
	}
	if len(fields[2]) != 1 || !strings.Contains(statuses, fields[2]) {
		return fmt.Errorf("status %.10q", fields[2])
	}
	if len(m.Blocks) == maxBlocks {
		return fmt.Errorf("there are more than %d blocks", maxBlocks)
	}
	m.Blocks = append(m.Blocks, Block{Pos: pos, Size: size, Status: Status(fields[2][0])})
	return nil
}

// parseNumber parses a number as C has them: decimal, octal or hexadecimal.
func parseNumber(text string) (int64, error) {
	digits, base := text, 10
	switch {
	case strings.HasPrefix(text, "0x"), strings.HasPrefix(text, "0X"):
		digits, base = text[2:], 16
	case strings.HasPrefix(text, "0") && len(text) > 1:
		digits, base = text[1:], 8
	}
	n, err := strconv.ParseUint(digits, base, 63)
	if err != nil {
		return 0, fmt.Errorf("number %.30q", text)
	}
	return int64(n), nil
}
