package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
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
// each account. Whoever gets none at once waits in line: each account has one. Those
// of the lowest gateway.Rank go first; where several have it, their lines have their
// turns one after the other, so that an account with many sessions holds up no other.
//
// A place is taken before the server has checked a password, and guesses keep theirs
// for long, since servers delay the answer. So they cannot have all: see mayHave.
//
// Connections that are merely kept give way to whoever waits.
type server struct {
	address  string
	backoffs backoffs
	updates  counters // of sessions that removed messages, by lock

	mu       sync.Mutex
	adapters []*Adapter
	open     int              // places that are taken
	unproven int              // of those: see place
	users    map[string]*user // those with places taken or waiting sessions
	lines    []*user          // those with waiting sessions, in the order of their turns
}

// user is an account at the server.
type user struct {
	name     string
	open     int
	unproven int
	waiting  []*waiter // never empty in server.lines; who is next is first
}

// waiter is a session in line.
type waiter struct {
	place *place
	rank  int             // gateway.Rank when it was last looked at
	ctx   context.Context // nil if the gateway has checked the password
	got   chan struct{}   // closed once it has the place
}

// now is what its rank is by now.
func (w *waiter) now() int {
	if w.ctx == nil {
		return 0
	}
	return gateway.Rank(w.ctx)
}

const (
	// trusted is the highest rank of a login that is no likely guess.
	trusted = 1
	// maxDoubtful is how many likely guesses a server has to look at together. A
	// Dovecot has 100 processes for logins, and each stays for two seconds with one
	// that fails.
	maxDoubtful = 50
)

// place is the right to one connection. The session that was given it holds it, and
// so does each connection that was made by it; it is free when nobody does.
type place struct {
	adapter *Adapter
	user    *user

	// Guarded by server.mu.
	holders  int
	unproven bool // a login of a rank above 0 has it, and the server has yet to let it in
}

// take returns a place for a connection of the account, which the caller holds. It
// waits for one while ctx allows, but for a little. checked says that the gateway
// knows the client's password to be right. Others call proven when it was.
func (s *server) take(ctx context.Context, a *Adapter, account string, checked bool) (*place, error) {
	s.mu.Lock()
	u := s.users[account]
	if u == nil {
		u = &user{name: account}
		if s.users == nil {
			s.users = make(map[string]*user)
		}
		s.users[account] = u
	}
	w := &waiter{place: &place{adapter: a, user: u}, got: make(chan struct{})}
	if !checked {
		w.ctx = ctx
	}
	w.rank = w.now()
	if u.lineUp(w); len(u.waiting) == 1 {
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
	var adapters []*Adapter
	if s.mayHave(w) {
		adapters = slices.Clone(s.adapters)
	}
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

// mayHave reports whether w may have a place, if one is free. Of an account's, and of
// all where they are limited, logins that the server has yet to check leave one to
// those of rank 0, and likely guesses leave some to all others.
func (s *server) mayHave(w *waiter) bool {
	o, u := &w.place.adapter.options, w.place.user
	ofUser, ofAll := o.MaxConnectionsPerUser-1, cmp.Or(o.MaxConnections, math.MaxInt)-1
	if w.rank > trusted {
		ofUser, ofAll = ofUser-1, min(ofAll/2, maxDoubtful)
	}
	return w.rank == 0 || u.unproven < max(1, ofUser) && s.unproven < max(1, ofAll)
}

// isFree reports whether there is a place for w.
func (s *server) isFree(w *waiter) bool {
	o := &w.place.adapter.options
	return (o.MaxConnections == 0 || s.open < o.MaxConnections) && w.place.user.open < o.MaxConnectionsPerUser
}

// next is the one of those who can have a place whose turn it is, or nil.
func (s *server) next() (next *waiter) {
	for _, u := range s.lines {
		if w := u.waiting[0]; (next == nil || w.rank < next.rank) && s.mayHave(w) && s.isFree(w) {
			next = w
		}
	}
	return next
}

// giveOut gives the free places to those whose turn it is. The caller holds s.mu.
func (s *server) giveOut() {
	for w := s.next(); w != nil; w = s.next() {
		u, p := w.place.user, w.place
		if rank := w.now(); rank > w.rank { // others of its address have failed meanwhile
			w.rank = rank
			u.leave(w)
			u.lineUp(w)
			continue
		}
		if p.unproven = w.rank > 0; p.unproven {
			s.unproven++
			u.unproven++
		}
		p.holders = 1
		s.open++
		u.open++
		p.adapter.open.Add(1)
		s.stepOut(w)
		close(w.got)
	}
}

// proven notes that the server has let in the login that a place was given to.
func (s *server) proven(p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(p)
	s.giveOut()
}

// settle has p count as unproven no more.
func (s *server) settle(p *place) {
	if p.unproven {
		p.unproven = false
		s.unproven--
		p.user.unproven--
	}
}

// lineUp puts w into the line, by rank. Among those of a low one whoever came last
// is first, as gateway.Rank has it; likely guesses go as they came.
func (u *user) lineUp(w *waiter) {
	i := slices.IndexFunc(u.waiting, func(other *waiter) bool {
		return other.rank > w.rank || other.rank == w.rank && w.rank <= trusted
	})
	if i < 0 {
		i = len(u.waiting)
	}
	u.waiting = slices.Insert(u.waiting, i, w)
}

func (u *user) leave(w *waiter) {
	u.waiting = slices.DeleteFunc(u.waiting, func(other *waiter) bool { return other == w })
}

// stepOut takes w out of its line, which moves to the end if it was first in it.
func (s *server) stepOut(w *waiter) {
	u := w.place.user
	first := u.waiting[0] == w
	u.leave(w)
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
	s.settle(p)
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
		w := u.waiting[0]
		return s.mayHave(w) && (u.name == account || u.open < w.place.adapter.options.MaxConnectionsPerUser)
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

// TryRead and TryWrite are those of package socket.
func (c *countedConn) TryRead(p []byte) (int, error)  { return socket.TryRead(c.Conn, p) }
func (c *countedConn) TryWrite(p []byte) (int, error) { return socket.TryWrite(c.Conn, p) }

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
		d.place, err = d.adapter.server.take(ctx, d.adapter, d.account, d.login.source != fromClient)
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
