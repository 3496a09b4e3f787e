package conformance

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// conn is a client's connection that shows the server's octets as they are and
// remembers the latest exchanges.
type conn struct {
	net.Conn
	r     *bufio.Reader
	run   *run
	log   []string
	first reply // the greeting

	closed   bool // by this side
	unjudged bool // a server in error may send parts of messages for replies
}

// reply is one line from the server with its line end, or what came before
// the connection failed.
type reply struct {
	raw string
	err error
}

// connect ends the scenario's earlier sessions, which may hold the lock, opens a
// connection and reads the greeting.
func (r *run) connect() *conn { return r.connectTo(Endpoint{Address: r.target.Address}) }

func (r *run) connectTo(e Endpoint) *conn {
	r.leave()
	nc, err := e.dial()
	need(err)
	return r.open(nc)
}

// beside opens a connection while the earlier ones go on.
func (r *run) beside() *conn {
	nc, err := Endpoint{Address: r.target.Address}.dial()
	need(err)
	return r.open(nc)
}

// leave ends the sessions of the scenario that are still open, with QUIT: its
// reply says that the lock is gone.
func (r *run) leave() {
	for _, c := range r.conns {
		if c.closed {
			continue
		}
		// The first line ends what AUTH may have begun.
		c.SetDeadline(time.Now().Add(2 * time.Second))
		io.WriteString(c.Conn, "*\r\nRSET\r\nQUIT\r\n")
		io.Copy(io.Discard, c.r)
		c.Close()
	}
	r.conns = nil
}

// open makes a session of a connection and reads the greeting.
func (r *run) open(nc net.Conn) *conn {
	c := &conn{Conn: nc, r: bufio.NewReaderSize(nc, 64<<10), run: r}
	r.conns = append(r.conns, c)
	c.first = c.read()
	return c
}

// login opens a session in TRANSACTION. A session that was dropped a moment
// ago may still hold the lock, for 10 s at most. A server that goes on refusing
// ends the scenario.
func (r *run) login() *conn {
	deadline := time.Now().Add(10 * time.Second)
	for {
		c := r.connect()
		if c.tryLogin(r.target.User).ok() {
			return c
		}
		if time.Now().After(deadline) {
			panic(lost{"login refused for 10 s\n" + strings.Join(c.tail(), "\n")})
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (c *conn) authenticate(a Account) {
	if !c.cmd("USER "+a.Name).ok() || !c.cmd("PASS "+a.Password).ok() {
		panic(lost{"login refused\n" + strings.Join(c.tail(), "\n")})
	}
}

// tryLogin reports the reply to PASS, or to USER where that was refused.
func (c *conn) tryLogin(a Account) reply {
	if u := c.cmd("USER " + a.Name); !u.ok() {
		return u
	}
	return c.cmd("PASS " + a.Password)
}

// starttls sends STLS, expects +OK and performs the handshake.
func (c *conn) starttls() error {
	if r := c.cmd("STLS"); !r.ok() {
		return fmt.Errorf("STLS refused: %q", r.raw)
	}
	return c.handshake()
}

func (c *conn) handshake() error {
	t := tls.Client(buffered{c.Conn, c.r}, c.run.target.TLS)
	t.SetDeadline(time.Now().Add(patience))
	if err := t.Handshake(); err != nil {
		return err
	}
	c.note("   (TLS)")
	c.Conn, c.r = t, bufio.NewReaderSize(t, 64<<10)
	return nil
}

// buffered reads from r what was taken from the connection already.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// send writes octets as they are. A failed write shows at the next read.
func (c *conn) send(octets string) {
	c.note("C: " + quote(octets))
	c.SetWriteDeadline(time.Now().Add(patience))
	io.WriteString(c.Conn, octets)
}

// cmd sends a command line and reads one reply line.
func (c *conn) cmd(line string) reply {
	c.send(line + "\r\n")
	return c.read()
}

// read reads one line. Over 64 KiB without a line end is an error.
func (c *conn) read() reply {
	c.SetReadDeadline(time.Now().Add(patience))
	line, err := c.r.ReadSlice('\n')
	r := reply{string(line), err}
	if err != nil {
		c.note("S: " + quote(r.raw) + " then " + err.Error())
	} else {
		c.note("S: " + quote(r.raw))
		if !c.unjudged {
			c.run.replies.add(c, r.raw)
		}
	}
	return r
}

// multi sends a command and reads its multi-line reply. The lines are nil when
// the reply is negative.
func (c *conn) multi(line string) (reply, body) {
	c.send(line + "\r\n")
	return c.readMulti()
}

func (c *conn) readMulti() (reply, body) {
	status := c.read()
	if !status.ok() {
		return status, body{}
	}
	return status, c.readBody()
}

// body is a multi-line reply's lines after the status line.
type body struct {
	wire []byte // as sent, without the terminating line
	text []byte // with byte-stuffing undone
	err  error  // the connection failed before the terminating line

	bareLF   bool // a line ended without CR
	endsAtLF bool // a client that takes LF for a line end sees the reply end too early
}

// readBody reads up to a line "." between CRLFs (RFC 1939 §3).
func (c *conn) readBody() (b body) {
	crlf := true // the line before ended in CRLF
	for {
		c.SetReadDeadline(time.Now().Add(patience))
		line, err := c.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			b.wire, b.err = append(b.wire, line...), err
			c.note(fmt.Sprintf("S: (%d octets, then %v) ...%s", len(b.wire), err, quote(string(b.wire[max(0, len(b.wire)-60):]))))
			return b
		}
		atStart := len(b.wire) == 0 || b.wire[len(b.wire)-1] == '\n'
		if atStart && crlf && string(line) == ".\r\n" {
			break
		}
		if atStart && (string(line) == ".\n" || string(line) == ".\r\n") {
			b.endsAtLF = true
		}
		b.wire = append(b.wire, line...)
		if err == nil {
			crlf = bytes.HasSuffix(b.wire, []byte("\r\n"))
			b.bareLF = b.bareLF || !crlf
		}
	}
	b.text = unstuff(b.wire)
	c.note(fmt.Sprintf("S: %s(%d octets) .", quote(string(b.wire[:min(60, len(b.wire))])), len(b.wire)))
	return b
}

// unstuff takes the first dot off every line that begins with one.
func unstuff(wire []byte) []byte {
	text := bytes.ReplaceAll(wire, []byte("\r\n."), []byte("\r\n"))
	return bytes.TrimPrefix(text, []byte("."))
}

// lines returns the body's lines without their ends.
func (b body) lines() []string {
	if len(b.text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b.text), "\r\n"), "\r\n")
}

