package gateway

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"pop3gw/gateway/wire"
)

func (s *session) stat([][]byte) error {
	b := append(s.conn.room(maxReplyLine), "+OK "...)
	b = append(strconv.AppendInt(b, int64(s.drop.count), 10), ' ')
	s.conn.out = append(strconv.AppendInt(b, s.drop.octets, 10), "\r\n"...)
	return nil
}

func (s *session) list(args [][]byte) error { return s.listing(args, s.drop.appendSize) }

func (s *session) uidl(args [][]byte) error { return s.listing(args, s.drop.maildrop.AppendUID) }

// listing writes number and value of one message, or of all without a mark.
func (s *session) listing(args [][]byte, appendValue func(b []byte, i int) []byte) error {
	if len(args) == 1 {
		i, err := s.drop.parse(args[0])
		if err != nil {
			return err
		}
		s.conn.WriteString("+OK ")
		s.listingLine(i, appendValue)
		return nil
	}
	s.conn.reply("+OK", s.drop.totals())
	for i := range s.drop.unmarked {
		s.listingLine(i, appendValue)
		if s.conn.writeErr != nil {
			return s.lost()
		}
	}
	s.conn.WriteString(".\r\n")
	return nil
}

func (s *session) listingLine(i int, appendValue func(b []byte, i int) []byte) {
	b := strconv.AppendInt(s.conn.room(maxReplyLine), int64(s.drop.number(i)), 10)
	s.conn.out = append(appendValue(append(b, ' '), i), '\r', '\n')
}

func (s *session) retr(args [][]byte) error {
	i, err := s.drop.parse(args[0])
	if err != nil {
		return err
	}
	octets, err := s.send(i, -1, strconv.FormatInt(s.drop.size(i), 10)+" octets")
	if err != nil {
		return err
	}
	s.stats.retrieved++
	s.drop.noteRetrieved(i)
	s.conn.activity.messages.Add(1)
	s.server.live.totals.retrieved.Add(1)
	if octets != s.drop.size(i) {
		s.drop.correct(i, octets)
		if c := s.sizeCorrecter(); c != nil {
			c.CorrectSize(i, octets)
		}
	}
	return nil
}

// sizeCorrecter is the maildrop, or nil where it is not told sizes: what EndHeader adds
// is this listener's, not the message's.
func (s *session) sizeCorrecter() SizeCorrecter {
	if s.options.EndHeader {
		return nil
	}
	c, _ := s.drop.maildrop.(SizeCorrecter)
	return c
}

func (s *session) top(args [][]byte) error {
	i, err := s.drop.parse(args[0])
	if err != nil {
		return err
	}
	lines, err := wire.ParseNumber(args[1])
	switch err {
	case nil:
	case wire.ErrNumberRange: // more lines than any message has
		lines = wire.MaxNumber
	default:
		return badCommand(err.Error())
	}
	if _, err := s.send(i, lines, "top of message follows"); err != nil {
		return err
	}
	s.stats.topped++
	s.server.live.totals.topped.Add(1)
	return nil
}

// send replies with message i. An error before its first octet is for the
// client; after it nothing but the end of the connection tells a message that
// broke off from a complete one, so the final dot is never written.
func (s *session) send(i, lines int, text string) (octets int64, err error) {
	s.conn.activity.publish()
	start := time.Now()
	r, err := s.drop.maildrop.Retrieve(s.ctx, i, lines)
	if err != nil {
		return 0, err
	}
	e := wire.Body{Lines: lines, ReplaceNUL: s.options.ReplaceNUL, EndHeader: s.options.EndHeader}.Encoder()
	begun, err := s.conn.copyBody(&e, r, text, s.drop.size(i))
	if begun && lines < 0 {
		s.server.observer().FirstOctet(s.adapter, s.conn.bodyBegan.Sub(start))
	}
	closeErr := r.Close()
	if lines < 0 && err == nil { // TOP may have closed the reader early
		err = closeErr
	}
	defer func() { s.stats.octets += octets }()
	switch {
	case s.conn.writeErr != nil:
		return e.Octets(), s.lost()
	case err != nil && !begun:
		return 0, err
	case err != nil:
		s.log.Error("message broke off, closing the connection without its end", "user", s.login,
			"number", s.drop.number(i), "uid", s.uid(i), "octets", e.Octets(), "error", err)
		return e.Octets(), s.end("message broke off")
	}
	if !begun { // it is empty
		s.conn.reply("+OK", text)
	}
	const dot = ".\r\n"
	s.conn.out = append(e.End(s.conn.room(wire.MaxEnd+len(dot))), dot...)
	return e.Octets(), nil
}

func (s *session) uid(i int) string { return string(s.drop.maildrop.AppendUID(nil, i)) }

