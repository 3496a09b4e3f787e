package imap

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
)

// open opens the mailbox with a password, and closes it.
func openWith(t *testing.T, a *Adapter, user, password string) error {
	t.Helper()
	account := account(a)
	account.Name = user
	account.Upstream = gateway.Credentials{User: user, Password: password}
	d, err := a.Open(t.Context(), account)
	if err == nil {
		d.Close()
	}
	return err
}

// users are those whose connections are kept.
func (p *kept) users() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var users []string
	for _, k := range p.conns {
		users = append(users, k.user.user)
	}
	return strings.Join(users, " ")
}

// takes lets one password in.
func (s *fakeServer) takes(password string) {
	s.does(func(c *fakeConn, command string) bool {
		if !strings.HasPrefix(command, "LOGIN") || strings.HasSuffix(command, fmt.Sprintf("%q", password)) {
			return false
		}
		c.done("NO [AUTHENTICATIONFAILED] no")
		return true
	})
}

// The next session needs no login, and sees what is new.
func TestKept(t *testing.T) {
	for caps, want := range map[string]string{"IMAP4rev1 UIDPLUS": "EXAMINE", "IMAP4rev1 UIDPLUS ESEARCH": "EXAMINE SEARCH"} {
		s := newFake("1", "two")
		s.caps = caps
		a, _ := s.adapter(t, Options{})
		s.poll(t, a).Close()
		s.sent()
		for range 3 {
			s.poll(t, a).Close()
			if got := s.sent(); got != want {
				t.Errorf("%q was sent, want %q", got, want)
			}
		}
		s.change(func(s *fakeServer) { s.add(50, "new") })
		d := s.poll(t, a)
		wantMessage(t, d, 2, "new")
		if err := d.Delete(t.Context(), []int{0}, func(int) {}); err != nil {
			t.Error(err)
		}
		d.Close()
		d = s.poll(t, a)
		wantMessage(t, d, 1, "new")
		d.Close()
		if s.dialled() != 1 {
			t.Errorf("%d connections", s.dialled())
		}
		a.Close()
		if got := s.seen("LOGOUT"); got != 1 {
			t.Errorf("%d logged out", got)
		}
		if len(a.kept.conns) != 0 {
			t.Errorf("%d are kept", len(a.kept.conns))
		}
		s.poll(t, a).Close()
	}
}

// Another password than the one that a kept connection was logged in with goes to
// the server, and whichever that takes counts.
func TestKeptForThePassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wrong = "wrong name or password"
		s := newFake("x")
		s.takes("old")
		a, _ := s.adapter(t, Options{})
		check := func(user, password, text, sent string) {
			t.Helper()
			synctest.Wait() // what is behind a refused login comes in late
			s.sent()
			err := openWith(t, a, user, password)
			switch {
			case text == "" && err != nil:
				t.Errorf("%s: %v", password, err)
			case text != "":
				wantError(t, err, gateway.CodeAuth, text, "")
			}
			if got := s.sent(); !strings.HasPrefix(got, sent) {
				t.Errorf("%s: %q was sent, want %q", password, got, sent)
			}
		}
		check("ann", "old", "", "LOGIN")
		check("ann", "old", "", "EXAMINE")
		check("ann", "new", wrong, "LOGIN")
		check("ann", "", wrong, "")
		check("ann", "OLD", wrong, "LOGIN")
		check("Ann", "old", "", "LOGIN") // the server knows whether she is another
		check("ann", "old", "", "EXAMINE")
		s.takes("new")
		check("ann", "old", "", "EXAMINE") // nobody knows
		check("ann", "new", "", "LOGIN")
		check("ann", "old", wrong, "LOGIN")
		check("ann", "new", "", "EXAMINE")

		// The one that was kept for a password goes when the server refuses that.
		if _, err := a.Open(t.Context(), account(a)); err == nil {
			t.Fatal("password of another was taken")
		}
		account := account(a)
		account.Upstream.Password = "new"
		busy, err := a.Open(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		s.takes("newest")
		check("ann", "new", wrong, "LOGIN") // the one connection is in use
		busy.Close()
		a.Close()
		time.Sleep(time.Minute) // for LOGOUT
	})
}

