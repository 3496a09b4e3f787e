package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

// maildrop is a mailbox as it was listed, and the connection it is reached by.
type maildrop struct {
	adapter *Adapter
	login   login
	folder  string // as the client typed it, or ""
	name    string // of its lock
	unlock  func() // nil until it has the lock
	log     *slog.Logger

	mailbox     string // its name on the server
	uidValidity uint32
	messages    listing
	trash       string // the mailbox that removed messages are moved to; "" is none
	copied      string // the UIDs last copied there, as a set
	retrieved   bitset // messages retrieved whole that are still to be marked as \Seen
	reading     bool   // a message is open
	sequence    sequence
	ahead       *ahead // nil while nothing is prefetched
	alone       bool   // prefetching does not work with this server

	conn *link.Conn // nil until there was one
	caps imap.CapSet
	mode mode

	// replaced is the error of all reads and removals once the server has
	// another mailbox under the same name: UIDVALIDITY has changed, and no UID
	// means what it did.
	replaced error
}

// mode is how the mailbox is selected on the current connection.
type mode int

const (
	unselected mode = iota
	examined        // EXAMINE: nothing changes, not even \Recent
	selected        // SELECT: flags can be set and messages removed
)

// open connects and lists the mailbox.
func (d *maildrop) open(ctx context.Context) error {
	// Whoever has not shown a right password must not learn that a maildrop is
	// in use, nor keep its owner out. The others need not wait for the server.
	if d.login.source != fromClient {
		if err := d.lock(); err != nil {
			return err
		}
	}
	if err := d.dial(ctx); err != nil {
		return err
	}
	if err := d.lock(); err != nil {
		return err
	}
	data, err := d.enter(ctx)
	if err == nil && data.UIDNext == 0 {
		// Courier, as a rule, which has no UIDNEXT here: UIDs that it gives to
		// new messages last only with SELECT, and so does UIDVALIDITY where
		// nobody has selected the mailbox before.
		data, err = d.reselect(ctx, selected)
	}
	if err != nil {
		return err
	}
	d.uidValidity = data.UIDValidity
	if d.adapter.options.OnDelete == MoveToTrash {
		if err := d.findTrash(ctx); err != nil {
			return d.adapter.explain("looking for the trash mailbox", err)
		}
	}
	if err := d.list(ctx, data); err != nil {
		return err
	}
	d.adapter.sizes.apply(d.name, d.uidValidity, &d.messages)
	return nil
}

// lock takes the maildrop's lock, unless it has it.
func (d *maildrop) lock() error {
	if d.unlock != nil {
		return nil
	}
	unlock, ok := d.adapter.locks.TryLock(d.name)
	if !ok {
		return gateway.InUse(fmt.Errorf("another session holds %q", d.name))
	}
	d.unlock = unlock
	return nil
}

func (d *maildrop) dial(ctx context.Context) error {
	conn, err := d.adapter.dial(ctx, d.login)
	if err != nil {
		return err
	}
	d.conn, d.mode = conn, unselected
	return nil
}

// enter opens the mailbox for reading, for the first time on a connection that
// has just been logged in. It learns the capabilities, which may have grown by
// the login, in the same flight.
func (d *maildrop) enter(ctx context.Context) (*imap.SelectData, error) {
	names, err := d.candidates(ctx)
	if err != nil {
		return nil, d.adapter.explain("asking for the hierarchy separator", err)
	}
	var data *imap.SelectData
	err = d.conn.Do(ctx, func(client *imapclient.Client) error {
		capability := client.Capability()
		err := d.choose(client, names, examined, &data)
		caps, cerr := capability.Wait()
		d.caps = capabilities(caps)
		return cmp.Or(err, cerr)
	})
	return data, d.explainSelect(names[0], err)
}

// reselect opens the mailbox in another mode on a connection that knows it.
func (d *maildrop) reselect(ctx context.Context, m mode) (*imap.SelectData, error) {
	var data *imap.SelectData
	err := d.conn.Do(ctx, func(client *imapclient.Client) error {
		return d.choose(client, []string{d.mailbox}, m, &data)
	})
	return data, d.explainSelect(d.mailbox, err)
}

// choose selects the first of names that the server has, and notes which.
func (d *maildrop) choose(client *imapclient.Client, names []string, m mode, data **imap.SelectData) error {
	var refusal error
	for _, name := range names {
		d.mode = unselected // a refused SELECT leaves none (RFC 9051 §6.3.2)
		answer, err := client.Select(name, &imap.SelectOptions{ReadOnly: m == examined}).Wait()
		if err == nil {
			d.mailbox, d.mode, *data = name, m, answer
			if d.conn.ReadOnly() {
				d.mode = examined
			}
			return nil
		}
		if refusal == nil {
			refusal = err
		}
		if e, ok := errors.AsType[*imap.Error](err); !ok || e.Type != imap.StatusResponseTypeNo {
			return err
		}
	}
	return refusal
}

