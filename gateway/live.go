package gateway

import (
	"crypto/tls"
	"errors"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// State is a state of a session (RFC 1939 §3).
type State int

const (
	Authorization State = iota
	Transaction
	Update
	numStates
)

func (s State) String() string {
	return [numStates]string{"authorization", "transaction", "update"}[s]
}

// kickGrace is how long a running command may take after Kick.
const kickGrace = 5 * time.Second

// SessionInfo is a session as it is now.
type SessionInfo struct {
	ID        string     // as in the log
	User      string     // the name that logged in, or tried to; a client's text until TRANSACTION
	Address   netip.Addr // the client's; the zero Addr where there is none
	Listener  string     // address of the listener it came by
	TLS       string     // version of TLS, or "none"
	Mechanism string     // of the login, or of the last attempt
	Adapter   string     // Account.AdapterName; "" before the login
	State     State
	Started   time.Time
	Since     time.Time // when it entered State
	Active    time.Time // when the client was last heard of
	Command   string    // keyword of the last command, or of the running one; "" before the first
	Waiting   bool      // for the client, and not running Command
	Messages  int       // in the maildrop
	Retrieved int       // messages that RETR sent
	Received  int64     // octets, below TLS if there is any
	Sent      int64     // octets, likewise
}

// Totals are what all sessions of a server did since it began.
type Totals struct {
	Commands  map[string]uint64 // by keyword; "other" for what is none
	Retrieved uint64            // messages that RETR sent
	Topped    uint64            // messages that TOP sent a part of
	Removed   uint64            // messages removed
	Received  uint64            // octets from clients
	Sent      uint64            // octets to clients
}

// ListenerInfo is how many sessions came by a listener.
type ListenerInfo struct {
	Address  string
	Sessions [numStates]int64 // there now, by State
	Begun    uint64           // in all
}

// Sessions returns all sessions there are, the oldest first.
func (s *Server) Sessions() []SessionInfo {
	l := &s.live
	l.mu.Lock()
	all := make([]*session, 0, len(l.sessions))
	for _, sess := range l.sessions {
		all = append(all, sess)
	}
	l.mu.Unlock()
	infos := make([]SessionInfo, len(all))
	for i, sess := range all {
		infos[i] = sess.info()
	}
	slices.SortFunc(infos, func(a, b SessionInfo) int { return a.Started.Compare(b.Started) })
	return infos
}

// Listeners returns the listeners that there are or were, by address.
func (s *Server) Listeners() []ListenerInfo {
	l := &s.live
	l.mu.Lock()
	defer l.mu.Unlock()
	var infos []ListenerInfo
	for _, c := range l.listeners {
		info := ListenerInfo{Address: c.address, Begun: c.begun.Load()}
		for state := range c.sessions {
			info.Sessions[state] = c.sessions[state].Load()
		}
		infos = append(infos, info)
	}
	return infos
}

// Totals returns what sessions did so far. Of a batch of pipelined commands it
// may know only when the batch is done.
func (s *Server) Totals() Totals {
	t := &s.live.totals
	all := Totals{
		Commands:  make(map[string]uint64, len(commandNames)),
		Retrieved: t.retrieved.Load(),
		Topped:    t.topped.Load(),
		Removed:   t.removed.Load(),
		Received:  t.received.Load(),
		Sent:      t.sent.Load(),
	}
	for id := otherCommand; id < len(commandNames); id++ {
		name := commandNames[id]
		all.Commands[name] = t.commands[id].Load()
	}
	return all
}

// Kick ends a session as Shutdown would: once the commands are done that it has
// read, without UPDATE unless its QUIT came. A command that takes longer than
// five seconds is cut, but for UPDATE. It reports whether there is such a session.
func (s *Server) Kick(id string) bool {
	s.live.mu.Lock()
	sess := s.live.sessions[id]
	s.live.mu.Unlock()
	if sess == nil {
		return false
	}
	if !sess.conn.activity.kicked.Swap(true) {
		s.log().Info("session is ended by the operator", "session", id)
		sess.conn.drain()
		time.AfterFunc(kickGrace, sess.conn.abort)
	}
	return true
}

// live are the sessions that there are, for those who look on.
type live struct {
	mu        sync.Mutex
	sessions  map[string]*session // by id
	listeners []*listenerCounts
	totals    totals
}

// listenerCounts counts the sessions of one listener, of all listeners with its
// address.
type listenerCounts struct {
	address  string
	begun    atomic.Uint64
	sessions [numStates]atomic.Int64
}

// totals are Totals; commands by command.id.
type totals struct {
	commands                                   [maxCommands]atomic.Uint64
	retrieved, topped, removed, received, sent atomic.Uint64
}

func (l *live) listener(address string) *listenerCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.listeners {
		if c.address == address {
			return c
		}
	}
	c := &listenerCounts{address: address}
	l.listeners = append(l.listeners, c)
	return c
}

func (l *live) add(s *session) {
	s.conn.activity.begin(&l.totals, s.started, s.addr)
	s.options.counts.begun.Add(1)
	s.options.counts.sessions[Authorization].Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions == nil {
		l.sessions = make(map[string]*session)
	}
	l.sessions[s.id] = s
}

func (l *live) remove(s *session) {
	s.conn.activity.publish()
	s.options.counts.sessions[s.conn.activity.state].Add(-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, s.id)
}

