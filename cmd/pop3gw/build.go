package main

import (
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
	"pop3gw/gateway/state"
	"pop3gw/gateway/state/cache"
)

// service is what a configuration describes, ready to serve.
type service struct {
	server      *gateway.Server
	adapters    map[string]gateway.Adapter
	directory   *account.Directory
	certificate *certificate // nil without [tls]
	listeners   []listener
	stores      stores
}

// stores are where the gateway keeps what outlives its sessions; each is nil
// without state.url.
type stores struct {
	cache   *cache.Cache // what could be found out again
	durable *state.DB    // what could not
}

func (s stores) close() error { return errors.Join(s.cache.Close(), s.durable.Close()) }

// close ends what goes on between sessions. The server must have been shut down.
func (s *service) close() error {
	var errs []error
	for _, a := range s.adapters {
		if c, ok := a.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(append(errs, s.stores.close())...)
}

func newLogger(w io.Writer, c logConfig) *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(c.Level)) // checked with the configuration
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// build makes the parts and joins them. Nothing listens or connects yet. The
// stores are the service's from then on. The error is one for each mistake, joined.
func (c *config) build(kept stores, log *slog.Logger) (*service, error) {
	adapters, err := c.buildAdapters(kept, log)
	if err != nil {
		return nil, err
	}
	directory, usersErr := c.directory(adapters, log)
	cert, certErr := c.certificate()
	hostname, hostnameErr := c.hostname()
	if err := errors.Join(hostnameErr, certErr, usersErr); err != nil {
		return nil, err
	}
	return &service{
		server:      &gateway.Server{Hostname: hostname, Version: version(), Accounts: directory, Log: log, Limits: c.Limits},
		adapters:    adapters,
		directory:   directory,
		certificate: cert,
		listeners:   c.listeners(cert),
		stores:      kept,
	}, nil
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

func (c *config) buildAdapters(kept stores, log *slog.Logger) (map[string]gateway.Adapter, error) {
	built := make(map[string]gateway.Adapter)
	locks := new(gateway.Locks)
	var errs []error
	for _, name := range c.adapterNames() {
		a, log := c.adapters[name], log.With("adapter", name)
		var err error
		if a.Type == "maildir" {
			built[name], err = c.buildMaildir(name, a.Maildir, locks, kept, log)
		} else {
			built[name], err = c.buildIMAP(name, a.IMAP, locks, kept, log)
		}
		errs = append(errs, err)
	}
	return built, errors.Join(errs...)
}

func (c *config) buildMaildir(name string, o maildir.Options, locks *gateway.Locks, kept stores, log *slog.Logger) (gateway.Adapter, error) {
	adapter, err := maildir.New(o, locks, kept.cache, log)
	if err != nil {
		return nil, c.source.keyErrors("adapters."+name, err)
	}
	return adapter, nil
}

func (c *config) buildIMAP(name string, o imap.Options, locks *gateway.Locks, kept stores, log *slog.Logger) (gateway.Adapter, error) {
	key := "adapters." + name + "."
	var err error
	if o.MasterPassword, err = c.secret(key+"master_password", o.MasterPassword, o.MasterPasswordFile); err != nil {
		return nil, err
	}
	o.CAFile = c.path(o.CAFile)
	adapter, err := imap.New(o, locks, kept.cache, log)
	if err != nil {
		return nil, c.source.keyErrors("adapters."+name, err)
	}
	return adapter, nil
}
