package main

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"

	"pop3gw/adapters/imap"
	"pop3gw/adapters/maildir"
	"pop3gw/gateway"
	"pop3gw/gateway/account"
	"pop3gw/gateway/oauth"
	"pop3gw/gateway/state"
	"pop3gw/gateway/state/cache"
	"pop3gw/gateway/uidl"
)

// service is what a configuration describes, ready to serve.
type service struct {
	config       *config // in force
	started      *config // what it was at the start
	server       *gateway.Server
	accounts     *accounts
	certificates *certificates // empty without [tls]
	listeners    []listener
	operator     *operator      // nil without [admin]
	enrol        *enrolServer   // nil without [enrol]
	locks        *gateway.Locks // of all adapters there ever are
	servers      *imap.Servers  // the same
	stores       stores
	keeper       *oauth.Keeper
	log          *slog.Logger
	level        *slog.LevelVar // of log; nil where it is fixed
}

// stores are where the gateway keeps what outlives its sessions; each is nil
// without state.url.
type stores struct {
	cache   *cache.Cache // what could be found out again
	durable *state.DB    // what could not
	uidls   *uidl.Book   // in durable
}

func (s stores) close() error { return errors.Join(s.cache.Close(), s.durable.Close()) }

// close ends what goes on between sessions. The server must have been shut down.
func (s *service) close() error {
	s.accounts.close()
	s.keeper.Close()
	return s.stores.close()
}

func newLogger(w io.Writer, c logConfig) *slog.Logger {
	return newLeveledLogger(w, c, c.level())
}

// newLeveledLogger is newLogger with a level that may change.
func newLeveledLogger(w io.Writer, c logConfig, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func (c lockConfig) policy() gateway.LockPolicy {
	return gateway.LockPolicy{WhenBusy: gateway.WhenBusy(c.WhenBusy), Wait: c.Wait}
}

func (c logConfig) level() (level slog.Level) {
	level.UnmarshalText([]byte(c.Level)) // checked with the configuration
	return level
}

// build makes the parts and joins them. Nothing listens or connects yet. The
// stores are the service's from then on. The error is one for each mistake, joined.
func (c *config) build(kept stores, log *slog.Logger) (*service, error) {
	s := &service{config: c, started: c, certificates: new(certificates), accounts: &accounts{log: log},
		locks: new(gateway.Locks), servers: new(imap.Servers), stores: kept, keeper: c.keeper(kept, log), log: log}
	s.locks.SetPolicy(c.Lock.policy())
	hostname, hostnameErr := c.hostname()
	next, err := c.prepare(s)
	if err := errors.Join(hostnameErr, err); err != nil {
		return nil, err
	}
	s.server = &gateway.Server{Hostname: hostname, Version: version(), Accounts: s.accounts, Log: log, Limits: c.Limits}
	if kept.durable != nil {
		s.server.Retrieved = kept.durable.Retrieved()
	}
	s.listeners = c.listeners(next.tls)
	s.accounts.use(next.generation)
	s.certificates.use(next.pairs, c.isLegacy())
	return s, nil
}

// prepared is what can be replaced while the gateway runs, ready to be.
type prepared struct {
	generation *generation
	pairs      []*certificate
	tls        []*tls.Config // of each listener; nil without TLS
}

// prepare makes what can be replaced in s, or finds out why that cannot be.
func (c *config) prepare(s *service) (*prepared, error) {
	next := &prepared{tls: make([]*tls.Config, len(c.Listeners))}
	var generationErr, pairsErr error
	next.generation, generationErr = c.generation(s)
	next.pairs, pairsErr = c.certificatePairs(s.certificates.pairs)
	errs := []error{pairsErr}
	for i, l := range c.Listeners {
		if l.TLS != "none" {
			var err error
			next.tls[i], err = c.tlsSettings(i, s.certificates)
			errs = append(errs, err)
		}
	}
	if pairsErr == nil {
		errs = append(errs, c.checkLegacy(next.pairs))
	}
	if err := errors.Join(append(errs, generationErr)...); err != nil {
		if generationErr == nil {
			err = errors.Join(err, s.accounts.discard(next.generation))
		}
		return nil, err
	}
	return next, nil
}

func (c *config) hostname() (string, error) {
	if c.Hostname != "" {
		return c.Hostname, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", c.source.errorf("hostname", "set it, since this machine does not know its name: %w", err)
	}
	return name, nil
}

func (c *config) adapterNames() []string { return slices.Sorted(maps.Keys(c.adapters)) }

// generation makes the adapters, those of s where they would be the same, and
// the directory over them.
func (c *config) generation(s *service) (*generation, error) {
	g := &generation{config: c, adapters: make(map[string]*builtAdapter)}
	before := s.accounts.current // only the goroutine that calls this replaces it
	var errs []error
	for _, name := range c.adapterNames() {
		parts, err := c.adapterParts(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		built := before.like(name, parts)
		if built == nil {
			built = &builtAdapter{of: parts}
			if built.Adapter, err = parts.build(s, s.log.With("adapter", name)); err != nil {
				errs = append(errs, c.source.keyErrors("adapters."+name, err))
				continue
			}
		}
		g.adapters[name] = built
	}
	var err error
	g.providers, err = c.providers()
	err = errors.Join(append(errs, err)...)
	if err == nil {
		g.terms, err = c.enrolTerms(g.providers, s.started.Listeners)
	}
	if err == nil {
		var old *account.Directory
		if before != nil {
			old = before.directory
		}
		g.directory, err = c.directory(old, g.adapters, g.providers, s.keeper, s.stores.durable, s.log)
	}
	if err != nil {
		return nil, errors.Join(err, s.accounts.discard(g))
	}
	return g, nil
}

// adapterParts reads the files that an adapter is made of.
func (c *config) adapterParts(name string) (adapterParts, error) {
	parts := adapterParts{config: c.adapters[name]}
	if parts.config.Type == "maildir" {
		return parts, nil
	}
	o := &parts.config.IMAP
	var err error
	if o.MasterPassword, err = c.secret("adapters."+name+".master_password", o.MasterPassword, o.MasterPasswordFile); err != nil {
		return parts, err
	}
	if o.CAFile != "" {
		o.CAFile = c.path(o.CAFile)
		text, _ := readRegular(o.CAFile) // if it cannot be read the adapter says why
		parts.caFile = string(text)
	}
	return parts, nil
}

func (p adapterParts) build(s *service, log *slog.Logger) (gateway.Adapter, error) {
	if p.config.Type == "maildir" {
		a, err := maildir.New(p.config.Maildir, s.locks, s.stores.cache, log)
		if err == nil {
			a.UseBook(s.stores.uidls)
		}
		return orNone(a, err)
	}
	o := p.config.IMAP
	o.Servers = s.servers
	a, err := imap.New(o, s.locks, s.stores.cache, log)
	if err == nil {
		a.UseBook(s.stores.uidls)
	}
	if err == nil && s.stores.durable != nil {
		a.UseJournal(s.stores.durable.Journal())
	}
	return orNone(a, err)
}

// orNone makes no adapter of a nil pointer.
func orNone[A gateway.Adapter](a A, err error) (gateway.Adapter, error) {
	if err != nil {
		return nil, err
	}
	return a, nil
}
