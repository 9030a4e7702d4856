// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"o2image"
	"o2image/blockio"
	"o2image/volume"
)

// maxSummary is how many lines standard error gets, at most, about what was
// found wrong.
const maxSummary = 10

// account says what a run that wrote an image or a volume came to, and writes
// the report of it. It returns err, or errIncomplete if the run was not
// complete. report may be nil if err is not. image is the packed image that tells
// what was found, empty if none does.
func (p *program) account(report *o2image.Report, err error, o rootOptions, image string, files ...string) error {
	if report == nil {
		return err
	}
	if o.report != "" {
		if reportErr := writeReport(o.report, report, files); reportErr != nil {
			p.complain(reportErr)
			err = cmp.Or(err, errFailed)
		}
	}
	if p.chatty(o.verbose) {
		for _, warning := range report.Warnings {
			p.say("warning: %s", escape(warning))
		}
	}
	switch {
	case o.verbose:
		p.sayFindings(report)
		p.saySummary(report)
	case err == nil:
		for _, line := range summary(report, resuming(report, o, image), p.whereAll(report, o, image)) {
			p.say("%s", line)
		}
	}
	if err == nil && report.Incomplete() {
		return errIncomplete
	}
	return err
}

// resuming says how what an interrupted run lacks can be had.
func resuming(report *o2image.Report, o rootOptions, image string) string {
	switch {
	case report.Format == o2image.FormatPacked.String() || o.reading.mapFile != "":
		return "interrupted: --map and --from make a whole image of this one"
	case image != "":
		return "interrupted: --map and --from make a whole image of " + escape(image)
	}
	return "interrupted: a new run makes a whole image; only with --map can it go on from a raw one"
}

// whereAll says where all findings are. What an image does not know is that it is
// damaged.
func (p *program) whereAll(report *o2image.Report, o rootOptions, image string) string {
	if o.report != "" {
		return "all of it is in " + escape(o.report)
	}
	if info, err := os.Stat(image); err == nil && info.Mode().IsRegular() && report.Damage == "" {
		return fmt.Sprintf("to see all of it: %s info %s", p.name, escape(image))
	}
	return "to have all of it written down: --report FILE"
}

// kind is what is counted as one in a summary.
type kind struct {
	severity volume.Severity
	class    volume.Class
}

// summary puts what was found wrong into at most maxSummary lines: how often
// each kind of it was found, with the first of them, the worst kinds before the
// others. The first line, if the run was interrupted, is resume, the last line is
// where. There are no lines if nothing was found.
func summary(report *o2image.Report, resume, where string) []string {
	var lines []string
	if report.Interrupted {
		lines = append(lines, resume)
	}
	if report.Damage != "" {
		lines = append(lines, escape(report.Damage))
	}
	if len(report.NotRead) > 0 {
		var blocks uint64
		for _, run := range report.NotRead {
			blocks += run.Len
		}
		lines = append(lines, fmt.Sprintf("not read when they were copied: %d; the first is block %d", blocks, report.NotRead[0].Start))
	}
	var kinds []kind
	count, first := make(map[kind]int), make(map[kind]volume.Finding)
	for _, f := range report.Findings {
		k := kind{f.Severity, f.Class}
		if count[k] == 0 {
			kinds, first[k] = append(kinds, k), f
		}
		count[k]++
	}
	slices.SortFunc(kinds, func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.severity, b.severity), cmp.Compare(count[b], count[a]), cmp.Compare(a.class, b.class))
	})
	rest := report.Found - len(report.Findings) // those are only counted
	for i, k := range kinds {
		// One line says what is left over, and one where.
		if len(lines) == maxSummary-2 && (rest > 0 || i < len(kinds)-1) {
			for _, k := range kinds[i:] {
				rest += count[k]
			}
			break
		}
		f := first[k]
		lines = append(lines, fmt.Sprintf("%s, %s: %d; the first is %s: %s", k.severity, k.class, count[k], blockText(f), escape(f.Text)))
	}
	if rest > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", rest))
	}
	if len(lines) > 0 {
		lines = append(lines, where)
	}
	return lines
}

// blockText names the block of a finding.
func blockText(f volume.Finding) string {
	if f.Inode == 0 || f.Inode == f.Block {
		return fmt.Sprintf("block %d", f.Block)
	}
	return fmt.Sprintf("block %d (inode %d)", f.Block, f.Inode)
}

// findingText tells all about a finding.
func findingText(f volume.Finding) string {
	text := fmt.Sprintf("%s: %s: %s, %s", blockText(f), f.Class, f.Text, f.Severity)
	if len(f.Path) > 0 {
		text += "; by way of blocks " + strings.Trim(strings.ReplaceAll(fmt.Sprint(f.Path), " ", ", "), "[]")
	}
	if f.Lost != "" {
		text += "; lost: " + f.Lost
	}
	return text
}

// sayFindings says everything that was found wrong with the volume, and what
// could not be read.
func (p *program) sayFindings(report *o2image.Report) {
	for _, run := range report.NotRead {
		p.say("blocks %d to %d: not read", run.Start, run.Start+run.Len-1)
	}
	for _, f := range report.Findings {
		p.say("%s", escape(findingText(f)))
	}
	if more := report.Found - len(report.Findings); more > 0 {
		p.say("and %d more, which were only counted", more)
	}
}

// saySummary says how much was copied, if the report does.
func (p *program) saySummary(report *o2image.Report) {
	if len(report.Classes) == 0 {
		return
	}
	var blocks, bytes uint64
	for _, c := range report.Classes {
		blocks += c.Blocks
		bytes += c.Bytes
	}
	p.say("%d blocks, %d bytes of metadata", blocks, bytes)
}

// checkReportFile refuses a report that would overwrite a device or one of the
// files of the run, and one that has no place: not when everything is done.
func checkReportFile(name string, files ...string) error {
	switch name {
	case "":
		return nil
	case toStdout:
		return errors.New("for a report on standard output: --report /dev/stdout; for a file called -: ./-")
	}
	if isUndoFile(name) {
		return &o2image.OpError{Op: "write the report", Name: name, Err: errUndoFile}
	}
	for _, file := range files {
		// By name too: there may be no file yet.
		if isStdout(name) && isStdout(file) || file != toStdout && blockio.SameName(name, file) {
			return overwrites(file)
		}
	}
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = blockio.Folder(name); err == nil {
			return nil
		}
	}
	if err == nil && info.IsDir() {
		err = syscall.EISDIR
	}
	if err != nil {
		return &o2image.OpError{Op: "write the report", Name: name, Err: err}
	}
	if info.Mode().Type() == os.ModeDevice {
		return fmt.Errorf("the report is not written to the block device %q", name)
	}
	for _, file := range files {
		if other, err := os.Stat(file); err == nil && os.SameFile(info, other) {
			return overwrites(file)
		}
	}
	return nil
}

func overwrites(file string) error {
	return fmt.Errorf("the report is not written over %q", file)
}

// writeReport writes the report of a run that worked on files as JSON.
func writeReport(name string, report *o2image.Report, files []string) error {
	if err := checkReportFile(name, files...); err != nil {
		return err
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := writeWhole(name, append(text, '\n')); err != nil {
		return &o2image.OpError{Op: "write the report", Name: name, Err: err}
	}
	return nil
}

// writeWhole writes b to a file that appears whole or not at all, or to the
// pipe or terminal called name.
func writeWhole(name string, b []byte) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		return errors.Join(err, f.Close())
	}
	// Size 0: where there is no room for two the old one stays.
	f, err := blockio.CreateFile(name, 0)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Commit()
}
