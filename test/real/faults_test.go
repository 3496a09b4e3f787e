//go:build real

package real

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

// letters are n small messages; the removable ones are every third.
func letters(n int) (messages [][]byte) {
	for i := range n {
		subject := fmt.Sprintf("letter %d", i)
		if i%3 == 0 {
			subject += " " + removable
		}
		messages = append(messages, letter(subject, strings.Repeat("text\n", i)))
	}
	return messages
}

// TestKilled kills the gateway at random moments of sessions that read, mark
// and quit. Without QUIT nothing is removed; with it nothing but what was
// marked; and all of that, once QUIT was answered.
func TestKilled(t *testing.T) {
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			s := k.start(t)
			g := startGateway(t, s, "")
			messages := letters(30)
			s.deliver(t, "alice", messages...)
			answered, cut := 0, 0
			for round := range 24 {
				// Every third session does not come to its QUIT; of the others the
				// kill strikes from the marks on.
				wantsQuit := round%3 != 0
				var quitSent, quitAnswered bool
				done := make(chan struct{})
				delay := time.Duration(rand.Int64N(int64(30 * time.Millisecond)))
				killing := make(chan struct{})
				go func() {
					defer close(done)
					c, err := dialPOP3(g.addr())
					if err != nil {
						return
					}
					defer c.conn.Close()
					c.command("USER alice")
					if _, err := c.command("PASS %s", password); err != nil {
						return
					}
					close(killing)
					for n := 1; n <= len(messages); n++ {
						if _, err := c.command("RETR %d", n); err != nil {
							return
						}
						var b strings.Builder
						if _, err := c.body(&b); err != nil {
							return
						}
						if strings.Contains(b.String(), removable) {
							if _, err := c.command("DELE %d", n); err != nil {
								return
							}
						}
					}
					if !wantsQuit {
						c.command("STAT")
						return
					}
					quitSent = true
					_, err = c.command("QUIT")
					quitAnswered = err == nil
				}()
				select {
				case <-killing:
				case <-done:
				case <-time.After(30 * time.Second):
					t.Fatal("the session did not come to log in within 30 s")
				}
				time.Sleep(delay)
				g.kill()
				<-done
				if quitSent && !quitAnswered { // the server may still be at what it was told
					time.Sleep(500 * time.Millisecond)
				}

				after := s.stored(t, "alice")
				compare(t, "messages that are not marked", kept(after), kept(messages))
				switch {
				case quitAnswered:
					answered++
					compare(t, "store after QUIT was answered", after, kept(messages))
				case !quitSent:
					cut++
					compare(t, "store after a session without QUIT", after, messages)
				}
				if t.Failed() {
					t.Fatalf("in round %d, killed %v after the login", round, delay)
				}
				if len(after) < len(messages) {
					var marked [][]byte
					left := canonicalSet(after)
					for _, m := range messages {
						if left[string(canonical(m))] == 0 {
							marked = append(marked, m)
						}
					}
					s.deliver(t, "alice", marked...)
				}
				g.start(t)
			}
			if cut == 0 {
				t.Error("no session was cut before its QUIT: the kills came too late")
			}
			t.Logf("%d sessions ended with QUIT, %d were cut before", answered, cut)
		})
	}
}

// TestUpstreamKilled kills the IMAP server during a RETR and before QUIT, and
// runs it again. A message is whole or visibly broken, nothing is removed that
// was not answered, and no error looks like a wrong password or an empty
// maildrop.
func TestUpstreamKilled(t *testing.T) {
	outer := t // the servers outlive the subtests
	d := startDovecot(t)
	g := startGateway(t, d, "")
	big := letter("big", strings.Repeat("All work and no play makes Jack a dull boy.\n", 1<<20))
	messages := append(letters(5), big)
	d.deliver(t, "alice", messages...)

	t.Run("during RETR", func(t *testing.T) {
		c := login(t, g.addr(), "alice")
		n := 0
		for _, line := range c.lines(t, "LIST") {
			if size(t, line) > 1<<20 {
				fmt.Sscan(line, &n)
			}
		}
		c.must(t, "RETR %d", n)
		if _, err := io.CopyN(io.Discard, c.r, 1<<20); err != nil {
			t.Fatal(err)
		}
		d.kill()
		if octets, err := c.body(io.Discard); err == nil {
			t.Errorf("the message came with a final dot after %d octets, though the server was killed", octets)
		} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			t.Error("the session still hangs 60 s after the server was killed")
		}
	})

	t.Run("down", func(t *testing.T) {
		c, err := dialPOP3(g.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.conn.Close()
		c.must(t, "USER alice")
		_, err = c.command("PASS %s", password)
		if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "[SYS/TEMP]") {
			t.Errorf("login while the server is down: %v, want -ERR [SYS/TEMP]", err)
		}
	})

	d.start(t)
	t.Run("before QUIT", func(t *testing.T) {
		c := login(t, g.addr(), "alice")
		c.must(t, "DELE 1")
		c.must(t, "DELE 3")
		d.kill()
		if text, err := c.command("QUIT"); err == nil {
			t.Errorf("QUIT: +OK %s, though the server was killed", text)
		}
	})

	d.start(t)
	t.Run("between RETR and QUIT", func(t *testing.T) {
		compare(t, "store", d.stored(t, "alice"), messages)
		c := login(t, g.addr(), "alice")
		c.retrieve(t, 1)
		c.must(t, "DELE 2")
		d.kill()
		d.start(outer)
		// The gateway dials again once, and then goes on.
		c.must(t, "QUIT")
		if left := len(d.stored(t, "alice")); left != len(messages)-1 {
			t.Errorf("%d messages are left, want %d", left, len(messages)-1)
		}
	})

	c := login(t, g.addr(), "alice")
	if list := c.lines(t, "LIST"); len(list) != len(messages)-1 {
		t.Errorf("%d messages in a new session, want %d", len(list), len(messages)-1)
	}
}

// TestSilentConnections opens 300 connections that say nothing. A login beside
// them takes less than a second.
func TestSilentConnections(t *testing.T) {
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			s := k.start(t)
			g := startGateway(t, s, "[limits]\nmax_connections_per_address = 1000\n")
			s.deliver(t, "alice", letters(3)...)
			for i := range 300 {
				c, err := dialPOP3(g.addr())
				if err != nil {
					t.Fatalf("connection %d: %v", i, err)
				}
				defer c.conn.Close()
			}
			for range 3 {
				began := time.Now()
				c := login(t, g.addr(), "alice")
				if took := time.Since(began); took > time.Second {
					t.Errorf("login took %v beside 300 silent connections", took)
				}
				c.must(t, "QUIT")
			}
		})
	}
}

// TestStop ends the gateway by SIGTERM in mid-session: it exits with 0, and
// marks without QUIT remove nothing.
func TestStop(t *testing.T) {
	s := newMaildirs(t)
	g := startGateway(t, s, "")
	messages := letters(4)
	s.deliver(t, "alice", messages...)
	c := login(t, g.addr(), "alice")
	c.must(t, "DELE 1")
	if err := g.stop(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	compare(t, "store", s.stored(t, "alice"), messages)
	if log := g.log.String(); strings.Contains(log, password) {
		t.Error("the log has a password in it")
	}
}
