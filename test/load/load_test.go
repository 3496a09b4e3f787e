//go:build real

package load

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"pop3gw/gateway/account"
)

// size is how much load there is.
type size struct {
	idle, users, perSecond int
	lasts                  time.Duration
}

// TestIdleSessionsAndLogins keeps sessions with TLS open, each with a maildrop,
// while others log in and out, with TLS and argon2id hashes.
func TestIdleSessionsAndLogins(t *testing.T) {
	s := size{idle: 300, users: 20, perSecond: 40, lasts: 5 * time.Second}
	if full {
		s = size{idle: 5000, users: 400, perSecond: 200, lasts: time.Minute}
	}
	hash, err := account.Hash([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	users := make(map[string]string)
	for i := range s.idle {
		users[fmt.Sprint("idle", i)] = "{PLAIN}secret"
	}
	for i := range s.users {
		users[fmt.Sprint("user", i)] = hash
	}
	// A Maildir session has four open files. Where they do not suffice for all, the
	// others stay before their login.
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	loggedIn := min(s.idle, (int(min(files.Max, 1<<20))-s.idle-5000)/3) // 5,000 for what logs in and out
	g := startGateway(t, users)
	if err := session("", g.tls, true, "user0", "secret"); err != nil { // what is made once
		t.Fatal(err)
	}
	before, _ := g.memory(t)

	var errs failed
	var mu sync.Mutex
	var open []*client
	each(s.idle, 16, func(i int) {
		c, err := dial("", g.tls, true)
		if err == nil && i < loggedIn {
			err = errors.Join(c.must(fmt.Sprint("USER idle", i)), c.must("PASS secret"))
		}
		if err != nil {
			errs.add(fmt.Errorf("idle session %d: %w", i, err))
			return
		}
		c.nc.SetDeadline(time.Now().Add(9 * time.Minute))
		mu.Lock()
		defer mu.Unlock()
		open = append(open, c)
	})
	each(s.users, 16, func(i int) { // each hash is computed once, and then remembered
		if err := session("", g.tls, true, fmt.Sprint("user", i), "secret"); err != nil {
			errs.add(err)
		}
	})
	idle, _ := g.memory(t)

	// A login is due every so often, whether or not the earlier ones are done.
	n := s.perSecond * int(s.lasts/time.Second)
	took := make([]time.Duration, n)
	var running sync.WaitGroup
	start := time.Now()
	for i := range n {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(s.perSecond))
		time.Sleep(time.Until(due))
		running.Go(func() {
			if err := session("", g.tls, true, fmt.Sprint("user", i%s.users), "secret"); err != nil {
				errs.add(fmt.Errorf("login %d: %w", i, err))
			}
			took[i] = time.Since(due)
		})
	}
	running.Wait()
	lasted := time.Since(start)
	_, peak := g.memory(t)

	each(len(open), 16, func(i int) {
		if err := open[i].must("CAPA"); err != nil {
			errs.add(fmt.Errorf("an idle session afterwards: %w", err))
		}
		open[i].must("QUIT")
		open[i].nc.Close()
	})
	slices.Sort(took)
	t.Logf("%d idle TLS sessions, of which %d are logged in, %d logins in %v (%.0f/s): %d errors; a poll took %v, 99%% at most %v, %v at most",
		len(open), loggedIn, n, lasted.Round(time.Millisecond), float64(n)/lasted.Seconds(), errs.count, took[n/2].Round(time.Millisecond),
		took[n*99/100].Round(time.Millisecond), took[n-1].Round(time.Millisecond))
	if errs.count > 0 {
		t.Errorf("%d errors: %v", errs.count, errs.first)
	}

	// The runtime gives memory back by and by.
	patience := 20 * time.Second
	if full {
		patience = 4 * time.Minute
	}
	after, _ := g.memory(t)
	for until := time.Now().Add(patience); after > before+(peak-before)/3 && time.Now().Before(until); time.Sleep(time.Second) {
		after, _ = g.memory(t)
	}
	t.Logf("memory: %d MB before, %d MB with the idle sessions (%d KB each), %d MB at most, %d MB after",
		before/mega, idle/mega, (idle-before)/int64(s.idle)/1024, peak/mega, after/mega)
	if full && after > before+(peak-before)/3 {
		t.Errorf("memory does not return: %d MB of %d MB", after/mega, peak/mega)
	}
	if each := (idle - before) / int64(s.idle); full && each > 100<<10 {
		t.Errorf("an idle session costs %d KB", each>>10)
	}
	if lines := g.errorsInLog(t); len(lines) > 0 {
		t.Errorf("errors in the log: %q", lines)
	}
}

// each calls do for 0 to n-1, some at a time.
func each(n, atATime int, do func(i int)) {
	var all sync.WaitGroup
	slots := make(chan struct{}, atATime)
	for i := range n {
		slots <- struct{}{}
		all.Go(func() { do(i); <-slots })
	}
	all.Wait()
}
