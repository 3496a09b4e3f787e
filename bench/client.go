package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"
)

const (
	password = "pass" // of every user
	// replyTimeout is the longest wait for one reply; imapc's first listing of
	// 100,000 messages takes most of a minute.
	replyTimeout = 5 * time.Minute
	readSize     = 256 << 10
)

// client is a POP3 session. It spends as little as it can: its time is part of
// every figure.
type client struct {
	nc         stream
	until      time.Time   // the deadline that nc has
	forget     func() bool // drops the watch on the context
	buf        []byte
	start, end int // buf[start:end] was read and not yet consumed
}

// dial connects and reads the greeting. The connection ends with ctx.
func (d dialer) dial(ctx context.Context, addr string) (*client, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	c := &client{buf: make([]byte, 4<<10)}
	if c.nc, c.forget, err = d(ctx, to); err != nil {
		return nil, err
	}
	c.wait()
	if _, ok := c.nc.(*tls.Conn); ok { // the greeting was before TLS
		return c, nil
	}
	if _, err := c.status(); err != nil {
		c.close()
		return nil, fmt.Errorf("greeting: %w", err)
	}
	return c, nil
}

func (c *client) close() {
	c.forget()
	c.nc.Close()
}

// logIn is dial, USER and PASS.
func (d dialer) logIn(ctx context.Context, addr, user string) (*client, error) {
	c, err := d.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	if _, err = c.command("USER " + user); err == nil {
		_, err = c.command("PASS " + password)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// quit ends the session well.
func (c *client) quit() error {
	_, err := c.command("QUIT")
	c.close()
	return err
}

// wait gives the server replyTimeout, or a little less: a deadline for each
// command would cost more than some commands.
func (c *client) wait() {
	if now := time.Now(); c.until.Sub(now) < replyTimeout-time.Second {
		c.until = now.Add(replyTimeout)
		c.nc.SetDeadline(c.until)
	}
}

func (c *client) send(commands []byte) error {
	c.wait()
	_, err := c.nc.Write(commands)
	return err
}

// command sends a line and reads the first line of its reply, which must be +OK.
func (c *client) command(line string) (string, error) {
	if err := c.send(append([]byte(line), "\r\n"...)); err != nil {
		return "", err
	}
	status, err := c.status()
	if err != nil {
		return "", fmt.Errorf("%.20s: %w", line, err)
	}
	return status, nil
}

// status reads one line, which must begin with +OK.
func (c *client) status() (string, error) {
	for scanned := 0; ; {
		pending := c.buf[c.start:c.end]
		if i := bytes.IndexByte(pending[scanned:], '\n'); i >= 0 {
			line := pending[:scanned+i+1]
			c.start += len(line)
			if !bytes.HasPrefix(line, []byte("+OK")) || !bytes.HasSuffix(line, []byte("\r\n")) {
				return "", fmt.Errorf("reply %.200q", line)
			}
			return string(line[:len(line)-2]), nil
		}
		scanned = len(pending)
		if scanned > 512 { // RFC 2449 §4
			return "", fmt.Errorf("a line without an end: %.200q", pending)
		}
		if err := c.fill(); err != nil {
			return "", err
		}
	}
}

// fill reads once, behind what is pending.
func (c *client) fill() error {
	if c.start > 0 {
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start = 0
	}
	if c.end == len(c.buf) {
		return errors.New("no room to read")
	}
	n, err := c.nc.Read(c.buf[c.end:])
	c.end += n
	if n > 0 {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// listing sends LIST or UIDL and appends the lines of its reply to dst, final
// dot included. It must be the only command under way.
func (c *client) listing(command string, dst []byte) ([]byte, error) {
	if _, err := c.command(command); err != nil {
		return dst, err
	}
	// An empty listing is the dot alone: its line end is the status line's.
	dst = append(dst, c.buf[c.start:c.end]...)
	c.start, c.end = 0, 0
	for !bytes.HasSuffix(dst, []byte("\r\n.\r\n")) && string(dst) != ".\r\n" {
		if cap(dst)-len(dst) < 16<<10 {
			dst = append(dst, make([]byte, max(len(dst), 64<<10))...)[:len(dst)]
		}
		n, err := c.nc.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if n == 0 && err != nil {
			return dst, fmt.Errorf("%s: %w", command, err)
		}
	}
	return dst, nil
}

// message reads the reply to RETR. octets is without the dots that were added
// and the final one. first is when the first octet of the message had come. Where
// w is set, it gets the message.
func (c *client) message(w io.Writer) (octets int64, first time.Time, err error) {
	if len(c.buf) < readSize {
		larger := make([]byte, readSize)
		c.end = copy(larger, c.buf[c.start:c.end])
		c.buf, c.start = larger, 0
	}
	if _, err := c.status(); err != nil {
		return 0, first, err
	}
	c.start -= 2 // the line end before the first line: each line has one before it now
	octets = -2
	sink := &trimWriter{w: w, skip: 2}
	take := func(n int) error {
		octets += int64(n)
		p := c.buf[c.start : c.start+n]
		c.start += n
		if w == nil {
			return nil
		}
		return sink.write(p)
	}
	for {
		pending := c.buf[c.start:c.end]
		if first.IsZero() && len(pending) > 2 {
			first = time.Now()
		}
		i := lineWithDot(pending)
		switch {
		case i < 0: // its end may be the beginning of one
			err = take(max(len(pending)-2, 0))
		case i+5 > len(pending): // what comes behind the dot is not here yet
			err = take(i)
		case string(pending[i+3:i+5]) == "\r\n":
			err = take(i + 2)
			c.start += len(".\r\n")
			return octets, first, err
		case pending[i+3] == '.':
			if err = take(i + 2); err == nil {
				c.start++ // the dot that was added
				continue
			}
		default:
			return octets, first, fmt.Errorf("a line of the message begins with a single dot: %.40q", pending[i+2:])
		}
		if err == nil {
			err = c.fill()
		}
		if err != nil {
			return octets, first, fmt.Errorf("in the message, after %d octets: %w", octets, err)
		}
	}
}

// lineWithDot is the index of the first CRLF in p with a dot behind it, or -1.
// Dots are far fewer than lines, in base64 there are none.
func lineWithDot(p []byte) int {
	for i := 0; ; i++ {
		n := bytes.IndexByte(p[i:], '.')
		if n < 0 {
			return -1
		}
		if i += n; i >= 2 && p[i-1] == '\n' && p[i-2] == '\r' {
			return i - 2
		}
	}
}

// trimWriter leaves the first skip octets out.
type trimWriter struct {
	w    io.Writer
	skip int
}

func (t *trimWriter) write(p []byte) error {
	n := min(t.skip, len(p))
	t.skip -= n
	_, err := t.w.Write(p[n:])
	return err
}

// retrCommand is "RETR n" with its line end.
func retrCommand(dst []byte, n int) []byte {
	return append(strconv.AppendInt(append(dst, "RETR "...), int64(n), 10), "\r\n"...)
}
