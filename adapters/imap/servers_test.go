package imap

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
)

// openAs opens the mailbox of a user, or a folder of theirs.
func openAs(ctx context.Context, a *Adapter, user, folder string) (gateway.Maildrop, error) {
	return a.Open(ctx, gateway.Account{Name: user, Folder: folder, Forwarded: true,
		Upstream: gateway.Credentials{User: user, Password: "secret"}})
}

// checkConnections compares what the adapter counts.
func checkConnections(t *testing.T, a *Adapter, open, kept, waiting int) {
	t.Helper()
	if o, k, w := a.Connections(); o != open || k != kept || w != waiting {
		t.Errorf("%d are open, %d of them kept, %d wait; want %d, %d, %d", o, k, w, open, kept, waiting)
	}
}

// alive counts the connections that a server has.
type alive struct {
	*fakeServer
	now, most atomic.Int64
}

func (s *alive) dial(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := s.fakeServer.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	n := s.now.Add(1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	return &countedConn{nc, sync.OnceFunc(func() { s.now.Add(-1) })}, nil
}

// Sessions beyond the limit wait for their turn, which goes round among the users.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &alive{fakeServer: newFake("x")}
		a, _ := s.adapter(t, Options{MaxConnections: 2, MaxConnectionsPerUser: 2, Folders: true})
		a.link.Dial = s.dial
		var mu sync.Mutex
		var turns []string
		var sessions sync.WaitGroup
		session := func(user, folder string) {
			sessions.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
				defer cancel()
				d, err := openAs(ctx, a, user, folder)
				if err != nil {
					t.Errorf("%s: %v", user, err)
					return
				}
				mu.Lock()
				turns = append(turns, user)
				mu.Unlock()
				time.Sleep(time.Minute)
				d.Close()
			})
			synctest.Wait()
		}
		for i := range 6 { // one user with many sessions
			session("ann", fmt.Sprint("f", i))
		}
		checkConnections(t, a, 2, 0, 4)
		session("bob", "")
		session("eve", "")
		checkConnections(t, a, 2, 0, 6)
		sessions.Wait()
		for i := 0; i < len(turns); i += 2 { // these begin at the same time
			slices.Sort(turns[i : i+2])
		}
		if got := strings.Join(turns, " "); got != "ann ann ann bob ann eve ann ann" {
			t.Errorf("the turns are %s", got)
		}
		if s.most.Load() > 2 {
			t.Errorf("%d connections at a time", s.most.Load())
		}
		a.Close()
		time.Sleep(time.Minute)
		checkConnections(t, a, 0, 0, 0)
		if len(a.server.users) != 0 || len(a.server.lines) != 0 || s.now.Load() != 0 {
			t.Errorf("left are %v, %v, %d", a.server.users, a.server.lines, s.now.Load())
		}
	})
}

// The limit of one account holds up no other.
func TestConnectionsPerUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake("x")
		a, _ := s.adapter(t, Options{MaxConnectionsPerUser: 2, Folders: true, KeepConnections: Never})
		var ds []gateway.Maildrop
		for i := range 2 {
			d, err := openAs(t.Context(), a, "ann", fmt.Sprint("f", i))
			if err != nil {
				t.Fatal(err)
			}
			ds = append(ds, d)
		}
		done := make(chan error)
		go func() {
			d, err := openAs(context.Background(), a, "Ann", "f3") // the same at the server, perhaps
			if err == nil {
				defer d.Close()
			}
			done <- err
		}()
		synctest.Wait()
		checkConnections(t, a, 2, 0, 1)
		for i := range 10 {
			d, err := openAs(t.Context(), a, fmt.Sprint("user", i), "")
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
		}
		ds[0].Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		ds[1].Close()
		time.Sleep(time.Minute)
	})
}

