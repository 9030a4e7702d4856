// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/pflag"

	"o2image/image/seekable"
)

// zstdLevel is the value of --zstd; 0 if it is not given.
type zstdLevel int

func (l *zstdLevel) Set(text string) error {
	level, err := strconv.Atoi(text)
	if err != nil || level < seekable.MinLevel || level > seekable.MaxLevel {
		return fmt.Errorf("it must be from %d to %d", seekable.MinLevel, seekable.MaxLevel)
	}
	*l = zstdLevel(level)
	return nil
}

func (l *zstdLevel) String() string { return strconv.Itoa(int(*l)) }

func (l *zstdLevel) Type() string { return "level" }

// addZstd adds the option that compresses an image. Its value may be left out.
func addZstd(flags *pflag.FlagSet, target *int) {
	usage := fmt.Sprintf(`compress the image with zstd, at a level from %d to %d, or else %d: in pieces
of 1 MiB, with a table of their places behind them. zstd -d makes the plain
image of it, and this program reads it as it is. It cannot be on a block
device.`, seekable.MinLevel, seekable.MaxLevel, seekable.DefaultLevel)
	flags.VarPF((*zstdLevel)(target), "zstd", "", usage).NoOptDefVal = strconv.Itoa(seekable.DefaultLevel)
}
