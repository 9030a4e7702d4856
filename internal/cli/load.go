// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"o2image"
)

// maxJobs is the largest value of --jobs.
const maxJobs = 1024

// jobs is the value of --jobs; 0 if it is not given.
type jobs int

func (j *jobs) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxJobs {
		return errors.New("it must be from 1 to " + strconv.Itoa(maxJobs))
	}
	*j = jobs(n)
	return nil
}

func (j *jobs) String() string { return "" }

func (j *jobs) Type() string { return "n" }

// rate is the value of --limit-rate, in bytes per second; 0 if it is not given.
type rate int64

func (r *rate) Set(text string) error {
	number := strings.TrimSuffix(text, "/s")
	shift := 0
	if number != "" {
		if i := strings.IndexByte("KMGT", number[len(number)-1]&^0x20); i >= 0 {
			number, shift = number[:len(number)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n == 0 || n > math.MaxInt64>>shift {
		return errors.New("it must be a number of bytes, as 800K, 20M or 1G")
	}
	*r = rate(n << shift)
	return nil
}

func (r *rate) String() string { return "" }

func (r *rate) Type() string { return "bytes" }

// priority is the value of --io-priority.
type priority o2image.Priority

var priorities = map[string]o2image.Priority{
	"idle":   o2image.PriorityIdle,
	"low":    o2image.PriorityLow,
	"normal": o2image.PriorityNormal,
}

func (p *priority) Set(text string) error {
	value, ok := priorities[text]
	if !ok {
		return errors.New("it must be one of " + strings.Join(slices.Sorted(maps.Keys(priorities)), ", "))
	}
	*p = priority(value)
	return nil
}

func (p *priority) String() string { return "" }

func (p *priority) Type() string { return "class" }

// addLoad adds the options that keep a run from being in the way of others.
func addLoad(flags *pflag.FlagSet, load *o2image.Load) {
	flags.Var((*jobs)(&load.Jobs), "jobs", `have at most n reads under way at once; with 1 the device is read by one
request after the other. A device on which the nodes of a cluster beat is
read with 4 jobs and low priority unless something else is said.`)
	flags.Var((*rate)(&load.Rate), "limit-rate", `read at most so many bytes a second, steadily. A number may end in K, M, G
or T for units of 1024.`)
	flags.Var((*priority)(&load.Priority), "io-priority", `the priority of reads and writes: normal, low, or idle for only when nobody
else uses the device. It works where the I/O scheduler of the device knows
priorities.`)
}

// skip is the value of --skip.
type skip o2image.Skip

func (s *skip) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		switch name {
		case "free":
			s.Free = true
		case "journal-clean":
			s.JournalClean = true
		default:
			return errors.New("it must be free, journal-clean or both with a comma between")
		}
	}
	return nil
}

func (s *skip) String() string { return "" }

func (s *skip) Type() string { return "what" }

// addProgress adds the option that has progress shown everywhere.
func addProgress(flags *pflag.FlagSet, target *bool) {
	addSwitch(flags, target, "progress", "", `say every ten seconds on standard error how far the run is. On a terminal it
is shown without this option, in one line, once a run takes longer than a
second.`)
}
