package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
	"pop3gw/gateway/wire"
)

// wantTop checks what a client gets of TOP.
func wantTop(t testing.TB, d gateway.Maildrop, i, lines int, raw string) {
	t.Helper()
	var got, want bytes.Buffer
	body := wire.Body{Lines: lines}
	r, err := d.Retrieve(t.Context(), i, lines)
	if err == nil {
		_, err = body.Copy(&got, r)
		err = errors.Join(err, r.Close())
	}
	body.Copy(&want, strings.NewReader(raw))
	if err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("TOP of message %d with %d lines is %.40q, %v; want %.40q", i, lines, got.Bytes(), err, want.Bytes())
	}
}

// newSeries is a server with n messages that differ, of about size octets.
func newSeries(n, size int) *fakeServer {
	messages := make([]string, n)
	for i := range messages {
		messages[i] = fmt.Sprintf("%0*d", max(size+i%7, 1), i)
		if size > 1000 { // for TOP
			messages[i] = fmt.Sprintf("Subject: %d\r\n\r\nline\r\n%s", i, messages[i])
		}
	}
	return newFake(messages...)
}

// together is a fakeServer.on that replaces the answers to fetches of several
// messages. answers are the responses that there would be.
func together(answer func(c *fakeConn, answers []string)) func(*fakeConn, string) bool {
	return func(c *fakeConn, command string) bool {
		set, isFetch := strings.CutPrefix(command, "UID FETCH ")
		set, _, _ = strings.Cut(set, " ")
		if !isFetch || !strings.Contains(command, "BODY.PEEK[]") || !strings.ContainsAny(set, ",:") {
			return false
		}
		c.mu.Lock()
		var answers []string
		for i, m := range c.messages {
			if inSet(set, m.uid) {
				answers = append(answers, fmt.Sprintf("* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n", i+1, m.uid, len(m.raw), m.raw))
			}
		}
		c.mu.Unlock()
		answer(c, answers)
		return true
	}
}

// after delays what goes through a connection by half of roundTrip each way.
func after(roundTrip time.Duration, nc net.Conn) net.Conn {
	near, far := maildroptest.Pipe()
	type piece struct {
		at   time.Time
		data []byte
	}
	forward := func(dst, src net.Conn) {
		pieces := make(chan piece, 1<<16)
		go func() {
			defer dst.Close()
			for p := range pieces {
				time.Sleep(time.Until(p.at))
				dst.Write(p.data)
			}
		}()
		defer close(pieces)
		for buf := make([]byte, 64<<10); ; {
			n, err := src.Read(buf)
			pieces <- piece{time.Now().Add(roundTrip / 2), bytes.Clone(buf[:n])}
			if err != nil {
				return
			}
		}
	}
	go forward(nc, far)
	go forward(far, nc)
	return near
}

// openFar opens a maildrop of a server that is so far away, and closes all when the test
// is over in a bubble.
func (s *fakeServer) openFar(t *testing.T, o Options, roundTrip time.Duration) gateway.Maildrop {
	t.Helper()
	a, _ := s.adapter(t, o)
	a.link.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := s.dial(ctx, network, address)
		return after(roundTrip, nc), err
	}
	d, err := a.Open(t.Context(), account(a))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(d, a) })
	return d
}

func closeAll(d gateway.Maildrop, a *Adapter) {
	d.Close()
	a.Close()
	time.Sleep(time.Minute) // for LOGOUT
}

// wantPart is wantMessage, or with lines wantTop.
func wantPart(t testing.TB, d gateway.Maildrop, i, lines int, raw string) {
	t.Helper()
	if lines < 0 {
		wantMessage(t, d, i, raw)
	} else {
		wantTop(t, d, i, lines, raw)
	}
}

// unlocked answers as the server does of itself, which would hold its lock while the
// client does not read.
var unlocked = together(func(c *fakeConn, answers []string) {
	tag := c.tag
	io.WriteString(c, strings.Join(answers, ""))
	c.send("%s OK", tag)
})

