package account

import "errors"

// Hash returns the hash of password in the form for User.Password: argon2id
// with 19 MiB, 2 passes and 1 lane.
func Hash(password []byte) (string, error) {
	if len(password) == 0 {
		return "", errors.New("the password is empty")
	}
	return "", errors.New("no hash")
}
