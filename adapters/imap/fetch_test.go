package imap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"pop3gw/gateway"
	"pop3gw/gateway/wire"
)

// read reads message i to its end.
func read(t testing.TB, d gateway.Maildrop, i, lines int) (string, error) {
	t.Helper()
	r, err := d.Retrieve(t.Context(), i, lines)
	if err != nil {
		return "", err
	}
	raw, err := io.ReadAll(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return string(raw), err
}

func wantMessage(t testing.TB, d gateway.Maildrop, i int, want string) {
	t.Helper()
	if got, err := read(t, d, i, -1); err != nil || got != want {
		t.Errorf("message %d is %.40q, %v; want %.40q", i, got, err, want)
	}
}

func TestRetrieveFails(t *testing.T) {
	const gone = "message was removed by another program"
	for _, tt := range []struct {
		name    string
		on      func(*fakeConn, string) bool
		gone    bool
		text    string // of the error of Retrieve, or
		reading bool   // of that of reading
	}{
		{"NIL", answering("UID FETCH 10", "* 1 FETCH (UID 10 BODY[] NIL)\nOK"), true, gone, false},
		{"expunged", answering("UID FETCH 10", "OK"), true, gone, false},
		{"expunged and told", answering("UID FETCH 10", "* 1 EXPUNGE\nOK"), true, gone, false},
		{"expunged and refused", answering("UID FETCH 10", "NO [EXPUNGEISSUED] gone"), true, gone, false},
		{"refused", answering("UID FETCH 10", "NO [SERVERBUG] Internal error"), false, "mail server has a temporary failure, try again later", false},
		{"another message", answering("UID FETCH 10", "* 2 FETCH (UID 20 BODY[] {3}\ntwo)\nOK"), true, gone, false},
		{"truncated", func(c *fakeConn, command string) bool {
			if !strings.HasPrefix(command, "UID FETCH 10") {
				return false
			}
			c.send("* 1 FETCH (UID 10 BODY[] {1000}\r\nhalf")
			c.Close()
			return true
		}, false, "mail server closed the connection, try again later", true},
		{"literal too short", answering("UID FETCH 10", "* 1 FETCH (UID 10 BODY[] {2}\none)\nOK"), false, "mail server sent something that is not IMAP, try again later", true},
		{"refused behind the body", answering("UID FETCH 10", "* 1 FETCH (UID 10 BODY[] {3}\none)\nNO failed"), false, "mail server refused, try again later", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newFake("one", "two")
			d := s.open(t, Options{})
			s.does(tt.on)
			r, err := d.Retrieve(t.Context(), 0, -1)
			if tt.reading {
				if err != nil {
					t.Fatal(err)
				}
				if _, err = io.ReadAll(r); err == nil {
					t.Error("a broken message looks complete")
				}
				if r.Close() == nil {
					t.Error("Close says that a broken message is complete")
				}
			}
			if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Text != tt.text || errors.Is(err, gateway.ErrGone) != tt.gone {
				t.Errorf("error is %v, want %q", err, tt.text)
			}
			s.does(nil)
			wantMessage(t, d, 1, "two")
		})
	}
}

// RFC822.SIZE may be wrong: the message is what the body is.
func TestSizeLies(t *testing.T) {
	long := strings.Repeat("line\r\n", 20000)
	for _, size := range []int{1, 1 << 20} {
		s := newFake("one", long)
		s.messages[0].size, s.messages[1].size = size, size
		d := s.open(t, Options{})
		wantMessage(t, d, 0, "one")
		for _, lines := range []int{0, 5, 19999, 20001, 1 << 30} {
			if got, err := read(t, d, 1, lines); err != nil || got != long {
				t.Errorf("size %d, %d lines: %d octets, %v", size, lines, len(got), err)
			}
		}
	}
}

