package account

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// Among equals whoever came last goes first, and who has given up does not go.
func TestQueueOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		first, _ := q.enter(t.Context())
		var order []int
		givesUp, giveUp := context.WithCancel(t.Context())
		for i := range 4 {
			ctx := t.Context()
			if i == 2 {
				ctx = givesUp
			}
			go func() {
				if leave, err := q.enter(ctx); err == nil {
					order = append(order, i)
					leave()
				}
			}()
			synctest.Wait()
		}
		giveUp()
		synctest.Wait()
		first()
		synctest.Wait()
		if want := []int{3, 1, 0}; !slices.Equal(order, want) {
			t.Errorf("they went in the order %v, want %v", order, want)
		}
		if q.running != 0 || len(q.waiting) != 0 {
			t.Errorf("%d run, %d wait", q.running, len(q.waiting))
		}
	})
}

// ranked is Accounts that notes in which order logins were let in by a queue.
type ranked struct {
	adapter gateway.Adapter
	queue   *queue
	mu      sync.Mutex
	order   []string
}

func (r *ranked) Login(ctx context.Context, c gateway.Credentials) (gateway.Account, error) {
	leave, err := r.queue.enter(ctx)
	if err != nil {
		return gateway.Account{}, err
	}
	defer leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.order = append(r.order, c.User)
	if c.Password == "wrong" {
		return gateway.Account{}, gateway.Refused(nil)
	}
	return gateway.Account{Name: c.User, Adapter: r.adapter}, nil
}

// Users who have logged in before go before all others, and an address loses its
// place when another login from it fails meanwhile.
func TestQueueOfSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(maildroptest.Memory)
		for _, name := range []string{"old", "new", "other"} {
			store.Add(name)
		}
		accounts := &ranked{adapter: store, queue: newQueue(1)}
		server := &gateway.Server{Accounts: accounts, Log: slog.New(slog.DiscardHandler)}
		l := maildroptest.NewListener()
		go server.Serve(l, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways})
		defer server.Shutdown(t.Context())
		logIn := func(name, password string) {
			nc, err := l.Dial()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { nc.Close() })
			fmt.Fprintf(nc, "USER %s\r\nPASS %s\r\nQUIT\r\n", name, password)
			go io.Copy(io.Discard, nc)
			synctest.Wait()
		}
		logIn("old", "right")
		leave, _ := accounts.queue.enter(t.Context())
		logIn("guess1", "wrong")
		logIn("new", "right")
		logIn("guess2", "wrong")
		logIn("old", "right")
		leave()
		synctest.Wait()
		if got, want := strings.Join(accounts.order, " "), "old old guess1 new guess2"; got != want {
			t.Errorf("they were let in in the order %s; want %s", got, want)
		}
	})
}
