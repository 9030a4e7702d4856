// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// escape returns text from a disk so that it cannot do anything to a terminal:
// whatever is not printable is shown as \xNN, a backslash as two.
func escape(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == utf8.RuneError && n == 1, !unicode.IsPrint(r):
			for _, c := range []byte(text[:n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		default:
			b.WriteString(text[:n])
		}
		text = text[n:]
	}
	return b.String()
}

// modeString returns i_mode as ls shows it. A type that does not exist is a
// question mark.
func modeString(mode uint16) string {
	types := map[uint16]byte{1: 'p', 2: 'c', 4: 'd', 6: 'b', 8: '-', 10: 'l', 12: 's'}
	s := []byte("?rwxrwxrwx")
	if c, ok := types[mode>>12]; ok {
		s[0] = c
	}
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			s[i+1] = '-'
		}
	}
	for i, special := range []struct{ with, without byte }{{'s', 'S'}, {'s', 'S'}, {'t', 'T'}} {
		if mode&(0o4000>>i) == 0 {
			continue
		}
		if x := &s[3*(i+1)]; *x == 'x' {
			*x = special.with
		} else {
			*x = special.without
		}
	}
	return string(s)
}

// bytesText returns a number of bytes with the unit that fits.
func bytesText(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}