func (s *session) dele(args [][]byte) error {
	i, err := s.drop.parse(args[0])
	if err != nil {
		return err
	}
	if p, ok := s.drop.maildrop.(DeletePermitter); ok {
		if err := p.PermitDelete(i); err != nil {
			return err
		}
	}
	s.drop.mark(i)
	s.conn.reply("+OK", "message is marked as deleted")
	return nil
}

func (s *session) noop([][]byte) error {
	s.conn.reply("+OK", "nothing done")
	return nil
}

func (s *session) rset([][]byte) error {
	s.drop.reset()
	s.conn.reply("+OK", s.drop.totals())
	return nil
}

// quitTransaction is the UPDATE state (RFC 1939 §6). What was sent before is
// on its way first: a client that is known to be gone may not have it, and
// loses nothing. The maildrop is released before the reply: a client may log in
// again as soon as it sees it.
func (s *session) quitTransaction([][]byte) error {
	if s.conn.flush() != nil {
		return s.lost()
	}
	if !s.course.CompareAndSwap(goingOn, updating) {
		return s.takenOver()
	}
	done, expired, err := s.update()
	marked := len(s.drop.marked())
	s.closeMaildrop()
	if err != nil {
		e := &Error{Code: CodeSysTemp, Text: "the store failed"}
		errors.As(err, &e)
		s.log.Error("messages were not removed", "user", s.login, "marked", marked, "done", done.total(), "error", err)
		e = &Error{Code: e.Code, Text: fmt.Sprintf("%d of %d messages were not removed: %s", marked-done.total(), marked, e.Text)}
		s.conn.reply("-ERR", e.reply())
		return s.end("quit, messages not removed")
	}
	text := done.String()
	if expired > 0 {
		text += fmt.Sprintf(", %d expired", expired)
	}
	s.conn.reply("+OK", text+", bye")
	return s.end("quit")
}

// update removes the marked messages and those that have expired, or does what the
// policy says in place of that, with a time limit of its own: once begun it goes on
// even if the client is gone, though not longer than Shutdown's patience. done is what has become of the marked ones, and the
// error is for them alone.
func (s *session) update() (done fates, expired int, err error) {
	marked := s.drop.marked()
	if len(marked) == 0 && !s.expires() { // as most sessions
		return done, 0, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.limits.UpdateTimeout)
	defer cancel()
	old := s.expired(ctx)
	removed := make(map[int]bool)
	defer func() { s.noteRetrieved(ctx, removed) }()
	if len(marked)+len(old) == 0 {
		return done, 0, nil
	}
	s.reached(Update)
	defer context.AfterFunc(s.server.patience, cancel)()
	start := time.Now()
	err = s.drop.maildrop.Delete(ctx, joined(marked, old), func(i int) {
		fate := s.deleted(i)
		if removed[i] = true; s.drop.isMarked(i) {
			done[fate]++
		} else {
			expired++
		}
	})
	s.server.observer().Update(s.adapter, time.Since(start), err)
	switch {
	case done.total() < len(marked) && err == nil:
		err = fmt.Errorf("only %d of %d messages were reported as removed", done.total(), len(marked))
	case done.total() == len(marked) && err != nil && len(old) > 0: // the client asked for none of that
		s.log.Error("expired messages were not removed", "user", s.login, "expired", len(old), "removed", expired, "error", err)
		err = nil
	case err != nil && s.server.patience.Err() != nil:
		err = &Error{Code: CodeSysTemp, Text: "server is shutting down", Err: err}
	}
	return done, expired, err
}

// deleted writes into the log what has become of message i.
func (s *session) deleted(i int) Fate {
	var o Outcome
	if t, ok := s.drop.maildrop.(OutcomeTeller); ok {
		o = t.Outcome(i)
	}
	attrs := []any{"user", s.login, "number", s.drop.number(i), "uid", s.uid(i), "octets", s.drop.size(i)}
	if o.Fate == Moved {
		attrs = append(attrs, "to", o.To)
	}
	if !s.drop.isMarked(i) {
		attrs = append(attrs, "expired", time.Duration(s.policy.ExpireAfter))
	}
	if o.Fate != Kept && o.Fate != Marked {
		s.stats.removed++
		s.server.live.totals.removed.Add(1)
	}
	s.log.Info("message "+o.Fate.past(), attrs...)
	return o.Fate
}

// fates counts messages by what has become of them.
type fates [Missing + 1]int

func (f fates) total() (n int) {
	for _, k := range f {
		n += k
	}
	return n
}

// String says it in words for the client.
func (f fates) String() string {
	f[Removed] += f[Missing] // whoever did it
	f[Missing] = 0
	var parts []string
	for fate, n := range f {
		if n == 0 {
			continue
		}
		parts = append(parts, fmt.Sprintf("%d messages %s", n, Fate(fate).past()))
	}
	if parts == nil {
		return "0 messages removed"
	}
	return strings.Join(parts, ", ")
}
