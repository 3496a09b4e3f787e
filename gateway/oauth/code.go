package oauth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// CodeFlow is a consent by way of a browser: RFC 6749 §4.1, with PKCE (RFC
// 7636).
type CodeFlow struct {
	// URL is where the browser is to go.
	URL string
	// State comes back in the redirect, and tells to which flow that belongs.
	State string

	provider    *Provider
	redirectURL string
	verifier    string
	nonce       string
}

// StartCode begins a consent. The provider sends the browser back to redirectURL
// with a query for Finish. hint, the e-mail address of who is to consent, may
// be "". Nothing is asked of the provider yet.
func (p *Provider) StartCode(redirectURL, hint string) *CodeFlow {
	f := &CodeFlow{
		State: rand.Text(), nonce: rand.Text(), verifier: oauth2.GenerateVerifier(),
		provider: p, redirectURL: redirectURL,
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(f.verifier)}
	if p.Identifies() {
		options = append(options, oidc.Nonce(f.nonce))
	}
	if hint != "" {
		options = append(options, oauth2.SetAuthURLParam("login_hint", hint))
	}
	for key, value := range p.preset.parameters {
		options = append(options, oauth2.SetAuthURLParam(key, value))
	}
	f.URL = p.config(redirectURL).AuthCodeURL(f.State, options...)
	return f
}

// ErrState says that a redirect belongs to another flow.
var ErrState = errors.New("this answer belongs to another login (its state differs): use the address of the latest one")

// Finish gets the grant, with the query that the browser came back with. Errors
// are *Error, ErrState, or say what the query lacks.
func (f *CodeFlow) Finish(ctx context.Context, query url.Values) (*Grant, error) {
	const doing = "asking for consent"
	if subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(f.State)) != 1 {
		return nil, ErrState
	}
	if code := query.Get("error"); code != "" {
		return nil, f.provider.explain(doing, &oauth2.RetrieveError{ErrorCode: code, ErrorDescription: query.Get("error_description")})
	}
	code := query.Get("code")
	if code == "" {
		return nil, errors.New("the answer has neither a code nor an error")
	}
	asked := time.Now()
	token, err := f.provider.config(f.redirectURL).Exchange(f.provider.context(ctx), code, oauth2.VerifierOption(f.verifier))
	if err != nil {
		return nil, f.provider.explain("getting a token for the consent", err, code, f.verifier)
	}
	return f.provider.newGrant(ctx, token, asked, f.nonce)
}

// FinishAddress is Finish with the whole address that the browser came to, as it
// is copied from there.
func (f *CodeFlow) FinishAddress(ctx context.Context, address string) (*Grant, error) {
	u, err := url.Parse(address)
	if err != nil || u.RawQuery == "" {
		return nil, fmt.Errorf("this is not the address that the browser came to; it begins with %s and holds code=", f.redirectURL)
	}
	return f.Finish(ctx, u.Query())
}
