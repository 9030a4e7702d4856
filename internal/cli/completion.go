// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (p *program) newCompletionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "completion shell",
		Short: "print a script that completes command lines in a shell",
		Long:  "completion prints a script for the shell: bash, fish or zsh.\n",
		Example: `To have command lines completed by bash:

  # o2image completion bash > /etc/bash_completion.d/o2image
`,
		DisableFlagsInUseLine: true,
		ValidArgs:             []string{"bash", "fish", "zsh"},
		Args:                  operands(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.stdout, true)
			case "fish":
				return root.GenFishCompletion(p.stdout, true)
			case "zsh":
				return root.GenZshCompletion(p.stdout)
			}
			return fmt.Errorf("there is no completion for %q: there are bash, fish and zsh", args[0])
		},
	}
	addHelp(cmd)
	return cmd
}

// completeFiles completes operands that are names of files.
func completeFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}
