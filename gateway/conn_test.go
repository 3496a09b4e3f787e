package gateway

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"pop3gw/gateway/wire"
)

func inAMinute() time.Time { return time.Now().Add(time.Minute) }

// Nothing of a command is left in the buffer once it was forgotten, however it
// arrived, and what is pipelined behind it is.
func TestForget(t *testing.T) {
	for _, tt := range []struct{ name, line string }{
		{"short", "PASS hunter2"},
		{"long", "PASS " + strings.Repeat("hunter2", 2000)},
		{"too long", "PASS " + strings.Repeat("hunter2", 3000)},
		{"no command", "hunter2"},
	} {
		for _, chunk := range []int{7, 1000, 1 << 20} {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			go func() {
				for text := []byte(tt.line + "\r\nNOOP\r\n"); len(text) > 0; {
					n := min(chunk, len(text))
					client.Write(text[:n])
					text = text[n:]
				}
			}()
			c := newConn(server, Limits{}.withDefaults(), new(late))
			line, err := c.readLine(false, inAMinute)
			if err == nil && string(line) != tt.line || err != nil && err != errLineTooLong {
				t.Fatalf("%s: got %d octets, %v", tt.name, len(line), err)
			}
			c.forget()
			if bytes.Contains(c.readBuf, []byte("hunter2")) || len(c.readBuf) > readBufferSize {
				t.Errorf("%s in pieces of %d: the buffer has %d octets, %q", tt.name, chunk, len(c.readBuf), c.readBuf[:40])
			}
			if line, err := c.readLine(false, inAMinute); err != nil || string(line) != "NOOP" {
				t.Errorf("%s: the next line is %q, %v", tt.name, line, err)
			}
		}
	}
}

// A line that is too long as the answer to a challenge is drained.
func TestLongResponse(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go io.WriteString(client, strings.Repeat("x", maxSecretLine)+"\r\n"+strings.Repeat("y", maxSecretLine-2)+"\r\n")
	c := newConn(server, Limits{}.withDefaults(), new(late))
	if _, err := c.readLine(true, inAMinute); err != errLineTooLong {
		t.Errorf("got %v", err)
	}
	if line, err := c.readLine(true, inAMinute); err != nil || len(line) != maxSecretLine-2 {
		t.Errorf("the next line has %d octets, %v", len(line), err)
	}
}

// What is pending leaves at close, also on a connection without half-close.
func TestCloseFlushes(t *testing.T) {
	client, server := net.Pipe()
	c := newConn(server, Limits{}.withDefaults(), new(late))
	c.reply("+OK", "bye")
	go c.close()
	if got, err := io.ReadAll(client); string(got) != "+OK bye\r\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRemoteAddr(t *testing.T) {
	for remote, want := range map[string]string{
		"127.0.0.1:110":               "127.0.0.1",
		"[::ffff:127.0.0.1]:110":      "127.0.0.1",
		"[::1]:110":                   "::1",
		"[fe80::1%eth0]:110":          "fe80::1%eth0",
		"@":                           "invalid IP",
		"/run/pop3.sock":              "invalid IP",
		"[2001:db8::ffff:7f00:1]:110": "2001:db8::ffff:7f00:1",
	} {
		if got := remoteAddr(fakeConn{remote: remote}); got.String() != want {
			t.Errorf("%s is %s, want %s", remote, got, want)
		}
	}
}

type fakeConn struct {
	net.Conn
	remote string
}

func (c fakeConn) RemoteAddr() net.Addr { return fakeAddr(c.remote) }

type fakeAddr string

func (fakeAddr) Network() string  { return "fake" }
func (a fakeAddr) String() string { return string(a) }

// sink keeps what is written, by write.
type sink struct {
	net.Conn
	writes []string
}

func (s *sink) Write(p []byte) (int, error) {
	s.writes = append(s.writes, string(p))
	return len(p), nil
}

