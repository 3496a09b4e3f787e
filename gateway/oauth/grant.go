package oauth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// Grant is what a provider has granted, with somebody's consent.
type Grant struct {
	Provider string    `json:"provider"` // its name in the configuration
	Identity Identity  `json:"identity"` // who has consented; zero if the provider does not tell
	Scopes   []string  `json:"scopes,omitempty"`
	At       time.Time `json:"at"` // when it was consented to

	// ID is another one for each consent.
	ID string `json:"id"`

	Client  string    `json:"client"` // client_id that it was granted to
	Refresh string    `json:"refresh"`
	Access  string    `json:"access,omitempty"`
	Issued  time.Time `json:"issued,omitzero"` // when Access was, and until when it is good
	Expiry  time.Time `json:"expiry,omitzero"`

	// Refused is since when the provider takes Refresh no more, and Reason what
	// it said.
	Refused time.Time `json:"refused,omitzero"`
	Reason  string    `json:"reason,omitempty"`
}

// String and GoString keep the tokens out of logs, whatever verb prints them.
func (g Grant) String() string   { return fmt.Sprintf("grant of %s at %q", g.Identity.Email, g.Provider) }
func (g Grant) GoString() string { return g.String() }

// Identity is who has consented, as an id_token says whose signature, issuer and
// audience were verified (OpenID Connect Core §3.1.3.7).
type Identity struct {
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"` // unique at the issuer, and never reused
	Email   string `json:"email,omitempty"`   // or what they log in with
	// Verified says that the address is theirs, on the provider's word and in a
	// form that nobody can choose for themselves.
	Verified bool `json:"verified,omitempty"`
}

// defaultLifetime is that of a token whose provider does not tell.
const defaultLifetime = time.Hour

// newGrant makes a grant of the answer to a consent. The nonce is that of the
// request; "" is none.
func (p *Provider) newGrant(ctx context.Context, token *oauth2.Token, asked time.Time, nonce string) (*Grant, error) {
	g := &Grant{Provider: p.name, Client: p.options.ClientID, At: asked, ID: rand.Text(), Scopes: p.options.Scopes}
	if granted, ok := token.Extra("scope").(string); ok && granted != "" {
		g.Scopes = strings.Fields(granted)
		if missing := p.missingScope(g.Scopes); missing != "" {
			return nil, &Error{
				Provider: p.name, Doing: "asking for consent", Kind: Consent, Code: "access_denied",
				detail: fmt.Sprintf("access to mail was not granted, scope %q is missing", missing),
				advice: "begin again, and leave the box for mail ticked",
			}
		}
	}
	if token.RefreshToken == "" {
		return nil, &Error{
			Provider: p.name, Doing: "asking for consent", Kind: Operator,
			detail: "it gave no refresh token, so that access would end soon",
			advice: fmt.Sprintf(`scopes in [oauth.%s] may need "offline_access", or the client the right to refresh tokens`, p.name),
		}
	}
	g.take(token, asked)
	if raw, ok := token.Extra("id_token").(string); ok && p.Identifies() {
		var err error
		if g.Identity, err = p.identify(ctx, raw, nonce); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// missingScope is a scope that was asked for and not granted, or "". Those of
// OpenID Connect and offline_access are answered in other words by some.
func (p *Provider) missingScope(granted []string) string {
	for _, scope := range p.options.Scopes {
		_, name, isURL := strings.Cut(scope, "://")
		if !isURL || slices.ContainsFunc(granted, func(g string) bool { return strings.EqualFold(g, scope) }) {
			continue
		}
		// Microsoft may name it by another host of the same service.
		_, name, _ = strings.Cut(name, "/")
		if name == "" || !slices.ContainsFunc(granted, func(g string) bool { return strings.HasSuffix(strings.ToLower(g), strings.ToLower("/"+name)) }) {
			return scope
		}
	}
	return ""
}

// take puts a token in.
func (g *Grant) take(token *oauth2.Token, asked time.Time) {
	if token.RefreshToken != "" {
		g.Refresh = token.RefreshToken
	}
	g.Access, g.Issued, g.Expiry = token.AccessToken, asked, token.Expiry
	if g.Expiry.IsZero() {
		g.Expiry = asked.Add(defaultLifetime)
	}
	g.Refused, g.Reason = time.Time{}, ""
}

// A token is refreshed once less than early is left of it, or a quarter of its
// life; with less than late, or a tenth, it is given to nobody any more.
const (
	early = 5 * time.Minute
	late  = 30 * time.Second
)

// maxAhead is how far in the future a token may have been got, by the clock of another
// process. With more, this machine's clock was set back, and by it the token would
// seem to be good for too long.
const maxAhead = time.Minute

// good reports whether sessions may be given the token.
func (g *Grant) good(now time.Time) bool {
	return g.Access != "" && now.Before(g.late()) && g.Issued.Sub(now) <= maxAhead
}

func (g *Grant) early() time.Time { return g.Expiry.Add(-min(early, g.Expiry.Sub(g.Issued)/4)) }
func (g *Grant) late() time.Time  { return g.Expiry.Add(-min(late, g.Expiry.Sub(g.Issued)/10)) }

func (g *Grant) encode() ([]byte, error) { return json.Marshal(g) }

func decodeGrant(text []byte) (*Grant, error) {
	g := new(Grant)
	if err := json.Unmarshal(text, g); err != nil {
		return nil, fmt.Errorf("stored grant is damaged: %w", err)
	}
	return g, nil
}
