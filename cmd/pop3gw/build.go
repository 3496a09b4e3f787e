package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"pop3gw/adapters/imap"
	"pop3gw/adapters/maildir"
	"pop3gw/gateway"
	"pop3gw/gateway/account"
)

const (
	workaroundNUL       = "outlook-no-nuls" // named as in Dovecot's pop3_client_workarounds
	workaroundEndHeader = "oe-ns-eoh"
)

// service is what a configuration describes, ready to serve.
type service struct {
	server    *gateway.Server
	adapters  map[string]gateway.Adapter
	listeners []listener
}

// listener is where clients come in. It is not open yet.
type listener struct {
	address string
	tls     string // as in the configuration
	key     string // of its address in the configuration
	options gateway.ListenerOptions
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

// build makes the parts and joins them. Nothing listens or connects yet.
func (c *config) build(log *slog.Logger) (*service, error) {
	s := &service{adapters: make(map[string]gateway.Adapter)}
	locks := new(gateway.Locks)
	for _, name := range slices.Sorted(maps.Keys(c.adapters)) {
		adapter, err := c.adapters[name].build(locks, log.With("adapter", name))
		if err != nil {
			// Adapters begin their errors with the key, where there is one.
			key, text, ok := strings.Cut(err.Error(), ": ")
			if !ok || strings.ContainsAny(key, " /") {
				return nil, c.source.errorf("adapters."+name, "%w", err)
			}
			return nil, c.source.errorf("adapters."+name+"."+key, "%s", text)
		}
		s.adapters[name] = adapter
	}
	accounts, err := c.accounts(s.adapters, log)
	if err != nil {
		return nil, err
	}
	hostname := c.Hostname
	if hostname == "" {
		if hostname, err = os.Hostname(); err != nil {
			return nil, c.source.errorf("hostname", "set it, since this machine does not know its name: %w", err)
		}
	}
	if strings.ContainsFunc(hostname, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("<>@", r) }) {
		return nil, c.source.errorf("hostname", "%q is not a host name", hostname)
	}
	s.server = &gateway.Server{Hostname: hostname, Version: version(), Accounts: accounts, Log: log, Limits: c.Limits}
	for i, l := range c.Listeners {
		options, err := c.listenerOptions(l)
		if err != nil {
			return nil, err
		}
		s.listeners = append(s.listeners, listener{l.Address, l.TLS, fmt.Sprintf("listeners[%d].address", i), options})
	}
	return s, nil
}

func (a adapterConfig) build(locks *gateway.Locks, log *slog.Logger) (gateway.Adapter, error) {
	if a.Type == "maildir" {
		return maildir.New(a.Maildir, locks, log)
	}
	return imap.New(a.IMAP, locks, log)
}

func (c *config) listenerOptions(l listenerConfig) (gateway.ListenerOptions, error) {
	options := gateway.ListenerOptions{
		Implicit:   l.TLS == "implicit",
		Mechanisms: l.Mechanisms,
		ReplaceNUL: slices.Contains(l.Workarounds, workaroundNUL),
		EndHeader:  slices.Contains(l.Workarounds, workaroundEndHeader),
	}
	switch l.CleartextLogin {
	case "never":
		options.CleartextLogin = gateway.CleartextNever
	case "always":
		options.CleartextLogin = gateway.CleartextAlways
	}
	if l.TLS != "none" {
		certificate, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.Key)
		if err != nil {
			return options, c.source.errorf("tls.certificate", "%w; certificate and key must be readable PEM files of one pair", err)
		}
		options.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	}
	return options, nil
}

// accounts turns [[users]] and [[routes]] into a directory.
func (c *config) accounts(adapters map[string]gateway.Adapter, log *slog.Logger) (*account.Directory, error) {
	d := account.Config{DefaultDomain: c.Login.DefaultDomain, LowerCase: c.Login.LowerCase, Log: log}
	for i, u := range c.Users {
		key := fmt.Sprintf("users[%d].", i)
		target, err := c.target(key+"adapter", u.Adapter, adapters)
		if err != nil {
			return nil, err
		}
		password, err := c.secret(key+"password", u.Password, u.PasswordFile)
		if err != nil {
			return nil, err
		}
		if u.PasswordFile != "" && !strings.HasPrefix(password, "$") && !strings.HasPrefix(password, "{") {
			password = "{PLAIN}" + password // a secret file holds the secret itself
		}
		upstreamPassword, err := c.secret(key+"upstream_password", u.UpstreamPassword, u.UpstreamPasswordFile)
		if err != nil {
			return nil, err
		}
		d.Users = append(d.Users, account.User{
			Name: u.Name, Password: password, Target: target, UpstreamUser: u.UpstreamUser, UpstreamPassword: upstreamPassword,
		})
	}
	for i, r := range c.Routes {
		target, err := c.target(fmt.Sprintf("routes[%d].adapter", i), r.Adapter, adapters)
		if err != nil {
			return nil, err
		}
		d.Routes = append(d.Routes, account.Route{Pattern: r.Users, Target: target, PasswdFile: c.path(r.PasswdFile)})
	}
	directory, err := account.New(d)
	var wrong *account.ConfigError
	if errors.As(err, &wrong) {
		key := wrong.Table + "." + wrong.Key
		if wrong.Index >= 0 {
			key = fmt.Sprintf("%s[%d].%s", wrong.Table, wrong.Index, wrong.Key)
		}
		return nil, c.source.errorf(key, "%w", wrong.Err)
	}
	return directory, err
}

func (c *config) target(key, name string, adapters map[string]gateway.Adapter) (account.Target, error) {
	adapter, ok := adapters[name]
	if !ok {
		names := slices.Sorted(maps.Keys(adapters))
		if name == "" {
			return account.Target{}, c.source.errorf(key, "missing; [adapters] has: %s", strings.Join(names, ", "))
		}
		return account.Target{}, c.source.errorf(key, "there is no [adapters.%s]; [adapters] has: %s", name, strings.Join(names, ", "))
	}
	a := c.adapters[name]
	if a.Type == "maildir" {
		return account.Target{Adapter: adapter, Folders: a.Maildir.Folders}, nil
	}
	return account.Target{Adapter: adapter, Folders: a.IMAP.Folders, ChecksPasswords: true, MasterUser: a.IMAP.MasterUser != ""}, nil
}

// listen opens a listener. What the system says of a failure is turned into
// what to change.
func (c *config) listen(l listener) (net.Listener, error) {
	nl, err := net.Listen("tcp", l.address)
	switch {
	case err == nil:
		return nl, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, c.source.errorf(l.key, "port of %s is in use by another program; stop it (ss -ltnp shows it) or choose another port", l.address)
	case errors.Is(err, syscall.EACCES):
		return nil, c.source.errorf(l.key, "no right to use %s: ports below 1024 need root, the capability CAP_NET_BIND_SERVICE, or the sysctl net.ipv4.ip_unprivileged_port_start; or choose a port above", l.address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, c.source.errorf(l.key, "%s is not an address of this machine; 0.0.0.0 stands for all of IPv4, [::] for all", l.address)
	}
	return nil, c.source.errorf(l.key, `%w; an address is written "host:port", such as "0.0.0.0:110"`, err)
}
