package imap

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// maxMessages bounds a listing, and so the memory that a server can take up:
// eight octets for each message.
const maxMessages = 8 << 20

var errTooMany = fmt.Errorf("server lists more than %d messages", maxMessages)

// listing holds the messages of a mailbox, ascending by UID.
type listing struct {
	uids  []uint32
	sizes []uint32         // RFC822.SIZE, or math.MaxUint32: see large
	large map[uint32]int64 // RFC822.SIZE by UID, where sizes has no room for it
}

func (l *listing) len() int { return len(l.uids) }

func (l *listing) size(i int) int64 {
	if l.sizes[i] == math.MaxUint32 {
		return l.large[l.uids[i]]
	}
	return int64(l.sizes[i])
}

func (l *listing) add(uid imap.UID, size int64) error {
	if len(l.uids) == maxMessages {
		return errTooMany
	}
	l.uids = append(l.uids, uint32(uid))
	l.sizes = append(l.sizes, 0)
	l.setSize(len(l.uids)-1, size)
	return nil
}

func (l *listing) setSize(i int, size int64) {
	if size < math.MaxUint32 {
		l.sizes[i] = uint32(size)
		return
	}
	if l.large == nil {
		l.large = make(map[uint32]int64)
	}
	l.sizes[i] = math.MaxUint32
	l.large[l.uids[i]] = size
}

// sort puts the messages in the order of their UIDs, each once. Sequence
// numbers have that order already, so that there is nothing to do as a rule.
func (l *listing) sort() {
	if !slices.IsSorted(l.uids) {
		sort.Sort(byUID{l})
	}
	n := 0
	for i, uid := range l.uids {
		if i == 0 || uid != l.uids[n-1] {
			l.uids[n], l.sizes[n] = uid, l.sizes[i]
			n++
		}
	}
	l.uids, l.sizes = l.uids[:n], l.sizes[:n]
}

type byUID struct{ *listing }

func (b byUID) Len() int           { return len(b.uids) }
func (b byUID) Less(i, j int) bool { return b.uids[i] < b.uids[j] }
func (b byUID) Swap(i, j int) {
	b.uids[i], b.uids[j] = b.uids[j], b.uids[i]
	b.sizes[i], b.sizes[j] = b.sizes[j], b.sizes[i]
}

// covers reports whether all UIDs of set below limit are listed.
func (l *listing) covers(set imap.UIDSet, limit uint64) bool {
	for _, r := range set {
		stop := min(uint64(r.Stop)+1, limit)
		if uint64(r.Start) >= stop {
			continue
		}
		first, _ := slices.BinarySearch(l.uids, uint32(r.Start))
		behind := len(l.uids)
		if stop <= math.MaxUint32 {
			behind, _ = slices.BinarySearch(l.uids, uint32(stop))
		}
		if uint64(behind-first) != stop-uint64(r.Start) {
			return false
		}
	}
	return true
}

// retain drops the messages that are not in set.
func (l *listing) retain(set imap.UIDSet) {
	n := 0
	for i, uid := range l.uids {
		if set.Contains(imap.UID(uid)) {
			l.uids[n], l.sizes[n] = uid, l.sizes[i]
			n++
		}
	}
	l.uids, l.sizes = l.uids[:n], l.sizes[:n]
}

// list lists the mailbox, which data is about. A listing is taken for complete
// if it has as many messages as the mailbox is said to have. If not, mail came
// or went meanwhile, or the server left something out: then a search tells.
func (d *maildrop) list(ctx context.Context, data *imap.SelectData) error {
	doing := fmt.Sprintf("listing mailbox %.200q", d.mailbox)
	if data.UIDValidity == 0 {
		return d.adapter.explainAs(permanent("mail server cannot tell its messages apart over time", "it needs UIDVALIDITY (RFC 9051 §2.3.1.1)"),
			doing, errors.New("mailbox has no UIDVALIDITY"))
	}
	// What comes after the mailbox was opened may be listed or not.
	limit := uint64(math.MaxUint32) + 1
	if data.UIDNext != 0 {
		limit = uint64(data.UIDNext)
	}
	for range 2 {
		var l listing
		if data.NumMessages > 0 {
			n := min(data.NumMessages, 1<<17)
			l.uids, l.sizes = make([]uint32, 0, n), make([]uint32, 0, n)
			err := d.conn.FetchSizes(ctx, "1:*", l.add)
			if errors.Is(err, errTooMany) {
				return d.adapter.explainAs(permanent("mailbox has too many messages", "remove some, or move them to other mailboxes"), doing, err)
			}
			if err != nil {
				return d.adapter.explain(doing, err)
			}
			l.sort()
		}
		if l.len() > 0 && l.len() == int(data.NumMessages) {
			d.messages = l
			return nil
		}
		present, err := d.search(ctx, 2*l.len()+50_000, &imap.SearchCriteria{})
		if err != nil {
			return d.adapter.explain(doing, err)
		}
		// Some servers say nothing where nothing is found, so that nothing found
		// proves little.
		if (len(present) > 0 || data.NumMessages == 0) && l.covers(present, limit) {
			l.retain(present)
			d.messages = l
			return nil
		}
		data.NumMessages = 1 // there are some, whatever was said
	}
	return d.adapter.explainAs(temporary("mail server does not list all messages, try again later", "see the server's own log"),
		doing, errors.New("SEARCH finds messages that FETCH leaves out"))
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
	var options *imap.SearchOptions
	if d.caps.Has(imap.CapESearch) {
		options = &imap.SearchOptions{ReturnAll: true}
	}
	data, err := client.UIDSearch(criteria, options).Wait()
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
	var set imap.UIDSet
	for _, r := range all {
		set.AddRange(r.Start, r.Stop)
	}
	return set, nil
}
