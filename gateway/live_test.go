package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// notes is an Observer that writes down what it is told.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

func (n *notes) Refused(listener, reason string) { n.add("refused %s: %s", listener, reason) }

func (n *notes) Login(l gateway.LoginAttempt) {
	n.add("login %s, adapter %q, %v, given up %v, %v", l.Mechanism, l.Adapter, l.Took, l.GivenUp, l.Err)
}

func (n *notes) FirstOctet(adapter string, took time.Duration) {
	n.add("first octet, adapter %q, %v", adapter, took)
}

func (n *notes) Update(adapter string, took time.Duration, err error) {
	n.add("update, adapter %q, %v, %v", adapter, took, err)
}

func (n *notes) Ended(listener, why string, lasted time.Duration) {
	n.add("ended %s: %s, %v", listener, why, lasted)
}

func (n *notes) want(t *testing.T, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if got := strings.Join(n.lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("told:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func TestObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &maildroptest.Faults{Adapter: memory(sample, sample, sample), OpenDelay: time.Second, RetrieveDelay: 2 * time.Second, DeleteDelay: 3 * time.Second}
		n := new(notes)
		r := newRig(t, store, gateway.Limits{MaxConnections: 1})
		r.server.Observer = n
		c := r.connect()
		address := r.listener.Addr().String()
		extra, err := r.listener.Dial()
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, extra)
		c.send("USER alice\r\nPASS wrong\r\nUSER alice\r\nPASS x\r\nRETR 1\r\nTOP 1 0\r\nDELE 1\r\nQUIT\r\n")
		c.rest()
		synctest.Wait()
		n.want(t,
			"refused "+address+": too many connections",
			`login USER, adapter "", 0s, given up false, [AUTH] wrong name or password`,
			`login USER, adapter "store", 1s, given up false, <nil>`,
			`first octet, adapter "store", 2s`,
			`update, adapter "store", 3s, <nil>`,
			"ended "+address+": quit, 8.5s", // with what is held back of the refusal
		)
		totals := r.server.Totals()
		for name, want := range map[string]uint64{"USER": 2, "PASS": 2, "RETR": 1, "TOP": 1, "DELE": 1, "QUIT": 1, "NOOP": 0, "other": 0} {
			if got := totals.Commands[name]; got != want {
				t.Errorf("%d %s were counted, want %d", got, name, want)
			}
		}
		if totals.Retrieved != 1 || totals.Topped != 1 || totals.Removed != 1 || totals.Received != 75 || totals.Sent < 100 {
			t.Errorf("totals %+v", totals)
		}
		if l := r.server.Listeners(); len(l) != 1 || l[0] != (gateway.ListenerInfo{Address: address, Begun: 1}) {
			t.Errorf("listeners %+v", l)
		}
	})
}

func TestObserverOfFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &maildroptest.Faults{Adapter: memory(sample), DeleteErr: map[int]error{0: errors.New("disk is broken")}}
		n := new(notes)
		r := newRig(t, store, gateway.Limits{})
		r.server.Observer = n
		c := r.logIn("alice")
		c.send("DELE 1\r\nQUIT\r\n")
		if got := c.rest(); !strings.Contains(got, "-ERR") {
			t.Fatalf("got %q", got)
		}
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.lines) != 3 || !strings.HasPrefix(n.lines[1], `update, adapter "store", 0s, `) || strings.HasSuffix(n.lines[1], "<nil>") {
			t.Errorf("told:\n%s", strings.Join(n.lines, "\n"))
		}
		if totals := r.server.Totals(); totals.Removed != 0 {
			t.Errorf("%d messages are counted as removed", totals.Removed)
		}
	})
}

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory(sample, sample)
		store.Add("bob", maildroptest.Message{UID: "1", Raw: []byte(sample)})
		slow := &maildroptest.Faults{Adapter: store, DeleteDelay: time.Minute}
		r := newRig(t, slow, gateway.Limits{})
		if n := len(r.server.Sessions()); n != 0 {
			t.Fatalf("%d sessions", n)
		}
		start := time.Now()
		stranger := r.connect()
		time.Sleep(time.Second)
		alice := r.logIn("alice")
		time.Sleep(time.Second)
		alice.send("RETR 1\r\nNOOP\r\n")
		synctest.Wait()
		time.Sleep(time.Second)
		bob := r.logIn("bob")
		bob.send("DELE 1\r\nQUIT\r\n")
		time.Sleep(time.Second)
		stranger.send("USER eve\r\nPASS wrong\r\n")
		synctest.Wait()

		got := r.server.Sessions()
		if len(got) != 3 {
			t.Fatalf("%d sessions, want 3", len(got))
		}
		for i, want := range []gateway.SessionInfo{
			{User: "eve", Mechanism: "USER", Started: start, Since: start, Active: start.Add(4 * time.Second), Command: "PASS"},
			{User: "alice", Mechanism: "USER", State: gateway.Transaction, Started: start.Add(1 * time.Second), Since: start.Add(1 * time.Second),
				Active: start.Add(2 * time.Second), Command: "NOOP", Waiting: true, Messages: 2, Retrieved: 1},
			{User: "bob", Mechanism: "USER", State: gateway.Update, Started: start.Add(3 * time.Second), Since: start.Add(3 * time.Second),
				Active: start.Add(3 * time.Second), Command: "QUIT", Messages: 1},
		} {
			have := got[i]
			if have.ID == "" || have.Received == 0 || have.Sent == 0 || !have.Address.IsLoopback() || have.Listener != r.listener.Addr().String() || have.TLS != "none" {
				t.Errorf("session %d: %+v", i, have)
			}
			if (have.Adapter != "") != (have.State != gateway.Authorization) {
				t.Errorf("session %d has adapter %q", i, have.Adapter)
			}
			if !have.Started.Equal(want.Started) || !have.Since.Equal(want.Since) || !have.Active.Equal(want.Active) {
				t.Errorf("session %d: started %v, since %v, active %v", i, have.Started.Sub(start), have.Since.Sub(start), have.Active.Sub(start))
			}
			have.ID, have.Address, have.Listener, have.TLS, have.Adapter, have.Received, have.Sent = want.ID, want.Address, "", "", "", 0, 0
			have.Started, have.Since, have.Active = want.Started, want.Since, want.Active
			if have != want {
				t.Errorf("session %d\nis   %+v\nwant %+v", i, have, want)
			}
		}
		if l := r.server.Listeners(); l[0].Sessions != [3]int64{1, 1, 1} || l[0].Begun != 3 {
			t.Errorf("listeners %+v", l)
		}
	})
}