func TestPrefetchRoundTrips(t *testing.T) {
	const n, roundTrip = 200, 40 * time.Millisecond
	for _, tt := range []struct {
		prefetch    Octets
		size        int
		lines       int
		least, most int // round trips
	}{
		{None, 3000, -1, n, n},
		{0, 3000, -1, 2, 3},
		{0, 100_000, -1, 2, 6},
		{256 << 10, 3000, -1, 2, 8},
		{None, 3000, 0, n, n},
		{0, 100_000, 0, 2, 3},
		{64 << 10, 100_000, 0, 2, 20},
		{0, 3000, 1, n, n},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSeries(n, tt.size)
			d := s.openFar(t, Options{Prefetch: tt.prefetch}, roundTrip)
			begun := time.Now()
			for i := range n {
				wantPart(t, d, i, tt.lines, s.messages[i].raw)
			}
			if took := int(time.Since(begun) / roundTrip); took < tt.least || took > tt.most {
				t.Errorf("prefetch %d, messages of %d octets, %d lines: %d round trips, want %d to %d", tt.prefetch, tt.size, tt.lines, took, tt.least, tt.most)
			}
			if s.dialled() != 1 {
				t.Errorf("%d connections", s.dialled())
			}
		})
	}
}

// Where a session began with two messages in a row, the next one prefetches from its first
// message on, and where that was wrong, the one after it does not.
func TestPrefetchFirst(t *testing.T) {
	type session struct {
		lines   int
		gets    []int
		fetches int
	}
	for _, tt := range []struct {
		name     string
		sessions []session
	}{
		{"messages", []session{{-1, []int{0, 1, 2}, 2}, {-1, []int{0, 1, 2}, 1}, {-1, []int{5, 6, 7}, 1}}},
		{"headers", []session{{0, []int{0, 1, 2}, 2}, {0, []int{0, 1, 2}, 1}, {-1, []int{0, 1, 2}, 2}, {0, []int{0, 1}, 2}}},
		{"lines", []session{{1, []int{0, 1, 2}, 3}, {1, []int{0, 1, 2}, 3}}},
		{"another one", []session{{-1, []int{0, 1, 2}, 2}, {-1, []int{0, 5}, 2}, {-1, []int{0, 1, 2}, 2}}},
		{"no other", []session{{-1, []int{0, 1, 2}, 2}, {-1, []int{0}, 1}, {-1, []int{0, 1, 2}, 2}}},
		{"the last", []session{{-1, []int{8, 9}, 2}, {-1, []int{9}, 1}, {-1, []int{8, 9}, 1}}},
		{"nothing", []session{{-1, []int{8, 9}, 2}, {-1, nil, 0}, {-1, []int{8, 9}, 1}}},
		{"no row", []session{{-1, []int{3, 2, 1, 2, 3}, 4}, {-1, []int{0, 1}, 2}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSeries(10, 2000)
			a, _ := s.adapter(t, Options{})
			defer a.Close()
			for n, session := range tt.sessions {
				d := s.poll(t, a)
				before := s.seen("UID FETCH") // for the listing
				for _, i := range session.gets {
					wantPart(t, d, i, session.lines, s.messages[i].raw)
				}
				d.Close()
				if fetches := s.seen("UID FETCH") - before; fetches != session.fetches {
					t.Errorf("session %d: %d fetches, want %d: %q", n, fetches, session.fetches, s.commands)
				}
			}
		})
	}
}

