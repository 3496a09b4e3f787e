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

// withDeadline is context.WithDeadline, without a timer of its own.
func (l *late) withDeadline(parent context.Context, t time.Time) (context.Context, context.CancelFunc) {
	ctx := &lateContext{Context: parent, deadline: t, done: make(chan struct{})}
	c := l.add(func() { ctx.end(context.DeadlineExceeded) })
	if c.at(t); !time.Now().Before(t) {
		ctx.end(context.DeadlineExceeded)
	}
	free := context.AfterFunc(parent, func() { ctx.end(parent.Err()) })
	return ctx, func() {
		c.stop()
		free()
		ctx.end(context.Canceled)
	}
}

// lateContext is what withDeadline makes of a parent.
type lateContext struct {
	context.Context
	deadline time.Time
	done     chan struct{}

	mu    sync.Mutex
	err   error
	after map[*func()]struct{}
}

func (c *lateContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *lateContext) Done() <-chan struct{} { return c.done }

func (c *lateContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// AfterFunc is how package context has contexts that are made of this one end with it.
func (c *lateContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = make(map[*func()]struct{})
	}
	c.after[&f] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waits := c.after[&f]
		delete(c.after, &f)
		return waits
	}
}

func (c *lateContext) end(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	close(c.done)
	after := c.after
	c.after = nil
	c.mu.Unlock()
	for f := range after {
		(*f)()
	}
}