// ok and refused tell the two status indicators; a lost connection is
// neither.
func (r reply) ok() bool      { return r.err == nil && r.indicator() == "+OK" }
func (r reply) refused() bool { return r.err == nil && r.indicator() == "-ERR" }

// closed says that the server ended the connection in order, having sent
// nothing more.
func (r reply) closed() bool { return r.raw == "" && errors.Is(r.err, io.EOF) }

// ended says that the connection is gone, in order or not, but not silent.
func (r reply) ended() bool {
	var timeout net.Error
	return r.err != nil && !(errors.As(r.err, &timeout) && timeout.Timeout())
}

func (r reply) indicator() string {
	word, _, _ := strings.Cut(strings.TrimRight(r.raw, "\r\n"), " ")
	return word
}

// text is what follows the status indicator.
func (r reply) text() string {
	_, text, _ := strings.Cut(strings.TrimRight(r.raw, "\r\n"), " ")
	return text
}

// code is the response code (RFC 2449 §8), in upper case, or "".
func (r reply) code() string {
	if rest, found := strings.CutPrefix(r.text(), "["); found {
		if code, _, closed := strings.Cut(rest, "]"); closed {
			return strings.ToUpper(code)
		}
	}
	return ""
}

// challenge decodes a "+ " line of an AUTH exchange (RFC 5034 §4).
func (r reply) challenge() (base64 string, ok bool) {
	if r.raw == "+\r\n" {
		return "", false // the space is required
	}
	base64, ok = strings.CutPrefix(strings.TrimRight(r.raw, "\r\n"), "+ ")
	return base64, ok && r.err == nil
}

func (c *conn) Close() error {
	c.closed = true
	return c.Conn.Close()
}

// drop breaks the connection with a reset, as a crashed client's host does.
func (c *conn) drop() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

func (c *conn) note(line string) {
	if len(c.log) >= 64 {
		c.log = append(c.log[:0], c.log[32:]...)
	}
	c.log = append(c.log, line)
}

// tail is the last few lines of the session.
func (c *conn) tail() []string { return c.log[max(0, len(c.log)-6):] }

// quote shows octets on one line of bounded length.
func quote(octets string) string {
	const most = 160
	if len(octets) <= most {
		return strconv.Quote(octets)
	}
	return fmt.Sprintf("%q...(%d octets)", octets[:most], len(octets))
}

// allOK reads n replies of one line up to the first that is not +OK, and
// reports whether there was none such.
func (c *conn) allOK(n int) bool {
	for range n {
		if !c.read().ok() {
			return false
		}
	}
	return true
}
