package account

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-crypt/crypt/algorithm/argon2"
)

// maxPassword bounds a password that is checked here, in octets. Several old
// hashes take time in proportion to it.
const maxPassword = 1024

// Hash returns the hash of password in the form for User.Password and for a
// passwd-file: argon2id with 19 MiB of memory, 2 passes and 1 lane.
func Hash(password []byte) (string, error) {
	if err := checkNewPassword(password); err != nil {
		return "", err
	}
	hasher, err := argon2.New(
		argon2.WithVariantID(),
		argon2.WithMemoryInKiB(19<<10),
		argon2.WithIterations(2),
		argon2.WithParallelism(1),
		argon2.WithSaltLength(16),
		argon2.WithKeyLength(32),
	)
	if err != nil {
		return "", fmt.Errorf("setting up argon2id: %w", err)
	}
	digest, err := hasher.Hash(string(password))
	if err != nil {
		return "", fmt.Errorf("hashing the password: %w", err)
	}
	return digest.Encode(), nil
}

func checkNewPassword(password []byte) error {
	switch {
	case len(password) == 0:
		return errors.New("the password is empty")
	case len(password) > maxPassword:
		return fmt.Errorf("the password is longer than %d octets", maxPassword)
	case bytes.ContainsAny(password, "\x00\r\n"):
		return errors.New("the password has a line end or NUL in it, which POP3 cannot carry")
	}
	return nil
}
