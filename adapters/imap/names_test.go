package imap

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"pop3gw/gateway"
	"pop3gw/gateway/state"
	"pop3gw/gateway/uidl"
)

// withBook returns an adapter that keeps its unique-ids.
func (s *fakeServer) withBook(t *testing.T, o Options) (*Adapter, *uidl.Book) {
	t.Helper()
	db, err := state.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	book := uidl.NewBook(db, slog.New(slog.DiscardHandler))
	a, _ := s.adapter(t, o)
	t.Cleanup(func() { a.Close(); db.Close() })
	a.UseBook(book)
	return a, book
}

// visit opens the mailbox, reads it all if retr, and returns the unique-ids, when
// what is to be done behind the session is done.
func visit(t *testing.T, a *Adapter, retr bool) (uids []string, err error) {
	t.Helper()
	d, err := a.Open(t.Context(), account(a))
	if err != nil {
		return nil, err
	}
	defer a.background.Wait()
	defer d.Close()
	for i := range d.Len() {
		uids = append(uids, string(d.AppendUID(nil, i)))
		if !retr {
			continue
		}
		r, err := d.Retrieve(t.Context(), i, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return uids, nil
}

func mustVisit(t *testing.T, a *Adapter, retr bool) []string {
	t.Helper()
	uids, err := visit(t, a, retr)
	if err != nil {
		t.Fatal(err)
	}
	return uids
}

func letters(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("Message-ID: <%d@example.org>\r\nX-UIDL: x%d\r\n\r\nText %d.\r\n", i, i, i))
	}
	return all
}

func TestForms(t *testing.T) {
	for _, tt := range []struct {
		form UIDL
		want string
	}{
		{"dovecot", "[0000000a00000abc 0000001400000abc]"},
		{"courier", "[UID10-2748 UID20-2748]"},
		{"cyrus", "[2748.10 2748.20]"},
		{"uw", "[00000abc0000000a 00000abc00000014]"},
		{"stalwart", "[274810 274820]"},
		{"%u", "[10 20]"},
		{"gmail", "[GmailId100a GmailId1014]"},
	} {
		s := newFake(letters(2)...)
		s.caps = basicCaps + " X-GM-EXT-1"
		a, _ := s.withBook(t, Options{UIDL: tt.form})
		for range 2 {
			if got := fmt.Sprint(mustVisit(t, a, false)); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.form, got, tt.want)
			}
		}
		asked := 0
		for _, c := range s.commands {
			if strings.Contains(c, "X-GM-MSGID") {
				asked++
			}
		}
		if want := map[UIDL]int{"gmail": 1}[tt.form]; asked != want {
			t.Errorf("%s: the server was asked %d times", tt.form, asked)
		}
	}
}

func TestGmailFormElsewhere(t *testing.T) {
	a, _ := newFake(letters(2)...).withBook(t, Options{UIDL: "gmail"})
	if _, err := visit(t, a, false); gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), `uidl = "gmail" is for Gmail alone`) {
		t.Errorf("error is %v", err)
	}
}

func TestReuseXUIDL(t *testing.T) {
	raw := append(letters(2), "Message-ID: <2@example.org>\r\n\r\nWithout.\r\n", "X-UIDL: not legal\r\n\r\n", "X-UIDL: x0\r\n\r\nA copy.\r\n")
	s := newFake(raw...)
	a, _ := s.withBook(t, Options{ReuseXUIDL: true})
	want := "[x0 x1 0000001e00000abc 0000002800000abc x0-2]"
	for range 2 {
		if got := fmt.Sprint(mustVisit(t, a, false)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	s.receive("X-UIDL: new\r\n\r\n")
	if got := fmt.Sprint(mustVisit(t, a, false)); got != strings.TrimSuffix(want, "]")+" new]" {
		t.Errorf("with one more: %s", got)
	}
}

// receive delivers a message.
func (s *fakeServer) receive(raw string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, &fakeMessage{uid: s.messages[len(s.messages)-1].uid + 10, raw: raw})
}

// renumber has the server lose its UIDs.
func (s *fakeServer) renumber() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uidValidity++
	for _, m := range s.messages {
		m.uid = 3 + m.uid/10
	}
}