// Who has shown no right password does not learn that the maildrop is in use.
func TestKeptAndInUse(t *testing.T) {
	s := newFake("x")
	s.takes("secret")
	a, _ := s.adapter(t, Options{})
	first, second := s.poll(t, a), account(a)
	_, err := a.Open(t.Context(), second)
	wantError(t, err, gateway.CodeInUse, gateway.InUse(nil).(*gateway.Error).Text, "")
	// Its connection is kept, as the password was right.
	s.sent()
	_, err = a.Open(t.Context(), second)
	wantError(t, err, gateway.CodeInUse, gateway.InUse(nil).(*gateway.Error).Text, "")
	if got := s.sent(); got != "EXAMINE" {
		t.Errorf("%q was sent", got)
	}
	wantError(t, openWith(t, a, "ann", "wrong"), gateway.CodeAuth, "wrong name or password", "")
	first.Close()
	if err := openWith(t, a, "ann", "secret"); err != nil {
		t.Error(err)
	}
}

// A connection that does not live any more is replaced, and nobody notices.
func TestKeptAndLost(t *testing.T) {
	for name, on := range map[string]func(c *fakeConn, command string) bool{
		"closed": func(c *fakeConn, command string) bool {
			c.Close()
			return true
		},
		"BYE": func(c *fakeConn, command string) bool {
			c.send("* BYE idle for too long")
			c.Close()
			return true
		},
		"silent":   func(c *fakeConn, command string) bool { return true },
		"garbage":  func(c *fakeConn, command string) bool { c.send("x"); return true },
		"NO":       func(c *fakeConn, command string) bool { c.done("NO [EXPIRED] log in again"); return true },
		"BAD":      func(c *fakeConn, command string) bool { c.done("BAD what?"); return true },
		"no tag":   func(c *fakeConn, command string) bool { c.send("X OK done"); return true },
		"half way": func(c *fakeConn, command string) bool { c.send("* 1 EXISTS"); c.Close(); return true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFake("x", "y")
				a, _ := s.adapter(t, Options{})
				s.poll(t, a).Close()
				var struck atomic.Bool
				s.does(func(c *fakeConn, command string) bool {
					return strings.HasPrefix(command, "EXAMINE") && !struck.Swap(true) && on(c, command)
				})
				begun := time.Now()
				s.poll(t, a).Close()
				if took := time.Since(begun); took > keptPatience {
					t.Errorf("it took %v", took)
				}
				if s.dialled() != 2 || s.seen("LOGIN") != 2 {
					t.Errorf("%d connections, %d logins", s.dialled(), s.seen("LOGIN"))
				}
				a.Close()
				time.Sleep(time.Minute) // for LOGOUT
			})
		})
	}
}

// The time counts from the login, whatever happens meanwhile.
func TestKeptForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake("x")
		a, _ := s.adapter(t, Options{KeepConnections: Period(12 * time.Minute)})
		defer a.Close()
		for i, logins := range []int{1, 1, 1, 2, 2, 2, 3} { // each 5 minutes
			s.poll(t, a).Close()
			if got := s.seen("LOGIN"); got != logins {
				t.Errorf("after %d minutes: %d logins, want %d", 5*i, got, logins)
			}
			time.Sleep(5 * time.Minute)
		}
		if err := openWith(t, a, "bob", "secret"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Minute) // the last login of ann was 13 minutes ago
		synctest.Wait()
		if got := a.kept.users(); got != "bob" {
			t.Errorf("kept are those of %s", got)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got := s.seen("LOGOUT"); got != s.dialled() || a.kept.users() != "" {
			t.Errorf("%d of %d logged out, those of %s are kept", got, s.dialled(), a.kept.users())
		}
	})
}

