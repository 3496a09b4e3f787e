package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"pop3gw/gateway"
	"pop3gw/gateway/account"
	"pop3gw/gateway/oauth"
	"pop3gw/gateway/state"
)

// directory makes of [[users]] and [[routes]] who may log in, and where the
// mail lies. It reads the secret files of users, but no passwd-file. before, which may
// be nil, is the directory in force.
func (c *config) directory(before *account.Directory, adapters map[string]*builtAdapter, providers map[string]*oauth.Provider, keeper *oauth.Keeper, durable *state.DB, log *slog.Logger) (*account.Directory, error) {
	d := account.Config{DefaultDomain: c.Login.DefaultDomain, LowerCase: c.Login.LowerCase, Log: log, Before: before,
		Enrolled: c.enrolled(adapters, providers, keeper, durable)}
	for _, p := range c.Enrol.Providers {
		d.EnrolledPolicies = append(d.EnrolledPolicies, c.policy(gateway.Policy{}, p.Adapter))
	}
	key, err := c.saltKey()
	d.SaltKey = key
	errs := []error{err}
	for i, u := range c.Users {
		key := fmt.Sprintf("users[%d].", i)
		password, err := c.secret(key+"password", u.Password, u.PasswordFile)
		errs = append(errs, err)
		if u.PasswordFile != "" && !strings.HasPrefix(password, "$") && !strings.HasPrefix(password, "{") {
			password = "{PLAIN}" + password // a secret file may hold the secret itself
		}
		upstreamPassword, err := c.secret(key+"upstream_password", u.UpstreamPassword, u.UpstreamPasswordFile)
		errs = append(errs, err)
		d.Users = append(d.Users, account.User{
			Name: u.Name, Password: password, Target: c.target(u.Adapter, adapters),
			UpstreamUser: u.UpstreamUser, UpstreamPassword: upstreamPassword, Policy: c.policy(u.Policy, u.Adapter),
			MakeTokens: tokenMaker(providers[u.OAuth], u.OAuthUser, keeper),
		})
	}
	for _, r := range c.Routes {
		d.Routes = append(d.Routes, account.Route{Pattern: r.Users, Target: c.target(r.Adapter, adapters), PasswdFile: c.path(r.PasswdFile), Policy: c.policy(r.Policy, r.Adapter),
			MakeTokens: tokenMaker(providers[r.OAuth], "", keeper)})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	directory, err := account.New(d)
	if err != nil {
		return nil, c.accountErrors(err)
	}
	return directory, nil
}

// policy is p, with what it leaves open as in the adapter's.
func (c *config) policy(p gateway.Policy, adapter string) gateway.Policy {
	a := c.adapters[adapter]
	if a.Type == "maildir" {
		return p.Or(a.Maildir.Policy)
	}
	return p.Or(a.IMAP.Policy)
}

func (c *config) target(name string, adapters map[string]*builtAdapter) account.Target {
	t := account.Target{Adapter: adapters[name].Adapter, Name: name}
	switch a := c.adapters[name]; a.Type {
	case "maildir":
		t.Folders = a.Maildir.Folders
	case "imap":
		t.Folders, t.ChecksPasswords, t.MasterUser = a.IMAP.Folders, true, a.IMAP.MasterUser != ""
	}
	return t
}

// accountErrors says of each error of the account package where in the file it
// is, as far as it is of the configuration.
func (c *config) accountErrors(err error) error {
	var errs []error
	for _, err := range flatten(err) {
		var wrong *account.ConfigError
		if errors.As(err, &wrong) {
			err = c.source.errorf(c.accountKey(wrong), "%w", wrong.Err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// accountKey is the path of the key that an error of the account package means,
// which knows no secret files.
func (c *config) accountKey(wrong *account.ConfigError) string {
	if wrong.Index < 0 {
		return wrong.Table + "." + wrong.Key
	}
	key := wrong.Key
	if wrong.Table == "users" {
		u := c.Users[wrong.Index]
		switch {
		case key == "password" && u.PasswordFile != "":
			key = "password_file"
		case key == "upstream_password_file" && u.UpstreamPassword != "":
			key = "upstream_password"
		}
	}
	return fmt.Sprintf("%s[%d].%s", wrong.Table, wrong.Index, key)
}

// checkPasswdFiles reads every passwd-file. lines are single lines that cannot
// be used, which the directory has put in its log as well; unreadable is one
// error for each file without which nobody of its route can log in, joined.
func (c *config) checkPasswdFiles(d *account.Directory) (lines []error, unreadable error) {
	for _, err := range flatten(d.Check()) {
		var wrong *account.ConfigError
		if errors.As(err, &wrong) {
			unreadable = errors.Join(unreadable, c.accountErrors(err))
		} else {
			lines = append(lines, err)
		}
	}
	return lines, unreadable
}
