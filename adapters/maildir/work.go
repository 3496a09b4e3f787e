package maildir

import (
	"log/slog"
	"sync/atomic"
)

// work is one listing being made: how far it is, and what it has met. It is safe
// for concurrent use.
type work struct {
	log    *slog.Logger
	all    atomic.Int64 // messages met
	done   atomic.Int64 // of them those whose size is known
	unread atomic.Int64 // of them those that cannot be read
}

// maxReports is how many messages a session logs one by one for one reason.
const maxReports = 10

// unreadable logs a message that cannot be read: some with their names, the
// others, at the end, as a number.
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
