package imap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
	"pop3gw/gateway/socket"
)

// Servers counts the connections of adapters to the same server together. The zero
// value is ready; it is safe for concurrent use.
type Servers struct {
	mu        sync.Mutex
	byAddress map[string]*server
}

// join returns the server at an address, and counts a among its adapters.
func (s *Servers) join(address string, a *Adapter) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	address = strings.ToLower(address)
	if s.byAddress == nil {
		s.byAddress = make(map[string]*server)
	}
	at := s.byAddress[address]
	if at == nil {
		at = &server{address: address}
		s.byAddress[address] = at
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	at.adapters = append(at.adapters, a)
	return at
}

// leave is join's end. Connections may be left, whose end is counted.
func (s *Servers) leave(at *server, a *Adapter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at.mu.Lock()
	defer at.mu.Unlock()
	at.adapters = slices.DeleteFunc(at.adapters, func(other *Adapter) bool { return other == a })
	if len(at.adapters) == 0 && at.open == 0 && s.byAddress[at.address] == at {
		delete(s.byAddress, at.address)
	}
}

// server is what there is to know of an IMAP server while the process runs. It
// gives out the places for connections, of which there is a number in all and for
// each account. Whoever gets none at once waits in line: each account has one, and
// they have their turns one after the other, so that an account with many sessions
// holds up no other.
//
// Connections that are merely kept give way to whoever waits.
type server struct {
	address  string
	backoffs backoffs

	mu       sync.Mutex
	adapters []*Adapter
	open     int              // places that are taken
	users    map[string]*user // those with places taken or waiting sessions
	lines    []*user          // those with waiting sessions, in the order of their turns
}

// user is an account at the server.
type user struct {
	name    string
	open    int
	waiting []*waiter
}

// waiter is a session in line.
type waiter struct {
	place *place
	got   chan struct{} // closed once it has the place
}

// place is the right to one connection. The session that was given it holds it, and
// so does each connection that was made by it; it is free when nobody does.
type place struct {
	adapter *Adapter
	user    *user
	holders int // guarded by server.mu
}

// take returns a place for a connection of the account, which the caller holds. It
// waits for one while ctx allows, but for a little.
func (s *server) take(ctx context.Context, a *Adapter, account string) (*place, error) {
	s.mu.Lock()
	u := s.users[account]
	if u == nil {
		u = &user{name: account}
		if s.users == nil {
			s.users = make(map[string]*user)
		}
		s.users[account] = u
	}
	w := &waiter{&place{adapter: a, user: u}, make(chan struct{})}
	u.waiting = append(u.waiting, w)
	if len(u.waiting) == 1 {
		s.lines = append(s.lines, u)
	}
	a.waiting.Add(1)
	defer a.waiting.Add(-1)
	s.giveOut()
	select {
	case <-w.got:
		s.mu.Unlock()
		return w.place, nil
	default:
	}
	own := "" // whose connections are to give way: anybody's
	if u.open >= a.options.MaxConnectionsPerUser {
		own = account
	}
	adapters := slices.Clone(s.adapters)
	s.mu.Unlock()

	giveWay(adapters, own)
	var over <-chan time.Time
	if d, ok := gateway.Patience(ctx); ok {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-w.got:
		return w.place, nil
	case <-ctx.Done():
	case <-over:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-w.got: // after all
		if ctx.Err() == nil {
			return w.place, nil
		}
		s.drop(w.place)
	default:
		s.stepOut(w)
	}
	if ctx.Err() != nil {
		return nil, a.explain("waiting for a connection", context.Cause(ctx))
	}
	return nil, gateway.Unavailable("too many sessions at the mail server for now, try again later",
		fmt.Errorf("%d connections to %s are open, %d of them for %q; raise max_connections or max_connections_per_user, or let clients poll less often",
			s.open, s.address, u.open, account))
}

// giveWay logs out the connection that was kept and not used for the longest time,
// of an account or of all.
func giveWay(adapters []*Adapter, account string) {
	var oldest *Adapter
	var since time.Time
	for _, a := range adapters {
		if used, ok := a.kept.oldest(account); ok && (oldest == nil || used.Before(since)) {
			oldest, since = a, used
		}
	}
	if oldest != nil {
		oldest.kept.giveWay(account)
	}
}

