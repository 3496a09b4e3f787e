package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/account"
	"pop3gw/gateway/enrol"
	"pop3gw/gateway/oauth"
	"pop3gw/gateway/state"
)

// enrolGrace is for requests that run when the gateway has ended.
const enrolGrace = 5 * time.Second

// checkEnrol checks [enrol].
func (c *config) checkEnrol() error {
	e := &c.Enrol
	if !e.isSet() {
		return nil
	}
	errs := []error{c.checkAddress("enrol.address", e.Address, c.Listeners)}
	wrong := func(key, format string, args ...any) { errs = append(errs, c.source.errorf(key, format, args...)) }
	if e.PublicURL == "" {
		errs = append(errs, c.required("enrol.public_url", e.PublicURL, `"https://pop.example.org:8443"`))
	} else if _, err := enrol.CheckURL(e.PublicURL); err != nil {
		wrong("enrol.public_url", "%w", err)
	}
	if len(e.Domains) == 0 {
		wrong("enrol.domains", `missing; such as ["example.org"], or ["*"] for any`)
	}
	for _, d := range e.Domains {
		if err := enrol.CheckDomain(d); err != nil {
			wrong("enrol.domains", "%w", err)
		}
	}
	if len(e.Providers) == 0 {
		wrong("enrol.providers", "there is none; add a [[enrol.providers]] table with oauth and adapter")
	}
	if !c.TLS.isSet() {
		wrong("enrol.address", "the page needs a certificate; set certificate and key in [tls]")
	}
	if c.State.URL == "" {
		wrong("state.url", "missing; the accounts that users enrol must be kept somewhere")
	}
	for i, p := range e.Providers {
		errs = append(errs, c.checkEnrolProvider(fmt.Sprintf("enrol.providers[%d].", i), p, e.Providers[:i]))
	}
	return errors.Join(errs...)
}

func (c *config) checkEnrolProvider(key string, p enrolProvider, earlier []enrolProvider) error {
	if p.OAuth == "" {
		return errors.Join(c.required(key+"oauth", p.OAuth, `"microsoft"`), c.checkAdapterName(key+"adapter", p.Adapter))
	}
	errs := []error{c.checkAdapterName(key+"adapter", p.Adapter)}
	o, ok := c.OAuth[p.OAuth]
	switch {
	case !ok && len(c.OAuth) == 0:
		errs = append(errs, c.source.errorf(key+"oauth", "found %q; there is no provider: add a table [oauth.%s]", p.OAuth, p.OAuth))
	case !ok:
		errs = append(errs, c.source.errorf(key+"oauth", "found %q; [oauth] has: %s", p.OAuth, strings.Join(slices.Sorted(maps.Keys(c.OAuth)), ", ")))
	case o.Grant != "" && o.Grant != oauth.GrantUser:
		errs = append(errs, c.source.errorf(key+"oauth", "found %q, which has grant = %q; users can only consent where that is %q", p.OAuth, o.Grant, oauth.GrantUser))
	}
	if slices.ContainsFunc(earlier, func(e enrolProvider) bool { return e.OAuth == p.OAuth }) {
		errs = append(errs, c.source.errorf(key+"oauth", "found %q a second time; remove one", p.OAuth))
	}
	if a, ok := c.adapters[p.Adapter]; ok && (a.Type != "imap" || a.IMAP.MasterUser != "") {
		errs = append(errs, c.source.errorf(key+"adapter", "found %q, which does not log in with a token; wanted is one of type \"imap\" without master_user", p.Adapter))
	}
	return errors.Join(errs...)
}

// enrolled finds the accounts that users have enrolled, for a directory; nil without
// [enrol].
func (c *config) enrolled(adapters map[string]*builtAdapter, providers map[string]*oauth.Provider, keeper *oauth.Keeper, durable *state.DB) func(string) (account.User, bool, error) {
	if !c.Enrol.isSet() {
		return nil
	}
	return func(name string) (account.User, bool, error) {
		if durable == nil {
			return account.User{}, false, nil
		}
		a, ok, err := durable.Accounts().Get(context.Background(), name) // which bounds its time
		if err != nil || !ok {
			return account.User{}, false, err
		}
		i := slices.IndexFunc(c.Enrol.Providers, func(p enrolProvider) bool { return p.OAuth == a.Provider })
		if i < 0 { // told to whoever has the password, and to nobody else
			return account.User{Name: a.Name, Password: a.Password, Target: account.Target{Adapter: orphaned{a}}}, true, nil
		}
		return account.User{
			Name: a.Name, Password: a.Password, UpstreamUser: a.Upstream,
			Target: c.target(c.Enrol.Providers[i].Adapter, adapters), Policy: c.policy(gateway.Policy{}, c.Enrol.Providers[i].Adapter),
			MakeTokens: tokenMaker(providers[a.Provider], "", keeper),
		}, true, nil
	}
}

// orphaned is the adapter of an enrolled account whose provider is gone.
type orphaned struct{ account state.Account }

// Open implements gateway.Adapter.
func (o orphaned) Open(context.Context, gateway.Account) (gateway.Maildrop, error) {
	return nil, gateway.Unusable("this account is not set up correctly, please tell the administrator",
		fmt.Errorf("%q was enrolled at %q, which is not among [[enrol.providers]]; add it, or run \"pop3gw enrol remove %[1]s\"", o.account.Name, o.account.Provider))
}

// enrolments keeps what the page makes.
type enrolments struct{ s *service }

// Enrolled implements enrol.Accounts.
func (e enrolments) Enrolled(ctx context.Context, name string) (enrol.Account, bool, error) {
	a, ok, err := e.s.stores.durable.Accounts().Get(ctx, name)
	return enrol.Account(a), ok, err
}

