package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("gateway: server closed")

// Server is a POP3 server over whatever maildrops Accounts leads to. Its fields
// are not changed once Serve was called.
type Server struct {
	Hostname string       // for the greeting and APOP timestamps; "" is "localhost"
	Version  string       // for CAPA's IMPLEMENTATION; may be empty
	Accounts Accounts     // required
	Log      *slog.Logger // nil is slog.Default()
	Limits   Limits

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]netip.Addr
	perAddr   map[netip.Addr]int
	sessions  sync.WaitGroup
}

// Limits bound what clients may use. Zero fields have the default.
type Limits struct {
	// MaxConnections is how many clients may be connected at a time (10,000).
	MaxConnections int `toml:"max_connections"`
	// MaxConnectionsPerAddress is the same for one client address; 0 is no
	// limit, since many clients may share the address of a router.
	MaxConnectionsPerAddress int `toml:"max_connections_per_address"`
	// IdleTimeout ends a session whose client sends nothing (10m, RFC 1939 §3).
	// Nothing is removed then.
	IdleTimeout time.Duration `toml:"idle_timeout"`
	// LoginTimeout bounds the time from the connection to the end of the login
	// (3m). RFC 1939 knows only the inactivity timer.
	LoginTimeout time.Duration `toml:"login_timeout"`
	// UpdateTimeout bounds the removal of messages at QUIT (10m).
	UpdateTimeout time.Duration `toml:"update_timeout"`
	// WriteTimeout ends a session whose client takes longer for the next piece
	// of a reply, 128 KB at most (5m).
	WriteTimeout time.Duration `toml:"write_timeout"`
	// MaxErrors is how many bad command lines a session may have (50).
	MaxErrors int `toml:"max_errors"`
	// MaxLoginFailures is how many refused logins a connection may have (5).
	MaxLoginFailures int `toml:"max_login_failures"`
	// LoginFailureDelay is how long the answer to a connection's first refused
	// login is held back (500ms); it doubles with each further one.
	LoginFailureDelay time.Duration `toml:"login_failure_delay"`
}

// DefaultLimits are what zero fields stand for.
func DefaultLimits() Limits {
	return Limits{
		MaxConnections:    10_000,
		IdleTimeout:       10 * time.Minute,
		LoginTimeout:      3 * time.Minute,
		UpdateTimeout:     10 * time.Minute,
		WriteTimeout:      5 * time.Minute,
		MaxErrors:         50,
		MaxLoginFailures:  5,
		LoginFailureDelay: 500 * time.Millisecond,
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
		{&l.WriteTimeout, &d.WriteTimeout}, {&l.LoginFailureDelay, &d.LoginFailureDelay},
	} {
		if *p.have == 0 {
			*p.have = *p.want
		}
	}
	for _, p := range []struct{ have, want *int }{
		{&l.MaxConnections, &d.MaxConnections}, {&l.MaxErrors, &d.MaxErrors}, {&l.MaxLoginFailures, &d.MaxLoginFailures},
	} {
		if *p.have == 0 {
			*p.have = *p.want
		}
	}
	return l
}

// Cleartext says where a password may cross a connection without TLS.
type Cleartext int

const (
	CleartextLoopback Cleartext = iota // from this host alone
	CleartextNever
	CleartextAlways
)

// Mechanisms are the ways to log in that a Listener can offer: USER with PASS,
// APOP (RFC 1939 §7), and those of AUTH (RFC 5034). Those that work for none of
// the users are not offered: see Offerer.
var Mechanisms = []string{"USER", "APOP", scramMechanism, "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"}

// DefaultMechanisms leave out APOP, which works for users with a plain secret
// alone, while clients that see it offered try nothing else, and tokens, which the
// store must know. SCRAM-SHA-256 joins them where it works for every user.
var DefaultMechanisms = []string{"USER", "PLAIN", "LOGIN"}

// ListenerOptions say how clients of one listener are served.
type ListenerOptions struct {
	TLS            *tls.Config // nil: no TLS
	Implicit       bool        // TLS from the first octet (RFC 8314), not by STLS (RFC 2595)
	CleartextLogin Cleartext
	Mechanisms     []string // of Mechanisms; nil is DefaultMechanisms
	ReplaceNUL     bool     // as wire.Body's
	EndHeader      bool     // as wire.Body's
}

