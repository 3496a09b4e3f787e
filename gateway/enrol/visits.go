package enrol

import (
	"crypto/rand"
	"sync"
	"time"

	"pop3gw/gateway/oauth"
)

const (
	// visitLife is how long a user may take, at the provider for the most part.
	visitLife = 15 * time.Minute
	// maxVisits bounds the memory of visits, some 2 KB each.
	maxVisits = 5000
)

// visit is what is known of one browser, between /start and the password.
type visit struct {
	provider Provider
	flow     *oauth.CodeFlow // nil once the browser came back
	grant    *oauth.Grant    // nil until then
	name     string          // of the account, with grant
	ends     time.Time
}

// visits are those that go on, by the value of their cookie.
type visits struct {
	mu  sync.Mutex
	all map[string]*visit
}

// begin keeps a visit under a new cookie, which it returns, and forgets the one
// under old. It is false when there are too many.
func (v *visits) begin(old string, new *visit) (cookie string, ok bool) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.all, old)
	if len(v.all) >= maxVisits {
		for cookie, other := range v.all {
			if now.After(other.ends) {
				delete(v.all, cookie)
			}
		}
		if len(v.all) >= maxVisits {
			return "", false
		}
	}
	if v.all == nil {
		v.all = make(map[string]*visit)
	}
	cookie = rand.Text()
	new.ends = now.Add(visitLife)
	v.all[cookie] = new
	return cookie, true
}

// find returns the visit of a cookie, or nil.
func (v *visits) find(cookie string) *visit {
	v.mu.Lock()
	defer v.mu.Unlock()
	found := v.all[cookie]
	if found == nil || time.Now().After(found.ends) {
		return nil
	}
	return found
}

// take is find, and ends the visit: whoever takes it is the only one.
func (v *visits) take(cookie string) *visit {
	found := v.find(cookie)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all[cookie] != found {
		return nil
	}
	delete(v.all, cookie)
	return found
}
