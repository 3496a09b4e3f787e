package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"pop3gw/gateway"
)

// maxHeld bounds the tokens that a Keeper has at hand. Of others it asks the
// store, or the provider.
const maxHeld = 10000

// Keeper keeps grants under names, and makes tokens of them for sessions. It is
// safe for concurrent use.
type Keeper struct {
	store   Store
	keyFile string
	log     *slog.Logger

	renewals sync.WaitGroup // that run

	mu   sync.Mutex
	key  *Key
	held map[string]*held
}

// closeTime bounds Close.
const closeTime = 10 * time.Second

// Close waits for what is being refreshed to be stored, before its store may be
// closed. Nobody must want tokens any more.
func (k *Keeper) Close() {
	ended := make(chan struct{})
	go func() { defer close(ended); k.renewals.Wait() }()
	select {
	case <-ended:
	case <-time.After(closeTime):
		k.log.Warn("a provider does not answer, and a token that it refreshes now may be lost")
	}
}

// NewKeeper returns a keeper of what is in store. keyFile is the path of the key
// that it is sealed with, which is made when the first grant is stored. log may
// be nil.
func NewKeeper(store Store, keyFile string, log *slog.Logger) *Keeper {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{store: store, keyFile: keyFile, log: log, held: make(map[string]*held)}
}

// ErrNoGrant says that nothing was granted under a name.
var ErrNoGrant = errors.New("it was never authorised")

// Put stores a grant under the name of an account, in place of any other.
func (k *Keeper) Put(ctx context.Context, name string, g *Grant) error {
	key, err := k.keyFor(ctx, true)
	if err != nil {
		return err
	}
	_, err = k.save(ctx, key, name, g, 0)
	return err
}

// Seal returns a grant in the form for the store, for somebody who puts it there
// together with something else.
func (k *Keeper) Seal(ctx context.Context, name string, g *Grant) ([]byte, error) {
	key, err := k.keyFor(ctx, true)
	if err != nil {
		return nil, err
	}
	return seal(key, name, g)
}

func seal(key *Key, name string, g *Grant) ([]byte, error) {
	plain, err := g.encode()
	if err != nil {
		return nil, err
	}
	return key.Seal(name, plain), nil
}

// Grant returns what is stored under a name. It is ErrNoGrant if nothing is.
func (k *Keeper) Grant(ctx context.Context, name string) (*Grant, error) {
	g, _, err := k.load(ctx, name)
	return g, err
}

// Names are those that something is stored under, in order.
func (k *Keeper) Names(ctx context.Context) ([]string, error) { return k.store.Names(ctx) }

// Revoke ends a grant at its provider, where that can be, and removes it. If the
// provider fails to, the grant stays. It is ErrNoGrant if there is none.
func (k *Keeper) Revoke(ctx context.Context, p *Provider, name string) (revoked bool, err error) {
	holder := rand.Text()
	release, err := k.lease(ctx, name, holder)
	if err != nil {
		return false, err
	}
	defer release()
	g, _, err := k.load(ctx, name)
	if err != nil {
		return false, err
	}
	if revoked, err = p.revoke(ctx, g.Refresh); err != nil {
		return false, err
	}
	_, err = k.store.Remove(ctx, name)
	return revoked, err
}

// Remove removes what is stored under a name, whatever it is, and leaves it in
// force at the provider. It is ErrNoGrant if nothing is.
func (k *Keeper) Remove(ctx context.Context, name string) error {
	found, err := k.store.Remove(ctx, name)
	if err == nil && !found {
		return ErrNoGrant
	}
	return err
}

// keyFor returns the key, which makes is true for the first use of. It is ErrNoKey
// if there is none and nothing was stored with one.
func (k *Keeper) keyFor(ctx context.Context, makes bool) (*Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil {
		return k.key, nil
	}
	key, err := ReadKey(k.keyFile)
	if errors.Is(err, ErrNoKey) {
		names, err := k.store.Names(ctx)
		if err != nil {
			return nil, err
		}
		if len(names) > 0 {
			return nil, fmt.Errorf("%w: %s is missing, and %d authorisations were stored with it; put it back, or remove them with \"pop3gw oauth revoke --local NAME\"",
				ErrNoKey, k.keyFile, len(names))
		}
		if !makes {
			return nil, ErrNoKey
		}
		if key, err = MakeKey(k.keyFile); err != nil {
			return nil, fmt.Errorf("making the key file: %w", err)
		}
		k.log.Info("a key was made, with which authorisations are stored", "file", k.keyFile)
	} else if err != nil {
		return nil, err
	}
	k.key = key
	return key, nil
}

// load returns a grant and its revision.
func (k *Keeper) load(ctx context.Context, name string) (*Grant, int64, error) {
	value, revision, err := k.store.Load(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	if revision == 0 {
		return nil, 0, ErrNoGrant
	}
	g, err := k.open(ctx, name, value)
	return g, revision, err
}

func (k *Keeper) open(ctx context.Context, name string, value []byte) (*Grant, error) {
	key, err := k.keyFor(ctx, false)
	if err != nil {
		return nil, err
	}
	plain, err := key.Open(name, value)
	if err != nil {
		return nil, fmt.Errorf("the authorisation of %q cannot be read: %w", name, err)
	}
	return decodeGrant(plain)
}

// save stores a grant in place of the revision old, or of any for 0. It is
// errChanged if there is another one.
func (k *Keeper) save(ctx context.Context, key *Key, name string, g *Grant, old int64) (int64, error) {
	value, err := seal(key, name, g)
	if err != nil {
		return 0, err
	}
	revision, err := k.store.Save(ctx, name, value, old)
	if err == nil && revision == 0 {
		err = errChanged
	}
	return revision, err
}

const (
	// leaseTime is how long another process waits for one that refreshes and
	// does not come back.
	leaseTime = requestTimeout + 15*time.Second
	// leasePoll is how often it looks.
	leasePoll = 100 * time.Millisecond
)

// lease waits until it has the lease on a name.
func (k *Keeper) lease(ctx context.Context, name, holder string) (release func(), err error) {
	for {
		got, err := k.store.Lease(ctx, name, holder, time.Now().Add(leaseTime))
		if err != nil {
			return nil, err
		}
		if got {
			return func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
				defer cancel()
				if err := k.store.Release(ctx, name, holder); err != nil {
					k.log.Warn("a lease was not released, and ends by itself", "name", name, "error", err)
				}
			}, nil
		}
		select {
		case <-time.After(leasePoll):
		case <-ctx.Done():
			return nil, fmt.Errorf("another process refreshes the token of %q and does not end: %w", name, ctx.Err())
		}
	}
}

// Tokens makes tokens for a mailbox, whose owner at the mail server is user: of
// what is stored under name where the provider wants a consent.
func (k *Keeper) Tokens(p *Provider, name, user string) gateway.Tokens {
	s := &source{keeper: k, provider: p, name: name, user: user}
	switch p.options.Grant {
	case GrantClient:
		s.key = "client " + p.name + " " + p.options.ClientID
	case GrantServiceAccount:
		s.key = "service account " + p.name + " " + p.account.Email + " " + user
	default:
		s.key = "user " + p.name + " " + name
	}
	return s
}

// hold returns what is at hand of a source.
func (k *Keeper) hold(s *source) *held {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.held[s.key]
	if h != nil {
		return h
	}
	for key, other := range k.held {
		if len(k.held) < maxHeld {
			break
		}
		if other.idle() {
			delete(k.held, key)
		}
	}
	h = &held{holder: rand.Text(), running: &k.renewals}
	k.held[s.key] = h
	return h
}
