package imap

import (
	"sync/atomic"

	"pop3gw/gateway"
)

var _ gateway.StatsReporter = (*Adapter)(nil)

// hits count how often what might have been remembered was.
type hits struct {
	connection hitRate // that was kept since an earlier session
	listing    hitRate // that was brought up to date, and not made anew
	message    hitRate // that RETR found asked for ahead
}

type hitRate struct{ hit, miss atomic.Uint64 }

func (r *hitRate) add(hit bool) {
	if hit {
		r.hit.Add(1)
	} else {
		r.miss.Add(1)
	}
}

// Report implements gateway.StatsReporter.
func (a *Adapter) Report(each func(gateway.Stat)) {
	open, kept, waiting := a.Connections()
	each(gateway.Stat{Kind: gateway.UpstreamConnections, Name: "used", Value: uint64(max(0, open-kept))})
	each(gateway.Stat{Kind: gateway.UpstreamConnections, Name: "kept", Value: uint64(kept)})
	each(gateway.Stat{Kind: gateway.UpstreamWaiting, Name: "connection", Value: uint64(max(0, waiting))})
	each(gateway.Stat{Kind: gateway.UpstreamLeftAlone, Name: "account", Value: uint64(a.LeftAlone())})
	for _, c := range []struct {
		name string
		rate *hitRate
	}{{"connection", &a.hits.connection}, {"listing", &a.hits.listing}, {"message", &a.hits.message}} {
		each(gateway.Stat{Kind: gateway.CacheHits, Name: c.name, Value: c.rate.hit.Load()})
		each(gateway.Stat{Kind: gateway.CacheMisses, Name: c.name, Value: c.rate.miss.Load()})
	}
}
