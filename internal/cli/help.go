// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (p *program) newHelpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "help [command]",
		Short:                 "describe the program or one of its commands",
		Long:                  "help prints what --help prints, of the command if one is named.\n",
		DisableFlagsInUseLine: true,
		Args:                  operands(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, _, err := cmd.Root().Find(args)
			if err != nil || len(args) > 0 && topic == cmd.Root() {
				return fmt.Errorf("there is no command %q", args[0])
			}
			return p.printHelp(topic)
		},
	}
	addHelp(cmd)
	return cmd
}

// addHelp gives a command the option --help. Only commands have the letter.
func addHelp(cmd *cobra.Command) {
	addSwitch(cmd.Flags(), new(bool), "help", "h", "print a description and leave.")
}

// synopsis returns how cmd is called, by the name that the program was.
func (p *program) synopsis(cmd *cobra.Command) string {
	return p.name + strings.TrimPrefix(cmd.UseLine(), programName)
}

// printHelp describes cmd on standard output.
func (p *program) printHelp(cmd *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n", p.synopsis(cmd))
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "       %s command ...\n", p.name)
	}
	fmt.Fprintf(&b, "\n%s\nOptions:\n", cmd.Long)
	for _, o := range options(cmd) {
		fmt.Fprintf(&b, "  %s\n%s", o.name, indent(o.text, "        "))
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, c := range listed(cmd) {
			fmt.Fprintf(&b, "  %-11s %s\n", c.Name(), c.Short)
		}
		fmt.Fprintf(&b, "\nExit status:\n%s", indent(exitText, "  "))
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s", cmd.Example)
	}
	_, err := io.WriteString(p.stdout, b.String())
	return err
}

// listed returns the commands of cmd that are described: help, for cobra, is not
// one of them.
func listed(cmd *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(c *cobra.Command) bool {
		return !c.IsAvailableCommand() && c.Name() != "help"
	})
}

// option is an option as it is described: "-r, --raw".
type option struct{ name, text string }

// options returns the options of cmd in the order in which they are described.
func options(cmd *cobra.Command) []option {
	var list []option
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		value, text := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		switch f.NoOptDefVal {
		case "":
			name += " " + value
		case present:
		default:
			name += "[=" + value + "]"
		}
		list = append(list, option{name: name, text: text})
	})
	return list
}

// indent puts prefix in front of every line of text.
func indent(text, prefix string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString(prefix)
		}
		b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}
