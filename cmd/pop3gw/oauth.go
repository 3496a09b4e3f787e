package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/account"
	"pop3gw/gateway/oauth"
	"pop3gw/gateway/state"
)

// keyFileName is that of the key in the folder of the state, unless state.key_file
// names another.
const keyFileName = "key"

// checkOAuth finds what users and routes want of [oauth] and it has not.
func (c *config) checkOAuth() error {
	var errs []error
	check := func(key, name string) {
		o, ok := c.OAuth[name]
		switch {
		case name == "":
		case !ok && len(c.OAuth) == 0:
			errs = append(errs, c.source.errorf(key, "found %q; there is no provider: add a table [oauth.%s]", name, name))
		case !ok:
			errs = append(errs, c.source.errorf(key, "found %q; [oauth] has: %s", name, strings.Join(slices.Sorted(maps.Keys(c.OAuth)), ", ")))
		case (o.Grant == "" || o.Grant == oauth.GrantUser) && c.State.URL == "":
			errs = append(errs, c.source.errorf("state.url", "missing; users authorise the gateway at %q, and it must keep that somewhere", name))
		}
	}
	for i, u := range c.Users {
		key := fmt.Sprintf("users[%d].", i)
		check(key+"oauth", u.OAuth)
		if u.OAuthUser != "" && u.OAuth == "" {
			errs = append(errs, c.source.errorf(key+"oauth_user", "found %q without oauth; add the name of a provider, or remove it", u.OAuthUser))
		}
	}
	for i, r := range c.Routes {
		check(fmt.Sprintf("routes[%d].oauth", i), r.OAuth)
	}
	if c.State.KeyFile != "" && c.State.URL == "" {
		errs = append(errs, c.source.errorf("state.key_file", "found %q without url; set url, or remove it", c.State.KeyFile))
	}
	return errors.Join(errs...)
}

// providers are those of [oauth], by name. It reads their secret files.
func (c *config) providers() (map[string]*oauth.Provider, error) {
	providers := make(map[string]*oauth.Provider)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.OAuth)) {
		p, err := c.provider(name)
		errs = append(errs, err)
		providers[name] = p
	}
	return providers, errors.Join(errs...)
}

func (c *config) provider(name string) (*oauth.Provider, error) {
	o, key := c.OAuth[name], "oauth."+name
	var err error
	if o.ClientSecret, err = c.secret(key+".client_secret", o.ClientSecret, o.ClientSecretFile); err != nil {
		return nil, err
	}
	if o.ServiceAccountFile != "" {
		o.ServiceAccountFile = c.path(o.ServiceAccountFile)
		if o.ServiceAccount, err = readRegular(o.ServiceAccountFile); err != nil {
			return nil, c.source.errorf(key+".service_account_file", "%w; it must be a file that the gateway's user (uid %d) can read", err, os.Geteuid())
		}
	}
	var roots *x509.CertPool
	if o.CAFile != "" {
		if roots, err = x509.SystemCertPool(); err != nil { // a system without any
			roots = x509.NewCertPool()
		}
		text, err := readRegular(c.path(o.CAFile))
		if err == nil && !roots.AppendCertsFromPEM(text) {
			err = fmt.Errorf("found no certificate in %s; allowed is a file in PEM form", o.CAFile)
		}
		if err != nil {
			return nil, c.source.errorf(key+".ca_file", "%w", err)
		}
	}
	p, err := oauth.New(name, o, roots)
	if err != nil {
		return nil, c.source.keyErrors(key, err)
	}
	return p, nil
}

// keeper keeps what users authorise. Without a durable store it forgets that at
// the end, and is enough for tokens that need nobody's consent.
func (c *config) keeper(kept stores, log *slog.Logger) *oauth.Keeper {
	if kept.durable == nil {
		return oauth.NewKeeper(new(oauth.Memory), "", log)
	}
	return oauth.NewKeeper(kept.durable.Tokens(), c.keyFile(), log)
}

func (c *config) keyFile() string {
	if c.State.KeyFile != "" {
		return c.path(c.State.KeyFile)
	}
	dir, _ := c.stateFolder() // checked with the configuration
	return filepath.Join(dir, keyFileName)
}

// tokenMaker makes tokens of a provider, or is nil without one. grant is the name
// under which it was authorised, if not that of the account.
func tokenMaker(p *oauth.Provider, grant string, keeper *oauth.Keeper) account.TokenMaker {
	if p == nil {
		return nil
	}
	return func(name, upstream string) gateway.Tokens {
		if grant != "" {
			name = grant
		}
		return keeper.Tokens(p, name, upstream)
	}
}