// A session whose first message is fetched with those behind it is right where that message
// is gone, or the server refuses.
func TestPrefetchFirstFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(s *fakeServer)
	}{
		{"gone", func(s *fakeServer) { s.change(func(s *fakeServer) { s.remove(s.messages[0].uid) }) }},
		{"refused", func(s *fakeServer) {
			s.does(together(func(c *fakeConn, _ []string) { c.done("NO [LIMIT] one at a time") }))
		}},
		{"cut", func(s *fakeServer) { s.does(once(together(func(c *fakeConn, _ []string) { c.Close() }))) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSeries(10, 2000)
			a, _ := s.adapter(t, Options{})
			defer a.Close()
			messages := slices.Clone(s.messages)
			for n := range 3 {
				d := s.poll(t, a)
				if n == 1 {
					tt.do(s)
				}
				for i := range d.Len() {
					if n == 1 && i == 0 && tt.name == "gone" {
						if _, err := read(t, d, i, -1); !errors.Is(err, gateway.ErrGone) {
							t.Errorf("error is %v", err)
						}
						continue
					}
					wantMessage(t, d, i, messages[i+len(messages)-d.Len()].raw)
				}
				d.Close()
			}
		})
	}
}

// Whatever a server makes of a fetch of several messages, each is right in the
// end, or reading it fails.
func TestPrefetchOddAnswers(t *testing.T) {
	all := func(c *fakeConn, answers []string) { io.WriteString(c, strings.Join(answers, "")) }
	for _, tt := range []struct {
		name   string
		answer func(c *fakeConn, answers []string)
		single int // messages fetched alone, of 10
		conns  int
	}{
		{"plain", func(c *fakeConn, answers []string) { all(c, answers); c.done("OK") }, 1, 1},
		{"backwards", func(c *fakeConn, answers []string) { slices.Reverse(answers); all(c, answers); c.done("OK") }, 1, 1},
		{"one is missing", func(c *fakeConn, answers []string) { all(c, slices.Delete(answers, 3, 4)); c.done("OK") }, 2, 1},
		{"the first is missing", func(c *fakeConn, answers []string) { all(c, answers[1:]); c.done("OK") }, 2, 1},
		{"the last is missing", func(c *fakeConn, answers []string) { all(c, answers[:len(answers)-1]); c.done("OK") }, 2, 1},
		{"NIL", func(c *fakeConn, answers []string) {
			answers[3] = "* 5 FETCH (UID 50 BODY[] NIL)\r\n"
			all(c, answers)
			c.done("NO [EXPUNGEISSUED] some are gone")
		}, 2, 1},
		{"nothing", func(c *fakeConn, answers []string) { c.done("OK") }, 10, 1},
		{"refused", func(c *fakeConn, answers []string) { c.done("NO [LIMIT] one at a time") }, 10, 1},
		{"refused in the middle", func(c *fakeConn, answers []string) { all(c, answers[:4]); c.done("NO [LIMIT] enough") }, 6, 1},
		{"one comes twice", func(c *fakeConn, answers []string) { all(c, slices.Insert(answers, 3, answers[2])); c.done("OK") }, 7, 1},
		{"another UID", func(c *fakeConn, answers []string) {
			all(c, slices.Insert(answers, 3, "* 6 FETCH (UID 55 BODY[] {2}\r\nno)\r\n"))
			c.done("OK")
		}, 7, 1},
		{"one from before", func(c *fakeConn, answers []string) {
			all(c, slices.Insert(answers, 3, "* 1 FETCH (UID 10 BODY[] {2}\r\nno)\r\n"))
			c.done("OK")
		}, 7, 1},
		{"no UIDs", func(c *fakeConn, answers []string) {
			for i, answer := range answers {
				answers[i] = strings.Replace(answer, fmt.Sprintf("UID %d ", 10*(i+2)), "", 1)
			}
			all(c, answers)
			c.done("OK")
		}, 10, 1},
		{"cut between two", func(c *fakeConn, answers []string) { all(c, answers[:2]); c.Close() }, 3, 2},
		{"cut at once", func(c *fakeConn, answers []string) { c.Close() }, 3, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSeries(10, 20)
			s.does(together(tt.answer))
			if strings.HasPrefix(tt.name, "cut") {
				s.does(once(together(tt.answer)))
			}
			d := s.open(t, Options{})
			for i := range d.Len() {
				wantMessage(t, d, i, s.messages[i].raw)
			}
			single := 0
			for _, m := range s.messages {
				single += s.seen(fmt.Sprintf("UID FETCH %d (UID BODY", m.uid))
			}
			if tt.conns == 1 && single != tt.single || s.dialled() != tt.conns {
				t.Errorf("%d fetched alone on %d connections, want %d on %d: %q", single, s.dialled(), tt.single, tt.conns, s.commands)
			}
			if used := d.adapter.held.used.Load(); d.ahead != nil && len(d.ahead.held) > 0 || used != 0 {
				t.Errorf("%d octets are held", used)
			}
		})
	}
}

