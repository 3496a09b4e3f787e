package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"pop3gw/gateway/wire"
)

// state is a state of RFC 1939 §3, as the commands that exist in it: a command
// that is not in the current one is an error, so that none tests the state.
// UPDATE has none; QUIT runs through it.
type state map[string]command

// command is what a keyword does. run gets min to max arguments; line gets what
// follows the keyword, whole. Both are good until the next line is read. They write their +OK themselves; an error they
// return is written as -ERR.
type command struct {
	id       uint8 // for counting
	min, max int
	run      func(s *session, args [][]byte) error
	line     func(s *session, rest []byte) error
}

var authorization, transaction state

func init() { // not in the declarations: the commands refer to the states
	authorization = state{
		"APOP": {min: 2, max: 2, run: (*session).apop},
		"AUTH": {max: 2, run: (*session).auth},
		"CAPA": {run: (*session).capa},
		"LANG": {max: 1, run: (*session).lang},
		"PASS": {line: (*session).pass},
		"QUIT": {run: (*session).quitAuthorization},
		"STLS": {run: (*session).stls},
		"USER": {line: (*session).user},
		"UTF8": {run: (*session).utf8},
	}
	transaction = state{
		"CAPA": {run: (*session).capa},
		"DELE": {min: 1, max: 1, run: (*session).dele},
		"LANG": {max: 1, run: (*session).lang},
		"LIST": {max: 1, run: (*session).list},
		"NOOP": {run: (*session).noop},
		"QUIT": {run: (*session).quitTransaction},
		"RETR": {min: 1, max: 1, run: (*session).retr},
		"RSET": {run: (*session).rset},
		"STAT": {run: (*session).stat},
		"TOP":  {min: 2, max: 2, run: (*session).top},
		"UIDL": {max: 1, run: (*session).uidl},
	}
	numberCommands(authorization, transaction)
}

// badCommand is a mistake of the client's in words for it. Too many of them end
// the session.
type badCommand string

func (e badCommand) Error() string { return string(e) }

// errEnded is returned by a command that has ended the session: whatever was to
// be replied has been.
var errEnded = errors.New("session has ended")

// session is one client's connection from the greeting to its end. One
// goroutine runs it.
type session struct {
	server  *Server
	conn    *conn
	options ListenerOptions
	limits  Limits
	ctx     context.Context
	id      string
	log     *slog.Logger
	addr    netip.Addr // the client's, also behind a balancer
	local   bool       // the client is on this machine
	started time.Time

	state     state
	timestamp string               // in the greeting, for APOP; "" when it is not offered
	tls       *tls.ConnectionState // nil without TLS
	name      string               // what USER gave
	login     string               // how the login went: name tried or logged in
	failures  int                  // refused logins
	errors    int                  // bad commands
	utf8On    bool
	args      [2][]byte // of the current command

	adapter    string    // its name, of drop
	drop       *snapshot // in TRANSACTION
	held       io.Closer // of drop's account; may be nil
	entry      *entry    // likewise
	policy     Policy    // of drop's account
	retrievals string    // drop's name among Server.Retrieved
	stats      struct {
		retrieved, topped, removed int
		octets                     int64 // of RETR and TOP
	}
	vanished bool // the client went away during the login
	course   atomic.Int32

	spoke bool   // the client has sent a line
	ended string // why the session ended; "" while it goes on
	cause error  // of ended, where there is one
}

// run serves the session up to its end.
func (s *session) run() {
	if s.options.trusts(s.addr) && !s.identify() {
		return
	}
	if s.options.TLS != nil && s.options.Implicit {
		if s.startTLS() != nil {
			return
		}
	}
	s.state = authorization
	s.greet()
	for s.ended == "" {
		s.step()
	}
}

func (s *session) greet() {
	text := s.server.hostname() + " POP3 server ready"
	if s.offers("APOP") {
		s.timestamp = fmt.Sprintf("<%s.%d@%s>", rand.Text(), s.started.Unix(), s.server.hostname())
		text += " " + s.timestamp
	}
	s.conn.reply("+OK", text)
}

