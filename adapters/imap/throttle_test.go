package imap

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/gateway"
)

// What servers say when they have enough, or fail for the moment.
func TestWordsOfServers(t *testing.T) {
	const limits, fails = "mail server limits the use of this account, try again later", "mail server has a temporary failure, try again later"
	for _, tt := range []struct {
		server, answer string
		text           string
		pause          pause
	}{
		{"Gmail", "NO [ALERT] Too many simultaneous connections. (Failure)", limits, longPause},
		{"Gmail", "NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)", limits, longPause},
		{"Gmail", "NO [THROTTLED] (Failure)", limits, longPause},
		{"Gmail", "NO [ALERT] Account exceeded bandwidth limits. (Failure)", limits, longPause},
		{"Gmail", "NO Lockdown in sector 4 (Failure)", limits, longPause},
		{"Gmail", "NO System Error (Failure)", fails, shortPause},
		{"Exchange", "BAD Request is throttled. Suggested Backoff Time: 89117 milliseconds", limits, longPause},
		{"Exchange", "NO Request is throttled. Suggested Backoff Time: 299910 milliseconds", limits, longPause},
		{"Exchange", "NO Server Unavailable. 15", fails, shortPause},
		{"Exchange", "BAD User is authenticated but not connected.", fails, shortPause},
		{"Exchange", "NO Server Busy. 14", fails, shortPause},
		{"Yahoo", "NO [LIMIT] LOGIN Rate limit hit.", limits, longPause},
		{"Yahoo", "NO [LIMIT] CAPABILITY Rate limit hit.", limits, longPause},
		{"Yahoo", "NO [UNAVAILABLE] UID FETCH Server error - Please try again later", fails, shortPause},
		{"Yahoo", "NO [SERVERBUG] LOGIN Server error - Please try again later", fails, shortPause},
		{"Yahoo", "NO [INUSE] Mailbox in use", "mailbox is in use on the mail server, try again later", shortPause},
		{"Dovecot", "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)", limits, longPause},
		{"Dovecot", "NO [ALERT] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)", limits, longPause},
		{"Dovecot", "NO [LIMIT] Maximum number of connections exceeded", limits, longPause},
		{"Dovecot", "NO [UNAVAILABLE] Temporary authentication failure. [mail:2026-01-01 00:00:00]", fails, shortPause},
		{"Dovecot", "NO [INUSE] Timeout while waiting for lock", "mailbox is in use on the mail server, try again later", shortPause},
		{"Cyrus", "NO Too many open connections for user", limits, longPause},
		{"iCloud", "NO [UNAVAILABLE] Temporary system error", fails, shortPause},
		{"iCloud", "NO [LIMIT] Too many connections", limits, longPause},
		{"Stalwart", "NO [LIMIT] Too many concurrent IMAP connections.", limits, longPause},
		{"Stalwart", "BAD [LIMIT] Too many requests", limits, longPause},
		{"QQ", "NO Login frequency limited", limits, longPause},
		{"Courier", "NO Connection limit reached", limits, longPause},
	} {
		for _, command := range []string{"LOGIN", "EXAMINE"} {
			s := newFake("x")
			s.does(answering(command, tt.answer))
			a, _ := s.adapter(t, Options{})
			_, err := a.Open(t.Context(), account(a))
			code := gateway.CodeSysTemp
			if strings.HasPrefix(tt.text, "mailbox is in use") {
				code = gateway.CodeInUse
			}
			wantError(t, err, code, tt.text, "server answered")
			if e, ok := errors.AsType[*pauseError](err); !ok || e.pause != tt.pause {
				t.Errorf("%s, %s: %s: the pause is %+v, want %+v", tt.server, command, tt.answer, e, tt.pause)
			}
			if a.LeftAlone() != 1 {
				t.Errorf("%s, %s: %s: the account is not left alone", tt.server, command, tt.answer)
			}
		}
	}
	for _, greeting := range []string{"* BYE Too many connections from your IP\r\n", "* BYE [UNAVAILABLE] Connection limit exceeded\r\n",
		"* BYE [ALERT] Maximum number of connections from user+IP exceeded\r\n"} {
		s := newFake("x")
		s.greeting = greeting
		a, _ := s.adapter(t, Options{})
		_, err := a.Open(t.Context(), account(a))
		wantError(t, err, gateway.CodeSysTemp, limits, "closed the connection")
		if !isThrottled(err) || a.LeftAlone() != 1 {
			t.Errorf("%s: the account is not left alone", greeting)
		}
	}
	// These are for others to mend.
	for _, answer := range []string{"NO [AUTHENTICATIONFAILED] Too many bad guesses", "NO Invalid credentials", "BAD what?",
		"NO [OVERQUOTA] Mailbox is full", "NO [ALERT] Application-specific password required"} {
		s := newFake("x")
		s.does(answering("LOGIN", answer))
		a, _ := s.adapter(t, Options{})
		if _, err := a.Open(t.Context(), account(a)); err == nil || isThrottled(err) || a.LeftAlone() != 0 {
			t.Errorf("%s: %v", answer, err)
		}
	}
}

