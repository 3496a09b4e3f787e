package imap

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pop3gw/gateway"
)

// fakeTokens makes the tokens "token 1", "token 2"... of one authorisation.
type fakeTokens struct {
	mu            sync.Mutex
	authorization string
	n             int
	last          bool // no token but the last one
	err           error
}

func (f *fakeTokens) Authorization(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.authorization, f.err
}

func (f *fakeTokens) Token(_ context.Context, refused string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if refused == f.token() && !f.last {
		f.n++
	}
	return f.token(), f.err
}

func (f *fakeTokens) token() string { return fmt.Sprintf("token-%d", f.n) }

func (f *fakeTokens) change(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func tokenAccount(a *Adapter, name, user string, tokens gateway.Tokens) gateway.Account {
	return gateway.Account{Name: name, Adapter: a, Upstream: gateway.Credentials{User: user}, Tokens: tokens}
}

const refusal = `{"status":"400","schemes":"Bearer","scope":"https://mail.example.org/"}`

// takesToken has the server take one token, and challenge any other as quirk says.
func (s *fakeServer) takesToken(token, quirk string) {
	refuses := make(map[*fakeConn]string) // a tag that waits for the answer to a challenge
	initial := make(map[*fakeConn]string) // or for the initial response
	s.does(func(c *fakeConn, command string) bool {
		whole := strings.TrimSpace(c.tag + " " + command)
		s.mu.Lock()
		defer s.mu.Unlock()
		if tag := refuses[c]; tag != "" {
			delete(refuses, c)
			switch whole {
			case "AQ==":
				c.send("%s NO [AUTHENTICATIONFAILED] no", tag)
			default: // as of a command behind the login
				c.send("%s BAD Invalid base64 data in continued response", tag)
			}
			return true
		}
		response := ""
		if tag := initial[c]; tag != "" {
			delete(initial, c)
			c.tag, response = tag, whole
		} else {
			rest, ok := strings.CutPrefix(command, "AUTHENTICATE ")
			if !ok {
				return false
			}
			_, response, ok = strings.Cut(rest, " ")
			if !ok {
				initial[c] = c.tag
				c.send("+ ")
				return true
			}
		}
		decoded, err := base64.StdEncoding.DecodeString(response)
		switch {
		case err != nil:
			c.done("BAD no base64")
		case strings.Contains(string(decoded), "auth=Bearer "+token+"\x01\x01"):
			c.done("OK [CAPABILITY " + c.caps + "] in")
		case quirk == "no challenge":
			c.done("NO AUTHENTICATE failed.")
		default:
			refuses[c] = c.tag
			c.send("+ %s", base64.StdEncoding.EncodeToString([]byte(refusal)))
		}
		return true
	})
}

// sentTokens are the commands that tokens were sent with, decoded.
func (s *fakeServer) sentTokens() (sent []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, command := range s.commands {
		if rest, ok := strings.CutPrefix(command, "AUTHENTICATE "); ok {
			mechanism, response, _ := strings.Cut(rest, " ")
			decoded, _ := base64.StdEncoding.DecodeString(response)
			sent = append(sent, mechanism+" "+strings.ReplaceAll(string(decoded), "\x01", "^"))
		}
	}
	return sent
}

func TestTokenLogin(t *testing.T) {
	for _, tt := range []struct {
		caps, user string
		sent       string
	}{
		{"AUTH=XOAUTH2 SASL-IR", "ann@example.org", "XOAUTH2 user=ann@example.org^auth=Bearer token-0^^"},
		{"AUTH=XOAUTH2 AUTH=OAUTHBEARER SASL-IR", "ann@example.org", "OAUTHBEARER n,a=ann@example.org,^host=imap.example.org^port=143^auth=Bearer token-0^^"},
		{"AUTH=OAUTHBEARER SASL-IR LOGINDISABLED", "a=b,c", "OAUTHBEARER n,a=a=3Db=2Cc,^host=imap.example.org^port=143^auth=Bearer token-0^^"},
		{"AUTH=OAUTHBEARER", "ann", "OAUTHBEARER "},
		{"AUTH=XOAUTH2 AUTH=PLAIN", "ann", "XOAUTH2 "},
	} {
		s := newFake("x", "two")
		s.caps = basicCaps + " " + tt.caps
		s.takesToken("token-0", "")
		a, log := s.adapter(t, Options{})
		tokens := &fakeTokens{authorization: "1"}
		for range 2 { // the second by the connection that was kept
			d, err := a.Open(t.Context(), tokenAccount(a, "ann", tt.user, tokens))
			if err != nil {
				t.Fatalf("%s: %v", tt.caps, err)
			}
			wantMessage(t, d.(*maildrop), 1, "two")
			d.Close()
		}
		if sent := s.sentTokens(); len(sent) != 1 || sent[0] != tt.sent {
			t.Errorf("%s: %q was sent, want %q", tt.caps, sent, tt.sent)
		}
		if s.seen("LOGIN") != 0 {
			t.Error("a password was sent")
		}
		if told := log.String(); strings.Contains(told, "token-0") {
			t.Errorf("a token is in the log:\n%s", told)
		}
	}
}

// With SASL-IR the login and all behind it are one flight.
func TestTokenFlight(t *testing.T) {
	s := newFake("x")
	s.caps = basicCaps + " AUTH=XOAUTH2 SASL-IR ESEARCH"
	s.takesToken("token-0", "")
	a, _ := s.adapter(t, Options{KeepConnections: Never})
	tokens := &fakeTokens{authorization: "1"}
	for range 2 {
		d, err := a.Open(t.Context(), tokenAccount(a, "ann", "ann", tokens))
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	var flight []string
	login := ""
	s.does(func(c *fakeConn, command string) bool {
		if command != "LOGOUT" { // of the connection before
			flight = append(flight, strings.Fields(command)[0])
		}
		if strings.HasPrefix(command, "AUTHENTICATE") { // no answer before the rest is there
			login = c.tag
			return true
		}
		if strings.HasPrefix(command, "EXAMINE") {
			c.send("%s OK [CAPABILITY %s] in", login, c.caps)
		}
		return false
	})
	d, err := a.Open(t.Context(), tokenAccount(a, "ann", "ann", tokens))
	if err != nil {
		t.Fatal(err)
	}
	s.does(nil)
	d.Close()
	if !slices.Equal(flight[:2], []string{"AUTHENTICATE", "EXAMINE"}) {
		t.Errorf("the flight is %q", flight)
	}
}

// A token that is refused is renewed once, whatever way the server has to refuse.
func TestTokenRefused(t *testing.T) {
	for _, caps := range []string{"AUTH=XOAUTH2 SASL-IR", "AUTH=OAUTHBEARER SASL-IR", "AUTH=XOAUTH2", "AUTH=OAUTHBEARER"} {
		for _, quirk := range []string{"", "no challenge"} {
			t.Run(caps+" "+quirk, func(t *testing.T) {
				s := newFake("x")
				s.caps = basicCaps + " " + caps
				s.takesToken("token-1", quirk)
				a, log := s.adapter(t, Options{KeepConnections: Never})
				tokens := &fakeTokens{authorization: "1"}
				d, err := a.Open(t.Context(), tokenAccount(a, "ann", "ann@example.org", tokens))
				if err != nil {
					t.Fatal(err)
				}
				d.Close()
				if n := s.dialled(); n != 2 {
					t.Errorf("%d connections", n)
				}
				s.takesToken("none", quirk)
				tokens.last = true
				_, err = a.Open(t.Context(), tokenAccount(a, "ann", "ann@example.org", tokens))
				wantError(t, err, gateway.CodeSysPerm, "mail server does not let the gateway in", `upstream_user of user "ann"`)
				if quirk == "" && !strings.Contains(err.Error(), "https://mail.example.org/") {
					t.Errorf("the server's reason is not told: %v", err)
				}
				if n := s.dialled(); n != 3 {
					t.Errorf("%d connections", n)
				}
				if told := log.String() + err.Error(); strings.Contains(told, "token-") {
					t.Errorf("a token is in the log:\n%s", told)
				}

				// A client's own token is the client's to renew.
				account := account(a)
				account.Upstream = gateway.Credentials{User: "ann", Token: "of-the-client"}
				_, err = a.Open(t.Context(), account)
				wantError(t, err, gateway.CodeAuth, "wrong name or password", "")
				if strings.Contains(err.Error(), "of-the-client") {
					t.Errorf("a token is in the log: %v", err)
				}
				s.takesToken("of-the-client", quirk)
				d, err = a.Open(t.Context(), account)
				if err != nil {
					t.Fatal(err)
				}
				d.Close()
			})
		}
	}
}

// The refusal of a consent reaches the client as it is.
func TestTokenUnavailable(t *testing.T) {
	s := newFake("x")
	s.caps = basicCaps + " AUTH=XOAUTH2 SASL-IR"
	s.takesToken("token-0", "")
	a, _ := s.adapter(t, Options{})
	tokens := &fakeTokens{err: &gateway.Error{Code: gateway.CodeAuth, Text: "authorise again"}}
	_, err := a.Open(t.Context(), tokenAccount(a, "ann", "ann", tokens))
	if gateway.CodeOf(err) != gateway.CodeAuth || s.dialled() != 0 {
		t.Errorf("%v, %d connections", err, s.dialled())
	}
}

// Servers that take no tokens, or have a failure, are told apart from those that
// refuse one.
func TestTokenLoginErrors(t *testing.T) {
	for _, tt := range []struct {
		caps, answer string
		code         gateway.Code
		text, cause  string
	}{
		{"AUTH=PLAIN SASL-IR", "", gateway.CodeSysPerm, "mail server takes no token from the gateway", `neither OAUTHBEARER nor XOAUTH2 but ["PLAIN"]`},
		{"AUTH=XOAUTH2 SASL-IR", "NO [UNAVAILABLE] down", gateway.CodeSysTemp, "mail server has a temporary failure, try again later", "down"},
		{"AUTH=XOAUTH2 SASL-IR", "BAD what?", gateway.CodeSysTemp, "mail server refused, try again later", "what?"},
		{"AUTH=XOAUTH2 SASL-IR", "NO [ALERT] Too many simultaneous connections. (Failure)", gateway.CodeSysTemp, "mail server limits the use of this account, try again later", "poll less often"},
		{"AUTH=XOAUTH2 SASL-IR", "NO no", gateway.CodeSysPerm, "mail server does not let the gateway in", "may use IMAP"},
	} {
		s := newFake("x")
		s.caps = basicCaps + " " + tt.caps
		if tt.answer != "" {
			s.does(answering("AUTHENTICATE", tt.answer))
		}
		a, _ := s.adapter(t, Options{})
		_, err := a.Open(t.Context(), tokenAccount(a, "ann", "ann", &fakeTokens{last: true}))
		wantError(t, err, tt.code, tt.text, tt.cause)
	}
	for _, token := range []string{"with space", "with\x01", "with\r\n", "wíth"} {
		s := newFake("x")
		s.caps = basicCaps + " AUTH=XOAUTH2 SASL-IR"
		a, _ := s.adapter(t, Options{})
		account := account(a)
		account.Upstream = gateway.Credentials{User: "ann", Token: token}
		if _, err := a.Open(t.Context(), account); gateway.CodeOf(err) != gateway.CodeAuth || s.dialled() != 0 {
			t.Errorf("%q: %v", token, err)
		}
	}
}

// A kept connection is for the account whose authorisation it was logged in by,
// though the token has ended since, and for nobody else.
func TestKeptForTheAuthorization(t *testing.T) {
	s := newFake("x")
	s.caps = basicCaps + " AUTH=XOAUTH2 SASL-IR AUTH=PLAIN"
	s.takesToken("token-0", "")
	a, _ := s.adapter(t, Options{})
	ann, bob := &fakeTokens{authorization: "ann's"}, &fakeTokens{authorization: "bob's"}
	check := func(name string, tokens *fakeTokens, sent string) {
		t.Helper()
		s.sent()
		d, err := a.Open(t.Context(), tokenAccount(a, name, "shared@example.org", tokens))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d.Close()
		if got := s.sent(); !strings.HasPrefix(got, sent) {
			t.Errorf("%s: %q was sent, want %q", name, got, sent)
		}
	}
	check("ann", ann, "AUTHENTICATE")
	check("ann", ann, "EXAMINE")
	check("bob", bob, "AUTHENTICATE") // the same mailbox, by another authorisation
	check("ann", ann, "EXAMINE")
	check("bob", bob, "EXAMINE")
	check("eve", ann, "AUTHENTICATE") // by the same authorisation, as another account
	s.takesToken("token-7", "")
	for _, tokens := range []*fakeTokens{ann, bob} {
		tokens.change(func() { tokens.n = 7 }) // the token was refreshed meanwhile
	}
	check("ann", ann, "EXAMINE")
	ann.change(func() { ann.authorization = "ann's second" })
	check("ann", ann, "AUTHENTICATE")
	check("ann", ann, "EXAMINE")

	// Nor for a client that says it is the owner, with a password or a token.
	for _, c := range []gateway.Credentials{{User: "shared@example.org", Password: "ann's"}, {User: "shared@example.org", Token: "x"}} {
		s.sent()
		if d, err := a.Open(t.Context(), gateway.Account{Name: "ann", Adapter: a, Forwarded: true, Upstream: c}); err == nil {
			d.Close()
		}
		if got := s.sent(); strings.HasPrefix(got, "EXAMINE") {
			t.Errorf("%q was sent for a client's own credentials", got)
		}
	}
}

// Some tokens do not fit into a command line.
func TestLongToken(t *testing.T) {
	s := newFake("x")
	s.caps = basicCaps + " AUTH=XOAUTH2 SASL-IR"
	token := strings.Repeat("t", 9000)
	s.takesToken(token, "")
	a, _ := s.adapter(t, Options{})
	account := account(a)
	account.Upstream = gateway.Credentials{User: "ann", Token: token}
	d, err := a.Open(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if sent := s.sentTokens(); len(sent) != 1 || sent[0] != "XOAUTH2 " {
		t.Errorf("%.100q was sent", sent)
	}
}
