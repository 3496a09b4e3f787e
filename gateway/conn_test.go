package gateway

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

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
			c := newConn(server, time.Minute)
			line, err := c.readLine(false, time.Now().Add(time.Minute))
			if err == nil && string(line) != tt.line || err != nil && err != errLineTooLong {
				t.Fatalf("%s: got %d octets, %v", tt.name, len(line), err)
			}
			c.forget()
			if bytes.Contains(c.readBuf, []byte("hunter2")) || len(c.readBuf) > readBufferSize {
				t.Errorf("%s in pieces of %d: the buffer has %d octets, %q", tt.name, chunk, len(c.readBuf), c.readBuf[:40])
			}
			if line, err := c.readLine(false, time.Now().Add(time.Minute)); err != nil || string(line) != "NOOP" {
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
	c := newConn(server, time.Minute)
	if _, err := c.readLine(true, time.Now().Add(time.Minute)); err != errLineTooLong {
		t.Errorf("got %v", err)
	}
	if line, err := c.readLine(true, time.Now().Add(time.Minute)); err != nil || len(line) != maxSecretLine-2 {
		t.Errorf("the next line has %d octets, %v", len(line), err)
	}
}

// What is pending leaves at close, also on a connection without half-close.
func TestCloseFlushes(t *testing.T) {
	client, server := net.Pipe()
	c := newConn(server, time.Minute)
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
