package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// WhenBusy is what a login gets whose maildrop another session has; "" is Refuse.
type WhenBusy string

const (
	RefuseWhenBusy   WhenBusy = "refuse"   // CodeInUse, at once
	WaitWhenBusy     WhenBusy = "wait"     // its turn, or CodeInUse after a while
	TakeOverWhenBusy WhenBusy = "takeover" // the maildrop: the other session ends
)

// UnmarshalText takes the names above.
func (w *WhenBusy) UnmarshalText(text []byte) error {
	all := []string{string(RefuseWhenBusy), string(WaitWhenBusy), string(TakeOverWhenBusy)}
	if !slices.Contains(all, string(text)) {
		return fmt.Errorf(`found %s; allowed are "%s"`, strconv.Quote(string(text)), strings.Join(all, `", "`))
	}
	*w = WhenBusy(text)
	return nil
}

// DefaultLockWait is what LockPolicy.Wait is where it is 0.
const DefaultLockWait = 10 * time.Second

// LockPolicy is what happens when a second session comes to a maildrop.
type LockPolicy struct {
	WhenBusy WhenBusy
	// Wait bounds how long a login waits: for its turn, or for a session that it
	// takes over to end, which it does at once unless it is removing messages.
	Wait time.Duration
}

// Locks are named locks within the process, for exclusive access to maildrops
// (RFC 1939 §4). The zero value is ready and refuses; it is safe for concurrent use.
// The name is of the thing locked (a cleaned path, a host and login), since two
// login names may reach one maildrop.
//
// A lock is asked for only once a password was right: nobody else may learn that a
// maildrop is in use, stand in its line or end its session.
type Locks struct {
	mu     sync.Mutex
	policy LockPolicy
	held   map[string]*lock
}

// lock is a lock that is held.
type lock struct {
	holder *session      // nil where it was taken outside of a session
	line   []*lockWaiter // in the order in which they came
}

type lockWaiter struct {
	holder *session
	got    chan struct{} // closed once it has the lock
	lost   chan struct{} // closed once another has taken its place in line
}

// SetPolicy replaces the policy, for the logins to come.
func (l *Locks) SetPolicy(p LockPolicy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.policy = p
}

func (l *Locks) wait() (WhenBusy, time.Duration) {
	return cmp.Or(l.policy.WhenBusy, RefuseWhenBusy), cmp.Or(l.policy.Wait, DefaultLockWait)
}

// TryLock takes the lock called name without waiting, whatever the policy. If ok,
// the caller must call unlock, once or more often. ctx is that of Adapter.Open.
func (l *Locks) TryLock(ctx context.Context, name string) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.try(ctx, name)
}

func (l *Locks) try(ctx context.Context, name string) (unlock func(), ok bool) {
	if _, taken := l.held[name]; taken {
		return nil, false
	}
	if l.held == nil {
		l.held = make(map[string]*lock)
	}
	l.held[name] = &lock{holder: sessionOf(ctx)}
	return l.unlocker(name), true
}

// unlocker gives the lock to the first in line, once.
func (l *Locks) unlocker(name string) func() {
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		k := l.held[name]
		if len(k.line) == 0 {
			delete(l.held, name)
			return
		}
		first := k.line[0]
		k.line = k.line[1:]
		k.holder = first.holder
		close(first.got)
	})
}

// Lock takes the lock called name as the policy says. ctx is that of Adapter.Open
// and bounds the wait, but for a little; waited says whether there was one. The
// error is InUse, or that of ctx. Otherwise the caller must call unlock, once or more
// often.
func (l *Locks) Lock(ctx context.Context, name string) (unlock func(), waited bool, err error) {
	l.mu.Lock()
	unlock, ok := l.try(ctx, name)
	whenBusy, wait := l.wait()
	if ok || whenBusy == RefuseWhenBusy {
		l.mu.Unlock()
		if !ok {
			return nil, false, InUse(fmt.Errorf("another session holds %q", name))
		}
		return unlock, false, nil
	}
	k := l.held[name]
	w := &lockWaiter{holder: sessionOf(ctx), got: make(chan struct{}), lost: make(chan struct{})}
	holder := k.holder
	if whenBusy == TakeOverWhenBusy { // the last one to come wins
		for _, earlier := range k.line {
			close(earlier.lost)
		}
		k.line = nil
	}
	k.line = append(k.line, w)
	l.mu.Unlock()
	if whenBusy == TakeOverWhenBusy && holder != nil {
		holder.yield(w.holder)
	}
	if d, ok := Patience(ctx); ok {
		wait = min(wait, d)
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	select {
	case <-w.got:
		return l.unlocker(name), true, nil
	case <-w.lost:
		return nil, true, InUse(fmt.Errorf("a later session takes %q over", name))
	case <-over.C:
		err = InUse(fmt.Errorf("another session holds %q, still after %v", name, wait))
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	l.mu.Lock()
	select {
	case <-w.got: // just now
		l.mu.Unlock()
		if unlock := l.unlocker(name); ctx.Err() != nil {
			unlock()
			return nil, true, err
		}
		return l.unlocker(name), true, nil
	default:
	}
	if k := l.held[name]; k != nil {
		k.line = slices.DeleteFunc(k.line, func(other *lockWaiter) bool { return other == w })
	}
	l.mu.Unlock()
	return nil, true, err
}

// lockPoll is how often a lock is asked for that another process holds.
const lockPoll = 100 * time.Millisecond

// Retry calls try until it returns true or an error, for as long as the policy has
// logins wait: for a lock that another process may hold. Such a process is not asked
// to end its session, whatever the policy.
func (l *Locks) Retry(ctx context.Context, try func() (ok bool, err error)) (ok bool, err error) {
	l.mu.Lock()
	whenBusy, wait := l.wait()
	l.mu.Unlock()
	if d, ok := Patience(ctx); ok {
		wait = min(wait, d)
	}
	end := time.Now().Add(wait)
	for {
		ok, err = try()
		if ok || err != nil || whenBusy == RefuseWhenBusy || !time.Now().Before(end) {
			return ok, err
		}
		select {
		case <-time.After(min(lockPoll, time.Until(end))):
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// Patience is how long a login may wait for its turn, where ctx, that of
// Adapter.Open, has an end: some time must be left for what comes behind the wait.
func Patience(ctx context.Context) (d time.Duration, ok bool) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0, false
	}
	left := time.Until(deadline)
	return left - min(5*time.Second, left/4), true
}
