package oauth

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Store is where grants outlive the process: state.Tokens, or Memory. Several
// processes may share one, and it is safe for concurrent use.
type Store interface {
	// Load returns what is stored under name; revision 0 says that nothing is.
	Load(ctx context.Context, name string) (value []byte, revision int64, err error)

	// Save stores value under name, on stable storage, in place of what had the
	// revision old; 0 stands for anything, or nothing. It returns the new
	// revision, which no other has or had. It stores nothing and returns 0,
	// without an error, if there is another revision by now, or none.
	Save(ctx context.Context, name string, value []byte, old int64) (revision int64, err error)

	// Remove removes what is stored under name, and reports whether there was
	// anything.
	Remove(ctx context.Context, name string) (found bool, err error)

	// Names are those that something is stored under, in order.
	Names(ctx context.Context) ([]string, error)

	// Lease makes holder the one who may refresh what is stored under name,
	// until the time is over or Release. held is false while another one is.
	Lease(ctx context.Context, name, holder string, until time.Time) (held bool, err error)
	Release(ctx context.Context, name, holder string) error
}

// errChanged says that somebody else has stored, or removed, something meanwhile.
var errChanged = errors.New("it was changed meanwhile")

// Memory is a Store that lasts as long as the process. The zero value is empty.
type Memory struct {
	mu       sync.Mutex
	revision int64
	stored   map[string]stored
	leases   map[string]lease
}

type stored struct {
	value    []byte
	revision int64
}

type lease struct {
	holder string
	until  time.Time
}

func (m *Memory) Load(_ context.Context, name string) ([]byte, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stored[name].value, m.stored[name].revision, nil
}

func (m *Memory) Save(_ context.Context, name string, value []byte, old int64) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old != 0 && m.stored[name].revision != old {
		return 0, nil
	}
	if m.stored == nil {
		m.stored = make(map[string]stored)
	}
	m.revision++
	m.stored[name] = stored{slices.Clone(value), m.revision}
	return m.revision, nil
}

func (m *Memory) Remove(_ context.Context, name string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, found := m.stored[name]
	delete(m.stored, name)
	return found, nil
}

func (m *Memory) Names(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.stored)), nil
}

func (m *Memory) Lease(_ context.Context, name, holder string, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l, ok := m.leases[name]; ok && l.holder != holder && time.Now().Before(l.until) {
		return false, nil
	}
	if m.leases == nil {
		m.leases = make(map[string]lease)
	}
	m.leases[name] = lease{holder, until}
	return true, nil
}

func (m *Memory) Release(_ context.Context, name, holder string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leases[name].holder == holder {
		delete(m.leases, name)
	}
	return nil
}
