package imap

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"pop3gw/gateway"
)

// EXPUNGE removes whatever is flagged as \Deleted, whoever flagged it. Where the
// server cannot expunge single messages (UIDPLUS), WithoutUIDPLUS = "guarded" takes
// the flag off the messages of others for as long as that takes:
//
//	journal   whose flags are about to change
//	lift      \Deleted off those that are not to be removed
//	flag      those that are
//	look      is anything else flagged? Then once more, from the journal on
//	EXPUNGE
//	restore   \Deleted on those it was lifted from
//	journal   done
//
// Whatever ends the session between the two, the next one undoes what it finds in
// the journal: what was lifted is flagged again, what was flagged and is still there
// is not any more.
//
// A program that flags a message between the last look and EXPUNGE, some
// milliseconds, loses it: that is why this is not done unless it is asked for.

// Journal is where the adapter notes what must not be left half done: entries by
// name, on stable storage when a call returns.
type Journal interface {
	Put(ctx context.Context, name string, entry []byte) error
	Get(ctx context.Context, name string) (entry []byte, written time.Time, ok bool, err error)
	Delete(ctx context.Context, name string) error
}

// UseJournal has the adapter remove mail under guard, if its options say so. It is
// called before the first Open; without it DELE is refused where it would be needed.
func (a *Adapter) UseJournal(j Journal) { a.journal = j }

// flagging is an entry of the journal.
type flagging struct {
	UIDValidity uint32 `json:"uidvalidity"`
	Lifted      string `json:"lifted"`  // UIDs from which \Deleted is taken, as sets
	Flagged     string `json:"flagged"` // UIDs that get it, and had not
}

// maxLooks is how often the flags are looked at in the hope that nobody else
// changes them meanwhile.
const maxLooks = 5

var errFlagging = errors.New("another program keeps flagging messages as \\Deleted")

// isGuarded reports whether removing takes a guarded EXPUNGE.
func (d *maildrop) isGuarded() bool {
	return d.removes() && !d.caps.Has(imap.CapUIDPlus) && !(d.moves() && d.caps.Has(imap.CapMove))
}

// permitGuarded returns why messages cannot be removed so.
func (d *maildrop) permitGuarded() error {
	const text = "mail server has no UIDPLUS, so messages cannot be removed safely"
	server := d.adapter.options.Address
	switch {
	case d.adapter.options.WithoutUIDPLUS != Guarded:
		return gateway.Unusable(text, fmt.Errorf("%s cannot expunge single messages; set on_delete to \"seen\" or \"keep\", or without_uidplus to \"guarded\"", server))
	case d.adapter.journal == nil:
		return gateway.Unusable(text, fmt.Errorf("%s cannot expunge single messages, and without_uidplus = \"guarded\" needs a journal; set state.url", server))
	}
	return d.unrepaired
}

func (d *maildrop) journalName() string {
	return fmt.Sprintf("imap guarded %q %q %q", d.adapter.options.Address, d.account, d.mailbox)
}

// repair undoes what an earlier session left half done. If it cannot, messages can
// be read, and not removed. A journal that cannot be read is an error.
func (d *maildrop) repair(ctx context.Context) error {
	if d.adapter.journal == nil || d.adapter.options.WithoutUIDPLUS != Guarded && d.caps.Has(imap.CapUIDPlus) {
		return nil
	}
	_, _, found, err := d.adapter.journal.Get(ctx, d.journalName())
	if err != nil || !found {
		return err
	}
	d.log.Warn("a removal was interrupted, the flags that it changed are restored", "mailbox", d.mailbox)
	err = d.retry(ctx, selected, func() error { return d.undo(ctx) })
	if err != nil {
		d.log.Error("flags could not be restored; messages of this mailbox cannot be removed until they are", "mailbox", d.mailbox, "error", quoted(err))
		d.unrepaired = gateway.Unavailable("an interrupted removal could not be undone, so messages cannot be removed now",
			fmt.Errorf("restoring flags in mailbox %.200q: %w", d.mailbox, err))
	}
	return nil
}

