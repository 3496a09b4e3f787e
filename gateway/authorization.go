package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"syscall"
	"time"
	"unicode"
)

const (
	tlsHandshakeTimeout = 30 * time.Second
	maxName             = 255 // octets, as many as RFC 4616 §2 wants
)

// mayUsePasswords says whether a password may cross the connection as it is.
func (s *session) mayUsePasswords() bool {
	switch s.options.CleartextLogin {
	case CleartextAlways:
		return true
	case CleartextLoopback:
		return s.tls != nil || s.local
	}
	return s.tls != nil
}

func (s *session) mayStartTLS() bool {
	return s.options.TLS != nil && !s.options.Implicit && s.tls == nil
}

// permit reports why a way to log in cannot be used now, or nil.
func (s *session) permit(mechanism string) error {
	if !s.offers(mechanism) {
		return badCommand("this way to log in is not offered here")
	}
	if s.mayUsePasswords() || s.hidesPassword(mechanism) {
		return nil
	}
	if s.mayStartTLS() {
		return badCommand("no password on a connection without TLS: send STLS first")
	}
	return badCommand("no password on a connection without TLS")
}

func (s *session) user(rest []byte) error {
	if err := s.permit("USER"); err != nil {
		return err
	}
	name := strings.Trim(string(rest), " ")
	switch {
	case name == "":
		return badCommand("USER takes a name")
	case strings.Contains(name, " "):
		return badCommand("USER takes one name, without spaces")
	}
	s.name = name
	s.conn.reply("+OK", "send PASS") // whoever it is (RFC 1939 §7)
	return nil
}

// pass takes the rest of its line as the password, spaces and all (RFC 1939 §7).
func (s *session) pass(rest []byte) error {
	if err := s.permit("USER"); err != nil {
		return err
	}
	name := s.name
	s.name = ""
	switch {
	case name == "":
		return badCommand("USER comes before PASS")
	case len(rest) == 0:
		return badCommand("PASS takes a password")
	}
	return s.logIn("USER", Credentials{User: name, Password: string(rest)})
}

func (s *session) apop(args [][]byte) error {
	if err := s.permit("APOP"); err != nil {
		return err
	}
	digest := strings.ToLower(string(args[1]))
	if len(digest) != 32 || strings.Trim(digest, "0123456789abcdef") != "" {
		return badCommand("a digest has 32 hexadecimal digits")
	}
	return s.logIn("APOP", Credentials{User: string(args[0]), Timestamp: s.timestamp, Digest: digest})
}

// saslMechanisms are those of AUTH that can be used now.
func (s *session) saslMechanisms() []string {
	var names []string
	for _, name := range Mechanisms {
		if (saslExchanges[name] != nil || name == scramMechanism || name == externalMechanism) && s.permit(name) == nil {
			names = append(names, name)
		}
	}
	return names
}

// saslExchanges read the credentials of each mechanism of AUTH that sends some.
// respond returns the client's answer to a challenge.
var saslExchanges = map[string]func(respond func(challenge string) ([]byte, error)) (Credentials, error){
	"PLAIN":       plain,
	"LOGIN":       login,
	"OAUTHBEARER": oauthBearer,
	"XOAUTH2":     xoauth2,
}

// plain is RFC 4616.
func plain(respond func(string) ([]byte, error)) (Credentials, error) {
	response, err := respond("")
	if err != nil {
		return Credentials{}, err
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return Credentials{}, badCommand("PLAIN takes an identity, a name and a password")
	}
	c := Credentials{Identity: string(parts[0]), User: string(parts[1]), Password: string(parts[2])}
	if c.Identity == c.User {
		c.Identity = ""
	}
	return c, nil
}

// login has no standard; clients know its two prompts, and some send the name
// as initial response.
func login(respond func(string) ([]byte, error)) (Credentials, error) {
	name, err := respond("Username:")
	if err != nil {
		return Credentials{}, err
	}
	password, err := respond("Password:")
	return Credentials{User: string(name), Password: string(password)}, err
}

var errCancelled = &Error{Text: "authentication cancelled"}