// step reads one command and runs it.
func (s *session) step() {
	beforeLogin := s.drop == nil
	if !beforeLogin && s.isOver() { // a client that pipelines never waits
		s.end("session limit")
		return
	}
	line, err := s.readLine(false)
	if err == nil {
		err = s.dispatch(line)
	}
	if beforeLogin || err != nil { // after it no command holds a secret
		s.conn.forget()
	}
	if err != nil && s.ended == "" {
		s.replyError(err)
	}
	if s.conn.writeErr != nil && s.ended == "" {
		s.lost()
	}
}

func (s *session) dispatch(line []byte) error {
	cmd, err := wire.ParseCommand(line)
	if err != nil {
		s.conn.activity.begins(otherCommand)
		return badCommand(err.Error())
	}
	c, ok := s.state[string(cmd.Keyword)]
	if !ok {
		s.conn.activity.begins(otherCommand)
		_, beforeLogin := authorization[string(cmd.Keyword)]
		_, afterLogin := transaction[string(cmd.Keyword)]
		switch {
		case afterLogin:
			return badCommand("log in first")
		case beforeLogin:
			return badCommand("command is not allowed after the login")
		}
		return badCommand("unknown command")
	}
	s.conn.activity.begins(c.id)
	if c.line != nil {
		return c.line(s, cmd.Rest)
	}
	args, err := cmd.AppendArgs(s.args[:0], c.min, c.max)
	if err != nil {
		return badCommand(err.Error())
	}
	return c.run(s, args)
}

// readLine reads a line of the client's. What ends the connection also ends the
// session, and is errEnded.
func (s *session) readLine(secret bool) ([]byte, error) {
	line, err := s.conn.readLine(secret, s.deadline)
	if err == nil && !s.spoke && s.conn.beginsWithProxyHeader(line) {
		return nil, s.refuseProxyHeader()
	}
	s.spoke = s.spoke || err == nil || err == errLineTooLong
	switch {
	case err == nil:
		return line, nil
	case err == errLineTooLong:
		return nil, badCommand("line is too long")
	case err == errTimeout:
		// No UPDATE, and no reply that nobody asked for (RFC 1939 §3).
		switch {
		case s.drop == nil:
			return nil, s.end("login timeout")
		case s.isOver():
			return nil, s.end("session limit")
		}
		return nil, s.end("idle timeout")
	case err == errDraining:
		return nil, s.shutDown()
	case err == errEndlessLine:
		s.conn.reply("-ERR", "line has no end, closing")
		return nil, s.end("endless line")
	case errors.Is(err, io.EOF):
		return nil, s.end("client disconnected")
	}
	s.cause = err
	return nil, s.end("connection lost")
}

// deadline is until when the client may take for its next line.
func (s *session) deadline() time.Time {
	idle := time.Now().Add(s.limits.IdleTimeout)
	if over := s.started.Add(s.limits.MaxSession); over.Before(idle) {
		idle = over
	}
	if login := s.loginDeadline(); s.drop == nil && login.Before(idle) {
		return login
	}
	return idle
}

func (s *session) loginDeadline() time.Time { return s.started.Add(s.limits.LoginTimeout) }

// isOver reports whether the session has had all of its time.
func (s *session) isOver() bool { return time.Since(s.started) >= s.limits.MaxSession }

// lost ends the session since nothing more can be written to its client.
func (s *session) lost() error {
	switch {
	case errors.Is(s.conn.writeErr, errTooSlow):
		return s.end("client too slow")
	case errors.Is(s.conn.writeErr, errMaxSession):
		return s.end("session limit")
	}
	return s.end("connection lost")
}

// end ends the session after the current command.
func (s *session) end(why string) error {
	if s.course.Load() == yielding {
		why = "taken over"
	}
	s.ended = why
	return errEnded
}

// shutDown ends the session because the server ends, or an operator wants it to.
func (s *session) shutDown() error {
	if s.course.Load() == yielding {
		return s.takenOver()
	}
	if s.conn.activity.kicked.Load() {
		s.conn.reply("-ERR", "[SYS/TEMP] session was ended by the operator, nothing was removed")
		return s.end("kicked")
	}
	s.conn.reply("-ERR", "[SYS/TEMP] server is shutting down, nothing was removed")
	return s.end("server shutdown")
}

