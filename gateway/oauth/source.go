package oauth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pop3gw/gateway"
)

// source makes tokens for one mailbox.
type source struct {
	keeper   *Keeper
	provider *Provider
	name     string // of the grant
	user     string // of the mailbox, at the mail server
	key      string // of what is held
}

var _ gateway.Tokens = (*source)(nil)

// Source tells of tokens that a Keeper makes by which provider, of which grant and
// for which mailbox that is.
func Source(tokens gateway.Tokens) (p *Provider, name, user string, ok bool) {
	s, ok := tokens.(*source)
	if !ok {
		return nil, "", "", false
	}
	return s.provider, s.name, s.user, true
}

// Authorization implements gateway.Tokens.
func (s *source) Authorization(ctx context.Context) (string, error) {
	g, _, err := s.current(ctx, s.keeper.hold(s))
	if err != nil {
		return "", s.explain(err)
	}
	return s.key + " " + g.ID, nil
}

// Token implements gateway.Tokens.
func (s *source) Token(ctx context.Context, refused string) (string, error) {
	h := s.keeper.hold(s)
	g, _, err := s.current(ctx, h)
	if err != nil {
		return "", s.explain(err)
	}
	now := time.Now()
	good := g.good(now) && (refused == "" || g.Access != refused)
	if good && now.Before(g.early()) {
		return g.Access, nil
	}
	r, err := h.renew(g, refused, func(ctx context.Context, refused string) (*Grant, error) { return s.renew(ctx, h, refused) })
	switch {
	case errors.Is(err, errRenewed):
		return refused, nil
	case good:
		return g.Access, nil // it is renewed behind us
	case err != nil:
		return "", s.explain(err)
	}
	select {
	case <-r.done:
		if r.err != nil {
			return "", s.explain(r.err)
		}
		return r.grant.Access, nil
	case <-ctx.Done():
		return "", s.explain(ctx.Err())
	}
}

// current returns the grant as it is and the revision that it has in the store, or
// one without a token for an app that has none yet.
func (s *source) current(ctx context.Context, h *held) (g *Grant, revision int64, err error) {
	g, revision, unsaved := h.last()
	if s.provider.options.Grant != GrantUser {
		if g == nil {
			g = new(Grant)
		}
		return g, revision, nil
	}
	value, stored, err := s.keeper.store.Load(ctx, s.name)
	switch {
	case err != nil:
		return nil, 0, err
	case stored == 0:
		h.set(nil, 0, false)
		return nil, 0, ErrNoGrant
	case stored == revision: // the same, or older than what could not be saved
		return g, revision, nil
	}
	if unsaved {
		s.keeper.log.Warn("a refreshed token is given up for another authorisation", "name", s.name)
	}
	if g, err = s.keeper.open(ctx, s.name, value); err != nil {
		return nil, 0, err
	}
	if err := s.provider.Fits(g); err != nil {
		return nil, 0, err
	}
	h.set(g, stored, false)
	return g, stored, nil
}

// Fits says why a grant is of no use for the provider as it is configured.
func (p *Provider) Fits(g *Grant) error {
	wrong := ""
	switch {
	case g.Provider != p.name:
		wrong = fmt.Sprintf("it was authorised at %q, and its provider is %q now", g.Provider, p.name)
	case g.Client != p.options.ClientID:
		wrong = fmt.Sprintf("it was authorised for another client_id than that in [oauth.%s]", g.Provider)
	default:
		return nil
	}
	return &Error{Provider: p.name, Doing: "using the authorisation", Kind: Consent, detail: wrong}
}

// renew gets another token. Those who wait for it get its error.
func (s *source) renew(ctx context.Context, h *held, refused string) (*Grant, error) {
	asked := time.Now()
	if s.provider.options.Grant != GrantUser {
		token, err := s.provider.appToken(ctx, s.user)
		if err != nil {
			s.keeper.log.Warn("no token for a mailbox", "provider", s.provider.name, "user", s.user, "error", err)
			return nil, err
		}
		g := new(Grant)
		g.take(token, asked)
		h.set(g, 0, false)
		return g, nil
	}
	// This is also where it turns out that the store can be written to, before
	// the provider may replace the refresh token.
	release, err := s.keeper.lease(ctx, s.name, h.holder)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.saveAgain(ctx, h); err != nil {
		return nil, err
	}
	g, revision, err := s.current(ctx, h)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if g.Access != refused && g.good(now) && now.Before(g.early()) { // another process was faster
		return g, nil
	}
	if !g.Refused.IsZero() && now.Sub(g.Refused) < refusedAgain && !now.Before(g.Refused) {
		return nil, &Error{Provider: s.provider.name, Doing: "refreshing the token", Kind: Consent, Code: "invalid_grant", detail: g.Reason}
	}
	token, err := s.provider.refresh(ctx, g.Refresh)
	if err != nil {
		s.refused(ctx, h, g, revision, err)
		return nil, err
	}
	renewed := *g
	renewed.take(token, asked)
	return s.keep(ctx, h, &renewed, revision)
}

