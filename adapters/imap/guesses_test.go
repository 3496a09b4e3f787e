//go:build !race

// The race detector of Go 1.26 crashes where many timers with functions fire in a
// synctest bubble. test/run has a step for this file.

package imap

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// forwarding is Accounts whose passwords the server checks.
type forwarding struct{ *Adapter }

func (f forwarding) Login(_ context.Context, c gateway.Credentials) (gateway.Account, error) {
	return gateway.Account{Name: c.User, Adapter: f.Adapter, Forwarded: true, Upstream: c}, nil
}

// logIn connects to a gateway from an address, logs in and out, and returns the
// answer and how long it took.
func logIn(t *testing.T, l *maildroptest.Listener, from, user, password string) (answer string, took time.Duration) {
	nc, err := l.Dial()
	if err != nil {
		t.Error(err)
		return "", 0
	}
	defer nc.Close()
	began := time.Now()
	fmt.Fprintf(nc, "PROXY TCP4 %s 192.0.2.1 1 110\r\nUSER %s\r\nPASS %s\r\n", from, user, password)
	in := bufio.NewReader(nc)
	for range 3 { // the greeting, and that to USER
		answer, _ = in.ReadString('\n')
	}
	took = time.Since(began)
	io.WriteString(nc, "QUIT\r\n")
	io.Copy(io.Discard, in)
	return strings.TrimSpace(answer), took
}

// Where the server checks the passwords, and takes two seconds to refuse one, those
// who guess keep nobody out, from whom their connections are taken neither.
func TestLoginAmongGuesses(t *testing.T) {
	for _, tt := range []struct {
		about string
		names int // that are guessed at
		most  int // guesses at a time
		o     Options
	}{
		{"one name", 1, 8, Options{}},
		{"many names", 50, maxDoubtful, Options{}},
		{"many names, and few connections", 50, 9, Options{MaxConnections: 20}},
	} {
		t.Run(tt.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFake("x")
				s.does(func(c *fakeConn, command string) bool {
					if !strings.Contains(command, `"guess`) {
						return false
					}
					time.Sleep(2 * time.Second)
					c.done("NO [AUTHENTICATIONFAILED] no")
					return true
				})
				a, _ := s.adapter(t, tt.o)
				server := &gateway.Server{Accounts: forwarding{a}, Log: slog.New(slog.DiscardHandler)}
				l := maildroptest.NewListener()
				go server.Serve(l, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways,
					ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
				want := func(about, from, user string) {
					t.Helper()
					if answer, took := logIn(t, l, from, user, "secret"); !strings.HasPrefix(answer, "+OK") || took > time.Second {
						t.Errorf("%s: %q after %v", about, answer, took)
					}
				}
				want("before the attack", "203.0.113.1", "name0")
				dialled := s.dialled()

				var over atomic.Bool
				var attackers sync.WaitGroup
				for i := range 100 {
					for k := range 3 {
						attackers.Go(func() {
							for n := 0; !over.Load(); n++ {
								logIn(t, l, fmt.Sprint("198.51.100.", i), fmt.Sprint("name", (i+n)%tt.names), fmt.Sprint("guess", k, n))
								time.Sleep(time.Millisecond)
							}
						})
					}
				}
				time.Sleep(3 * time.Second) // by then all have come, and most have failed
				most := 0
				for i := range 20 {
					want("by a connection that was kept", "203.0.113.1", "name0")
					a.kept.accepted(login{Credentials: gateway.Credentials{User: "name0"}}) // as one with another password
					want("who has been there before", "203.0.113.1", "name0")
					want("who comes for the first time", fmt.Sprint("203.0.113.", 2+i), fmt.Sprint("name", i%tt.names))
					time.Sleep(time.Second)
					a.server.mu.Lock()
					most = max(most, a.server.unproven)
					a.server.mu.Unlock()
				}
				if s.dialled() < dialled+100 {
					t.Errorf("%d connections: this was no attack", s.dialled()-dialled)
				}
				if most != tt.most {
					t.Errorf("%d guesses at a time, want %d", most, tt.most)
				}
				over.Store(true)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				server.Shutdown(ctx)
				attackers.Wait()
				a.Close()
				time.Sleep(time.Minute)
				if a.server.unproven != 0 || len(a.server.lines) != 0 {
					t.Errorf("left are %d, %v", a.server.unproven, a.server.lines)
				}
			})
		})
	}
}
