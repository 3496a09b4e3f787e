package link

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"pop3gw/gateway/foldername"
)

var whole = Opening{Login: `LOGIN "ann" "x"`, Capability: true, Mailbox: "INBOX", Extent: true}

// goesOn proves that the connection is in step.
func goesOn(t *testing.T, c *Conn) {
	t.Helper()
	if err := c.Command(context.Background(), "NOOP"); err != nil {
		t.Errorf("NOOP afterwards: %v", err)
	}
}

// All is sent before anything is answered.
func TestOpen(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		login, capability := u.expect(`LOGIN "ann" "x"`), u.expect("CAPABILITY")
		examine, search := u.expect(`EXAMINE "INBOX"`), u.expect("UID SEARCH RETURN (MIN MAX COUNT) ALL")
		u.send(login, "* OK ready soon\n% ok in\n")
		u.send(capability, "* capability imap4rev1 EsEarch\n% OK\n")
		u.send(examine, "* FLAGS (\\Seen)\n* 3 exists\n* 0 RECENT\n* ok [uidvalidity 9] .\n* OK [UIDNEXT 12]\n* OK [HIGHESTMODSEQ 18446744073709551]\n% OK [read-only] done\n")
		u.send(search, "* esearch (tag \"%\") uid min 4 max 11 count 3\n% OK\n")
		u.send(u.expect("NOOP"), "% OK\n")
	})
	opened, err := c.Open(context.Background(), whole)
	if err != nil {
		t.Fatal(err)
	}
	m := Mailbox{UIDValidity: 9, UIDNext: 12, Messages: 3, Counted: true, HighestModSeq: 18446744073709551, ReadOnly: true}
	if !opened.LoggedIn || opened.Told || !opened.Selected || !opened.Searched || opened.Mailbox != m || opened.Extent == nil || *opened.Extent != (Extent{3, 4, 11}) {
		t.Errorf("got %+v", opened)
	}
	if caps := c.Capabilities(); len(caps) != 2 || !caps.Has(imap.CapESearch) {
		t.Errorf("capabilities are %v", caps)
	}
	goesOn(t, c)
}

func TestOpenTold(t *testing.T) {
	for _, answer := range []string{"% OK [CAPABILITY IMAP4rev2] in\n", "* CAPABILITY IMAP4rev2\n% OK in\n", "* OK [CAPABILITY IMAP4REV2 a(b c\\d] .\n% OK in\n"} {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", greeting)
			u.send(u.expect("LOGIN"), answer)
			u.send(u.expect("NOOP"), "% OK\n")
		})
		opened, err := c.Open(context.Background(), Opening{Login: "LOGIN ann x"})
		if caps := c.Capabilities(); err != nil || !opened.Told || !caps.Has(imap.CapESearch) || len(caps) != 1 {
			t.Errorf("%q: %+v, %v, %v", answer, opened, caps, err)
		}
		goesOn(t, c)
	}
}

func TestOpenRefused(t *testing.T) {
	for _, tt := range []struct {
		answers []string // of LOGIN, EXAMINE and SEARCH
		login   error
		selects error
		alive   bool
	}{
		{[]string{"% NO [authenticationfailed] no\n", "% BAD\n", "% BAD\n"}, &imap.Error{Type: "NO", Code: "AUTHENTICATIONFAILED", Text: "no"}, nil, false},
		{[]string{"% BAD no\n", "% BAD\n", "% BAD\n"}, &imap.Error{Type: "BAD", Text: "no"}, nil, false},
		{[]string{"% OK\n", "% NO [NONEXISTENT] none\n", "% BAD what?\n"}, nil, &imap.Error{Type: "NO", Code: "NONEXISTENT", Text: "none"}, true},
		{[]string{"% OK\n", "* 3 EXISTS\n% OK\n", "% BAD what?\n"}, nil, nil, true},
	} {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", greeting)
			for i, command := range []string{"LOGIN", "EXAMINE", "UID SEARCH"} {
				u.send(u.expect(command), tt.answers[i])
			}
			if tt.alive {
				u.send(u.expect("NOOP"), "% OK\n")
			}
			io.Copy(io.Discard, u.br)
		})
		opened, err := c.Open(context.Background(), Opening{Login: "LOGIN ann x", Mailbox: "INBOX", Extent: true})
		if err != nil {
			t.Error(err)
		}
		checkErr(t, "Login", opened.Login, tt.login)
		checkErr(t, "Select", opened.Select, tt.selects)
		if opened.LoggedIn != (tt.login == nil) || opened.Selected != tt.alive || opened.Extent != nil || (c.Err() == nil) != tt.alive {
			t.Errorf("got %+v; connection ended: %v", opened, c.Err())
		}
		if tt.alive {
			goesOn(t, c)
		}
	}
}