func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// A short message leaves in one piece with what is before and behind it. Of a
// longer one nothing is held back while its next octets are waited for.
func TestCopyBodyWrites(t *testing.T) {
	all := wire.Body{Lines: -1}
	for _, tt := range []struct {
		name   string
		body   wire.Body
		pieces []string // of the message, as the store delivers them
		size   int64    // as the store says
		want   []string
	}{
		{"short", all, []string{"a: b\n\nc\n"}, 11, []string{"+OK x\r\na: b\r\n\r\nc\r\n.\r\n"}},
		{"in pieces", all, []string{"a: b\n", "\nc\n", ".long"}, 18, []string{"+OK x\r\na: b\r\n", "\r\nc\r\n", "..long\r\n.\r\n"}},
		{"unterminated", all, []string{"a: b\n\nc"}, 11, []string{"+OK x\r\na: b\r\n\r\nc\r\n.\r\n"}},
		{"larger than it was said to be", all, []string{"a: b\n", "\n", "c\n"}, 6, []string{"+OK x\r\na: b\r\n\r\nc\r\n.\r\n"}},
		{"empty", all, nil, 0, []string{"+OK x\r\n.\r\n"}},
		{"TOP", wire.Body{}, []string{"a: b\n\n", "c\n"}, 11, []string{"+OK x\r\na: b\r\n\r\n.\r\n"}},
	} {
		s := new(sink)
		c := newConn(s, Limits{}.withDefaults(), new(late))
		e := tt.body.Encoder()
		begun, err := c.copyBody(&e, &pieceReader{tt.pieces}, "x", tt.size)
		if err != nil || begun != (len(tt.pieces) > 0) {
			t.Errorf("%s: %v, %v", tt.name, begun, err)
		}
		if !begun {
			c.reply("+OK", "x")
		}
		c.out = append(e.End(c.room(100)), ".\r\n"...)
		c.flush()
		if !slices.Equal(s.writes, tt.want) {
			t.Errorf("%s: written %q, want %q", tt.name, s.writes, tt.want)
		}
	}
}

// pieceReader reads one piece at a time.
type pieceReader struct{ pieces []string }

func (r *pieceReader) Read(p []byte) (int, error) {
	if len(r.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.pieces[0])
	r.pieces = r.pieces[1:]
	return n, nil
}

// Whatever a message is made of, it passes the buffers whole, and no write is
// larger than they are.
func TestCopyBodyLarge(t *testing.T) {
	for name, line := range map[string]string{"lines": "0123456789\n", "no line end": "x", "line ends": "\n", "dots": ".\n"} {
		raw := strings.Repeat(line, 1_000_000/len(line))
		var want bytes.Buffer
		octets, err := wire.Body{Lines: -1}.Copy(&want, strings.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		s := new(sink)
		c := newConn(s, Limits{}.withDefaults(), new(late))
		e := wire.Body{Lines: -1}.Encoder()
		if _, err := c.copyBody(&e, strings.NewReader(raw), "x", octets); err != nil {
			t.Fatal(err)
		}
		c.out = e.End(c.room(wire.MaxEnd))
		c.flush()
		if got := strings.Join(s.writes, ""); got != "+OK x\r\n"+want.String() || e.Octets() != octets {
			t.Errorf("%s: %d octets sent, %d counted, of %d", name, len(got), e.Octets(), octets)
		}
		for _, w := range s.writes {
			if len(w) > writeBufferSize {
				t.Errorf("%s: %d octets in one write", name, len(w))
			}
		}
	}
}

// After a write that failed nothing is sent any more: it would not be where the
// client expects it.
func TestRecordsAfterFailure(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	w := &recordWriter{Conn: server, gather: true}
	w.Write([]byte("lost"))
	server.SetWriteDeadline(time.Unix(1, 0))
	if w.flush() == nil {
		t.Fatal("a write behind its deadline succeeds")
	}
	server.SetWriteDeadline(time.Time{})
	w.gather = false
	if n, err := w.Write([]byte("alert")); n > 0 || err == nil {
		t.Errorf("%d octets sent, %v", n, err)
	}
}