// replyError writes err as -ERR. What was not written for clients is logged.
func (s *session) replyError(err error) {
	var bad badCommand
	if errors.As(err, &bad) {
		s.errors++
		if s.errors >= s.limits.MaxErrors {
			s.conn.reply("-ERR", string(bad)+"; too many errors, closing")
			s.end("too many errors")
			return
		}
		s.conn.reply("-ERR", string(bad))
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: CodeSysTemp, Text: "internal error, try again later", Err: err}
	}
	if e.Err != nil {
		s.log.Warn("command failed", "user", s.login, "reply", e.Text, "error", e.Err)
	}
	s.conn.reply("-ERR", e.reply())
}

// reply is the text of the -ERR for e.
func (e *Error) reply() string {
	if e.Code == "" {
		return e.Text
	}
	return "[" + string(e.Code) + "] " + e.Text
}

// closeMaildrop releases the maildrop, once.
func (s *session) closeMaildrop() {
	if s.drop == nil {
		return
	}
	drop := s.drop
	s.drop = nil
	if s.held != nil {
		defer s.held.Close()
	}
	if err := drop.maildrop.Close(); err != nil {
		s.log.Warn("closing the maildrop failed", "user", s.login, "error", err)
	}
	s.entry.leave()
}

// finish closes the connection and writes the session's line into the log.
func (s *session) finish() {
	if s.conn.displaced.Load() {
		s.ended = "made room for another"
	}
	defer s.conn.close()
	s.server.live.remove(s)
	s.server.observer().Ended(s.options.counts.address, s.ended, time.Since(s.started))
	attrs := []any{"remote", s.addr.String(), "tls", s.tlsName(), "ended", s.ended, "user", s.login,
		"retrieved", s.stats.retrieved, "tops", s.stats.topped, "octets", s.stats.octets, "removed", s.stats.removed,
		"duration", time.Since(s.started).Round(time.Millisecond)}
	if err := cmp.Or(s.cause, s.conn.writeErr); err != nil {
		attrs = append(attrs, "error", err)
	}
	level := slog.LevelInfo
	if !s.spoke && (s.ended == "client disconnected" || s.ended == "connection lost") { // a balancer asking whether we live
		level = slog.LevelDebug
	}
	s.log.Log(s.ctx, level, "session ended", attrs...)
}

func (s *session) tlsName() string {
	if s.tls == nil {
		return "none"
	}
	return tls.VersionName(s.tls.Version)
}

// capa answers with what is true now on this connection (RFC 2449 §5).
func (s *session) capa([][]byte) error {
	b := []byte("+OK capabilities follow\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8 USER\r\nLANG\r\n")
	if delay := s.limits.LoginDelay; delay > 0 {
		b = fmt.Appendf(b, "LOGIN-DELAY %d\r\n", seconds(delay))
	}
	// USER and SASL are announced in both states (RFC 2449 §6), STLS only where
	// it can be used (RFC 2595 §4).
	if s.permit("USER") == nil {
		b = append(b, "USER\r\n"...)
	}
	if mechanisms := s.saslMechanisms(); len(mechanisms) > 0 {
		b = append(b, "SASL "+strings.Join(mechanisms, " ")+"\r\n"...)
	}
	if s.drop == nil && s.mayStartTLS() {
		b = append(b, "STLS\r\n"...)
	}
	b = append(b, s.capaExpire()...)
	b = append(b, strings.TrimSuffix("IMPLEMENTATION pop3gw-"+s.server.Version, "-")+"\r\n.\r\n"...)
	s.conn.Write(b)
	return nil
}

// lang offers the language of the replies (RFC 6856 §3): English is the only one.
func (s *session) lang(args [][]byte) error {
	if len(args) == 0 {
		s.conn.WriteString("+OK languages follow\r\nen English\r\ni-default English\r\n.\r\n")
		return nil
	}
	language := strings.ToLower(string(args[0]))
	switch {
	case language == "i-default":
		s.conn.reply("+OK", "i-default replies are in English")
	case language == "*" || language == "en" || strings.HasPrefix(language, "en-"):
		s.conn.reply("+OK", "en replies are in English")
	default:
		return &Error{Text: "only English is spoken here"}
	}
	return nil
}
