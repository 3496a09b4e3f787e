package link

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
)

// What imapclient alone gives up on, or loses.
func TestSelectFromOddServers(t *testing.T) {
	const plain = "* 3 EXISTS\n* OK [UIDVALIDITY 9]\n* OK [UIDNEXT 12] next\n* OK [PERMANENTFLAGS (\\Deleted)]\n"
	for _, tt := range []struct {
		name, answer string
		err          error // the connection is finished then, unless it is an *imap.Error
	}{
		{name: "plain", answer: plain + "% OK [READ-WRITE] done\n"},
		{name: "lower case", answer: "* 3 exists\n* ok [uidvalidity 9]\n* ok [uidnext 12] next\n* ok [permanentflags (\\Deleted)]\n% ok\n"},
		{name: "unknown responses", answer: "* XYZZY\n* LIST\n* VANISHED (EARLIER) 1:5\n* 7 VANISHED\n\n*\n* \n* OK\n* NO [BADCHARSET (x\n* BYEBYE {3}\n)))\n" + plain + "% OK\n", err: ErrProtocol},
		{name: "unknown responses but LIST", answer: "* XYZZY\n* VANISHED (EARLIER) 1:5\n* 7 VANISHED\n\n*\n* \n* OK\n* NO [BADCHARSET (x\n* BYEBYE {3}\n)))\n" + plain + "% OK\n"},
		{name: "bracket left open", answer: "* OK [X-CODE here it comes\n* OK [\n* OK []\n* OK [ \n* OK [UIDNEXT\n" + plain + "% OK [READ-WRITE done\n"},
		{name: "space behind the last capability", answer: "* OK [CAPABILITY IMAP4rev1  ] [ready]\n* OK [CAPABILITY ]\n* CAPABILITY IMAP4rev1 \n" + plain + "% OK [CAPABILITY IMAP4rev1 IDLE ]\n"},
		{name: "FETCH out of the blue", answer: plain + "* 1 FETCH (UID 3 FLAGS (\\Seen) X {4}\n)))))\n* 1 FETCH (BODYSTRUCTURE " + strings.Repeat("(", 60000) + "\n* 1 FETCH {3}\nabc\n% OK\n"},
		{name: "number too large", answer: plain + "* 4294967296 EXISTS\n% OK\n", err: ErrProtocol},
		{name: "NO", answer: "% NO [nonexistent] no such mailbox\n", err: &imap.Error{Type: "NO", Code: "NONEXISTENT", Text: "no such mailbox"}},
		{name: "BAD without text", answer: "% bad\n", err: &imap.Error{Type: "BAD"}},
		{name: "NO with open bracket", answer: "% NO [LIMIT wait\n", err: &imap.Error{Type: "NO", Text: "(LIMIT wait"}},
		{name: "unknown tag", answer: "X1 OK\n", err: ErrProtocol},
		{name: "tag of another command", answer: "T77 OK\n", err: ErrProtocol},
		{name: "our own tag", answer: "F1 OK\n", err: ErrProtocol},
		{name: "neither OK nor NO", answer: "% PERHAPS\n", err: ErrProtocol},
		{name: "continuation not asked for", answer: "+ go on\n% OK\n", err: ErrProtocol},
		{name: "closed", answer: plain, err: io.ErrUnexpectedEOF},
		{name: "BYE", answer: plain + "* BYE idle for too long\n", err: io.ErrUnexpectedEOF},
		{name: "literal of 2^63", answer: "* LIST () \"/\" {9223372036854775808}\n", err: ErrProtocol},
		{name: "literal too large", answer: "* LIST () \"/\" {70000}\n", err: ErrTooLong},
		{name: "many literals", answer: "* LIST (" + strings.Repeat("{30000}\n"+strings.Repeat("x", 30000), 3) + ")\n", err: ErrTooLong},
		{name: "line too long", answer: "* FLAGS (" + strings.Repeat("x ", 40000) + ")\n", err: ErrTooLong},
		{name: "lines too long together", answer: "* LIST (" + strings.Repeat(strings.Repeat("x", 30000)+"{0}\n", 3) + ")\n", err: ErrTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, _ := tt.err.(*imap.Error)
			broken := tt.err != nil && status == nil
			c := dialPipe(t, Limits{}, func(u *upstream) {
				u.send("", greeting)
				u.send(u.expect("EXAMINE INBOX"), tt.answer)
				if !broken {
					u.send(u.expect("NOOP"), "% OK\n")
				}
			})
			var got *imap.SelectData
			err := c.Do(context.Background(), func(client *imapclient.Client) (err error) {
				got, err = client.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
				return err
			})
			checkErr(t, "Do", err, tt.err)
			if broken != (c.Err() != nil) {
				t.Errorf("connection ended: %v", c.Err())
			}
			if broken {
				wantErr(t, "Do again", c.Do(context.Background(), noop), tt.err)
				return
			}
			inStep(t, c)
			if tt.err == nil && (got.UIDValidity != 9 || got.UIDNext != 12 || got.NumMessages != 3 || len(got.PermanentFlags) != 1) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestByeIsKept(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.send(u.expect("NOOP"), "% OK\n* BYE [unavailable] autologout\n")
	})
	inStep(t, c)
	for range 2 {
		var bye *ByeError
		err := c.Do(context.Background(), noop)
		if !errors.As(err, &bye) || bye.Code != "UNAVAILABLE" || bye.Text != "autologout" {
			t.Errorf("got error %v", err)
		}
	}
	_, err := c.FetchBody(context.Background(), 1, Section{})
	if err == nil || err != c.Err() {
		t.Errorf("FetchBody: %v, Err: %v", err, c.Err())
	}
}

// As the connection pool of a gateway sees it: the server said BYE, closed, and
// answers what is sent then with a reset.
func TestByeBeforeReset(t *testing.T) {
	listener := listen(t)
	go func() {
		nc, err := listener.Accept()
		if err != nil {
			return
		}
		io.WriteString(nc, "* OK [CAPABILITY IMAP4rev1] hi\r\n* BYE autologout\r\n")
		nc.Close()
	}()
	c, err := Dial(context.Background(), Options{Address: listener.Addr().String(), TLS: NoTLS})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Do(context.Background(), func(client *imapclient.Client) error {
		var first error
		for range 50 { // so that some are written after the reset
			if err := client.Noop().Wait(); first == nil {
				first = err
			}
		}
		return first
	})
	var bye *ByeError
	if !errors.As(err, &bye) {
		t.Errorf("got error %v, want the BYE", err)
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func TestOwnErrorsPass(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.line()
	})
	own := errors.New("own")
	if err := c.Do(context.Background(), func(*imapclient.Client) error { return own }); err != own {
		t.Errorf("got %v", err)
	}
	err := c.Do(context.Background(), func(client *imapclient.Client) error { noop(client); return own })
	wantErr(t, "own error", err, own)
	wantErr(t, "cause", err, io.ErrUnexpectedEOF)
}

// An answer nobody waits for is still awaited, before anything else goes on.
func TestDoAwaitsAbandonedCommands(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		login := u.expect("LOGIN")
		examine := u.expect("SELECT")
		u.send(login, "% NO [AUTHENTICATIONFAILED] wrong\n")
		u.send(examine, "% BAD not yet\n")
		u.send(u.expect("UID FETCH"), "* 1 FETCH (UID 1 RFC822.SIZE 3)\n% OK\n")
		u.send(u.expect("NOOP"), "% OK\n")
	})
	err := c.Do(context.Background(), func(client *imapclient.Client) error {
		login := client.Login("joe", "secret")
		client.Select("INBOX", nil)
		return login.Wait()
	})
	checkErr(t, "Do", err, &imap.Error{Type: "NO", Code: "AUTHENTICATIONFAILED", Text: "wrong"})
	if err := c.FetchSizes(context.Background(), "1:*", func(uint32, imap.UID, int64) error { return nil }); err != nil {
		t.Error(err)
	}
	inStep(t, c)
}