func (d *maildrop) explainSelect(name string, err error) error {
	doing := fmt.Sprintf("opening mailbox %.200q", name)
	e, ok := errors.AsType[*imap.Error](err)
	if !ok || e.Type != imap.StatusResponseTypeNo || diagnoseAnswer(string(e.Code), e.Text) != unexplained {
		return d.adapter.explain(doing, err)
	}
	text := "mailbox cannot be opened on the mail server"
	if d.folder != "" {
		text = "no such folder"
	}
	return d.adapter.explainAs(permanent(text, "create it on the server, or mend mailbox"), doing, err)
}

// retry runs fn on a connection with the mailbox open in mode m, or in one that
// allows more. A connection that is lost, be it before or meanwhile, is
// replaced once.
func (d *maildrop) retry(ctx context.Context, m mode, fn func() error) error {
	for redialled := false; ; {
		if d.replaced != nil {
			return d.replaced
		}
		if lost := d.conn.Err(); lost != nil {
			d.log.Info("connection to the mail server was lost, connecting again", "server", d.adapter.options.Address, "error", quoted(lost))
			d.stopAhead(ctx)
			d.conn.Close()
			if err := d.dial(ctx); err != nil {
				return err
			}
			redialled = true
		}
		err := d.ensure(ctx, m)
		if err == nil {
			err = fn()
		}
		lost := d.conn.Err()
		// A server that talks nonsense would do so again.
		hopeless := errors.Is(lost, link.ErrProtocol) || errors.Is(lost, link.ErrTooLong)
		if err == nil || lost == nil || redialled || hopeless || ctx.Err() != nil {
			return err
		}
	}
}

// ensure opens the mailbox in mode m, unless it is open in it or in one that
// allows more, and makes sure that it is still the same.
func (d *maildrop) ensure(ctx context.Context, m mode) error {
	if d.mode >= m {
		return nil
	}
	data, err := d.reselect(ctx, m)
	if err != nil {
		return err
	}
	if data.UIDValidity != d.uidValidity {
		d.replaced = gateway.Unavailable("mailbox was replaced on the mail server, log in again",
			fmt.Errorf("UIDVALIDITY of %.200q at %s was %d and is %d; no message was removed after that",
				d.mailbox, d.adapter.options.Address, d.uidValidity, data.UIDValidity))
		return d.replaced
	}
	if d.mode < m {
		return gateway.Unusable("mailbox is read-only on the mail server",
			fmt.Errorf("SELECT of %.200q at %s was answered with READ-ONLY; give the user the right to remove mail, or set on_delete = \"keep\"",
				d.mailbox, d.adapter.options.Address))
	}
	return nil
}

// Len implements gateway.Maildrop.
func (d *maildrop) Len() int { return d.messages.len() }

// Size implements gateway.Maildrop: it is what the server says, or what an
// earlier session found out.
func (d *maildrop) Size(i int) int64 { return d.messages.size(i) }

// CorrectSize implements gateway.SizeCorrecter.
func (d *maildrop) CorrectSize(i int, octets int64) {
	d.adapter.sizes.add(d.name, d.uidValidity, d.messages.uids[i], octets)
}

// AppendUID implements gateway.Maildrop, with the form that Dovecot gives its
// own POP3 unique-ids by default.
func (d *maildrop) AppendUID(dst []byte, i int) []byte {
	return appendHex(appendHex(dst, d.messages.uids[i]), d.uidValidity)
}

// appendHex appends n as eight digits.
func appendHex(dst []byte, n uint32) []byte {
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[n>>shift&0xf])
	}
	return dst
}

// closeWait bounds what Close may still do before it releases the lock.
const closeWait = 5 * time.Second

// Close implements gateway.Maildrop. The polite end of the connection is not
// waited for; it takes seconds at most.
func (d *maildrop) Close() error {
	if d.reading && d.conn != nil {
		d.conn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	d.stopAhead(ctx)
	if err := d.markRetrieved(ctx); err != nil {
		d.log.Warn("retrieved messages were not marked as seen", "error", err)
	}
	if d.unlock != nil {
		d.unlock()
	}
	if d.conn != nil { // perhaps another than before
		go d.conn.Logout(context.Background())
	}
	d.conn = nil
	return nil
}
