package link

import (
	"cmp"
	"context"
	"fmt"

	"github.com/emersion/go-imap/v2"
)

// FetchSizes calls fn with the sequence number, the UID and the RFC822.SIZE in
// octets of each message in set ("1:*", "4,7:9"), in the server's order, as the
// answer comes in. It allocates nothing per message.
//
// Messages may be missing (expunged) or come twice: the caller counts. UIDs that
// do not ascend as the sequence numbers do, which they must (RFC 9051 §2.3.1.1),
// are ErrProtocol. An error of fn is returned once the answer has been read to its
// end; fn is not called again. NO and BAD are *imap.Error.
func (c *Conn) FetchSizes(ctx context.Context, set string, fn func(seq uint32, uid imap.UID, size int64) error) error {
	x, err := c.exchange(ctx, "UID FETCH "+set+" (UID RFC822.SIZE)")
	if err != nil {
		return err
	}
	defer x.end()

	var refused error
	var message, before sizeItems
	for {
		items, more, err := x.next()
		if !more {
			if err == nil {
				err = refused
			}
			return err
		}
		// Some servers answer in two responses for one message.
		if message.seq != items.seq || message.renumbered != c.renumbered {
			message = sizeItems{seq: items.seq, renumbered: c.renumbered}
		}
		if err := message.read(&items); err != nil {
			return x.fail(err)
		}
		if message.uid == 0 || !message.sized {
			continue
		}
		if message.renumbered == before.renumbered && cmp.Compare(message.seq, before.seq) != cmp.Compare(message.uid, before.uid) {
			return x.fail(fmt.Errorf("%w: message %d has UID %d, and message %d has UID %d", ErrProtocol, before.seq, before.uid, message.seq, message.uid))
		}
		if refused == nil {
			c.wire.progress = true
			refused = fn(message.seq, imap.UID(message.uid), message.size)
		}
		before, message = message, sizeItems{}
	}
}

// sizeItems is what is known of one message.
type sizeItems struct {
	seq        uint32
	renumbered int // Conn.renumbered when seq was its number
	uid        uint32
	size       int64
	sized      bool
}

func (m *sizeItems) read(items *items) error {
	for {
		name, more, err := items.next()
		if !more {
			return err
		}
		switch {
		case is(name, "UID"):
			m.uid, err = items.uid()
		case is(name, "RFC822.SIZE"):
			m.size, err = items.number()
			m.sized = true
		default:
			err = items.skip()
		}
		if err != nil {
			return err
		}
	}
}