// Connections that are kept give way before anybody waits, and none is kept while
// somebody does.
func TestKeptGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake("x")
		a, _ := s.adapter(t, Options{MaxConnections: 3, MaxConnectionsPerUser: 2, Folders: true})
		for _, user := range []string{"ann", "bob", "eve"} {
			if err := openWith(t, a, user, "secret"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		checkConnections(t, a, 3, 3, 0)
		begun := time.Now()
		dan, err := openAs(t.Context(), a, "dan", "")
		if err != nil || time.Since(begun) > 0 {
			t.Fatalf("with connections that are merely kept: %v after %v", err, time.Since(begun))
		}
		checkConnections(t, a, 3, 2, 0)
		if got := a.kept.users(); got != "bob eve" { // the one not used for longest went
			t.Errorf("kept are those of %s", got)
		}

		// Of one's own, where it is one's own limit.
		if err := openWith(t, a, "bob", "secret"); err != nil {
			t.Fatal(err)
		}
		b1, err := openAs(t.Context(), a, "bob", "f1")
		if err != nil {
			t.Fatal(err)
		}
		b2, err := openAs(t.Context(), a, "bob", "f2")
		if err != nil {
			t.Fatal(err)
		}
		checkConnections(t, a, 3, 0, 0) // dan, bob, bob
		got := make(chan gateway.Maildrop)
		go func() {
			d, err := openAs(context.Background(), a, "eve", "")
			if err != nil {
				t.Error(err)
			}
			got <- d
		}()
		synctest.Wait()
		checkConnections(t, a, 3, 0, 1)
		b1.Close() // is not kept
		eve := <-got
		checkConnections(t, a, 3, 0, 0)
		b2.Close()
		eve.Close()
		dan.Close()
		checkConnections(t, a, 3, 3, 0)
		a.Close()
		time.Sleep(time.Minute)
		checkConnections(t, a, 0, 0, 0)
	})
}

// The wait ends in time for an answer.
func TestWaitForAConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake("x")
		a, _ := s.adapter(t, Options{MaxConnections: 1, KeepConnections: Never})
		d := s.poll(t, a)
		const text = "too many sessions at the mail server for now, try again later"
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		_, err := openAs(ctx, a, "bob", "")
		wantError(t, err, gateway.CodeSysTemp, text, "raise max_connections or max_connections_per_user")
		if took := time.Since(begun); took != 3*time.Minute-5*time.Second {
			t.Errorf("it took %v", took)
		}
		begun = time.Now()
		ctx, cancel = context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		_, err = openAs(ctx, a, "bob", "")
		wantError(t, err, gateway.CodeSysTemp, text, "raise")
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("it took %v", took)
		}
		// The client has gone.
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err = openAs(ctx, a, "bob", ""); gateway.CodeOf(err) != gateway.CodeSysTemp {
			t.Error(err)
		}
		checkConnections(t, a, 1, 0, 0)
		d.Close()
		if err := openWith(t, a, "bob", "secret"); err != nil {
			t.Error(err)
		}
		a.Close()
		time.Sleep(time.Minute)
		checkConnections(t, a, 0, 0, 0)
	})
}

// A session that lost its connection has the next one without a wait, whoever waits.
func TestRedialWithoutAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &alive{fakeServer: newFake("x", "y")}
		a, _ := s.adapter(t, Options{MaxConnections: 1, MaxConnectionsPerUser: 1, KeepConnections: Never})
		a.link.Dial = s.dial
		d := s.poll(t, a)
		done := make(chan error)
		go func() {
			d, err := openAs(context.Background(), a, "bob", "")
			if err == nil {
				d.Close()
			}
			done <- err
		}()
		synctest.Wait()
		s.does(once(dropping("UID FETCH")))
		wantMessage(t, d, 1, "y")
		checkConnections(t, a, 1, 0, 1)
		s.does(once(dropping("UID STORE")))
		if err := d.Delete(t.Context(), []int{0}, func(int) {}); err != nil {
			t.Error(err)
		}
		checkConnections(t, a, 1, 0, 1)
		d.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s.most.Load() != 1 {
			t.Errorf("%d connections at a time", s.most.Load())
		}
		// Nor does one whose kept connection is of no use.
		a.kept.period = time.Hour
		s.poll(t, a).Close()
		checkConnections(t, a, 1, 1, 0)
		s.does(once(answering("EXAMINE", "NO log in again")))
		s.poll(t, a).Close()
		if s.most.Load() != 1 {
			t.Errorf("%d connections at a time", s.most.Load())
		}
		a.Close()
		time.Sleep(time.Minute)
		checkConnections(t, a, 0, 0, 0)
	})
}