// activity is what a session does, in a form that others can read while it does
// it. The commands themselves write plain variables; these are published where
// the session is about to wait, so that a command costs an increment.
type activity struct {
	// Of the session's goroutine alone.
	running uint8               // command.id of the last command
	counts  [maxCommands]uint32 // of commands, unpublished
	counted uint32              // which of counts are not 0, as bits
	totals  *totals             // nil for a connection without a session

	last                     atomic.Uint32 // running, published
	active                   atomic.Int64  // as SessionInfo.Active, in ns since 1970
	waiting                  atomic.Bool
	kicked                   atomic.Bool
	received, sent, messages atomic.Int64 // messages are those of RETR

	mu        sync.Mutex // guards what follows, which the session's goroutine may read without it
	state     State
	since     time.Time
	user      string
	mechanism string
	adapter   string
	count     int
	tls       string
	addr      netip.Addr
}

func (a *activity) begin(t *totals, now time.Time, addr netip.Addr) {
	a.totals, a.since, a.tls, a.addr = t, now, "none", addr
	a.active.Store(now.UnixNano())
}

// begins notes that a command begins.
func (a *activity) begins(id uint8) {
	a.running = id
	a.counts[id]++
	a.counted |= 1 << (id % maxCommands)
}

// publish shows what the session has done so far. The session calls it before it
// waits for anything.
func (a *activity) publish() {
	if a.counted == 0 || a.totals == nil {
		return
	}
	a.last.Store(uint32(a.running))
	for ; a.counted != 0; a.counted &= a.counted - 1 {
		id := bits.TrailingZeros32(a.counted)
		a.totals.commands[id].Add(uint64(a.counts[id]))
		a.counts[id] = 0
	}
}

// awaits publishes, and notes that the session waits for its client from now on.
func (a *activity) awaits() {
	a.publish()
	a.waiting.Store(true)
}

// reads notes that n octets came from the client.
func (a *activity) reads(n int) {
	a.waiting.Store(false)
	if n > 0 && a.totals != nil {
		a.active.Store(time.Now().UnixNano())
		a.received.Add(int64(n))
		a.totals.received.Add(uint64(n))
	}
}

// writes notes that n octets went to the client.
func (a *activity) writes(n int) {
	if a.totals != nil {
		a.sent.Add(int64(n))
		a.totals.sent.Add(uint64(n))
	}
}

// identified notes another address of the client.
func (s *session) identified() {
	a := &s.conn.activity
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addr = s.addr
}

// attempt notes that the client tries to log in.
func (s *session) attempt(mechanism string) {
	a := &s.conn.activity
	a.publish()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.user, a.mechanism = s.login, mechanism
}

// attempted notes what became of it.
func (s *session) attempted(mechanism, adapter string, took time.Duration, err error) {
	s.attempt(mechanism)
	s.server.observer().Login(LoginAttempt{Mechanism: mechanism, Adapter: adapter, Took: took,
		GivenUp: err != nil && s.conn.draining.Err() != nil, Throttled: errors.Is(err, errThrottled), Err: err})
}

// reached notes that the session is in another state.
func (s *session) reached(state State) {
	a, now := &s.conn.activity, time.Now()
	a.publish()
	a.mu.Lock()
	defer a.mu.Unlock()
	s.options.counts.sessions[a.state].Add(-1)
	s.options.counts.sessions[state].Add(1)
	a.state, a.since = state, now
	if state == Transaction {
		a.user, a.adapter, a.count = s.login, s.adapter, s.drop.count
	}
}

// isIn may be called by anyone.
func (a *activity) isIn(state State) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state == state
}

// info may be called by anyone.
func (s *session) info() SessionInfo {
	a := &s.conn.activity
	a.mu.Lock()
	defer a.mu.Unlock()
	return SessionInfo{
		ID: s.id, User: a.user, Address: a.addr, Listener: s.options.counts.address, TLS: a.tls,
		Mechanism: a.mechanism, Adapter: a.adapter, State: a.state,
		Started: s.started, Since: a.since, Active: time.Unix(0, a.active.Load()),
		Command: a.lastCommand(), Waiting: a.waiting.Load(),
		Messages: a.count, Retrieved: int(a.messages.Load()), Received: a.received.Load(), Sent: a.sent.Load(),
	}
}

// lastCommand may be called by anyone.
func (a *activity) lastCommand() string {
	id := a.last.Load()
	if id == noCommand {
		return ""
	}
	return commandNames[id]
}

// secured notes that there is TLS.
func (s *session) secured(state *tls.ConnectionState) {
	s.tls = state
	a := &s.conn.activity
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tls = s.tlsName()
}

const (
	maxCommands  = 32
	noCommand    = 0 // command.id before the first one
	otherCommand = 1 // command.id of what is none
)

// commandNames are the keywords of all states, by command.id.
var commandNames = []string{noCommand: "none", otherCommand: "other"}

// numberCommands gives each command its id, the same in all states.
func numberCommands(states ...state) {
	for _, st := range states {
		for name, c := range st {
			id := slices.Index(commandNames, name)
			if id < 0 {
				id = len(commandNames)
				commandNames = append(commandNames, name)
			}
			c.id = uint8(id)
			st[name] = c
		}
	}
	if len(commandNames) > maxCommands {
		panic("gateway: maxCommands is too small")
	}
}
