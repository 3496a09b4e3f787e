package link

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

func TestLimitsWhileDialing(t *testing.T) {
	certificate() // outside the bubble
	for _, tt := range []struct {
		name   string
		mode   TLSMode
		script func(*upstream)
	}{
		{"silent", NoTLS, func(u *upstream) { u.line() }},
		{"no handshake", Implicit, func(u *upstream) { io.Copy(io.Discard, u.nc) }},
		{"no greeting over TLS", Implicit, func(u *upstream) { u.secure(); u.line() }},
		{"STARTTLS not answered", StartTLS, func(u *upstream) { u.send("", greeting); u.line(); u.line() }},
		{"chatter before STARTTLS", StartTLS, func(u *upstream) {
			u.send("", greeting)
			for u.nc.SetDeadline(time.Time{}) == nil {
				if _, err := io.WriteString(u.nc, "* OK\r\n"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
		{"greeting drop by drop", NoTLS, func(u *upstream) {
			for {
				if _, err := io.WriteString(u.nc, "*"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				_, err := tryPipe(t, Options{TLS: tt.mode, TLSConfig: clientTLS()}, tt.script)
				wantErr(t, "Dial", err, ErrTimeout)
				took(t, start, 30*time.Second)
			})
		})
	}
	t.Run("no answer from TCP", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			_, err := Dial(context.Background(), Options{Address: "imap.example.org:993", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}})
			wantErr(t, "Dial", err, ErrTimeout)
			took(t, start, 30*time.Second)
		})
	})
}

func took(t *testing.T, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got < want || got > want+2*time.Second {
		t.Errorf("it took %v, want %v", got, want)
	}
}