// The CAPABILITY that imapclient sends by itself meets a fetch of ours.
func TestSpontaneousCapability(t *testing.T) {
	for range 200 {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", "* OK ready\n") // no capabilities
			for {
				s := u.line()
				tag, command, _ := strings.Cut(s, " ")
				switch {
				case s == "":
					return
				case strings.HasPrefix(command, "CAPABILITY"):
					u.send(tag, "* CAPABILITY IMAP4rev1 MOVE\n% OK\n")
				case strings.HasPrefix(command, "NOOP"):
					u.send(tag, "% OK\n")
				default:
					u.send(tag, "* 1 FETCH (UID 1 BODY[] {3}\nabc)\n% OK\n")
				}
			}
		})
		inStep(t, c) // imapclient begins
		b, err := c.FetchBody(context.Background(), 1, Section{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); string(got) != "abc" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		b.Close()
		err = c.Do(context.Background(), func(client *imapclient.Client) error {
			if !client.Caps().Has(imap.CapMove) {
				t.Errorf("capabilities are %v", client.Caps())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		c.Close()
	}
}

// Responses that belong to imapclient and come during a fetch reach it.
func TestQueuedForTheLibrary(t *testing.T) {
	const notes = 40_000 // more than maxInbox octets
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.send(u.expect("SELECT"), "* 5 EXISTS\n* OK [UIDVALIDITY 1]\n% OK\n")
		u.send(u.expect("UID FETCH"), strings.Repeat("* 1 EXPUNGE\n* OK ["+strings.Repeat("x", 40)+"]\n", notes)+"* 50000 EXISTS\n* 1 FETCH (UID 1 BODY[] \"a\")\n% OK\n")
		u.send(u.expect("NOOP"), "% OK\n")
	})
	err := c.Do(context.Background(), func(client *imapclient.Client) error {
		_, err := client.Select("INBOX", nil).Wait()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.FetchBody(context.Background(), 1, Section{})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	err = c.Do(context.Background(), func(client *imapclient.Client) error {
		err := noop(client)
		if got := client.Mailbox().NumMessages; got != 50000 {
			t.Errorf("imapclient counts %d messages", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAllowLine(t *testing.T) {
	var numbers strings.Builder
	for i := range 20_000 {
		numbers.WriteString(" 10000")
		numbers.WriteByte("13579"[i%5])
	}
	for _, allow := range []bool{false, true} {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", greeting)
			u.send(u.expect("UID SEARCH"), "* SEARCH"+numbers.String()+"\n% OK\n")
		})
		if allow {
			c.AllowLine(200_000)
			c.AllowLine(10) // lowers nothing
		}
		err := c.Do(context.Background(), func(client *imapclient.Client) error {
			_, err := client.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
			return err
		})
		if allow && err != nil {
			t.Error(err)
		} else if !allow {
			wantErr(t, "Do", err, ErrTooLong)
		}
	}
}

func TestLiteralsSent(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", "* OK [CAPABILITY IMAP4rev1] hi\n")
		tag := u.expect(`LOGIN "joe" {16}`)
		u.send("", "+ go\n")
		octets := make([]byte, 16)
		io.ReadFull(u.br, octets)
		u.line()
		if string(octets) != "x\r\nT99 NOOP\r\n{9}" {
			t.Errorf("password is %q", octets)
		}
		u.send(tag, "% OK [CAPABILITY IMAP4rev1]\n")
		u.send(u.expect("NOOP"), "% OK\n")
	})
	err := c.Do(context.Background(), func(client *imapclient.Client) error {
		return client.Login("joe", "x\r\nT99 NOOP\r\n{9}").Wait()
	})
	if err != nil {
		t.Error(err)
	}
	inStep(t, c)
}

func TestAuthenticate(t *testing.T) {
	for _, ir := range []string{"", " SASL-IR"} {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", "* OK [CAPABILITY IMAP4rev1"+ir+"] hi\n")
			tag := u.expect("AUTHENTICATE PLAIN")
			if ir == "" {
				u.send("", "+ \n")
				if got := u.line(); got != "AGpvZQBzZWNyZXQ=" {
					t.Errorf("initial response is %q", got)
				}
			}
			u.send(tag, "% NO [authenticationfailed] wrong\n")
			u.send(u.expect("NOOP"), "% OK\n")
		})
		err := c.Do(context.Background(), func(client *imapclient.Client) error {
			return client.Authenticate(sasl.NewPlainClient("", "joe", "secret"))
		})
		checkErr(t, "Authenticate", err, &imap.Error{Type: "NO", Code: imap.ResponseCodeAuthenticationFailed, Text: "wrong"})
		inStep(t, c)
	}
}

func TestSent(t *testing.T) {
	const text = "T1 NOOP\r\nT2 LOGIN {5+}\r\nT3 X\n {4}\r\nT4 \r\nT5 AUTHENTICATE PLAIN\r\nT6\r\nT7dGVzdA==\r\n" +
		"T8 LIST \"\" \"{5}\"\r\nT9 SELECT {0}\r\n\r\nA1 B\r\nT12345678901234567890123456789 X\r\nT10 {x}\r\nT11 \r\n"
	want := []int64{1, 2, 5, 8, 9, 10, 11}
	for _, size := range []int{1, 2, 3, 7, len(text)} {
		var s sent
		var got []int64
		for i := 0; i < len(text); i += size {
			s.scan([]byte(text[i:min(i+size, len(text))]), func(tag int64) { got = append(got, tag) })
		}
		if len(got) != len(want) {
			t.Fatalf("in pieces of %d: got %v, want %v", size, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("in pieces of %d: got %v, want %v", size, got, want)
			}
		}
	}
}

func TestCommand(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.send(u.expect(`ID ("x-originating-ip" "192.0.2.1")`), "* ID (\"name\" {3}\nx)()\n% OK\n")
		u.send(u.expect("XYZZY"), "% BAD [x] what\n")
		u.send(u.expect("NOOP"), "% OK\n")
	})
	if err := c.Command(context.Background(), `ID ("x-originating-ip" "192.0.2.1")`); err != nil {
		t.Error(err)
	}
	checkErr(t, "Command", c.Command(context.Background(), "XYZZY"), &imap.Error{Type: "BAD", Code: "X", Text: "what"})
	if err := c.Command(context.Background(), "NOOP\r\nX LOGOUT"); err == nil || c.Err() != nil {
		t.Errorf("a command of two lines: %v, %v", err, c.Err())
	}
	inStep(t, c)
}

