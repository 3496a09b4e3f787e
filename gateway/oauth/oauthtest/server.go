// Package oauthtest is an authorization server for tests: device grant, authorization
// code with PKCE, refresh with rotation, client credentials, JWT bearer,
// introspection, revocation and id_tokens, over HTTP, with real expiry and
// refusals.
package oauthtest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pop3gw/gateway/oauth"
)

// MailScope is what gives access to mail.
const MailScope = "https://mail.example.org/imap"

// Server is an authorization server with one client. Its fields may be changed by
// Change alone.
type Server struct {
	URL          string
	ClientID     string
	ClientSecret string // "" for a public client

	// User is who consents, unless the request has a login_hint. Refuse has all
	// consents refused. Verified is the claim email_verified.
	User     string
	Refuse   bool
	Bounce   bool // consents go over another host, as they do at many providers
	Verified bool
	// Granted, where it is not nil, are the scopes that are granted of those
	// that were asked for.
	Granted []string

	Lifetime   time.Duration // of access tokens
	NoExpiry   bool          // they are given without expires_in
	NoRefresh  bool          // no refresh tokens are given
	Idle       time.Duration // after which a refresh token ends; 0 is never
	Rotate     bool          // each refresh replaces the refresh token
	Interval   int           // of polls for a device grant, in seconds
	DeviceLife time.Duration // of device codes
	ClockAhead time.Duration // of the server's clock
	Claims     map[string]any

	// Fail, where it is not nil, answers requests in place of the server if it
	// returns true. Refreshing is called before each refresh.
	Fail       func(w http.ResponseWriter, r *http.Request) bool
	Refreshing func()

	mu       sync.Mutex
	counts   map[string]int
	secrets  []string
	codes    map[string]*consent
	devices  map[string]*device
	access   map[string]*issued
	refresh  map[string]*issued
	key      *rsa.PrivateKey
	account  *rsa.PrivateKey // of the service account
	patterns *http.ServeMux
}

// consent is what an authorization code stands for.
type consent struct {
	user, redirect, challenge, nonce string
	scopes                           []string
	used                             bool
}

type device struct {
	userCode, user string
	scopes         []string
	denied         bool
	expiry         time.Time
	interval       time.Duration
	polled         time.Time
}

// issued is a token.
type issued struct {
	user    string
	scopes  []string
	expiry  time.Time
	at      time.Time
	family  string // of refresh tokens that replaced each other
	used    bool
	revoked bool
}

var keys = sync.OnceValues(func() (key, account *rsa.PrivateKey) {
	key, err1 := rsa.GenerateKey(rand.Reader, 2048)
	account, err2 := rsa.GenerateKey(rand.Reader, 2048)
	if err1 != nil || err2 != nil {
		panic(fmt.Sprint(err1, err2))
	}
	return key, account
})

// New returns a server that listens nowhere: see Transport and Start.
func New() *Server {
	s := &Server{
		URL: "http://127.0.0.1:1", ClientID: "pop3gw-client", ClientSecret: "secret-" + rand.Text(),
		User: "jane@example.org", Verified: true, Lifetime: time.Hour, Rotate: true, Interval: 5, DeviceLife: 15 * time.Minute,
		counts: make(map[string]int), codes: make(map[string]*consent), devices: make(map[string]*device),
		access: make(map[string]*issued), refresh: make(map[string]*issued), patterns: http.NewServeMux(),
	}
	s.key, s.account = keys()
	s.secrets = append(s.secrets, s.ClientSecret)
	for path, serve := range map[string]http.HandlerFunc{
		"/authorize": s.serveAuthorize, "/device": s.serveDevice, "/token": s.serveToken,
		"/introspect": s.serveIntrospect, "/revoke": s.serveRevoke, "/keys": s.serveKeys,
	} {
		s.patterns.HandleFunc(path, serve)
	}
	return s
}

// Start has s listen on a port of its own until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := New()
	listening := httptest.NewServer(s)
	t.Cleanup(listening.Close)
	s.URL = listening.URL
	return s
}

