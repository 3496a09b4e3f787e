package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"pop3gw/gateway"
)

const (
	// Servers limit the length of a command; 8,000 octets of UIDs are safe
	// (RFC 7162 §4).
	maxSetOctets = 8000
	// One command must not take minutes, on a slow server either.
	maxSetMessages = 1000
)

// PermitDelete implements gateway.DeletePermitter.
func (d *maildrop) PermitDelete(int) error {
	switch {
	case d.policy.OnDelete == gateway.KeepOnDelete:
		return nil
	case !d.removes():
		return d.writable()
	}
	if err := d.permitTrash(); err != nil {
		return err
	}
	if !d.isGuarded() {
		if d.unrepaired != nil {
			return d.unrepaired
		}
		return d.writable()
	}
	return d.permitGuarded()
}

// permitPatience bounds how long each question of the first DELE may take.
const permitPatience = 15 * time.Second

// mayAsk reports whether the server can be asked something between two commands of
// the client: messages that are on their way would be lost.
func (d *maildrop) mayAsk() bool {
	return d.ahead == nil && !d.reading && d.conn != nil && d.conn.Err() == nil
}

// permitTrash refuses what is to go to a trash that is not there. One that the policy
// names is looked for once, if the server can be asked; else UPDATE finds out.
func (d *maildrop) permitTrash() error {
	if d.noTrash != nil || !d.moves() || d.trashTried || d.trash != "" && (d.policy.TrashMailbox == "" || !d.mayAsk()) {
		return d.noTrash
	}
	ctx, cancel := context.WithTimeout(context.Background(), permitPatience)
	defer cancel()
	err := d.CheckTrash(ctx)
	if d.trashTried = err == nil; gateway.CodeOf(err) == gateway.CodeSysPerm {
		d.noTrash = err
	}
	return d.noTrash
}

// CheckTrash implements gateway.TrashChecker.
func (d *maildrop) CheckTrash(ctx context.Context) error {
	const none = "mail server has no trash mailbox, so messages cannot be removed"
	server := d.adapter.options.Address
	switch {
	case !d.moves():
		return nil
	case d.trash == "":
		return gateway.Unusable(none, fmt.Errorf("no mailbox of %s has the attribute \\Trash; set trash_mailbox", server))
	case d.policy.TrashMailbox == "":
		return nil // the server has named it
	}
	found := false
	err := d.conn.Do(ctx, func(client *imapclient.Client) error {
		list := client.List("", d.trash, nil)
		for mailbox := list.Next(); mailbox != nil; mailbox = list.Next() {
			// Whatever its name: servers have more than one for some.
			found = found || !slices.Contains(mailbox.Attrs, imap.MailboxAttrNonExistent) && !slices.Contains(mailbox.Attrs, imap.MailboxAttrNoSelect)
		}
		return list.Close()
	})
	if err == nil && !found {
		return gateway.Unusable(none, fmt.Errorf("%s has no mailbox %.200q; create it, or mend trash_mailbox", server, d.trash))
	}
	return err
}

// writable opens the mailbox for writing, as UPDATE would have to, so that one that is
// read-only is known at DELE and not at QUIT. It costs a round trip once, which UPDATE
// saves. It is left to UPDATE while messages are on their way, as they would be lost,
// and where the connection is.
func (d *maildrop) writable() error {
	if !d.tried && !(d.current == d && d.mode == selected) && d.readOnly == nil && d.mayAsk() {
		ctx, cancel := context.WithTimeout(context.Background(), permitPatience)
		defer cancel()
		err := d.ensure(ctx, selected)
		d.tried = d.conn.Err() == nil
		if d.conn.Err() == nil && gateway.CodeOf(err) == gateway.CodeSysPerm {
			d.readOnly = err
		}
	}
	return cmp.Or(d.replaced, d.readOnly)
}

// removes reports whether messages leave the mailbox.
func (d *maildrop) removes() bool {
	return d.policy.OnDelete == gateway.Expunge || d.policy.OnDelete == gateway.MoveToTrash
}