// TOP of a large message gets no more than it needs.
func TestTopInPieces(t *testing.T) {
	header := "Subject: x\r\n" + strings.Repeat("X-Header: filler\r\n", 3000) + "\r\n" // 54 KB
	whole := header + strings.Repeat("line\r\n", 1<<20)
	for _, tt := range []struct {
		name   string
		lines  int
		on     func(*fakeConn, string) bool
		pieces int
		octets int // at most
	}{
		{"header", 0, nil, 1, 60 << 10},
		{"one line", 1, nil, 2, 80 << 10},
		{"some lines", 1000, nil, 2, 80 << 10},
		{"many lines", 20000, nil, 3, 400 << 10},
		{"partial ignored", 1, func(c *fakeConn, command string) bool {
			if strings.HasPrefix(command, "UID FETCH 10") {
				c.answer("UID FETCH 10 (UID BODY.PEEK[])")
				return true
			}
			return false
		}, 1, len(whole)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newFake(whole, "two")
			d := s.open(t, Options{})
			s.does(tt.on)
			r, err := d.Retrieve(t.Context(), 0, tt.lines)
			if err != nil {
				t.Fatal(err)
			}
			var got, want bytes.Buffer
			body := wire.Body{Lines: tt.lines}
			if _, err := body.Copy(&got, r); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			body.Copy(&want, strings.NewReader(whole))
			if !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Errorf("TOP has %d octets, want %d", got.Len(), want.Len())
			}
			if n := s.seen("UID FETCH 10 "); n != tt.pieces {
				t.Errorf("%d pieces, want %d: %q", n, tt.pieces, s.commands)
			}
			wantMessage(t, d, 1, "two")
		})
	}
	// Pieces that end where the message does.
	s := newFake(strings.Repeat("x", firstPiece+4*firstPiece))
	d := s.open(t, Options{})
	if got, err := read(t, d, 0, 1); err != nil || got != s.messages[0].raw {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

// A message that is given up may cost the connection; the session goes on.
func TestAbandoned(t *testing.T) {
	s := newFake(strings.Repeat("0123456789abcde\n", 1<<20), "two")
	d := s.open(t, Options{})
	for range 3 {
		r, err := d.Retrieve(t.Context(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Retrieve(t.Context(), 1, -1); err == nil {
			t.Error("two messages are open")
		}
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		wantMessage(t, d, 1, "two")
	}
	// Closing the maildrop with a message open ends the connection.
	if _, err := d.Retrieve(t.Context(), 0, -1); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestRetrieveCancelled(t *testing.T) {
	s := newFake("one", "two")
	d := s.open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	s.does(func(c *fakeConn, command string) bool {
		if strings.HasPrefix(command, "UID FETCH") {
			cancel()
			return true
		}
		return false
	})
	if _, err := d.Retrieve(ctx, 0, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	s.does(nil)
	wantMessage(t, d, 1, "two")
}

func TestReconnect(t *testing.T) {
	s := newFake("one", "two")
	d := s.open(t, Options{})
	drop := func() { s.does(once(dropping("UID FETCH"))) }
	drop()
	wantMessage(t, d, 0, "one")
	drop()
	wantMessage(t, d, 1, "two")
	if s.dialled() != 3 {
		t.Errorf("%d connections, want 3", s.dialled())
	}
	// Once for each command, not for ever.
	s.does(dropping("UID FETCH"))
	_, err := d.Retrieve(t.Context(), 0, -1)
	wantError(t, err, gateway.CodeSysTemp, "mail server closed the connection, try again later", "fetching a message")
	if s.dialled() != 4 {
		t.Errorf("%d connections, want 4", s.dialled())
	}
	s.does(nil)
	s.mu.Lock()
	s.uidValidity++
	s.mu.Unlock()
	for range 2 {
		_, err = d.Retrieve(t.Context(), 0, -1)
		wantError(t, err, gateway.CodeSysTemp, "mailbox was replaced on the mail server, log in again", "was 2748 and is 2749")
	}
	err = d.Delete(t.Context(), []int{0, 1}, func(i int) { t.Errorf("removed(%d)", i) })
	wantError(t, err, gateway.CodeSysTemp, "mailbox was replaced on the mail server, log in again", "no message was removed")
	if s.seen("UID STORE") > 0 || len(s.left()) != 2 {
		t.Error("a message was removed from another mailbox")
	}
}
