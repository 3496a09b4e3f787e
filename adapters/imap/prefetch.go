package imap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/adapters/imap/link"
)

const (
	// headerOctets stands for a header in a window of them, in octets: how large
	// each is nobody knows.
	headerOctets = 4 << 10
	// maxHeld bounds the memory for messages that came out of order, in octets
	// of all sessions of the process. Where memory is limited it is a quarter of
	// that, if that is less.
	maxHeld = 256 << 20
)

// sequence is the message that a client got last, and how.
type sequence struct {
	next int // the index that continues it; 0 is no sequence
	part part
}

// goesOn reports whether m is the second message in a row that the client gets in
// the same way, or a later one.
func (s *sequence) goesOn(m *message) bool { return s.next > 0 && m.i == s.next && m.part == s.part }

// add notes that the client got m.
func (s *sequence) add(m *message) { s.next, s.part = m.i+1, m.part }

// inRow reports whether m is likely to be followed by the next message: it goes on with a
// row, or is the first of a session, and that before began with a row.
func (d *maildrop) inRow(m *message) bool {
	if d.sequence.next == 0 {
		return d.adapter.memory.beganInRow(d.key, m.part)
	}
	goesOn := d.sequence.goesOn(m)
	if !d.noted {
		d.noted = true
		d.adapter.memory.noteBeginning(d.key, m.part, goesOn)
	}
	return goesOn
}

// ahead is a row of messages, or of their headers, asked for before the client
// did, by index. They are read as the client gets them: what is still to come
// waits at the server.
//
// They are asked for in windows, a command for each, of which the first is twice as
// large as the others, so that the server always has something to send: 16 MB last for
// a round trip of 40 ms at 400 MB/s. The next is asked for when no more than one is to
// come, and not before it is due, since a server with two commands may go on with the
// later one: Dovecot does where it has to wait between two messages until there is room
// for its output.
type ahead struct {
	d      *maildrop
	part   part
	bodies *link.Bodies   // nil once all have come
	taken  int            // behind the last message that the client got
	firsts []int          // of the windows, but for those before taken
	asked  int            // behind the last of these
	octets int64          // of the messages from taken to asked
	held   map[int][]byte // messages that came before their turn
	room   int64          // octets that may be held besides
	inTurn bool           // the last one that came was the next, and none was held

	sent   time.Time     // when the first window was asked for
	notice time.Duration // how long before it is needed the next is asked for; 0 until the first message comes
	began  time.Time     // when the rate is measured from
	came   int64         // octets that have come since, but for coming
	coming int64         // those of the last message
}

// prefetched returns a message that was, or is now, asked for together with
// those behind it. If m is to be fetched alone, it returns nil, and the
// connection is free.
func (d *maildrop) prefetched(m *message) (body, error) {
	inRow := d.inRow(m)
	if a := d.ahead; a != nil && a.d == d && m.part == a.part && m.i == a.taken && m.i < a.asked {
		b, err := a.take(m.ctx)
		if b != nil || err != nil {
			return b, err
		}
		if len(a.held) > 0 && a.bodies == nil { // it alone is missing
			a.advance()
			return nil, nil
		}
	}
	d.stopAhead(m.ctx)
	a := &ahead{d: d, part: m.part, taken: m.i, asked: m.i, sent: time.Now()}
	a.room = 2 * a.window() // for all that can be asked for
	if d.alone || d.overdue == m.i+1 || m.part == some || !inRow || m.i+1 == d.Len() || a.size(m.i) > a.window() {
		return nil, nil
	}
	var err error
	if a.bodies, err = d.conn.FetchBodies(m.ctx, a.grow(2*a.window()), m.section); err != nil {
		return nil, err
	}
	d.ahead = a
	b, err := a.take(m.ctx)
	if b == nil && err == nil && len(a.held) == 0 {
		d.stopAhead(m.ctx)
	} else if b == nil && err == nil {
		a.advance()
	}
	return b, err
}

