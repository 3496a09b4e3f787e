package oauthtest

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const serviceAccount = "robot@project.example.org"

// serveAuthorize consents, or refuses, at once: there is nobody to ask.
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.Form
	if s.Bounce && !strings.HasPrefix(r.Host, "localhost:") {
		_, port, _ := strings.Cut(r.Host, ":")
		http.Redirect(w, r, "http://localhost:"+port+r.URL.String(), http.StatusFound)
		return
	}
	redirect, err := url.Parse(q.Get("redirect_uri"))
	switch {
	case err != nil || redirect.Host == "" || q.Get("client_id") != s.ClientID:
		http.Error(w, "wrong client_id or redirect_uri", http.StatusBadRequest) // RFC 6749 §4.1.2.1: to nobody else
		return
	case q.Get("response_type") != "code" || q.Get("code_challenge") == "" || q.Get("code_challenge_method") != "S256":
		http.Error(w, "only codes with PKCE here", http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}}
	if s.Refuse {
		back.Set("error", "access_denied")
		back.Set("error_description", "the user said no")
	} else {
		code := s.secret("code")
		s.codes[code] = &consent{
			user: cmp.Or(q.Get("login_hint"), s.User), redirect: q.Get("redirect_uri"),
			challenge: q.Get("code_challenge"), nonce: q.Get("nonce"), scopes: s.scopesOf(r),
		}
		back.Set("code", code)
	}
	redirect.RawQuery = back.Encode()
	http.Redirect(w, r, redirect.String(), http.StatusFound)
}

func (s *Server) serveDevice(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.knowsClient(r) {
		Refuse(w, http.StatusUnauthorized, "invalid_client", "client_id or client_secret is wrong")
		return
	}
	code, userCode := s.secret("device"), rand.Text()[:8]
	s.devices[code] = &device{
		userCode: userCode, scopes: s.scopesOf(r), expiry: time.Now().Add(s.DeviceLife), interval: time.Duration(s.Interval) * time.Second,
	}
	answer(w, http.StatusOK, map[string]any{
		"device_code": code, "user_code": userCode, "verification_uri": s.URL + "/activate",
		"expires_in": int(s.DeviceLife.Seconds()), "interval": s.Interval,
	})
}

func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	kind := r.Form.Get("grant_type")
	s.counts[kind]++
	refreshing := s.Refreshing
	s.mu.Unlock()
	if refreshing != nil && kind == "refresh_token" {
		refreshing()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	if kind != jwtBearer && !s.knowsClient(r) {
		Refuse(w, http.StatusUnauthorized, "invalid_client", "client_id or client_secret is wrong")
		return
	}
	switch kind {
	case "authorization_code":
		s.exchangeCode(w, r)
	case "urn:ietf:params:oauth:grant-type:device_code":
		s.exchangeDevice(w, r)
	case "refresh_token":
		s.exchangeRefresh(w, r)
	case "client_credentials":
		s.give(w, &issued{user: "*", scopes: s.scopesOf(r)}, "", false)
	case jwtBearer:
		s.exchangeAssertion(w, r)
	default:
		Refuse(w, http.StatusBadRequest, "unsupported_grant_type", "")
	}
}

func (s *Server) knowsClient(r *http.Request) bool {
	id, secret := r.Form.Get("client_id"), r.Form.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok {
		id, _ = url.QueryUnescape(user)
		secret, _ = url.QueryUnescape(password)
	}
	return id == s.ClientID && secret == s.ClientSecret
}

func (s *Server) exchangeCode(w http.ResponseWriter, r *http.Request) {
	c := s.codes[r.Form.Get("code")]
	sum := sha256.Sum256([]byte(r.Form.Get("code_verifier")))
	switch {
	case c == nil || c.used || c.redirect != r.Form.Get("redirect_uri"):
		Refuse(w, http.StatusBadRequest, "invalid_grant", "no such code")
	case base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge:
		Refuse(w, http.StatusBadRequest, "invalid_grant", "wrong code_verifier")
	default:
		c.used = true
		s.give(w, &issued{user: c.user, scopes: c.scopes}, c.nonce, true)
	}
}

func (s *Server) exchangeDevice(w http.ResponseWriter, r *http.Request) {
	code := r.Form.Get("device_code")
	d := s.devices[code]
	if d == nil {
		Refuse(w, http.StatusBadRequest, "invalid_grant", "no such code")
		return
	}
	now := time.Now()
	tooSoon := !d.polled.IsZero() && now.Sub(d.polled) < d.interval
	d.polled = now
	switch {
	case now.After(d.expiry):
		Refuse(w, http.StatusBadRequest, "expired_token", "")
	case tooSoon:
		d.interval += 5 * time.Second
		s.counts["slow_down"]++
		Refuse(w, http.StatusBadRequest, "slow_down", "")
	case d.denied:
		Refuse(w, http.StatusBadRequest, "access_denied", "the user said no")
	case d.user == "":
		Refuse(w, http.StatusBadRequest, "authorization_pending", "")
	default:
		delete(s.devices, code)
		s.give(w, &issued{user: d.user, scopes: d.scopes}, "", true)
	}
}

