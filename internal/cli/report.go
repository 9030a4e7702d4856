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

	"o2image"
	"o2image/volume"
)

// maxFindingLines is how many findings are said on standard error.
const maxFindingLines = 20

// account says what a run that wrote an image or a volume came to, and writes
// the report of it. It returns err, or errIncomplete if the run was not
// complete. report may be nil if err is not.
func (p *program) account(report *o2image.Report, err error, o rootOptions, files ...string) error {
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
	incomplete := err == nil && report.Incomplete()
	if incomplete || o.verbose {
		p.sayMissing(report, o.verbose)
	}
	if o.verbose {
		p.saySummary(report)
	}
	if incomplete {
		return errIncomplete
	}
	return err
}

// sayMissing says what could not be found or read; with all, every
// contradiction on the volume.
func (p *program) sayMissing(report *o2image.Report, all bool) {
	var lines []string
	for _, run := range report.NotRead {
		lines = append(lines, fmt.Sprintf("blocks %d to %d: not read", run.Start, run.Start+run.Len-1))
	}
	for _, f := range report.Findings {
		if all || f.Severity != volume.Damaged {
			lines = append(lines, escape(f.String()))
		}
	}
	more := report.Found - len(report.Findings)
	if !all && len(lines) > maxFindingLines {
		more += len(lines) - maxFindingLines
		lines = lines[:maxFindingLines]
	}
	for _, line := range lines {
		p.say("%s", line)
	}
	if more > 0 {
		p.say("and %d more of these: --report FILE writes them down", more)
	}
}

// saySummary says how much was copied.
func (p *program) saySummary(report *o2image.Report) {
	var blocks, bytes uint64
	for _, c := range report.Classes {
		blocks += c.Blocks
		bytes += c.Bytes
	}
	p.say("%d blocks, %d bytes of metadata", blocks, bytes)
}

// checkReportFile refuses a report that would overwrite a device or one of the
// files of the run.
func checkReportFile(name string, files ...string) error {
	if name == "" {
		return nil
	}
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &o2image.OpError{Op: "open", Name: name, Err: err}
	}
	if info.Mode().Type() == os.ModeDevice {
		return fmt.Errorf("the report is not written to the block device %q", name)
	}
	for _, file := range files {
		if other, err := os.Stat(file); err == nil && os.SameFile(info, other) {
			return fmt.Errorf("the report is not written over %q", file)
		}
	}
	return nil
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
	if err := os.WriteFile(name, append(text, '\n'), 0o600); err != nil {
		return &o2image.OpError{Op: "write the report", Name: name, Err: err}
	}
	return nil
}
