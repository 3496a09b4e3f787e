package oauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"
)

// requestTimeout bounds one request to a provider.
const requestTimeout = 30 * time.Second

// Provider is an authorization server that the gateway is registered at. It is
// safe for concurrent use.
type Provider struct {
	name    string
	options Options // complete
	preset  preset
	account serviceAccount // of GrantServiceAccount
	client  *http.Client
	keys    oidc.KeySet  // nil without KeysURL
	skew    atomic.Int64 // how far this machine's clock is behind the provider's, nanoseconds
}

// serviceAccount is what Google's JSON file says.
type serviceAccount struct {
	Type     string `json:"type"`
	Email    string `json:"client_email"`
	KeyID    string `json:"private_key_id"`
	Key      string `json:"private_key"`
	TokenURL string `json:"token_uri"`
}

// New returns the provider that o describes under a name of its own. Nothing is
// asked of it yet. roots, beside the system's, may be nil. Errors are one for
// each mistake, joined, and begin with the key.
func New(name string, o Options, roots *x509.CertPool) (*Provider, error) {
	return NewWithTransport(name, o, &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       time.Minute,
		TLSHandshakeTimeout:   requestTimeout,
		ResponseHeaderTimeout: requestTimeout,
	})
}

// NewWithTransport is New with another way to the provider.
func NewWithTransport(name string, o Options, transport http.RoundTripper) (*Provider, error) {
	o, known, err := o.complete(name)
	if err != nil {
		return nil, err
	}
	p := &Provider{name: name, options: o, preset: known}
	p.client = &http.Client{
		Transport: &bounded{transport, &p.skew},
		// None of these endpoints redirects; a secret goes nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if o.KeysURL != "" {
		p.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), p.client), o.KeysURL)
	}
	if o.Grant == GrantServiceAccount {
		if err := p.readServiceAccount(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Provider) readServiceAccount() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("service_account_file: %s: %w; allowed is the JSON file that Google gave for the key",
			p.options.ServiceAccountFile, fmt.Errorf(format, args...))
	}
	a := &p.account
	if err := json.Unmarshal(p.options.ServiceAccount, a); err != nil {
		return wrong("it is not JSON")
	}
	if a.Type != "service_account" || a.Email == "" || a.Key == "" {
		return wrong("found type %q; client_email and private_key are needed as well", a.Type)
	}
	if _, err := parseKey([]byte(a.Key)); err != nil {
		return wrong("private_key: %w", err)
	}
	if p.options.TokenURL == "" {
		p.options.TokenURL = a.TokenURL
	}
	return errors.Join(p.options.checkURLs())
}

// Name is the one in the configuration.
func (p *Provider) Name() string { return p.name }

// Grant is how tokens are got.
func (p *Provider) Grant() GrantType { return p.options.Grant }

// HasDevice and HasCode report which ways there are to consent.
func (p *Provider) HasDevice() bool {
	return p.options.Grant == GrantUser && p.options.DeviceURL != ""
}
func (p *Provider) HasCode() bool { return p.options.Grant == GrantUser && p.options.AuthURL != "" }

// ManageURL is where users see and end what they have granted, or "".
func (p *Provider) ManageURL() string { return p.preset.manage }

// Identifies reports whether the provider tells who has consented, in a way
// that can be verified.
func (p *Provider) Identifies() bool {
	return p.keys != nil && slices.Contains(p.options.Scopes, "openid")
}

// context is ctx with the client that requests are made by.
func (p *Provider) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, p.client)
}

func (p *Provider) authStyle() oauth2.AuthStyle {
	if p.options.ClientAuth == ClientBasic {
		return oauth2.AuthStyleInHeader
	}
	return oauth2.AuthStyleInParams
}

// config is the client as package oauth2 describes it.
func (p *Provider) config(redirectURL string) *oauth2.Config {
	o := p.options
	return &oauth2.Config{
		ClientID: o.ClientID, ClientSecret: o.ClientSecret, RedirectURL: redirectURL, Scopes: o.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: o.AuthURL, TokenURL: o.TokenURL, DeviceAuthURL: o.DeviceURL, AuthStyle: p.authStyle()},
	}
}

