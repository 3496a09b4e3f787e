package imap

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-imap/v2"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

const (
	// A message up to this size, in octets, is fetched whole for TOP as well.
	maxWholeForTop = 32 << 10
	// The first piece fetched for TOP holds most headers; the next ones grow,
	// so that a long one does not take many round trips.
	firstPiece = 16 << 10
	lastPiece  = 1 << 20
)

var errReading = errors.New("the message before is still being read")

// Retrieve implements gateway.Maildrop. For a few lines of a large message it
// fetches piece by piece, as far as the reader is read, and for none the header.
func (d *maildrop) Retrieve(ctx context.Context, i, lines int) (io.ReadCloser, error) {
	if d.reading {
		return nil, errReading
	}
	m := &message{ctx: ctx, d: d, i: i}
	switch size := d.Size(i); {
	case lines == 0:
		m.part, m.section.Name = header, "HEADER"
	case lines > 0:
		m.part = some
		if size > maxWholeForTop && int64(lines) < size { // a line has an octet at least
			m.section.Octets = firstPiece
		}
	}
	if err := d.retry(ctx, examined, m.open); err != nil {
		err = m.explain(err)
		if errors.Is(err, gateway.ErrGone) && d.sequence.goesOn(m) {
			d.sequence.add(m)
		}
		return nil, err
	}
	d.reading = true
	if m.part != header {
		return d.names.Watch(i, m), nil
	}
	return m, nil
}

// part is how much of a message a client wants.
type part int

const (
	whole  part = iota // RETR
	header             // TOP with no lines
	some               // TOP with a number of lines
)

// message reads a message, whole or in pieces.
type message struct {
	ctx     context.Context
	d       *maildrop
	i       int
	part    part
	section link.Section // what body is; Octets is 0 for all of the section
	body    body
	err     error // what Read ends with
	closed  bool
}

// body is a message, or a piece of one, of so many octets.
type body interface {
	io.ReadCloser
	Size() int64
}

func (m *message) uid() imap.UID { return imap.UID(m.d.messages.uids[m.i]) }

// open begins to read, from what was prefetched if it is there.
func (m *message) open() (err error) {
	waiting := m.d.ahead != nil && m.i < m.d.ahead.asked // the first of a row is asked for only now
	m.body, err = m.d.prefetched(m)
	if err == nil && m.part == whole {
		m.d.adapter.hits.message.add(m.body != nil && waiting)
	}
	if m.body != nil || err != nil {
		return err
	}
	if err := m.fetch(); err != nil {
		return err
	}
	m.d.came(m)
	return nil
}

func (m *message) fetch() error {
	body, err := m.d.conn.FetchBody(m.ctx, m.uid(), m.section)
	if err != nil {
		return err
	}
	m.body = body
	return nil
}

func (m *message) explain(err error) error {
	if errors.Is(err, link.ErrNoMessage) {
		return gateway.Gone(err)
	}
	// Some servers refuse to fetch what has been expunged (RFC 5530).
	if e, ok := errors.AsType[*imap.Error](err); ok && strings.EqualFold(string(e.Code), "EXPUNGEISSUED") {
		return gateway.Gone(quoted(err))
	}
	return m.d.heedLimits(m.d.adapter.explain("fetching a message", err))
}

// Read implements io.Reader. Only a complete message ends with io.EOF.
func (m *message) Read(p []byte) (int, error) {
	for m.err == nil {
		n, err := m.body.Read(p)
		if err != nil {
			m.err = m.end(err)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, m.err
}

// end is called where a piece has ended with err. It returns nil if there is
// another one.
func (m *message) end(err error) error {
	if err != io.EOF {
		return m.explain(err)
	}
	if err := m.body.Close(); err != nil {
		return m.explain(err)
	}
	got := m.body.Size()
	end := m.section.Offset + got
	switch {
	case m.section.Octets == 0, got == 0, got > m.section.Octets: // the last is all of it: partial was ignored
		return io.EOF
	case got < m.section.Octets && end >= m.d.Size(m.i): // both say so; RFC822.SIZE alone may be wrong
		return io.EOF
	}
	m.section.Offset = end
	m.section.Octets = min(4*m.section.Octets, lastPiece)
	err = m.fetch()
	if errors.Is(err, link.ErrNoMessage) && end >= m.d.Size(m.i) {
		return io.EOF // some say NIL for a piece behind the end
	}
	if err != nil {
		return m.explain(err)
	}
	return nil
}

// Close implements io.Closer. Where much of the body is left, the connection
// goes, and the next command gets another.
func (m *message) Close() error {
	if m.closed {
		return nil
	}
	m.closed = true
	m.d.reading = false
	err := m.body.Close()
	switch {
	case m.err == nil && m.part == header: // the end of the header is enough for the reader
		m.d.sequence.add(m)
		return nil
	case m.err == nil:
		return nil // given up; what became of the connection shows later
	case m.err != io.EOF:
		return m.err
	case err != nil:
		return m.explain(err)
	}
	m.d.sequence.add(m)
	if m.part == whole && m.d.policy.OnRetrieve == gateway.SeenOnRetrieve {
		m.d.retrieved.add(m.i)
	}
	return nil
}