// undo brings the flags back that the journal tells of, on a mailbox that is open
// for writing, and takes the entry out. Without an entry it does nothing.
func (d *maildrop) undo(ctx context.Context) error {
	name := d.journalName()
	data, _, found, err := d.adapter.journal.Get(ctx, name)
	if err != nil || !found {
		return err
	}
	var f flagging
	lifted, flagged := []uint32(nil), []uint32(nil)
	if err = json.Unmarshal(data, &f); err == nil {
		lifted, err = parseUIDs(f.Lifted)
	}
	if err == nil {
		flagged, err = parseUIDs(f.Flagged)
	}
	switch {
	case err != nil:
		return fmt.Errorf("entry %q of the journal: %w", name, err)
	case f.UIDValidity != d.uidValidity:
		// The UIDs mean nothing any more; whatever made the mailbox anew has made
		// its flags as well.
		d.log.Warn("the mailbox was replaced since, no flags are restored", "mailbox", d.mailbox)
	default:
		if err := d.restore(ctx, lifted, flagged); err != nil {
			return err
		}
	}
	return d.adapter.journal.Delete(ctx, name)
}

// restore flags messages as \Deleted, and others no longer, and looks whether that
// has been done.
func (d *maildrop) restore(ctx context.Context, lifted, flagged []uint32) error {
	for _, change := range []struct {
		uids   []uint32
		op     imap.StoreFlagsOp
		undone imap.SearchCriteria
	}{
		{flagged, imap.StoreFlagsDel, imap.SearchCriteria{Flag: []imap.Flag{imap.FlagDeleted}}},
		{lifted, imap.StoreFlagsAdd, imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagDeleted}}},
	} {
		for set := range chunks(change.uids) {
			if err := d.storeDeleted(ctx, set, change.op); err != nil {
				return err
			}
			change.undone.UID = []imap.UIDSet{set}
			left, err := d.search(ctx, maxSetMessages, &change.undone)
			if err != nil {
				return err
			}
			if len(left) > 0 {
				return fmt.Errorf("server answered OK, and %d flags are as they were", len(left))
			}
		}
	}
	return nil
}

