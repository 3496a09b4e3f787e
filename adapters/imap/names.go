package imap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"weak"

	"github.com/emersion/go-imap/v2"

	"pop3gw/gateway"
	"pop3gw/gateway/state"
	"pop3gw/gateway/uidl"
)

// variables are those that a form of unique-ids may have here.
const variables = "uvG"

// UIDL is a form of unique-ids, a preset or template of uidl.Parse; "" is "dovecot".
type UIDL string

// UnmarshalText takes what uidl.Parse takes.
func (u *UIDL) UnmarshalText(text []byte) error {
	_, err := uidl.Parse(string(text), variables)
	if err == nil {
		*u = UIDL(text)
	}
	return err
}

// KeepsNames reports whether unique-ids have to be kept, since they cost the server
// a question for each message.
func (o Options) KeepsNames() bool { return o.UIDL == "gmail" || o.ReuseXUIDL }

// UseBook has the adapter keep its unique-ids in book, which may be nil. It is
// called before the first Open.
func (a *Adapter) UseBook(book *uidl.Book) { a.book = book }

// naming is what names messages: a maildrop, and whose messages they are.
type naming struct{ *maildrop }

var (
	_ uidl.Maildrop = naming{}
	_ uidl.Unique   = naming{}

	_ uidl.Remembered = naming{}
)

// nameMessages finds the unique-ids of the messages that were listed.
func (d *maildrop) nameMessages(ctx context.Context, account gateway.Account) error {
	names, err := d.adapter.book.Open(ctx, account)
	if err != nil {
		return err
	}
	var drop uidl.Maildrop = naming{d}
	if d.adapter.options.KeepsNames() {
		drop = fetched{naming{d}}
	}
	source := state.Source{Form: d.adapter.form.String(), Validity: fmt.Sprint(d.uidValidity)}
	if d.adapter.options.ReuseXUIDL {
		source.Form += " or X-UIDL"
	}
	if err := names.Settle(ctx, drop, []state.Source{source}); err != nil {
		return err
	}
	d.names = names
	return nil
}

// IsUnique implements uidl.Unique: no two messages of a mailbox have one UID.
func (d naming) IsUnique() bool { return d.adapter.form.Has(uidl.UID) }

// Key implements uidl.Maildrop. UIDs are never used twice under one UIDVALIDITY.
func (d naming) Key(i int) uidl.Key {
	return uidl.Key(d.uidValidity)<<32 | uidl.Key(d.messages.uids[i])
}

// contents is what a mailbox holds: the messages of a listing that is remembered.
// The weak pointer does not keep it in memory.
type contents struct {
	first weak.Pointer[uint32]
	count int
}

// Contents implements uidl.Remembered.
func (d naming) Contents() any {
	uids := d.messages.uids
	if len(uids) == 0 {
		return nil
	}
	return contents{weak.Make(&uids[0]), len(uids)}
}

// AppendForm implements uidl.Maildrop.
func (d naming) AppendForm(dst []byte, i int) []byte {
	v := uidl.Values{UID: d.messages.uids[i], Validity: d.uidValidity}
	return d.adapter.form.Append(dst, &v)
}

// maxHeader is how much of the fields of a message is read, in octets.
const maxHeader = 32 << 10

// ReadHeaders implements uidl.Maildrop.
func (d naming) ReadHeaders(ctx context.Context, want []int, found func(i int, h *uidl.Header)) error {
	var h uidl.Header
	return d.each(ctx, "reading headers", want, func(set imap.UIDSet) error {
		return d.conn.FetchHeaders(ctx, set.String(), uidl.Fields, maxHeader, func(uid imap.UID, header []byte) {
			if i, ok := d.index(uid); ok {
				h.Reset()
				h.Write(header)
				found(i, &h)
			}
		})
	})
}

// each calls fetch with the UIDs of the messages of want, some at a time.
func (d naming) each(ctx context.Context, doing string, want []int, fetch func(set imap.UIDSet) error) error {
	for len(want) > 0 {
		set, n := d.messages.chunk(want)
		if err := d.retry(ctx, examined, func() error { return fetch(set) }); err != nil {
			return d.adapter.explain(doing, err)
		}
		want = want[n:]
	}
	return nil
}

func (d naming) index(uid imap.UID) (i int, ok bool) {
	return slices.BinarySearch(d.messages.uids, uint32(uid))
}

// fetched is a naming of messages that the server must be asked about.
type fetched struct{ naming }

var _ uidl.Namer = fetched{}

// FindNames implements uidl.Namer: X-UIDL where that is reused, else what the form
// makes of X-GM-MSGID where it is of that.
func (d fetched) FindNames(ctx context.Context, want []int, found func(i int, name string)) error {
	names := make(map[int]string, len(want))
	if d.adapter.options.ReuseXUIDL {
		err := d.each(ctx, "reading X-UIDL", want, func(set imap.UIDSet) error {
			return d.conn.FetchHeaders(ctx, set.String(), []string{"X-UIDL"}, maxHeader, func(uid imap.UID, header []byte) {
				if i, ok := d.index(uid); ok {
					names[i] = uidl.XUIDL(header)
				}
			})
		})
		if err != nil {
			return err
		}
	} else {
		for _, i := range want {
			names[i] = ""
		}
	}
	if d.adapter.form.HasGmail() {
		var without []int
		for _, i := range want {
			if name, ok := names[i]; ok && name == "" {
				without = append(without, i)
			}
		}
		if err := d.findGmailIDs(ctx, without, names); err != nil {
			return err
		}
	}
	for i, name := range names {
		found(i, name)
	}
	return nil
}

func (d fetched) findGmailIDs(ctx context.Context, want []int, names map[int]string) error {
	if !d.caps.Has("X-GM-EXT-1") {
		return d.adapter.explainAs(permanent("mail server has not the unique-ids that are configured", `uidl = "gmail" is for Gmail alone; set another`),
			"asking for X-GM-MSGID", errors.New("server does not announce X-GM-EXT-1"))
	}
	for _, i := range want {
		delete(names, i) // it may be gone
	}
	return d.each(ctx, "asking for X-GM-MSGID", want, func(set imap.UIDSet) error {
		return d.conn.FetchNumber(ctx, set.String(), "X-GM-MSGID", func(uid imap.UID, n uint64) {
			if i, ok := d.index(uid); ok {
				names[i] = string(d.adapter.form.Append(nil, &uidl.Values{UID: uint32(uid), Validity: d.uidValidity, Gmail: n}))
			}
		})
	})
}

// ExportUIDs calls write with the unique-id of each message, its Message-ID and
// size.
func (d *maildrop) ExportUIDs(ctx context.Context, write func(uidl.Listed) error) error {
	return d.names.Export(ctx, write)
}