// Adapters of one server share its connections, and what it has refused.
func TestServersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake("x")
		servers := new(Servers)
		a, _ := s.adapter(t, Options{MaxConnections: 2, Servers: servers})
		b, _ := s.adapter(t, Options{MaxConnections: 2, Servers: servers, Mailbox: "Junk"})
		for _, each := range []*Adapter{a, b} {
			if err := openWith(t, each, "ann", "secret"); err != nil {
				t.Fatal(err)
			}
		}
		checkConnections(t, a, 1, 1, 0)
		checkConnections(t, b, 1, 1, 0)
		d, err := openAs(t.Context(), b, "bob", "") // what a keeps gives way
		if err != nil {
			t.Fatal(err)
		}
		checkConnections(t, a, 0, 0, 0)
		checkConnections(t, b, 2, 1, 0)
		s.does(answering("LOGIN", "NO [LIMIT] no"))
		openWith(t, a, "ann", "secret")
		dialled := s.dialled()
		if err := openWith(t, b, "ann", "secret"); err == nil || s.dialled() != dialled {
			t.Errorf("the account is not left alone: %v", err)
		}
		d.Close()
		a.Close()
		b.Close()
		time.Sleep(time.Minute)
		if len(servers.byAddress) > 0 {
			t.Errorf("%d servers are left", len(servers.byAddress))
		}
	})
}

// Nothing is lost or counted twice, however sessions come and go.
func TestConnectionsUnderLoad(t *testing.T) {
	s := &alive{fakeServer: newFake("x", "y")}
	a, _ := s.adapter(t, Options{MaxConnections: 5, MaxConnectionsPerUser: 2, Folders: true})
	a.link.Dial = s.dial
	var struck atomic.Int64
	s.does(func(c *fakeConn, command string) bool {
		return struck.Add(1)%17 == 0 && dropping("")(c, command)
	})
	var sessions sync.WaitGroup
	for i := range 24 {
		sessions.Go(func() {
			for j := range 20 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				if j%7 == 0 {
					ctx, cancel = context.WithTimeout(context.Background(), time.Duration(i)*100*time.Microsecond)
				}
				d, err := openAs(ctx, a, fmt.Sprint("user", i%6), fmt.Sprint("f", i))
				cancel()
				if err == nil {
					if r, err := d.Retrieve(context.Background(), 0, -1); err == nil {
						r.Close()
					}
					d.Close()
				}
			}
		})
	}
	sessions.Wait()
	s.does(nil)
	if s.most.Load() > 5 {
		t.Errorf("%d connections at a time", s.most.Load())
	}
	a.Close()
	checkConnections(t, a, 0, 0, 0)
	if n := s.now.Load(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if len(a.server.users) != 0 || len(a.server.lines) != 0 {
		t.Errorf("left are %v, %v", a.server.users, a.server.lines)
	}
}

// A connection that has a place is read as cheaply as one that has none: package
// link reaches its socket.
func TestCountedConnectionIsQuick(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := new(Servers).join(l.Addr().String(), new(Adapter))
	nc, err := s.dialer(&place{user: new(user), adapter: new(Adapter), holders: 1}, nil)(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, plain := nc.(*countedConn).Conn.(*net.TCPConn); plain {
		t.Error("it is a connection of package net, whose system calls cost more")
	}
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(uintptr) {}); err != nil {
		t.Error(err)
	}
}
