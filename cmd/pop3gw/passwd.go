package main

import (
	"bufio"
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pop3gw/gateway/account"
)

func newPasswdCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "passwd",
		Short: "Hash a password for the configuration",
		Long: `Read a password, twice from a terminal and without showing it, or else one line of
standard input, and print its hash for "password =" in [[users]] or for a
passwd-file. The hash is argon2id with 19 MiB and 2 passes.`,
		Example: "  pop3gw passwd\n  pop3gw passwd < secret.txt",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := readPassword(cmd.InOrStdin(), cmd.ErrOrStderr(), "Password: ", "Again: ")
			if err != nil {
				return err
			}
			hash, err := account.Hash(password)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), hash)
			return nil
		},
	}
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
