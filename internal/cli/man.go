// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func (p *program) newManCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "man",
		Short:                 "print the manual page, for man(1) to format",
		Long:                  "man prints the manual page in the format of man(7).\n",
		Hidden:                true,
		DisableFlagsInUseLine: true,
		Args:                  operands(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(p.stdout, manual(cmd.Root()))
			return err
		},
	}
	addHelp(cmd)
	return cmd
}

// Sections of the manual that belong to no command. A line above an indented
// one is a term, and what is indented its text; indented lines behind an empty
// one are an example.
const (
	exitText = `0
      Done: nothing is known to be missing. Also if -i was answered with no.
1
      Failed, or the command line is wrong, or -I was answered with no.
3
      The image was written, or restored, but something that belongs to it could
      not be read, followed or stored. Standard error says how much of it in ten
      lines at most, the report says all.
129, 130, 143
      Ended by SIGHUP, SIGINT or SIGTERM. If metadata was read by then there is
      an image of it, which says that it is partial; otherwise nothing is left
      behind. --map and --from make a whole image of it. A second signal ends
      the program at once.
141
      Killed by SIGPIPE: the reader of standard output went away.
`
	formatsText = `Packed image: a header of one block of the volume, the stored blocks in
ascending order, and a bitmap of all blocks of the volume, in pages of 4096
bytes. debugfs.ocfs2 -i reads it, and o2image 1.8.7 restores it. Behind the
bitmap stands a trailer, which older readers do not look at: the report as
JSON and a hash of every MiB.

Raw image: a sparse file as long as the volume with each stored block at its
own place. It can be used like a device, with fsck.ocfs2 -n for instance.
Copy it with tools that keep holes.

Compressed image: one of these in independent frames of zstd, 1 MiB of it each,
with the seek table of the public seekable format behind them, which zstd passes
over. debugfs.ocfs2 and o2image 1.8.7 want it decompressed.
`
	environmentText = `POSIXLY_CORRECT
      Options end at the first operand.
SOURCE_DATE_EPOCH
      The time, in seconds since 1970, that an image bears instead of now. The
      same volume with the same options then gives the same bytes.
`
	seeAlsoText = `debugfs.ocfs2(8), fsck.ocfs2(8), mkfs.ocfs2(8), mounted.ocfs2(8),
tunefs.ocfs2(8)
`
)

// manual returns the manual page of the program.
func manual(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".\\\" Printed by o2image man. Change the texts there.\n")
	fmt.Fprintf(&b, ".TH O2IMAGE 8 \"\" \"%s %s\" \"System Administration\"\n", programName, version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", programName, roff(root.Short))
	b.WriteString(".SH SYNOPSIS\n")
	writeSynopsis(&b, root)
	for _, c := range listed(root) {
		b.WriteString(".br\n")
		writeSynopsis(&b, c)
	}
	section(&b, "DESCRIPTION", root.Long)
	b.WriteString(".SH OPTIONS\n")
	writeOptions(&b, root)
	b.WriteString(".SH COMMANDS\n")
	for _, c := range listed(root) {
		fmt.Fprintf(&b, ".SS %s\n", roff(strings.TrimPrefix(c.UseLine(), programName+" ")))
		writeText(&b, c.Long)
		writeOptions(&b, c)
	}
	section(&b, "EXIT STATUS", exitText)
	section(&b, "ENVIRONMENT", environmentText)
	section(&b, "FORMATS", formatsText)
	b.WriteString(".SH EXAMPLES\n")
	writeText(&b, root.Example)
	for _, c := range root.Commands() {
		writeText(&b, c.Example)
	}
	section(&b, "SEE ALSO", seeAlsoText)
	return b.String()
}

func section(b *strings.Builder, title, text string) {
	fmt.Fprintf(b, ".SH %s\n", title)
	writeText(b, text)
}

// writeSynopsis writes the line that shows how cmd is called.
func writeSynopsis(b *strings.Builder, cmd *cobra.Command) {
	name, rest, _ := strings.Cut(cmd.UseLine(), " ")
	fmt.Fprintf(b, ".B %s\n%s\n", roff(name), roff(rest))
}

func writeOptions(b *strings.Builder, cmd *cobra.Command) {
	for _, o := range options(cmd) {
		if o.name == "-h, --help" {
			continue
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(o.name), roff(o.text))
	}
}

// writeText writes paragraphs, lists and examples.
func writeText(b *strings.Builder, text string) {
	var inText, inExample bool
	leave := func() {
		if inExample {
			b.WriteString(".fi\n.RE\n")
		}
		inText, inExample = false, false
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		indented := strings.HasPrefix(line, " ")
		switch {
		case line == "":
			leave()
			continue
		case !indented && strings.HasPrefix(lines[i+1], " "):
			leave()
			fmt.Fprintf(b, ".TP\n.B %s\n", roff(line))
			inText = true
			continue
		case indented && !inText && !inExample:
			b.WriteString(".PP\n.RS\n.nf\n")
			inExample = true
		case !indented && !inText:
			leave()
			b.WriteString(".PP\n")
			inText = true
		}
		if inText {
			line = strings.TrimLeft(line, " ")
		}
		fmt.Fprintf(b, "%s\n", roff(strings.TrimPrefix(line, "  ")))
	}
	leave()
}

// roff returns text with what would mean something to the formatter escaped,
// line by line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