// openDurable opens what users have authorised for a command that must change
// nothing: it is nil where there is none yet.
func (c *config) openDurable(log *slog.Logger) (*state.DB, error) {
	dir, err := c.stateFolder()
	if dir == "" || err != nil || len(c.OAuth) == 0 {
		return nil, err
	}
	db, err := state.OpenAsIs(dir, log)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return db, err
}

// checkProviders asks each provider that somebody uses whether it knows the
// gateway, and looks at what users have authorised.
func (c *config) checkProviders(ctx context.Context, s *service, r *report) {
	providers := s.accounts.current.providers
	for _, name := range slices.Sorted(maps.Keys(providers)) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		err := providers[name].Check(ctx)
		cancel()
		detail := "reached, and knows the gateway"
		if providers[name].Grant() == oauth.GrantServiceAccount {
			detail = "the key of the service account can be read; try it with --user"
		}
		r.add("oauth "+name, detail, err)
	}
	if key, err := oauth.ReadKey(c.keyFile()); err == nil && key.Exposed() {
		r.warn("oauth", c.source.errorf("state.key_file", "others than its owner may read %s; chmod 600 it", key.Path()))
	}
	if r.unseen {
		return
	}
	for _, a := range authorisable(c, s) {
		detail, err := a.look(ctx, s.keeper)
		r.add("oauth of "+a.grant, detail, err)
	}
}

// authorised is a grant that users of the configuration need.
type authorised struct {
	grant    string // its name
	users    []string
	mailbox  string
	provider *oauth.Provider
}

// authorisable are the grants that [[users]] need, in their order.
func authorisable(c *config, s *service) (all []authorised) {
	for _, u := range c.Users {
		found, err := s.accounts.current.directory.Find(u.Name)
		if err != nil {
			continue
		}
		p, grant, mailbox, ok := oauth.Source(found.Tokens)
		if !ok || p.Grant() != oauth.GrantUser {
			continue
		}
		i := slices.IndexFunc(all, func(a authorised) bool { return a.grant == grant })
		if i < 0 {
			i = len(all)
			all = append(all, authorised{grant: grant, mailbox: mailbox, provider: p})
		}
		all[i].users = append(all[i].users, found.Name)
	}
	return all
}

const (
	keepFirst = 10 * time.Minute // after the start, when grants are first kept alive
	keepAgain = 24 * time.Hour
)

// keepGrants has the grants of users that are rarely there last, until ctx ends.
func (s *service) keepGrants(ctx context.Context) {
	for wait := keepFirst; ; wait = keepAgain {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		err := s.keeper.KeepAlive(ctx, func(name string) *oauth.Provider {
			h := s.accounts.hold()
			defer h.Close()
			return h.generation.providerOf(name)
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("authorisations that nobody uses cannot be kept alive", "error", err)
		}
	}
}

// providerOf is the provider of the users that log in with what is stored under a
// name; nil if there are none.
func (g *generation) providerOf(name string) *oauth.Provider {
	for _, u := range g.config.Users {
		if u.OAuthUser == name {
			return g.providers[u.OAuth]
		}
	}
	found, err := g.directory.Find(name)
	if err != nil {
		return nil
	}
	p, grant, _, ok := oauth.Source(found.Tokens)
	if !ok || grant != name {
		return nil
	}
	return p
}

// look says what is known of a grant, or why it is of no use.
func (a authorised) look(ctx context.Context, keeper *oauth.Keeper) (string, error) {
	g, err := keeper.Grant(ctx, a.grant)
	if err == nil {
		err = a.provider.Fits(g)
	}
	again := fmt.Sprintf("; run %q", oauth.LoginCommand(a.grant))
	switch {
	case err != nil:
		return "", fmt.Errorf("%w%s", err, again)
	case !g.Refused.IsZero():
		return "", fmt.Errorf("the provider ended it, found out at %s: %s%s", g.Refused.Format(time.DateTime), g.Reason, again)
	}
	return describeGrant(g), nil
}

func describeGrant(g *oauth.Grant) string {
	by := ""
	if g.Identity.Email != "" {
		by = " by " + g.Identity.Email
	}
	return fmt.Sprintf("authorised%s at %s, token good until %s", by, g.At.Local().Format(time.DateOnly), g.Expiry.Local().Format(time.DateTime))
}