func TestLogout(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.send(u.expect("LOGOUT"), "* BYE see you\n% OK\n")
	})
	if err := c.Logout(context.Background()); err != nil {
		t.Error(err)
	}
	wantErr(t, "Do", c.Do(context.Background(), noop), net.ErrClosed)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Nothing keeps a connection from being closed, and nothing is left of it.
func TestCloseAtAnyTime(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, tt := range []struct {
		name string
		run  func(c *Conn) error
	}{
		{"Do", func(c *Conn) error { return c.Do(context.Background(), noop) }},
		{"Do with an open ExpungeCommand", func(c *Conn) error {
			return c.Do(context.Background(), func(client *imapclient.Client) error { return client.Expunge().Close() })
		}},
		{"FetchSizes", func(c *Conn) error {
			return c.FetchSizes(context.Background(), "1:*", func(uint32, imap.UID, int64) error { return nil })
		}},
		{"FetchBody", func(c *Conn) error { _, err := c.FetchBody(context.Background(), 1, Section{}); return err }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := make(chan struct{})
			c := dialPipe(t, Limits{}, func(u *upstream) {
				u.send("", greeting)
				u.line()
				close(asked)
				u.line()
			})
			done := make(chan error)
			go func() { done <- tt.run(c) }()
			<-asked
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			wantErr(t, "the operation", <-done, net.ErrClosed)
			wantErr(t, "Err", c.Err(), net.ErrClosed)
		})
	}
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before+1 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}