// keep stores what was renewed, in place of the revision that it was made of.
func (s *source) keep(ctx context.Context, h *held, g *Grant, old int64) (*Grant, error) {
	// Whoever waits may have gone: what is not stored now is lost.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	key, err := s.keeper.keyFor(ctx, false)
	if err == nil {
		var revision int64
		revision, err = s.keeper.save(ctx, key, s.name, g, old)
		if err == nil {
			h.set(g, revision, false)
			s.keeper.log.Debug("token refreshed", "name", s.name, "provider", s.provider.name, "good_until", g.Expiry)
			return g, nil
		}
	}
	if errors.Is(err, errChanged) { // by a new consent, or by revoking this one
		g, _, err := s.current(ctx, h)
		return g, err
	}
	h.set(g, old, true)
	s.keeper.log.Error("a refreshed token cannot be stored, and is lost if the gateway ends before it can", "name", s.name, "error", err)
	return g, nil
}

// saveAgain stores what could not be before: nothing is refreshed with a refresh
// token that is not stored.
func (s *source) saveAgain(ctx context.Context, h *held) error {
	g, old, unsaved := h.last()
	if !unsaved {
		return nil
	}
	key, err := s.keeper.keyFor(ctx, false)
	if err != nil {
		return err
	}
	revision, err := s.keeper.save(ctx, key, s.name, g, old)
	if errors.Is(err, errChanged) {
		return nil // current finds out
	}
	if err != nil {
		return fmt.Errorf("storing a refreshed token: %w", err)
	}
	h.set(g, revision, false)
	s.keeper.log.Info("a refreshed token is stored at last", "name", s.name)
	return nil
}

// refused notes why the grant could not be refreshed. The grant stays.
func (s *source) refused(ctx context.Context, h *held, g *Grant, old int64, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind != Consent {
		s.keeper.log.Warn("a token could not be refreshed", "name", s.name, "error", err)
		return
	}
	s.keeper.log.Error("access to a mailbox has ended", "name", s.name, "error", err, "run", LoginCommand(s.name))
	marked := *g
	marked.Refused, marked.Reason = time.Now(), e.detail
	key, err := s.keeper.keyFor(ctx, false)
	if err != nil {
		return
	}
	if revision, err := s.keeper.save(ctx, key, s.name, &marked, old); err == nil {
		h.set(&marked, revision, false)
	}
}

// LoginCommand is what to type to authorise an account.
func LoginCommand(name string) string { return "pop3gw oauth login " + shellQuote(name) }

// explain makes an error one for the client.
func (s *source) explain(err error) error {
	if _, ok := errors.AsType[*gateway.Error](err); ok {
		return err
	}
	advice := fmt.Sprintf("run %q", LoginCommand(s.name))
	if s.user != "" {
		advice += fmt.Sprintf(" and log in as somebody who may read the mail of %q", s.user)
	}
	refusal := func(text string) error {
		return gateway.Unauthorised(text, fmt.Errorf("%q: %w; %s", s.name, err, advice))
	}
	if errors.Is(err, ErrNoGrant) {
		return refusal("the gateway was not authorised to read this mailbox, authorise it")
	}
	if errors.Is(err, ErrOtherKey) || errors.Is(err, ErrNoKey) {
		return gateway.Unusable("gateway cannot read its authorisation, please tell the administrator",
			fmt.Errorf("%w; put the key file back that it was stored with, or %s", err, advice))
	}
	if e, ok := errors.AsType[*Error](err); ok {
		switch e.Kind {
		case Consent:
			return refusal("the gateway may not read this mailbox any more, authorise again")
		case Operator:
			return gateway.Unusable("gateway is not let in by the provider of this mailbox, please tell the administrator", err)
		}
		return gateway.Unavailable("provider of this mailbox gives no token now, try again later", err)
	}
	return gateway.Unavailable("gateway cannot get a token now, try again later", err)
}

// shellQuote quotes a name where a shell would take it for more than one word.
func shellQuote(name string) string {
	plain := func(r rune) bool {
		return r < '0' && !strings.ContainsRune("+-./", r) || r > '9' && r < '@' || r > 'Z' && r < 'a' && r != '_' || r > 'z'
	}
	if name != "" && !strings.ContainsFunc(name, plain) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
