package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unsafe"

	"pop3gw/gateway"
)

// maildrop is a folder locked and listed, its messages in an order of their own.
type maildrop struct {
	adapter  *Adapter
	policy   gateway.Policy
	folder   *folder
	listing  *listing  // what the folder held at the login
	messages []message // the same once something of it has changed or is hidden, else nil
	own      bool      // messages are in force
	shown    []int32   // which messages of listing a window has left; nil for all
	reader   cursor    // of listing
	unlock   func()
	log      *slog.Logger

	retrieved map[int]bool // messages that are still to be marked as read
	missing   map[int]bool // messages that UPDATE did not find any more
	trash     *trash       // nil until it is needed

	// What refresh found out, and the folder's version that it is true of.
	found   []sighting // nil before the first
	foundAt version
}

// hold makes l what the maildrop consists of.
func (d *maildrop) hold(l *listing) {
	d.listing, d.reader = l, cursor{packed: &l.packed}
}

func (d *maildrop) Len() int {
	if d.own {
		return len(d.messages)
	}
	return d.listing.len()
}

func (d *maildrop) Size(i int) int64 {
	if d.own {
		return d.messages[i].octets
	}
	return d.listing.size(i)
}

// message returns a copy of message i.
func (d *maildrop) message(i int) *message {
	m := *d.view(i)
	if !d.own {
		m.name, m.delivered = strings.Clone(m.name), d.reader.delivered()
	}
	return &m
}

// hasDuplicates reports whether any message shares the base name of one before it.
func (d *maildrop) hasDuplicates() bool {
	if d.own {
		return slices.ContainsFunc(d.messages, func(m message) bool { return m.duplicate })
	}
	return d.listing.duplicates
}

// view returns message i, without delivered. It is good until the next call, name
// included, and costs no memory.
func (d *maildrop) view(i int) *message {
	if d.own {
		return &d.messages[i]
	}
	m := d.reader.seek(i)
	m.name = unsafe.String(unsafe.SliceData(d.reader.name), len(d.reader.name))
	return m
}

// Retrieve opens the message's file, by another name if it was renamed. lines
// saves nothing here.
func (d *maildrop) Retrieve(ctx context.Context, i, lines int) (io.ReadCloser, error) {
	m := d.message(i)
	if m.state == unreadable {
		return nil, gateway.Unusable("message could not be read when the session began",
			fmt.Errorf("the gateway's user (or the disk) could not read %s", d.path(m)))
	}
	for range maxScans {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, err := d.folder.openBody(m.in, m.name)
		if err == nil && m.is(b.id) {
			if err = d.verify(ctx, m, b); err == nil {
				if lines < 0 && d.policy.OnRetrieve == gateway.SeenOnRetrieve {
					return &retrieval{ReadCloser: b, d: d, i: i}, nil
				}
				return b, nil
			}
			b.Close()
			if err == errRewritten {
				return nil, d.changed(m)
			}
		} else if err == nil {
			b.Close()
			err = errChanged
		}
		m = d.change(i)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, errNotRegular), errors.Is(err, errChanged):
			m.suspect = true
		case scarce(err):
			return nil, gateway.Unavailable("the mail store is overloaded", err)
		default:
			return nil, gateway.Unusable("message cannot be read", fmt.Errorf("opening %s: %w", d.path(m), err))
		}
		switch seen, err := d.find(ctx, i); {
		case err != nil:
			return nil, err
		case seen == gone:
			return nil, gateway.Gone(fmt.Errorf("no file in %s has the base name %q", d.folder.path, m.base()))
		case seen == replaced:
			return nil, d.changed(m)
		}
	}
	return nil, errBusy(d.folder)
}

var errRewritten = errors.New("the file was rewritten in place")

// verify makes sure that b, which is message m, is what was listed: the listing
// may be older than the session. If the file has another time than it had then it
// is counted again, and with another size it is errRewritten.
func (d *maildrop) verify(ctx context.Context, m *message, b *body) error {
	if b.id.modified == m.file.modified {
		return nil
	}
	counted := *m
	if err := d.adapter.counter.countOnce(ctx, d.folder, &counted); err != nil {
		return err
	}
	if counted.file != b.id || counted.octets != m.octets {
		return errRewritten
	}
	return nil
}

// changed is the error for a message whose file is not what was listed. The next
// session will list it as it is.
func (d *maildrop) changed(m *message) error {
	d.adapter.forget(d.folder.path)
	return gateway.Unavailable("message was changed by another program, log in again", fmt.Errorf("%s: %w", d.path(m), errChanged))
}

// CorrectSize implements gateway.SizeCorrecter: a file was rewritten in place, and
// its time does not tell.
func (d *maildrop) CorrectSize(i int, octets int64) {
	d.change(i).octets = octets
	d.adapter.forget(d.folder.path)
}

// change returns message i to be changed.
func (d *maildrop) change(i int) *message { return &d.all()[i] }

// all returns the messages, to be changed as well: the listing is copied the first
// time.
func (d *maildrop) all() []message {
	if !d.own {
		d.messages, d.own = d.listing.unpack(), true
		d.reader = cursor{}
	}
	return d.messages
}

// closeWait bounds what Close may still do before it releases the lock.
const closeWait = 5 * time.Second

// Close releases the maildrop, which must not be used afterwards.
func (d *maildrop) Close() error {
	d.release()
	return d.folder.close()
}

// release marks what was retrieved as read, if that is wanted, and releases the
// lock. Messages may still be read.
func (d *maildrop) release() {
	if len(d.retrieved) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		if err := d.markRetrieved(ctx); err != nil {
			d.log.Warn("retrieved messages were not marked as read", "error", err)
		}
		cancel()
	}
	d.closeTrash()
	d.unlock()
}

// path is where the message's file was last seen, for messages.
func (d *maildrop) path(m *message) string {
	return d.folder.path + "/" + subdirNames[m.in] + "/" + m.name
}

func errBusy(f *folder) error {
	return gateway.Unavailable("another program keeps changing the maildrop, try again",
		fmt.Errorf("files in %s were renamed during each of %d searches", f.path, maxScans))
}
