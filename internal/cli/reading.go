// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

// readOptions are those about a device that fails.
type readOptions struct {
	retries count
	timeout count // seconds
}

// addTo adds the options, with their defaults.
func (o *readOptions) addTo(flags *pflag.FlagSet) {
	o.retries, o.timeout = 1, 60
	flags.Var(&o.retries, "retries", `try a block that cannot be read N more times; 1 without this option. Where a
large read fails, smaller ones find the blocks that are at fault.`)
	flags.Var(&o.timeout, "read-timeout", `let a read count as failed that has not come back after N seconds; 60 without
this option, never with 0. The rest is read meanwhile. While 64 reads hang,
nothing more is read.`)
}

// refuse returns an error if one of the options was given: with -I they mean
// nothing.
func (o *readOptions) refuse(flags *pflag.FlagSet) error {
	for _, name := range []string{"retries", "read-timeout"} {
		if flags.Changed(name) {
			return fmt.Errorf("--%s is for making an image: it does not go with -I", name)
		}
	}
	return nil
}

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
