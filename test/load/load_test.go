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
	fresh                  int // every how manieth login is of a user who has not been there before
	lasts                  time.Duration
}

// A Maildir session has four open files. Where a process may not have enough for all,
// more gateways than one have their share of the users; spare is for what logs in and
// out.
const filesPerSession, spare = 4, 5000

// TestIdleSessionsAndLogins keeps sessions with TLS open, each with a maildrop,
// while others log in and out, with TLS and argon2id hashes. Most of those have logged
// in before, so that their passwords are remembered.
func TestIdleSessionsAndLogins(t *testing.T) {
	s := size{idle: 300, users: 20, perSecond: 40, fresh: 20, lasts: 5 * time.Second}
	if full {
		s = size{idle: 5000, users: 400, perSecond: 200, fresh: 50, lasts: time.Minute}
	}
	hash, err := account.Hash([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	perProcess := int(min(files.Max, 1<<20)) - spare
	gateways := make([]*gateway, (s.idle*filesPerSession+perProcess-1)/perProcess)
	n := s.perSecond * int(s.lasts/time.Second) // logins
	users := make([]map[string]string, len(gateways))
	for i := range users {
		users[i] = make(map[string]string)
	}
	for i := range s.idle {
		users[i%len(users)][fmt.Sprint("idle", i)] = "{PLAIN}secret"
	}
	for i := range s.users {
		users[i%len(users)][fmt.Sprint("user", i)] = hash
	}
	for i := 0; i < n; i += s.fresh {
		users[i%len(users)][fmt.Sprint("fresh", i)] = hash
	}
	for i := range gateways {
		gateways[i] = startGateway(t, users[i], "")
		if err := session("", gateways[i].tls, true, fmt.Sprint("user", i), "secret"); err != nil { // what is made once
			t.Fatal(err)
		}
	}
	at := func(i int) string { return gateways[i%len(gateways)].tls }
	memory := func() (now, peak int64) {
		for _, g := range gateways {
			n, p := g.memory(t)
			now, peak = now+n, peak+p
		}
		return now, peak
	}
	before, _ := memory()
	filesBefore := gateways[0].files(t)

	var errs failed
	var mu sync.Mutex
	var open []*client
	each(s.idle, 16, func(i int) {
		c, err := dial("", at(i), true)
		if err == nil {
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
		if err := session("", at(i), true, fmt.Sprint("user", i), "secret"); err != nil {
			errs.add(err)
		}
	})
	idle, _ := memory()
	filesEach := float64(gateways[0].files(t)-filesBefore) * float64(len(gateways)) / float64(s.idle)

	// A login is due every so often, whether or not the earlier ones are done.
	took := make([]time.Duration, n)
	var running sync.WaitGroup
	start := time.Now()
	for i := range n {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(s.perSecond))
		time.Sleep(time.Until(due))
		name, address := fmt.Sprint("user", i%s.users), at(i%s.users)
		if i%s.fresh == 0 {
			name, address = fmt.Sprint("fresh", i), at(i)
		}
		running.Go(func() {
			if err := session("", address, true, name, "secret"); err != nil {
				errs.add(fmt.Errorf("login %d: %w", i, err))
			}
			took[i] = time.Since(due)
		})
	}
	running.Wait()
	lasted := time.Since(start)
	_, peak := memory()

	each(len(open), 16, func(i int) {
		if err := open[i].must("CAPA"); err != nil {
			errs.add(fmt.Errorf("an idle session afterwards: %w", err))
		}
		open[i].must("QUIT")
		open[i].nc.Close()
	})
	slices.Sort(took)
	t.Logf("%d idle TLS sessions of %.1f open files at %d gateways, %d logins in %v (%.0f/s), one of %d with a password to check: %d errors; a poll took %v, 99%% at most %v, %v at most",
		len(open), filesEach, len(gateways), n, lasted.Round(time.Millisecond), float64(n)/lasted.Seconds(), s.fresh, errs.count, took[n/2].Round(time.Millisecond),
		took[n*99/100].Round(time.Millisecond), took[n-1].Round(time.Millisecond))
	if errs.count > 0 {
		t.Errorf("%d errors: %v", errs.count, errs.first)
	}

	// The runtime gives memory back by and by.
	patience := 20 * time.Second
	if full {
		patience = 4 * time.Minute
	}
	after, _ := memory()
	for until := time.Now().Add(patience); after > before+(peak-before)/3 && time.Now().Before(until); time.Sleep(time.Second) {
		after, _ = memory()
	}
	t.Logf("memory: %d MB before, %d MB with the idle sessions (%d KB each), %d MB at most, %d MB after",
		before/mega, idle/mega, (idle-before)/int64(s.idle)/1024, peak/mega, after/mega)
	if full && after > before+(peak-before)/3 {
		t.Errorf("memory does not return: %d MB of %d MB", after/mega, peak/mega)
	}
	if each := (idle - before) / int64(s.idle); full && each > 100<<10 {
		t.Errorf("an idle session costs %d KB", each>>10)
	}
	for _, g := range gateways {
		if lines := g.errorsInLog(t); len(lines) > 0 {
			t.Errorf("errors in the log: %q", lines)
		}
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
