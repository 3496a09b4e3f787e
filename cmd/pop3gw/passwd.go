package main

import (
	"bufio"
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pop3gw/gateway/account"
)

func newPasswdCommand() *cobra.Command {
	var scheme string
	cmd := &cobra.Command{
		Use:   "passwd",
		Short: "Hash a password for the configuration",
		Long: `Read a password, twice from a terminal and without showing it, or else one line of
standard input, and print its hash for "password =" in [[users]] or for a
passwd-file.

Schemes:
  argon2id       19 MiB and 2 passes; the best keeper of a password.
  scram-sha-256  a verifier of 15,000 rounds, as Dovecot writes it. Clients can then
                 log in without sending the password (AUTH SCRAM-SHA-256), and all
                 other ways work as well.`,
		Example: "  pop3gw passwd\n  pop3gw passwd --scheme scram-sha-256 < secret.txt",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			hash, ok := passwdSchemes[strings.ToLower(strings.Trim(scheme, "{}"))]
			if !ok {
				return usageError{fmt.Errorf("--scheme: found %q; allowed are argon2id and scram-sha-256", scheme)}
			}
			password, err := readPassword(cmd.InOrStdin(), cmd.ErrOrStderr(), "Password: ", "Again: ")
			if err != nil {
				return err
			}
			stored, err := hash(password)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), stored)
			return nil
		},
	}
	cmd.Flags().StringVarP(&scheme, "scheme", "s", "argon2id", "`scheme` of the hash: argon2id or scram-sha-256")
	cmd.RegisterFlagCompletionFunc("scheme", cobra.FixedCompletions(slices.Sorted(maps.Keys(passwdSchemes)), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

var passwdSchemes = map[string]func(password []byte) (string, error){
	"argon2id":      account.Hash,
	"scram-sha-256": account.HashSCRAM,
}

// readPassword reads a password from a terminal, once for each prompt and the
// same each time, or else one line from in.
func readPassword(in io.Reader, prompts io.Writer, prompt ...string) ([]byte, error) {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return nil, errors.New("standard input has no password on its first line")
		}
		return line, nil
	}
	var password []byte
	for i, p := range prompt {
		fmt.Fprint(prompts, p)
		typed, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(prompts)
		switch {
		case err != nil:
			return nil, err
		case len(typed) == 0:
			return nil, errors.New("the password is empty")
		case i > 0 && subtle.ConstantTimeCompare(password, typed) == 0:
			return nil, errors.New("the two passwords differ")
		}
		password = typed
	}
	return password, nil
}
