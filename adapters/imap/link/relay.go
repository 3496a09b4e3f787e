package link

import (
	"context"
	"fmt"
	"log/slog"
)

// line reads a line; an error ends the connection. The caller has the stream.
func (c *Conn) line() ([]byte, error) {
	line, err := c.r.line()
	if err != nil {
		return nil, c.readFailed(err)
	}
	return line, nil
}

// relay is route; an error ends the connection.
func (c *Conn) relay(line []byte) error {
	if err := c.route(line); err != nil {
		return c.readFailed(err)
	}
	return nil
}

// route passes a response, of which line is the first line, on to imapclient,
// or drops it.
//
// imapclient gives up on anything that it does not know, and on data it did not
// ask for it may do worse: a deeply nested BODYSTRUCTURE overflows its stack,
// which ends the process. So it gets what its commands need and nothing else.
func (c *Conn) route(line []byte) error {
	tag, rest := word(line)
	switch {
	case len(line) == 0:
		return nil
	case string(tag) == "*":
		return c.routeData(line, rest)
	case string(tag) == "+":
		c.mu.Lock()
		wanted := len(c.due) > 0
		c.mu.Unlock()
		if !wanted {
			return nil
		}
		return c.pass(line, true)
	}
	if n, ok := tagNumber(tag); ok {
		st := parseStatus(rest)
		if _, ok := c.completion(st); !ok {
			return errNeither
		}
		if c.answered(n) {
			c.noteStatus(st)
			return c.pass(line, true)
		}
	}
	return errUnasked
}

func (c *Conn) routeData(line, data []byte) error {
	typ, rest := word(data)
	if _, ok := number(typ); ok {
		what, _ := word(rest)
		switch {
		case is(what, "EXISTS"), is(what, "RECENT"):
			return c.pass(line, true)
		case is(what, "EXPUNGE"):
			// imapclient would hand the number to an ExpungeCommand, and stop
			// reading for good once 128 of them have not been taken.
			c.renumbered++
			return nil
		}
		return c.drop(what, line, false)
	}
	switch {
	case is(typ, "OK"):
		c.noteStatus(parseStatus(data))
		return c.pass(line, true)
	case is(typ, "BYE"):
		st := parseStatus(data)
		c.bye = &ByeError{Code: c.told(string(st.code)), Text: c.told(string(st.text))}
		return c.drop(typ, line, true)
	case is(typ, "NO"), is(typ, "BAD"), is(typ, "PREAUTH"):
		c.noteStatus(parseStatus(data))
		return c.drop(typ, line, true)
	case is(typ, "CAPABILITY"):
		upperCase(line)
		c.setCapabilities(rest)
		return c.pass(line, true)
	case is(typ, "ENABLED"):
		upperCase(line)
		return c.pass(line, true)
	case is(typ, "ESEARCH"):
		upperCase(line) // imapclient wants TAG and UID so
		return c.pass(line, false)
	case is(typ, "SEARCH"), is(typ, "FLAGS"):
		return c.pass(line, true)
	case is(typ, "LIST"), is(typ, "STATUS"):
		return c.pass(line, false)
	}
	return c.drop(typ, line, false)
}

// pass hands a response on. Where text is true it is one line, whatever that
// ends with.
func (c *Conn) pass(line []byte, text bool) error {
	if c.client == nil { // nobody is there who wants it
		return c.r.walk(line, text, nil)
	}
	c.kept = response{data: c.kept.data[:0], maxLine: c.r.maxLine.Load(), maxLiteral: int64(c.limits.MaxLiteral)}
	if err := c.r.walk(line, text, &c.kept); err != nil {
		return err
	}
	if err := c.deliver(c.kept.data); err != nil {
		return err
	}
	if cap(c.kept.data) > bufferSize {
		c.kept.data = nil
	}
	return nil
}

// drop reads a response to its end and forgets it.
func (c *Conn) drop(typ, line []byte, text bool) error {
	if c.log.Enabled(context.Background(), slog.LevelDebug) {
		// Not the type of any: it could be a word of a message.
		c.log.Debug("response dropped", "fetch", is(typ, "FETCH"), "octets", len(line))
	}
	return c.r.walk(line, text, nil)
}

// noteStatus keeps what imapclient does not tell of a status response.
func (c *Conn) noteStatus(st status) {
	switch string(st.code) {
	case "CAPABILITY":
		c.setCapabilities(st.data)
	case "ALERT":
		if !c.alerted { // once, or a server could fill the disk
			c.alerted = true
			c.log.Warn("alert from the server", "text", fmt.Sprintf("%.200s", c.told(string(st.text))))
		}
	}
}
