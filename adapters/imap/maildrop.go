package imap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
	"pop3gw/gateway/uidl"
)

// maildrop is a mailbox as it was listed, and the connection it is reached by.
type maildrop struct {
	adapter *Adapter
	policy  gateway.Policy
	login   login
	folder  string // as the client typed it, or ""
	exact   string // the mailbox's name, where it is one of several
	account string // whose mail it is, at the server
	name    string // of its lock
	key     string // of what is remembered of it
	unlock  func() // nil until it has the lock
	log     *slog.Logger

	mailbox     string // its name on the server
	uidValidity uint32
	messages    listing
	names       *uidl.Names     // nil until they are found
	known       *remembered     // of the mailbox
	corrected   map[int]int64   // sizes that RETR found to be wrong
	gone        bitset          // messages that were removed
	trash       string          // the mailbox that removed messages are moved to; "" is none
	trashTried  bool            // it is there
	noTrash     error           // of DELE where it is not
	copied      string          // the UIDs last copied there, as a set
	copiedSets  map[string]bool // sets copied there under guard
	unrepaired  error           // why messages cannot be removed; nil as a rule
	missing     bitset          // messages that UPDATE did not find any more
	retrieved   bitset          // messages retrieved whole that are still to be marked as \Seen
	sequence    sequence
	noted       bool // how the session began, since the client got a second message
	overdue     int  // behind the message that did not come in its turn, and is fetched alone; 0 is none
	mixed       bool // one of a later window came in its place
	*upstream

	// readOnly is the error of DELE where the mailbox cannot be opened for writing,
	// and tried that this has been found out.
	readOnly error
	tried    bool

	// replaced is the error of all reads and removals once the server has
	// another mailbox under the same name: UIDVALIDITY has changed, and no UID
	// means what it did.
	replaced error
}

// upstream is the connection of a session, of one maildrop or of several that are
// merged.
type upstream struct {
	maildrops int                     // that are open
	learners  []func(context.Context) // what is left to do behind them
	reading   bool                    // a message is open
	ahead     *ahead                  // nil while nothing is prefetched
	alone     bool                    // prefetching does not work with this server
	apart     bool                    // it works with one command at a time

	verified bool       // the server has let us in
	place    *place     // of conn and those that replace it; nil until there is one
	conn     *link.Conn // nil until there was one
	loggedIn time.Time  // when conn was
	caps     imap.CapSet
	current  *maildrop // whose mailbox is selected
	mode     mode      // of current
}

// mode is how the mailbox is selected on the current connection.
type mode int

const (
	unselected mode = iota
	examined        // EXAMINE: nothing changes, not even \Recent
	selected        // SELECT: flags can be set and messages removed
)

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
			d.heedLimits(d.adapter.explain("keeping the connection", lost))
			if err := d.leftAlone(); err != nil {
				return err
			}
			if _, err := d.dial(ctx, link.Opening{}); err != nil {
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
	if d.current == d && d.mode >= m {
		return nil
	}
	if d.current != d {
		d.stopAhead(ctx)
	}
	opened, err := d.choose(ctx, []string{d.mailbox}, m)
	if err != nil {
		return err
	}
	data := &opened.Mailbox
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
	if d.corrected == nil {
		d.corrected = make(map[int]int64)
	}
	d.corrected[i] = octets
}

// AppendUID implements gateway.Maildrop.
func (d *maildrop) AppendUID(dst []byte, i int) []byte { return d.names.Append(dst, i) }

// closeWait bounds what Close may still do before it releases the lock.
const closeWait = 5 * time.Second

// Close implements gateway.Maildrop. The connection is kept, or its polite end
// not waited for.
func (d *maildrop) Close() error {
	if d.reading && d.conn != nil {
		d.conn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	if !d.noted && d.ahead != nil && d.ahead.d == d { // which was for nothing
		d.adapter.memory.noteBeginning(d.key, d.ahead.part, false)
	}
	d.stopAhead(ctx)
	if err := d.markRetrieved(ctx); err != nil {
		d.log.Warn("retrieved messages were not marked as seen", "error", err)
	}
	d.learn()
	if d.names != nil {
		deadline, _ := ctx.Deadline()
		if err := d.names.Close(time.Until(deadline)); err != nil {
			d.log.Warn("unique-ids of what was retrieved could not be kept", "error", err)
		}
	}
	if len(d.gone) > 0 {
		d.adapter.server.updates.of(d.name).Add(1)
	}
	if d.conn != nil && d.conn.Idle() {
		if learn := d.names.Learner(); learn != nil {
			d.learners = append(d.learners, learn)
		}
	}
	if d.maildrops--; d.maildrops == 0 {
		d.adapter.behind(d.leave, d.learners)
	}
	if d.unlock != nil {
		d.unlock()
	}
	d.adapter.memory.keep(d.key)
	return nil
}

// leave keeps the connection, or ends it, and gives its place back.
func (d *maildrop) leave() {
	if d.conn != nil { // perhaps another than before
		d.adapter.kept.put(&keptConn{
			conn: d.conn, place: d.place, account: d.account, user: d.login.keptUser(), proof: d.login.proof, client: d.login.client, loggedIn: d.loggedIn,
			folder: d.folder, mailbox: d.mailbox, trash: d.foundTrash(),
		})
	}
	d.conn = nil
	if d.place != nil {
		d.adapter.server.release(d.place)
		d.place = nil
	}
}

// learn has the next session know what this one has found out.
func (d *maildrop) learn() {
	if d.known == nil || len(d.corrected) == 0 && len(d.gone) == 0 {
		return
	}
	now := *d.known
	now.messages = d.remaining()
	for i, octets := range d.corrected {
		if at, ok := slices.BinarySearch(now.messages.uids, d.messages.uids[i]); ok {
			now.messages.correct(at, octets)
		}
	}
	d.adapter.memory.remember(d.key, &now, true)
}