func (d *maildrop) storeDeleted(ctx context.Context, set imap.UIDSet, op imap.StoreFlagsOp) error {
	return d.conn.Do(ctx, func(client *imapclient.Client) error {
		return client.Store(set, &imap.StoreFlags{Op: op, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close()
	})
}

// removeGuarded removes the messages of uids, ascending. It returns which of them
// there were, and which are left, all where that is unknown.
func (d *maildrop) removeGuarded(ctx context.Context, uids []uint32) (found, left []uint32, err error) {
	left = uids
	first := true
	err = d.retry(ctx, selected, func() error {
		left = uids
		// After a connection was lost this removal itself is in the journal.
		if err := d.undo(ctx); err != nil {
			return err
		}
		there, err := d.searchAmong(ctx, uids)
		if err != nil {
			return err
		}
		if first {
			found, first = there, false
		}
		if d.moves() {
			if err := d.copyAll(ctx, there); err != nil {
				return err
			}
		}
		err = d.expungeGuarded(ctx, there)
		if d.conn.Err() != nil || ctx.Err() != nil {
			return err // undone by the next attempt, or at the next login
		}
		err = cmp.Or(err, d.undo(ctx))
		if still, serr := d.searchAmong(ctx, there); serr == nil && (err == nil || len(still) > 0) {
			left = still
		} else {
			err = cmp.Or(err, serr)
		}
		return err
	})
	return found, left, err
}

// expungeGuarded flags the messages of uids, and nothing else, and expunges. What
// it has done to flags is in the journal.
func (d *maildrop) expungeGuarded(ctx context.Context, uids []uint32) error {
	if len(uids) == 0 {
		return nil
	}
	var lifted, flagged []uint32
	for look := range maxLooks {
		marked, err := d.searchDeleted(ctx)
		if err != nil {
			return err
		}
		foreign := less(marked, uids)
		if look == 0 {
			flagged = less(uids, marked)
		} else if len(foreign) == 0 {
			if len(less(uids, marked)) > 0 {
				return nil // it says OK and does nothing, which a look at what is left tells
			}
			return d.conn.Do(ctx, func(client *imapclient.Client) error {
				return client.Expunge().Close()
			})
		}
		lifted = union(lifted, foreign)
		entry, err := json.Marshal(flagging{d.uidValidity, formatUIDs(lifted), formatUIDs(flagged)})
		if err == nil {
			err = d.adapter.journal.Put(ctx, d.journalName(), entry)
		}
		if err != nil {
			return err
		}
		for set := range chunks(foreign) {
			if err := d.storeDeleted(ctx, set, imap.StoreFlagsDel); err != nil {
				return err
			}
		}
		for set := range chunks(uids) {
			if err := d.storeDeleted(ctx, set, imap.StoreFlagsAdd); err != nil {
				return err
			}
		}
		// What was removed meanwhile by others can no longer be flagged.
		if uids, err = d.searchAmong(ctx, uids); err != nil {
			return err
		}
		if len(uids) == 0 {
			return nil
		}
	}
	return errFlagging
}

// copyAll copies messages to the trash. Where the server's answer to COPY is lost, a
// copy more is better than none.
func (d *maildrop) copyAll(ctx context.Context, uids []uint32) error {
	for set := range chunks(uids) {
		if d.copiedSets[set.String()] {
			continue
		}
		err := d.conn.Do(ctx, func(client *imapclient.Client) error {
			_, err := client.Copy(set, d.trash).Wait()
			return err
		})
		if err != nil {
			return err
		}
		if d.copiedSets == nil {
			d.copiedSets = make(map[string]bool)
		}
		d.copiedSets[set.String()] = true
	}
	return nil
}

// searchDeleted returns the messages that are flagged as \Deleted.
func (d *maildrop) searchDeleted(ctx context.Context) ([]uint32, error) {
	set, err := d.search(ctx, maxMessages, &imap.SearchCriteria{Flag: []imap.Flag{imap.FlagDeleted}})
	if err != nil {
		return nil, err
	}
	return expand(set)
}

// searchAmong returns those of uids that are there.
func (d *maildrop) searchAmong(ctx context.Context, uids []uint32) (there []uint32, err error) {
	for set := range chunks(uids) {
		found, err := d.search(ctx, maxSetMessages, &imap.SearchCriteria{UID: []imap.UIDSet{set}})
		if err != nil {
			return nil, err
		}
		for _, r := range set {
			for uid := r.Start; ; uid++ {
				if found.Contains(uid) {
					there = append(there, uint32(uid))
				}
				if uid == r.Stop {
					break
				}
			}
		}
	}
	return there, nil
}

// chunks yields uids, ascending, as the sets of single commands.
func chunks(uids []uint32) func(yield func(imap.UIDSet) bool) {
	return func(yield func(imap.UIDSet) bool) {
		l := listing{uids: uids}
		all := make([]int, len(uids))
		for i := range all {
			all[i] = i
		}
		for len(all) > 0 {
			set, n := l.chunk(all)
			if !yield(set) {
				return
			}
			all = all[n:]
		}
	}
}

// expand returns the UIDs of a server's set, ascending.
func expand(set imap.UIDSet) ([]uint32, error) {
	n := uint64(0)
	for _, r := range set {
		if n += uint64(r.Stop) - uint64(r.Start) + 1; r.Stop < r.Start || n > maxMessages {
			return nil, errTooMany
		}
	}
	uids := make([]uint32, 0, n)
	for _, r := range set {
		for uid := uint64(r.Start); uid <= uint64(r.Stop); uid++ {
			uids = append(uids, uint32(uid))
		}
	}
	return uids, nil
}

// less returns a without what is in b, and union what is in one of them, all
// ascending.
func less(a, b []uint32) (left []uint32) {
	for _, uid := range a {
		if _, ok := slices.BinarySearch(b, uid); !ok {
			left = append(left, uid)
		}
	}
	return left
}

func union(a, b []uint32) []uint32 {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