func TestKeptAreBounded(t *testing.T) {
	s := newFake("x")
	a, _ := s.adapter(t, Options{MaxKeptConnections: 3})
	for i := range 5 {
		if err := openWith(t, a, fmt.Sprint("user", i), "secret"); err != nil {
			t.Fatal(err)
		}
	}
	if err := openWith(t, a, "user2", "secret"); err != nil { // now the last one used
		t.Fatal(err)
	}
	if err := openWith(t, a, "user5", "secret"); err != nil {
		t.Fatal(err)
	}
	if got := a.kept.users(); got != "user4 user2 user5" {
		t.Errorf("kept are those of %s", got)
	}
	if got := s.seen("LOGIN"); got != 6 {
		t.Errorf("%d logins", got)
	}

	// Of one user, two: here all wait for one maildrop.
	s = newFake("x")
	a, _ = s.adapter(t, Options{})
	first := s.poll(t, a)
	s.does(func(c *fakeConn, command string) bool {
		return strings.HasPrefix(command, "EXAMINE") && c.seen("LOGOUT") > 99
	})
	var opened []*keptConn
	for range 4 { // taken, so that each logs in
		if err := openWith(t, a, "ann", "secret"); gateway.CodeOf(err) != gateway.CodeInUse {
			t.Fatal(err)
		}
		opened = append(opened, a.kept.take(first.login))
	}
	for _, k := range opened {
		a.kept.put(k)
	}
	first.Close()
	if n := len(a.kept.conns); n != maxKeptPerUser {
		t.Errorf("%d are kept", n)
	}
}

func TestNoneKept(t *testing.T) {
	s := newFake("x")
	a, _ := s.adapter(t, without)
	for i := range 3 {
		s.poll(t, a).Close()
		if s.seen("LOGIN") != i+1 || len(a.kept.conns) > 0 || a.kept.expiry != nil {
			t.Errorf("%d logins, %d kept", s.seen("LOGIN"), len(a.kept.conns))
		}
	}
}

// A server that allows no more connections gets those back that are only kept.
func TestKeptMakeRoom(t *testing.T) {
	s := newFake("x")
	for _, full := range []string{"NO [LIMIT] no", "NO Too many connections"} {
		a, _ := s.adapter(t, Options{})
		for _, user := range []string{"bob", "ann"} {
			if err := openWith(t, a, user, "secret"); err != nil {
				t.Fatal(err)
			}
		}
		var before atomic.Int64 // which connections look at that still say goodbye
		before.Store(int64(s.seen("LOGOUT")))
		s.does(func(c *fakeConn, command string) bool {
			return int64(c.seen("LOGOUT")) == before.Load() && answering("LOGIN", full)(c, command)
		})
		if err := openWith(t, a, "ann", "another"); err != nil { // her own goes
			t.Error(err)
		}
		if n := s.seen("LOGOUT") - int(before.Load()); n != 1 {
			t.Errorf("%d logged out", n)
		}
		before.Store(int64(s.seen("LOGOUT")))
		if err := openWith(t, a, "eve", "secret"); err != nil { // all go
			t.Error(err)
		}
		if n := s.seen("LOGOUT") - int(before.Load()); n < 2 {
			t.Errorf("%d logged out", n)
		}
		before.Store(-1)
		a.Close()
		s.does(answering("LOGIN", full))
		wantError(t, openWith(t, a, "eve", "secret"), gateway.CodeSysTemp, throttled.text, "poll less often")
		s.does(nil)
	}
}