func TestKick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory(sample, sample)
		store.Add("bob", maildroptest.Message{UID: "1", Raw: []byte(sample)})
		store.Add("carol", maildroptest.Message{UID: "1", Raw: []byte(sample)})
		store.Add("dave")
		r := newRig(t, &maildroptest.Faults{Adapter: store, RetrieveDelay: time.Hour, DeleteDelay: time.Minute}, gateway.Limits{})
		if r.server.Kick("nobody") {
			t.Error("a session was kicked that is none")
		}
		idle, stuck, updating, stays := r.logIn("alice"), r.logIn("bob"), r.logIn("carol"), r.logIn("dave")
		idle.send("DELE 1\r\n")
		idle.line()
		stuck.send("RETR 1\r\n")
		updating.send("DELE 1\r\nQUIT\r\n")
		synctest.Wait()
		start := time.Now()
		for _, s := range r.server.Sessions() {
			if s.User == "dave" {
				continue
			}
			if !r.server.Kick(s.ID) {
				t.Errorf("%s is no session", s.User)
			}
			r.server.Kick(s.ID) // twice does no harm, if it is there still
		}
		if got := idle.rest(); got != "-ERR [SYS/TEMP] session was ended by the operator, nothing was removed\r\n" {
			t.Errorf("the idle session got %q", got)
		}
		if took := time.Since(start); took > 2*time.Second { // the end lingers for a second
			t.Errorf("the idle session took %v", took)
		}
		if _, err := io.ReadAll(stuck.in); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Logf("the stuck session: %v", err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("the stuck session took %v", took)
		}
		io.Copy(io.Discard, updating.in)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(store.Messages("alice")) != 2 || len(store.Messages("bob")) != 1 || len(store.Messages("carol")) != 0 {
			t.Errorf("left: %d, %d, %d; nothing but UPDATE goes on", len(store.Messages("alice")), len(store.Messages("bob")), len(store.Messages("carol")))
		}
		stays.send("NOOP\r\n")
		stays.want("+OK nothing done")
		if s := r.server.Sessions(); len(s) != 1 || s[0].User != "dave" {
			t.Errorf("sessions %+v", s)
		}
		if log := r.log.String(); strings.Count(log, "ended=kicked") != 1 || strings.Count(log, "ended by the operator") != 3 {
			t.Errorf("the log:\n%s", log)
		}
	})
}

// Whoever looks on while sessions come, work, are kicked and go sees no half of
// anything: this is for the race detector.
func TestLookingOn(t *testing.T) {
	store := memory()
	for i := range 8 {
		store.Add(fmt.Sprint("u", i), maildroptest.Message{UID: "1", Raw: []byte(sample)})
	}
	r := newRig(t, store, gateway.Limits{LoginFailureDelay: 1})
	r.server.Observer = new(notes)
	ctx, cancel := context.WithCancel(t.Context())
	var looking, clients sync.WaitGroup
	looking.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			for _, s := range r.server.Sessions() {
				if i%10 == 0 {
					r.server.Kick(s.ID)
				}
			}
			r.server.Totals()
			r.server.Listeners()
		}
	})
	for i := range 8 {
		clients.Go(func() {
			for range 20 {
				nc, err := r.listener.Dial()
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(nc, "USER u%d\r\nPASS wrong\r\nUSER u%d\r\nPASS x\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n", i, i)
				io.Copy(io.Discard, nc)
				nc.Close()
			}
		})
	}
	clients.Wait()
	cancel()
	looking.Wait()
	r.server.Shutdown(t.Context())
	if l := r.server.Listeners(); l[0].Begun != 160 || l[0].Sessions != [3]int64{} {
		t.Errorf("listeners %+v", l)
	}
}
