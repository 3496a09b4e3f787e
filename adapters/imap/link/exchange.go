package link

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
)

// exchange is a command of our own, or some that are sent before the first is
// answered, and the responses until all are completed. It has the stream until
// end.
type exchange struct {
	c     *Conn
	tags  [][]byte // of the commands that have not been completed
	done  func()   // releases the connection
	over  bool     // all commands have been completed
	err   error    // and how: the first error
	ended bool     // end was called
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
	x := &exchange{c: c, done: done}
	c.wire.bound(c.limits.Operation)
	if err := x.send(command); err != nil {
		x.over = true // nothing left
		x.end()
		return nil, err
	}
	return x, nil
}

// send sends another command, if the exchange is not over.
func (x *exchange) send(command string) error {
	x.c.tag++
	tag := strconv.AppendInt([]byte{'F'}, int64(x.c.tag), 10)
	if err := x.c.send(tag, command); err != nil {
		return err
	}
	x.tags = append(x.tags, tag)
	return nil
}

// next returns the data of the next FETCH response, and false when all commands
// have been completed: err is then nil for OK, *imap.Error for NO and BAD, or
// why the connection broke. Everything else is routed as usual.
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
		if i := slices.IndexFunc(x.tags, func(t []byte) bool { return bytes.Equal(t, tag) }); i >= 0 {
			st := parseStatus(rest)
			err, ok := x.c.completion(st)
			if !ok {
				return items, false, x.complete(x.c.fail(errNeither))
			}
			x.err = cmp.Or(x.err, err)
			// Not always in the order of the commands: Dovecot may answer two
			// with all their data first and both completions behind it.
			if x.tags = slices.Delete(x.tags, i, i+1); len(x.tags) == 0 {
				return items, false, x.complete(x.err)
			}
			continue
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

// finish reads until the commands are completed, and drops FETCH responses.
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
