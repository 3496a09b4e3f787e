package maildir

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"pop3gw/gateway"
)

// making is a listing in the making. It may outlive the login that asked for it:
// a client that runs out of patience comes again, and finds the listing made.
type making struct {
	work *work
	done chan struct{} // closed at the end
	made *listing      // valid then, as is err
	err  error

	mu    sync.Mutex
	ended bool
	left  func() // called at the end, since no login waits that could do it
}

// makings are those of an adapter that no login waits for, by path of the folder.
type makings struct {
	mu     sync.Mutex
	byPath map[string]*making
}

func (s *makings) get(path string) *making {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[path]
}

// set notes that m is in the making at path, or, if it is nil, that nothing is.
func (s *makings) set(path string, m *making) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byPath == nil {
		s.byPath = make(map[string]*making)
	}
	if s.byPath[path] = m; m == nil {
		delete(s.byPath, path)
	}
}

// make lists the folder of d in the background, until the adapter is closed.
func (a *Adapter) make(d *maildrop, known *listing) *making {
	m := &making{work: &work{log: d.log}, done: make(chan struct{})}
	f := d.folder
	go m.work.report(m.done)
	a.background.Go(func() {
		defer m.end()
		m.err = m.work.guard(func() (err error) {
			if m.made, err = f.list(a.ctx, a.counter, known, m.work); err == nil {
				a.keep(f.path, m.made, known)
				a.listings.put(f.path, m.made)
			}
			return err
		})
	})
	return m
}

func (m *making) end() {
	m.mu.Lock()
	m.ended = true
	left := m.left
	m.mu.Unlock()
	if left != nil {
		left()
	}
	close(m.done)
}

// leave has the listing made without anybody waiting, and behind called at its
// end. It reports false if that has come.
func (m *making) leave(behind func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = behind
	return !m.ended
}

// await waits for a listing, but not longer than a login may take. Then finished
// is false.
func (a *Adapter) await(ctx context.Context, m *making) (finished bool) {
	timer := time.NewTimer(a.patience)
	defer timer.Stop()
	select {
	case <-m.done:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// unfinished is the answer to a login that does not wait any longer.
func (m *making) unfinished(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done, all := m.work.progress()
	return gateway.Unavailable(fmt.Sprintf("messages are counted for the first time, %d of %d are done, try again in a while", done, all),
		errors.New("the listing goes on, and a later login will find it; first_listing_timeout says how long a login waits"))
}
