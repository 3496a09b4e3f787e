package maildir

import "pop3gw/gateway"

var _ gateway.StatsReporter = (*Adapter)(nil)

// Report implements gateway.StatsReporter: how many logins found their folder as
// it was remembered, and how many had to list it.
func (a *Adapter) Report(each func(gateway.Stat)) {
	listed := a.listed.Load() // before logins, which is never less
	each(gateway.Stat{Kind: gateway.CacheHits, Name: "listing", Value: a.logins.Load() - listed})
	each(gateway.Stat{Kind: gateway.CacheMisses, Name: "listing", Value: listed})
}