// A server may go on with the second of two commands before the first is done, as Dovecot
// does. What comes of it is kept meanwhile, or there is one command at a time.
func TestPrefetchMixed(t *testing.T) {
	for _, tt := range []struct {
		name       string
		used       int64 // of what all sessions may keep
		conns, max int   // commands
	}{
		{"kept", 0, 1, 30},
		{"no room", maxHeld - 10, 1, 20},
	} {
		synctest.Test(t, func(t *testing.T) {
			const n = 200
			s := newSeries(n, 1000)
			var tag, rest string
			mixed, sent := 0, 0
			s.does(together(func(c *fakeConn, answers []string) {
				sent += len(answers)
				switch last := len(answers) * 3 / 4; {
				case tag != "":
					io.WriteString(c, strings.Join(answers, "")+rest)
					c.send("%s OK", tag)
					tag = ""
					mixed++
				case sent < n/2 && // there will be a second
					(mixed == 0 || tt.used == 0):
					tag, rest = c.tag, strings.Join(answers[last:], "")
					io.WriteString(c, strings.Join(answers[:last], ""))
					return
				default:
					io.WriteString(c, strings.Join(answers, ""))
				}
				c.done("OK")
			}))
			a, log := s.adapter(t, Options{Prefetch: 20 << 10})
			a.held = new(budget)
			a.held.take(tt.used)
			d, err := a.Open(t.Context(), account(a))
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				wantMessage(t, d, i, s.messages[i].raw)
			}
			closeAll(d, a)
			if fetches := s.seen("UID FETCH"); mixed == 0 || s.dialled() != tt.conns || fetches > tt.max {
				t.Errorf("%s: mixed %d times, %d fetches on %d connections: %q", tt.name, mixed, fetches, s.dialled(), s.commands)
			}
			if used := a.held.used.Load(); used != tt.used || strings.Contains(log.String(), "alone") {
				t.Errorf("%s: %d octets are in use, the log has %s", tt.name, used, log)
			}
		})
	}
}

// A client at a steady rate never waits for a window, and has it asked for no sooner
// than is due.
func TestPrefetchPace(t *testing.T) {
	const roundTrip = 40 * time.Millisecond
	for _, tt := range []struct {
		name           string
		n, size, lines int
		prefetch       Octets
		pause          time.Duration // of the client, after each message
		rest           time.Duration // of the client, once
		most           time.Duration // that it may wait in all
		least          time.Duration // between two windows, but for the first two
	}{
		{"slow", 200, 1000, -1, 20 << 10, 20 * time.Millisecond, 0, 0, 300 * time.Millisecond},
		{"steady", 2000, 1000, -1, 200 << 10, time.Millisecond, 0, 0, 150 * time.Millisecond},
		{"with a rest", 2000, 1000, -1, 200 << 10, time.Millisecond, time.Minute, roundTrip, 150 * time.Millisecond},
		{"headers", 8000, 5000, 0, 0, 100 * time.Microsecond, 0, 0, 100 * time.Millisecond},
		{"long sets", 4000, 1000, -1, 0, time.Millisecond, 0, 0, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSeries(tt.n, tt.size)
			var at []time.Time // when windows were asked for, and message 1 before them
			s.does(func(c *fakeConn, command string) bool {
				if strings.Contains(command, "BODY.PEEK[") {
					at = append(at, time.Now())
				}
				return false
			})
			d := s.openFar(t, Options{Prefetch: tt.prefetch}, roundTrip)
			var waited time.Duration
			for i := range tt.n {
				begun := time.Now()
				wantPart(t, d, i, tt.lines, s.messages[i].raw)
				if i > 1 { // which have to come from the server
					waited += time.Since(begun)
				}
				time.Sleep(tt.pause)
				if i == 50 {
					time.Sleep(tt.rest)
				}
			}
			if waited > tt.most {
				t.Errorf("%s: the client waited for %v", tt.name, waited)
			}
			if len(at) < 4 {
				t.Errorf("%s: %d windows", tt.name, len(at))
			}
			for i := 3; i < len(at); i++ {
				if between := at[i].Sub(at[i-1]); between < tt.least {
					t.Errorf("%s: window %d was asked for %v after the one before, want %v at least", tt.name, i, between, tt.least)
				}
			}
		})
	}
}

