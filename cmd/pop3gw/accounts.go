package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"sync"

	"pop3gw/gateway"
	"pop3gw/gateway/account"
	"pop3gw/gateway/enrol"
	"pop3gw/gateway/oauth"
)

var (
	_ gateway.Prover  = (*accounts)(nil)
	_ gateway.Offerer = (*accounts)(nil)

	_ gateway.ExpiryTeller = (*accounts)(nil)
)

// accounts let clients in by the configuration in force. Sessions keep what they
// began with: a generation that was replaced ends with the last of its sessions,
// and an adapter with the last generation that has it.
type accounts struct {
	log *slog.Logger

	mu      sync.Mutex
	current *generation
	closing sync.WaitGroup // adapters that are being closed
}

// generation is who may log in and where their mail lies, by one reading of the
// configuration.
type generation struct {
	config    *config
	directory *account.Directory
	adapters  map[string]*builtAdapter
	providers map[string]*oauth.Provider
	terms     enrol.Terms // nothing without [enrol]
	users     int         // the sessions that have it, and one while it is in force
}

// builtAdapter is an adapter with what it was made of: one that would be made of
// the same need not be made again, and keeps its connections and listings.
type builtAdapter struct {
	gateway.Adapter
	of          adapterParts
	generations int
}

// adapterParts are all that decides what an adapter does: the options with the
// secrets in them, and what is in files.
type adapterParts struct {
	config adapterConfig
	caFile string // its content
}

// like returns the adapter of g that is made of the same, or nil.
func (g *generation) like(name string, of adapterParts) *builtAdapter {
	if g == nil || g.adapters[name] == nil || !reflect.DeepEqual(g.adapters[name].of, of) {
		return nil
	}
	return g.adapters[name]
}

// use puts a generation in force. Adapters that are in no other are its own.
func (a *accounts) use(g *generation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.current
	a.current = g
	g.users++
	for _, built := range g.adapters {
		built.generations++
	}
	if before != nil {
		a.release(before)
	}
}

// hold takes the generation in force for a session.
func (a *accounts) hold() *hold {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current.users++
	return &hold{a, a.current}
}

// Login implements gateway.Accounts.
func (a *accounts) Login(ctx context.Context, client gateway.Credentials) (gateway.Account, error) {
	h := a.hold()
	found, err := h.generation.directory.Login(ctx, client)
	return h.of(found, err)
}

// Prove implements gateway.Prover.
func (a *accounts) Prove(ctx context.Context, respond func(challenge string) ([]byte, error)) (string, gateway.Account, error) {
	h := a.hold()
	name, found, err := h.generation.directory.Prove(ctx, respond)
	found, err = h.of(found, err)
	return name, found, err
}

// Offers implements gateway.Offerer.
func (a *accounts) Offers(mechanism string) (some, all bool) {
	h := a.hold()
	defer h.Close()
	return h.generation.directory.Offers(mechanism)
}

// Expiry implements gateway.ExpiryTeller.
func (a *accounts) Expiry() (least gateway.Age, varies bool) {
	h := a.hold()
	defer h.Close()
	return h.generation.directory.Expiry()
}

// hold is a session's on its generation.
type hold struct {
	accounts   *accounts
	generation *generation
}

// of gives the hold to an account, or ends it where there is none.
func (h *hold) of(found gateway.Account, err error) (gateway.Account, error) {
	if err != nil {
		h.Close()
		return gateway.Account{}, err
	}
	found.Held = h
	return found, nil
}

func (h *hold) Close() error {
	h.accounts.mu.Lock()
	defer h.accounts.mu.Unlock()
	h.accounts.release(h.generation)
	return nil
}

// release takes one user off a generation. The caller holds a.mu.
func (a *accounts) release(g *generation) {
	if g.users--; g.users > 0 {
		return
	}
	for name, built := range g.adapters {
		if built.generations--; built.generations > 0 {
			continue
		}
		a.closing.Go(func() { // it may wait for servers
			if err := built.close(); err != nil {
				a.log.Warn("an adapter did not end as it should", "adapter", name, "error", err)
			}
		})
	}
}

func (b *builtAdapter) close() error {
	if c, ok := b.Adapter.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// close ends the generation in force, and waits until all adapters are closed.
// No session must be left.
func (a *accounts) close() {
	a.mu.Lock()
	a.release(a.current)
	a.mu.Unlock()
	a.closing.Wait()
}

// discard closes the adapters of a generation that was never used, except those
// that are in force.
func (a *accounts) discard(g *generation) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, built := range g.adapters {
		if built.generations == 0 {
			errs = append(errs, built.close())
		}
	}
	return errors.Join(errs...)
}
