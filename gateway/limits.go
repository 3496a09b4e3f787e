package gateway

import (
	"errors"
	"fmt"
	"time"
)

// Limits bound what clients may use. Zero fields have the default.
type Limits struct {
	// MaxConnections is how many clients may be connected at a time (10,000).
	MaxConnections int `toml:"max_connections"`
	// MaxConnectionsPerAddress is the same for one client address; 0 is no
	// limit, since many clients may share the address of a router.
	MaxConnectionsPerAddress int `toml:"max_connections_per_address"`
	// MaxConnectionsPerUser is how many sessions one user may have, of all folders,
	// those included that wait for a maildrop (10).
	MaxConnectionsPerUser int `toml:"max_connections_per_user"`
	// IdleTimeout ends a session whose client sends nothing (10m, RFC 1939 §3).
	// Nothing is removed then.
	IdleTimeout time.Duration `toml:"idle_timeout"`
	// LoginTimeout bounds the time from the connection to the end of the login
	// (3m). RFC 1939 knows only the inactivity timer.
	LoginTimeout time.Duration `toml:"login_timeout"`
	// MaxSession ends a session that lasts longer, whatever its client does (24h).
	// Nothing is removed then.
	MaxSession time.Duration `toml:"max_session"`
	// UpdateTimeout bounds the removal of messages at QUIT (10m).
	UpdateTimeout time.Duration `toml:"update_timeout"`
	// WriteTimeout ends a session whose client takes nothing of a reply for so
	// long, or less than MinWriteRate on average (5m).
	WriteTimeout time.Duration `toml:"write_timeout"`
	// MinWriteRate is how many octets per second a client must take (100).
	MinWriteRate int `toml:"min_write_rate"`
	// MaxErrors is how many bad command lines a session may have (50).
	MaxErrors int `toml:"max_errors"`
	// MaxLoginFailures is how many refused logins a connection may have (5).
	MaxLoginFailures int `toml:"max_login_failures"`
	// LoginFailureDelay is how long the answer to the first refused login is held
	// back (500ms); it doubles with each further one of the connection, the
	// address or the name. See throttle.
	LoginFailureDelay time.Duration `toml:"login_failure_delay"`
	// LoginDelay is the least time between two logins to one maildrop (RFC 2449
	// §6.5), counted from the last one that succeeded; 0 is none.
	LoginDelay time.Duration `toml:"login_delay"`
}

// DefaultLimits are what zero fields stand for.
func DefaultLimits() Limits {
	return Limits{
		MaxConnections:        10_000,
		MaxConnectionsPerUser: 10,
		IdleTimeout:           10 * time.Minute,
		MaxSession:            24 * time.Hour,
		LoginTimeout:          3 * time.Minute,
		UpdateTimeout:         10 * time.Minute,
		WriteTimeout:          5 * time.Minute,
		MinWriteRate:          100,
		MaxErrors:             50,
		MaxLoginFailures:      5,
		LoginFailureDelay:     500 * time.Millisecond,
	}
}

// Check reports the limits that no server should have, each with its key.
func (l Limits) Check() error {
	var errs []error
	if l.IdleTimeout != 0 && l.IdleTimeout < 10*time.Minute {
		errs = append(errs, fmt.Errorf("idle_timeout: is %v and must be at least 10m (RFC 1939 section 3)", l.IdleTimeout))
	}
	for _, limit := range []struct {
		key   string
		value int64
	}{
		{"max_connections", int64(l.MaxConnections)},
		{"max_connections_per_address", int64(l.MaxConnectionsPerAddress)},
		{"max_connections_per_user", int64(l.MaxConnectionsPerUser)},
		{"max_session", int64(l.MaxSession)},
		{"min_write_rate", int64(l.MinWriteRate)},
		{"login_delay", int64(l.LoginDelay)},
		{"login_timeout", int64(l.LoginTimeout)},
		{"update_timeout", int64(l.UpdateTimeout)},
		{"write_timeout", int64(l.WriteTimeout)},
		{"max_errors", int64(l.MaxErrors)},
		{"max_login_failures", int64(l.MaxLoginFailures)},
		{"login_failure_delay", int64(l.LoginFailureDelay)},
	} {
		if limit.value < 0 {
			errs = append(errs, fmt.Errorf("%s: must not be negative", limit.key))
		}
	}
	return errors.Join(errs...)
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	for _, p := range []struct{ have, want *time.Duration }{
		{&l.IdleTimeout, &d.IdleTimeout}, {&l.LoginTimeout, &d.LoginTimeout}, {&l.UpdateTimeout, &d.UpdateTimeout},
		{&l.WriteTimeout, &d.WriteTimeout}, {&l.MaxSession, &d.MaxSession}, {&l.LoginFailureDelay, &d.LoginFailureDelay},
	} {
		if *p.have == 0 {
			*p.have = *p.want
		}
	}
	for _, p := range []struct{ have, want *int }{
		{&l.MaxConnections, &d.MaxConnections}, {&l.MaxErrors, &d.MaxErrors}, {&l.MaxLoginFailures, &d.MaxLoginFailures},
		{&l.MaxConnectionsPerUser, &d.MaxConnectionsPerUser}, {&l.MinWriteRate, &d.MinWriteRate},
	} {
		if *p.have == 0 {
			*p.have = *p.want
		}
	}
	return l
}
