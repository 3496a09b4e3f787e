package gateway

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"pop3gw/gateway/socket"
)

var (
	errTooSlow    = errors.New("client takes its replies too slowly")
	errMaxSession = errors.New("session has lasted for max_session")
)

// paceTicks is how often a slow client is looked at within Limits.WriteTimeout.
const paceTicks = 6

// pace is a connection, below TLS, whose client must take what is written: rate
// octets a second on average over limit. One that takes nothing at all ends after
// limit, and one that is slow but steady goes on, however long that takes, until
// ends.
type pace struct {
	net.Conn
	limit time.Duration
	rate  int
	ends  time.Time // of the session; zero for none

	replied int  // octets since the last read
	prompt  bool // the client was, after its last reply with a message

	mu       sync.Mutex
	deadline time.Time // set from outside; zero for none
}

const (
	// longReply is how many octets a reply has that is a message rather than a few words.
	longReply = 16 << 10
	// promptly is how soon the next command of a prompt client comes.
	promptly = 100 * time.Microsecond
)

// Read is that of net.Conn. Between the messages that a prompt client downloads it does
// not sleep at once: a download by a client near by is a fifth faster for that. After
// a few words both are better on one processor.
func (p *pace) Read(b []byte) (int, error) {
	replied := p.replied
	p.replied = 0
	if replied < longReply {
		return p.Conn.Read(b)
	}
	began := time.Now()
	if p.prompt {
		if n, err := socket.ReadSoon(p.Conn, b); err != socket.ErrWait {
			return n, err
		}
	}
	n, err := p.Conn.Read(b)
	p.prompt = time.Since(began) < promptly
	return n, err
}

// Write is that of net.Conn. Its deadline is the earlier one of the client's pace
// and SetWriteDeadline.
func (p *pace) Write(b []byte) (n int, err error) {
	p.replied += len(b)
	// Most replies need no deadline, which would be a timer each.
	if p.ends.IsZero() || time.Now().Before(p.ends) {
		if n, err = socket.TryWrite(p.Conn, b); n == len(b) || err != nil {
			return n, err
		}
	}
	var took [paceTicks - 1]int // by the client, in the last ticks
	var unsent int              // octets that the kernel had at the last tick
	for tick := 0; ; tick++ {
		if err := p.renew(); err != nil {
			return n, err
		}
		m, err := p.Conn.Write(b[n:])
		n += m
		if timeout, ok := errors.AsType[net.Error](err); err == nil || !ok || !timeout.Timeout() || p.expired() {
			return n, err
		}
		// What the kernel took is not yet the client's: its buffer may hold
		// megabytes, and a slow client makes room in it seldom, but in large pieces.
		left := unsentOctets(p.Conn)
		if tick > 0 { // only then is it known what was there at the beginning
			took[tick%len(took)] = m + unsent - left
		}
		unsent = left
		if tick < len(took) {
			continue
		}
		sum := 0
		for _, t := range took {
			sum += t
		}
		if over := p.limit / paceTicks * time.Duration(len(took)); float64(sum) < float64(p.rate)*over.Seconds() {
			return n, fmt.Errorf("%w: %d octets in %v", errTooSlow, sum, over)
		}
	}
}

// renew sets the deadline for the next tick.
func (p *pace) renew() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	next := now.Add(p.limit / paceTicks)
	if !p.ends.IsZero() && p.ends.Before(next) {
		if !now.Before(p.ends) {
			return errMaxSession
		}
		next = p.ends
	}
	if !p.deadline.IsZero() && p.deadline.Before(next) {
		next = p.deadline
	}
	return p.Conn.SetWriteDeadline(next)
}

// expired reports whether the deadline that was set from outside is over.
func (p *pace) expired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.deadline.IsZero() && !time.Now().Before(p.deadline)
}

func (p *pace) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	return p.Conn.SetWriteDeadline(t)
}

func (p *pace) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// gone reports whether the client has closed the connection.
func (p *pace) gone() bool { return closedByClient(p.Conn) }

func (p *pace) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
