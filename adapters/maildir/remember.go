package maildir

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// listing is what a folder held at one time. It is shared by sessions, and never
// changed.
type listing struct {
	version version // of the folder; zero where that changed meanwhile
	packed
	// stands says that the listing holds while the folder has this version, and what
	// is unreadable remains so. Otherwise it tells the sizes of messages alone.
	stands bool
	kept   time.Time // when a listing of this folder was last written to the cache
	due    bool      // this one was not, since that was just before
}

// listingOctets is the memory of a listing without messages.
const listingOctets = int64(unsafe.Sizeof(listing{}))

// maxRemembered is how much memory all listings may take up: some two
// million messages.
const maxRemembered = 64 << 20

// listings remembers the latest listing of each folder, by path. When there is
// no more room those go that were not used for the longest time. The zero value
// is empty, and safe for concurrent use.
type listings struct {
	mu     sync.Mutex
	byPath map[string]*list.Element // of *remembered
	recent list.List                // the one used last in front
	octets int64
	made   atomic.Int64 // listings in all, for tests
}

type remembered struct {
	*listing
	path   string
	octets int64
}

// get returns nil if none is remembered.
func (r *listings) get(path string) *listing {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.byPath[path]
	if !ok {
		return nil
	}
	r.recent.MoveToFront(e)
	return e.Value.(*remembered).listing
}

// all returns the listings that are remembered, by path.
func (r *listings) all() map[string]*listing {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]*listing, len(r.byPath))
	for path, e := range r.byPath {
		all[path] = e.Value.(*remembered).listing
	}
	return all
}

func (r *listings) put(path string, l *listing) {
	octets := l.memory() + listingOctets
	r.made.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(r.byPath[path])
	if octets > maxRemembered {
		return
	}
	if r.byPath == nil {
		r.byPath = make(map[string]*list.Element)
	}
	r.byPath[path] = r.recent.PushFront(&remembered{l, path, octets})
	r.octets += octets
	for r.octets > maxRemembered {
		r.remove(r.recent.Back())
	}
}

func (r *listings) forget(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(r.byPath[path])
}

func (r *listings) remove(e *list.Element) {
	if e == nil {
		return
	}
	old := r.recent.Remove(e).(*remembered)
	delete(r.byPath, old.path)
	r.octets -= old.octets
}
