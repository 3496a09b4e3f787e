package maildir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"weak"

	"pop3gw/gateway"
	durable "pop3gw/gateway/state"
	"pop3gw/gateway/uidl"
)

// variables are those that a form of unique-ids may have here.
const variables = "uvfg"

// UIDL is a form of unique-ids, a preset or template of uidl.Parse; "" is
// DefaultUIDL.
type UIDL string

const DefaultUIDL UIDL = "dovecot"

// UnmarshalText takes what uidl.Parse takes.
func (u *UIDL) UnmarshalText(text []byte) error {
	_, err := uidl.Parse(string(text), variables)
	if err == nil {
		*u = UIDL(text)
	}
	return err
}

// KeepsNames reports whether unique-ids have to be kept, since they cost a look
// into each message.
func (o Options) KeepsNames() bool { return o.ReuseXUIDL }

// UseBook has the adapter keep its unique-ids in book, which may be nil. It is
// called before the first Open.
func (a *Adapter) UseBook(book *uidl.Book) { a.book = book }

// naming is how the messages of a maildrop are named.
type naming struct {
	*drop
	form     *uidl.Form
	numbered bool // by another program, unless arranged is nil
	courier  bool // which is Courier
}

var (
	_ uidl.Maildrop  = (*naming)(nil)
	_ uidl.Unique    = (*naming)(nil)
	_ uidl.Temporary = (*naming)(nil)

	_ uidl.Remembered = (*naming)(nil)
)

// nameMessages arranges the messages of d, which are listed, and finds their
// unique-ids.
func (a *Adapter) nameMessages(ctx context.Context, d *maildrop, account gateway.Account) (*drop, error) {
	names, err := a.book.Open(ctx, account)
	if err != nil {
		return nil, err
	}
	o := &drop{d: d, names: names}
	n := &naming{drop: o, form: &a.form, courier: a.uidl == "courier"}
	n.numbered = a.form.Has(uidl.UID) || a.form.Has(uidl.Validity)
	source := durable.Source{Form: a.form.String()}
	if n.courier {
		source.Form = "courier"
	}
	// Where messages were named by their files once, a list that comes later
	// must not name them anew.
	before, ok := names.Before("")
	byFiles := ok && before == source
	switch {
	case n.courier && !byFiles:
		o.arranged, err = d.arrange(sizelistName, parseSizelist)
	case a.uidl != "qmail" && a.uidl != "tpop3d" && !(n.numbered && byFiles):
		o.arranged, err = d.arrange(uidlistName, parseUidlist)
	}
	if err != nil {
		return nil, err
	}
	if n.numbered && o.arranged != nil {
		source.Validity = strconv.FormatUint(uint64(o.arranged.validity), 10)
	}
	var drop uidl.Maildrop = n
	if a.reuseXUIDL {
		source.Form += " or X-UIDL"
		drop = &searched{n}
	}
	if err := names.Settle(ctx, drop, []durable.Source{source}); err != nil {
		return nil, err
	}
	return o, nil
}

// message returns message i, and what another program says of it, zero for nothing.
func (n *naming) message(i int) (m *message, k number) {
	at := n.at(i)
	if n.arranged != nil {
		k = n.arranged.numbers.at(at)
	}
	return n.d.view(at), k
}

// Key implements uidl.Maildrop. Files that share a base name are told apart by
// their inodes, also when one alone is left.
func (n *naming) Key(i int) uidl.Key {
	m, _ := n.message(i)
	if own := uidl.KeyOf(m.base(), strconv.FormatUint(m.file.inode, 10)); m.duplicate || n.names.Given(own) {
		return own
	}
	return uidl.KeyOf(m.base())
}

// contents is what a maildrop holds. Weak pointers do not keep it in memory.
type contents struct {
	listing  weak.Pointer[listing]
	arranged weak.Pointer[arranged]
}

// Contents implements uidl.Remembered.
func (n *naming) Contents() any {
	if n.d.shown != nil && n.arranged == nil {
		return nil // arranged would tell which are shown
	}
	return contents{weak.Make(n.d.listing), weak.Make(n.arranged)}
}

// IsUnique implements uidl.Unique.
func (n *naming) IsUnique() bool {
	return n.arranged == nil || n.arranged.unique && n.form.Has(uidl.UID)
}

// HasTemporary implements uidl.Temporary.
func (n *naming) HasTemporary() bool {
	return n.arranged != nil && n.numbered && !n.arranged.whole || n.d.hasDuplicates()
}

// IsTemporary implements uidl.Temporary.
func (n *naming) IsTemporary(i int) bool {
	m, k := n.message(i)
	return m.duplicate || n.arranged != nil && n.numbered && k.uid == 0 && !k.byName
}

// AppendForm implements uidl.Maildrop.
func (n *naming) AppendForm(dst []byte, i int) []byte {
	m, k := n.message(i)
	switch {
	case m.duplicate:
		return appendDuplicateUID(dst, m.base(), m.file.inode)
	case n.courier && k.byName:
		return appendCourierName(dst, m.base())
	case n.courier && k.uid != 0 && k.validity == 0:
		return strconv.AppendUint(append(dst, "UID"...), uint64(k.uid), 10)
	case k.byName:
		return append(dst, m.base()...)
	case k.pop3 != "":
		return append(dst, k.pop3...)
	case n.numbered && k.uid == 0:
		return append(dst, m.base()...)
	}
	v := uidl.Values{UID: k.uid, Validity: k.validity, File: m.base(), GUID: cmp.Or(k.guid, m.base())}
	return n.form.Append(dst, &v)
}

// ReadHeaders implements uidl.Maildrop.
func (n *naming) ReadHeaders(ctx context.Context, want []int, found func(i int, h *uidl.Header)) error {
	var h uidl.Header
	return n.eachHeader(ctx, want, h.Reset, &h, h.Done, func(i int) { found(i, &h) })
}

// eachHeader writes the beginning of each message of want to w, until done.
func (n *naming) eachHeader(ctx context.Context, want []int, reset func(), w io.Writer, done func() bool, found func(i int)) error {
	buf := make([]byte, 8<<10)
	for _, i := range want {
		r, err := n.d.Retrieve(ctx, n.at(i), 0)
		if errors.Is(err, gateway.ErrGone) {
			continue
		}
		if err != nil && n.d.view(n.at(i)).state == unreadable {
			continue // RETR will say so
		}
		if err != nil {
			return fmt.Errorf("reading headers: %w", err)
		}
		reset()
		for !done() && err == nil {
			var k int
			k, err = r.Read(buf)
			w.Write(buf[:k])
		}
		r.Close()
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading headers: %w", err)
		}
		found(i)
	}
	return nil
}

// searched is a naming of messages that may have an X-UIDL field.
type searched struct{ *naming }

var _ uidl.Namer = (*searched)(nil)

// FindNames implements uidl.Namer.
func (s *searched) FindNames(ctx context.Context, want []int, found func(i int, name string)) error {
	var h head
	return s.eachHeader(ctx, want, h.reset, &h, h.done, func(i int) { found(i, uidl.XUIDL(h.text)) })
}

// head keeps the first octets of a message.
type head struct{ text []byte }

const maxHead = 64 << 10

func (h *head) reset() { h.text = h.text[:0] }

func (h *head) done() bool { return len(h.text) >= maxHead }

func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p...)
	return len(p), nil
}
