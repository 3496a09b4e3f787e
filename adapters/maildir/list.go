package maildir

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// list returns the messages of the folder in the maildrop's order.
func (f *folder) list(ctx context.Context, c *counter, log *slog.Logger) ([]message, error) {
	report := &unreadReport{log: log}
	defer report.end()

	var found []message
	for range maxScans {
		start := len(found)
		_, whole, err := f.scan(ctx, func(in subdir, name string) {
			found = append(found, newMessage(in, name))
		})
		if err != nil {
			return nil, err
		}
		if whole {
			found = found[start:]
			break
		}
	}
	// If no scan was whole, what any of them met is there or was renamed.
	found = distinctNames(found)
	if err := c.measure(ctx, f, found, report.add); err != nil {
		return nil, err
	}
	found, err := f.recover(ctx, found, c, report.add)
	if err != nil {
		return nil, err
	}
	return arrange(found, log), nil
}

// recover adds to found, which was measured, the files that were renamed since
// they were met. A message of which no file is left was removed.
func (f *folder) recover(ctx context.Context, found []message, c *counter, unread func(*message, error)) ([]message, error) {
	for range maxScans {
		lost := lostBases(found)
		if len(lost) == 0 {
			return found, nil
		}
		var again []message
		_, whole, err := f.scan(ctx, func(in subdir, name string) {
			if _, ok := lost[baseName(name)]; ok {
				again = append(again, newMessage(in, name))
			}
		})
		if err != nil {
			return nil, err
		}
		if whole && len(again) == 0 {
			return found, nil
		}
		if err := c.measure(ctx, f, again, unread); err != nil {
			return nil, err
		}
		found = append(found, again...)
	}
	if len(lostBases(found)) > 0 {
		return nil, errBusy(f)
	}
	return found, nil
}

// distinctNames drops the messages that have a name in common with another.
func distinctNames(messages []message) []message {
	slices.SortFunc(messages, func(a, b message) int {
		if c := compareBase(&a, &b); c != 0 {
			return c
		}
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return int(a.in) - int(b.in)
	})
	return slices.CompactFunc(messages, func(a, b message) bool { return a.in == b.in && a.name == b.name })
}

// lostBases returns the base names that only missing files have.
func lostBases(messages []message) map[string]struct{} {
	var lost map[string]struct{}
	for i := range messages {
		if messages[i].state == missing {
			if lost == nil {
				lost = make(map[string]struct{})
			}
			lost[messages[i].base()] = struct{}{}
		}
	}
	if lost == nil {
		return nil
	}
	for i := range messages {
		if messages[i].state != missing {
			delete(lost, messages[i].base())
		}
	}
	return lost
}

// arrange sorts what is a message and joins the names of one file.
func arrange(found []message, log *slog.Logger) []message {
	foreignFiles := 0
	messages := slices.DeleteFunc(found, func(m message) bool {
		if m.state == foreign {
			foreignFiles++
		}
		return m.state != readable && m.state != unreadable
	})
	if foreignFiles > 0 {
		log.Debug("what is no regular file is no message", "number", foreignFiles)
	}
	slices.SortFunc(messages, compare)
	messages = slices.CompactFunc(messages, func(a, b message) bool { return compare(a, b) == 0 })
	duplicates := 0
	for i := 1; i < len(messages); i++ {
		if compareBase(&messages[i-1], &messages[i]) == 0 {
			messages[i-1].shared, messages[i].shared, messages[i].duplicate = true, true, true
			duplicates++
		}
	}
	if duplicates > 0 {
		log.Warn("several files share a base name; all are listed, but their UIDLs change when one of them goes", "number", duplicates)
	}
	return slices.Clone(messages) // less the room of what was dropped
}

// unreadReport logs the messages of one listing that cannot be read: some with
// their names, the others as a number. It is safe for concurrent use.
type unreadReport struct {
	log *slog.Logger
	mu  sync.Mutex
	n   int
}

// maxReports is how many messages a session logs one by one for one reason.
const maxReports = 10

func (r *unreadReport) add(m *message, err error) {
	r.mu.Lock()
	r.n++
	n := r.n
	r.mu.Unlock()
	if n <= maxReports {
		r.log.Warn("message cannot be read; it is listed with its file's size and RETR will fail; let the gateway's user read it",
			"file", subdirNames[m.in]+"/"+m.name, "error", err)
	}
}

func (r *unreadReport) end() {
	if r.n > maxReports {
		r.log.Warn("further messages cannot be read", "number", r.n-maxReports)
	}
}
