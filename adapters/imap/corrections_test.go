package imap

import (
	"testing"

	"pop3gw/gateway"
)

// What RETR found out about a size, the next session says at once.
func TestCorrectSize(t *testing.T) {
	s := newFake("unterminated", "right\r\n")
	a, _ := s.adapter(t, Options{})
	open := func() *maildrop {
		t.Helper()
		d, err := a.Open(t.Context(), account(a))
		if err != nil {
			t.Fatal(err)
		}
		return d.(*maildrop)
	}
	d := open()
	if d.Size(0) != 12 {
		t.Fatalf("size is %d", d.Size(0))
	}
	var _ gateway.SizeCorrecter = d
	d.CorrectSize(0, 14)
	d.Close()
	if d = open(); d.Size(0) != 14 || d.Size(1) != 7 {
		t.Errorf("sizes are %d and %d, want 14 and 7", d.Size(0), d.Size(1))
	}
	d.Close()

	s.mu.Lock()
	s.uidValidity++
	s.mu.Unlock()
	if d = open(); d.Size(0) != 12 {
		t.Errorf("under another UIDVALIDITY the size is %d, want 12", d.Size(0))
	}
	d.Close()
}
