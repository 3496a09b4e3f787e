package enrol

import (
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// What one address may do: a few attempts at once, and then one in a while.
const (
	burst        = 20
	pause        = 6 * time.Second
	maxAddresses = 10_000 // that are remembered
)

// limiter bounds how often clients of one address may do what costs something.
type limiter struct {
	mu   sync.Mutex
	each *lru.Cache[netip.Prefix, *rate.Limiter]
}

func newLimiter() *limiter {
	each, err := lru.New[netip.Prefix, *rate.Limiter](maxAddresses)
	if err != nil {
		panic(err) // the size is positive
	}
	return &limiter{each: each}
}

// allow reports whether a client, "address:port", may now.
func (l *limiter) allow(remote string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	block := blockOf(remote)
	one, ok := l.each.Get(block)
	if !ok {
		one = rate.NewLimiter(rate.Every(pause), burst)
		l.each.Add(block, one)
	}
	return one.Allow()
}

// blockOf is what counts as one address: the 64 bits of an IPv6 address are one
// customer's. The zero Prefix stands for what is no address.
func blockOf(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr := ap.Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	block, _ := addr.Prefix(bits)
	return block
}