// Neighbours that are gone cost another connection together, and each is ErrGone also
// where a window ends with it and nothing can be kept.
func TestPrefetchExpungedNeighbours(t *testing.T) {
	for _, tt := range []struct {
		name     string
		at, gone int
		used     int64 // of what all sessions may keep
		conns    int
	}{
		{"two", 45, 2, 0, 2},
		{"ten", 45, 10, 0, 2},
		{"over a border", 62, 15, 0, 2},
		{"the last of a window, and no room", 39, 1, maxHeld - 10, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			const n, size = 200, 30 << 10
			s := newSeries(n, size)
			messages := slices.Clone(s.messages)
			s.does(unlocked)
			a, _ := s.adapter(t, Options{Prefetch: 20 * (size + 10)})
			a.held = new(budget)
			a.held.take(tt.used)
			d, err := a.Open(t.Context(), account(a))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages[tt.at : tt.at+tt.gone] {
				s.change(func(s *fakeServer) { s.remove(m.uid) })
			}
			for i, m := range messages {
				if i < tt.at || i >= tt.at+tt.gone {
					wantMessage(t, d, i, m.raw)
				} else if _, err := read(t, d, i, -1); !errors.Is(err, gateway.ErrGone) {
					t.Errorf("%s: message %d: error is %v", tt.name, i, err)
				}
			}
			if conns := s.dialled(); conns > tt.conns || d.(*maildrop).apart || d.(*maildrop).alone {
				t.Errorf("%s: %d connections; one window after the other is %v, each message alone %v", tt.name, conns, d.(*maildrop).apart, d.(*maildrop).alone)
			}
			closeAll(d, a)
		})
	}
}

func TestPrefetchTruncated(t *testing.T) {
	s := newSeries(10, 20)
	s.does(once(together(func(c *fakeConn, answers []string) {
		io.WriteString(c, answers[0]+answers[1][:len(answers[1])-9])
		c.Close()
	})))
	d := s.open(t, Options{Policy: gateway.Policy{OnRetrieve: gateway.SeenOnRetrieve}})
	for i := range d.Len() {
		if i != 2 {
			wantMessage(t, d, i, s.messages[i].raw)
			continue
		}
		r, err := d.Retrieve(t.Context(), i, -1)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(r); err == nil || !strings.HasPrefix(s.messages[i].raw, string(text)) {
			t.Errorf("a broken message looks complete: %q", text)
		}
		if r.Close() == nil {
			t.Error("Close says that a broken message is complete")
		}
	}
	d.Close()
	for i, m := range s.messages {
		if seen := slices.Contains(m.flags, `\Seen`); seen != (i != 2) {
			t.Errorf("message %d is \\Seen: %v", i, seen)
		}
	}
}

func TestPrefetchExpunged(t *testing.T) {
	s := newSeries(10, 20)
	d := s.open(t, Options{})
	s.mu.Lock()
	gone := s.messages[5].uid
	s.messages = slices.Delete(s.messages, 5, 6)
	s.mu.Unlock()
	for i := range d.Len() {
		if d.messages.uids[i] != uint32(gone) {
			wantMessage(t, d, i, fmt.Sprintf("%0*d", 20+i%7, i))
		} else if _, err := read(t, d, i, -1); !errors.Is(err, gateway.ErrGone) {
			t.Errorf("message %d: error is %v", i, err)
		}
	}
}