// An account that the server refuses for a limit is left alone for a while, and
// for longer each time, until it is let in.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake("x")
		a, log := s.adapter(t, without)
		s.does(answering("LOGIN", "NO [LIMIT] Rate limit hit"))
		delay := longPause.first
		wantError(t, openWith(t, a, "ann", "secret"), gateway.CodeSysTemp, throttled.text, "Rate limit hit")
		for range 9 {
			refused, dialled := time.Now(), s.dialled()
			for {
				err := openWith(t, a, "ann", "secret")
				if s.dialled() > dialled {
					wantError(t, err, gateway.CodeSysTemp, throttled.text, "Rate limit hit")
					break
				}
				e, ok := err.(*gateway.Error)
				if !ok || e.Code != gateway.CodeSysTemp || !strings.HasPrefix(e.Text, "mail server limits the use of this account, try again in ") {
					t.Fatalf("while it is left alone: %v", err)
				}
				if err := openWith(t, a, "bob", "x"); isThrottled(err) {
					dialled++ // others are asked for
				}
				time.Sleep(time.Second)
			}
			if left := time.Since(refused); left < delay*3/4 || left > delay*5/4+time.Second {
				t.Errorf("left alone for %v, want about %v", left, delay)
			}
			delay = min(2*delay, longPause.most)
		}
		if delay != longPause.most {
			t.Errorf("it grew to %v", delay)
		}
		if !strings.Contains(log.String(), "leaving the account alone") {
			t.Errorf("log is %s", log)
		}

		// Being let in ends it.
		s.does(nil)
		time.Sleep(longPause.most * 5 / 4)
		if err := openWith(t, a, "ann", "secret"); err != nil {
			t.Fatal(err)
		}
		s.does(answering("LOGIN", "NO [LIMIT] no"))
		openWith(t, a, "ann", "secret")
		time.Sleep(longPause.first * 5 / 4)
		s.does(nil)
		if err := openWith(t, a, "ann", "secret"); err != nil {
			t.Error(err)
		}
		a.Close()
		time.Sleep(time.Minute) // for LOGOUT
	})
}

// Nobody without a password keeps the owner out, and what a session learns that
// was let in is true for all.
func TestBackOffOfAnAttacker(t *testing.T) {
	s := newFake("x")
	a, _ := s.adapter(t, without)
	s.does(func(c *fakeConn, command string) bool {
		return !strings.HasSuffix(command, `"secret"`) && answering("LOGIN", "NO [LIMIT] too many login failures")(c, command)
	})
	for i := range 3 {
		wantError(t, openWith(t, a, "ann", fmt.Sprint("guess", i)), gateway.CodeSysTemp, throttled.text, "failures")
	}
	if err := openWith(t, a, "ann", "secret"); err != nil {
		t.Errorf("the owner is kept out: %v", err)
	}
	s.does(answering("EXAMINE", "NO [LIMIT] no"))
	if err := openWith(t, a, "ann", "secret"); !isThrottled(err) {
		t.Error(err)
	}
	dialled := s.dialled()
	for _, password := range []string{"secret", "guess"} {
		if err := openWith(t, a, "Ann", password); gateway.CodeOf(err) != gateway.CodeSysTemp || s.dialled() != dialled {
			t.Errorf("%s: %v, %d connections more", password, err, s.dialled()-dialled)
		}
	}
}

