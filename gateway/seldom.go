package gateway

import (
	"sync"
	"time"
)

// seldom lets one of many like lines into the log each minute, and counts the
// others: what an attack fills is not to be the disk.
type seldom struct {
	mu   sync.Mutex
	last time.Time
	left int
}

const seldomPause = time.Minute

// pass reports whether a line is due, and how many were left out since the last.
func (s *seldom) pass() (left int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.last.IsZero() || now.Sub(s.last) >= seldomPause {
		left, s.left, s.last = s.left, 0, now
		return left, true
	}
	s.left++
	return 0, false
}
