package gateway

import (
	"context"
	"time"
)

// The course of a session, once it is decided: one that removes messages is not taken
// over, and one that was taken over removes none.
const (
	goingOn int32 = iota
	updating
	yielding
)

// yieldGrace is how long a command may go on in a session that is taken over.
const yieldGrace = time.Second

type sessionKey struct{}

// sessionOf is the session whose login ctx is of; nil where there is none.
func sessionOf(ctx context.Context) *session {
	s, _ := ctx.Value(sessionKey{}).(*session)
	return s
}

// yield has the session end for the sake of another one, which may be nil, unless it
// has come to its UPDATE. Any goroutine may call it.
func (s *session) yield(to *session) {
	if !s.course.CompareAndSwap(goingOn, yielding) {
		return
	}
	by := "another program"
	if to != nil {
		by = to.id
	}
	s.log.Info("session is taken over", "by", by)
	s.conn.drain()
	time.AfterFunc(yieldGrace, s.conn.abort)
}

// takenOver ends a session that yields.
func (s *session) takenOver() error {
	s.conn.reply("-ERR", "[IN-USE] another session has taken this maildrop over, nothing was removed")
	return s.end("taken over")
}