// setBasicAuth is ClientBasic, as RFC 6749 §2.3.1 has it.
func (p *Provider) setBasicAuth(r *http.Request) {
	r.SetBasicAuth(url.QueryEscape(p.options.ClientID), url.QueryEscape(p.options.ClientSecret))
}

// refresh gets a token for a refresh token. Where the provider gave another one
// it is in the answer, else the same.
func (p *Provider) refresh(ctx context.Context, refreshToken string) (*oauth2.Token, error) {
	// Without an access token it always asks.
	token, err := p.config("").TokenSource(p.context(ctx), &oauth2.Token{RefreshToken: refreshToken}).Token()
	if err != nil {
		return nil, p.explain("refreshing the token", err, refreshToken)
	}
	return token, nil
}

// appToken gets a token without a user's consent: for all mailboxes, or with a
// service account for that of one user.
func (p *Provider) appToken(ctx context.Context, user string) (*oauth2.Token, error) {
	var source oauth2.TokenSource
	switch p.options.Grant {
	case GrantClient:
		source = (&clientcredentials.Config{
			ClientID: p.options.ClientID, ClientSecret: p.options.ClientSecret, TokenURL: p.options.TokenURL,
			Scopes: p.options.Scopes, AuthStyle: p.authStyle(),
		}).TokenSource(p.context(ctx))
	case GrantServiceAccount:
		source = (&jwt.Config{
			Email: p.account.Email, PrivateKey: []byte(p.account.Key), PrivateKeyID: p.account.KeyID,
			Subject: user, Scopes: p.options.Scopes, TokenURL: p.options.TokenURL,
		}).TokenSource(p.context(ctx))
	default:
		return nil, errors.New("needs a user's consent")
	}
	token, err := source.Token()
	if err != nil {
		return nil, p.explain("getting a token", err)
	}
	return token, nil
}

// revoke ends a grant at the provider (RFC 7009). Without a RevokeURL it does
// nothing, and says so.
func (p *Provider) revoke(ctx context.Context, refreshToken string) (revoked bool, err error) {
	if p.options.RevokeURL == "" {
		return false, nil
	}
	v := url.Values{"token": {refreshToken}, "token_type_hint": {"refresh_token"}}
	if p.options.ClientAuth == ClientInBody {
		v.Set("client_id", p.options.ClientID)
		if p.options.ClientSecret != "" {
			v.Set("client_secret", p.options.ClientSecret)
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.options.RevokeURL, strings.NewReader(v.Encode()))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if p.options.ClientAuth == ClientBasic {
		p.setBasicAuth(request)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return false, p.explain("revoking the grant", err, refreshToken)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return true, nil
	}
	failed := p.explain("revoking the grant", readError(response), refreshToken)
	// What the provider does not know any more is revoked (RFC 7009 §2.2).
	if e, ok := errors.AsType[*Error](failed); ok && (e.Code == "invalid_token" || e.Code == "invalid_grant") {
		return true, nil
	}
	return false, failed
}

// Check asks the provider whether it knows the gateway, without anybody's
// consent and without using any. nil says that it does, or that this could not be
// told.
func (p *Provider) Check(ctx context.Context) error {
	switch {
	case p.options.Grant == GrantClient:
		_, err := p.appToken(ctx, "")
		return err
	case p.options.Grant == GrantServiceAccount: // it needs somebody's name
		return nil
	case p.HasDevice():
		_, err := p.StartDevice(ctx)
		return err
	}
	// What is no refresh token is refused for that alone by a provider that
	// knows the client.
	_, err := p.refresh(ctx, "none")
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == Consent {
		return nil
	}
	return err
}

// maxAnswer bounds what a provider may answer, in octets.
const maxAnswer = 1 << 20

// bounded makes requests with answers that come whole and in time. It notes how far
// this machine's clock is from that of the server.
type bounded struct {
	http.RoundTripper
	skew *atomic.Int64
}

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	response, err := b.RoundTripper.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() // package oauth2 does not always
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		b.skew.Store(int64(time.Until(date)))
	}
	return response, nil
}
