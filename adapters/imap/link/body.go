package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/emersion/go-imap/v2"
)

// Section is the part of a message that FetchBody gets, without setting \Seen. The
// zero value is the whole message.
type Section struct {
	Name   string // "" the whole message, or "HEADER", "TEXT"
	Offset int64  // first octet of the part wanted, if Octets > 0
	Octets int64  // how many octets are wanted; 0 is all
}

// String is the section as an item of a FETCH command (RFC 9051 §6.4.5).
func (s Section) String() string {
	item := "BODY.PEEK[" + s.Name + "]"
	if s.Octets > 0 {
		item += fmt.Sprintf("<%d.%d>", s.Offset, s.Octets)
	}
	return item
}

// matches reports whether name is how a response calls the section:
// "BODY[HEADER]<0>". A server that ignores a partial fetch leaves the origin
// out. From offset 0 that does no harm; otherwise err says so.
func (s Section) matches(name []byte) (ok bool, err error) {
	item := "BODY[" + s.Name + "]"
	if len(name) < len(item) || !is(name[:len(item)], item) {
		return false, nil
	}
	origin := string(name[len(item):])
	if s.Octets == 0 || s.Offset == 0 {
		return origin == "" || s.Octets > 0 && origin == "<0>", nil
	}
	if origin != fmt.Sprintf("<%d>", s.Offset) {
		return false, fmt.Errorf("%w: another part in the answer to %s", ErrProtocol, s)
	}
	return true, nil
}

// Body is a message, or a part of one, as the server sends it.
type Body struct {
	x       *exchange
	uid     uint32
	section Section
	unwatch func() bool // not nil for one of Bodies: the end of its context is of no concern any more

	items items  // of the response being read
	named uint32 // UID in that response, 0 for none yet

	// The sequence number of the message, as far as a response has told it,
	// and Conn.renumbered at that time.
	known      uint32
	renumbered int

	literal bool   // the body is one
	quoted  []byte // else: what is left of the quoted string
	size    int64
	left    int64 // octets of the literal still on the network
	err     error // io.EOF, or what went wrong
	closed  bool
}

var _ io.ReadCloser = (*Body)(nil)

// FetchBody asks for a message. No body, because it is gone, is ErrNoMessage;
// NO and BAD are *imap.Error; the connection goes on in these cases. The Body
// must be closed before anything else is done with the connection. ctx governs
// it until then: when it ends, so does the connection.
func (c *Conn) FetchBody(ctx context.Context, uid imap.UID, section Section) (*Body, error) {
	x, err := c.exchange(ctx, fmt.Sprintf("UID FETCH %d (UID %s)", uid, section))
	if err != nil {
		return nil, err
	}
	b := &Body{x: x, uid: uint32(uid), section: section}
	if err := b.find(); err != nil {
		x.end()
		return nil, err
	}
	return b, nil
}

// find reads up to the body.
func (b *Body) find() error {
	for {
		items, more, err := b.x.next()
		if err != nil {
			return err
		}
		if !more {
			return ErrNoMessage
		}
		b.items, b.named = items, 0
		found, err := b.scan()
		if err != nil {
			return b.x.fail(err)
		}
		if found {
			return nil
		}
		b.note()
	}
}

// scan reads items of a response until the body begins or the response ends.
func (b *Body) scan() (found bool, err error) {
	for {
		name, more, err := b.items.next()
		if !more {
			return false, err
		}
		switch ok, err := b.section.matches(name); {
		case err != nil:
			return false, err
		case is(name, "UID"):
			if b.named, err = b.items.uid(); err != nil {
				return false, err
			}
		case ok && (b.named == 0 || b.named == b.uid || b.ofMany()):
			b.quoted, b.size, found, err = b.items.text()
			if b.literal = b.quoted == nil; b.literal {
				b.left = b.size
			}
			if err != nil || found {
				return found, err
			}
		default:
			if err := b.items.skip(); err != nil {
				return false, err
			}
		}
	}
}

// note remembers the sequence number of a response that names the message, for
// a server that sends UID and body in two.
func (b *Body) note() {
	if b.named != 0 && b.named == b.uid {
		b.known, b.renumbered = b.items.seq, b.x.c.renumbered
	}
}

// Size is the number of octets announced by the server. It may differ from
// RFC822.SIZE. It may exceed Section.Octets, if the server takes no notice of
// that: then this is the whole section.
func (b *Body) Size() int64 { return b.size }