// stopAhead gives up what was prefetched, so that the connection is free. If
// much is still to come, the connection ends.
func (d *maildrop) stopAhead(ctx context.Context) {
	a := d.ahead
	if a == nil {
		return
	}
	d.ahead = nil
	for _, raw := range a.held {
		d.adapter.held.give(int64(len(raw)))
	}
	a.held = nil
	if a.bodies != nil {
		a.bodies.Abandon(ctx, a.octets)
		a.bodies = nil
	}
}

// window is how many octets a window has at most, but for the first.
func (a *ahead) window() int64 { return int64(a.d.adapter.options.Prefetch) }

// size is about how many octets there are of message i.
func (a *ahead) size(i int) int64 {
	if a.part == header {
		return min(a.d.Size(i), headerOctets)
	}
	return a.d.Size(i)
}

// grow adds a window of no more than so many octets, and returns its UIDs, or "" if
// there is none to add.
func (a *ahead) grow(limit int64) string {
	first, end := a.asked, a.asked
	for octets := int64(0); end < a.d.Len(); end++ {
		octets += a.size(end)
		if octets > limit || a.size(end) > a.window() { // large ones are fetched alone
			break
		}
	}
	set, n := uidSet(a.d.messages.uids[first:end], maxSetOctets)
	if n > 0 {
		a.firsts, a.asked = append(a.firsts, first), first+n
	}
	for i := first; i < a.asked; i++ {
		a.octets += a.size(i)
	}
	return set
}

// serverPause is how long a server may take to begin a window, besides the round trip.
const serverPause = 10 * time.Millisecond

// due reports whether another window is to be asked for: when what is to come lasts,
// at the rate since the last was, no longer than twice the time until the first message
// came.
func (a *ahead) due() bool {
	if a.d.apart || a.came == 0 || a.octets > a.window() {
		return false
	}
	return float64(a.octets)*float64(time.Since(a.began)) <= float64(a.came)*float64(a.notice)
}

// note counts a message that begins to come.
func (a *ahead) note(octets int64) {
	if a.notice == 0 {
		a.began = time.Now()
		a.notice = 2 * max(a.began.Sub(a.sent), serverPause)
	}
	a.came += a.coming
	a.coming = octets
}

// between reports whether another window begins behind message i, up to j.
func (a *ahead) between(i, j int) bool {
	return slices.ContainsFunc(a.firsts, func(first int) bool { return i < first && first <= j })
}

// take returns the next message, or nil if it does not come.
func (a *ahead) take(ctx context.Context) (body, error) {
	i := a.taken
	if raw, ok := a.held[i]; ok {
		delete(a.held, i)
		a.room += int64(len(raw))
		a.d.adapter.held.give(int64(len(raw)))
		return a.next(heldBody{bytes.NewReader(raw)})
	}
	for a.bodies != nil {
		a.bodies.Expect(a.octets)
		b, err := a.bodies.Next(ctx)
		if err != nil {
			return nil, a.ended(err)
		}
		j, listed := slices.BinarySearch(a.d.messages.uids, uint32(b.UID()))
		_, twice := a.held[j]
		if !listed || j < i || j >= a.asked || twice {
			return nil, a.giveUp(ctx, errUnwanted)
		}
		a.note(a.size(j))
		if j > i { // those between are missing, or come later
			mixed := a.between(i, j)
			missing := !mixed && a.inTurn && a.octets-a.size(i) > a.window() // as it looks
			if missing || !a.reserve(b.Size()) {
				return nil, a.pass(ctx, mixed)
			}
			if err := a.hold(j, b); err != nil {
				return nil, err
			}
			continue
		}
		a.inTurn = len(a.held) == 0
		return a.next(b)
	}
	return nil, nil
}

// next returns b, which is the next message. It asks for another window if that is due,
// and there is one.
func (a *ahead) next(b body) (body, error) {
	a.advance()
	if a.bodies != nil && a.due() {
		if set := a.grow(a.window()); set != "" {
			if err := a.bodies.More(set); err != nil {
				return nil, err
			}
			a.began, a.came, a.coming = time.Now(), 0, 0
		}
	}
	return b, nil
}