func (s *session) auth(args [][]byte) error {
	if len(args) == 0 { // not in a standard, and asked by many clients
		b := []byte("+OK mechanisms follow\r\n")
		for _, name := range s.saslMechanisms() {
			b = append(b, name+"\r\n"...)
		}
		s.conn.Write(append(b, ".\r\n"...))
		return nil
	}
	mechanism := strings.ToUpper(string(args[0]))
	exchange := saslExchanges[mechanism]
	if exchange == nil && mechanism != scramMechanism && mechanism != externalMechanism {
		return badCommand("unknown authentication mechanism")
	}
	if err := s.permit(mechanism); err != nil {
		return err
	}
	s.name = ""
	initial := args[1:]
	respond := func(challenge string) ([]byte, error) {
		if len(initial) > 0 {
			response := initial[0]
			initial = nil
			if string(response) == "=" { // empty, as against none (RFC 5034 §4)
				return nil, nil
			}
			return decode(response)
		}
		s.conn.WriteString("+ " + base64.StdEncoding.EncodeToString([]byte(challenge)) + "\r\n") // may be long (RFC 5034 §4)
		line, err := s.readLine(true)
		if err != nil {
			return nil, err
		}
		line = bytes.TrimRight(line, " ")
		if bytes.Equal(line, []byte("*")) {
			return nil, errCancelled
		}
		return decode(line)
	}
	switch mechanism {
	case scramMechanism:
		return s.scram(respond)
	case externalMechanism:
		return s.external(respond)
	}
	credentials, err := exchange(respond)
	if err != nil {
		return err
	}
	err = s.logIn(mechanism, credentials)
	if tokenMechanism(mechanism) && CodeOf(err) == CodeAuth {
		return s.tokenRefused(mechanism, respond, err)
	}
	return err
}

func decode(response []byte) ([]byte, error) {
	decoded := make([]byte, base64.StdEncoding.DecodedLen(len(response)))
	n, err := base64.StdEncoding.Strict().Decode(decoded, response)
	if err != nil || bytes.IndexByte(response, '\r') >= 0 { // which Decode skips
		return nil, badCommand("response is not valid base64")
	}
	return decoded[:n], nil
}

// logIn enters TRANSACTION with the maildrop that the credentials open.
func (s *session) logIn(mechanism string, client Credentials) error {
	s.called(client.User)
	return s.enter(mechanism, client, func(ctx context.Context) (Account, error) { return s.authenticate(ctx, client) })
}

// called notes the name that a client gave, for the log.
func (s *session) called(name string) {
	if name != "" {
		s.login = name[:min(len(name), maxName)]
	}
}

// enter enters TRANSACTION with the maildrop of the account that authenticate
// finds. client is what the client has said already; it may be nothing yet.
func (s *session) enter(mechanism string, client Credentials, authenticate func(ctx context.Context) (Account, error)) error {
	ctx, cancel := s.server.late.withDeadline(s.conn.draining, s.loginDeadline())
	defer cancel()
	start := time.Now()
	s.attempt(mechanism)
	attempt, err := s.server.throttle.begin(ctx, blockOf(s.addr), client.User, s.conn.pace.gone)
	if errors.Is(err, errGone) {
		s.conn.reply("-ERR", "[SYS/TEMP] too many logins have failed, try again later") // it may have only said all it had to say
		return s.end("client disconnected")
	}
	if err != nil {
		s.attempted(mechanism, "", time.Since(start), err)
		return s.loginFailed(ctx, mechanism, err, 0)
	}
	s.conn.attempt.Store(attempt)
	defer s.conn.attempt.Store(nil)
	defer attempt.done()
	start = time.Now() // what it had to wait is not the store's doing
	ctx = context.WithValue(ctx, attemptKey{}, attempt)
	account, maildrop, entry, err := s.open(ctx, client, authenticate)
	if err != nil {
		var bad badCommand
		if s.ended != "" || errors.As(err, &bad) || errors.Is(err, errCancelled) {
			return err
		}
		s.attempted(mechanism, account.AdapterName, time.Since(start), err)
		if s.vanished && CodeOf(err) != CodeAuth {
			return s.end("client disconnected during the login")
		}
		var delay time.Duration
		if CodeOf(err) == CodeAuth && !errors.Is(err, ErrConsent) {
			delay = attempt.failed(s.login, client.Password+client.Token)
			attempt.done()
		}
		return s.loginFailed(ctx, mechanism, err, delay)
	}
	attempt.succeeded()
	s.conn.loggedIn.Store(true)
	entry.opened()
	s.attempted(mechanism, account.AdapterName, time.Since(start), nil)
	s.login, s.adapter, s.policy = account.Name, account.AdapterName, account.Policy
	s.retrievals = account.Name + "+" + account.Folder
	s.drop, s.held = &snapshot{maildrop: maildrop}, account.Held // from here on they will be closed
	s.entry = entry
	s.drop.reset()
	s.state = transaction
	s.reached(Transaction)
	s.log.Info("login", "remote", s.addr.String(), "tls", s.tlsName(), "mechanism", mechanism, "user", s.login,
		"messages", s.drop.count, "octets", s.drop.octets)
	s.conn.reply("+OK", s.drop.totals())
	return nil
}

