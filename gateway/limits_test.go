package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// forwarded is anyone whose store checks passwords: each must be right.
type forwarded struct{ *maildroptest.Memory }

func (f forwarded) Login(_ context.Context, c gateway.Credentials) (gateway.Account, error) {
	name, folder, _ := strings.Cut(c.User, "+")
	return gateway.Account{Name: name, Folder: folder, Adapter: f, Upstream: c, Forwarded: true}, nil
}

func (f forwarded) Open(ctx context.Context, a gateway.Account) (gateway.Maildrop, error) {
	if a.Upstream.Password != "right" && a.Upstream.Password != "new" {
		return nil, gateway.Refused(nil)
	}
	return f.Memory.Open(ctx, a)
}

// try logs in, and out again if it can, and returns the answer to PASS.
func (r *rig) try(user, password string) string {
	r.t.Helper()
	c := r.connect()
	c.send("USER " + user + "\r\nPASS " + password + "\r\n")
	c.want("+OK send PASS")
	answer := c.line()
	c.send("QUIT\r\n")
	c.rest()
	c.nc.Close()
	return answer
}

// Logins to a maildrop have a least distance from the last that succeeded, and
// only its owner learns of it (RFC 2449 §8.1.1).
func TestLoginDelay(t *testing.T) {
	for _, byStore := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := memory(sample)
			store.Add("alice+Lists")
			r := newRig(t, store, gateway.Limits{LoginDelay: 5*time.Minute - time.Millisecond})
			if byStore {
				r.server.Accounts = forwarded{store}
			}
			want := func(user, password, answer string) {
				t.Helper()
				if got := r.try(user, password); !strings.HasPrefix(got, answer) {
					t.Errorf("%s with %s, password checked by the store %v: %q, want %s", user, password, byStore, got, answer)
				}
			}
			want("alice", "wrong", "-ERR [AUTH]")
			want("alice", "right", "+OK")
			time.Sleep(time.Minute)
			want("alice", "right", "-ERR [LOGIN-DELAY] the next login may come in 240 seconds; there are 300 at least between two")
			want("alice", "wrong", "-ERR [AUTH]")
			if byStore {
				want("alice+Lists", "right", "+OK")                 // another maildrop
				want("alice", "new", "-ERR [LOGIN-DELAY] the next") // a password that the store has to check
			}
			time.Sleep(4 * time.Minute)
			want("alice", "right", "+OK")

			c := r.connect()
			c.send("CAPA\r\nQUIT\r\n")
			if got := c.rest(); !strings.Contains(got, "\r\nLOGIN-DELAY 300\r\n") {
				t.Errorf("CAPA: %q", got)
			}
		})
	}
}

// One user has a limited number of sessions, of all folders, and a place is free
// before the answer to QUIT.
func TestMaxConnectionsPerUser(t *testing.T) {
	for _, byStore := range []bool{false, true} {
		store := memory(sample)
		for _, folder := range []string{"a", "b", "c"} {
			store.Add("alice+" + folder)
		}
		store.Add("bob")
		r := newRig(t, store, gateway.Limits{MaxConnectionsPerUser: 2})
		r.server.Accounts = folders{forwarded{store}, byStore}
		first := r.logIn("alice+a")
		r.logIn("alice+b")
		for range 3 { // none is left over from what was refused
			if got := r.try("alice+c", "right"); got != "-ERR [SYS/TEMP] too many sessions of this user, try again when one has ended" {
				t.Errorf("the third session: %q", got)
			}
		}
		if got := r.try("alice+a", "right"); !strings.HasPrefix(got, "-ERR [SYS/TEMP]") && !strings.HasPrefix(got, "-ERR [IN-USE]") {
			t.Errorf("a busy maildrop: %q", got)
		}
		r.logIn("bob")
		first.send("QUIT\r\n")
		first.line()
		r.logIn("alice+c")
	}
}

// folders is forwarded, whose passwords the gateway has checked if byStore is not.
type folders struct {
	forwarded
	byStore bool
}

func (f folders) Login(ctx context.Context, c gateway.Credentials) (gateway.Account, error) {
	c.Password = "right"
	a, err := f.forwarded.Login(ctx, c)
	a.Forwarded = f.byStore
	return a, err
}

