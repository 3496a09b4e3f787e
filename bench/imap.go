package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// rawIMAP is an IMAP connection that does nothing beyond the commands it is
// told: what no gateway before the same server can exceed.
type rawIMAP struct {
	nc     net.Conn
	forget func() bool // drops the watch on the context
	in     *bufio.Reader
	tag    int
}

// examine connects, logs user in and opens INBOX read-only. The connection ends
// with ctx.
func examine(ctx context.Context, addr, user string) (*rawIMAP, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &rawIMAP{nc: nc, in: bufio.NewReaderSize(nc, readSize)}
	c.forget = context.AfterFunc(ctx, func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(replyTimeout))
	if _, err = c.in.ReadSlice('\n'); err == nil { // the greeting
		_, err = c.command("LOGIN " + user + " " + password)
	}
	if err == nil {
		_, err = c.command("EXAMINE INBOX")
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *rawIMAP) close() {
	c.forget()
	c.nc.Close()
}

// command runs a command to its completion, which must be OK. literals is the
// number of octets in the literals of its answer.
func (c *rawIMAP) command(text string) (literals int64, err error) {
	c.tag++
	tag := "a" + strconv.Itoa(c.tag) + " "
	c.nc.SetDeadline(time.Now().Add(replyTimeout))
	if _, err := io.WriteString(c.nc, tag+text+"\r\n"); err != nil {
		return 0, err
	}
	word, _, _ := strings.Cut(text, " ")
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return literals, fmt.Errorf("%s: %w", word, err)
		}
		if n, ok := literalAtEnd(line); ok {
			if _, err := c.in.Discard(n); err != nil {
				return literals, fmt.Errorf("%s: in a literal: %w", word, err)
			}
			literals += int64(n)
			continue
		}
		if bytes.HasPrefix(line, []byte(tag)) {
			if !bytes.HasPrefix(line[len(tag):], []byte("OK")) {
				return literals, fmt.Errorf("%s: %.200q", word, line)
			}
			return literals, nil
		}
	}
}

// literalAtEnd is the length of the literal that follows the line (RFC 9051 §4.3).
func literalAtEnd(line []byte) (n int, ok bool) {
	head, found := bytes.CutSuffix(line, []byte("}\r\n"))
	if !found {
		return 0, false
	}
	n, err := strconv.Atoi(string(head[bytes.LastIndexByte(head, '{')+1:]))
	return n, err == nil && n >= 0
}
