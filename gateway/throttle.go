package gateway

import (
	"context"
	"errors"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// maxFailureDelay is the longest that an answer is held back, and that a login
	// waits before it is looked at.
	maxFailureDelay = 30 * time.Second
	// failuresHalve is the time after which a failure counts half.
	failuresHalve = 30 * time.Minute
	// maxUnproven is how many logins of one address may be looked at together,
	// unless they are of users that have logged in from there.
	maxUnproven = 10
	// freeFailures is how many failures an address may have before it also waits
	// for others that fail with the same name: whoever mistypes is not held up by
	// an attack on the name.
	freeFailures = 3

	// What is remembered, by what was used last. An entry takes some 250 octets.
	maxFailing = 20_000 // addresses, and as many names
	maxProven  = 50_000 // pairs of address and name
)

// throttle slows those who fail to log in, and nobody else. It knows them by
// address (blockOf) and by name. Each failure doubles the time that the answer is
// held back, and after which the next login from the same address is looked at.
// An address that failed several times also waits for the others that fail with
// the same name, so that many addresses have few guesses in all. Whoever has logged
// in from an address with a name lately is not held up by what others do there.
type throttle struct {
	delay time.Duration // after the first failure
	seed  maphash.Seed

	mu     sync.Mutex
	blocks *simplelru.LRU[netip.Prefix, *failures]
	names  *simplelru.LRU[uint64, *failures] // by hash, as the names are a stranger's
	proven *simplelru.LRU[uint64, struct{}]  // hashes of address and name
	turns  map[netip.Prefix]*turns
}

// failures are those of one address or name.
type failures struct {
	count int
	last  time.Time
	free  time.Time // no further login is looked at before
	tried []uint64  // hashes of what was refused, the last ones
	left  int       // logins, besides, whose clients did not wait for the answer
}

// maxTried is for devices that send the same wrong passwords for ever.
const maxTried = 8

// turns are the unproven logins of one address.
type turns struct {
	running int
	waiting []chan struct{}
}

func newThrottle(delay time.Duration) *throttle {
	t := &throttle{delay: delay, seed: maphash.MakeSeed(), turns: make(map[netip.Prefix]*turns)}
	t.blocks, _ = simplelru.NewLRU[netip.Prefix, *failures](maxFailing, nil) // fails for sizes below 1 alone
	t.names, _ = simplelru.NewLRU[uint64, *failures](maxFailing, nil)
	t.proven, _ = simplelru.NewLRU[uint64, struct{}](maxProven, nil)
	return t
}

// attempt is a login that is being looked at.
type attempt struct {
	t     *throttle
	block netip.Prefix
	name  string      // as it was known before
	known bool        // the name has logged in from there
	gone  func() bool // the client has closed the connection
	turn  bool        // it has one of its address's turns
	ended bool        // the password was right, or wrong
}

// errThrottled is in the chain of the error for a login that was not looked at.
var errThrottled = errors.New("too many logins from this address or with this name have failed")

// begin waits until a login with name may be looked at. Without an error the
// caller calls done, once or more often.
//
// A client that has gone is not waited for, though one that has only sent all it has
// to say may look the same: gone is asked while others of its kind are in the way.
func (t *throttle) begin(ctx context.Context, block netip.Prefix, name string, gone func() bool) (*attempt, error) {
	a := &attempt{t: t, block: block, name: baseName(name), gone: gone}
	t.mu.Lock()
	_, a.known = t.proven.Get(t.pair(block, a.name))
	t.mu.Unlock()
	if a.known || !block.IsValid() {
		return a, nil
	}
	ctx, cancel := whilePresent(ctx, gone)
	defer cancel()
	if err := t.take(ctx, block); err != nil {
		return nil, err
	}
	a.turn = true
	wait := t.wait(block, a.name)
	if wait > maxFailureDelay {
		a.done()
		return nil, Unavailable("too many logins have failed, try again later", errThrottled)
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			a.done()
			return nil, context.Cause(ctx)
		}
	}
	return a, nil
}