// moves reports whether messages go to the trash. What is in it goes for good.
func (d *maildrop) moves() bool {
	return d.policy.OnDelete == gateway.MoveToTrash && d.trash != d.mailbox
}

// Delete implements gateway.Maildrop. A message that the server no longer has
// counts as removed, whoever removed it.
func (d *maildrop) Delete(ctx context.Context, marked []int, removed func(i int)) error {
	if len(marked) == 0 {
		return nil
	}
	if d.policy.OnDelete == gateway.KeepOnDelete {
		for _, i := range marked {
			removed(i)
		}
		return nil
	}
	if err := d.PermitDelete(marked[0]); err != nil {
		return err
	}
	d.stopAhead(ctx)
	if told := removed; d.removes() {
		removed = func(i int) {
			d.gone.add(i)
			d.names.Removed(i)
			told(i)
		}
	}
	// Those that are moved keep the flag.
	if err := d.markRetrieved(ctx); err != nil {
		d.log.Warn("retrieved messages were not marked as seen", "error", err)
	}
	action := d.expunge
	switch {
	case d.policy.OnDelete == gateway.SeenOnDelete:
		action = d.markSeen
	case d.moves() && d.caps.Has(imap.CapMove):
		action = d.move
	case d.moves():
		action = d.copyAndExpunge
	}

	if d.isGuarded() {
		return d.deleteGuarded(ctx, marked, removed)
	}
	var failure error
	remaining := 0
	for len(marked) > 0 {
		set, n := d.messages.chunk(marked)
		found, left, err := d.change(ctx, set, action)
		failure = cmp.Or(failure, err)
		for _, i := range marked[:n] {
			uid := imap.UID(d.messages.uids[i])
			if left.Contains(uid) {
				remaining++
				continue
			}
			if found != nil && !found.Contains(uid) {
				d.missing.add(i)
			}
			removed(i)
		}
		marked = marked[n:]
		if err != nil && (ctx.Err() != nil || d.replaced != nil || d.conn.Err() != nil) {
			remaining += len(marked) // the server is out of reach
			break
		}
	}
	return d.remain(remaining, failure)
}

// deleteGuarded is Delete where it takes a guarded EXPUNGE.
func (d *maildrop) deleteGuarded(ctx context.Context, marked []int, removed func(i int)) error {
	uids := make([]uint32, len(marked))
	for k, i := range marked {
		uids[k] = d.messages.uids[i]
	}
	found, left, err := d.removeGuarded(ctx, uids)
	for k, i := range marked {
		if _, still := slices.BinarySearch(left, uids[k]); still {
			continue
		}
		if _, was := slices.BinarySearch(found, uids[k]); !was {
			d.missing.add(i)
		}
		removed(i)
	}
	return d.remain(len(left), err)
}

// remain is the error for messages that could not be removed, nil if there are
// none.
func (d *maildrop) remain(remaining int, failure error) error {
	if remaining == 0 {
		return nil // what did not go as it should was mended
	}
	const doing = "removing messages"
	if failure == nil {
		return d.adapter.explainAs(permanent("mail server accepts the removal and keeps the messages", "does the user lack rights on the mailbox?"),
			doing, fmt.Errorf("server answered OK, and %d messages are as they were", remaining))
	}
	return d.heedLimits(d.adapter.explain(doing, failure))
}

// action does to the messages of set what UPDATE is for. It can be repeated.
type action func(client *imapclient.Client, set imap.UIDSet) error

// Outcome implements gateway.OutcomeTeller.
func (d *maildrop) Outcome(i int) gateway.Outcome {
	switch {
	case d.missing.has(i):
		return gateway.Outcome{Fate: gateway.Missing}
	case d.moves():
		return gateway.Outcome{Fate: gateway.Moved, To: d.trash}
	case d.removes():
		return gateway.Outcome{Fate: gateway.Removed}
	case d.policy.OnDelete == gateway.SeenOnDelete:
		return gateway.Outcome{Fate: gateway.Marked}
	}
	return gateway.Outcome{Fate: gateway.Kept}
}

