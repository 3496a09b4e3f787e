package imap

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/emersion/go-imap/v2"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

// Mechanisms for bearer tokens.
const (
	oauthBearer = "OAUTHBEARER" // RFC 7628
	xoauth2     = "XOAUTH2"     // of Google, and the one that Microsoft has
)

// maxTokenLine is the longest command line that is sent with a token in it, in
// octets. Longer ones go after the server's challenge, where RFC 9051 §6.2.2 knows
// no limit: servers have one for commands, 8,192 octets as a rule.
const maxTokenLine = 8000

// isToken reports whether s is "", or can be sent as a bearer token (RFC 6750
// §2.1, and what providers make of it).
func isToken(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// tokenMechanism is the mechanism for tokens that the server offers, or "".
func tokenMechanism(caps imap.CapSet) string {
	for _, name := range []string{oauthBearer, xoauth2} {
		if caps.Has(imap.AuthCap(name)) {
			return name
		}
	}
	return ""
}

func (a *Adapter) checkTokenLogin(caps imap.CapSet) error {
	if tokenMechanism(caps) != "" {
		return nil
	}
	advice := "is address the server of the provider that the token is of?"
	if a.options.TLS == NoTLS {
		advice = `set tls to "starttls" or "implicit"`
	}
	return a.explainAs(permanent("mail server takes no token from the gateway", advice), "logging in",
		fmt.Errorf("server offers neither OAUTHBEARER nor XOAUTH2 but %q", mechanisms(caps)))
}

// tokenResponse is the initial response of a mechanism.
func (a *Adapter) tokenResponse(mechanism string, l login) string {
	if mechanism == xoauth2 {
		return encode("user=" + l.owner() + "\x01auth=Bearer " + l.Token + "\x01\x01")
	}
	host, port, _ := net.SplitHostPort(a.options.Address)
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(l.owner()) // RFC 5801 §4
	return encode("n,a=" + name + ",\x01host=" + host + "\x01port=" + port + "\x01auth=Bearer " + l.Token + "\x01\x01")
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// tokenCommand is the login with a token, what of it is secret, and the answers to
// challenges behind it.
// The last of these is for why the server refuses the token: one octet 0x01 (RFC
// 7628 §3.2.3). oneLine says that nothing but a refusal is challenged.
func (a *Adapter) tokenCommand(caps imap.CapSet, l login) (command, secret string, responses []string, oneLine bool) {
	mechanism := tokenMechanism(caps)
	response := a.tokenResponse(mechanism, l)
	command = "AUTHENTICATE " + mechanism
	dummy := encode("\x01")
	if caps.Has(imap.CapSASLIR) && len(command)+len(response) < maxTokenLine {
		return command + " " + response, response, []string{dummy}, true
	}
	return command, response, []string{response, dummy}, false
}

// errTokenRefused is in the chain of errors for a token that the server refuses.
var errTokenRefused = errors.New("the token was refused")

// dialWithTokens is dialAs with a token that the gateway gets. One that is refused
// may have been ended at the provider, so that another is tried.
func (a *Adapter) dialWithTokens(ctx context.Context, p *place, l login, o link.Opening) (*link.Conn, link.Opened, error) {
	var err error
	if l.Token, err = l.tokens.Token(ctx, ""); err != nil {
		return nil, link.Opened{}, err
	}
	conn, opened, err := a.dialAs(ctx, p, l, o)
	if !errors.Is(err, errTokenRefused) {
		return conn, opened, err
	}
	another, renewErr := l.tokens.Token(ctx, l.Token)
	switch {
	case renewErr != nil:
		return nil, opened, renewErr
	case another == l.Token:
		return nil, opened, err
	}
	a.log.Info("mail server refuses a token, trying another one", "user", l.account, "error", err)
	l.Token = another
	return a.dialAs(ctx, p, l, o)
}

// tokenError is loginError where the server has said why by a challenge. How it
// ends the login says less: some take what was sent behind it for the answer to
// that.
func (a *Adapter) tokenError(l login, challenge string, err error) error {
	e, ok := errors.AsType[*imap.Error](err)
	if !ok {
		return a.explain("logging in", err)
	}
	if d := diagnoseAnswer(string(e.Code), e.Text); d != unexplained && d.code == gateway.CodeSysTemp {
		return a.explainAs(d, "logging in", err)
	}
	var told struct{ Status, Scope string } // RFC 7628 §3.2.2
	json.Unmarshal([]byte(challenge), &told)
	refusal := fmt.Errorf("%w, status %.40q", errTokenRefused, told.Status)
	if l.source == fromTokens && told.Scope != "" {
		refusal = fmt.Errorf("%w, needed is the scope %.200q", refusal, told.Scope)
	}
	return a.refused(l, refusal)
}

// tokenRefused is the error for a token of the gateway that the server does not
// take.
func (a *Adapter) tokenRefused(l login, err error) error {
	advice := fmt.Sprintf("upstream_user of user %q must be a mailbox that may use IMAP, and that whoever has authorised the gateway may read (%q)", l.account, l.owner())
	if !errors.Is(err, errTokenRefused) {
		err = fmt.Errorf("%w: %w", errTokenRefused, err)
	}
	return a.explainAs(permanent("mail server does not let the gateway in", advice), "logging in", err)
}