// A session ends after its time, whatever its client does, and removes nothing.
func TestMaxSession(t *testing.T) {
	big := strings.Repeat("0123456789abcdef\r\n", 100_000)
	for name, client := range map[string]func(c *client){
		"keeps asking": func(c *client) {
			for {
				if _, err := io.WriteString(c.nc, "NOOP\r\n"); err != nil {
					return
				}
				if _, err := c.in.ReadString('\n'); err != nil {
					return
				}
				time.Sleep(9 * time.Minute)
			}
		},
		"pipelines": func(c *client) {
			go io.Copy(io.Discard, c.in)
			for range 1000 {
				if _, err := io.WriteString(c.nc, strings.Repeat("NOOP\r\n", 100)); err != nil {
					return
				}
				time.Sleep(time.Minute)
			}
		},
		"reads slowly": func(c *client) {
			io.WriteString(c.nc, strings.Repeat("RETR 1\r\n", 100))
			for {
				if _, err := io.CopyN(io.Discard, c.in, 30_000); err != nil {
					return
				}
				time.Sleep(time.Minute)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory(big)
				r := newRig(t, store, gateway.Limits{MaxSession: 2 * time.Hour})
				c := r.logIn("alice")
				c.send("DELE 1\r\nRSET\r\n")
				c.line()
				c.line()
				c.nc.SetReadDeadline(time.Time{})
				start := time.Now()
				client(c)
				if took := time.Since(start); took > 2*time.Hour+20*time.Minute { // of what is on its way
					t.Errorf("it lasted for %v", took)
				}
				r.logIn("alice") // the maildrop is free
				if log := r.log.String(); !strings.Contains(log, `ended="session limit"`) {
					t.Errorf("the log:\n%s", log)
				}
				if len(store.Messages("alice")) != 1 {
					t.Error("the message is gone")
				}
			})
		})
	}
}

// A client that takes a few octets now and then does not hold its maildrop for
// long; one behind the slowest modem does.
func TestSlowReaders(t *testing.T) {
	big := strings.Repeat("0123456789abcdef\r\n", 400_000)
	for _, tt := range []struct {
		rate int // octets per second
		ends bool
	}{{0, true}, {1, true}, {90, true}, {120, false}, {1000, false}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, memory(big), gateway.Limits{})
			c := r.logIn("alice")
			c.send("RETR 1\r\n")
			c.nc.SetReadDeadline(time.Time{})
			start := time.Now()
			piece := int64(10 * tt.rate)
			for time.Since(start) < 2*time.Hour && !strings.Contains(r.log.String(), "session ended") {
				time.Sleep(10 * time.Second)
				if _, err := io.CopyN(io.Discard, c.in, piece); err != nil {
					break
				}
			}
			ended := strings.Contains(r.log.String(), `ended="client too slow"`)
			if ended != tt.ends {
				t.Errorf("%d octets per second: ended %v", tt.rate, ended)
			}
			// The buffers between the two hold 256 KB and more.
			if took := time.Since(start); tt.ends && took > 2*time.Hour-time.Minute {
				t.Errorf("%d octets per second: it took %v", tt.rate, took)
			}
		})
	}
}

// exhausted is a listener that fails as without file descriptors, for a while.
type exhausted struct {
	*maildroptest.Listener
	until  time.Time
	failed atomic.Int32
}

func (l *exhausted) Accept() (net.Conn, error) {
	if time.Now().Before(l.until) {
		l.failed.Add(1)
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// Without file descriptors the server waits, says so once, and goes on.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &exhausted{Listener: maildroptest.NewListener(), until: time.Now().Add(90 * time.Second)}
		log := new(syncBuffer)
		server := &gateway.Server{Accounts: anyone{memory(sample)}, Log: slog.New(slog.NewTextHandler(log, nil))}
		go server.Serve(l, gateway.ListenerOptions{})
		defer server.Shutdown(t.Context())
		start := time.Now()
		nc, err := l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		if line, _ := bufio.NewReader(nc).ReadString('\n'); !strings.HasPrefix(line, "+OK") {
			t.Errorf("greeting %q", line)
		}
		if took := time.Since(start); took > 92*time.Second {
			t.Errorf("it took %v", took)
		}
		if n := l.failed.Load(); n > 120 {
			t.Errorf("%d attempts in 90 s", n)
		}
		text := log.String()
		if n := strings.Count(text, "accepting connections fails"); n != 2 { // one a minute
			t.Errorf("%d lines:\n%s", n, text)
		}
		for _, want := range []string{"LimitNOFILE", "unlogged=0", "unlogged=6"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		nc.Close()
	})
}