// Exchange says how long it wants to be left alone.
func TestSuggestedPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake("x")
		a, _ := s.adapter(t, without)
		s.does(once(answering("LOGIN", "BAD Request is throttled. Suggested Backoff Time: 299910 milliseconds")))
		openWith(t, a, "ann", "secret")
		time.Sleep(299 * time.Second)
		err := openWith(t, a, "ann", "secret")
		if e, ok := err.(*gateway.Error); !ok || e.Text != "mail server limits the use of this account, try again in a second" {
			t.Errorf("after 299 s: %v", err)
		}
		time.Sleep(time.Second)
		if err := openWith(t, a, "ann", "secret"); err != nil {
			t.Errorf("after 300 s: %v", err)
		}
		a.Close()
		time.Sleep(time.Minute) // for LOGOUT
	})
	for text, want := range map[string]time.Duration{
		"Suggested Backoff Time: 5 seconds":              5 * time.Second,
		"suggested back-off time: 1500ms":                1500 * time.Millisecond,
		"Suggested Backoff Time: 999999999 milliseconds": maxSuggestedPause,
		"Suggested Backoff Time: 9999999999 seconds":     0,
		"Suggested Backoff Time: -1 seconds":             0,
		"Suggested Backoff Time: x":                      0,
	} {
		if got := suggestedPause(fmt.Errorf("x: %w", &imap.Error{Text: text})); got != want {
			t.Errorf("%q suggests %v, want %v", text, got, want)
		}
	}
}

// A limit that is met within a session is minded by the next ones, and in that
// session nothing is dialled again.
func TestThrottledInASession(t *testing.T) {
	for name, on := range map[string]func(c *fakeConn, command string) bool{
		"NO": answering("UID FETCH", "NO [THROTTLED] no"),
		"BYE": func(c *fakeConn, command string) bool {
			if strings.HasPrefix(command, "UID FETCH") {
				c.send("* BYE [ALERT] Account exceeded command or bandwidth limits")
				c.Close()
			}
			return strings.HasPrefix(command, "UID FETCH")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFake("x", "y")
				a, _ := s.adapter(t, without)
				d := s.poll(t, a)
				s.does(on)
				_, err := d.Retrieve(t.Context(), 0, -1)
				if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Code != gateway.CodeSysTemp || !strings.HasPrefix(e.Text, "mail server limits") {
					t.Errorf("RETR: %v", err)
				}
				d.Close()
				if err := openWith(t, a, "ann", "secret"); err == nil || s.dialled() != 1 {
					t.Errorf("the next login: %v; %d connections", err, s.dialled())
				}
				time.Sleep(longPause.first * 5 / 4)
				s.does(nil)
				if err := openWith(t, a, "ann", "secret"); err != nil {
					t.Error(err)
				}
				a.Close()
				time.Sleep(time.Minute) // for LOGOUT
			})
		})
	}
	// One message that cannot be had is no reason to leave all alone.
	s := newFake("x", "y")
	a, _ := s.adapter(t, without)
	d := s.poll(t, a)
	s.does(answering("UID FETCH 10 ", "NO [UNAVAILABLE] UID FETCH Server error - Please try again later"))
	_, err := d.Retrieve(t.Context(), 0, -1)
	wantError(t, err, gateway.CodeSysTemp, failing.text, "Server error")
	wantMessage(t, d, 1, "y")
	d.Close()
	s.poll(t, a).Close()
}

// Sessions that began together are refused together, which counts once.
func TestBackOffOfManySessions(t *testing.T) {
	var b backoffs
	err := &gateway.Error{Code: gateway.CodeSysTemp, Text: throttled.text, Err: &pauseError{longPause, 0, errors.New("no")}}
	synctest.Test(t, func(t *testing.T) {
		for i := range 5 {
			if d := b.note("ann", err); (d > 0) != (i == 0) {
				t.Errorf("refusal %d: %v", i, d)
			}
		}
		time.Sleep(longPause.first * 5 / 4)
		if d := b.note("ann", err); d < 2*longPause.first*3/4 || d > 2*longPause.first*5/4 {
			t.Errorf("the second pause is %v", d)
		}
		// A bounded number of accounts; those that are over go first.
		for i := range maxBackoffs + 100 {
			b.note(fmt.Sprint("user", i), err)
			time.Sleep(time.Millisecond)
		}
		if len(b.accounts) != maxBackoffs {
			t.Errorf("%d accounts are remembered", len(b.accounts))
		}
		if b.check(fmt.Sprint("user", maxBackoffs+99)) == nil {
			t.Error("the last one is not")
		}
	})
	if b.note("ann", errors.New("x")) != 0 || b.note("ann", gateway.Refused(nil)) != 0 {
		t.Error("other errors are noted")
	}
}
