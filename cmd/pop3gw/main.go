// Command pop3gw serves POP3 over Maildirs and IMAP accounts.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2 // wrong usage or configuration
)

// usageError is a mistake in the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	os.Exit(run(newRootCommand()))
}

// run executes a command line and returns the exit code.
func run(root *cobra.Command) int {
	err := root.Execute()
	if err == nil {
		return 0
	}
	var usage usageError
	isUsage := errors.As(err, &usage)
	if isUsage {
		err = usage.error
	}
	for _, err := range flatten(err) {
		fmt.Fprintf(root.ErrOrStderr(), "pop3gw: %v\n", err)
	}
	if isUsage {
		return exitUsage
	}
	return exitFailure
}

// flatten returns the errors that were joined to err, err itself where it is a
// single one, and none for nil.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, flatten(err)...)
	}
	return all
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "pop3gw",
		Short: "POP3 over a Maildir or an IMAP account",
		Long: `pop3gw gives POP3 clients access to mail in a Maildir or in an IMAP account.

See it work, with everything embedded:

    pop3gw demo

Serve your own mail:

    pop3gw check --config config.toml
    pop3gw serve --config config.toml`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,
		Args:                       noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return cmd.Help()
		},
	}
	root.SetVersionTemplate("pop3gw {{.Version}}\n")
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
	})
	root.AddCommand(newServeCommand(), newDemoCommand(), newCheckCommand(), newPasswdCommand(), newUIDLCommand(), newOAuthCommand(), newEnrolCommand(), newHealthCommand(),
		newSessionsCommand(), newVersionCommand(), newConfigTopic())
	for _, further := range furtherCommands {
		root.AddCommand(further())
	}
	tidyBuiltins(root)
	return root
}

// furtherCommands are those of special builds.
var furtherCommands []func() *cobra.Command

// noArgs refuses arguments, and says which commands there are.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasParent() && !cmd.HasSubCommands() {
		return usageError{fmt.Errorf("'%s' takes no arguments; see '%s --help'", cmd.CommandPath(), cmd.CommandPath())}
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError{fmt.Errorf("unknown command %q; did you mean %q?", args[0], near[0])}
	}
	return usageError{fmt.Errorf("unknown command %q; see '%s --help'", args[0], cmd.CommandPath())}
}
