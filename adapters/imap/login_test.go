package imap

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
)

func TestLoginRefused(t *testing.T) {
	const (
		wrong     = "wrong name or password"
		own       = "mail server does not let the gateway in"
		throttled = "mail server limits the use of this account, try again later"
		failing   = "mail server has a temporary failure, try again later"
		refused   = "mail server refused, try again later"
	)
	for _, tt := range []struct {
		answer string
		own    bool // the password is the operator's
		code   gateway.Code
		text   string
		cause  string
	}{
		{"NO [AUTHENTICATIONFAILED] bad\x01 luck", false, "AUTH", wrong, `server answered NO, "AUTHENTICATIONFAILED" "bad\x01 luck"`},
		{"NO LOGIN failed.", false, "AUTH", wrong, `"LOGIN failed."`},
		{"NO [ALERT] Application-specific password required", false, "AUTH", wrong, "Application-specific"},
		{"NO [AUTHORIZATIONFAILED] no", false, "AUTH", wrong, "AUTHORIZATIONFAILED"},
		{"NO Invalid credentials, try again", false, "AUTH", wrong, "Invalid"},
		{"NO [AUTHENTICATIONFAILED] no", true, "SYS/PERM", own, `mend upstream_user or upstream_password of user "ann"`},
		{"NO no", true, "SYS/PERM", own, "mend upstream_user"},
		{"NO [UNAVAILABLE] backend is down", false, "SYS/TEMP", failing, "server's own log"},
		{"NO [INUSE] locked", false, "IN-USE", "mailbox is in use on the mail server, try again later", "locked"},
		{"NO [LIMIT] no", true, "SYS/TEMP", throttled, "poll less often"},
		{"NO [THROTTLED] no", false, "SYS/TEMP", throttled, "poll less often"},
		{"NO [ALERT] Too many simultaneous connections. (Failure)", false, "SYS/TEMP", throttled, "poll less often"},
		{"NO Secretly too many connections", false, "SYS/TEMP", throttled, "Secretly"}, // the password is "secret"
		{"NO Temporary authentication failure", false, "SYS/TEMP", failing, "server's own log"},
		{"BAD User is authenticated but not connected.", false, "SYS/TEMP", failing, "server's own log"},
		{"BAD what?", false, "SYS/TEMP", refused, `server answered BAD, "what?"`},
		{"NO [CONTACTADMIN] no", false, "SYS/PERM", "mail server asks you to contact its administrator", "no"},
		{"NO [EXPIRED] no", true, "SYS/PERM", own, "mend upstream_user"},
		{"NO [OVERQUOTA] Account exceeded command or bandwidth limits.", false, "SYS/TEMP", throttled, "OVERQUOTA"},
		{"NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded", false, "SYS/TEMP", throttled, "poll less often"},
		{"NO [EXPIRED] no", false, "AUTH", "password has expired, set a new one at the mail server", "expired"},
		{"NO [PRIVACYREQUIRED] no", false, "SYS/PERM", "mail server wants the gateway to encrypt its connection", `set tls to "starttls"`},
		{"NO " + strings.Repeat("x", 5000), false, "AUTH", wrong, `"` + strings.Repeat("x", 200) + `"`},
	} {
		t.Run(tt.answer[:min(len(tt.answer), 40)], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFake("x")
				s.does(answering("LOGIN", tt.answer))
				a, _ := s.adapter(t, Options{})
				account := account(a)
				account.Forwarded = !tt.own
				_, err := a.Open(t.Context(), account)
				wantError(t, err, tt.code, tt.text, tt.cause)
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("password is in the log: %v", err)
				}
				s.does(nil)
				time.Sleep(2 * longPause.first)
				if d, err := a.Open(t.Context(), account); err != nil {
					t.Errorf("after a refused login: %v", err)
				} else {
					d.Close()
				}
				a.Close()
				time.Sleep(time.Minute) // for LOGOUT
			})
		})
	}
}

// Some servers repeat what they refuse.
func TestPasswordRepeated(t *testing.T) {
	const password = `se"cr\et`
	for _, caps := range []string{basicCaps, basicCaps + " AUTH=PLAIN SASL-IR"} {
		for _, answer := range []string{"%s BAD Unknown command: %s", "* OK [ALERT] %[2]s\r\n%[1]s NO no", "* BYE %[2]s\r\n%[1]s NO [ALERT] %[2]s"} {
			s := newFake("x")
			s.caps = caps
			s.does(func(c *fakeConn, command string) bool {
				if strings.HasPrefix(command, "LOGIN") || strings.HasPrefix(command, "AUTHENTICATE") {
					c.send(answer, c.tag, command)
					return true
				}
				return false
			})
			a, log := s.adapter(t, Options{})
			account := account(a)
			account.Upstream.Password = password
			_, err := a.Open(t.Context(), account)
			told := fmt.Sprint(err, log)
			for _, form := range []string{password, `se\"cr\\et`, base64.StdEncoding.EncodeToString([]byte("\x00ann\x00" + password))} {
				if err == nil || strings.Contains(told, form) || strings.Contains(told, strings.Trim(strconv.Quote(form), `"`)) {
					t.Errorf("%s: %s", answer, told)
				}
			}
		}
	}
}

