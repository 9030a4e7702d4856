// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of o2image.
//
// It has two forms. The first is that of o2image 1.8.7, options and two
// operands, kept to the letter:
//
//	o2image [-rIi] device image_file
//
// The second starts with the name of a command, and is ours:
//
//	o2image info image
//
// There is a file for each command, with its options, its text and the
// function that runs it. Help and manual page are rendered from these texts.
// The exit status is decided in one place, [exitStatus].
package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// version is that of the program.
const version = "0.1.0"

// programName is the name in the manual and in reports. Messages use the name
// that the program was called by.
const (
	programName    = "o2image"
	programVersion = programName + " " + version
)

// program is one run of the program.
type program struct {
	name   string // as it was called, with its path
	stdin  *os.File
	stdout *os.File
	stderr *os.File

	completes sync.Mutex // held while a file is made that is completed when a signal has come
	helpErr   error      // that --help could not be printed, which cobra does not pass on
}

// Main runs the program with the arguments, files and signals of this process
// and returns its exit status.
func Main() int {
	p := &program{name: os.Args[0], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	ctx, stop := withSignals(context.Background())
	defer stop()
	holdPipeSignal()
	status := p.finish(ctx, p.run(ctx, os.Args[1:]))
	if status == exitPipe {
		dieOfPipe()
	}
	return status
}

// holdPipeSignal has writes to a pipe that nobody reads fail. Otherwise the runtime
// of Go ends the program at the first one to standard output or standard error, and
// unfinished files stay. Without a standard error the work goes on.
func holdPipeSignal() {
	if !signal.Ignored(syscall.SIGPIPE) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
}

// dieOfPipe ends the program as it would have ended at once without holdPipeSignal: by
// SIGPIPE, which the runtime raises only for a write to standard output. It returns
// if the signal is ignored.
func dieOfPipe() {
	if signal.Ignored(syscall.SIGPIPE) {
		return
	}
	var pipe [2]int
	if syscall.Pipe(pipe[:]) != nil || syscall.Close(pipe[0]) != nil || syscall.Dup3(pipe[1], syscall.Stdout, 0) != nil {
		return
	}
	signal.Reset(syscall.SIGPIPE)
	_, _ = os.Stdout.Write([]byte{0})
}

// patience is how long a run that a signal has ended may take to clean up, when the
// file is complete that it completes.
const patience = 5 * time.Second

// run executes the arguments. It does not wait for ever for a run that a signal
// has ended: one that writes to a pipe that nobody reads cannot be stopped, be it with
// an image or with a report.
func (p *program) run(ctx context.Context, args []string) error {
	result := make(chan error, 1)
	go func() { result <- p.execute(ctx, args) }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	late := make(chan struct{})
	go func() {
		p.completes.Lock() // until it is complete
		//lint:ignore SA2001 it only waits
		p.completes.Unlock()
		time.Sleep(patience)
		close(late)
	}()
	select {
	case err := <-result:
		return err
	case <-late:
		return ctx.Err()
	}
}

// execute parses the arguments and does what they say.
func (p *program) execute(ctx context.Context, args []string) error {
	root := p.newRootCommand()
	isCommand, err := startsWithCommand(p.newRootCommand(), args)
	if err != nil {
		return err
	}
	if !isCommand {
		root.RemoveCommand(root.Commands()...)
	}
	root.SetArgs(args)
	return cmp.Or(root.ExecuteContext(ctx), p.helpErr)
}

// startsWithCommand reports whether the first operand is the name of a command
// of root. cobra would also find one behind an operand "-" or "".
func startsWithCommand(root *cobra.Command, args []string) (bool, error) {
	for _, arg := range args {
		if arg == "--" {
			break
		}
		if strings.HasPrefix(arg, "-test.") { // pflag lets these pass for go test
			return false, &usageError{cmd: root, problem: "invalid option -- 't'"}
		}
	}
	flags := root.Flags()
	flags.SetInterspersed(false)
	if err := flags.Parse(args); err != nil {
		return false, flagError(root, err)
	}
	if flags.NArg() == 0 || flags.ArgsLenAtDash() >= 0 {
		return false, nil
	}
	first := flags.Arg(0)
	if first == cobra.ShellCompRequestCmd || first == cobra.ShellCompNoDescRequestCmd {
		return true, nil
	}
	return slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == first }), nil
}

// usageError is a command line that cannot be understood.
type usageError struct {
	cmd     *cobra.Command
	problem string // empty if the usage says it all
}

func (e *usageError) Error() string { return e.problem }

// flagError puts what pflag found wrong with the options in the words of
// getopt.
func flagError(cmd *cobra.Command, err error) error {
	problem := err.Error()
	if errors.Is(err, pflag.ErrHelp) { // pflag takes -h for --help unasked
		problem = "invalid option -- 'h'"
	} else if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		if unknown.GetSpecifiedShortnames() != "" {
			problem = "invalid option -- '" + unknown.GetSpecifiedName() + "'"
		} else {
			problem = "unrecognized option '--" + unknown.GetSpecifiedName() + "'"
		}
	}
	return &usageError{cmd: cmd, problem: problem}
}

// operands returns a check that a command has between least and most operands.
func operands(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return &usageError{cmd: cmd}
		}
		return nil
	}
}

// switchValue is an option without a value. pflag would take a value for it
// behind an equals sign.
type switchValue bool

// present is the value that pflag gives to an option without one. No argument
// can hold a zero byte.
const present = "\x00"

func (s *switchValue) Set(value string) error {
	if value != present {
		return errors.New("it takes none")
	}
	*s = true
	return nil
}

func (s *switchValue) String() string { return strconv.FormatBool(bool(*s)) }

// Type is that by which cobra knows --help.
func (s *switchValue) Type() string { return "bool" }

// addSwitch adds an option without a value; letter may be empty.
func addSwitch(flags *pflag.FlagSet, target *bool, name, letter, usage string) {
	flags.VarPF((*switchValue)(target), name, letter, usage).NoOptDefVal = present
}

// fileName is the value of an option that names a file. It is not empty: a variable
// that a script has not set would leave the option out unnoticed.
type fileName string

func (n *fileName) Set(value string) error {
	if value == "" {
		return errors.New("it needs the name of a file")
	}
	*n = fileName(value)
	return nil
}

func (n *fileName) String() string { return string(*n) }

func (n *fileName) Type() string { return "file" }

// interrupt is the cause that a context has when a signal has cancelled it.
type interrupt struct{ signal syscall.Signal }

func (i interrupt) Error() string { return i.signal.String() }

// withSignals returns a context that is cancelled by the first signal that
// asks the program to end, unless the caller had that signal ignored. The
// second one ends the program at once.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(interrupt{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// chatty reports whether stderr is read by a person.
func (p *program) chatty(verbose bool) bool {
	return verbose || term.IsTerminal(int(p.stderr.Fd()))
}
