package gateway

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway/socket"
)

// client is a connection to one whose commands come some time after each reply.
type client struct {
	net.Conn
	takes time.Duration
	tries int // of TryRead
}

func (c *client) Read(b []byte) (int, error)     { time.Sleep(c.takes); return 1, nil }
func (c *client) TryRead([]byte) (int, error)    { c.tries++; return 0, socket.ErrWait }
func (c *client) TryWrite(b []byte) (int, error) { return len(b), nil }

// Only a client that was prompt is waited for without sleep, and only between messages.
func TestPromptClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(client)
		p := &pace{Conn: c}
		for i, tt := range []struct {
			takes   time.Duration
			replied int
			sleeps  bool
		}{
			{0, 20, true},
			{0, 50_000, true}, // how prompt it is has yet to be seen
			{0, 50_000, false},
			{0, 20, true},
			{time.Millisecond, 50_000, false},
			{0, 50_000, true},
			{0, 50_000, false},
		} {
			c.takes, c.tries = tt.takes, 0
			for left := tt.replied; left > 0; left -= 10 {
				p.Write(make([]byte, 10))
			}
			if n, err := p.Read(make([]byte, 10)); n != 1 || err != nil {
				t.Fatalf("step %d: %d, %v", i, n, err)
			}
			if sleeps := c.tries == 0; sleeps != tt.sleeps {
				t.Errorf("step %d: tried %d times", i, c.tries)
			}
		}
	})
}
