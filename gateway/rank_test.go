package gateway

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// An address whose clients leave before they have an answer is trusted less, for a
// while, and is not held up.
func TestRankOfWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := newThrottle(time.Second)
		attempt := func(from string, gone bool) *attempt {
			began := time.Now()
			here := true
			a, err := throttle.begin(t.Context(), netip.MustParsePrefix(from), "name", func() bool { return gone && !here })
			if err != nil || time.Since(began) > 0 {
				t.Fatalf("%s: %v after %v", from, err, time.Since(began))
			}
			here = false
			return a
		}
		const office, other = "198.51.100.1/32", "198.51.100.2/32"
		for range 3 {
			attempt(office, true).done()
		}
		answered := attempt(office, true)
		answered.succeeded()
		answered.done()
		throttle.proven.Purge()
		attempt(office, false).done()
		for _, tt := range []struct {
			from  string
			after time.Duration
			want  int
		}{{office, 0, 4}, {other, 0, 1}, {office, time.Hour, 1}} {
			time.Sleep(tt.after)
			a := attempt(tt.from, false)
			if got := a.rank(); got != tt.want {
				t.Errorf("after %v the rank of %s is %d, want %d", tt.after, tt.from, got, tt.want)
			}
			a.done()
		}
	})
}

// Whoever fails does not end the login of a user who is known at his address, however
// many others have failed from there.
func TestKnownIsNotDisplaced(t *testing.T) {
	s := &Server{
		Log: slog.New(slog.DiscardHandler), throttle: newThrottle(time.Second),
		conns: make(map[*conn]netip.Prefix), perBlock: make(map[netip.Prefix]int),
	}
	here := func() bool { return false }
	office, attacker := netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("198.51.100.2/32")
	fail := func(block netip.Prefix, times int) {
		for range times {
			(&attempt{t: s.throttle, block: block, gone: here}).failed("bob", "")
		}
	}
	(&attempt{t: s.throttle, block: office, gone: here, name: "alice"}).succeeded()
	fail(office, 9)
	fail(attacker, 5)
	near, far := net.Pipe()
	defer far.Close()
	c := newConn(near, Limits{}.withDefaults(), &s.late)
	s.conns[c], s.perBlock[office] = office, 1
	a := &attempt{t: s.throttle, block: office, gone: here, name: "alice", known: true}
	c.attempt.Store(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.makeRoom(attacker) {
		t.Error("the user who is known has made room")
	}
	a.known = false
	if !s.makeRoom(attacker) {
		t.Error("one of an address that fails more has made no room")
	}
}