// drip sends s, octet by octet, with a pause behind each, until nobody listens.
func (u *upstream) drip(s string, pause time.Duration) {
	for i := range len(s) {
		if _, err := io.WriteString(u.nc, s[i:i+1]); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

func TestLimits(t *testing.T) {
	do := func(ctx context.Context, c *Conn) error { return c.Do(ctx, noop) }
	sizes := func(ctx context.Context, c *Conn) error {
		return c.FetchSizes(ctx, "1:*", func(uint32, imap.UID, int64) error { return nil })
	}
	body := func(ctx context.Context, c *Conn) error {
		b, err := c.FetchBody(ctx, 1, Section{})
		if err != nil {
			return err
		}
		defer b.Close()
		_, err = io.Copy(io.Discard, struct{ io.Reader }{b})
		return err
	}
	silent := func(u *upstream) { u.send("", greeting); u.line(); u.line() }
	chatter := func(u *upstream) {
		u.send("", greeting)
		u.line()
		u.drip(strings.Repeat("* OK still here\r\n* 1 FETCH (FLAGS ())\r\n", 1000), time.Second)
	}
	answer := func(format string, args ...any) func(*upstream) {
		return func(u *upstream) {
			u.send("", greeting)
			tag := u.expect("")
			u.send(tag, fmt.Sprintf(format, args...))
			u.line()
		}
	}
	for _, tt := range []struct {
		name   string
		run    func(context.Context, *Conn) error
		script func(*upstream)
		took   time.Duration
		err    error // nil: it ends well
	}{
		{"command, silence", do, silent, time.Minute, ErrTimeout},
		{"command, chatter", do, chatter, 2 * time.Minute, ErrTimeout},
		{"sizes, silence", sizes, silent, time.Minute, ErrTimeout},
		{"sizes, chatter", sizes, chatter, 2 * time.Minute, ErrTimeout},
		{"sizes, slow but sure", sizes, func(u *upstream) {
			u.send("", greeting)
			tag := u.expect("UID FETCH")
			for range 60 {
				time.Sleep(59 * time.Second)
				u.send(tag, "* 1 FETCH (UID 1 RFC822.SIZE 1)\n")
			}
			u.send(tag, "% OK\n")
		}, 59 * time.Minute, nil},
		{"sizes, then chatter", sizes, func(u *upstream) {
			u.send("", greeting)
			u.line()
			time.Sleep(59 * time.Second)
			u.send("", "* 1 FETCH (UID 1 RFC822.SIZE 1)\n")
			u.drip(strings.Repeat("* OK still here\r\n", 1000), time.Second)
		}, 59*time.Second + 2*time.Minute, ErrTimeout},
		{"body, silence", body, silent, time.Minute, ErrTimeout},
		{"body, chatter", body, chatter, 2 * time.Minute, ErrTimeout},
		{"body, silence in the middle", body, answer("* 1 FETCH (UID 1 BODY[] {100}\nabc"), time.Minute, ErrTimeout},
		{"body, longer than sent", body, answer("* 1 FETCH (UID 1 BODY[] {100}\nabc)\n%% OK\n"), time.Minute, ErrTimeout},
		{"body, no completion", body, answer("* 1 FETCH (UID 1 BODY[] {3}\nabc)\n"), time.Minute, ErrTimeout},
		{"body, drop by drop", body, func(u *upstream) {
			u.send("", greeting)
			tag := u.expect("UID FETCH")
			u.send(tag, "* 1 FETCH (UID 1 BODY[] {100}\n")
			u.drip(strings.Repeat("x", 100), 59*time.Second)
			u.send(tag, ")\n% OK\n")
		}, 100 * 59 * time.Second, nil},
		{"body, then chatter", body, func(u *upstream) {
			u.send("", greeting)
			tag := u.expect("UID FETCH")
			u.send(tag, "* 1 FETCH (UID 1 BODY[] {3}\nabc)\n")
			u.drip(strings.Repeat("* OK still here\r\n", 1000), time.Second)
		}, 2 * time.Minute, ErrTimeout},
		{"body read slowly", func(ctx context.Context, c *Conn) error {
			b, err := c.FetchBody(ctx, 1, Section{})
			if err != nil {
				return err
			}
			defer b.Close()
			for range 5 {
				time.Sleep(time.Hour)
				if _, err := io.ReadFull(b, make([]byte, 20<<10)); err != nil {
					return err
				}
			}
			time.Sleep(time.Hour)
			if _, err = b.Read(make([]byte, 1)); err == io.EOF {
				return nil
			}
			return err
		}, answer("* 1 FETCH (UID 1 BODY[] {%d}\n%s)\n%% OK\n", 100<<10, strings.Repeat("x", 100<<10)), 6 * time.Hour, nil},
		{"closed early, no rest", func(ctx context.Context, c *Conn) error {
			b, err := c.FetchBody(ctx, 1, Section{})
			if err != nil {
				return err
			}
			time.Sleep(time.Hour)
			return b.Close()
		}, answer("* 1 FETCH (UID 1 BODY[] {100}\nabc"), time.Hour + time.Minute, ErrTimeout},
		{"server that takes nothing", func(ctx context.Context, c *Conn) error {
			c.wire.Conn.(*end).out.room = 100
			return c.Do(ctx, func(client *imapclient.Client) error {
				return client.Login("joe", strings.Repeat("x", 1000)).Wait()
			})
		}, func(u *upstream) { u.send("", greeting); <-u.stop }, time.Minute, ErrTimeout},
		{"results not taken", func(ctx context.Context, c *Conn) error {
			return c.Do(ctx, func(client *imapclient.Client) error { client.Expunge(); return noop(client) })
		}, func(u *upstream) {
			u.send("", greeting)
			tag := u.expect("EXPUNGE")
			u.send(tag, strings.Repeat("* 1 EXPUNGE\n", 200)+"% OK\n")
			u.send(u.expect("NOOP"), "% OK\n")
		}, 0, nil},
		{"logout not answered", func(ctx context.Context, c *Conn) error { return c.Logout(ctx) }, silent, logoutWait, ErrTimeout},
		{"context of a command", within(10*time.Second, do), silent, 10 * time.Second, context.DeadlineExceeded},
		{"context of sizes", within(10*time.Second, sizes), chatter, 10 * time.Second, context.DeadlineExceeded},
		{"context of a body", within(10*time.Second, body), answer("* 1 FETCH (UID 1 BODY[] {100}\nabc"), 10 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dialPipe(t, Limits{}, tt.script)
				start := time.Now()
				err := tt.run(context.Background(), c)
				took(t, start, tt.took)
				if tt.err == nil && err != nil {
					t.Errorf("got error %v", err)
				}
				if tt.err != nil {
					wantErr(t, "the operation", err, tt.err)
					if c.Err() == nil {
						t.Error("the connection goes on")
					}
				}
				start = time.Now()
				c.Close()
				if time.Since(start) > time.Second {
					t.Errorf("Close took %v", time.Since(start))
				}
			})
		})
	}
}

func within(d time.Duration, run func(context.Context, *Conn) error) func(context.Context, *Conn) error {
	return func(ctx context.Context, c *Conn) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return run(ctx, c)
	}
}

// A context that has ended before costs no connection.
func TestContextEndedBefore(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.send(u.expect("NOOP"), "% OK\n")
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantErr(t, "Do", c.Do(ctx, noop), context.Canceled)
	_, err := c.FetchBody(ctx, 1, Section{})
	wantErr(t, "FetchBody", err, context.Canceled)
	inStep(t, c)
}

// An idle connection is left alone for any time.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", greeting)
			for range 3 {
				u.send(u.expect("NOOP"), "% OK\n")
			}
		})
		for range 3 {
			time.Sleep(29 * time.Minute)
			inStep(t, c)
		}
	})
}