// change acts on the messages of set. It returns those that were there before,
// nil where that is unknown, and those for which nothing has come of it: all,
// where that is unknown.
func (d *maildrop) change(ctx context.Context, set imap.UIDSet, act action) (found, left imap.UIDSet, err error) {
	left = set
	listed := &imap.SearchCriteria{UID: []imap.UIDSet{set}}
	pending := &imap.SearchCriteria{UID: []imap.UIDSet{set}}
	if !d.removes() {
		pending.NotFlag = []imap.Flag{imap.FlagSeen}
	}
	first := true
	err = d.retry(ctx, selected, func() error {
		left = set
		d.allowSearch(maxSetMessages)
		return d.conn.Do(ctx, func(client *imapclient.Client) error {
			before := sync.OnceValues(d.startFind(client, listed)) // in one flight with what follows
			present := set
			if d.moves() { // some servers stumble over a COPY of nothing
				there, err := before()
				if err != nil {
					return err
				}
				present = there
			}
			var err error
			if len(present) > 0 {
				err = act(client, present)
			}
			there, berr := before()
			if first && berr == nil && (len(there) > 0 || d.caps.Has(imap.CapESearch) || d.moves()) {
				found = there
			}
			first = false // from now on what is missing may be our own doing
			// Not in one flight with the commands before: Dovecot would search
			// the mailbox as it was.
			still, serr := d.find(client, pending)
			// Some servers say nothing where nothing is found; after a refusal
			// that is not believed.
			if serr == nil && (err == nil || len(still) > 0) {
				left = still
			}
			return cmp.Or(err, serr)
		})
	})
	return found, left, err
}

// expunge removes messages. What others have flagged as \Deleted stays: UID
// EXPUNGE looks at the messages of set alone (RFC 4315 §2.1).
func (d *maildrop) expunge(client *imapclient.Client, set imap.UIDSet) error {
	store := addFlag(client, set, imap.FlagDeleted)
	expunge := client.UIDExpunge(set)
	err := store.Close()
	return cmp.Or(err, expunge.Close())
}

func (d *maildrop) markSeen(client *imapclient.Client, set imap.UIDSet) error {
	return addFlag(client, set, imap.FlagSeen).Close()
}

func addFlag(client *imapclient.Client, set imap.UIDSet, flag imap.Flag) *imapclient.FetchCommand {
	return client.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{flag}}, nil)
}

// move is for servers with MOVE.
func (d *maildrop) move(client *imapclient.Client, set imap.UIDSet) error {
	// Client.Move sends COPY, STORE and EXPUNGE without waiting if its own idea
	// of the capabilities lacks MOVE, and so removes what could not be copied.
	if !client.Caps().Has(imap.CapMove) {
		return d.copyAndExpunge(client, set)
	}
	_, err := client.Move(set, d.trash).Wait()
	return err
}

// copyAndExpunge stands in for MOVE. What could not be copied is not removed.
// Where the server's answer to COPY is lost, a copy more is better than none.
func (d *maildrop) copyAndExpunge(client *imapclient.Client, set imap.UIDSet) error {
	if !d.caps.Has(imap.CapUIDPlus) {
		return errors.New("server has neither MOVE nor UIDPLUS")
	}
	if uids := set.String(); d.copied != uids {
		if _, err := client.Copy(set, d.trash).Wait(); err != nil {
			return err
		}
		d.copied = uids
	}
	return d.expunge(client, set)
}

// markRetrieved marks the messages that were retrieved as \Seen, if that is
// wanted.
func (d *maildrop) markRetrieved(ctx context.Context) error {
	retrieved := d.retrieved.members()
	d.retrieved = nil
	for len(retrieved) > 0 {
		set, n := d.messages.chunk(retrieved)
		err := d.retry(ctx, selected, func() error {
			return d.conn.Do(ctx, func(client *imapclient.Client) error { return d.markSeen(client, set) })
		})
		if err != nil {
			return d.adapter.explain("marking messages as \\Seen", err)
		}
		retrieved = retrieved[n:]
	}
	return nil
}
