package account

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"
)

// New returns the directory that c describes. It reads no passwd-file yet: see
// Directory.Check. Errors are one or several *ConfigError, joined.
func New(c Config) (*Directory, error) {
	if c.MaxHashing <= 0 {
		c.MaxHashing = runtime.GOMAXPROCS(0)
	}
	if c.RememberFor == 0 {
		c.RememberFor = 5 * time.Minute
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.SaltKey == nil {
		c.SaltKey = processKey()
	}
	d := &Directory{
		saltKey:  c.SaltKey,
		rules:    nameRules{domain: c.DefaultDomain, lowerCase: c.LowerCase},
		users:    make(map[string]*user),
		enrolled: c.Enrolled,
		policies: c.EnrolledPolicies,
	}
	if c.Before != nil {
		d.verifier = c.Before.verifier
	} else {
		d.verifier = newVerifier(c.MaxHashing, newMemory(c.RememberFor, maxRemembered))
	}
	errs := []error{checkLogin(c)}
	first := make(map[string]int)
	for i, u := range c.Users {
		made, err := d.newUser(u)
		if err == nil {
			if j, twice := first[made.Name]; twice {
				err = &ConfigError{Key: "name", Err: fmt.Errorf("%q is the same login name as that of entry %d: remove one", u.Name, j+1)}
			}
		}
		if err != nil {
			err.Table, err.Index = "users", i
			errs = append(errs, err)
			continue
		}
		first[made.Name] = i
		d.users[made.Name] = made
		if made.secret != nil {
			d.kinds = kindsOf(d.kinds, made.secret)
		}
	}
	if c.Enrolled != nil {
		kind, err := enrolledKind()
		if err != nil {
			return nil, err
		}
		d.kinds = kindsOf(d.kinds, kind)
	}
	files := make(map[string]*passwdFile)
	for i, r := range c.Routes {
		err := checkRoute(r, c.Routes[:i])
		if err != nil {
			err.Table, err.Index = "routes", i
			errs = append(errs, err)
			continue
		}
		made := &route{Route: r}
		if r.PasswdFile != "" {
			made.file = files[r.PasswdFile]
			if made.file == nil {
				made.file = &passwdFile{path: r.PasswdFile, rules: d.rules, log: c.Log}
				files[r.PasswdFile] = made.file
				d.files = append(d.files, made.file)
			}
		}
		d.routes = append(d.routes, made)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	d.fixed = d.tallies()
	return d, nil
}

func checkLogin(c Config) error {
	switch {
	case strings.ContainsAny(c.DefaultDomain, "@+ ") || c.DefaultDomain != "" && checkText(c.DefaultDomain) != nil:
		return &ConfigError{"login", -1, "default_domain", fmt.Errorf(`%q is not a domain: write it without "@", such as "example.org"`, c.DefaultDomain)}
	case len(c.Users) == 0 && len(c.Routes) == 0 && c.Enrolled == nil:
		return &ConfigError{"routes", -1, "users", errors.New("there is neither a user nor a route, so nobody could log in: add one")}
	}
	return nil
}

const passwdHint = `make a hash with "pop3gw passwd"`

// newUser checks one entry. A wrong one gives a *ConfigError without Table and
// Index.
func (d *Directory) newUser(u User) (*user, *ConfigError) {
	name, err := d.rules.normal(u.Name)
	if err != nil {
		return nil, &ConfigError{Key: "name", Err: fmt.Errorf("%q: %w", u.Name, err)}
	}
	wrong := func(key, format string, args ...any) (*user, *ConfigError) {
		return nil, &ConfigError{Key: key, Err: fmt.Errorf("user %q: "+format, append([]any{name}, args...)...)}
	}
	t := u.Target
	tokens := u.Tokens != nil || u.MakeTokens != nil
	switch {
	case t.Adapter == nil:
		return wrong("adapter", "no adapter is named")
	case tokens && !t.ChecksPasswords:
		return wrong("oauth", "the adapter does not log in anywhere: remove it")
	case tokens && t.MasterUser:
		return wrong("oauth", "the adapter logs in with master_user: remove one of the two")
	case tokens && u.UpstreamPassword != "":
		return wrong("oauth", "there is an upstream password as well: remove one of the two")
	case tokens && u.Password == "":
		return wrong("password", "it is missing, so that anybody could log in with the token: "+passwdHint)
	case u.Password == "" && t.MasterUser:
		return wrong("password", "it is missing, and the adapter logs in with master_user without asking for one: "+passwdHint)
	case u.Password == "" && !t.ChecksPasswords:
		return wrong("password", "it is missing, and the adapter cannot check one: "+passwdHint)
	case u.Password == "" && u.UpstreamPassword != "":
		return wrong("password", "it is missing, so that anybody could log in with the upstream password: "+passwdHint)
	case !t.ChecksPasswords && u.UpstreamUser != "":
		return wrong("upstream_user", "the adapter does not log in anywhere: remove it")
	case !t.ChecksPasswords && u.UpstreamPassword != "":
		return wrong("upstream_password_file", "the adapter does not log in anywhere: remove it")
	case t.MasterUser && u.UpstreamPassword != "":
		return wrong("upstream_password_file", "the adapter logs in with master_user: remove one of the two")
	case u.Password != "" && t.ChecksPasswords && !t.MasterUser && u.UpstreamPassword == "" && !tokens:
		return wrong("upstream_password_file", "it is missing: add it (or oauth), or remove password so that the client's own password logs in upstream")
	}
	made := &user{User: u}
	made.Name = name
	if made.UpstreamUser == "" {
		made.UpstreamUser = name
	}
	if u.MakeTokens != nil {
		made.Tokens = u.MakeTokens(name, made.UpstreamUser)
	}
	if u.Password != "" {
		made.secret, err = parseSecret(u.Password)
		if err != nil {
			return wrong("password", "%w", err)
		}
	}
	return made, nil
}

// checkRoute checks one entry, which comes after earlier. A wrong one gives a
// *ConfigError without Table and Index.
func checkRoute(r Route, earlier []Route) *ConfigError {
	wrong := func(key, format string, args ...any) *ConfigError {
		return &ConfigError{Key: key, Err: fmt.Errorf("route %q: "+format, append([]any{r.Pattern}, args...)...)}
	}
	if err := checkText(r.Pattern); err != nil {
		return wrong("users", `%w: write a pattern such as "*@example.org" or "*"`, err)
	}
	for i, e := range earlier {
		if e.Pattern == "*" || strings.EqualFold(e.Pattern, r.Pattern) {
			return wrong("users", "no name gets here, since entry %d (%q) takes them all: change the order or remove one", i+1, e.Pattern)
		}
	}
	switch {
	case r.Target.Adapter == nil:
		return wrong("adapter", "no adapter is named")
	case r.MakeTokens != nil && !r.Target.ChecksPasswords:
		return wrong("oauth", "the adapter does not log in anywhere: remove it")
	case r.MakeTokens != nil && r.Target.MasterUser:
		return wrong("oauth", "the adapter logs in with master_user: remove one of the two")
	case r.MakeTokens != nil && r.PasswdFile == "":
		return wrong("passwd_file", "it is missing, so that anybody could log in with the token: add it")
	case r.PasswdFile == "" && r.Target.MasterUser:
		return wrong("passwd_file", "it is missing, and the adapter logs in with master_user without asking for a password: add it")
	case r.PasswdFile == "" && !r.Target.ChecksPasswords:
		return wrong("passwd_file", "it is missing, and the adapter cannot check passwords: add it")
	}
	return nil
}