// Enrol implements enrol.Accounts.
func (e enrolments) Enrol(ctx context.Context, a enrol.Account, g *oauth.Grant) error {
	token, err := e.s.keeper.Seal(ctx, a.Name, g)
	if err != nil {
		return err
	}
	kept, err := e.s.stores.durable.Accounts().Put(ctx, state.Account(a), token)
	if err == nil && !kept {
		err = enrol.ErrTaken
	}
	return err
}

// Reserved implements enrol.Accounts. What the operator's users have authorised is
// kept under their names, or under that of their oauth_user.
func (e enrolments) Reserved(name string) bool {
	h := e.s.accounts.hold()
	defer h.Close()
	return h.generation.directory.Configured(name) ||
		slices.ContainsFunc(h.generation.config.Users, func(u userConfig) bool { return strings.EqualFold(u.OAuthUser, name) })
}

// enrolTerms are what the page offers; nothing without [enrol]. open are the listeners
// that the gateway was started with.
func (c *config) enrolTerms(providers map[string]*oauth.Provider, open []listenerConfig) (t enrol.Terms, err error) {
	if !c.Enrol.isSet() {
		return t, nil
	}
	t.Domains, t.Settings.Ports = c.Enrol.Domains, enrolPorts(c.likeOpen(open))
	if t.Settings.Server, err = c.hostname(); err != nil {
		return t, err
	}
	for i, p := range c.Enrol.Providers {
		provider := providers[p.OAuth]
		if !provider.HasCode() || !provider.Identifies() {
			return t, c.source.errorf(fmt.Sprintf("enrol.providers[%d].oauth", i),
				`found %q, which does not tell who has consented; set auth_url, issuer and keys_url in [oauth.%s], and let scopes have "openid" and "email"`, p.OAuth, p.OAuth)
		}
		preset := cmp.Or(c.OAuth[p.OAuth].Preset, p.OAuth)
		t.Providers = append(t.Providers, enrol.Provider{Provider: provider, Title: cmp.Or(p.Title, providerTitles[preset], p.OAuth)})
	}
	return t, nil
}

// likeOpen are listeners that are open, with what c says of them by now: no other
// address is listened at until a restart.
func (c *config) likeOpen(open []listenerConfig) (listeners []listenerConfig) {
	for _, l := range open {
		if i := slices.IndexFunc(c.Listeners, func(n listenerConfig) bool { return n.Address == l.Address }); i >= 0 {
			l = c.Listeners[i]
		}
		listeners = append(listeners, l)
	}
	return listeners
}

// enrolPage makes the page of [enrol].
func (c *config) enrolPage(s *service, log *slog.Logger) (*enrol.Page, error) {
	page, err := enrol.New(enrol.Options{URL: c.Enrol.PublicURL, Accounts: enrolments{s}, Log: log, Terms: func() enrol.Terms {
		h := s.accounts.hold()
		defer h.Close()
		return h.generation.terms
	}})
	if err != nil {
		return nil, c.source.errorf("enrol", "%w", err)
	}
	return page, nil
}

var providerTitles = map[string]string{"google": "Google", "microsoft": "Microsoft 365"}

// enrolPorts are where clients can log in, as they call it: those of other machines,
// or those of this one if there are no others.
func enrolPorts(listeners []listenerConfig) (ports []enrol.Port) {
	var local []enrol.Port
	for _, l := range listeners {
		p := enrol.Port{Security: map[string]string{"implicit": "SSL/TLS", "stls": "STARTTLS", "none": "no encryption"}[l.TLS]}
		if _, port, err := net.SplitHostPort(l.Address); err == nil {
			p.Number, _ = net.LookupPort("tcp", port)
		}
		list := &ports
		if isLoopback(l.Address) {
			list = &local
		} else if l.TLS == "none" && l.CleartextLogin != "always" {
			continue // nobody could log in
		}
		if !slices.Contains(*list, p) {
			*list = append(*list, p)
		}
	}
	if len(ports) == 0 {
		ports = local
	}
	best := map[string]int{"SSL/TLS": 0, "STARTTLS": 1, "no encryption": 2}
	slices.SortStableFunc(ports, func(a, b enrol.Port) int { return best[a.Security] - best[b.Security] })
	return ports
}

// enrolServer is the listener of the enrolment page.
type enrolServer struct {
	*enrol.Server
	open net.Listener
}

// enrolServer opens the listener of the page; nil if there is none.
func (c *config) enrolServer(s *service) (*enrolServer, error) {
	if !c.Enrol.isSet() {
		return nil, nil
	}
	page, err := c.enrolPage(s, s.log)
	if err != nil {
		return nil, usageError{err}
	}
	l, err := listen(c.Enrol.Address)
	if err != nil {
		return nil, c.source.errorf("enrol.address", "%w", err)
	}
	secure := tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificates.forClient, NextProtos: []string{"http/1.1"}})
	return &enrolServer{enrol.NewServer(page), secure}, nil
}

// serve serves the page until end.
func (e *enrolServer) serve(s *service) {
	if e == nil {
		return
	}
	s.log.Info("enrolment page", "address", e.open.Addr().String(), "url", s.started.Enrol.PublicURL)
	go func() {
		if err := e.Serve(e.open); err != nil {
			s.log.Error("the enrolment page ended; the gateway goes on without it", "error", err)
		}
	}()
}

func (e *enrolServer) end() {
	if e == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), enrolGrace)
	defer cancel()
	e.Shutdown(ctx)
}
