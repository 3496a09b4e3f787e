package link

import (
	"context"
	"errors"
	"strconv"
)

// exchange is one command of our own and the responses until its completion.
// It has the stream until end.
type exchange struct {
	c     *Conn
	tag   []byte
	done  func() // releases the connection
	over  bool   // the command has been completed
	err   error  // and how
	ended bool   // end was called
}

// exchange sends a command, without its tag and line end.
func (c *Conn) exchange(ctx context.Context, command string) (*exchange, error) {
	done, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.takeStream(); err != nil {
		done()
		return nil, err
	}
	c.tag++
	x := &exchange{c: c, done: done, tag: strconv.AppendInt([]byte{'F'}, int64(c.tag), 10)}
	c.wire.bound(c.limits.Operation)
	if err := c.send(x.tag, command); err != nil {
		x.over = true // nothing left
		x.end()
		return nil, err
	}
	return x, nil
}

// next returns the data of the next FETCH response, and false when the command
// has been completed: err is then nil for OK, *imap.Error for NO and BAD, or why
// the connection broke. Everything else is routed as usual.
func (x *exchange) next() (items items, more bool, err error) {
	if x.over {
		return items, false, x.err
	}
	for {
		line, err := x.c.line()
		if err != nil {
			return items, false, x.complete(err)
		}
		tag, rest := word(line)
		if string(tag) == "*" {
			n, data := word(rest)
			what, list := word(data)
			if seq, ok := number32(n); ok && is(what, "FETCH") {
				return newItems(x.c.r, seq, list), true, nil
			}
		}
		if string(tag) == string(x.tag) {
			st := parseStatus(rest)
			err, ok := x.c.completion(st)
			if !ok {
				err = x.c.fail(errNeither)
			}
			return items, false, x.complete(err)
		}
		if err := x.c.relay(line); err != nil {
			return items, false, x.complete(err)
		}
	}
}

func (x *exchange) complete(err error) error {
	x.over, x.err = true, err
	return err
}

// fail ends the connection, because of an error of x.c.r or of what was read.
func (x *exchange) fail(err error) error { return x.complete(x.c.readFailed(err)) }

// finish reads until the command is completed, and drops FETCH responses.
func (x *exchange) finish() error {
	for {
		items, more, err := x.next()
		if !more {
			return err
		}
		if err := items.skipRest(); err != nil {
			return x.fail(err)
		}
	}
}

// end releases the stream and the connection. A command that has not been
// completed, as after a panic, leaves an answer to come that nobody would know:
// the connection ends then.
func (x *exchange) end() {
	if x.ended {
		return
	}
	x.ended = true
	if !x.over {
		x.c.fail(errUnfinished)
	}
	x.c.leaveStream()
	x.done()
}

var errUnfinished = errors.New("connection closed in an answer that was not read to its end")
