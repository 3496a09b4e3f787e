package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/account"
	"pop3gw/gateway/maildroptest"
)

// town is a server whose clients come from wherever they say.
type town struct {
	*rig
	accounts *slowAccounts
}

// slowAccounts takes a while for each login, and counts those it looks at.
type slowAccounts struct {
	anyone
	takes        time.Duration
	seen         atomic.Int32
	running, max atomic.Int32
}

func (a *slowAccounts) Login(ctx context.Context, c gateway.Credentials) (gateway.Account, error) {
	a.seen.Add(1)
	a.max.Store(max(a.max.Load(), a.running.Add(1)))
	defer a.running.Add(-1)
	time.Sleep(a.takes)
	if strings.HasPrefix(c.Password, "wrong") {
		return gateway.Account{}, gateway.Refused(nil)
	}
	return a.anyone.Login(ctx, c)
}

func newTown(t *testing.T, limits gateway.Limits) *town {
	store := memory()
	for i := range 200 {
		store.Add(fmt.Sprint("user", i))
	}
	w := &town{&rig{t: t, listener: maildroptest.NewListener(), log: new(syncBuffer)}, &slowAccounts{anyone: anyone{store}}}
	w.server = &gateway.Server{Accounts: w.accounts, Limits: limits, Log: slog.New(slog.NewTextHandler(w.log, nil))}
	go w.server.Serve(w.listener, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways,
		ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		w.server.Shutdown(ctx)
	})
	return w
}

// logIn connects from an address, logs in and out, and returns the answer and
// how long it took.
func (w *town) logIn(from, user, password string) (answer string, took time.Duration) {
	w.t.Helper()
	nc, err := w.listener.Dial()
	if err != nil {
		w.t.Error(err)
		return "", 0
	}
	defer nc.Close()
	c := &client{w.t, nc, bufio.NewReader(nc)}
	family, to := "TCP4", "192.0.2.1"
	if strings.Contains(from, ":") {
		family, to = "TCP6", "2001:db8::1"
	}
	c.send(fmt.Sprintf("PROXY %s %s %s 1 110\r\n", family, from, to))
	c.line()
	start := time.Now()
	c.send("USER " + user + "\r\nPASS " + password + "\r\n")
	c.want("+OK send PASS")
	answer = c.line()
	took = time.Since(start)
	c.send("QUIT\r\n")
	c.rest()
	return answer, took
}

func (w *town) want(answer, from, user, password string, took time.Duration) {
	w.t.Helper()
	got, after := w.logIn(from, user, password)
	if !strings.HasPrefix(got, answer) || after != took {
		w.t.Errorf("%s from %s with %s: %q after %v; want %s after %v", user, from, password, got, after, answer, took)
	}
}

const second = time.Second

// Each failure of an address, on whatever connection, doubles the time that it
// waits; who has logged in from there before, and who comes from elsewhere, does not.
func TestFailuresOfAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, gateway.Limits{})
		const attacker, other = "198.51.100.1", "203.0.113.1"
		w.want("+OK", attacker, "user1", "right", 0)
		for i, delay := range []time.Duration{second / 2, second, 2 * second, 4 * second, 8 * second, 16 * second, 30 * second, 30 * second} {
			w.want("-ERR [AUTH]", attacker, "nobody"+fmt.Sprint(i), "wrong", delay)
		}
		w.want("+OK", attacker, "user1", "right", 0)
		w.want("+OK", other, "user2", "right", 0)
		w.want("+OK", attacker, "user3", "right", 0) // as the answer was held back for so long

		// Together they wait for each other.
		for i := range 4 {
			go w.logIn(attacker, "nobody", fmt.Sprint("wrong", i))
		}
		synctest.Wait()
		w.want("-ERR [SYS/TEMP] too many logins have failed, try again later", attacker, "user4", "right", second/2)
		w.want("+OK", attacker, "user1", "right", 0)

		time.Sleep(6 * time.Hour) // and all is forgotten
		w.want("+OK", attacker, "user4", "right", 0)
		w.want("-ERR [AUTH]", attacker, "nobody", "wrong", second/2)
	})
}

