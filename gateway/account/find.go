package account

import (
	"cmp"
	"errors"
	"fmt"
	"syscall"

	"pop3gw/gateway"
)

// entry is what is known of a login name before its password was looked at.
type entry struct {
	name   string // normal form, without the folder
	folder string
	target Target
	policy gateway.Policy
	route  *route  // nil for one of Config.Users
	secret *secret // nil where the store checks the password

	tokens   gateway.Tokens      // in place of a password in upstream; nil for none
	upstream gateway.Credentials // to log in with; zero where the store asks for nothing
	forward  bool                // upstream still lacks the client's password
}

// unknown is why nobody can log in by a name, in words for the log.
type unknown struct {
	reason string
	name   string    // in its normal form, without a folder where there are some
	stray  bool      // the name is none of Config.Users and fits no route
	kinds  []*secret // of the users the name could have been one of
}

func (u *unknown) Error() string { return u.reason }

// find returns what is known of the name that a client typed, and that it wants
// to act as unless identity is "". Errors are *unknown, or *gateway.Error where
// the name cannot be looked up.
func (d *Directory) find(typed, identity string) (*entry, error) {
	self, err := d.findName(typed)
	if identity == "" {
		return self, err
	}
	home, isUnknown := errors.AsType[*unknown](err)
	if err != nil && !isUnknown {
		return nil, err
	}
	other, err := d.findName(identity)
	if err != nil {
		return nil, err
	}
	if self != nil && self.name == other.name {
		return other, nil
	}

	// Only a store that checks passwords knows who may act as whom. The password
	// of a name that belongs elsewhere must not be sent to it.
	user, err := d.rules.normal(typed)
	sameHome := self != nil && self.route == other.route || self == nil && home.stray
	if err != nil || !sameHome || other.route == nil || other.secret != nil {
		return nil, &unknown{reason: fmt.Sprintf("%q may not act as %q", typed, identity), name: cmp.Or(user, typed), kinds: d.allKinds()}
	}
	other.upstream = gateway.Credentials{Identity: other.name, User: user}
	return other, nil
}

// findName returns what is known of one name, with or without a folder. Names
// in Config.Users and those who enrolled come first, the whole name before the one without a folder.
// A folder never leads to another user or route than the name alone.
func (d *Directory) findName(typed string) (*entry, error) {
	whole, wholeErr := d.rules.normal(typed)
	if wholeErr == nil {
		if u, err := d.userOf(whole); u != nil || err != nil {
			return u.entry(""), err
		}
	}
	base, folder, split := splitFolder(typed)
	if split {
		var err error
		base, err = d.rules.normal(base)
		split = err == nil && (folder == "" || checkText(folder) == nil)
	}
	taken := false // base is somebody who has no folders
	if split {
		u, err := d.userOf(base)
		if err != nil || u != nil && u.Target.Folders {
			return u.entry(folder), err
		}
		taken = u != nil
	}
	for _, r := range d.routes {
		if split && matches(r.Pattern, base) {
			switch {
			case !r.Target.Folders:
				taken = true
			case taken:
				return nil, &unknown{reason: fmt.Sprintf("%q has no folders", base), name: typed, kinds: d.allKinds()}
			default:
				return d.findRouted(r, base, folder)
			}
		}
		if wholeErr == nil && matches(r.Pattern, whole) {
			return d.findRouted(r, whole, "")
		}
	}
	if wholeErr != nil {
		return nil, &unknown{reason: fmt.Sprintf("login name %.64q: %v", typed, wholeErr), name: typed, kinds: d.allKinds()}
	}
	return nil, &unknown{reason: fmt.Sprintf("%q is not a user and fits no route", whole), name: whole, stray: true, kinds: d.allKinds()}
}

// entry returns what is known of the user; nil of none.
func (u *user) entry(folder string) *entry {
	if u == nil {
		return nil
	}
	e := &entry{name: u.Name, folder: folder, target: u.Target, policy: u.Policy, secret: u.secret, tokens: u.Tokens}
	if u.Target.ChecksPasswords {
		e.upstream = gateway.Credentials{User: u.UpstreamUser, Password: u.UpstreamPassword}
		e.forward = u.secret == nil
	}
	return e
}

// findRouted returns what is known of name, which r leads to.
func (d *Directory) findRouted(r *route, name, folder string) (*entry, error) {
	e := &entry{name: name, folder: folder, target: r.Target, policy: r.Policy, route: r}
	if r.Target.ChecksPasswords {
		e.upstream = gateway.Credentials{User: name}
		e.forward = r.forwards()
		if r.MakeTokens != nil {
			e.tokens = r.MakeTokens(name, name)
		}
	}
	if r.file == nil {
		return e, nil
	}
	table, err := r.file.current()
	if err != nil {
		const text = "the list of users cannot be read"
		if errno, ok := errors.AsType[syscall.Errno](err); ok && errno.Temporary() {
			return nil, gateway.Unavailable(text+", try again later", err)
		}
		return nil, gateway.Unusable(text+", please tell the administrator", err)
	}
	in, found := table.users[name]
	switch {
	case in.err != nil:
		return nil, gateway.Unusable("this account is not set up correctly, please tell the administrator", in.err)
	case !found || in.hash == "":
		reason := "%q is not in %s"
		if found {
			reason = "%q is locked in %s"
		}
		return nil, &unknown{reason: fmt.Sprintf(reason, name, r.file.path), name: name, kinds: kindsOf(d.kinds[:len(d.kinds):len(d.kinds)], table.kinds...)}
	}
	e.secret, err = parseSecret(in.hash)
	if err != nil {
		return nil, gateway.Unusable("this account is not set up correctly, please tell the administrator", err)
	}
	return e, nil
}

// allKinds returns one secret of each kind in Config.Users and in the
// passwd-files that can be read.
func (d *Directory) allKinds() []*secret {
	kinds := d.kinds[:len(d.kinds):len(d.kinds)]
	for _, file := range d.files {
		if table, err := file.current(); err == nil {
			kinds = kindsOf(kinds, table.kinds...)
		}
	}
	return kinds
}
