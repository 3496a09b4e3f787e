package imap

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

const (
	// maxKeptPerUser is how many connections of one user are kept. A maildrop
	// has one session at a time, so that more would not be used.
	maxKeptPerUser = 2
	// keptPatience is how long a server has to answer on a connection that was
	// kept. One that is dead need not say so: what lies between may have
	// forgotten it.
	keptPatience = 5 * time.Second
)

// kept holds connections between sessions: the next session of the same user with
// the same password needs no login. What it holds is logged in, with no answer
// due. A period of none keeps none.
//
// A password is right for as long as the server says so, and period bounds how
// long it is not asked: it counts from the login and not from the last use.
type kept struct {
	period time.Duration
	most   int // connections in all
	server *server

	mu      sync.Mutex
	conns   []*keptConn    // the one used last at the end
	expiry  *time.Timer    // nil while there are none
	closed  bool           // nothing is kept any more
	leaving sync.WaitGroup // those that are being logged out
}

// keptConn is a connection, and what is known by it.
type keptConn struct {
	conn     *link.Conn
	place    *place
	account  string // at the server
	used     time.Time
	user     keptUser
	proof    [sha256.Size]byte // of the password
	client   netip.Addr        // that the server was told of
	loggedIn time.Time

	folder, mailbox string // the folder that was open last, and its name on the server
	trash           string
}

type keptUser struct {
	identity, user string
	source         secretSource
	account        string // of fromTokens: others may open the same mailbox by theirs
}

func (l login) keptUser() keptUser {
	u := keptUser{identity: l.Identity, user: l.User, source: l.source}
	if l.source == fromTokens {
		u.account = l.account
	}
	return u
}

// proofKey makes proofs worthless outside of this process.
var proofKey = sync.OnceValue(func() []byte {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	return key
})

// prove returns what stands for a password, or for what tokens are made of, where
// it is compared with later ones.
func prove(c gateway.Credentials) (proof [sha256.Size]byte) {
	mac := hmac.New(sha256.New, proofKey())
	mac.Write([]byte(c.Identity + "\x00" + c.User + "\x00" + c.Password + "\x00" + c.Token))
	mac.Sum(proof[:0])
	return proof
}

// provedBy reports whether the password is the one that k was logged in with.
func (k *keptConn) provedBy(l login) bool { return hmac.Equal(k.proof[:], l.proof[:]) }

// take returns a connection that was logged in with the same name and password,
// or nil. It is the caller's.
func (p *kept) take(l login) *keptConn {
	user := l.keptUser()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, k := range slices.Backward(p.conns) {
		if k.user == user && time.Since(k.loggedIn) < p.period && k.client == l.client && k.conn.Idle() && k.provedBy(l) {
			p.conns = slices.Delete(p.conns, i, i+1)
			return k
		}
	}
	return nil
}

// put keeps a connection, or logs it out.
func (p *kept) put(k *keptConn) {
	k.conn.Conceal() // none of the secrets, from now on
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.period - time.Since(k.loggedIn)
	if p.closed || left <= 0 || !k.conn.Idle() || p.server.wanted(k.account) {
		p.end(k)
		return
	}
	k.used = time.Now()
	p.conns = append(p.conns, k)
	ofUser := func(other *keptConn) bool { return other.user == k.user }
	oldest := -1
	if count(p.conns, ofUser) > maxKeptPerUser {
		oldest = slices.IndexFunc(p.conns, ofUser)
	} else if len(p.conns) > p.most {
		oldest = 0
	}
	if oldest >= 0 {
		p.end(p.conns[oldest])
		p.conns = slices.Delete(p.conns, oldest, oldest+1)
	}
	if p.expiry == nil {
		p.expiry = time.AfterFunc(left, p.expire)
	}
}

func count[T any](s []T, is func(T) bool) (n int) {
	for _, e := range s {
		if is(e) {
			n++
		}
	}
	return n
}

// expire ends the connections whose time is over.
func (p *kept) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expiry = nil
	next := p.period
	over := p.remove(func(k *keptConn) bool {
		left := p.period - time.Since(k.loggedIn)
		if left > 0 {
			next = min(next, left)
		}
		return left <= 0
	})
	p.end(over...)
	if len(p.conns) > 0 && !p.closed {
		p.expiry = time.AfterFunc(next, p.expire)
	}
}

// accepted notes that the server takes the password: another one was changed.
func (p *kept) accepted(l login) { p.compare(l, false) }

// refused notes that the server takes the password no more.
func (p *kept) refused(l login) { p.compare(l, true) }

// compare ends the connections of the user whose password is the same, or is not.
func (p *kept) compare(l login, same bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	user := l.keptUser()
	p.end(p.remove(func(k *keptConn) bool { return k.user == user && k.provedBy(l) == same })...)
}

// makeRoom ends the connections of a user, or else all, and waits until the server
// knows. It reports whether there were any.
func (p *kept) makeRoom(l login) bool {
	p.mu.Lock()
	user := l.keptUser()
	gone := p.remove(func(k *keptConn) bool { return k.user == user })
	if len(gone) == 0 {
		gone = p.remove(func(*keptConn) bool { return true })
	}
	p.mu.Unlock()
	var leaving sync.WaitGroup
	for _, k := range gone {
		leaving.Go(func() { k.conn.Logout(context.Background()) })
	}
	leaving.Wait()
	return len(gone) > 0
}

// close ends all connections.
func (p *kept) close() {
	p.mu.Lock()
	p.end(p.remove(func(*keptConn) bool { return true })...)
	p.closed = true
	if p.expiry != nil {
		p.expiry.Stop()
	}
	p.mu.Unlock()
	p.leaving.Wait()
}

// remove takes connections out and returns them.
func (p *kept) remove(which func(*keptConn) bool) (removed []*keptConn) {
	p.conns = slices.DeleteFunc(p.conns, func(k *keptConn) bool {
		gone := which(k)
		if gone {
			removed = append(removed, k)
		}
		return gone
	})
	return removed
}

// end logs connections out. It does not wait. The caller holds p.mu.
func (p *kept) end(conns ...*keptConn) {
	for _, k := range conns {
		if p.closed {
			k.conn.Close()
			continue
		}
		p.leaving.Go(func() { k.conn.Logout(context.Background()) })
	}
}
