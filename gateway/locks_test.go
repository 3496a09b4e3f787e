package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// lockedGateway serves one maildrop, of ann with any password.
type lockedGateway struct {
	t *testing.T
	*maildroptest.Listener
	server *gateway.Server
	memory *maildroptest.Memory
	log    lockedBuffer

	opening, removing time.Duration // how long these take
}

func (g *lockedGateway) Open(ctx context.Context, account gateway.Account) (gateway.Maildrop, error) {
	d, err := g.memory.Open(ctx, account)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(g.opening):
	case <-ctx.Done():
		d.Close()
		return nil, ctx.Err()
	}
	return lockedMaildrop{d, g}, nil
}

type lockedMaildrop struct {
	gateway.Maildrop
	g *lockedGateway
}

func (d lockedMaildrop) Delete(ctx context.Context, marked []int, removed func(int)) error {
	time.Sleep(d.g.removing)
	return d.Maildrop.Delete(ctx, marked, removed)
}

func serveLocked(t *testing.T, p gateway.LockPolicy) *lockedGateway {
	g := &lockedGateway{t: t, Listener: maildroptest.NewListener()}
	fixture := maildroptest.NewMemory(t)
	g.memory = fixture.Adapter.(*maildroptest.Memory)
	fixture.Locks.SetPolicy(p)
	g.memory.Add("ann", maildroptest.Message{UID: "1", Raw: []byte("x\r\n")},
		maildroptest.Message{UID: "2", Raw: []byte(strings.Repeat("0123456789\r\n", 1<<20))})
	g.server = &gateway.Server{Accounts: oneAccount{gateway.Account{Name: "ann", Adapter: g}}, Log: slog.New(slog.NewTextHandler(&g.log, nil))}
	go g.server.Serve(g.Listener, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways})
	return g
}

func (g *lockedGateway) end() {
	g.server.Shutdown(context.Background())
	time.Sleep(time.Minute)
}

type lockedClient struct {
	g  *lockedGateway
	nc net.Conn
	in *bufio.Reader
}

// connect sends the commands of a client, and reads the greeting.
func (g *lockedGateway) connect(commands string) *lockedClient {
	nc, err := g.Dial()
	if err != nil {
		g.t.Fatal(err)
	}
	c := &lockedClient{g, nc, bufio.NewReader(nc)}
	c.want("+OK localhost")
	c.send(commands)
	return c
}

func (c *lockedClient) send(commands string) {
	io.WriteString(c.nc, strings.ReplaceAll(commands, "\n", "\r\n")+"\r\n")
	synctest.Wait()
}

func (c *lockedClient) want(prefixes ...string) {
	c.g.t.Helper()
	for _, prefix := range prefixes {
		if line, err := c.in.ReadString('\n'); !strings.HasPrefix(line, prefix) {
			c.g.t.Fatalf("reply is %q, %v; want %q", line, err, prefix)
		}
	}
}

func (c *lockedClient) wantEnd() {
	c.g.t.Helper()
	if rest, err := io.ReadAll(c.in); len(rest) > 0 || err != nil {
		c.g.t.Errorf("got %.100q, %v; want the end", rest, err)
	}
}

const (
	logIn   = "USER ann\nPASS x"
	tookIt  = "-ERR [IN-USE] another session has taken this maildrop over"
	inUse   = "-ERR [IN-USE] another session has this maildrop open"
	twoThen = "+OK 2 messages"
)

// A session that has come to its QUIT is not taken over: what it has marked goes.
func TestNoTakeOverInUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := serveLocked(t, gateway.LockPolicy{WhenBusy: gateway.TakeOverWhenBusy})
		g.removing = 5 * time.Second
		first := g.connect(logIn + "\nDELE 1\nQUIT")
		second := g.connect(logIn)
		begun := time.Now()
		second.want("+OK", "+OK 1 messages")
		if took := time.Since(begun); took != g.removing {
			t.Errorf("it took %v", took)
		}
		first.want("+OK", twoThen, "+OK", "+OK 1 messages removed")
		first.wantEnd()

		// Nor is it waited for without end.
		g.removing = time.Minute
		second.send("DELE 1\nQUIT")
		begun = time.Now()
		third := g.connect(logIn)
		third.want("+OK", inUse)
		if took := time.Since(begun); took != gateway.DefaultLockWait {
			t.Errorf("it took %v", took)
		}
		second.want("+OK", "+OK 1 messages removed")
		g.end()
	})
}

// A session that is taken over ends whatever it does, and removes nothing after.
func TestTakeOver(t *testing.T) {
	for name, tt := range map[string]struct {
		commands string
		takes    time.Duration // for the second session to get the maildrop
		first    func(c *lockedClient)
	}{
		"idle": {"DELE 1", 0, func(c *lockedClient) { c.want("+OK", tookIt); c.wantEnd() }},
		"amid a message that the client does not take": {"DELE 1\nRETR 2\nQUIT", time.Second, func(c *lockedClient) {
			c.want("+OK", "+OK 12582912 octets")
			if rest, err := io.ReadAll(c.in); err == nil && strings.HasSuffix(string(rest), "\r\n.\r\n") {
				c.g.t.Error("the message looks complete")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := serveLocked(t, gateway.LockPolicy{WhenBusy: gateway.TakeOverWhenBusy})
				first := g.connect(logIn)
				first.want("+OK", twoThen)
				first.send(tt.commands)
				begun := time.Now()
				second := g.connect(logIn)
				second.want("+OK", twoThen)
				if took := time.Since(begun); took != tt.takes {
					t.Errorf("it took %v", took)
				}
				tt.first(first)
				if n := len(g.memory.Messages("ann")); n != 2 {
					t.Errorf("%d messages are left", n)
				}
				if log := g.log.String(); !strings.Contains(log, "session is taken over") || !strings.Contains(log, `ended="taken over"`) {
					t.Errorf("log is %s", log)
				}
				second.send("QUIT")
				g.end()
			})
		})
	}
}

