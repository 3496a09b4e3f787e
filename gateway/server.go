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
	"syscall"
	"time"

	"pop3gw/gateway/socket"
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

	// Retrieved remembers what was retrieved, for Policy.ExpireAfter; nil has no
	// message expire.
	Retrieved Retrievals
	Observer  Observer // nil is none

	live live
	late late

	throttle *throttle // made by Serve
	visits   *visits   // likewise

	patience     context.Context // of removals, likewise; Shutdown loses it
	losePatience context.CancelFunc

	full    seldom // lines for want of max_connections
	refused seldom // lines about other refusals

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]netip.Prefix // with the block that the connection counts for
	perBlock  map[netip.Prefix]int
	sessions  sync.WaitGroup
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
var Mechanisms = []string{"USER", "APOP", scramMechanism, "OAUTHBEARER", "XOAUTH2", externalMechanism, "PLAIN", "LOGIN"}

// DefaultMechanisms leave out APOP, which works for users with a plain secret
// alone, while clients that see it offered try nothing else, and tokens, which the
// store must know. SCRAM-SHA-256 joins them where it works for every user, EXTERNAL
// where a client has shown a certificate.
var DefaultMechanisms = []string{"USER", "PLAIN", "LOGIN"}

// ListenerOptions say how clients of one listener are served.
type ListenerOptions struct {
	TLS            *tls.Config    // nil: no TLS
	Implicit       bool           // TLS from the first octet (RFC 8314), not by STLS (RFC 2595)
	ProxyFrom      []netip.Prefix // who begins with a PROXY header, before TLS, that tells the client
	CleartextLogin Cleartext
	Mechanisms     []string // of Mechanisms; nil is DefaultMechanisms
	ReplaceNUL     bool     // as wire.Body's
	EndHeader      bool     // as wire.Body's

	// Current is asked at each connection, where it is not nil: what it returns
	// holds for it in place of the fields above and of Server.Limits.
	Current func() (ListenerOptions, Limits)

	counts *listenerCounts // set by Serve
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
		s.conns = make(map[*conn]netip.Prefix)
		s.perBlock = make(map[netip.Prefix]int)
		s.throttle = newThrottle(s.Limits.withDefaults().LoginFailureDelay)
		s.visits = newVisits()
		s.patience, s.losePatience = context.WithCancel(context.Background())
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, l)
	}()

	o.counts = s.live.listener(l.Addr().String())
	limits := s.Limits.withDefaults()
	pause := acceptPause
	var failed seldom
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
			if left, due := failed.pass(); due {
				s.log().Error("accepting connections fails; it is tried again and again", "listener", l.Addr().String(), "error", acceptHint(err), "unlogged", left)
			}
			time.Sleep(pause)
			pause = min(2*pause, maxAcceptPause)
			continue
		}
		pause = acceptPause
		if o.Current == nil {
			s.start(nc, o, limits)
			continue
		}
		current, limits := o.Current()
		current.counts = o.counts
		s.start(nc, current, limits.withDefaults())
	}
}

// acceptHint says what to change, where something can be.
func acceptHint(err error) error {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("%w: this process has as many open files as it may; raise that (LimitNOFILE of systemd, ulimits of Docker, ulimit -n) or lower max_connections", err)
	case errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w: the system has as many open files as it may; raise the sysctl fs.file-max", err)
	}
	return err
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
	c := newConn(socket.Quick(nc), limits, &s.late)
	addr := remoteAddr(nc)
	block := blockOf(addr)
	if o.trusts(addr) {
		block = netip.Prefix{} // until the header says who the client is
	}
	if full := s.admit(c, block, limits); full != "" {
		s.observer().Refused(o.counts.address, full)
		s.logRefused(s.log(), addr, full)
		if !o.Implicit {
			c.nc.SetWriteDeadline(time.Now().Add(time.Second))
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

// logRefused logs that a client found no place, and of many seldom: it may be an attack.
func (s *Server) logRefused(log *slog.Logger, addr netip.Addr, full string) {
	lines := &s.refused
	if full == fullServer {
		lines, full = &s.full, full+"; raise max_connections if these are all clients of yours"
	}
	if left, due := lines.pass(); due {
		log.Warn("connection refused", "remote", addr.String(), "reason", full, "unlogged", left)
	}
}

// serve runs one session. A panic ends that session alone.
func (s *Server) serve(c *conn, o ListenerOptions, limits Limits, addr netip.Addr) {
	id := newID()
	sess := &session{
		server: s, conn: c, options: o, limits: limits, ctx: c.ctx, started: time.Now(),
		addr: addr, local: addr.IsLoopback(), id: id, log: s.log().With("session", id), state: authorization,
	}
	s.live.add(sess)
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
// connections are cut, and removals end where they are: nothing is lost, and their
// clients have a few seconds to be told how many messages are left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	losePatience := s.losePatience
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.sessions.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	losePatience() // there are sessions, so Serve has been called
	s.abort(func(c *conn) bool { return !c.activity.isIn(Update) })
	select {
	case <-done:
		return ctx.Err()
	case <-time.After(updateGrace):
	}
	s.abort(func(*conn) bool { return true })
	<-done
	return ctx.Err()
}

// updateGrace is how long a removal that was told to end may take to say so.
const updateGrace = 5 * time.Second

// abort cuts the connections that which is true for.
func (s *Server) abort(which func(*conn) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if which(c) {
			c.abort()
		}
	}
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
