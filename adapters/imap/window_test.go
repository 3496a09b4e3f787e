package imap

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/gateway"
)

// A poll of a mailbox that has not changed does not search it for the window,
// where that can be known.
func TestWindowPoll(t *testing.T) {
	aged := &gateway.Window{MaxAge: gateway.Age(48 * time.Hour)}
	unseen := &gateway.Window{UnseenOnly: true}
	for _, tt := range []struct {
		name   string
		window *gateway.Window
		caps   string
		change func(*fakeServer)
		wait   time.Duration
		search bool // the second session searches
	}{
		{name: "age", window: aged},
		{name: "age, another day", window: aged, wait: 24 * time.Hour, search: true},
		{name: "age, new mail", window: aged, change: func(s *fakeServer) { s.messages = append(s.messages, &fakeMessage{uid: 50, raw: "new"}) }, search: true},
		{name: "age, less mail", window: aged, caps: " ESEARCH", change: func(s *fakeServer) { s.messages = s.messages[1:]; s.uidNext = 41 }},
		{name: "newest", window: &gateway.Window{MaxMessages: 2}},
		{name: "unseen", window: unseen, search: true},
		{name: "unseen, CONDSTORE", window: unseen, caps: " CONDSTORE"},
		{name: "unseen, changed flags", window: unseen, caps: " CONDSTORE", change: func(s *fakeServer) { s.modSeq++ }, search: true},
		{name: "unseen, modification sequence without CONDSTORE", window: unseen, search: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFake("one", "two", "three", "four")
				s.caps += tt.caps
				s.modSeq = 7
				s.uidNext = 41
				a, _ := s.adapter(t, Options{Policy: gateway.Policy{Window: tt.window}})
				poll := func() {
					d, err := a.Open(t.Context(), account(a))
					if err != nil {
						t.Fatal(err)
					}
					d.Close()
				}
				poll()
				first := s.seen("UID SEARCH RETURN (ALL)") + s.seen("UID SEARCH SINCE") + s.seen("UID SEARCH UNSEEN")
				if searches := tt.window.MaxMessages == 0; (first > 0) != searches {
					t.Errorf("the first session searches: %v, %q", !searches, s.commands)
				}
				s.mu.Lock()
				s.commands = nil
				if tt.change != nil {
					tt.change(s)
				}
				s.mu.Unlock()
				time.Sleep(tt.wait)
				poll()
				n := s.seen("UID SEARCH RETURN (ALL) SINCE") + s.seen("UID SEARCH RETURN (ALL) UNSEEN") + s.seen("UID SEARCH SINCE") + s.seen("UID SEARCH UNSEEN")
				if (n > 0) != tt.search {
					t.Errorf("the second session sends %q", s.commands)
				}
				a.Close()
			})
		})
	}
}

// What a window hides is in no command that removes, also as part of a range.
func TestWindowHides(t *testing.T) {
	s := newFake("one", "two", "three", "four", "five")
	for i, m := range s.messages {
		m.uid = imap.UID(i + 1)
	}
	s.messages[2].flags = []string{`\Seen`}
	d := s.open(t, Options{Policy: gateway.Policy{Window: &gateway.Window{UnseenOnly: true}}})
	if d.Len() != 4 {
		t.Fatalf("%d messages are shown", d.Len())
	}
	if _, err := remove(t, d, 0, 1, 2, 3); err != nil {
		t.Error(err)
	}
	if left := s.left(); !slices.Equal(left, []imap.UID{3}) {
		t.Errorf("left are %v", left)
	}
	d.Close()
	if known := d.adapter.memory.recall(d.key); !slices.Equal(known.messages.uids, []uint32{3}) {
		t.Errorf("remembered are %v", known.messages.uids)
	}
}

// A message is shown for its whole age, wherever the server is.
func TestFirstDay(t *testing.T) {
	now := time.Date(2026, 3, 10, 11, 0, 0, 0, time.UTC)
	for age, want := range map[gateway.Age]string{
		gateway.Age(24 * time.Hour): "2026-03-08",
		gateway.Age(time.Hour):      "2026-03-09",
	} {
		if got := firstDay(age, now).Format(time.DateOnly); got != want {
			t.Errorf("%v: since %s, want %s", time.Duration(age), got, want)
		}
	}
	if !firstDay(0, now).IsZero() {
		t.Error("no age is an age")
	}
}
