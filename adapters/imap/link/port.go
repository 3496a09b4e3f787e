package link

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"time"
)

// port is the net.Conn that imapclient sees. Its Read gives out responses that
// are whole; it reads from the network while answers are due and nobody else
// does, and otherwise waits without touching it.
type port struct{ c *Conn }

func (p port) Read(b []byte) (int, error) {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.inbox.Len() > 0 {
			n, _ := c.inbox.Read(b)
			if c.inbox.Len() == 0 && c.inbox.Cap() > bufferSize {
				c.inbox = bytes.Buffer{}
			}
			c.changed.Broadcast()
			return n, nil
		}
		if c.err != nil {
			return 0, c.err
		}
		if len(c.due) == 0 || c.reading {
			c.changed.Wait()
			continue
		}
		c.read()
	}
}

// read relays one response, with c.mu released meanwhile.
func (c *Conn) read() {
	c.reading = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.reading = false
		c.changed.Broadcast()
	}()
	c.wire.bound(0)
	if line, err := c.line(); err == nil {
		c.relay(line)
	}
}

func (p port) Write(b []byte) (int, error) {
	c := p.c
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.Err(); err != nil {
		return 0, err
	}
	// Before the octets leave: somebody must read while they do, lest both
	// ends wait for the other to read.
	c.sent.scan(b, c.await)
	c.write(b)
	return len(b), nil
}

// await notes that the answer to imapclient's command with this tag is due.
func (c *Conn) await(tag int64) {
	c.mu.Lock()
	c.due = append(c.due, tag)
	c.mu.Unlock()
	c.changed.Broadcast()
}

// answered notes that it came, and reports whether it was due.
func (c *Conn) answered(tag int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.due, tag)
	if i < 0 {
		return false
	}
	c.due = slices.Delete(c.due, i, i+1)
	return true
}

// maxInbox is how many octets of responses may wait for imapclient. One more
// response may come on top.
const maxInbox = 128 << 10

// maxAnswer is how many octets of responses the commands of one Do may get, on
// top of two lines of full length: imapclient keeps what LIST and SEARCH yield
// in memory, and no single line of it need be long.
const maxAnswer = 1 << 20

// deliver queues a response for imapclient.
func (c *Conn) deliver(response []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inbox.Len() > maxInbox {
		// imapclient's goroutine is behind, or stuck in a command whose
		// results nobody takes.
		stuck := time.AfterFunc(c.limits.Idle, func() { c.fail(ErrTimeout) })
		defer stuck.Stop()
		for c.err == nil && c.inbox.Len() > maxInbox {
			c.changed.Wait()
		}
	}
	if c.err != nil {
		return c.err
	}
	c.passed += int64(len(response))
	if limit := maxAnswer + 2*c.r.maxLine.Load(); len(c.due) > 0 && c.passed > limit {
		return fmt.Errorf("%w: an answer of more than %d octets", ErrTooLong, limit)
	}
	c.inbox.Write(response)
	c.changed.Broadcast()
	return nil
}

// Close is imapclient's way to give up on a connection, as it does after a
// response that it cannot read.
func (p port) Close() error {
	p.c.fail(errGaveUp)
	return nil
}

func (p port) LocalAddr() net.Addr  { return p.c.wire.LocalAddr() }
func (p port) RemoteAddr() net.Addr { return p.c.wire.RemoteAddr() }

// The deadlines of imapclient are constants and in part absolute; ours hold.

func (p port) SetDeadline(time.Time) error      { return nil }
func (p port) SetReadDeadline(time.Time) error  { return nil }
func (p port) SetWriteDeadline(time.Time) error { return nil }