// A full server does not fill the log as well.
func TestFullServerLogsSeldom(t *testing.T) {
	for _, limits := range []gateway.Limits{{MaxConnections: 1}, {MaxConnectionsPerAddress: 1}} {
		refusedSeldom(t, limits)
	}
}

func refusedSeldom(t *testing.T, limits gateway.Limits) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory(), limits)
		r.logIn("alice")
		for range 200 {
			nc, err := r.listener.Dial()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(nc); !strings.HasPrefix(string(got), "-ERR [SYS/TEMP] too many connections") || err != nil && !errors.Is(err, net.ErrClosed) {
				t.Fatalf("got %q, %v", got, err)
			}
			time.Sleep(time.Second / 2)
		}
		if n := strings.Count(r.log.String(), "connection refused"); n != 2 {
			t.Errorf("%d lines", n)
		}
		if want := fmt.Sprint("unlogged=", 119); !strings.Contains(r.log.String(), want) {
			t.Errorf("no %s in\n%s", want, r.log)
		}
	})
}

// Whoever opens all connections there may be, and does not log in, keeps nobody out
// for long; who has logged in stays.
func TestMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory(sample), gateway.Limits{MaxConnections: 3})
		ended := func(c *client) {
			t.Helper()
			c.nc.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := io.Copy(io.Discard, c.in); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("a connection is still there")
			}
		}
		alice := r.logIn("alice")
		idle := r.connect()
		time.Sleep(time.Second)
		guesser := r.connect()
		guesser.send("USER alice\r\nPASS wrong\r\n")
		guesser.want("+OK send PASS")
		synctest.Wait()

		first := r.connect() // in the place of the guesser
		synctest.Wait()
		ended(guesser)
		nc, err := r.listener.Dial() // nobody has been there for long
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(nc); !strings.HasPrefix(string(got), "-ERR [SYS/TEMP] too many connections") {
			t.Errorf("got %q", got)
		}
		time.Sleep(1500 * time.Millisecond)
		r.connect() // in the place of the one that has been idle for longest
		ended(idle)
		for _, c := range []*client{alice, first} {
			c.send("CAPA\r\n")
			c.want("+OK capabilities follow")
		}
		time.Sleep(time.Minute)
		if n := strings.Count(r.log.String(), `ended="made room for another"`); n != 2 {
			t.Errorf("%d made room:\n%s", n, r.log)
		}
		alice.send("QUIT\r\n")
	})
}

// Nor does whoever opens them again and again, each for less time than a client may
// take for its login.
func TestMakeRoomAmongNewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, gateway.Limits{MaxConnections: 40})
		var over atomic.Bool
		var attackers sync.WaitGroup
		for i := range 60 {
			attackers.Go(func() {
				for !over.Load() {
					nc, err := w.listener.Dial()
					if err != nil {
						t.Error(err)
						return
					}
					fmt.Fprintf(nc, "PROXY TCP4 198.51.100.%d 192.0.2.1 1 110\r\n", i%10)
					go io.Copy(io.Discard, nc)
					// No deadline: that the race detector would not bear so often here.
					time.Sleep(time.Second - time.Duration(7*i+1)*time.Millisecond)
					nc.Close()
				}
			})
		}
		time.Sleep(5 * time.Second)
		for i := range 20 {
			w.want("+OK", fmt.Sprint("203.0.113.", i), fmt.Sprint("user", i), "right", 0)
			time.Sleep(300 * time.Millisecond)
		}
		over.Store(true)
		attackers.Wait()
	})
}