// take waits for one of the address's turns.
func (t *throttle) take(ctx context.Context, block netip.Prefix) error {
	t.mu.Lock()
	of := t.turns[block]
	if of == nil {
		of = new(turns)
		t.turns[block] = of
	}
	if of.running < maxUnproven {
		of.running++
		t.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	of.waiting = append(of.waiting, turn)
	t.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(of.waiting, turn); i >= 0 {
		of.waiting = slices.Delete(of.waiting, i, i+1)
		return context.Cause(ctx)
	}
	t.giveBack(block) // it came at the same moment
	return context.Cause(ctx)
}

// giveBack passes a turn on. t.mu is held.
func (t *throttle) giveBack(block netip.Prefix) {
	of := t.turns[block]
	if len(of.waiting) > 0 {
		close(of.waiting[0])
		of.waiting = of.waiting[1:]
		return
	}
	if of.running--; of.running == 0 {
		delete(t.turns, block)
	}
}

// wait takes the next place among the failing ones and returns how far it is. A
// place too far away is not taken.
func (t *throttle) wait(block netip.Prefix, name string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	from, ok := t.blocks.Get(block)
	if !ok || from.now(now) == 0 {
		return 0
	}
	start := later(now, from.free)
	var with *failures
	if from.count > freeFailures {
		if with, ok = t.names.Get(t.hash(name)); ok && with.now(now) > 0 {
			start = later(start, with.free)
		}
	}
	wait := start.Sub(now)
	if wait > maxFailureDelay {
		return wait
	}
	from.free = start.Add(t.delayOf(from.count))
	if with != nil {
		with.free = start.Add(t.delayOf(with.count))
	}
	return wait
}

// done ends the attempt, whatever came of it.
func (a *attempt) done() {
	if !a.turn {
		return
	}
	a.turn = false
	left := !a.ended && a.gone()
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	if left { // whoever does so again and again would always be the one that came last: see Rank
		from, now := failuresOf(a.t.blocks, a.block), time.Now()
		from.now(now)
		from.left, from.last = min(from.left, maxLeft-1)+1, now
	}
	a.t.giveBack(a.block)
}

// maxLeft bounds what clients that did not wait add to a rank.
const maxLeft = 10

// succeeded notes that the name has logged in from its address.
func (a *attempt) succeeded() {
	a.ended = true
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	a.t.proven.Add(a.t.pair(a.block, a.name), struct{}{})
}

// failed notes that a login with name and secret was refused, and returns how
// long to hold the answer back. The same once more, as a device sends that was set
// up wrongly, is no further guess. secret is "" where it is another each time.
func (a *attempt) failed(name, secret string) time.Duration {
	a.ended = true
	t := a.t
	name = baseName(name)
	var mark uint64
	if secret != "" {
		mark = t.hash(name, secret)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	from, with := failuresOf(t.blocks, a.block), failuresOf(t.names, t.hash(name))
	if mark == 0 || !slices.Contains(from.tried, mark) {
		t.proven.Remove(t.pair(a.block, a.name))
		from.add(now, mark)
		with.add(now, 0)
	}
	from.free = later(from.free, now.Add(t.delayOf(from.count)))
	with.free = later(with.free, now.Add(t.delayOf(with.count)))
	return t.delayOf(max(from.count, with.count))
}

// rankGone is behind all who wait for their answer.
const rankGone = 1 << 20

// rank is that of Rank. It may become a higher one while the login waits.
func (a *attempt) rank() int {
	if a.gone() {
		return rankGone
	}
	if a.known {
		return 0
	}
	rank := a.t.rank(a.block)
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	if of := a.t.turns[a.block]; of != nil {
		rank += max(0, of.running-1)
	}
	return rank
}

// rank is that of a client from an address of which no more is known than what has
// come of logins from there: 1, and more the more of them have failed or were not
// waited for.
func (t *throttle) rank(block netip.Prefix) int {
	if !block.IsValid() {
		return 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	rank := 1
	if from, ok := t.blocks.Peek(block); ok {
		rank += from.now(time.Now()) + from.left
	}
	return rank
}

// presencePause is the time between two looks whether a client is still there.
const presencePause = time.Second

var errGone = errors.New("client has gone")

// whilePresent returns a context that ends with ctx, or soon after the client has
// gone; its cause is errGone then.
func whilePresent(ctx context.Context, gone func() bool) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	var look *time.Timer
	var mu sync.Mutex
	mu.Lock()
	defer mu.Unlock()
	look = time.AfterFunc(presencePause, func() {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case ctx.Err() != nil:
		case gone():
			end(errGone)
		default:
			look.Reset(presencePause)
		}
	})
	return ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		look.Stop()
		end(nil)
	}
}

// delayOf is the time after so many failures.
func (t *throttle) delayOf(count int) time.Duration {
	if count == 0 {
		return 0
	}
	return min(t.delay<<min(count-1, 16), maxFailureDelay)
}

func (t *throttle) pair(block netip.Prefix, name string) uint64 { return t.hash(block.String(), name) }

func (t *throttle) hash(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	for _, p := range parts {
		maphash.WriteComparable(&h, p)
	}
	return h.Sum64()
}

// now is the count after what has become of it since the last failure.
func (f *failures) now(at time.Time) int {
	if halvings := at.Sub(f.last) / failuresHalve; halvings > 0 {
		f.count >>= min(halvings, 62)
		f.left >>= min(halvings, 62)
		f.last = f.last.Add(halvings * failuresHalve)
	}
	return f.count
}

func (f *failures) add(at time.Time, mark uint64) {
	f.count, f.last = min(f.now(at), 62)+1, at
	if mark != 0 {
		f.tried = append(f.tried[max(0, len(f.tried)-maxTried+1):], mark)
	}
}

func failuresOf[K comparable](of *simplelru.LRU[K, *failures], key K) *failures {
	f, ok := of.Get(key)
	if !ok {
		f = new(failures)
		of.Add(key, f)
	}
	return f
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// baseName is a name without a folder behind it: guesses at name+a and name+b are
// guesses at name.
func baseName(name string) string {
	base, _, _ := strings.Cut(name, "+")
	return strings.ToLower(base)
}

type attemptKey struct{}

// Rank says in which order the logins go that wait for something that only few can
// have at a time: 0 comes first, one of a user who has logged in from its address
// before; 1 is a login from an address that is not known; higher ones are from
// addresses with failed logins, or ones that were not waited for, or several at a time,
// the more the higher; last come those whose clients have gone. It is that of the login whose
// ctx Accounts and Adapters get, and may become higher while the login waits. Among
// equals whoever came last is best served first: the others may have given up.
func Rank(ctx context.Context) int {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		return a.rank()
	}
	return 1
}
