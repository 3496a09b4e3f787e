package link

import (
	"context"
	"io"
)

// Bodies are messages, or a part of each, asked for at once, which come one after
// the other. What has not been read waits at the server, and costs no memory here.
type Bodies struct {
	x       *exchange
	section Section
	body    *Body // the last one that Next returned
}

// FetchBodies asks for section of the messages of set ("4,7:9"). Nothing else can be
// done with the connection until Close or Abandon. ctx governs sending alone.
func (c *Conn) FetchBodies(ctx context.Context, set string, section Section) (*Bodies, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	x, err := c.exchange(context.WithoutCancel(ctx), fetchBodies(set, section))
	if err != nil {
		return nil, err
	}
	c.r.widen()
	return &Bodies{x: x, section: section}, nil
}

func fetchBodies(set string, section Section) string {
	return "UID FETCH " + set + " (UID " + section.String() + ")"
}

// much is how many octets must be to come for a reader that waits for some of them
// to come together.
const much = 8 * lowWater

// Expect says about how many octets are still to come.
func (b *Bodies) Expect(octets int64) { b.x.c.wire.waitForMuch(octets >= much) }

// More asks for more messages, before the others have come. It may be called
// while a body is read, and not after Next has returned an error.
func (b *Bodies) More(set string) error { return b.x.send(fetchBodies(set, b.section)) }

// Next returns the next message, in the server's order. The one before must have
// been closed. After the last the error is io.EOF, or an *imap.Error where the
// server answered one of the commands with NO or BAD, be it that it has sent all
// or none. Messages may be missing (expunged), come twice, or not be among those
// asked for: the caller compares UIDs.
//
// A Body ends with io.EOF where its own response has ended, since the completion
// comes after all of them. ctx governs Next and the Body: when it ends before
// that, so does the connection.
func (b *Bodies) Next(ctx context.Context) (*Body, error) {
	c := b.x.c
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	unwatch := context.AfterFunc(ctx, func() { c.fail(ended(ctx)) })
	c.wire.progress = true // the time since the message before is not the server's
	body, err := b.next(unwatch)
	if err != nil {
		unwatch()
		return nil, err
	}
	b.body = body
	return body, nil
}

func (b *Bodies) next(unwatch func() bool) (*Body, error) {
	for {
		items, more, err := b.x.next()
		switch {
		case err != nil:
			return nil, err
		case !more:
			return nil, io.EOF
		}
		body := &Body{x: b.x, section: b.section, unwatch: unwatch, items: items}
		found, err := body.scan()
		if err != nil {
			return nil, b.x.fail(err)
		}
		if found {
			body.uid = body.named
			return body, nil
		}
	}
}

// Abandon closes, when nobody wants what is still to come. octets is about how
// much that is: where it is much, the connection ends (see Conn.Err), which is
// cheaper than to read on.
func (b *Bodies) Abandon(ctx context.Context, octets int64) {
	defer b.Close()
	if b.body != nil {
		b.body.Close()
	}
	for room := int64(maxDrain); !b.x.over; {
		if octets > room {
			b.x.c.fail(errAbandoned)
			return
		}
		body, err := b.Next(ctx)
		if err != nil {
			return
		}
		room -= body.Size()
		octets = 0 // what is known is known better
		if room < 0 {
			b.x.c.fail(errAbandoned)
		}
		body.Close()
	}
}

// Close gives the connection back. Where something is still to come, it ends.
func (b *Bodies) Close() {
	if b.body != nil {
		b.body.release()
	}
	if !b.x.ended {
		b.x.c.r.unwiden()
		b.x.c.wire.waitForMuch(false)
	}
	b.x.end()
}