// UID is that of the message. For one of Bodies it is 0 while the server has not
// told it.
func (b *Body) UID() imap.UID { return imap.UID(b.uid) }

// ofMany reports whether it is one of Bodies.
func (b *Body) ofMany() bool { return b.unwatch != nil }

// Read reads the body, as much of it as comes without a pause, and without a copy
// between where much is to come and p is large. It returns io.EOF only after all octets
// were read and the server has completed the command with OK, or for one of Bodies the
// response. A connection that ends sooner is an error, such as io.ErrUnexpectedEOF,
// never io.EOF.
func (b *Body) Read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case len(p) == 0:
		return 0, nil
	case len(b.quoted) > 0:
		n := copy(p, b.quoted)
		b.quoted = b.quoted[n:]
		return n, nil
	case b.left > 0:
		return b.readLiteral(p[:min(int64(len(p)), b.left)])
	}
	if b.err = b.finish(); b.err == nil {
		b.err = io.EOF
	}
	b.release()
	return 0, b.err
}

// readLiteral reads into p, which is not larger than what is left.
func (b *Body) readLiteral(p []byte) (n int, err error) {
	c := b.x.c
	for n < len(p) && err == nil {
		c.wire.progress = true
		c.wire.soon = n > 0
		if b.left <= int64(c.r.br.Size()/2) { // together with what is behind it
			_, err = c.r.br.Peek(1)
		}
		k := 0
		if err == nil {
			k, err = c.r.br.Read(p[n:])
		}
		n += k
		b.left -= int64(k)
	}
	late := c.wire.soon && errors.Is(err, os.ErrDeadlineExceeded)
	c.wire.soon = false
	if err != nil && !late {
		b.err = b.x.fail(err)
		b.release()
	}
	return n, b.err
}

// finish reads what comes behind the body, up to the command's completion or for
// one of Bodies to the end of the response, and makes sure that the body was the
// one asked for.
func (b *Body) finish() error {
	x := b.x
	x.c.wire.progress = true // whoever reads the body may have taken their time
	body, renumbered := b.items.seq, x.c.renumbered
	if b.literal {
		if err := b.items.behind(); err != nil {
			return x.fail(err)
		}
	}
	if err := b.scanRest(); err != nil {
		return x.fail(err)
	}
	if b.ofMany() && b.uid == 0 {
		b.uid = b.named
	}
	if b.named != 0 && b.named != b.uid {
		return x.c.fail(fmt.Errorf("%w: the body of UID %d in place of %d", ErrProtocol, b.named, b.uid))
	}
	if b.ofMany() {
		return nil
	}
	for sure := false; ; {
		b.note()
		sure = sure || b.known == body && b.renumbered == renumbered
		items, more, err := x.next()
		switch {
		case err != nil:
			return err
		case !more && !sure:
			return x.c.fail(fmt.Errorf("%w: a body without the UID asked for", ErrProtocol))
		case !more:
			return nil
		}
		b.items, b.named = items, 0
		if err := b.scanRest(); err != nil {
			return x.fail(err)
		}
	}
}

// scanRest reads a response to its end, for the UID in it alone.
func (b *Body) scanRest() error {
	for {
		name, more, err := b.items.next()
		if !more {
			return err
		}
		if is(name, "UID") {
			b.named, err = b.items.uid()
		} else {
			err = b.items.skip()
		}
		if err != nil {
			return err
		}
	}
}

// maxDrain is how many octets of a body that nobody wants are read all the
// same, as that is cheaper than a new connection with its round trips.
const maxDrain = 256 << 10

var (
	errAbandoned  = errors.New("connection closed in a body that was not wanted to its end")
	errBodyClosed = errors.New("read of a closed body")
)

// Close ends the fetch. Where much of the body is still to come it ends the
// connection as well (see Err): cheaper than to read on.
func (b *Body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	if b.err != nil {
		return b.failure()
	}
	defer b.release()
	if b.left > maxDrain {
		b.x.c.fail(errAbandoned)
		b.err = errBodyClosed
		return nil
	}
	b.x.c.wire.progress = true
	if err := b.x.c.r.skip(b.left); err != nil {
		b.err = b.x.fail(err)
	} else if b.err = b.finish(); b.err == nil {
		b.err = errBodyClosed
		return nil
	}
	return b.failure()
}

func (b *Body) failure() error {
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

func (b *Body) release() {
	if b.ofMany() {
		b.unwatch()
		return
	}
	b.x.end()
}
