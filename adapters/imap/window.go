package imap

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/gateway"
)

// shown is what a search found of the messages that a window shows. It holds as
// long as no message came, and no flag was changed where flags were asked for.
type shown struct {
	since   time.Time // the day; zero for any
	unseen  bool
	uidNext uint32
	modSeq  uint64 // HIGHESTMODSEQ as it was before the search
	set     imap.UIDSet
}

// narrow leaves of the messages those that the window shows. A poll of a mailbox
// that has not changed asks the server only where flags are looked at and the
// server does not tell whether they have changed (CONDSTORE, RFC 7162 §3.1.2.1).
func (d *maildrop) narrow(ctx context.Context) error {
	w := d.policy.Window
	if *w == (gateway.Window{}) {
		return nil
	}
	want := shown{since: firstDay(w.MaxAge, time.Now()), unseen: w.UnseenOnly, uidNext: d.known.uidNext, modSeq: d.known.highestModSeq}
	if (!want.since.IsZero() || want.unseen) && d.messages.len() > 0 {
		found := d.known.shown
		if !found.holds(&want, d.caps.Has(imap.CapCondStore)) {
			criteria := imap.SearchCriteria{Since: want.since}
			if want.unseen {
				criteria.NotFlag = []imap.Flag{imap.FlagSeen}
			}
			set, err := d.search(ctx, d.messages.len()+10_000, &criteria)
			if err != nil {
				return d.adapter.explain(fmt.Sprintf("searching mailbox %.200q for messages in the window", d.mailbox), err)
			}
			want.set = set
			found = &want
			now := *d.known
			now.shown = found
			d.known = &now
			d.adapter.memory.remember(d.key, d.known, false)
		}
		d.messages = d.messages.within(found.set)
	}
	if n := d.messages.len() - w.MaxMessages; w.MaxMessages > 0 && n > 0 {
		d.messages = d.messages.keeping(func(i int) bool { return i >= n })
	}
	return nil
}

// holds reports whether what was found is what a search for want would find.
func (s *shown) holds(want *shown, condstore bool) bool {
	switch {
	case s == nil, !s.since.Equal(want.since), s.unseen != want.unseen, want.uidNext == 0, s.uidNext != want.uidNext:
		return false
	}
	return !want.unseen || condstore && want.modSeq != 0 && s.modSeq == want.modSeq
}

// firstDay is the first day whose messages are shown, zero for all. SEARCH SINCE
// knows days alone, of the server's time zone, which may be half a day behind UTC:
// a message is shown for its whole age, and for up to two days more.
func firstDay(age gateway.Age, now time.Time) time.Time {
	since, ok := age.Before(now.UTC().Add(-12 * time.Hour))
	if !ok {
		return time.Time{}
	}
	return time.Date(since.Year(), since.Month(), since.Day(), 0, 0, 0, 0, time.UTC)
}

// remaining returns the messages of the mailbox, hidden ones as well, less those
// that were removed.
func (d *maildrop) remaining() listing {
	return d.known.messages.keeping(func(i int) bool {
		at, listed := slices.BinarySearch(d.messages.uids, d.known.messages.uids[i])
		return !listed || !d.gone.has(at)
	})
}