func TestGreeting(t *testing.T) {
	for _, tt := range []struct {
		greeting string
		code     gateway.Code
		text     string
		cause    string
	}{
		{"* BYE too busy\r\n", "SYS/TEMP", "mail server closed the connection, try again later", `"too busy"`},
		{"* BYE [UNAVAILABLE] down\r\n", "SYS/TEMP", "mail server has a temporary failure, try again later", `"UNAVAILABLE" "down"`},
		{"* BYE Too many connections from your address\r\n", "SYS/TEMP", "mail server limits the use of this account, try again later", "poll less often"},
		{"* PREAUTH [CAPABILITY IMAP4rev1] hello\r\n", "SYS/PERM", "mail server does not ask for a password", "PREAUTH"},
		{"HTTP/1.0 400 Bad Request\r\n\r\n", "SYS/TEMP", "mail server sent something that is not IMAP, try again later", "address"},
		{"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hello\r\n", "SYS/PERM", "mail server takes no password from the gateway", `set tls to "starttls"`},
	} {
		s := newFake("x")
		s.greeting = tt.greeting
		a, _ := s.adapter(t, Options{})
		_, err := a.Open(t.Context(), account(a))
		wantError(t, err, tt.code, tt.text, tt.cause)
		if !strings.Contains(tt.greeting, "LOGINDISABLED") && !strings.Contains(tt.greeting, "PREAUTH") {
			wantError(t, a.Check(t.Context()), tt.code, tt.text, tt.cause)
		}
		if n := s.seen("LOGIN") + s.seen("AUTHENTICATE"); n > 0 {
			t.Errorf("%q: a password was sent", tt.greeting)
		}
	}
}

func TestUnreachable(t *testing.T) {
	for _, tt := range []struct {
		err   error
		text  string
		cause string
	}{
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "mail server does not accept connections, try again later", "mend address"},
		{&net.DNSError{Err: "no such host", Name: "imap.example.org", IsNotFound: true}, "mail server cannot be found, try again later", "mend the host in address"},
		{&net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}, "mail server does not answer in time, try again later", "connect_timeout"},
		{&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, "mail server cannot be used now, try again later", "no route to host"},
	} {
		s := newFake("x")
		s.down = tt.err
		a, _ := s.adapter(t, Options{})
		_, err := a.Open(t.Context(), account(a))
		wantError(t, err, gateway.CodeSysTemp, tt.text, tt.cause)
		wantError(t, a.Check(t.Context()), gateway.CodeSysTemp, tt.text, tt.cause)
	}
}

// A server that falls silent, wherever it does, fails Open in time, and the
// lock is free afterwards.
func TestSilence(t *testing.T) {
	for _, prefix := range []string{"", "LOGIN", "EXAMINE", "UID FETCH"} {
		synctest.Test(t, func(t *testing.T) {
			s := newFake("x")
			if prefix == "" {
				s.greeting = " "
			} else {
				s.does(func(_ *fakeConn, command string) bool { return strings.HasPrefix(command, prefix) })
			}
			a, _ := s.adapter(t, Options{ConnectTimeout: 5 * time.Second, ResponseTimeout: 7 * time.Second})
			start := time.Now()
			_, err := a.Open(context.Background(), account(a))
			wantError(t, err, gateway.CodeSysTemp, "mail server does not answer in time, try again later", "response_timeout")
			if waited := time.Since(start); waited > 15*time.Second {
				t.Errorf("%q: waited for %v", prefix, waited)
			}
			s.mu.Lock()
			s.greeting, s.on = "", nil
			s.mu.Unlock()
			d, err := a.Open(context.Background(), account(a))
			if err != nil {
				t.Fatalf("%q: Open afterwards: %v", prefix, err)
			}
			d.Close()
		})
	}
}

