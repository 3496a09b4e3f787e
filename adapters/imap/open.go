package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

// open logs in, opens the mailbox and lists it.
func (d *maildrop) open(ctx context.Context) error {
	a := d.adapter
	// Whoever has not shown a right password must not learn that a maildrop is
	// in use, nor keep its owner out. The others need not wait for the server.
	if d.login.source != fromClient {
		if _, err := d.lock(ctx); err != nil {
			return err
		}
	}
	d.known = a.memory.recall(d.key)
	k := a.kept.take(d.login)
	if k != nil {
		d.place = k.place
		a.server.hold(d.place)
		d.tryLock(ctx) // the password was right a while ago; that it is in use is told below
	}
	locked, updates := d.unlock != nil, a.server.updates.of(d.name).Load()
	opened, ok := d.resume(ctx, k)
	a.hits.connection.add(ok)
	if !ok {
		err := d.reserve(ctx)
		if err != nil {
			return err
		}
		if opened, err = d.dial(ctx, d.opening(a.caps.Load())); err != nil {
			return err
		}
	}
	waited, err := d.lock(ctx)
	if err != nil {
		return err
	}
	if waited { // for a session that may have changed much
		opened.Selected = false
	}
	if !locked { // another session may have ended meanwhile
		d.known = a.memory.recall(d.key)
		if a.server.updates.of(d.name).Load() != updates {
			opened.Selected = false
		}
	}
	if d.folder != "" && opened.Select != nil {
		opened.Selected = false // it may have another name by now
	}
	if !opened.Selected {
		var err error
		if opened, err = d.enter(ctx); err != nil {
			return err
		}
	} else if err := d.entered(d.mailbox, examined, &opened); err != nil {
		return d.explainSelect(d.mailbox, err)
	}
	return d.opened(ctx, &opened)
}

// opened does what is to be done with a mailbox that was opened.
func (d *maildrop) opened(ctx context.Context, opened *link.Opened) error {
	if opened.Mailbox.UIDNext == 0 {
		// Courier, as a rule, which has no UIDNEXT here: UIDs that it gives to
		// new messages last only with SELECT, and so does UIDVALIDITY where
		// nobody has selected the mailbox before.
		again, err := d.choose(ctx, []string{d.mailbox}, selected)
		if err != nil {
			return err
		}
		opened = &again
	}
	d.uidValidity = opened.Mailbox.UIDValidity
	if d.policy.OnDelete == gateway.MoveToTrash {
		if err := d.findTrash(ctx); err != nil {
			return d.adapter.explain("looking for the trash mailbox", err)
		}
	}
	if err := d.repair(ctx); err != nil {
		return err
	}
	return d.list(ctx, opened)
}

// opening says how to open the mailbox for reading, if its name is known. caps
// are those of the server, or nil.
func (d *maildrop) opening(caps *imap.CapSet) link.Opening {
	return link.Opening{Mailbox: d.guess(), Extent: d.known != nil && caps != nil && caps.Has(imap.CapESearch)}
}

// lock takes the maildrop's lock, unless it has it. waited says whether it had to
// wait for it.
func (d *maildrop) lock(ctx context.Context) (waited bool, err error) {
	if d.unlock == nil {
		d.unlock, waited, err = d.adapter.locks.Lock(ctx, d.name)
	}
	return waited, err
}

// tryLock is lock without waiting, or any other consequence for who has it.
func (d *maildrop) tryLock(ctx context.Context) {
	if d.unlock == nil {
		d.unlock, _ = d.adapter.locks.TryLock(ctx, d.name)
	}
}

// resume opens the mailbox on a connection that was kept; k may be nil. If that
// comes to nothing, there is still the way of dial.
func (d *maildrop) resume(ctx context.Context, k *keptConn) (opened link.Opened, ok bool) {
	if k == nil {
		return opened, false
	}
	if k.folder == d.folder && d.folder != "" {
		d.mailbox = k.mailbox
	}
	caps := k.conn.Capabilities()
	o := d.opening(&caps)
	o.Patience = keptPatience
	o.Capability = o.Mailbox == "" // of a folder whose name is not known; that it is answered will do
	opened, err := k.conn.Open(ctx, o)
	if err == nil && opened.Select == nil {
		d.conn, d.mode, d.loggedIn, d.trash = k.conn, unselected, k.loggedIn, k.trash
		d.verified = true
		d.mailbox = o.Mailbox
		return opened, true
	}
	d.log.Debug("connection that was kept is of no use", "error", quoted(cmp.Or(err, opened.Select)))
	d.mailbox = ""
	k.conn.Logout(ctx) // its place is for the next one
	return opened, false
}