func (s *Server) exchangeRefresh(w http.ResponseWriter, r *http.Request) {
	token := r.Form.Get("refresh_token")
	t := s.refresh[token]
	switch {
	case t == nil || t.revoked || s.Idle > 0 && time.Since(t.at) > s.Idle:
		Refuse(w, http.StatusBadRequest, "invalid_grant", "Token has been expired or revoked.")
		return
	case t.used: // somebody has stolen it: RFC 9700 §4.14.2
		for _, other := range s.refresh {
			if other.family == t.family {
				other.revoked = true
			}
		}
		s.counts["reused"]++
		Refuse(w, http.StatusBadRequest, "invalid_grant", "this refresh token was replaced")
		return
	}
	if s.Rotate {
		t.used = true
	}
	s.give(w, &issued{user: t.user, scopes: t.scopes, family: t.family}, "", s.Rotate)
}

func (s *Server) exchangeAssertion(w http.ResponseWriter, r *http.Request) {
	refuse := func(description string) { Refuse(w, http.StatusBadRequest, "invalid_grant", description) }
	signed, err := jwt.ParseSigned(r.Form.Get("assertion"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		refuse("Bad Request")
		return
	}
	var c struct {
		jwt.Claims
		Scope string `json:"scope"`
	}
	if err := signed.Claims(&s.account.PublicKey, &c); err != nil {
		refuse("Invalid JWT Signature.")
		return
	}
	now := time.Now().Add(s.ClockAhead)
	expected := jwt.Expected{Issuer: serviceAccount, AnyAudience: jwt.Audience{s.URL + "/token"}, Time: now}
	if c.ValidateWithLeeway(expected, time.Minute) != nil || c.Expiry == nil || c.Expiry.Time().Sub(now) > 61*time.Minute {
		refuse("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")
		return
	}
	if c.Scope != MailScope {
		Refuse(w, http.StatusUnauthorized, "unauthorized_client", "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested.")
		return
	}
	s.give(w, &issued{user: c.Subject, scopes: strings.Fields(c.Scope)}, "", false)
}

// give answers with a token for what t says, and a refresh token if refreshable.
func (s *Server) give(w http.ResponseWriter, t *issued, nonce string, refreshable bool) {
	t.expiry = time.Now().Add(s.Lifetime)
	token := s.secret("access")
	s.access[token] = t
	body := map[string]any{"access_token": token, "token_type": "Bearer", "scope": strings.Join(t.scopes, " ")}
	if !s.NoExpiry {
		body["expires_in"] = int(s.Lifetime.Seconds())
	}
	if refreshable && !s.NoRefresh {
		refresh := s.secret("refresh")
		s.refresh[refresh] = &issued{user: t.user, scopes: t.scopes, at: time.Now(), family: cmp.Or(t.family, refresh)}
		body["refresh_token"] = refresh
	}
	if slices.Contains(t.scopes, "openid") {
		body["id_token"] = s.idToken(t.user, nonce)
	}
	answer(w, http.StatusOK, body)
}

func (s *Server) idToken(user, nonce string) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: s.key, KeyID: "1"}}, nil)
	if err != nil {
		panic(err)
	}
	now := time.Now().Add(s.ClockAhead)
	claims := map[string]any{
		"iss": s.URL, "aud": s.ClientID, "sub": "id of " + user, "email": user, "email_verified": s.Verified,
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	for name, value := range s.Claims {
		claims[name] = value
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		panic(err)
	}
	s.secrets = append(s.secrets, token)
	return token
}

func (s *Server) serveKeys(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &s.key.PublicKey, KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
}

// serveIntrospect is RFC 7662, for a mail server that has its token in the header
// or in the query.
func (s *Server) serveIntrospect(w http.ResponseWriter, r *http.Request) {
	token := cmp.Or(r.Form.Get("token"), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	user := s.Owner(token)
	if user == "" {
		answer(w, http.StatusOK, map[string]any{"active": false})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.access[token]
	answer(w, http.StatusOK, map[string]any{
		"active": true, "username": user, "email": user, "scope": strings.Join(t.scopes, " "), "client_id": s.ClientID, "exp": t.expiry.Unix(),
	})
}

// serveRevoke is RFC 7009.
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.refresh[r.Form.Get("token")]; t != nil {
		for _, other := range s.refresh {
			if other.family == t.family {
				other.revoked = true
			}
		}
		for _, other := range s.access {
			if other.user == t.user {
				other.revoked = true
			}
		}
	}
	w.WriteHeader(http.StatusOK)
}