// A login that is under way gives up, and of several that wait the last one wins.
func TestTakeOverALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := serveLocked(t, gateway.LockPolicy{WhenBusy: gateway.TakeOverWhenBusy})
		g.opening = time.Minute
		first := g.connect(logIn)
		time.Sleep(time.Second)
		g.opening = 0
		second := g.connect(logIn)
		second.want("+OK", twoThen)
		first.want("+OK", tookIt)
		first.wantEnd()

		g.removing = 5 * time.Second
		second.send("DELE 1\nQUIT")
		third := g.connect(logIn)
		fourth := g.connect(logIn)
		third.want("+OK", inUse) // at once
		fourth.want("+OK", "+OK 1 messages")
		g.end()
	})
}

// Turns are in the order of coming, and a login ends in time.
func TestLockWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks gateway.Locks
		locks.SetPolicy(gateway.LockPolicy{WhenBusy: gateway.WaitWhenBusy, Wait: time.Hour})
		unlock, waited, err := locks.Lock(t.Context(), "x")
		if waited || err != nil {
			t.Fatal(waited, err)
		}
		var turns []string
		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() {
				unlock, waited, err := locks.Lock(t.Context(), "x")
				if !waited || err != nil {
					t.Error(waited, err)
				}
				turns = append(turns, fmt.Sprint(i))
				time.Sleep(time.Second)
				unlock()
				unlock() // is nothing
			})
			synctest.Wait()
		}
		other, _, err := locks.Lock(t.Context(), "y")
		if err != nil {
			t.Error(err)
		}
		other()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		begun := time.Now()
		if _, waited, err := locks.Lock(ctx, "x"); !waited || gateway.CodeOf(err) != gateway.CodeInUse || time.Since(begun) != 3*time.Minute-5*time.Second {
			t.Errorf("at the end of the time for a login: %v after %v", err, time.Since(begun))
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, _, err := locks.Lock(ctx, "x"); err != context.Canceled {
			t.Errorf("a client that has gone: %v", err)
		}
		unlock()
		all.Wait()
		if got := strings.Join(turns, ""); got != "01234" {
			t.Errorf("turns are %s", got)
		}
		if unlock, ok := locks.TryLock(t.Context(), "x"); !ok {
			t.Error("it is still locked")
		} else {
			unlock()
		}
	})
}

// Whatever the policy, nobody holds a lock together with another, and none is left.
func TestLockRaces(t *testing.T) {
	for _, policy := range []gateway.WhenBusy{gateway.RefuseWhenBusy, gateway.WaitWhenBusy, gateway.TakeOverWhenBusy} {
		var locks gateway.Locks
		locks.SetPolicy(gateway.LockPolicy{WhenBusy: policy, Wait: 20 * time.Millisecond})
		var holders [2]atomic.Int32
		var got atomic.Int32
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				for j := range 100 {
					ctx, cancel := context.WithCancel(context.Background())
					if j%5 == 0 {
						time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
					}
					unlock, _, err := locks.Lock(ctx, fmt.Sprint(j%2))
					if err == nil {
						got.Add(1)
						if n := holders[j%2].Add(1); n != 1 {
							t.Errorf("%s: %d hold the lock", policy, n)
						}
						if j%3 == 0 {
							time.Sleep(time.Microsecond)
						}
						holders[j%2].Add(-1)
						unlock()
					}
					cancel()
				}
			})
		}
		all.Wait()
		if got.Load() == 0 {
			t.Errorf("%s: nobody got it", policy)
		}
		for _, name := range []string{"0", "1"} {
			if unlock, ok := locks.TryLock(t.Context(), name); !ok {
				t.Errorf("%s: a lock is left", policy)
			} else {
				unlock()
			}
		}
	}
}

func TestLockOfAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks gateway.Locks
		tries := 0
		third := func() (bool, error) { tries++; return tries == 3, nil }
		never := func() (bool, error) { return false, nil }
		if ok, err := locks.Retry(t.Context(), third); ok || err != nil || tries != 1 {
			t.Errorf("refused after %d tries: %v, %v", tries, ok, err)
		}
		locks.SetPolicy(gateway.LockPolicy{WhenBusy: gateway.TakeOverWhenBusy})
		if ok, err := locks.Retry(t.Context(), third); !ok || err != nil || tries != 3 {
			t.Errorf("after %d tries: %v, %v", tries, ok, err)
		}
		begun := time.Now()
		if ok, err := locks.Retry(t.Context(), never); ok || err != nil || time.Since(begun) != gateway.DefaultLockWait {
			t.Errorf("it took %v: %v, %v", time.Since(begun), ok, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if ok, err := locks.Retry(ctx, never); ok || err != context.Canceled {
			t.Errorf("a client that has gone: %v, %v", ok, err)
		}
		if ok, err := locks.Retry(t.Context(), func() (bool, error) { return false, io.EOF }); ok || err != io.EOF {
			t.Errorf("an error: %v, %v", ok, err)
		}
	})
}
