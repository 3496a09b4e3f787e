package maildir

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// work is what goes on while a listing is made: how far it is, and what it has
// met. It is safe for concurrent use.
type work struct {
	log    *slog.Logger
	all    atomic.Int64 // messages met
	done   atomic.Int64 // of them those whose size is known
	unread atomic.Int64 // of them those that cannot be read
}

const (
	// maxReports is how many messages a session logs one by one for one reason.
	maxReports = 10
	// reportInterval is how often the log tells how far a long listing is.
	reportInterval = 10 * time.Second
)

// unreadable logs a message that cannot be read: some with their names, the
// others, by end, as a number.
func (w *work) unreadable(m *message, err error) {
	if w.unread.Add(1) <= maxReports {
		w.log.Warn("message cannot be read; it is listed with its file's size and RETR will fail; let the gateway's user read it",
			"file", subdirNames[m.in]+"/"+m.name, "error", err)
	}
}

func (w *work) end() {
	if n := w.unread.Load(); n > maxReports {
		w.log.Warn("further messages cannot be read", "number", n-maxReports)
	}
}

// progress is how many messages are done, of how many.
func (w *work) progress() (done, all int64) {
	all = w.all.Load()
	return min(w.done.Load(), all), all
}

// guard calls fn. A panic ends the work, and not the process.
func (w *work) guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error: %v", p)
			w.log.Error("a listing ended by an internal error; please report it", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	return fn()
}

// report logs how far the work is, as long as it lasts.
func (w *work) report(ended <-chan struct{}) {
	began := time.Now()
	ticker := time.NewTicker(reportInterval)
	defer ticker.Stop()
	for long := false; ; long = true {
		select {
		case <-ticker.C:
			done, all := w.progress()
			w.log.Info("messages are counted for the first time", "done", done, "of", all, "since", time.Since(began).Round(time.Second))
		case <-ended:
			if done, all := w.progress(); long {
				w.log.Info("counting messages has ended", "done", done, "of", all, "took", time.Since(began).Round(time.Second))
			}
			return
		}
	}
}
