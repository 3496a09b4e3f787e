package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
)

// pipe is a pair of connections in memory with a buffer of any size between
// them: net.Pipe has none, so that pipelined commands deadlock. It works in a
// synctest bubble.
func pipe() (client, server *end) {
	a, b := newHalf(), newHalf()
	return &end{in: a, out: b}, &end{in: b, out: a}
}

type end struct{ in, out *half }

// half is one direction.
type half struct {
	mu      sync.Mutex
	changed sync.Cond
	data    []byte
	room    int // octets it holds before writers wait; 0 is no limit
	closed  bool
	broken  error // for the reader, in place of io.EOF
	rd, wd  deadline
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newHalf() *half {
	h := &half{}
	h.changed.L = &h.mu
	return h
}

func (h *half) set(d *deadline, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.changed.Broadcast()
		})
	}
	h.changed.Broadcast()
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case len(h.data) > 0:
			n := copy(p, h.data)
			h.data = h.data[n:]
			h.changed.Broadcast()
			return n, nil
		case h.broken != nil:
			return 0, h.broken
		case h.closed:
			return 0, io.EOF
		case h.rd.over():
			return 0, os.ErrDeadlineExceeded
		}
		h.changed.Wait()
	}
}

func (h *half) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.closed:
			return n, io.ErrClosedPipe
		case h.wd.over():
			return n, os.ErrDeadlineExceeded
		case h.room == 0 || len(h.data) < h.room:
			k := len(p)
			if h.room > 0 {
				k = min(k, h.room-len(h.data))
			}
			h.data = append(h.data, p[:k]...)
			n, p = n+k, p[k:]
			h.changed.Broadcast()
		}
		if len(p) == 0 {
			return n, nil
		}
		h.changed.Wait()
	}
}

func (h *half) close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.broken == nil {
		h.broken = err
	}
	h.changed.Broadcast()
}

func (e *end) Read(p []byte) (int, error)         { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error)        { return e.out.write(p) }
func (e *end) LocalAddr() net.Addr                { return &net.UnixAddr{Name: "pipe"} }
func (e *end) RemoteAddr() net.Addr               { return &net.UnixAddr{Name: "pipe"} }
func (e *end) SetReadDeadline(t time.Time) error  { e.in.set(&e.in.rd, t); return nil }
func (e *end) SetWriteDeadline(t time.Time) error { e.out.set(&e.out.wd, t); return nil }

func (e *end) SetDeadline(t time.Time) error {
	e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *end) Close() error {
	e.out.close(nil)
	e.in.close(net.ErrClosed)
	return nil
}

// upstream is the server side of a test.
type upstream struct {
	t  testing.TB
	nc net.Conn
	br *bufio.Reader

	stop <-chan struct{} // closed with the test
}

func newUpstream(t testing.TB, nc net.Conn) *upstream {
	return &upstream{t: t, nc: nc, br: bufio.NewReader(nc)}
}

// serve runs script as the server, and ends it with the test. The connection
// is closed when script returns.
func serve(t testing.TB, nc net.Conn, script func(*upstream)) {
	t.Helper()
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer nc.Close()
		u := newUpstream(t, nc)
		u.stop = stop
		script(u)
	}()
	t.Cleanup(func() { close(stop); nc.Close(); <-done })
}

// line reads a command line, "" when there is none any more.
func (u *upstream) line() string {
	s, err := u.br.ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimRight(s, "\r\n")
}

// expect reads a command and returns its tag. Only its beginning is compared.
func (u *upstream) expect(command string) (tag string) {
	s := u.line()
	tag, got, _ := strings.Cut(s, " ")
	if !strings.HasPrefix(got, command) {
		u.t.Errorf("server got %q, want %s", s, command)
	}
	return tag
}

// send writes text, with % as the tag and LF as CRLF.
func (u *upstream) send(tag, text string) {
	text = strings.ReplaceAll(text, "%", tag)
	io.WriteString(u.nc, strings.ReplaceAll(text, "\n", "\r\n"))
}

const greeting = "* OK [CAPABILITY IMAP4rev1 UIDPLUS MOVE ESEARCH] ready\n"

// dialPipe connects to a script over memory.
func dialPipe(t testing.TB, limits Limits, script func(*upstream)) *Conn {
	t.Helper()
	c, err := tryPipe(t, Options{TLS: NoTLS, Limits: limits}, script)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryPipe(t testing.TB, opts Options, script func(*upstream)) (*Conn, error) {
	t.Helper()
	client, server := pipe()
	serve(t, server, script)
	opts.Address = "imap.example.org:143"
	opts.Dial = dialer(client)
	c, err := Dial(context.Background(), opts)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func dialer(nc net.Conn) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return nc, nil }
}

func noop(client *imapclient.Client) error { return client.Noop().Wait() }

// inStep proves that both readers still agree on where they are.
func inStep(t testing.TB, c *Conn) {
	t.Helper()
	if err := c.Do(context.Background(), noop); err != nil {
		t.Errorf("NOOP afterwards: %v", err)
	}
}

// wantErr compares by errors.Is.
func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func lines(format string, n int) string {
	var sb strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&sb, format, i)
	}
	return sb.String()
}
