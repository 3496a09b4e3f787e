package gateway

import "sync"

// Locks are named locks within the process, for exclusive access to maildrops
// (RFC 1939 §4). The zero value is ready, and safe for concurrent use. The name
// is of the thing locked (a cleaned path, a host and login), since two login
// names may reach one maildrop.
type Locks struct {
	mu   sync.Mutex
	held map[string]struct{}
}

// TryLock takes the lock called name without waiting. If ok, the caller must
// call unlock, once or more often.
func (l *Locks) TryLock(name string) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, taken := l.held[name]; taken {
		return nil, false
	}
	if l.held == nil {
		l.held = make(map[string]struct{})
	}
	l.held[name] = struct{}{}
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, name)
	}), true
}