// Change changes fields while requests are served.
func (s *Server) Change(change func(s *Server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// Options are those of a provider for users with consent.
func (s *Server) Options() oauth.Options {
	return oauth.Options{
		ClientID: s.ClientID, ClientSecret: s.ClientSecret, Scopes: []string{MailScope, "offline_access", "openid", "email"},
		AuthURL: s.URL + "/authorize", TokenURL: s.URL + "/token", DeviceURL: s.URL + "/device", RevokeURL: s.URL + "/revoke",
		Issuer: s.URL, KeysURL: s.URL + "/keys",
	}
}

// ServiceAccount is the JSON file of a service account.
func (s *Server) ServiceAccount() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(s.account)
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": serviceAccount, "private_key_id": "1", "token_uri": s.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		panic(err)
	}
	return text
}

// Count is how many requests there were: of a grant type at the token endpoint,
// or of another path.
func (s *Server) Count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[what]
}

// Secrets are all that were ever given or sent, and must not be in a log.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.secrets)
}

// RevokeUser ends all that a user has granted, and the tokens with it.
func (s *Server) RevokeUser(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tokens := range []map[string]*issued{s.access, s.refresh} {
		for _, t := range tokens {
			if t.user == user {
				t.revoked = true
			}
		}
	}
}

// EndTokens has all access tokens refused from now on.
func (s *Server) EndTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.access {
		t.revoked = true
	}
}

// Owner returns whose mail an access token opens; "" is nobody's. A token of the
// client itself opens everybody's, "*".
func (s *Server) Owner(token string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.access[token]
	if t == nil || t.revoked || time.Now().After(t.expiry) || !slices.Contains(t.scopes, MailScope) {
		return ""
	}
	return t.user
}

// Type types a user code in as a user, who agrees or not.
func (s *Server) Type(userCode, user string, agrees bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		if d.userCode == userCode {
			d.user, d.denied = user, !agrees
			return nil
		}
	}
	return fmt.Errorf("no device has the code %q", userCode)
}

// Browse does what a browser would with the address of a consent, and returns the
// one that it is sent back to.
func (s *Server) Browse(t testing.TB, address string) *url.URL {
	t.Helper()
	client := &http.Client{
		Transport:     s.Transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	back, err := response.Location()
	if err != nil {
		t.Fatalf("no redirect: %s", response.Status)
	}
	return back
}

// Transport serves requests without a network.
func (s *Server) Transport() http.RoundTripper { return inProcess{s} }

type inProcess struct{ *Server }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	recorder := httptest.NewRecorder()
	p.ServeHTTP(recorder, r)
	response := recorder.Result()
	response.Request = r
	return response, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	r.ParseForm()
	s.mu.Lock()
	s.counts[r.URL.Path]++
	for _, key := range []string{"client_secret", "code", "code_verifier", "refresh_token", "device_code", "assertion", "token"} {
		if v := r.Form.Get(key); len(v) > 8 {
			s.secrets = append(s.secrets, v)
		}
	}
	fail := s.Fail
	s.mu.Unlock()
	if fail != nil && fail(w, r) {
		return
	}
	s.patterns.ServeHTTP(w, r)
}

func (s *Server) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.ClockAhead)
}

// secret makes one up. The caller holds s.mu.
func (s *Server) secret(kind string) string {
	secret := kind + "-" + rand.Text() + rand.Text()
	s.secrets = append(s.secrets, secret)
	return secret
}

func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	bytes.NewReader(text).WriteTo(w)
}

// Refuse answers with an error of RFC 6749 §5.2.
func Refuse(w http.ResponseWriter, status int, code, description string) {
	answer(w, status, map[string]string{"error": code, "error_description": description})
}

// scopesOf are those of a request that are granted. The caller holds s.mu.
func (s *Server) scopesOf(r *http.Request) []string {
	asked := strings.Fields(r.Form.Get("scope"))
	if s.Granted == nil {
		return asked
	}
	return slices.DeleteFunc(asked, func(scope string) bool { return !slices.Contains(s.Granted, scope) })
}

// Token is an access token for a user's mail, as a mail program of their own would
// have it.
func (s *Server) Token(user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := s.secret("access")
	s.access[token] = &issued{user: user, scopes: []string{MailScope}, expiry: time.Now().Add(s.Lifetime)}
	return token
}