// open opens the maildrop of the account that authenticate finds.
func (s *session) open(ctx context.Context, client Credentials, authenticate func(ctx context.Context) (Account, error)) (Account, Maildrop, *entry, error) {
	account, err := authenticate(ctx)
	if err != nil {
		return account, nil, nil, err
	}
	entry := s.entryOf(account, client)
	var maildrop Maildrop
	opened, entered := false, false
	defer func() { // also when an adapter panics
		if entered {
			return
		}
		entry.leave()
		if opened {
			maildrop.Close()
		}
		if account.Held != nil {
			account.Held.Close()
		}
	}()
	// Only the user is told what becomes of his logins. Where the store is yet to
	// check the password, it does so first.
	if !account.Forwarded || entry.known() {
		if err := entry.enter(); err != nil {
			return account, nil, nil, err
		}
	}
	maildrop, err = s.openMaildrop(ctx, account)
	if opened = err == nil; opened {
		err = entry.enter()
	}
	entered = err == nil
	return account, maildrop, entry, err
}

func (s *session) authenticate(ctx context.Context, client Credentials) (Account, error) {
	switch {
	// An empty password is a login without one in some directories.
	case client.User == "" || client.Password == "" && client.Digest == "" && client.Token == "" && !client.Certified:
		return Account{}, Refused(errors.New("name or password is empty"))
	case len(client.User) > maxName || len(client.Identity) > maxName:
		return Account{}, Refused(errors.New("name is too long"))
	// In base64 they can come from AUTH, as they cannot from USER and PASS.
	case strings.ContainsFunc(client.User+client.Identity, unicode.IsControl) || strings.ContainsAny(client.Password, "\x00\r\n"):
		return Account{}, Refused(errors.New("name or password has control characters"))
	}
	return s.server.Accounts.Login(ctx, client)
}

// loginFailed logs why, and holds the answer to a refused login back, for delay at
// least.
func (s *session) loginFailed(ctx context.Context, mechanism string, err error, delay time.Duration) error {
	// ctx may end a little later, and a dial goes by its deadline.
	if over := ctx.Err() != nil || !time.Now().Before(s.loginDeadline()); over && CodeOf(err) != CodeAuth {
		if s.conn.draining.Err() != nil {
			return s.shutDown()
		}
		err = Unavailable("login took too long, try again later", err)
	}
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: CodeSysTemp, Text: "internal error, try again later", Err: err}
	}
	// What the client wrote comes last: packaging/fail2ban relies on it.
	s.log.Warn("login failed", "remote", s.addr.String(), "tls", s.tlsName(), "mechanism", mechanism, "reply", e.reply(),
		"user", s.login, "error", e.Err)
	if e.Code == CodeAuth && !errors.Is(err, ErrConsent) || errors.Is(err, errThrottled) {
		s.failures++
		s.conn.hasFailed.Store(true)
		present, cancel := whilePresent(ctx, s.conn.pace.gone)
		defer cancel()
		select {
		case <-time.After(max(delay, s.server.throttle.delayOf(s.failures))):
		case <-present.Done():
		}
		if s.failures >= s.limits.MaxLoginFailures {
			s.conn.reply("-ERR", e.reply()+"; too many failures, closing")
			return s.end("too many refused logins")
		}
	}
	return &Error{Code: e.Code, Text: e.Text} // the cause is in the log
}

// stls is RFC 2595 §4. What was said before it is forgotten.
func (s *session) stls([][]byte) error {
	switch {
	case s.tls != nil:
		return badCommand("TLS is active already")
	case !s.mayStartTLS():
		return badCommand("TLS is not offered here")
	case s.utf8On: // RFC 6856 §2.1
		return badCommand("STLS comes before UTF8")
	}
	s.conn.reply("+OK", "begin TLS")
	s.name = ""
	return s.startTLS()
}

func (s *session) startTLS() error {
	ctx, cancel := context.WithTimeout(s.ctx, tlsHandshakeTimeout)
	defer cancel()
	switch err := s.conn.startTLS(ctx, s.options.TLS); {
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		return s.end("client disconnected")
	case isProxyHeader(err):
		return s.refuseProxyHeader()
	case err != nil && s.conn.draining.Err() != nil:
		return s.end("server shutdown")
	case err != nil:
		s.cause = err
		return s.end("TLS failed")
	}
	s.secured(s.conn.tlsState())
	return nil
}

// utf8 is RFC 6856 §2. Messages are sent as they are stored in either mode.
func (s *session) utf8([][]byte) error {
	s.utf8On = true
	s.conn.reply("+OK", "UTF8 enabled")
	return nil
}

func (s *session) quitAuthorization([][]byte) error {
	s.conn.reply("+OK", "bye")
	return s.end("quit")
}