// SCRAM is throttled by the name in its first message, as passwords are by theirs.
func TestFailuresBySCRAM(t *testing.T) {
	verifier, err := account.HashSCRAM([]byte("right"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := scramRig(t, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways,
			ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
			account.User{Name: "alice", Password: verifier}, account.User{Name: "bob", Password: verifier})
		const office = "198.51.100.1"
		want := func(from, user, password, answer string, took time.Duration) {
			nc, err := r.listener.Dial()
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			c := &client{t, nc, bufio.NewReader(nc)}
			c.send("PROXY TCP4 " + from + " 192.0.2.1 1 110\r\n")
			c.line()
			began := time.Now()
			if got, after := c.scram(user, password), time.Since(began); !strings.HasPrefix(got, answer) || after != took {
				t.Errorf("%s from %s with %s: %q after %v; want %s after %v", user, from, password, got, after, answer, took)
			}
			c.send("QUIT\r\n")
			c.rest()
		}
		want(office, "alice", "right", "+OK", 0)
		for _, delay := range []time.Duration{second / 2, second, 2 * second, 4 * second, 8 * second, 16 * second, 30 * second} {
			want(office, "bob", "wrong", "-ERR [AUTH]", delay)
		}
		go want(office, "bob", "wrong2", "-ERR [AUTH]", 30*second) // until then no other login is looked at, but for alice's
		time.Sleep(second)
		want(office, "alice", "right", "+OK", 0)
		want(office, "bob", "right", "+OK", 29*second)
		time.Sleep(time.Minute)
		// Another address that fails with bob's name waits for the first.
		for i := range 4 {
			want("198.51.100.2", "bob", fmt.Sprint("wrong", i), "-ERR [AUTH]", 30*second)
		}
		go want(office, "bob", "wrong3", "-ERR [AUTH]", 30*second)
		synctest.Wait()
		want("198.51.100.2", "bob", "right", "+OK", 30*second)
		time.Sleep(time.Hour)
	})
}

// An IPv6 network is one address.
func TestFailuresOfANetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, gateway.Limits{})
		for i, delay := range []time.Duration{second / 2, second, 2 * second, 4 * second} {
			w.want("-ERR [AUTH]", fmt.Sprintf("2001:db8:0:1:%x::1", i), fmt.Sprint("nobody", i), "wrong", delay)
		}
		w.want("-ERR [AUTH]", "2001:db8:0:2::1", "somebody", "wrong", second/2)
	})
}

// Many addresses that try one name have few guesses once each has failed several
// times, and its owner is not held up.
func TestFailuresOfAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, gateway.Limits{})
		const owner = "203.0.113.1"
		var ended atomic.Bool
		for i := range 8 {
			go func() {
				for n := 0; !ended.Load(); n++ {
					w.logIn(fmt.Sprintf("198.51.100.%d", i), "user1", fmt.Sprint("wrong", i, " ", n))
				}
			}()
		}
		time.Sleep(3 * time.Minute)
		w.want("+OK", owner, "user1", "right", 0)
		before := w.accounts.seen.Load()
		time.Sleep(5 * time.Minute)
		if n := w.accounts.seen.Load() - before; n > 5*60/30+1 {
			t.Errorf("%d guesses in five minutes", n)
		}
		w.want("-ERR [AUTH]", owner, "user1", "wrong", 30*second)
		w.want("+OK", owner, "user1", "right", 0)
		w.want("+OK", "203.0.113.2", "user1", "right", 0)
		ended.Store(true)
		time.Sleep(time.Hour)
	})
}

// A device with a wrong password that it sends for ever is no guesser: it does not
// slow the others at its address.
func TestSameFailureAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, gateway.Limits{})
		const office = "198.51.100.1"
		for range 100 {
			w.want("-ERR [AUTH]", office, "scanner", "wrong", second/2)
			time.Sleep(time.Minute)
			w.want("-ERR [AUTH]", office, "scanner", "wrong", second/2)
		}
		w.want("+OK", office, "user1", "right", 0)
		w.want("-ERR [AUTH]", office, "scanner", "wrong2", second/2) // the first ones are forgotten by half
	})
}

// An address cannot have many passwords looked at before the first has failed.
func TestLoginsOfAnAddressAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, gateway.Limits{})
		w.accounts.takes = time.Minute
		for i := range 50 {
			go w.logIn("198.51.100.1", fmt.Sprint("nobody", i), "wrong")
		}
		time.Sleep(2 * time.Minute)
		if n := w.accounts.max.Load(); n != 10 {
			t.Errorf("%d at a time, want 10", n)
		}
		if n := w.accounts.seen.Load(); n > 20 {
			t.Errorf("%d were looked at", n)
		}
		w.want("+OK", "203.0.113.1", "user1", "right", time.Minute)
		time.Sleep(time.Hour)
	})
}