func (o ListenerOptions) offers(mechanism string) bool {
	if o.Mechanisms == nil {
		return slices.Contains(DefaultMechanisms, mechanism)
	}
	return slices.Contains(o.Mechanisms, mechanism)
}

const (
	acceptPause    = 50 * time.Millisecond // when accepting fails, as without file descriptors
	maxAcceptPause = time.Second
)

// Serve accepts clients from l until l is closed, or until Shutdown, when it
// returns ErrServerClosed. Other errors of l are logged, and Serve goes on. It
// closes l. Keep-alive is l's: without it a client that vanished holds its
// maildrop until the inactivity timer ends.
func (s *Server) Serve(l net.Listener, o ListenerOptions) error {
	defer l.Close()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrServerClosed
	}
	if s.listeners == nil {
		s.listeners = make(map[net.Listener]struct{})
		s.conns = make(map[*conn]netip.Addr)
		s.perAddr = make(map[netip.Addr]int)
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, l)
	}()

	limits := s.Limits.withDefaults()
	pause := acceptPause
	for {
		nc, err := l.Accept()
		if err != nil {
			s.mu.Lock()
			closed := s.closed
			s.mu.Unlock()
			if closed {
				return ErrServerClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			s.log().Error("accepting a connection failed, pausing", "listener", l.Addr().String(), "pause", pause, "error", err)
			time.Sleep(pause)
			pause = min(2*pause, maxAcceptPause)
			continue
		}
		pause = acceptPause
		s.start(nc, o, limits)
	}
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.Default()
	}
	return s.Log
}

func (s *Server) hostname() string {
	if s.Hostname == "" {
		return "localhost"
	}
	return s.Hostname
}

// start serves nc in a goroutine of its own, or refuses it.
func (s *Server) start(nc net.Conn, o ListenerOptions, limits Limits) {
	c := newConn(nc, limits.WriteTimeout)
	addr := remoteAddr(nc)
	s.mu.Lock()
	full := ""
	switch {
	case s.closed:
		full = "server is shutting down"
	case len(s.conns) >= limits.MaxConnections:
		full = "too many connections"
	case limits.MaxConnectionsPerAddress > 0 && s.perAddr[addr] >= limits.MaxConnectionsPerAddress:
		full = "too many connections from this address"
	default:
		s.conns[c] = addr
		s.perAddr[addr]++
		s.sessions.Add(1)
	}
	s.mu.Unlock()
	if full != "" {
		s.log().Warn("connection refused", "remote", nc.RemoteAddr().String(), "reason", full)
		if !o.Implicit {
			c.writeTimeout = time.Second
			c.reply("-ERR", "["+string(CodeSysTemp)+"] "+full+", try again later")
			c.flush()
		}
		c.abort()
		return
	}
	go func() {
		defer s.finish(c)
		s.serve(c, o, limits, addr)
	}()
}

func (s *Server) finish(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	addr := s.conns[c]
	delete(s.conns, c)
	if s.perAddr[addr]--; s.perAddr[addr] == 0 {
		delete(s.perAddr, addr)
	}
	s.sessions.Done()
}

// serve runs one session. A panic ends that session alone.
func (s *Server) serve(c *conn, o ListenerOptions, limits Limits, addr netip.Addr) {
	id := newID()
	sess := &session{
		server: s, conn: c, options: o, limits: limits, ctx: c.ctx, started: time.Now(),
		addr: addr, id: id, log: s.log().With("session", id), state: authorization,
	}
	defer sess.finish()
	defer sess.rescue()
	defer sess.closeMaildrop()
	defer sess.rescue()
	sess.run()
}

// rescue is deferred: it ends a panic, of an adapter's for instance.
func (s *session) rescue() {
	if p := recover(); p != nil {
		s.ended = "internal error"
		s.log.Error("a session ended by an internal error; please report it", "user", s.login, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// Shutdown ends the server: no more clients are accepted, and each session ends
// once the commands are done that it has read; a login is given up. A session
// removes nothing unless its QUIT came. When ctx ends first the remaining
// connections are cut; removals that have begun are still awaited, as they have
// their own time limit.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.sessions.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.abort()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}

// remoteAddr is the client's IP address; the zero Addr where there is none.
func remoteAddr(nc net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(nc.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// newID names a session in the log.
func newID() string { return rand.Text()[:10] }
