package imap

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"pop3gw/adapters/imap/link"
)

// relistAfter is how old a listing may become: servers are not always faithful to
// the rules that it relies on.
const relistAfter = 24 * time.Hour

// list lists the mailbox, and remembers it.
func (d *maildrop) list(ctx context.Context, opened *link.Opened) error {
	doing := fmt.Sprintf("listing mailbox %.200q", d.mailbox)
	m, known := &opened.Mailbox, d.known
	if !m.Counted {
		return d.adapter.explainAs(incomplete, doing, errors.New("server does not tell how many messages there are (EXISTS, RFC 9051 §6.3.2)"))
	}
	if m.UIDValidity == 0 {
		return d.adapter.explainAs(permanent("mail server cannot tell its messages apart over time", "it needs UIDVALIDITY (RFC 9051 §2.3.1.1)"),
			doing, errors.New("mailbox has no UIDVALIDITY"))
	}
	if known != nil && (known.mailbox != d.mailbox || known.uidValidity != m.UIDValidity) {
		known = nil // another mailbox
	}
	now := &remembered{
		mailbox:       d.mailbox,
		uidValidity:   m.UIDValidity,
		uidNext:       m.UIDNext,
		highestModSeq: m.HighestModSeq,
		listed:        time.Now(),
	}
	ok, changed, err := false, true, error(nil)
	if known != nil {
		now.listed, now.shown = known.listed, known.shown
		now.messages, changed, ok, err = d.update(ctx, known, opened)
	}
	if err == nil {
		d.adapter.hits.listing.add(ok)
	}
	if !ok && err == nil {
		now.listed, changed = time.Now(), true
		if now.messages, err = d.listAll(ctx, opened); err == nil && known != nil {
			now.messages.correctAs(&known.messages)
		}
	}
	switch {
	case errors.Is(err, errTooMany):
		return d.adapter.explainAs(permanent("mailbox has too many messages", "remove some, or move them to other mailboxes"), doing, err)
	case errors.Is(err, errIncomplete):
		return d.adapter.explainAs(incomplete, doing, err)
	case err != nil:
		return d.adapter.explain(doing, err)
	}
	// A message that came after the mailbox was opened may be listed.
	if n := now.messages.len(); n > 0 && now.uidNext > 0 && now.messages.uids[n-1] >= now.uidNext {
		now.uidNext = now.messages.uids[n-1] + 1
	}
	d.messages, d.known = now.messages, now
	d.adapter.memory.remember(d.key, now, now.uidNext > 0 && (changed || known.uidNext != now.uidNext))
	return d.narrow(ctx)
}

// update brings a listing of the mailbox up to date. ok is false where it is not
// to be trusted.
func (d *maildrop) update(ctx context.Context, known *remembered, opened *link.Opened) (l listing, changed, ok bool, err error) {
	m := &opened.Mailbox
	age := time.Since(known.listed)
	if known.uidNext == 0 || m.UIDNext < known.uidNext || age < 0 || age > relistAfter ||
		m.HighestModSeq != 0 && m.HighestModSeq < known.highestModSeq {
		return l, false, false, nil
	}
	l = known.messages
	first := uint32(math.MaxUint32) // sequence number of the first that came
	if m.UIDNext > known.uidNext {
		var added listing
		err := d.conn.FetchSizes(ctx, fmt.Sprintf("%d:*", known.uidNext), func(seq uint32, uid imap.UID, size int64) error {
			if uint32(uid) < known.uidNext {
				return nil // where there is none, servers give the last one
			}
			first = min(first, seq)
			return added.add(uid, size)
		})
		if err != nil {
			return l, false, false, err
		}
		if added.sort(); added.len() > 0 {
			l, changed = l.with(added), true
		}
	}
	switch present := int(m.Messages); {
	case l.len() < present:
		return l, false, false, nil
	case l.len() == present && changed && int64(first) != int64(known.messages.len())+1:
		return l, false, false, nil // old ones went, and as many new ones since they were counted
	case l.len() > present && opened.Extent != nil && opened.Extent.Count == 0 && present == 0:
		return listing{}, true, true, nil
	case l.len() > present:
		set, err := d.search(ctx, l.len()+10_000, &imap.SearchCriteria{})
		if err != nil {
			return l, false, false, err
		}
		// Some servers say nothing where nothing is found, so that nothing found
		// proves little.
		return l.within(set), true, len(set) > 0 && l.covers(set, uint64(m.UIDNext)), nil
	}
	if !d.caps.Has(imap.CapESearch) {
		return l, changed, true, nil
	}
	if !opened.Searched {
		again, err := d.conn.Open(ctx, link.Opening{Extent: true})
		if err != nil {
			return l, false, false, err
		}
		opened.Extent = again.Extent
	}
	return l, changed, l.agrees(opened.Extent), nil
}