// What is left of a message that was not read to its end must not come later.
func TestNotKeptAmidAMessage(t *testing.T) {
	s := newFake(strings.Repeat("x", 1<<20), "y")
	a, _ := s.adapter(t, Options{})
	d := s.poll(t, a)
	r, err := d.Retrieve(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	r.Read(make([]byte, 10))
	d.Close()
	d = s.poll(t, a)
	wantMessage(t, d, 1, "y")
	d.Close()
	if s.dialled() != 2 {
		t.Errorf("%d connections", s.dialled())
	}
}

// What the server had to say of the mailbox as it was open before comes first, and
// counts for nothing.
func TestKeptHasOldNews(t *testing.T) {
	for _, news := range []string{
		"* 99 EXISTS", "* 0 EXISTS", "* 1 EXPUNGE\r\n* 1 EXISTS", "* 1 FETCH (UID 10 FLAGS (\\Seen))", "* OK [UIDNEXT 999] .",
		"* OK [UIDVALIDITY 1] .\r\n* OK [HIGHESTMODSEQ 1] .", "* 99 EXISTS\r\n* OK [HIGHESTMODSEQ 1] .\r\n* OK [CLOSED] .",
	} {
		s := newFake("1", "two")
		s.modSeq = 7
		a, _ := s.adapter(t, Options{})
		s.poll(t, a).Close()
		s.does(func(c *fakeConn, command string) bool {
			if strings.HasPrefix(command, "EXAMINE") {
				c.send("%s", news)
			}
			return false
		})
		s.sent()
		s.poll(t, a).Close()
		if got := s.sent(); got != "EXAMINE" {
			t.Errorf("%q: %q was sent", news, got)
		}
		s.change(func(s *fakeServer) { s.uidNext = 21; s.remove(20) })
		s.poll(t, a).Close()
	}
}

func TestKeptWithFolders(t *testing.T) {
	s := newFake("x")
	a, _ := s.adapter(t, Options{Folders: true})
	open := func(folder, want string) {
		t.Helper()
		account := account(a)
		account.Folder = folder
		s.sent()
		d, err := a.Open(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		if got := s.sent(); got != want {
			t.Errorf("%q: %q was sent, want %q", folder, got, want)
		}
	}
	open("", "LOGIN CAPABILITY EXAMINE FETCH 1:*")
	open("Sent", "CAPABILITY LIST EXAMINE FETCH 1:*")
	open("Sent", "EXAMINE")
	open("", "EXAMINE")
	open("Sent", "EXAMINE") // remembered with the listing
	s.does(answering("EXAMINE \"Sent", "NO gone"))
	account := account(a)
	account.Folder = "Sent"
	_, err := a.Open(t.Context(), account)
	wantError(t, err, gateway.CodeSysPerm, "no such folder", "gone")
}

// A folder that has another name on the server by now is looked for again.
func TestFolderRenamed(t *testing.T) {
	for _, o := range []Options{{Folders: true}, {Folders: true, KeepConnections: Never}} {
		for _, stepwise := range []bool{false, true} {
			s := newFake("x")
			name := "a.b"
			s.does(func(c *fakeConn, command string) bool {
				return strings.HasPrefix(command, "LIST") && name == "a/b" && answering("LIST", `* LIST () "/" ""`+"\nOK")(c, command) ||
					strings.HasPrefix(command, "EXAMINE") && !strings.HasSuffix(command, `"`+name+`"`) && answering("EXAMINE", "NO no such mailbox")(c, command)
			})
			a, _ := s.adapter(t, o)
			a.stepwise.Store(stepwise)
			account := account(a)
			account.Folder = "a/b"
			for _, name = range []string{"a.b", "a.b", "a/b", "a/b"} {
				d, err := a.Open(t.Context(), account)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if got := d.(*maildrop).mailbox; got != name {
					t.Errorf("mailbox is %s, want %s", got, name)
				}
				d.Close()
			}
		}
	}
}

// Some proxies forget what they have read behind the login.
func TestProxyThatForgets(t *testing.T) {
	for name, tt := range map[string]struct {
		on   func(c *fakeConn, command string) bool // behind LOGIN, of the same flight
		took time.Duration
	}{
		"silent": {func(c *fakeConn, command string) bool { return true }, 5 * time.Second},
		"BAD": {func(c *fakeConn, command string) bool {
			c.done("BAD one after the other, please")
			return true
		}, 0},
		"closed": {func(c *fakeConn, command string) bool { c.Close(); return true }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFake("x")
				a, log := s.adapter(t, without)
				const roundTrip = 40 * time.Millisecond
				a.link.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					nc, err := s.dial(ctx, network, address)
					return after(roundTrip, nc), err
				}
				var together atomic.Bool
				s.does(func(c *fakeConn, command string) bool {
					switch verb, _, _ := strings.Cut(command, " "); verb {
					case "LOGIN":
						c.done("OK [CAPABILITY IMAP4rev1 UIDPLUS] hello")
						together.Store(true)
						time.AfterFunc(time.Millisecond, func() { together.Store(false) })
						return true
					case "CAPABILITY", "EXAMINE":
						return together.Load() && tt.on(c, command)
					}
					return false
				})
				for i := range 2 {
					time.Sleep(time.Second)
					s.sent()
					begun := time.Now()
					d, err := a.Open(t.Context(), account(a))
					if err != nil {
						t.Fatal(err)
					}
					d.Close()
					took := time.Since(begun)
					if i == 0 {
						took -= tt.took
					}
					if took < 0 || took > 9*roundTrip {
						t.Errorf("login %d took %v", i, took)
					}
				}
				if n := strings.Count(log.String(), "takes a round trip more"); n > 1 || n == 0 && name != "closed" {
					t.Errorf("log is %s", log)
				}
				a.Close()
				time.Sleep(time.Minute) // for LOGOUT
			})
		})
	}
}