// What is to be known of a mailbox comes as it may.
func TestOpenOddMailboxes(t *testing.T) {
	for answer, want := range map[string]Mailbox{
		"% OK\n": {},
		"* 5 EXISTS\n* OK [UIDVALIDITY 4] .\n* OK [CLOSED] .\n* 6 EXISTS\n% OK\n":                                               {Messages: 6, Counted: true},
		"* 5 EXISTS\n* OK [UIDVALIDITY 4] .\n* 2 EXPUNGE\n* 0 EXISTS\n% OK\n":                                                   {UIDValidity: 4, Counted: true},
		"* 4294967296 EXISTS\n* OK [UIDVALIDITY 0] .\n* OK [UIDNEXT 4294967296]\n% OK":                                          {},
		"* OK [UIDVALIDITY x]\n* OK [UIDNEXT\n* OK [UIDNEXT]\n* OK [HIGHESTMODSEQ -1]\n* -1 EXISTS\n* NO [UIDVALIDITY 3]\n% OK": {},
		"* OK [UIDVALIDITY  7 ] .\n* OK [NOMODSEQ] .\n% OK [READ-WRITE]":                                                        {UIDValidity: 7},
	} {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", greeting)
			u.send(u.expect("SELECT"), strings.TrimSuffix(answer, "\n")+"\n* 77 EXISTS\n")
			u.send(u.expect("NOOP"), "% OK\n")
		})
		opened, err := c.Open(context.Background(), Opening{Mailbox: "x", Write: true})
		if err != nil || opened.Mailbox != want {
			t.Errorf("%q: got %+v, %v; want %+v", answer, opened.Mailbox, err, want)
		}
		goesOn(t, c)
	}
}

// A server that is merely slow is not taken for one that has forgotten.
func TestOpenProbes(t *testing.T) {
	for _, slow := range []time.Duration{probeAfter - time.Second, probeAfter + time.Second, 50 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c := dialPipe(t, Limits{}, func(u *upstream) {
				u.send("", greeting)
				u.send(u.expect("LOGIN"), "% OK\n")
				tag := u.expect("EXAMINE")
				time.Sleep(slow)
				u.send(tag, "* 3 EXISTS\n% OK\n")
				if slow > probeAfter {
					u.send(u.expect("NOOP"), "% OK\n")
				}
				u.send(u.expect("NOOP"), "% OK\n")
			})
			opened, err := c.Open(context.Background(), Opening{Login: "LOGIN ann x", Mailbox: "INBOX"})
			if err != nil || !opened.Selected || opened.Mailbox.Messages != 3 {
				t.Errorf("slow by %v: %+v, %v", slow, opened, err)
			}
			goesOn(t, c)
			c.Close()
			synctest.Wait()
		})
	}
	synctest.Test(t, func(t *testing.T) {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", greeting)
			u.send(u.expect("LOGIN"), "% OK\n")
			u.expect("EXAMINE")
			u.send(u.expect("NOOP"), "% OK\n")
			u.send(u.expect("NOOP"), "% OK\n")
		})
		begun := time.Now()
		opened, err := c.Open(context.Background(), Opening{Login: "LOGIN ann x", Mailbox: "INBOX"})
		if err != nil || !opened.LoggedIn || opened.Selected || time.Since(begun) != probeAfter {
			t.Errorf("after %v: %+v, %v", time.Since(begun), opened, err)
		}
		goesOn(t, c)
		c.Close()
		synctest.Wait()
	})
}

