package account

import (
	"crypto/rand"
	"strings"

	"pop3gw/gateway"
)

// userOf returns the user with a name in its normal form: one of Config.Users, or
// one who has enrolled. It is nil where there is none. An error says why that
// cannot be found out.
func (d *Directory) userOf(name string) (*user, error) {
	if u := d.users[name]; u != nil || d.enrolled == nil {
		return u, nil
	}
	u, ok, err := d.enrolled(strings.ToLower(name))
	if err != nil || !ok {
		return nil, err
	}
	made, wrong := d.newUser(u)
	if wrong != nil {
		return nil, gateway.Unusable("this account is not set up correctly, please tell the administrator", wrong)
	}
	return made, nil
}

// Configured reports whether Config.Users has a name.
func (d *Directory) Configured(name string) bool {
	normal, err := d.rules.normal(name)
	return err == nil && d.users[normal] != nil
}

// enrolledKind is a secret of the kind that those who enrol have, for stand-ins: their
// names are not to be told by time either.
func enrolledKind() (*secret, error) {
	hash, err := HashSCRAM([]byte(rand.Text()))
	if err != nil {
		return nil, err
	}
	return parseSecret(hash)
}
