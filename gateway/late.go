package gateway

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// late does what is to be done when something takes long, which it hardly ever does: a
// client that says nothing more, a login that takes minutes. One timer serves all.
// Each timer of its own that would be the next one to fire has Go wake a thread, which
// is more than all else that most commands take. The zero value is ready.
type late struct {
	mu    sync.Mutex
	calls []*lateCall
	timer *time.Timer // nil until it is needed
	armed int64       // when the timer was last set

	base time.Time    // what times here are counted from, in nanoseconds
	next atomic.Int64 // when the timer fires; math.MaxInt64 is never
}

// lateTick is how much later than wanted something may be done.
const lateTick = 250 * time.Millisecond

// lateCall is what is done late, by f in a goroutine of its own.
type lateCall struct {
	of    *late
	f     func()
	index int          // in calls; -1 when it was stopped
	due   atomic.Int64 // 0 while it is not to be done
}

// add returns a call of f that is not yet to be done. It must be stopped.
func (l *late) add(f func()) *lateCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer == nil {
		l.base = time.Now().Add(-1) // so that no time is 0
		l.timer = time.AfterFunc(math.MaxInt64, l.tick)
		l.next.Store(math.MaxInt64)
		l.armed = -int64(lateTick)
	}
	c := &lateCall{of: l, f: f, index: len(l.calls)}
	l.calls = append(l.calls, c)
	return c
}

// after returns a call of f when d has passed.
func (l *late) after(d time.Duration, f func()) *lateCall {
	c := l.add(f)
	c.at(time.Now().Add(d))
	return c
}

// at has the call done at t, in place of the time before.
func (c *lateCall) at(t time.Time) {
	l := c.of
	due := max(1, int64(t.Sub(l.base)))
	c.due.Store(due)
	if due >= l.next.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arm(due)
}

// never takes the time back.
func (c *lateCall) never() { c.due.Store(0) }

// stop ends the use of c. It reports whether a call was still to be done.
func (c *lateCall) stop() bool {
	l := c.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.index < 0 {
		return false
	}
	last := l.calls[len(l.calls)-1]
	l.calls[c.index], last.index = last, c.index
	l.calls[len(l.calls)-1] = nil
	l.calls = l.calls[:len(l.calls)-1]
	c.index = -1
	return c.due.Swap(0) != 0
}

// arm sets the timer, if it would fire later. l.mu is held.
func (l *late) arm(due int64) {
	due = max(due, l.armed+int64(lateTick)) // not for each session anew
	if due >= l.next.Load() {
		return
	}
	l.next.Store(due)
	l.armed = int64(time.Since(l.base))
	l.timer.Reset(time.Duration(due - l.armed))
}

func (l *late) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next.Store(math.MaxInt64) // from here on at waits for the lock
	now, first := int64(time.Since(l.base)), int64(math.MaxInt64)
	for _, c := range l.calls {
		switch due := c.due.Load(); {
		case due == 0:
		case due > now:
			first = min(first, due)
		case c.due.CompareAndSwap(due, 0):
			go c.f()
		}
	}
	if first < math.MaxInt64 {
		l.arm(first)
	}
}

// withDeadline is context.WithDeadline, without a timer of its own. For a context that is
// made of it Err is context.Canceled at the deadline, and context.DeadlineExceeded its
// cause: one that told its own error to those would cost each a goroutine.
func (l *late) withDeadline(parent context.Context, t time.Time) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	c := l.add(func() { cancel(context.DeadlineExceeded) })
	if c.at(t); !time.Now().Before(t) {
		cancel(context.DeadlineExceeded)
	}
	return lateContext{ctx, t}, func() {
		c.stop()
		cancel(nil)
	}
}

type lateContext struct {
	context.Context
	deadline time.Time
}

func (c lateContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c lateContext) Err() error {
	err := c.Context.Err()
	if err != nil && context.Cause(c.Context) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return err
}