func TestOpenPatience(t *testing.T) {
	for _, answered := range []string{"", "* 3 EXISTS\n"} {
		synctest.Test(t, func(t *testing.T) {
			c := dialPipe(t, Limits{}, func(u *upstream) {
				u.send("", greeting)
				tag := u.expect("EXAMINE")
				u.send(tag, answered)
				time.Sleep(20 * time.Second)
				u.send(tag, "% OK\n")
			})
			begun := time.Now()
			_, err := c.Open(context.Background(), Opening{Mailbox: "INBOX", Patience: 5 * time.Second})
			if took := time.Since(begun); answered == "" && (!errors.Is(err, ErrTimeout) || took != 5*time.Second) || answered != "" && err != nil {
				t.Errorf("%q: %v after %v", answered, err, took)
			}
			c.Close()
			synctest.Wait()
		})
	}
}

func TestOpenEnded(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.expect("EXAMINE")
		u.send("", "* 3 EXISTS\n* BYE [unavailable] no more\n")
	})
	_, err := c.Open(context.Background(), Opening{Mailbox: "INBOX"})
	if bye, ok := errors.AsType[*ByeError](err); !ok || bye.Code != "UNAVAILABLE" {
		t.Errorf("error is %v", err)
	}
	_, err = c.Open(context.Background(), Opening{Mailbox: "INBOX"})
	wantErr(t, "Open", err, io.ErrUnexpectedEOF)

	for _, answer := range []string{"X1 OK\n", "F7 OK\n", "% PERHAPS\n", "* FLAGS (" + strings.Repeat("x ", 40000) + ")\n"} {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", greeting)
			u.send(u.expect("EXAMINE"), answer)
		})
		if _, err := c.Open(context.Background(), Opening{Mailbox: "INBOX"}); !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrTooLong) || c.Err() == nil {
			t.Errorf("%.20q: %v", answer, err)
		}
	}
	if !c.Idle() && c.Err() == nil {
		t.Error("a connection that ended is in use")
	}
}

// imapclient begins when the login is long over, and knows what it may do.
func TestClientAfterOpen(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.send(u.expect("LOGIN"), "% OK [CAPABILITY IMAP4rev1 MOVE UIDPLUS] in\n")
		u.send(u.expect("EXAMINE"), "* 3 EXISTS\n% OK\n")
		u.send(u.expect("UID MOVE"), "% OK\n")
		u.send(u.expect("SELECT"), "* 4 EXISTS\n% OK\n")
		u.send(u.expect("NOOP"), "% OK\n")
	})
	if _, err := c.Open(context.Background(), Opening{Login: "LOGIN ann x", Mailbox: "INBOX"}); err != nil {
		t.Fatal(err)
	}
	err := c.Do(context.Background(), func(client *imapclient.Client) error {
		_, err := client.Move(imap.UIDSetNum(1), "Trash").Wait()
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if opened, err := c.Open(context.Background(), Opening{Mailbox: "INBOX", Write: true}); err != nil || opened.Mailbox.Messages != 4 {
		t.Errorf("%+v, %v", opened, err)
	}
	if !c.Idle() {
		t.Error("connection is not idle")
	}
	inStep(t, c)
}

func TestQuote(t *testing.T) {
	for s, want := range map[string]string{"": `""`, "a b": `"a b"`, `a"b\c`: `"a\"b\\c"`, "é": "", "a\nb": "", "a\x7f": "", "a\x00": ""} {
		if got, ok := Quote(s); got != want || ok != (want != "") {
			t.Errorf("Quote(%q) = %s, %v", s, got, ok)
		}
	}
}

// The examples are of RFC 3501 §5.1.3.
func TestEncodeMailbox(t *testing.T) {
	for name, want := range map[string]string{
		"INBOX": "INBOX", "": "", "a&b": "a&-b", "&": "&-", "~peter/mail/台北/日本語": "~peter/mail/&U,BTFw-/&ZeVnLIqe-",
		"Entwürfe": "Entw&APw-rfe", "☺!": "&Jjo-!", "üß": "&APwA3w-", "😀": "&2D3eAA-", "a\tb": "a&AAk-b",
	} {
		if got := foldername.Encode(name); got != want {
			t.Errorf("foldername.Encode(%q) = %s, want %s", name, got, want)
		}
	}
}
