package gateway

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// What is late is done once, when it is to be and little later, and not when it was
// stopped or put off in time.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l late
		for round := range 3 {
			type call struct{ wanted, came time.Duration }
			began := time.Now()
			done := make(chan call)
			waits := []time.Duration{time.Hour, 3 * time.Second, 2 * time.Second, time.Second, lateTick, time.Millisecond, 0}
			calls := make(map[time.Duration]*lateCall)
			for _, d := range waits {
				calls[d] = l.after(d, func() { done <- call{d, time.Since(began)} })
			}
			if !calls[time.Second].stop() || calls[time.Second].stop() {
				t.Error("a call was not stopped once")
			}
			calls[2*time.Second].never()
			calls[3*time.Second].at(began.Add(time.Minute))
			want := map[time.Duration]time.Duration{0: 0, time.Millisecond: time.Millisecond, lateTick: lateTick, 3 * time.Second: time.Minute, time.Hour: time.Hour}
			for len(want) > 0 {
				c := <-done
				if w, ok := want[c.wanted]; !ok || c.came < w || c.came > w+lateTick {
					t.Errorf("round %d: what was wanted after %v was done after %v", round, c.wanted, c.came)
				}
				delete(want, c.wanted)
			}
			for _, c := range calls {
				if c.stop() {
					t.Error("a call is still to be done")
				}
			}
			if len(l.calls) > 0 {
				t.Errorf("%d calls are kept", len(l.calls))
			}
		}
	})
}

// The timer is not set for each session anew.
func TestLateIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l late
		fires := make(map[int64]bool)
		for range 1000 {
			c := l.after(time.Minute, func() { t.Error("it was put off in time") })
			w := l.after(lateTick, func() { t.Error("it was stopped in time") })
			time.Sleep(time.Millisecond)
			w.stop()
			c.stop()
			fires[l.next.Load()] = true
		}
		if len(fires) > 6 {
			t.Errorf("the timer was set %d times within a second", len(fires))
		}
	})
}

func TestLateContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l late
		parent, cancelParent := context.WithCancel(t.Context())
		for _, tt := range []struct {
			name   string
			end    func(cancel context.CancelFunc)
			want   error
			within time.Duration
		}{
			{"its time is over", func(context.CancelFunc) {}, context.DeadlineExceeded, time.Second + lateTick},
			{"cancelled", func(cancel context.CancelFunc) { cancel() }, context.Canceled, 0},
			{"its parent is cancelled", func(context.CancelFunc) { cancelParent() }, context.Canceled, 0},
		} {
			began := time.Now()
			ctx, cancel := l.withDeadline(parent, began.Add(time.Second))
			goroutines := runtime.NumGoroutine()
			child, cancelChild := context.WithCancel(context.WithValue(ctx, t, t))
			if n := runtime.NumGoroutine() - goroutines; n > 0 {
				t.Errorf("a context that is made of it costs %d goroutines", n)
			}
			afterwards, never := make(chan struct{}), context.AfterFunc(ctx, func() { t.Error("it was stopped") })
			context.AfterFunc(ctx, func() { close(afterwards) })
			if !never() || never() {
				t.Error("a function was not stopped once")
			}
			if d, ok := child.Deadline(); !ok || !d.Equal(began.Add(time.Second)) || child.Err() != nil {
				t.Errorf("%s: the deadline is %v, %v", tt.name, d, ok)
			}
			tt.end(cancel)
			<-child.Done()
			if took := time.Since(began); took > tt.within || ctx.Err() != tt.want || child.Err() != context.Canceled || context.Cause(child) != tt.want || context.Cause(ctx) != tt.want {
				t.Errorf("%s: after %v %v, %v, %v", tt.name, took, ctx.Err(), child.Err(), context.Cause(child))
			}
			<-afterwards
			behind, cancelBehind := context.WithCancel(ctx)
			<-behind.Done()
			if context.Cause(behind) != tt.want {
				t.Errorf("%s: one made later has %v", tt.name, context.Cause(behind))
			}
			cancelBehind()
			cancelChild()
			cancel()
			cancel()
		}
		if ctx, cancel := l.withDeadline(t.Context(), time.Now()); ctx.Err() != context.DeadlineExceeded {
			t.Errorf("a deadline that is over: %v", ctx.Err())
		} else {
			cancel()
		}
		if len(l.calls) > 0 {
			t.Errorf("%d calls are kept", len(l.calls))
		}
	})
}
