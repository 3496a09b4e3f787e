package imap

import (
	"net/netip"
	"strings"
	"testing"
)

// The server is told who the client is, in the flight of the login and before it,
// where it has ID and the operator wants that.
func TestClientAddress(t *testing.T) {
	const id = `ID ("name" "pop3gw" "x-originating-ip" "192.0.2.7" "x-session-id" "S1")`
	for _, tt := range []struct {
		caps, password string
		send           bool
		want           string
	}{
		{basicCaps + " ID", "secret", true, "ID LOGIN CAPABILITY EXAMINE FETCH 1:*"},
		{basicCaps + " ID AUTH=PLAIN SASL-IR", "sécret", true, "ID AUTHENTICATE CAPABILITY EXAMINE FETCH 1:*"},
		{basicCaps + " ID", "sécret", true, "ID LOGIN"}, // in literals, step by step
		{basicCaps, "secret", true, "LOGIN CAPABILITY EXAMINE FETCH 1:*"},
		{basicCaps + " ID", "secret", false, "LOGIN CAPABILITY EXAMINE FETCH 1:*"},
	} {
		for _, answer := range []string{"* ID NIL\nOK", "* ID (\"name\" \"Dovecot\")\nOK", "NO", "BAD what?"} {
			s := newFake("x")
			s.caps = tt.caps
			s.does(answering("ID", answer))
			if strings.HasPrefix(tt.want, "ID LOGIN") && tt.password != "secret" {
				s.does(func(c *fakeConn, command string) bool {
					// The fake knows no literals.
					return answering("ID", answer)(c, command) || strings.HasPrefix(command, "LOGIN") && answering("LOGIN", "NO no")(c, command)
				})
			}
			a, _ := s.adapter(t, Options{SendClientAddress: tt.send})
			account := account(a)
			account.Upstream.Password = tt.password
			account.Client, account.Session = netip.MustParseAddr("::ffff:192.0.2.7"), "S1"
			d, err := a.Open(t.Context(), account)
			if err == nil {
				d.Close()
			} else if tt.want != "ID LOGIN" {
				t.Errorf("%s: %v", tt.caps, err)
			}
			if n := s.seen(id); (n == 1) != strings.HasPrefix(tt.want, "ID") {
				t.Errorf("%s: the server is told %d times; it got %q", tt.caps, n, s.commands)
			}
			if got := s.sent(); got != tt.want {
				t.Errorf("%s: %q was sent, want %q", tt.caps, got, tt.want)
			}
		}
	}
}

// A connection is not kept for a client at another address: the server takes it
// for the first one's.
func TestClientAddressOfKept(t *testing.T) {
	for _, send := range []bool{true, false} {
		s := newFake("x")
		s.caps += " ID"
		a, _ := s.adapter(t, Options{SendClientAddress: send})
		for _, address := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1", "fe80::1%eth0"} {
			account := account(a)
			account.Client = netip.MustParseAddr(address)
			d, err := a.Open(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			d.Close()
		}
		logins, told := 1, 0
		if send {
			logins, told = 3, 3
		}
		if s.seen("LOGIN") != logins || s.seen("ID (") != told {
			t.Errorf("%d logins, told %d times; want %d, %d", s.seen("LOGIN"), s.seen("ID ("), logins, told)
		}
		s.mu.Lock()
		commands := strings.Join(s.commands, "\n")
		s.mu.Unlock()
		if strings.Contains(commands, "%") {
			t.Errorf("a zone was sent: %q", commands)
		}
	}
}