// hasRoom reports whether there is a place for a connection of a, of some account.
func (s *server) hasRoom(a *Adapter) bool {
	return a.options.MaxConnections == 0 || s.open < a.options.MaxConnections
}

// giveOut gives the free places to those whose turn it is. The caller holds s.mu.
func (s *server) giveOut() {
	for i := 0; i < len(s.lines); {
		u := s.lines[i]
		w := u.waiting[0]
		switch a := w.place.adapter; {
		case !s.hasRoom(a) && !slices.ContainsFunc(s.adapters, s.hasRoom):
			return // nor for anybody else
		case !s.hasRoom(a), u.open >= a.options.MaxConnectionsPerUser:
			i++ // and keeps its turn
			continue
		}
		w.place.holders = 1
		s.open++
		u.open++
		w.place.adapter.open.Add(1)
		s.stepOut(w)
		close(w.got)
	}
}

// stepOut takes w out of its line, which moves to the end if it was first in it.
func (s *server) stepOut(w *waiter) {
	u := w.place.user
	first := u.waiting[0] == w
	u.waiting = slices.DeleteFunc(u.waiting, func(other *waiter) bool { return other == w })
	if first {
		s.lines = slices.DeleteFunc(s.lines, func(other *user) bool { return other == u })
		if len(u.waiting) > 0 {
			s.lines = append(s.lines, u)
		}
	}
	s.tidy(u)
}

// tidy forgets a user of whom there is nothing to know.
func (s *server) tidy(u *user) {
	if u.open == 0 && len(u.waiting) == 0 {
		delete(s.users, u.name)
	}
}

// hold adds a holder.
func (s *server) hold(p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.holders++
}

// release ends what hold, or take, began.
func (s *server) release(p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(p)
}

func (s *server) drop(p *place) {
	if p.holders--; p.holders > 0 {
		return
	}
	s.open--
	p.user.open--
	p.adapter.open.Add(-1)
	s.tidy(p.user)
	s.giveOut()
}

// wanted reports whether somebody waits who would get the place of a connection of
// the account.
func (s *server) wanted(account string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.lines, func(u *user) bool {
		return u.name == account || u.open < u.waiting[0].place.adapter.options.MaxConnectionsPerUser
	})
}

// dialer makes connections that hold p until they are closed.
func (s *server) dialer(p *place, dial dialFunc) dialFunc {
	if dial == nil {
		dial = link.DialTCP
	}
	if p == nil {
		return dial
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		s.hold(p)
		return &countedConn{Conn: socket.Quick(nc), release: sync.OnceFunc(func() { s.release(p) })}, nil
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// countedConn is a connection that is counted until it is closed.
type countedConn struct {
	net.Conn
	release func()
}

// SyscallConn lets package link tell the system how much it waits for.
func (c *countedConn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

func (c *countedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// counts are of the connections of one adapter.
type counts struct{ open, waiting atomic.Int64 }

// Connections tells how many connections the adapter has, how many of those are
// merely kept for later sessions, and how many sessions wait for one.
func (a *Adapter) Connections() (open, kept, waiting int) {
	return int(a.open.Load()), a.kept.count(), int(a.waiting.Load())
}

// LeftAlone is how many accounts are not asked for now, since the server has
// refused them for a limit or a failure.
func (a *Adapter) LeftAlone() int { return a.server.backoffs.active() }

// reserve makes sure that d has a place for its connection. It keeps it to its end,
// so that a connection that is lost is replaced without a wait.
func (d *maildrop) reserve(ctx context.Context) (err error) {
	if d.place == nil {
		d.place, err = d.adapter.server.take(ctx, d.adapter, d.account)
	}
	return err
}

// oldest is when the connection was used last that was not for the longest time; of
// an account, if that is not "".
func (p *kept) oldest(account string) (used time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.first(account); i >= 0 {
		return p.conns[i].used, true
	}
	return used, false
}

func (p *kept) first(account string) int {
	return slices.IndexFunc(p.conns, func(k *keptConn) bool { return account == "" || k.account == account })
}

// giveWay ends the connection that oldest tells of.
func (p *kept) giveWay(account string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.first(account); i >= 0 {
		p.end(p.conns[i])
		p.conns = slices.Delete(p.conns, i, i+1)
	}
}

func (p *kept) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}
