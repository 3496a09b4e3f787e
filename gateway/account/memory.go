package account

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// maxRemembered bounds memory; each entry takes some 200 octets.
const maxRemembered = 10_000

// memory holds which passwords were found right lately, so that a client that
// polls every minute costs one costly check in many polls. It knows a password
// by a keyed hash alone, whose key never leaves the process. A changed stored
// hash forgets the password, being part of what is hashed: so what is known holds
// whatever else of the users has changed (Config.Before).
type memory struct {
	key  [32]byte
	life time.Duration // of an entry, counted from the check; none if 0
	max  int

	mu      sync.Mutex
	entries map[[sha256.Size]byte]*list.Element
	recent  *list.List // of *remembered, last used first

	hits, misses atomic.Uint64 // of knows
}

type remembered struct {
	mark    [sha256.Size]byte
	expires time.Time
}

func newMemory(life time.Duration, max int) *memory {
	m := &memory{life: life, max: max, entries: make(map[[sha256.Size]byte]*list.Element), recent: list.New()}
	rand.Read(m.key[:]) // never fails
	return m
}

// mark is what the memory keeps of a right password.
func (m *memory) mark(name, stored string, password []byte) (mark [sha256.Size]byte) {
	h := hmac.New(sha256.New, m.key[:])
	var length [8]byte
	for _, part := range [][]byte{[]byte(name), []byte(stored), password} {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write(part)
	}
	h.Sum(mark[:0])
	return mark
}

// knows reports whether mark was added less than life ago.
func (m *memory) knows(mark [sha256.Size]byte) (known bool) {
	defer func() {
		if known {
			m.hits.Add(1)
		} else {
			m.misses.Add(1)
		}
	}()
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[mark]
	if !ok {
		return false
	}
	if !time.Now().Before(e.Value.(*remembered).expires) {
		m.forget(e)
		return false
	}
	m.recent.MoveToFront(e)
	return true
}

// add remembers mark, and forgets the one longest unused when there is no room.
func (m *memory) add(mark [sha256.Size]byte) {
	if m.life <= 0 {
		return
	}
	expires := time.Now().Add(m.life)
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries[mark]; ok {
		e.Value.(*remembered).expires = expires
		m.recent.MoveToFront(e)
		return
	}
	if len(m.entries) >= m.max {
		m.forget(m.recent.Back())
	}
	m.entries[mark] = m.recent.PushFront(&remembered{mark, expires})
}

func (m *memory) forget(e *list.Element) {
	delete(m.entries, e.Value.(*remembered).mark)
	m.recent.Remove(e)
}