var (
	errIncomplete = errors.New("SEARCH finds messages that FETCH leaves out")
	incomplete    = temporary("mail server does not list all messages, try again later", "see the server's own log")
)

// listAll lists the mailbox. A listing is taken for complete if it has as many
// messages as the mailbox is said to have. If not, mail came or went meanwhile, or
// the server left something out: then a search tells.
func (d *maildrop) listAll(ctx context.Context, opened *link.Opened) (listing, error) {
	m := &opened.Mailbox
	// What comes after the mailbox was opened may be listed or not.
	limit := uint64(math.MaxUint32) + 1
	if m.UIDNext != 0 {
		limit = uint64(m.UIDNext)
	}
	empty := m.Messages == 0
	for range 2 {
		var l listing
		if !empty {
			n := min(m.Messages, 1<<17)
			l.uids, l.sizes = make([]uint32, 0, n), make([]uint32, 0, n)
			if err := d.conn.FetchSizes(ctx, "1:*", func(_ uint32, uid imap.UID, size int64) error { return l.add(uid, size) }); err != nil {
				return l, err
			}
			l.sort()
		}
		if l.len() == int(m.Messages) && (l.len() > 0 || l.agrees(opened.Extent)) {
			return l, nil
		}
		present, err := d.search(ctx, 2*l.len()+50_000, &imap.SearchCriteria{})
		if err != nil {
			return l, err
		}
		// Some servers say nothing where nothing is found, so that nothing found
		// proves little.
		if (len(present) > 0 || empty) && l.covers(present, limit) {
			return l.within(present), nil
		}
		empty = false // there are some, whatever was said
	}
	return listing{}, errIncomplete
}

// search returns the UIDs of the messages that meet the criteria. An answer
// with more than most of them may be refused.
func (d *maildrop) search(ctx context.Context, most int, criteria *imap.SearchCriteria) (imap.UIDSet, error) {
	d.allowSearch(most)
	var set imap.UIDSet
	err := d.conn.Do(ctx, func(client *imapclient.Client) (err error) {
		set, err = d.find(client, criteria)
		return err
	})
	return set, err
}

// allowSearch makes room for the answer to a search, which is one line.
func (d *maildrop) allowSearch(most int) {
	d.conn.AllowLine(11*min(most, maxMessages) + 1024)
}

// find searches, in the short form where the server has it (RFC 4731). The set
// is in order, as it need not come and UIDSet.Contains relies on it.
func (d *maildrop) find(client *imapclient.Client, criteria *imap.SearchCriteria) (imap.UIDSet, error) {
	return d.startFind(client, criteria)()
}

// startFind is find that does not wait: what it returns does.
func (d *maildrop) startFind(client *imapclient.Client, criteria *imap.SearchCriteria) func() (imap.UIDSet, error) {
	var options *imap.SearchOptions
	if d.caps.Has(imap.CapESearch) {
		options = &imap.SearchOptions{ReturnAll: true}
	}
	command := client.UIDSearch(criteria, options)
	return func() (imap.UIDSet, error) {
		data, err := command.Wait()
		if err != nil {
			return nil, err
		}
		all, ok := data.All.(imap.UIDSet)
		switch {
		case !ok && data.All != nil:
			return nil, errors.New("server answered a search for UIDs with sequence numbers")
		case ok && all == nil && options != nil: // an ESEARCH response leaves a nil interface
			return nil, errors.New("server did not answer a search")
		}
		set := imap.UIDSet{}
		for _, r := range all {
			set.AddRange(r.Start, r.Stop)
		}
		return set, nil
	}
}
