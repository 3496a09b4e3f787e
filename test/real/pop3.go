//go:build real

package real

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// pop3 is a POP3 client that forgives nothing: what it reports is what came
// over the wire.
type pop3 struct {
	conn net.Conn
	r    *bufio.Reader
}

// dialPOP3 connects and reads the greeting.
func dialPOP3(addr string) (*pop3, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c := newPOP3(conn)
	if _, err := c.reply(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting: %w", err)
	}
	return c, nil
}

func newPOP3(conn net.Conn) *pop3 { return &pop3{conn: conn, r: bufio.NewReaderSize(conn, 1<<16)} }

// login connects and logs in; the connection ends with the test.
func login(t testing.TB, addr, user string) *pop3 {
	t.Helper()
	c, err := dialPOP3(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	for _, command := range []string{"USER " + user, "PASS " + password} {
		if _, err := c.command("%s", command); err != nil {
			t.Fatalf("login of %s: %v", user, err)
		}
	}
	return c
}

// errRefused is in the chain of the error of a -ERR reply.
var errRefused = errors.New("refused")

// command sends a command and returns the text of its +OK.
func (c *pop3) command(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(c.conn, format+"\r\n", args...); err != nil {
		return "", err
	}
	return c.reply()
}

func (c *pop3) reply() (string, error) {
	c.conn.SetReadDeadline(time.Now().Add(60 * time.Second))
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	switch {
	case !ok:
		return "", fmt.Errorf("reply ends with a bare LF: %q", line)
	case strings.HasPrefix(line, "+OK"):
		return strings.TrimPrefix(line[3:], " "), nil
	case strings.HasPrefix(line, "-ERR"):
		return "", fmt.Errorf("%w: %s", errRefused, line)
	}
	return "", fmt.Errorf("not a reply: %.100q", line)
}

// must is command for replies that have to be +OK.
func (c *pop3) must(t testing.TB, format string, args ...any) string {
	t.Helper()
	text, err := c.command(format, args...)
	if err != nil {
		t.Fatalf(format+": %v", append(args, err)...)
	}
	return text
}

// body copies the lines of a multi-line reply to w, without their stuffing, up
// to the final dot, and returns their octets. It keeps one buffer of memory,
// whatever the length of a line. An error other than w's says that no final dot
// came.
func (c *pop3) body(w io.Writer) (octets int64, err error) {
	atLineStart := true
	for {
		c.conn.SetReadDeadline(time.Now().Add(60 * time.Second))
		piece, err := c.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return octets, err
		}
		complete := err == nil
		if atLineStart && len(piece) > 0 && piece[0] == '.' {
			if string(piece) == ".\r\n" {
				return octets, nil
			}
			piece = piece[1:]
		}
		if complete && !bytes.HasSuffix(piece, []byte("\r\n")) && len(piece) > 1 {
			return octets, fmt.Errorf("a line ends with a bare LF: %.100q", piece)
		}
		octets += int64(len(piece))
		if _, err := w.Write(piece); err != nil {
			return octets, err
		}
		atLineStart = complete
	}
}

// lines returns the lines of a multi-line reply.
func (c *pop3) lines(t testing.TB, format string, args ...any) []string {
	t.Helper()
	c.must(t, format, args...)
	var b bytes.Buffer
	if _, err := c.body(&b); err != nil {
		t.Fatalf(format+": %v", append(args, err)...)
	}
	if b.Len() == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\r\n"), "\r\n")
}

// retrieve returns message n.
func (c *pop3) retrieve(t testing.TB, n int) []byte {
	t.Helper()
	c.must(t, "RETR %d", n)
	var b bytes.Buffer
	if _, err := c.body(&b); err != nil {
		t.Fatalf("RETR %d: %v", n, err)
	}
	return b.Bytes()
}
