package imap

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

// login is who logs in to the server, and on whose word.
type login struct {
	gateway.Credentials
	account string // login name of the account, for messages
	source  secretSource
	tokens  gateway.Tokens    // of fromTokens; nil otherwise
	proof   [sha256.Size]byte // of the password: see prove
	client  netip.Addr        // what the server is told of; zero is nothing
	session string
}

// secretSource is where a password comes from.
type secretSource int

const (
	fromClient   secretSource = iota // the client has just sent it
	fromOperator                     // it is the user's upstream_password
	fromMaster                       // it is master_password
	fromTokens                       // it is a token that the gateway gets
)

// credentials returns what to log in with. The master user is only for
// accounts whose password the gateway has checked itself: with that of a client
// the server must decide.
func (a *Adapter) credentials(ctx context.Context, account gateway.Account) (login, error) {
	l := login{Credentials: account.Upstream, account: account.Name}
	if a.options.SendClientAddress {
		l.client, l.session = account.Client, account.Session
	}
	proved := l.Credentials
	switch {
	case account.Tokens != nil:
		// Tokens come and go; a connection is good for who has authorised it.
		authorization, err := account.Tokens.Authorization(ctx)
		if err != nil {
			return l, err
		}
		l.source, l.tokens = fromTokens, account.Tokens
		proved.Token = authorization
	case account.Forwarded && l.Password == "" && l.Token == "":
		return l, gateway.Refused(errors.New("client sent no password that could be passed on to the server"))
	case account.Forwarded:
		l.source = fromClient
	case l.Password != "":
		l.source = fromOperator
	case a.options.MasterUser != "":
		l.source = fromMaster
		l.Credentials = gateway.Credentials{
			Identity: l.owner(),
			User:     a.options.MasterUser,
			Password: a.options.MasterPassword,
		}
		proved = l.Credentials
	default:
		return l, gateway.Unusable("gateway has no password for the mail server",
			fmt.Errorf("no password for user %q at %s; set upstream_password of the user, or master_user of the adapter",
				account.Name, a.options.Address))
	}
	if l.owner() == "" {
		return l, gateway.Unusable("gateway has no user name for the mail server",
			fmt.Errorf("user %q has no name at %s; set upstream_user", account.Name, a.options.Address))
	}
	// Neither LOGIN nor PLAIN can carry a NUL, and no password has a line end.
	if strings.ContainsAny(l.Identity+l.User+l.Password, "\x00\r\n") || !isToken(l.Token) {
		return l, a.refused(l, errors.New("name or password has a NUL or a line end"))
	}
	l.proof = prove(proved)
	return l, nil
}

