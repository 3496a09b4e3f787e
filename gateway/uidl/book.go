package uidl

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/state"
)

const (
	// MatchTime is how long messages that come are looked for among the known,
	// after an import and after names had to be given back.
	MatchTime = 30 * 24 * time.Hour

	// cacheOctets bounds what is remembered of maildrops whose messages have names
	// that are not the form's.
	cacheOctets = 32 << 20
)

// Book has the names of all maildrops. It is safe for concurrent use. A nil *Book
// keeps nothing.
type Book struct {
	store *state.UIDLs
	log   *slog.Logger

	mu     sync.Mutex
	pages  map[owner]*page
	octets int

	learning atomic.Int32 // how many learn now
}

// owner is whose maildrop it is.
type owner struct{ user, folder string }

// page is what is remembered of a maildrop, for as long as nobody else changes it.
type page struct {
	version int64
	names   *table
	checked map[Key]struct{} // messages that are none of the known
	refused string           // the state of the maildrop that was refused last
	learned time.Time        // until then Learner has nothing to do

	contents any            // as of Remembered, whose messages have all their names; nil for none
	sources  []state.Source // what they come from
	places   []int32        // as of Names
}

func (p *page) octets() int {
	return 256 + p.names.octets() + 16*len(p.checked) + 4*len(p.places)
}

// NewBook returns the names that db holds, which must not be nil.
func NewBook(db *state.DB, log *slog.Logger) *Book {
	return &Book{store: db.UIDLs(), log: log, pages: make(map[owner]*page)}
}

func (b *Book) page(o owner) *page {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pages[o]; p != nil {
		return p
	}
	return &page{version: -1}
}

// setLearned remembers until when Learner has nothing to do.
func (b *Book) setLearned(o owner, until time.Time) {
	p := *b.page(o)
	p.learned = until
	b.keep(o, &p)
}

// keep remembers p, which is not changed from then on.
func (b *Book) keep(o owner, p *page) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.pages[o]; old != nil {
		b.octets -= old.octets()
	}
	b.pages[o] = p
	b.octets += p.octets()
	for other, old := range b.pages { // in no order, which will do
		if b.octets <= cacheOctets {
			break
		}
		if other != o {
			b.octets -= old.octets()
			delete(b.pages, other)
		}
	}
}

// names returns the names that are kept of a maildrop.
func (b *Book) names(ctx context.Context, o owner) (*table, error) {
	chunks, err := b.store.Chunks(ctx, o.user, o.folder, state.NamesChunk)
	if err != nil {
		return nil, err
	}
	var all []named
	for _, c := range chunks {
		if all, err = decodeNames(c.Data, all); err != nil {
			return nil, damaged(o, err)
		}
	}
	return newTable(all), nil
}

// known returns the known messages of a maildrop, each once, and the last of
// their chunks. What was added last comes first: an old server's list that is
// imported goes before what was known without it.
func (b *Book) known(ctx context.Context, o owner) (all []known, through int64, err error) {
	chunks, err := b.store.Chunks(ctx, o.user, o.folder, state.KnownChunk)
	if err != nil {
		return nil, 0, err
	}
	for _, c := range slices.Backward(chunks) {
		if all, err = decodeKnown(c.Data, all); err != nil {
			return nil, 0, damaged(o, err)
		}
		through = max(through, c.ID)
	}
	return distinctKnown(all), through, nil
}

// Known returns how many messages of a user's maildrop are known by their
// unique-ids, whatever comes.
func (b *Book) Known(ctx context.Context, user, folder string) (messages int, err error) {
	all, _, err := b.known(ctx, owner{user, folder})
	return len(all), err
}

func distinctKnown(all []known) []known {
	seen := make(map[known]struct{}, len(all))
	kept := all[:0]
	for _, k := range all {
		if _, ok := seen[k]; !ok {
			seen[k] = struct{}{}
			kept = append(kept, k)
		}
	}
	return kept
}

func damaged(o owner, err error) error {
	return gateway.Unavailable("the gateway's own records are damaged, try again later",
		fmt.Errorf("unique-ids of user %q, folder %q: %w: %w; put a backup of %s in its place", o.user, o.folder, state.ErrDamaged, err, state.FileName))
}
