// Command pop3gw serves POP3 over Maildirs and IMAP accounts.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

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

// stamp is the version, set by -ldflags "-X main.stamp=...".
var stamp string

// version is the stamp, else what the build recorded.
func version() string {
	if stamp != "" {
		return stamp
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func main() {
	os.Exit(run(newRootCommand()))
}

func run(root *cobra.Command) int {
	err := root.Execute()
	if err == nil {
		return 0
	}
	fmt.Fprintf(root.ErrOrStderr(), "pop3gw: %v\n", err)
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
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
		Args:          noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return cmd.Help()
		},
	}
	root.SetVersionTemplate("pop3gw {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
	})
	root.AddCommand(newServeCommand(), newDemoCommand(), newCheckCommand(), newPasswdCommand(), newVersionCommand())
	return root
}

// noArgs refuses arguments, and says which commands there are.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		err := fmt.Errorf("unknown command %q; see 'pop3gw help'", args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			err = fmt.Errorf("unknown command %q; did you mean %q?", args[0], near[0])
		}
		return usageError{err}
	}
	return usageError{fmt.Errorf("%s takes no arguments; see '%s --help'", cmd.CommandPath(), cmd.CommandPath())}
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		Run: func(cmd *cobra.Command, args []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "pop3gw %s\n", version())
		},
	}
}