// secrets are the forms in which the password is sent.
func (l login) secrets() []string {
	quoted := strings.ReplaceAll(strings.ReplaceAll(l.Password, `\`, `\\`), `"`, `\"`)
	return []string{
		l.Password,
		quoted, // in a quoted string
		l.plain(),
	}
}

// plain is the initial response of PLAIN (RFC 4616 §2).
func (l login) plain() string {
	return base64.StdEncoding.EncodeToString([]byte(l.Identity + "\x00" + l.User + "\x00" + l.Password))
}

// owner is the name of the user whose mail is opened.
func (l login) owner() string {
	if l.Identity != "" {
		return l.Identity
	}
	return l.User
}

// refused is the error for credentials that the server does not take.
func (a *Adapter) refused(l login, err error) error {
	if l.source == fromClient {
		return gateway.Refused(a.cause(diagnosis{}, "logging in", err))
	}
	if l.source == fromTokens {
		return a.tokenRefused(l, err)
	}
	advice := fmt.Sprintf("mend upstream_user or upstream_password of user %q", l.account)
	if l.source == fromMaster {
		advice = fmt.Sprintf("mend master_user or master_password, or let the master log in as %q", l.owner())
	}
	return a.explainAs(permanent("mail server does not let the gateway in", advice), "logging in", err)
}

// dial connects and logs in. Where that can be, the mailbox of o is opened in the
// same flight: Opened.Selected tells.
func (a *Adapter) dial(ctx context.Context, p *place, l login, o link.Opening) (*link.Conn, link.Opened, error) {
	if l.tokens != nil {
		return a.dialWithTokens(ctx, p, l, o)
	}
	return a.dialAs(ctx, p, l, o)
}

func (a *Adapter) dialAs(ctx context.Context, p *place, l login, o link.Opening) (*link.Conn, link.Opened, error) {
	together := !a.stepwise.Load()
	conn, opened, err := a.dialOnce(ctx, p, l, o, together)
	if err != nil && opened.LoggedIn && together { // lost behind that: was it too much at once?
		return a.dialOnce(ctx, p, l, o, false)
	}
	return conn, opened, err
}

func (a *Adapter) dialOnce(ctx context.Context, p *place, l login, o link.Opening, together bool) (*link.Conn, link.Opened, error) {
	conn, err := a.connect(ctx, p)
	if err != nil {
		return nil, link.Opened{}, err
	}
	opened, err := a.logIn(ctx, conn, l, o, together)
	if err != nil {
		conn.Close()
		return nil, opened, err
	}
	return conn, opened, nil
}

// connect dials. The connection is not logged in. It holds p, which may be nil.
func (a *Adapter) connect(ctx context.Context, p *place) (*link.Conn, error) {
	o := a.link
	o.Dial = a.server.dialer(p, o.Dial)
	conn, err := link.Dial(ctx, o)
	if e, ok := errors.AsType[*imap.Error](err); ok {
		return nil, a.explainAs(permanent("mail server does not offer TLS",
			`set tls to "implicit" and address to the port for it, or let the server offer STARTTLS`), "starting TLS", e)
	}
	return conn, a.explain("connecting", err)
}

// logIn logs in, and does what o says in the same flight if together is true and
// the login takes one line.
func (a *Adapter) logIn(ctx context.Context, conn *link.Conn, l login, o link.Opening, together bool) (link.Opened, error) {
	caps, err := a.greeted(ctx, conn)
	if err == nil {
		err = a.checkLogin(conn, caps, l)
	}
	if err != nil {
		return link.Opened{}, a.explain("asking for capabilities", err)
	}
	if l.Token != "" {
		command, secret, responses, oneLine := a.tokenCommand(caps, l)
		conn.Conceal(l.Token, secret)
		o.ID, o.Login, o.Responses = l.id(caps), command, responses
		return a.fly(ctx, conn, l, o, together && oneLine)
	}
	conn.Conceal(l.secrets()...)
	command, err := a.loginCommand(caps, l)
	if err != nil {
		return link.Opened{}, err
	}
	id := l.id(caps)
	if command == "" {
		if id != "" {
			if _, err := conn.Open(ctx, link.Opening{ID: id}); err != nil {
				return link.Opened{}, a.explain("telling the client's address", err)
			}
		}
		return link.Opened{}, a.loginError(l, a.logInStepwise(ctx, conn, l, caps))
	}
	o.ID, o.Login = id, command
	return a.fly(ctx, conn, l, o, together)
}

// fly logs in with o.Login, and does the rest of o if together is true.
func (a *Adapter) fly(ctx context.Context, conn *link.Conn, l login, o link.Opening, together bool) (link.Opened, error) {
	if !together {
		o = link.Opening{ID: o.ID, Login: o.Login, Responses: o.Responses}
	}
	o.Capability = together && !a.tells.Load()
	opened, err := conn.Open(ctx, o)
	if err = cmp.Or(err, opened.Login); err != nil {
		a.greeting.Store(nil) // it may have another way to log in by now
		if opened.Challenge != "" {
			return opened, a.tokenError(l, opened.Challenge, err)
		}
		return opened, a.loginError(l, err)
	}
	a.tells.Store(opened.Told)
	unanswered := o.Mailbox != "" && !opened.Selected || o.Capability && conn.Capabilities() == nil
	if unanswered || isBAD(opened.Select) {
		opened = link.Opened{LoggedIn: true}
		if !a.stepwise.Swap(true) {
			a.log.Info("mail server does not take commands behind a login, so each login takes a round trip more from now on", "server", a.options.Address)
		}
	}
	return opened, nil
}

// id are the parameters of ID that tell who the client is, as Dovecot knows them; ""
// where the server is not to be told.
func (l login) id(caps imap.CapSet) string {
	if !l.client.IsValid() || !caps.Has(imap.CapID) {
		return ""
	}
	id := fmt.Sprintf(`("name" "pop3gw" "x-originating-ip" "%s"`, l.client.WithZone("").Unmap())
	if session, ok := link.Quote(l.session); ok && l.session != "" {
		id += ` "x-session-id" ` + session
	}
	return id + ")"
}

func isBAD(err error) bool {
	e, ok := errors.AsType[*imap.Error](err)
	return ok && e.Type == imap.StatusResponseTypeBad
}

// greeted returns the capabilities before a login. Many servers tell them as they
// greet; of the others it is remembered, but no password goes in clear text for
// what a server said earlier.
func (a *Adapter) greeted(ctx context.Context, conn *link.Conn) (imap.CapSet, error) {
	if caps := conn.Capabilities(); caps != nil {
		return caps, nil
	}
	if caps := a.greeting.Load(); caps != nil && a.options.TLS != NoTLS {
		return *caps, nil
	}
	_, err := conn.Open(ctx, link.Opening{Capability: true})
	caps := conn.Capabilities()
	if err == nil && caps != nil {
		a.greeting.Store(&caps)
	}
	return caps, err
}

// loginCommand is the login in one line, or "" where that cannot be.
func (a *Adapter) loginCommand(caps imap.CapSet, l login) (string, error) {
	if l.needsPLAIN() || caps.Has(imap.CapLoginDisabled) {
		if caps.Has(imap.AuthCap(sasl.Plain)) {
			if !caps.Has(imap.CapSASLIR) {
				return "", nil
			}
			return "AUTHENTICATE PLAIN " + l.plain(), nil
		}
		if l.Identity != "" && l.source != fromMaster {
			return "", a.explainAs(permanent("mail server does not let one user act as another", ""), "logging in",
				errors.New("an authorization identity needs AUTHENTICATE PLAIN, which the server does not offer"))
		}
	}
	name, ok := link.Quote(a.loginName(l))
	password, ok2 := link.Quote(l.Password)
	if !ok || !ok2 {
		return "", nil
	}
	return "LOGIN " + name + " " + password, nil
}

// loginName is the name for LOGIN.
func (a *Adapter) loginName(l login) string {
	if l.Identity != "" {
		return l.Identity + a.options.MasterSeparator + l.User
	}
	return l.User
}

// logInStepwise logs in where the server must be waited for amid the command.
func (a *Adapter) logInStepwise(ctx context.Context, conn *link.Conn, l login, caps imap.CapSet) error {
	return conn.Do(ctx, func(client *imapclient.Client) error {
		var err error
		if caps.Has(imap.AuthCap(sasl.Plain)) {
			err = client.Authenticate(sasl.NewPlainClient(l.Identity, l.User, l.Password))
		} else {
			err = client.Login(a.loginName(l), l.Password).Wait()
		}
		if err == nil { // what it may do now
			_, err = client.Capability().Wait()
		}
		return err
	})
}

// loginError makes the error of a login one that a client may see.
func (a *Adapter) loginError(l login, err error) error {
	e, ok := errors.AsType[*imap.Error](err)
	if !ok {
		return a.explain("logging in", err)
	}
	switch strings.ToUpper(string(e.Code)) {
	case "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED":
		return a.refused(l, err)
	case "EXPIRED":
		if l.source != fromClient {
			return a.refused(l, err)
		}
		expired := diagnosis{code: gateway.CodeAuth, text: "password has expired, set a new one at the mail server", advice: "the password was right and has expired"}
		return a.explainAs(expired, "logging in", err)
	}
	if d := diagnoseAnswer(string(e.Code), e.Text); d != unexplained {
		return a.explainAs(d, "logging in", err)
	}
	if e.Type == imap.StatusResponseTypeBad {
		return a.explainAs(unexplained, "logging in", err)
	}
	return a.refused(l, err)
}

// checkLogin says why neither a password nor a token can be sent to this server.
func (a *Adapter) checkLogin(conn *link.Conn, caps imap.CapSet, l login) error {
	if conn.PreAuth() {
		// Whoever it takes us for, nobody has checked a password.
		return a.explainAs(permanent("mail server does not ask for a password", "let the server not greet the gateway with PREAUTH"),
			"logging in", errors.New("server calls the connection authenticated before any login"))
	}
	if l.Token != "" {
		return a.checkTokenLogin(caps)
	}
	if !caps.Has(imap.CapLoginDisabled) || caps.Has(imap.AuthCap(sasl.Plain)) {
		return nil
	}
	if l == (login{}) && tokenMechanism(caps) != "" { // nobody in particular
		return nil
	}
	advice := "let the server offer LOGIN or AUTHENTICATE PLAIN"
	if a.options.TLS == NoTLS {
		advice = `set tls to "starttls" or "implicit"`
	}
	return a.explainAs(permanent("mail server takes no password from the gateway", advice), "logging in",
		fmt.Errorf("server says LOGINDISABLED and offers no PLAIN but %q", mechanisms(caps)))
}

func mechanisms(caps imap.CapSet) []string {
	all := caps.AuthMechanisms()
	slices.Sort(all)
	return all[:min(len(all), 10)]
}

// needsPLAIN reports whether LOGIN cannot be trusted with the credentials: it
// has no authorization identity, and no charset (RFC 9051 §6.2.3).
func (l login) needsPLAIN() bool {
	awkward := func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }
	return l.Identity != "" || strings.ContainsFunc(l.User+l.Password, awkward)
}