// dial connects, logs in and, in the same flight where that can be, opens the
// mailbox as o says. What has come of that is noted by entered.
func (d *maildrop) dial(ctx context.Context, o link.Opening) (link.Opened, error) {
	kept := &d.adapter.kept
	conn, opened, err := d.adapter.dial(ctx, d.place, d.login, o)
	if isThrottled(err) && kept.makeRoom(d.login) {
		conn, opened, err = d.adapter.dial(ctx, d.place, d.login, o)
	}
	if err != nil {
		if gateway.CodeOf(err) == gateway.CodeAuth {
			kept.refused(d.login)
		}
		return opened, err
	}
	kept.accepted(d.login)
	d.adapter.server.proven(d.place)
	d.conn, d.mode, d.loggedIn = conn, unselected, time.Now()
	d.verified = true
	d.mailbox = cmp.Or(o.Mailbox, d.mailbox)
	return opened, nil
}

// enter opens the mailbox for reading on a connection that is logged in.
func (d *maildrop) enter(ctx context.Context) (link.Opened, error) {
	names, err := d.candidates(ctx)
	if err != nil {
		return link.Opened{}, d.adapter.explain("asking for the hierarchy separator", err)
	}
	guessed := d.folder != "" && d.guess() != ""
	opened, err := d.choose(ctx, names, examined)
	if err != nil && guessed && d.conn.Err() == nil { // it may have another name by now
		d.known, d.mailbox = nil, ""
		return d.enter(ctx)
	}
	return opened, err
}

// choose opens the first of names that the server has.
func (d *maildrop) choose(ctx context.Context, names []string, m mode) (opened link.Opened, err error) {
	var refusal error
	for _, name := range names {
		caps := d.conn.Capabilities()
		o := d.opening(&caps)
		o.Mailbox, o.Write, o.Capability = name, m == selected, caps == nil
		d.mode = unselected // a refused SELECT leaves none (RFC 9051 §6.3.2)
		opened, err = d.conn.Open(ctx, o)
		if err == nil {
			if err = d.entered(name, m, &opened); err == nil {
				return opened, nil
			}
		}
		if refusal == nil {
			refusal = err
		}
		if e, ok := errors.AsType[*imap.Error](err); !ok || e.Type != imap.StatusResponseTypeNo {
			refusal = err
			break
		}
	}
	return opened, d.explainSelect(names[0], refusal)
}

// entered notes that the mailbox is open, if it is.
func (d *maildrop) entered(name string, m mode, opened *link.Opened) error {
	if caps := d.conn.Capabilities(); caps != nil {
		d.caps = caps
		d.adapter.caps.Store(&caps)
	}
	if opened.Select != nil {
		return opened.Select
	}
	d.mailbox, d.current, d.mode = name, d, m
	if opened.Mailbox.ReadOnly {
		d.mode = examined
	}
	return nil
}

func (d *maildrop) explainSelect(name string, err error) error {
	doing := fmt.Sprintf("opening mailbox %.200q", name)
	e, ok := errors.AsType[*imap.Error](err)
	if !ok || e.Type != imap.StatusResponseTypeNo {
		return d.adapter.explain(doing, err)
	}
	text, advice := "mailbox cannot be opened on the mail server", "create it on the server, or mend mailbox"
	switch known := diagnoseAnswer(string(e.Code), e.Text); {
	case d.exact != "" && (known == unexplained || known == nonexistent):
		text, advice = "a folder of this maildrop does not exist on the mail server", "create it on the server, or take it out of mailboxes"
	case known != unexplained:
		return d.adapter.explain(doing, err)
	case d.folder != "":
		text = "no such folder"
	}
	return d.adapter.explainAs(permanent(text, advice), doing, err)
}

// counters count events by name. Names share counters, so that one may have
// happened where the number differs.
type counters struct {
	n [256]atomic.Uint32
}

var countersSeed = maphash.MakeSeed()

func (c *counters) of(name string) *atomic.Uint32 {
	return &c.n[maphash.String(countersSeed, name)%uint64(len(c.n))]
}
