package gateway

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// visits are the sessions of users: how many each has, and when a maildrop was
// last logged in to.
type visits struct {
	mu    sync.Mutex
	users map[string]int
	last  *simplelru.LRU[uint64, visit] // by hash of name and folder
}

type visit struct {
	at     time.Time
	secret uint64 // hash of what logged in
}

// maxVisits bounds memory. A login that was forgotten for it may come too early.
const maxVisits = 50_000

func newVisits() *visits {
	v := &visits{users: make(map[string]int)}
	v.last, _ = simplelru.NewLRU[uint64, visit](maxVisits, nil) // fails for sizes below 1 alone
	return v
}

// entry is a login of which the password was found right, or is about to be.
type entry struct {
	server   *Server
	limits   Limits
	user     string
	maildrop uint64 // hash of its name
	secret   uint64
	entered  bool
}

func (s *session) entryOf(a Account, client Credentials) *entry {
	hash := s.server.throttle.hash
	return &entry{server: s.server, limits: s.limits, user: a.Name, maildrop: hash(a.Name, a.Folder), secret: hash(client.Password, client.Token)}
}

// known reports whether this maildrop was last opened with the same secret, so
// that its owner may be told about it before the store has checked the secret.
func (e *entry) known() bool {
	v := e.server.visits
	v.mu.Lock()
	defer v.mu.Unlock()
	last, ok := v.last.Peek(e.maildrop)
	return ok && last.secret == e.secret
}

// enter counts the login as one of its user's, once, or says why it comes too
// early (RFC 2449 §6.5) or is one too many.
func (e *entry) enter() error {
	v := e.server.visits
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.entered {
		return nil
	}
	if last, ok := v.last.Peek(e.maildrop); ok && e.limits.LoginDelay > 0 {
		if left := e.limits.LoginDelay - time.Since(last.at); left > 0 {
			return &Error{Code: CodeLoginDelay, Text: fmt.Sprintf("the next login may come in %d seconds; there are %d at least between two",
				seconds(left), seconds(e.limits.LoginDelay))}
		}
	}
	if v.users[e.user] >= e.limits.MaxConnectionsPerUser {
		return Unavailable("too many sessions of this user, try again when one has ended",
			errors.New("max_connections_per_user are open"))
	}
	v.users[e.user]++
	e.entered = true
	return nil
}

// opened dates the login.
func (e *entry) opened() {
	v := e.server.visits
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last.Add(e.maildrop, visit{time.Now(), e.secret})
}

// leave takes the login off the count, once. Nil is allowed.
func (e *entry) leave() {
	if e == nil {
		return
	}
	v := e.server.visits
	v.mu.Lock()
	defer v.mu.Unlock()
	if !e.entered {
		return
	}
	e.entered = false
	if v.users[e.user]--; v.users[e.user] == 0 {
		delete(v.users, e.user)
	}
}

// seconds rounds up.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
