package oauth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/oauth2"
)

// DeviceFlow is a consent by way of a code that is typed in on another device
// (RFC 8628).
type DeviceFlow struct {
	// URL is where to type Code. CompleteURL, which may be "", has it already.
	URL, CompleteURL string
	Code             string
	Expiry           time.Time // zero if the provider does not tell

	provider *Provider
	response *oauth2.DeviceAuthResponse
}

// StartDevice begins a consent. Errors are *Error.
func (p *Provider) StartDevice(ctx context.Context) (*DeviceFlow, error) {
	// A client that has a secret shows it here too (RFC 8628 §3.1), which package
	// oauth2 leaves to us.
	ctx = p.context(ctx)
	var options []oauth2.AuthCodeOption
	if secret := p.options.ClientSecret; secret != "" && p.options.ClientAuth == ClientBasic {
		client := *p.client
		client.Transport = &basicAuth{client.Transport, p}
		ctx = context.WithValue(ctx, oauth2.HTTPClient, &client)
	} else if secret != "" {
		options = append(options, oauth2.SetAuthURLParam("client_secret", secret))
	}
	response, err := p.config("").DeviceAuth(ctx, options...)
	if err != nil {
		return nil, p.explain("starting a device login", err)
	}
	return &DeviceFlow{
		URL: response.VerificationURI, CompleteURL: response.VerificationURIComplete, Code: response.UserCode, Expiry: response.Expiry,
		provider: p, response: response,
	}, nil
}

// basicAuth makes requests as the client of a provider.
type basicAuth struct {
	http.RoundTripper
	provider *Provider
}

func (b *basicAuth) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	b.provider.setBasicAuth(r)
	return b.RoundTripper.RoundTrip(r)
}

// Wait polls the provider, as often as that allows, until somebody has consented
// or refused, or the code has expired. Errors are *Error, and ctx's own.
func (f *DeviceFlow) Wait(ctx context.Context) (*Grant, error) {
	const doing = "waiting for consent"
	p := f.provider
	if f.Expiry.IsZero() { // RFC 8628 §3.2 requires it; somebody must give up
		f.response.Expiry = time.Now().Add(15 * time.Minute)
	}
	for {
		token, err := p.config("").DeviceAccessToken(p.context(ctx), f.response)
		if err == nil {
			return p.newGrant(ctx, token, time.Now(), "")
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !time.Now().Before(f.response.Expiry) {
			return nil, p.explain(doing, &oauth2.RetrieveError{ErrorCode: "expired_token"})
		}
		failed := p.explain(doing, err, f.response.DeviceCode)
		// A connection that fails is tried again, more slowly (RFC 8628 §3.5).
		e, ok := errors.AsType[*Error](failed)
		if !ok || e.Kind != Temporary {
			return nil, failed
		}
		f.response.Interval = max(f.response.Interval, 5) * 2
	}
}