// advance passes over the next message.
func (a *ahead) advance() {
	a.octets -= a.size(a.taken)
	a.taken++
	for len(a.firsts) > 0 && a.firsts[0] < a.taken {
		a.firsts = a.firsts[1:]
	}
}

// reserve takes room for a message that came before its turn, if there is so much.
func (a *ahead) reserve(size int64) bool {
	if size > a.room || !a.d.adapter.held.take(size) {
		return false
	}
	a.room -= size
	return true
}

// hold keeps a message that room was taken for.
func (a *ahead) hold(j int, b *link.Body) error {
	size := b.Size()
	raw := make([]byte, size)
	_, err := io.ReadFull(b, raw)
	if err == nil {
		_, err = b.Read(make([]byte, 1)) // the end of the response
	}
	if err != io.EOF {
		a.d.adapter.held.give(size)
		return err
	}
	b.Close()
	if a.held == nil {
		a.held = make(map[int][]byte)
	}
	a.held[j] = raw
	return nil
}

// ended is called when no more messages come. A refusal is none of this message,
// which is then fetched alone.
func (a *ahead) ended(err error) error {
	a.bodies.Close()
	a.bodies = nil
	if err == io.EOF {
		return nil
	}
	if e, ok := errors.AsType[*imap.Error](err); ok {
		if !strings.EqualFold(string(e.Code), "EXPUNGEISSUED") {
			a.d.alone = true
			a.d.log.Info("server refuses to send several messages at once, each is fetched alone now", "server", a.d.adapter.options.Address, "error", quoted(err))
		}
		return nil
	}
	return err
}

// pass gives up what was asked for, since the next message does not come, and there
// is no room for all that come before it. That message is fetched alone then: if it
// is there, and not gone, the others came out of order. mixed says that what came
// instead is of a later window. Its error is that of giveUp.
func (a *ahead) pass(ctx context.Context, mixed bool) error {
	a.d.overdue, a.d.mixed = a.taken+1, mixed
	a.d.stopAhead(ctx)
	return a.d.conn.Err()
}

// came is called where a message was fetched alone.
func (d *maildrop) came(m *message) {
	switch {
	case d.overdue != m.i+1:
	case d.mixed:
		d.log.Debug("one window after the other now", "server", d.adapter.options.Address, "error", errNoRoom)
		d.apart, d.overdue = true, 0
	default:
		d.fetchAlone(errNoRoom)
	}
}

var (
	errUnwanted = errors.New("server sent a message that was not asked for, or did not say which it is")
	errNoRoom   = errors.New("messages came out of order, and there is no room to keep them")
)

// giveUp ends prefetching for the session. Its error is that of the connection,
// if that had to go.
func (a *ahead) giveUp(ctx context.Context, why error) error {
	a.d.fetchAlone(why)
	a.d.stopAhead(ctx)
	return a.d.conn.Err()
}

// fetchAlone has nothing prefetched any more.
func (d *maildrop) fetchAlone(why error) {
	d.log.Info("each message is fetched alone now", "server", d.adapter.options.Address, "error", why)
	d.alone, d.overdue = true, 0
}

// heldBody is a message in memory.
type heldBody struct{ *bytes.Reader }

func (heldBody) Close() error { return nil }

// heldByAll is the budget that all adapters share.
var heldByAll budget

// budget is how much memory is in use of what a number of sessions share: see
// maxHeld. The zero value has all of it left.
type budget struct{ used atomic.Int64 }

func (b *budget) take(octets int64) bool {
	if b.used.Add(octets) <= min(maxHeld, debug.SetMemoryLimit(-1)/4) {
		return true
	}
	b.give(octets)
	return false
}

func (b *budget) give(octets int64) { b.used.Add(-octets) }
