//go:build real

package real

import (
	"os"
	"path/filepath"
	"testing"
)

// TestClients has every client fetch, poll, fetch what is new, delete some and
// delete all, through every store.
func TestClients(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s := k.start(t)
			g := startGateway(t, s, "")
			for _, c := range clients {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					useClient(t, c, k, s, g)
				})
			}
		})
	}
}

func useClient(t *testing.T, c client, k kind, s store, g *gateway) {
	wire := startTap(t, g.addr())
	home := folder(t)
	round := 0
	// session runs the client once and returns what it delivered.
	session := func(p purpose) [][]byte {
		t.Helper()
		round++
		wire.reset()
		inbox := filepath.Join(home, "inbox", string(rune('0'+round)))
		if err := os.MkdirAll(inbox, 0o755); err != nil {
			t.Fatal(err)
		}
		c.fetch(t, session{port: wire.port, user: c.name, home: home, inbox: inbox, purpose: p})
		if wire.count("USER") == 0 && wire.count("AUTH") == 0 {
			t.Errorf("%s did not log in", c.name)
		}
		return c.received(t, inbox)
	}

	messages := octetsOf(corpus(), k.holds, c.keeps)
	s.deliver(t, c.name, messages...)
	compare(t, "first fetch", session(keep), c.expected(messages))
	compare(t, "store after the first fetch", s.stored(t, c.name), messages)
	if t.Failed() {
		return // what follows would only repeat it
	}

	// A poll of an unchanged maildrop.
	again := session(keep)
	switch c.memory {
	case unseenOnly:
		compare(t, "second fetch", again, nil)
	default:
		compare(t, "second fetch", again, c.expected(messages))
	}
	if n := wire.count("RETR"); c.memory != none && n > 0 {
		t.Errorf("second fetch: %d messages were fetched again", n)
	}

	fresh := letter("a new message", "that came later\n")
	s.deliver(t, c.name, fresh)
	messages = append(messages, fresh)
	third := session(keep)
	switch c.memory {
	case unseenOnly:
		compare(t, "fetch of a new message", third, [][]byte{fresh})
	default:
		compare(t, "fetch of a new message", third, c.expected(messages))
	}
	if n := wire.count("RETR"); c.memory != none && n != 1 {
		t.Errorf("fetch of a new message: %d messages were fetched", n)
	}

	if c.selective {
		session(removeSome)
		messages = kept(messages)
		compare(t, "store after deleting some", s.stored(t, c.name), messages)
	}

	compare(t, "fetch and delete", session(remove), c.expected(messages))
	compare(t, "store after deleting all", s.stored(t, c.name), nil)
	compare(t, "fetch from the empty maildrop", session(remove), nil)
}