func TestUIDValidityChanges(t *testing.T) {
	s := newFake(letters(20)...)
	a, _ := s.withBook(t, Options{})
	old := mustVisit(t, a, true)
	s.renumber()
	for range 2 {
		if got := mustVisit(t, a, false); fmt.Sprint(got) != fmt.Sprint(old) {
			t.Errorf("%s, want %s", got, old)
		}
	}
	headers := 0
	for _, c := range s.commands {
		if strings.Contains(c, "HEADER.FIELDS") {
			headers++
		}
	}
	if headers != 1 {
		t.Errorf("headers were asked for %d times", headers)
	}
	s.receive("Message-ID: <new>\r\n\r\n")
	if got := mustVisit(t, a, false); len(got) != 21 || fmt.Sprint(got[:20]) != fmt.Sprint(old) || got[20] != "0000002100000abd" {
		t.Errorf("with a new one: %s", got)
	}
}

func TestUnknownMailIsRefused(t *testing.T) {
	s := newFake(letters(20)...)
	a, book := s.withBook(t, Options{})
	mustVisit(t, a, false)
	s.renumber()
	for i, m := range s.messages { // it is another mailbox
		m.raw = fmt.Sprintf("Message-ID: <other%d@example.org>\r\n\r\n", i)
	}
	_, err := visit(t, a, false)
	if gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), `20 of 20 messages of user "ann"`) {
		t.Fatalf("error is %v", err)
	}
	if _, err := book.Allow(context.Background(), "ann", ""); err != nil {
		t.Fatal(err)
	}
	if got := mustVisit(t, a, false); got[0] != "0000000400000abd" {
		t.Errorf("%s", got)
	}
}

// TestMailFromBefore has mail that clients have from another server: it is listed, and
// never retrieved.
func TestMailFromBefore(t *testing.T) {
	s := newFake(letters(20)...)
	a, _ := s.withBook(t, Options{})
	old := mustVisit(t, a, false)
	s.renumber()
	if got := mustVisit(t, a, false); fmt.Sprint(got) != fmt.Sprint(old) {
		t.Errorf("%s, want %s", got, old)
	}
	// The connection that it was learned by is kept.
	before := len(s.commands)
	mustVisit(t, a, false)
	if more := s.commands[before:]; len(more) != 1 || !strings.HasPrefix(more[0], "EXAMINE") {
		t.Errorf("the next poll sent %q", more)
	}
}

// TestNamesThatNumbersDoNotMake has a mailbox numbered anew of which nothing is known,
// and whose unique-ids do not depend on that.
func TestNamesThatNumbersDoNotMake(t *testing.T) {
	for _, o := range []Options{{UIDL: "gmail"}, {ReuseXUIDL: true}} {
		s := newFake(letters(5)...)
		s.caps = basicCaps + " X-GM-EXT-1"
		a, _ := s.withBook(t, o)
		a.background.stop() // so that nothing is learned
		old := mustVisit(t, a, false)
		s.mu.Lock()
		s.uidValidity++ // the fake server makes X-GM-MSGID of the UID
		s.mu.Unlock()
		if got := mustVisit(t, a, false); fmt.Sprint(got) != fmt.Sprint(old) {
			t.Errorf("%+v: %s, want %s", o, got, old)
		}
	}
}

// TestTopToTheEnd has a client get messages by TOP, as fetchmail those it keeps.
func TestTopToTheEnd(t *testing.T) {
	s := newFake(letters(5)...)
	a, _ := s.withBook(t, Options{})
	old := mustVisit(t, a, false)
	d, err := a.Open(t.Context(), account(a))
	if err != nil {
		t.Fatal(err)
	}
	for i := range d.Len() {
		r, err := d.Retrieve(t.Context(), i, 99999999)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, r)
		r.Close()
	}
	d.Close()
	s.renumber()
	if got := mustVisit(t, a, false); fmt.Sprint(got) != fmt.Sprint(old) {
		t.Errorf("%s, want %s", got, old)
	}
}

// TestPollAsksNothingMore has the default form: the state must not cost a command.
func TestPollAsksNothingMore(t *testing.T) {
	var commands [2]string
	for i := range commands {
		s := newFake(letters(20)...)
		a, _ := s.adapter(t, Options{})
		if i == 1 {
			a, _ = s.withBook(t, Options{})
		}
		mustVisit(t, a, true)
		mustVisit(t, a, false)
		mustVisit(t, a, false)
		commands[i] = strings.Join(s.commands, "\n")
	}
	if commands[0] != commands[1] {
		t.Errorf("with a state:\n%s\nwithout:\n%s", commands[1], commands[0])
	}
}

func TestAppendUIDWithoutGarbage(t *testing.T) {
	a, _ := newFake(letters(20)...).withBook(t, Options{})
	d, err := a.Open(t.Context(), account(a))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	dst := make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() { dst = d.AppendUID(dst[:0], 7) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if !bytes.Equal(dst, []byte("0000005000000abc")) {
		t.Errorf("%s", dst)
	}
}
