package account

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pop3gw/gateway"
)

// Directory answers who a client is and where its mail lies. It is safe for
// concurrent use.
type Directory struct {
	rules    nameRules
	users    map[string]*user // by Name in its normal form
	routes   []*route
	files    []*passwdFile    // one for each path
	kinds    []*secret        // one secret of each kind that users have
	fixed    map[string]tally // by mechanism; see tallies
	verifier *verifier
	saltKey  []byte // of Config
	enrolled func(name string) (User, bool, error)
	policies []gateway.Policy // that those who enrol may have
}

var _ gateway.Accounts = (*Directory)(nil)

type user struct {
	User
	secret *secret // nil where the store checks the password
}

type route struct {
	Route
	file *passwdFile // nil where the store checks the password
}

// forwards reports whether the client's password goes on to the store.
func (r *route) forwards() bool {
	return r.Target.ChecksPasswords && !r.Target.MasterUser && r.MakeTokens == nil
}

// Login implements gateway.Accounts.
//
// The client may act as somebody else (Credentials.Identity) only where the
// store checks the password and so decides whether that is allowed.
func (d *Directory) Login(ctx context.Context, client gateway.Credentials) (gateway.Account, error) {
	e, err := d.find(client.User, client.Identity)
	apop := client.Timestamp != "" || client.Digest != ""
	if u, ok := errors.AsType[*unknown](err); ok {
		if !apop && client.Token == "" && !client.Certified {
			if err := d.verifier.standIn(ctx, client.User, u.kinds, []byte(client.Password)); err != nil {
				return gateway.Account{}, err
			}
		}
		return gateway.Account{}, gateway.Refused(err)
	}
	if err != nil {
		return gateway.Account{}, err
	}
	switch {
	case apop:
		err = e.checkAPOP(client)
	case client.Token != "":
		err = e.checkToken()
	case client.Certified:
		err = e.checkCertified()
	case e.secret != nil:
		err = d.checkPassword(ctx, e, client.Password)
	case client.Password == "":
		// Some stores take no password for an anonymous login (RFC 4513 §5.1.2).
		err = gateway.Refused(fmt.Errorf("%q sent an empty password", e.name))
	}
	if err != nil {
		return gateway.Account{}, err
	}
	a := e.account()
	if e.forward {
		a.Upstream.Password, a.Upstream.Token = client.Password, client.Token
	}
	return a, nil
}

func (d *Directory) checkPassword(ctx context.Context, e *entry, password string) error {
	right, err := d.verifier.verify(ctx, e.name, e.secret, []byte(password))
	if err != nil {
		return err
	}
	if !right {
		return gateway.Refused(fmt.Errorf("wrong password for %q", e.name))
	}
	return nil
}

// checkAPOP refuses whom only a password could let in: there is nothing to
// compute a digest from, or nothing to pass on.
func (e *entry) checkAPOP(client gateway.Credentials) error {
	switch {
	case e.secret == nil || e.secret.plain == nil:
		return gateway.Refused(fmt.Errorf("%q cannot use APOP, which needs a password stored as {PLAIN}", e.name))
	case e.forward:
		return gateway.Refused(fmt.Errorf("%q cannot use APOP: the store wants the password", e.name))
	case !e.secret.matchAPOP(client.Timestamp, client.Digest):
		return gateway.Refused(fmt.Errorf("wrong APOP digest for %q", e.name))
	}
	return nil
}

// checkToken refuses whom a token cannot let in: only the store knows what it is
// worth.
func (e *entry) checkToken() error {
	if !e.forward || e.secret != nil {
		return gateway.Refused(fmt.Errorf("%q cannot log in with a token: the gateway checks the password, and a token is for the store", e.name))
	}
	return nil
}

// checkCertified refuses whom only a password could let in: there is nothing to
// pass on.
func (e *entry) checkCertified() error {
	if e.forward {
		return gateway.Refused(fmt.Errorf("%q cannot log in with a certificate: the store wants the password; give the user one with upstream_password_file, or the adapter a master_user", e.name))
	}
	return nil
}

func (e *entry) account() gateway.Account {
	return gateway.Account{
		Name:        e.name,
		Adapter:     e.target.Adapter,
		AdapterName: e.target.Name,
		Folder:      e.folder,
		Upstream:    e.upstream,
		Forwarded:   e.forward,
		Tokens:      e.tokens,
		Policy:      e.policy,
	}
}

// Find returns the account of a login name without any password, for an
// operator who checks a configuration. Where Account.Forwarded is set, the
// store still wants the user's password in Account.Upstream.
func (d *Directory) Find(name string) (gateway.Account, error) {
	e, err := d.find(name, "")
	if err != nil {
		return gateway.Account{}, err
	}
	return e.account(), nil
}

// Check reads every passwd-file and says what to change, in errors that are
// joined: a *ConfigError for a file that cannot be read, without which nobody of
// its route can log in, and others for its first lines that cannot be used.
func (d *Directory) Check() error {
	var errs []error
	for _, file := range d.files {
		table, err := file.current()
		if err != nil {
			i := slices.IndexFunc(d.routes, func(r *route) bool { return r.file == file })
			errs = append(errs, &ConfigError{"routes", i, "passwd_file", err})
			continue
		}
		errs = append(errs, table.complaints...)
		if table.further > 0 {
			errs = append(errs, fmt.Errorf("%s: %d more lines cannot be used", file.path, table.further))
		}
	}
	return errors.Join(errs...)
}

// HasPlainSecret reports whether any user could log in with APOP. A passwd-file
// that cannot be read counts as having none.
func (d *Directory) HasPlainSecret() bool {
	for _, u := range d.users {
		if u.secret != nil && u.secret.plain != nil {
			return true
		}
	}
	for _, r := range d.routes {
		if r.file == nil || r.forwards() {
			continue
		}
		if table, err := r.file.current(); err == nil && table.plain {
			return true
		}
	}
	return false
}

// PasswordCache returns how often a password was known to be right from before,
// and how often it had to be checked.
func (d *Directory) PasswordCache() (hits, misses uint64) {
	m := d.verifier.memory
	return m.hits.Load(), m.misses.Load()
}
