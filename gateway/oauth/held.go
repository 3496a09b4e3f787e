package oauth

import (
	"context"
	"errors"
	"sync"
	"time"
)

// held is what sessions share of one grant: its token, and who renews it.
type held struct {
	holder  string          // of leases
	running *sync.WaitGroup // renewals of the keeper

	mu       sync.Mutex
	grant    *Grant // as it was last seen; of an app, its Access alone is set
	revision int64  // of the store; 0 for that of an app
	unsaved  bool   // grant is newer than the store
	renewal  *renewal
	failure  failure
	replaced time.Time // when a token was last renewed because a mail server refused it
}

// errRenewed says that there is no hope in another token.
var errRenewed = errors.New("a token was renewed just now, and is refused as well")

// renewal is under way until done is closed; then the rest is set.
type renewal struct {
	done  chan struct{}
	grant *Grant
	err   error
}

// failure is that of the last renewal.
type failure struct {
	err   error
	grant string    // which could not be renewed: Grant.ID
	until time.Time // nobody tries again before
	times int       // in a row
}

const (
	// refusedAgain is when a refresh token that was refused is tried again. A
	// new consent is another grant, and need not wait.
	refusedAgain = 10 * time.Minute
	// mendedAgain is when the operator may have mended the configuration.
	mendedAgain = time.Minute
	// renewAgain is how long after a token was renewed because the mail server
	// refused it the next one is: it may refuse all.
	renewAgain = 5 * time.Minute
)

// after is how long to wait after an error.
func (f *failure) after(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		switch {
		case e.Kind == Consent:
			return refusedAgain
		case e.Kind == Operator:
			return mendedAgain
		case e.Wait > 0:
			return e.Wait
		}
	}
	return min(time.Second<<min(f.times, 6), time.Minute)
}

// idle reports whether h can be forgotten.
func (h *held) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.renewal == nil && !h.unsaved
}

// renew starts renewing the token of grant, if nobody does already, or joins. err
// is the last failure while it is too early to try again, or errRenewed where
// refused, which a mail server does not take, is the token still and was got in place
// of another that it did not take.
func (h *held) renew(grant *Grant, refused string, do func(ctx context.Context, refused string) (*Grant, error)) (r *renewal, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.renewal != nil {
		return h.renewal, nil
	}
	if h.failure.err != nil && h.failure.grant == grant.ID && time.Now().Before(h.failure.until) {
		return nil, h.failure.err
	}
	isRefused := refused != "" && h.grant != nil && h.grant.Access == refused
	if isRefused && h.grant.good(time.Now()) && !h.replaced.IsZero() && time.Since(h.replaced) < renewAgain {
		return nil, errRenewed
	}
	r = &renewal{done: make(chan struct{})}
	h.renewal = r
	h.running.Go(func() {
		// It serves all who wait, whoever of them goes.
		ctx, cancel := context.WithTimeout(context.Background(), leaseTime)
		defer cancel()
		g, err := do(ctx, refused)
		h.mu.Lock()
		defer h.mu.Unlock()
		r.grant, r.err, h.renewal = g, err, nil
		if err == nil {
			h.failure = failure{}
			if isRefused {
				h.replaced = time.Now()
			}
		} else {
			f := failure{err: err, grant: grant.ID, times: h.failure.times + 1}
			f.until = time.Now().Add(f.after(err))
			h.failure = f
		}
		close(r.done)
	})
	return r, nil
}

// last is the grant that h has, its revision, and whether it is newer than the
// store.
func (h *held) last() (g *Grant, revision int64, unsaved bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.grant, h.revision, h.unsaved
}

func (h *held) set(g *Grant, revision int64, unsaved bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.grant, h.revision, h.unsaved = g, revision, unsaved
}