// One message that is gone, of many that are large, costs another connection, and no
// more than that.
func TestPrefetchExpungedOfMany(t *testing.T) {
	const n, size = 120, 300 << 10
	s := newSeries(n, size)
	messages := slices.Clone(s.messages)
	s.does(unlocked)
	a, log := s.adapter(t, Options{})
	d, err := a.Open(t.Context(), account(a))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s.change(func(s *fakeServer) { s.remove(messages[20].uid, messages[70].uid, messages[n-1].uid) })
	for i, m := range messages {
		if i != 20 && i != 70 && i != n-1 {
			wantMessage(t, d, i, m.raw)
		} else if _, err := read(t, d, i, -1); !errors.Is(err, gateway.ErrGone) {
			t.Errorf("message %d: error is %v", i, err)
		}
	}
	if conns := s.dialled(); conns > 3 {
		t.Errorf("%d connections", conns)
	}
	if fetches := s.seen("UID FETCH"); fetches > 25 {
		t.Errorf("%d fetches: %q", fetches, s.commands)
	}
	if strings.Contains(log.String(), "fetched alone") {
		t.Errorf("the log has %s", log)
	}
}

// Anything but the next RETR ends what is under way: where little is left it is
// read, else the connection is replaced.
func TestPrefetchStops(t *testing.T) {
	for _, size := range []int{100, 300 << 10} {
		for _, tt := range []struct {
			name string
			do   func(t *testing.T, s *fakeServer, d *maildrop)
		}{
			{"back", func(t *testing.T, s *fakeServer, d *maildrop) { wantMessage(t, d, 0, s.messages[0].raw) }},
			{"the same", func(t *testing.T, s *fakeServer, d *maildrop) { wantMessage(t, d, 3, s.messages[3].raw) }},
			{"forward", func(t *testing.T, s *fakeServer, d *maildrop) { wantMessage(t, d, 9, s.messages[9].raw) }},
			{"TOP", func(t *testing.T, s *fakeServer, d *maildrop) {
				if got, err := read(t, d, 4, 3); err != nil || !strings.HasPrefix(s.messages[4].raw, got) {
					t.Errorf("TOP: %.40q, %v", got, err)
				}
			}},
			{"UPDATE", func(t *testing.T, s *fakeServer, d *maildrop) {
				removed := 0
				if err := d.Delete(t.Context(), []int{0, 9}, func(int) { removed++ }); err != nil || removed != 2 || len(s.left()) != 9 {
					t.Errorf("Delete: %v, %d removed, %d left", err, removed, len(s.left()))
				}
			}},
			{"Close", func(t *testing.T, s *fakeServer, d *maildrop) {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}},
			{"given up", func(t *testing.T, s *fakeServer, d *maildrop) {
				r, err := d.Retrieve(t.Context(), 4, -1)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
					t.Error(err)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}},
		} {
			t.Run(fmt.Sprint(tt.name, size), func(t *testing.T) {
				s := newSeries(11, size) // so that no window has one message
				s.does(unlocked)
				d := s.open(t, Options{})
				messages := slices.Clone(s.messages)
				for i := range 4 {
					wantMessage(t, d, i, s.messages[i].raw)
				}
				if d.ahead == nil {
					t.Fatal("nothing is prefetched")
				}
				tt.do(t, s, d)
				if tt.name == "Close" {
					return
				}
				for i := 4; i < 9; i++ {
					wantMessage(t, d, i, messages[i].raw)
				}
				if conns := s.dialled(); conns != 1 && size == 100 || conns > 2 {
					t.Errorf("%d connections", conns)
				}
			})
		}
	}
}

