package imap

import (
	"container/list"
	"log/slog"
	"sync"
	"time"

	"pop3gw/gateway/state/cache"
)

const (
	// memoryOctets bounds what listings may take up, of all mailboxes: eight
	// octets for each message.
	memoryOctets = 64 << 20

	// saveEvery is how often the listing of a mailbox is written to disk, at
	// most. What was not written is listed again if the process ends.
	saveEvery = time.Minute
)

// remembered is a mailbox as it was listed once. It is never changed.
//
// Its messages are all that ever had, or will have, a UID below uidNext, less
// some that were removed: UIDs only grow (RFC 9051 §2.3.1.1). So, while
// UIDVALIDITY and UIDNEXT stay, the mailbox holds these messages if it holds as
// many.
type remembered struct {
	mailbox       string // its name on the server
	uidValidity   uint32
	uidNext       uint32    // 0 where the server does not tell: then only sizes are of use
	highestModSeq uint64    // 0 where the server does not tell
	listed        time.Time // when all sizes were last asked for
	messages      listing
	shown         *shown // what a window shows of them; nil where it was not asked for
}

// octets is about what r takes up in memory.
func (r *remembered) octets() int {
	const perEntry, perLarge = 512, 64
	n := perEntry + 8*cap(r.messages.uids) + 8*cap(r.messages.right) + perLarge*len(r.messages.large)
	if r.shown != nil {
		n += 8 * cap(r.shown.set)
	}
	return n
}

// memory remembers the listings of mailboxes, those used last. The zero value
// is empty. What it is to keep in store outlives the process.
type memory struct {
	store *cache.Cache
	log   *slog.Logger // nil without a store

	mu      sync.Mutex
	entries map[string]*list.Element // of entry, by key
	used    list.List                // the last one used at the front
	octets  int
	closed  bool // nothing is written any more
	saving  sync.WaitGroup
}

type entry struct {
	key     string
	r       *remembered
	unsaved bool
	saved   time.Time // when it was written last

	// Whether the last session that got messages began with two in a row, and which
	// part of them it got. Where that is not known it is false.
	inRow bool
	part  part
}

// recall returns what is remembered of a mailbox, or nil.
func (m *memory) recall(key string) *remembered {
	m.mu.Lock()
	if e := m.entries[key]; e != nil {
		m.used.MoveToFront(e)
		m.mu.Unlock()
		return e.Value.(*entry).r
	}
	m.mu.Unlock()
	data, ok := m.store.Get(key)
	if !ok {
		return nil
	}
	r, err := decode(data)
	if err != nil {
		m.log.Warn("what was kept of a mailbox cannot be used, it is listed anew", "mailbox", key, "error", err)
		m.store.Delete(key)
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[key]; e != nil { // of another session, which was sooner
		return e.Value.(*entry).r
	}
	m.put(&entry{key: key, r: r})
	return r
}

// remember keeps r in place of what was remembered. changed says whether it is
// worth writing.
func (m *memory) remember(key string, r *remembered, changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := &entry{key: key}
	if old := m.entries[key]; old != nil {
		*e = *old.Value.(*entry)
		m.drop(old)
	}
	e.r = r
	e.unsaved = e.unsaved || changed
	m.put(e)
}

// put adds an entry, and drops others that there is no room for. One that there can
// be no room for is merely written.
func (m *memory) put(e *entry) {
	if e.r.octets() > memoryOctets {
		m.save(e)
		return
	}
	if m.entries == nil {
		m.entries = make(map[string]*list.Element)
	}
	m.entries[e.key] = m.used.PushFront(e)
	m.octets += e.r.octets()
	for m.octets > memoryOctets {
		last := m.used.Back()
		m.drop(last)
		m.save(last.Value.(*entry))
	}
}

// beganInRow reports whether the last session that got messages began with two in a row,
// of this part. It is merely remembered as long as the listing is.
func (m *memory) beganInRow(key string, p part) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[key]
	return e != nil && e.Value.(*entry).inRow && e.Value.(*entry).part == p
}

// noteBeginning is what beganInRow goes by.
func (m *memory) noteBeginning(key string, p part, inRow bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[key]; e != nil {
		e.Value.(*entry).inRow, e.Value.(*entry).part = inRow, p
	}
}

func (m *memory) drop(e *list.Element) {
	m.used.Remove(e)
	delete(m.entries, e.Value.(*entry).key)
	m.octets -= e.Value.(*entry).r.octets()
}

// keep writes what has changed of a mailbox, if that is due. It does not wait.
func (m *memory) keep(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[key]; e != nil && time.Since(e.Value.(*entry).saved) >= saveEvery {
		m.save(e.Value.(*entry))
	}
}

func (m *memory) save(e *entry) {
	if !e.unsaved || m.store == nil || m.closed {
		return
	}
	e.unsaved, e.saved = false, time.Now()
	key, r := e.key, e.r
	m.saving.Go(func() { m.store.Put(key, r.encode()) })
}

// close writes what has not been written.
func (m *memory) close() {
	m.mu.Lock()
	for _, e := range m.entries {
		m.save(e.Value.(*entry))
	}
	m.closed = true
	m.mu.Unlock()
	m.saving.Wait()
}