// Addresses whose logins fail again and again do not take each other's places, which
// would have all of them come back at once; one that has not failed takes theirs.
func TestMakeRoomAmongThoseWhoFail(t *testing.T) {
	const max = 4
	address, _ := serveLogged(t, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways}, gateway.Limits{MaxConnections: max, MaxLoginFailures: 50})
	connect := func(from string, failures int) (*bufio.Reader, string) {
		t.Helper()
		nc := connectFrom(t, from, address, nil)
		in := bufio.NewReader(nc)
		greeting, _ := in.ReadString('\n')
		for i := range failures {
			fmt.Fprintf(nc, "USER alice%d\r\nPASS wrong\r\n", i)
			for _, want := range []string{"+OK", "-ERR [AUTH]"} {
				if answer, err := in.ReadString('\n'); !strings.HasPrefix(answer, want) {
					t.Fatalf("guess %d from %s: %q, %v", i, from, answer, err)
				}
			}
		}
		return in, greeting
	}
	for i := range max {
		connect(fmt.Sprintf("127.0.1.%d", i), 5)
	}
	const busy = "-ERR [SYS/TEMP] too many connections"
	for i := range max { // who now have a place each
		if _, greeting := connect(fmt.Sprintf("127.0.1.%d", i), 0); !strings.HasPrefix(greeting, busy) {
			t.Errorf("one who fails like the others got %q", greeting)
		}
	}
	if _, greeting := connect("127.0.2.1", 0); !strings.HasPrefix(greeting, "+OK") {
		t.Errorf("one who has not failed got %q", greeting)
	}
	worst, _ := connect("127.0.2.2", 9)
	if _, greeting := connect("127.0.1.0", 0); !strings.HasPrefix(greeting, "+OK") {
		t.Errorf("one who has failed less than another got %q", greeting)
	}
	if _, err := worst.ReadByte(); err == nil {
		t.Error("who has failed most is still there")
	}
}

// Nor do those keep an address out for long that only connect, from an address that has
// not failed.
func TestMakeRoomForWhoHasFailed(t *testing.T) {
	const max = 4
	address, _ := serveLogged(t, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways}, gateway.Limits{MaxConnections: max, MaxLoginFailures: 50})
	greeting := func(from string) string {
		line, _ := bufio.NewReader(connectFrom(t, from, address, nil)).ReadString('\n')
		return line
	}
	office := connectFrom(t, "127.0.1.1", address, nil)
	in := bufio.NewReader(office)
	in.ReadString('\n')
	for i := range 5 {
		fmt.Fprintf(office, "USER alice%d\r\nPASS wrong\r\n", i)
		in.ReadString('\n')
		in.ReadString('\n')
	}
	for range max - 1 {
		greeting("127.0.2.1")
	}
	if got := greeting("127.0.1.1"); !strings.HasPrefix(got, "-ERR [SYS/TEMP] too many connections") {
		t.Errorf("at once it got %q", got)
	}
	for until := time.Now().Add(20 * time.Second); !strings.HasPrefix(greeting("127.0.1.1"), "+OK"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("it is kept out")
		}
	}
}

// A client that goes away while its login waits is not waited for.
func TestGoneWhileHeldBack(t *testing.T) {
	address, log := serveLogged(t, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways}, gateway.Limits{LoginFailureDelay: time.Hour})
	nc := connectFrom(t, "127.0.0.1", address, []byte("USER alice\r\nPASS wrong\r\n"))
	waitFor(t, log, "login failed")
	nc.Close()
	waitFor(t, log, "session ended")
}

// A client that sends without end has no more time for its login than others.
func TestFloodBeforeLogin(t *testing.T) {
	address, log := serveLogged(t, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways}, gateway.Limits{LoginTimeout: time.Second, MaxErrors: 1 << 30})
	for _, line := range []string{"CAPA\r\n", "nonsense", "AUTH PLAIN\r\n*\r\n"} {
		nc := connectFrom(t, "127.0.0.1", address, nil)
		go io.Copy(io.Discard, nc)
		for flood := []byte(strings.Repeat(line, 1000)); ; {
			if _, err := nc.Write(flood); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%q goes on", line)
			} else if err != nil {
				break
			}
		}
	}
	waitFor(t, log, "login timeout")
}