func TestLoginCommand(t *testing.T) {
	plain := func(identity, user, password string) string {
		return base64.StdEncoding.EncodeToString([]byte(identity + "\x00" + user + "\x00" + password))
	}
	ann := gateway.Credentials{User: "ann", Password: "secret"}
	master := Options{MasterUser: "root", MasterPassword: "toor"}
	for _, tt := range []struct {
		name    string
		caps    string
		options Options
		creds   gateway.Credentials
		own     bool
		want    string // the command, or
		refusal string // the text for the client
	}{
		{"LOGIN", "AUTH=PLAIN SASL-IR", Options{}, ann, false, `LOGIN "ann" "secret"`, ""},
		{"LOGINDISABLED", "LOGINDISABLED AUTH=PLAIN SASL-IR", Options{}, ann, false, "AUTHENTICATE PLAIN " + plain("", "ann", "secret"), ""},
		{"lower case", "logindisabled auth=plain SASL-IR", Options{}, ann, false, "AUTHENTICATE PLAIN " + plain("", "ann", "secret"), ""},
		{"quotes", "AUTH=PLAIN SASL-IR", Options{}, gateway.Credentials{User: "ann", Password: `a "b\`}, false, "AUTHENTICATE PLAIN " + plain("", "ann", `a "b\`), ""},
		{"quotes without PLAIN", "", Options{}, gateway.Credentials{User: "ann", Password: `a "b\`}, false, `LOGIN "ann" "a \"b\\"`, ""},
		{"identity", "AUTH=PLAIN SASL-IR", Options{}, gateway.Credentials{Identity: "bob", User: "ann", Password: "secret"}, false, "AUTHENTICATE PLAIN " + plain("bob", "ann", "secret"), ""},
		{"identity without PLAIN", "", Options{}, gateway.Credentials{Identity: "bob", User: "ann", Password: "secret"}, false, "", "mail server does not let one user act as another"},
		{"master", "AUTH=PLAIN SASL-IR", master, gateway.Credentials{User: "ann"}, true, "AUTHENTICATE PLAIN " + plain("ann", "root", "toor"), ""},
		{"master without PLAIN", "", master, gateway.Credentials{User: "ann"}, true, `LOGIN "ann*root" "toor"`, ""},
		{"own password before master", "", master, ann, true, `LOGIN "ann" "secret"`, ""},
		{"client's password, never master", "", master, ann, false, `LOGIN "ann" "secret"`, ""},
		{"client without a password", "", master, gateway.Credentials{User: "ann"}, false, "", "wrong name or password"},
		{"no password at all", "", Options{}, gateway.Credentials{User: "ann"}, true, "", "gateway has no password for the mail server"},
		{"line end in a password", "AUTH=PLAIN", Options{}, gateway.Credentials{User: "ann", Password: "x\r\nA LOGOUT"}, false, "", "wrong name or password"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newFake("x")
			s.caps = strings.TrimSpace(basicCaps + " " + tt.caps)
			a, _ := s.adapter(t, tt.options)
			d, err := a.Open(t.Context(), gateway.Account{Name: "ann", Adapter: a, Forwarded: !tt.own, Upstream: tt.creds})
			if tt.refusal != "" {
				if e, ok := err.(*gateway.Error); !ok || e.Text != tt.refusal {
					t.Errorf("error is %v, want %q", err, tt.refusal)
				}
				if n := s.seen("LOGIN") + s.seen("AUTHENTICATE"); n > 0 {
					t.Error("a password was sent")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			d.Close()
			if s.seen(tt.want) != 1 {
				t.Errorf("%q was not sent; got %q", tt.want, s.commands)
			}
		})
	}
}

// Names that may lead to one mailbox share a lock.
func TestLockName(t *testing.T) {
	s := newFake("x")
	s.caps = basicCaps + " AUTH=PLAIN"
	a, _ := s.adapter(t, Options{Folders: true, MasterUser: "root", MasterPassword: "toor"})
	own := func(user string) gateway.Account {
		return gateway.Account{Name: user, Upstream: gateway.Credentials{User: user, Password: "x"}}
	}
	with := func(account gateway.Account, folder string) gateway.Account { account.Folder = folder; return account }
	ann := account(a)
	for _, tt := range []struct {
		second gateway.Account
		same   bool
	}{
		{ann, true},
		{own("Ann"), true},
		{gateway.Account{Name: "a", Upstream: gateway.Credentials{User: "ann"}}, true}, // by the master
		{gateway.Account{Name: "a", Forwarded: true, Upstream: gateway.Credentials{User: "ann*root", Password: "x"}}, true},
		{gateway.Account{Name: "a", Forwarded: true, Upstream: gateway.Credentials{Identity: "ann", User: "bob", Password: "x"}}, true},
		{with(ann, "inbox"), true},
		{with(ann, "Sent"), false},
		{own("bob"), false},
	} {
		d, err := a.Open(t.Context(), ann)
		if err != nil {
			t.Fatal(err)
		}
		conns := s.dialled()
		second, err := a.Open(t.Context(), tt.second)
		if same := gateway.CodeOf(err) == gateway.CodeInUse; same != tt.same {
			t.Errorf("%+v: %v; want in use: %v", tt.second, err, tt.same)
		}
		if tt.same && !tt.second.Forwarded && s.dialled() != conns {
			t.Errorf("%+v: the server was asked before the lock", tt.second)
		}
		if second != nil {
			second.Close()
		}
		d.Close()
	}
}

// Who does not know the password does not learn that the maildrop is in use, and
// cannot keep its owner out.
func TestLockAfterLogin(t *testing.T) {
	s := newFake("x")
	a, _ := s.adapter(t, Options{})
	d, err := a.Open(t.Context(), account(a))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s.does(func(c *fakeConn, command string) bool {
		if !strings.HasPrefix(command, "LOGIN") {
			return false
		}
		c.done("NO [AUTHENTICATIONFAILED] no")
		return true
	})
	if _, err := a.Open(t.Context(), account(a)); gateway.CodeOf(err) != gateway.CodeAuth {
		t.Errorf("a wrong password while the maildrop is in use: %v", err)
	}
}
