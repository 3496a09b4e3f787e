package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/textproto"
	"strings"
	"syscall"
	"testing"
	"time"
)

// client is a POP3 client that knows nothing but lines.
type client struct {
	*textproto.Conn
	nc net.Conn
	t  *testing.T
}

// dial connects to address, with TLS from the start if config is set, and
// returns the greeting.
func dial(t *testing.T, address string, config *tls.Config) (c *client, greeting string) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	if config != nil {
		nc = tls.Client(nc, config)
	}
	c = &client{textproto.NewConn(nc), nc, t}
	return c, c.line("")
}

// dialBehind is dial by way of a balancer that sends header first.
func dialBehind(t *testing.T, address, header string) (c *client, greeting string) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	c = &client{textproto.NewConn(nc), nc, t}
	if _, err := io.WriteString(nc, header); err != nil {
		t.Fatal(err)
	}
	return c, c.line("")
}

// do sends a command and returns the first line of the reply, which must begin
// with want.
func (c *client) do(want, command string) string {
	c.t.Helper()
	if err := c.PrintfLine("%s", command); err != nil {
		c.t.Fatalf("%s: %v", command, err)
	}
	line := c.line(command)
	if !strings.HasPrefix(line, want) {
		c.t.Fatalf("%s: %s; want %s", command, line, want)
	}
	return line
}

func (c *client) line(command string) string {
	c.t.Helper()
	line, err := c.ReadLine()
	if err != nil {
		c.t.Fatalf("reading the answer to %q: %v", command, err)
	}
	return line
}

// body reads the rest of a multi-line reply, line ends being LF.
func (c *client) body() string {
	c.t.Helper()
	text, err := c.ReadDotBytes()
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// stls turns TLS on.
func (c *client) stls(config *tls.Config) {
	c.t.Helper()
	c.do("+OK", "STLS")
	c.nc = tls.Client(c.nc, config)
	c.Conn = textproto.NewConn(c.nc)
}

// isClosed reports whether the server has closed the connection. It may have
// said why.
func (c *client) isClosed() bool {
	line, err := c.ReadLine()
	if strings.HasPrefix(line, "-ERR ") {
		_, err = c.ReadLine()
	}
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}