// Headers and messages are asked for ahead apart from each other, and each change
// from one to the other is right.
func TestPrefetchHeaders(t *testing.T) {
	s := newSeries(12, 2000)
	d := s.open(t, Options{})
	for i := range 6 {
		wantTop(t, d, i, 0, s.messages[i].raw)
	}
	for _, i := range []int{6, 7, 8, 2, 3, 4} {
		wantMessage(t, d, i, s.messages[i].raw)
	}
	wantTop(t, d, 5, 0, s.messages[5].raw)
	wantTop(t, d, 6, 0, s.messages[6].raw)
	wantTop(t, d, 7, 1, s.messages[7].raw)
	wantMessage(t, d, 7, s.messages[7].raw)
	if s.dialled() != 1 || s.seen("UID FETCH 20,30,40,50,60,70,80,90,100,110,120 (UID BODY.PEEK[HEADER])") != 1 {
		t.Errorf("%d connections: %q", s.dialled(), s.commands)
	}
}

// What comes out of order is kept as far as the memory goes.
func TestPrefetchMemory(t *testing.T) {
	backwards := together(func(c *fakeConn, answers []string) {
		slices.Reverse(answers)
		io.WriteString(c, strings.Join(answers, ""))
		c.done("OK")
	})
	for _, tt := range []struct {
		name     string
		used     int64 // by other sessions
		prefetch Octets
		literal  string
	}{
		{name: "shared by sessions", used: maxHeld - 10},
		{name: "of the session", prefetch: 1 << 10},
		{name: "untrue sizes", literal: "9999999999"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSeries(10, 900)
			s.does(backwards)
			if tt.literal != "" {
				s.does(together(func(c *fakeConn, answers []string) {
					fmt.Fprintf(c, "* 9 FETCH (UID 40 BODY[] {%s}\r\n", tt.literal)
				}))
			}
			if tt.name == "of the session" {
				for _, m := range s.messages {
					m.size = 100 // so that all fit into the window
				}
			}
			a, log := s.adapter(t, Options{Prefetch: tt.prefetch})
			a.held = new(budget)
			a.held.take(tt.used)
			d, err := a.Open(t.Context(), account(a))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for i := range d.Len() {
				wantMessage(t, d, i, s.messages[i].raw)
			}
			if used := a.held.used.Load(); used != tt.used {
				t.Errorf("%d octets are in use, want %d", used, tt.used)
			}
			if !strings.Contains(log.String(), "no room to keep them") {
				t.Errorf("the log has %s", log)
			}
		})
	}
}

func TestBudgetOfLimitedMemory(t *testing.T) {
	limit := debug.SetMemoryLimit(400 << 20)
	defer debug.SetMemoryLimit(limit)
	var b budget
	if !b.take(100<<20) || b.take(1) {
		t.Error("it is not a quarter of the memory")
	}
}

// A message larger than the window is fetched alone, in its turn.
func TestPrefetchLargeMessages(t *testing.T) {
	s := newSeries(12, 100)
	for _, i := range []int{0, 4, 5, 8, 11} {
		s.messages[i].raw = strings.Repeat("x", 3000)
	}
	d := s.open(t, Options{Prefetch: 1 << 10})
	for i := range d.Len() {
		wantMessage(t, d, i, s.messages[i].raw)
	}
	for _, want := range []string{"20,30,40", "50", "60", "70,80", "90", "100,110", "120"} {
		if s.seen("UID FETCH "+want+" (UID BODY") != 1 {
			t.Errorf("UIDs %s were not fetched together: %q", want, s.commands)
		}
	}
	if s.dialled() != 1 {
		t.Errorf("%d connections", s.dialled())
	}
}

func TestUIDSet(t *testing.T) {
	uids := []uint32{1, 2, 3, 5, 7, 8, 4294967294, 4294967295}
	if set, n := uidSet(uids, maxSetOctets); set != "1:3,5,7:8,4294967294:4294967295" || n != len(uids) {
		t.Errorf("set is %s, of %d", set, n)
	}
	uids = nil
	for i := range 5000 {
		uids = append(uids, uint32(1<<31+2*i))
	}
	set, n := uidSet(uids, maxSetOctets)
	if len(set) > maxSetOctets || len(set) < maxSetOctets-50 || strings.Count(set, ",") != n-1 {
		t.Errorf("%d octets for %d UIDs", len(set), n)
	}
}
