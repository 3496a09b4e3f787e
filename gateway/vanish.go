package gateway

import (
	"context"
	"errors"
	"net"
	"time"
)

// watchAfter is how long opening a maildrop takes before its client is watched:
// most logins need none of that.
const watchAfter = 250 * time.Millisecond

// errVanished is why opening a maildrop is given up when its client has gone.
var errVanished = errors.New("client disconnected")

// openMaildrop opens the maildrop of an account, until the client goes away: a long
// listing for nobody would hold the maildrop and a connection of its server.
func (s *session) openMaildrop(ctx context.Context, account Account) (Maildrop, error) {
	account.Client, account.Session = s.addr, s.id
	ctx = context.WithValue(ctx, sessionKey{}, s)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := s.conn.watch(func() { cancel(errVanished) })
	defer stop()
	maildrop, err := account.Adapter.Open(ctx, account)
	s.vanished = context.Cause(ctx) == errVanished
	return maildrop, err
}

// watch calls gone, once, when the client goes away, until stop is called; the
// connection must not be read in between. What the client sends meanwhile is kept,
// as far as there is room. A client that has sent commands and then says that no more
// will come, as in a script, has not gone.
func (c *conn) watch(gone func()) (stop func()) {
	stopped, ended := false, make(chan struct{})
	begin := c.late.after(watchAfter, func() {
		defer close(ended)
		c.mu.Lock()
		nc := c.nc
		if stopped || c.draining.Err() != nil {
			c.mu.Unlock()
			return
		}
		nc.SetReadDeadline(time.Time{})
		c.mu.Unlock()
		for c.end < len(c.readBuf) {
			n, err := nc.Read(c.readBuf[c.end:])
			c.activity.reads(n)
			c.end += n
			if err == nil {
				continue
			}
			timeout, ok := errors.AsType[net.Error](err)
			if (!ok || !timeout.Timeout()) && c.start == c.end {
				gone()
			}
			return
		}
	})
	return func() {
		if begin.stop() {
			return
		}
		c.mu.Lock()
		stopped = true
		c.nc.SetReadDeadline(time.Unix(1, 0))
		c.mu.Unlock()
		<-ended
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.draining.Err() == nil {
			c.nc.SetReadDeadline(time.Time{})
		}
	}
}
