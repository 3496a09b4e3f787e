package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/oauth"
	"pop3gw/gateway/oauth/oauthtest"
)

func provider(t *testing.T, server *oauthtest.Server, change func(o *oauth.Options)) *oauth.Provider {
	t.Helper()
	o := server.Options()
	if change != nil {
		change(&o)
	}
	p, err := oauth.NewWithTransport("idp", o, server.Transport())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantKind checks who is to mend an error, and that it says how.
func wantKind(t *testing.T, err error, kind oauth.Kind, texts ...string) {
	t.Helper()
	var e *oauth.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("error is %v, want one of kind %d", err, kind)
		return
	}
	for _, text := range texts {
		if !strings.Contains(e.Error(), text) {
			t.Errorf("error is %v, want %q in it", err, text)
		}
	}
}

func TestCodeFlow(t *testing.T) {
	server := oauthtest.New()
	p := provider(t, server, nil)
	flow := p.StartCode("https://enrol.example.org/back", "bob@example.org")
	back := server.Browse(t, flow.URL)
	if back.Host != "enrol.example.org" {
		t.Errorf("the browser goes to %s", back)
	}
	grant, err := flow.FinishAddress(t.Context(), back.String())
	if err != nil {
		t.Fatal(err)
	}
	id := grant.Identity
	if id.Email != "bob@example.org" || !id.Verified || id.Subject == "" || id.Issuer != server.URL {
		t.Errorf("it was %+v", id)
	}
	if time.Until(grant.Expiry) < 50*time.Minute || grant.Refresh == "" || grant.Provider != "idp" {
		t.Errorf("the grant is %+v", *grant)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, *grant) + fmt.Sprintf(verb, grant); strings.Contains(text, grant.Refresh) || strings.Contains(text, grant.Access) {
			t.Errorf("%s prints a token", verb)
		}
	}

	// A code is good once, and for who has the verifier and the redirect address.
	_, err = flow.Finish(t.Context(), back.Query())
	wantKind(t, err, oauth.Consent, "invalid_grant")
	another := p.StartCode("https://enrol.example.org/back", "")
	if _, err := another.Finish(t.Context(), back.Query()); !errors.Is(err, oauth.ErrState) {
		t.Errorf("the answer to another flow: %v", err)
	}
	stolen := server.Browse(t, another.URL).Query()
	stolen.Set("state", flow.State)
	_, err = flow.Finish(t.Context(), stolen)
	wantKind(t, err, oauth.Consent, "wrong code_verifier")
	for _, address := range []string{"", "hello", "https://enrol.example.org/back", "%zz"} {
		if _, err := flow.FinishAddress(t.Context(), address); err == nil || !strings.Contains(err.Error(), "code=") {
			t.Errorf("address %q: %v", address, err)
		}
	}
	if _, err := flow.Finish(t.Context(), url.Values{"state": {flow.State}}); err == nil {
		t.Error("an answer with nothing in it is taken")
	}
	if _, err := flow.Finish(t.Context(), url.Values{}); !errors.Is(err, oauth.ErrState) {
		t.Errorf("no state: %v", err)
	}
}

func TestConsentRefused(t *testing.T) {
	server := oauthtest.New()
	p := provider(t, server, nil)
	finish := func() error {
		flow := p.StartCode("http://127.0.0.1:1/", "")
		_, err := flow.Finish(t.Context(), server.Browse(t, flow.URL).Query())
		return err
	}
	server.Refuse = true
	wantKind(t, finish(), oauth.Consent, "access_denied", "the user said no", "begin again, and agree")
	server.Refuse = false
	server.Granted = []string{"openid", "email"}
	wantKind(t, finish(), oauth.Consent, oauthtest.MailScope, "leave the box for mail ticked")
	server.Granted = nil
	server.NoRefresh = true
	wantKind(t, finish(), oauth.Operator, "no refresh token", "offline_access")
	server.NoRefresh = false
	server.NoExpiry = true
	if err := finish(); err != nil {
		t.Error(err)
	}
	p = provider(t, server, func(o *oauth.Options) { o.ClientSecret = "wrong" })
	wantKind(t, finish(), oauth.Operator, "invalid_client", "mend client_id, client_secret or client_auth in [oauth.idp]")
	p = provider(t, server, func(o *oauth.Options) { o.ClientAuth = oauth.ClientBasic })
	if err := finish(); err != nil {
		t.Error(err)
	}
}

// An id_token that is not the provider's for this client and this flow opens
// nothing.
func TestIdentity(t *testing.T) {
	google := func(o *oauth.Options) { o.Issuer = "https://accounts.google.com" }
	for _, tt := range []struct {
		name    string
		claims  map[string]any
		change  func(*oauth.Options)
		want    oauth.Identity // less issuer and subject; or
		refusal string
	}{
		{"verified", nil, nil, oauth.Identity{Email: "jane@example.org", Verified: true}, ""},
		{"unverified", map[string]any{"email_verified": false}, nil, oauth.Identity{Email: "jane@example.org"}, ""},
		{"verified in a text", map[string]any{"email_verified": "true"}, nil, oauth.Identity{Email: "jane@example.org", Verified: true}, ""},
		{"no word of verifying", map[string]any{"email_verified": nil}, nil, oauth.Identity{Email: "jane@example.org"}, ""},
		{"no address", map[string]any{"email": ""}, nil, oauth.Identity{}, ""},
		{"another client's", map[string]any{"aud": "else"}, nil, oauth.Identity{}, "cannot be verified"},
		{"another issuer's", map[string]any{"iss": "https://evil.example.org"}, nil, oauth.Identity{}, "cannot be verified"},
		{"another login's", map[string]any{"nonce": "other"}, nil, oauth.Identity{}, "of another login"},
		{"expired", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, nil, oauth.Identity{}, "clock"},
		{"not yet", map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}, nil, oauth.Identity{}, "clock"},
		{"Google's own", map[string]any{"iss": "https://accounts.google.com", "email": "jane@gmail.com"}, google, oauth.Identity{Email: "jane@gmail.com", Verified: true}, ""},
		{"of an organisation at Google", map[string]any{"iss": "https://accounts.google.com", "hd": "example.org"}, google, oauth.Identity{Email: "jane@example.org", Verified: true}, ""},
		{"once somebody's at Google", map[string]any{"iss": "https://accounts.google.com"}, google, oauth.Identity{Email: "jane@example.org"}, ""},
		{"Google's own, unverified", map[string]any{"iss": "https://accounts.google.com", "email": "jane@gmail.com", "email_verified": false}, google, oauth.Identity{Email: "jane@gmail.com"}, ""},
		{"not asked", nil, func(o *oauth.Options) { o.KeysURL = "" }, oauth.Identity{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := oauthtest.New()
			server.Claims = tt.claims
			flow := provider(t, server, tt.change).StartCode("http://127.0.0.1:1/", "")
			grant, err := flow.Finish(t.Context(), server.Browse(t, flow.URL).Query())
			if tt.refusal != "" {
				wantKind(t, err, oauth.Operator, tt.refusal)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if grant.Identity.Email != tt.want.Email || grant.Identity.Verified != tt.want.Verified {
				t.Errorf("it was %+v", grant.Identity)
			}
		})
	}
}

// An id_token that has expired before it came, or is of the future, says which way
// this machine's clock is off, and by how much.
func TestClockOfIdentity(t *testing.T) {
	for _, tt := range []struct {
		ahead  time.Duration // the provider's clock
		claims map[string]any
		want   string
	}{
		{-2 * time.Hour, nil, "this machine's clock is 2h0m0s ahead of the provider's: set it"},
		{2 * time.Hour, map[string]any{"nbf": 946692000}, "this machine's clock is 2h0m0s behind the provider's: set it"}, // 2000-01-01 02:00
		{0, map[string]any{"exp": 946684000}, "set this machine's clock"},
	} {
		synctest.Test(t, func(t *testing.T) { // where it is 2000-01-01 00:00
			server := oauthtest.New()
			server.ClockAhead, server.Claims = tt.ahead, tt.claims
			flow := provider(t, server, nil).StartCode("http://127.0.0.1:1/", "")
			_, err := flow.Finish(t.Context(), server.Browse(t, flow.URL).Query())
			wantKind(t, err, oauth.Operator, "id_token", tt.want)
		})
	}
}

// Microsoft's claim email is anybody's choice. What counts is the name that an own
// tenant has given.
func TestMicrosoftIdentity(t *testing.T) {
	const tenant, other = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"
	issuer := func(id string) string { return "https://login.microsoftonline.com/" + id + "/v2.0" }
	for _, tt := range []struct {
		name     string
		tenant   string // as configured
		claims   map[string]any
		email    string
		verified bool
		refusal  string
	}{
		{"own tenant", tenant, map[string]any{"iss": issuer(tenant), "tid": tenant, "preferred_username": "jane@contoso.example"}, "jane@contoso.example", true, ""},
		{"email is not the name", tenant, map[string]any{"iss": issuer(tenant), "tid": tenant, "preferred_username": "eve@contoso.example", "email": "jane@contoso.example"}, "eve@contoso.example", true, ""},
		{"any tenant", "", map[string]any{"iss": issuer(other), "tid": other, "preferred_username": "jane@contoso.example"}, "jane@contoso.example", false, ""},
		{"any tenant, domain verified", "", map[string]any{"iss": issuer(other), "tid": other, "email": "jane@contoso.example", "xms_edov": true}, "jane@contoso.example", true, ""},
		{"a verified email is not the name either", tenant, map[string]any{"iss": issuer(tenant), "tid": tenant, "preferred_username": "eve@contoso.example", "email": "jane@contoso.example", "xms_edov": true}, "eve@contoso.example", true, ""},
		{"own tenant by its domain", "contoso.example", map[string]any{"iss": issuer(other), "tid": other, "preferred_username": "jane@contoso.example"}, "jane@contoso.example", true, ""},
		{"id of the own tenant in capitals", "AAAAAAAA-2222-3333-4444-555555555555", map[string]any{"iss": issuer("aaaaaaaa-2222-3333-4444-555555555555"), "tid": "aaaaaaaa-2222-3333-4444-555555555555", "preferred_username": "jane@contoso.example"}, "jane@contoso.example", true, ""},
		{"another tenant than the own", tenant, map[string]any{"iss": issuer(other), "tid": other, "preferred_username": "jane@contoso.example"}, "", false, "of the tenant"},
		{"guest with a verified email", tenant, map[string]any{"iss": issuer(tenant), "tid": tenant, "preferred_username": "jane@else.example", "email": "jane@else.example", "xms_edov": true, "idp": "mail"}, "jane@else.example", false, ""},
		{"guest", tenant, map[string]any{"iss": issuer(tenant), "tid": tenant, "preferred_username": "jane@else.example", "idp": "https://sts.windows.net/" + other + "/"}, "jane@else.example", false, ""},
		{"guest by name", tenant, map[string]any{"iss": issuer(tenant), "tid": tenant, "preferred_username": "jane_else.example#EXT#@contoso.example"}, "jane_else.example#EXT#@contoso.example", false, ""},
		{"personal", "consumers", map[string]any{"iss": issuer("9188040d-6c67-4c5b-b112-36a304b66dad"), "tid": "9188040d-6c67-4c5b-b112-36a304b66dad", "email": "jane@outlook.com"}, "jane@outlook.com", true, ""},
		{"personal of a country", "", map[string]any{"iss": issuer("9188040d-6c67-4c5b-b112-36a304b66dad"), "tid": "9188040d-6c67-4c5b-b112-36a304b66dad", "email": "Jane@Hotmail.co.uk"}, "Jane@Hotmail.co.uk", true, ""},
		{"personal with an address of elsewhere", "", map[string]any{"iss": issuer("9188040d-6c67-4c5b-b112-36a304b66dad"), "tid": "9188040d-6c67-4c5b-b112-36a304b66dad", "email": "jane@contoso.example"}, "jane@contoso.example", false, ""},
		{"personal with one that looks like it", "", map[string]any{"iss": issuer("9188040d-6c67-4c5b-b112-36a304b66dad"), "tid": "9188040d-6c67-4c5b-b112-36a304b66dad", "email": "jane@live.contoso.example"}, "jane@live.contoso.example", false, ""},
		{"issuer of another tenant", tenant, map[string]any{"iss": issuer(other), "tid": tenant, "preferred_username": "jane@contoso.example"}, "", false, "issuer"},
		{"no tenant", "", map[string]any{"iss": issuer(""), "preferred_username": "jane@contoso.example"}, "", false, "issuer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := oauthtest.New()
			server.Claims = map[string]any{"email": "", "email_verified": nil}
			for name, value := range tt.claims {
				server.Claims[name] = value
			}
			p := provider(t, server, func(o *oauth.Options) {
				o.Preset, o.Tenant, o.Issuer = "microsoft", tt.tenant, "https://login.microsoftonline.com/{tenantid}/v2.0"
			})
			flow := p.StartCode("http://localhost:1/", "")
			grant, err := flow.Finish(t.Context(), server.Browse(t, flow.URL).Query())
			if tt.refusal != "" {
				wantKind(t, err, oauth.Operator, tt.refusal)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if grant.Identity.Email != tt.email || grant.Identity.Verified != tt.verified {
				t.Errorf("it was %+v", grant.Identity)
			}
		})
	}
}

func TestDeviceFlow(t *testing.T) {
	for _, tt := range []struct {
		name    string
		type_   func(server *oauthtest.Server, code string) error
		after   time.Duration // until the user does that
		took    time.Duration // at most, from then on
		refusal string
	}{
		{"agreed", func(s *oauthtest.Server, code string) error { return s.Type(code, "bob@example.org", true) }, 2 * time.Minute, 11 * time.Second, ""},
		{"refused", func(s *oauthtest.Server, code string) error { return s.Type(code, "bob@example.org", false) }, time.Minute, 11 * time.Second, "begin again, and agree"},
		{"never", func(*oauthtest.Server, string) error { return nil }, 0, 16 * time.Minute, "not used in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := oauthtest.New()
				flow, err := provider(t, server, nil).StartDevice(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if flow.Code == "" || !strings.HasPrefix(flow.URL, server.URL) || time.Until(flow.Expiry) < 14*time.Minute {
					t.Errorf("the flow is %+v", flow)
				}
				start := time.Now()
				time.AfterFunc(tt.after, func() {
					if err := tt.type_(server, flow.Code); err != nil {
						t.Error(err)
					}
				})
				grant, err := flow.Wait(t.Context())
				if waited := time.Since(start); waited > tt.after+tt.took {
					t.Errorf("it took %v", waited)
				}
				if tt.refusal != "" {
					wantKind(t, err, oauth.Consent, tt.refusal)
					return
				}
				if err != nil || grant.Identity.Email != "bob@example.org" {
					t.Errorf("the grant is %v, %v", grant, err)
				}
				if n := server.Count("slow_down"); n != 0 {
					t.Errorf("it was told %d times to slow down", n)
				}
			})
		})
	}
}

// Whoever has a secret shows it from the first request on (RFC 8628 §3.1), and
// whoever has none needs none.
func TestDeviceClient(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *oauthtest.Server)
		auth   oauth.ClientAuth
	}{
		{"in the body", nil, oauth.ClientInBody},
		{"in the header", func(s *oauthtest.Server) { s.ClientSecret = "a secret: with % and +" }, oauth.ClientBasic},
		{"public", func(s *oauthtest.Server) { s.ClientSecret = "" }, oauth.ClientInBody},
		{"public, in the header", func(s *oauthtest.Server) { s.ClientSecret = "" }, oauth.ClientBasic},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := oauthtest.New()
				if tt.change != nil {
					tt.change(server)
				}
				p := provider(t, server, func(o *oauth.Options) { o.ClientAuth = tt.auth })
				flow, err := p.StartDevice(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := server.Type(flow.Code, "bob@example.org", true); err != nil {
					t.Fatal(err)
				}
				if _, err := flow.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				_, err = provider(t, server, func(o *oauth.Options) { o.ClientAuth, o.ClientSecret = tt.auth, "wrong" }).StartDevice(t.Context())
				wantKind(t, err, oauth.Operator, "invalid_client")
			})
		})
	}
	// A client that is public at Microsoft must not show one.
	server := oauthtest.New()
	server.Fail = func(w http.ResponseWriter, _ *http.Request) bool {
		oauthtest.Refuse(w, http.StatusUnauthorized, "invalid_client", "AADSTS700025: Client is public so neither 'client_assertion' nor 'client_secret' should be presented.")
		return true
	}
	_, err := provider(t, server, nil).StartDevice(t.Context())
	wantKind(t, err, oauth.Operator, "remove client_secret from [oauth.idp]")
}

// A provider that wants fewer polls, and one that is away for a while.
func TestDevicePolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oauthtest.New()
		p := provider(t, server, nil)
		flow, err := p.StartDevice(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slow, down := 0, 0
		server.Change(func(s *oauthtest.Server) {
			s.Fail = func(w http.ResponseWriter, _ *http.Request) bool {
				switch {
				case slow < 2:
					slow++
					oauthtest.Refuse(w, 400, "slow_down", "")
				case down < 2:
					down++
					w.WriteHeader(503)
				default:
					return false
				}
				return true
			}
		})
		start := time.Now()
		time.AfterFunc(time.Second, func() { server.Type(flow.Code, "bob@example.org", true) })
		if _, err := flow.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		// 5 s, then 10, then 15; then 10 behind the first failure and 20 behind the next.
		if waited := time.Since(start); waited != 60*time.Second {
			t.Errorf("it waited for %v", waited)
		}
		flow, err = p.StartDevice(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		if _, err := flow.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("interrupted: %v", err)
		}
	})
	server := oauthtest.New()
	_, err := provider(t, server, func(o *oauth.Options) { o.ClientID = "wrong" }).StartDevice(t.Context())
	wantKind(t, err, oauth.Operator, "mend client_id")
}

func TestApps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oauthtest.New()
		keeper := oauth.NewKeeper(new(oauth.Memory), t.TempDir()+"/key", nil)
		app := provider(t, server, func(o *oauth.Options) {
			o.Grant, o.Scopes = oauth.GrantClient, []string{oauthtest.MailScope}
		})
		robot := provider(t, server, func(o *oauth.Options) {
			*o = oauth.Options{Grant: oauth.GrantServiceAccount, ServiceAccountFile: "robot.json", ServiceAccount: server.ServiceAccount(), Scopes: []string{oauthtest.MailScope}}
		})
		for _, tt := range []struct {
			p     *oauth.Provider
			user  string
			owner string
		}{{app, "jane@example.org", "*"}, {app, "bob@example.org", "*"}, {robot, "jane@example.org", "jane@example.org"}, {robot, "bob@example.org", "bob@example.org"}} {
			token, err := keeper.Tokens(tt.p, tt.user, tt.user).Token(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if got := server.Owner(token); got != tt.owner {
				t.Errorf("%s: the token opens the mail of %q", tt.user, got)
			}
		}
		// One token of the client is enough for all; a service account needs one each.
		if apps, robots := server.Count("client_credentials"), server.Count("urn:ietf:params:oauth:grant-type:jwt-bearer"); apps != 1 || robots != 2 {
			t.Errorf("%d and %d requests", apps, robots)
		}
		for range 100 {
			time.Sleep(5 * time.Minute)
			token, err := keeper.Tokens(app, "jane@example.org", "jane@example.org").Token(t.Context(), "")
			if err != nil || server.Owner(token) != "*" {
				t.Fatal(err)
			}
		}
		if err := app.Check(t.Context()); err != nil {
			t.Error(err)
		}
		wrong := provider(t, server, func(o *oauth.Options) {
			o.Grant, o.Scopes, o.ClientSecret = oauth.GrantClient, []string{"x"}, "wrong"
		})
		wantKind(t, wrong.Check(t.Context()), oauth.Operator, "invalid_client")
		_, err := oauth.NewKeeper(new(oauth.Memory), "", nil).Tokens(wrong, "jane", "jane").Token(t.Context(), "")
		wantRefusal(t, err, gateway.CodeSysPerm, "tell the administrator", "mend client_id")

		server.Change(func(s *oauthtest.Server) { s.ClockAhead = 3 * time.Hour })
		_, err = keeper.Tokens(robot, "eve@example.org", "eve@example.org").Token(t.Context(), "")
		wantRefusal(t, err, gateway.CodeSysPerm, "tell the administrator", "this machine's clock is 3h0m0s behind the provider's: set it")
	})
}

// Check tells a client that the provider knows from one that it does not.
func TestCheckClient(t *testing.T) {
	server := oauthtest.New()
	for _, device := range []string{"", server.URL + "/device"} {
		set := func(o *oauth.Options) { o.DeviceURL = device }
		if err := provider(t, server, set).Check(t.Context()); err != nil {
			t.Error(err)
		}
		err := provider(t, server, func(o *oauth.Options) { set(o); o.ClientID = "wrong" }).Check(t.Context())
		wantKind(t, err, oauth.Operator, "mend client_id")
	}
	if server.Count("reused") != 0 {
		t.Error("a grant was spoilt")
	}
	p, err := oauth.New("idp", oauth.Options{ClientID: "x", TokenURL: "http://127.0.0.1:1/", AuthURL: "http://127.0.0.1:1/", Scopes: []string{"x"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, p.Check(t.Context()), oauth.Temporary, "refused")
}

func TestLoopback(t *testing.T) {
	server := oauthtest.New()
	for _, redirect := range []string{"http://127.0.0.1", "http://localhost", "http://127.0.0.1/back"} {
		p := provider(t, server, func(o *oauth.Options) { o.RedirectURL = redirect })
		l, err := p.Loopback()
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		flow := p.StartCode(l.URL, "")
		told := make(chan string, 3)
		go func() {
			for _, address := range []string{strings.TrimSuffix(l.URL, "/back") + "/favicon.ico", server.Browse(t, flow.URL).String()} {
				response, err := http.Get(address)
				if err != nil {
					told <- err.Error()
					return
				}
				text, _ := io.ReadAll(response.Body)
				response.Body.Close()
				told <- string(text)
			}
		}()
		query, err := l.Query(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		grant, err := flow.Finish(t.Context(), query)
		l.Answer(err)
		if err != nil || grant.Identity.Email != "jane@example.org" {
			t.Errorf("%v, %v", grant, err)
		}
		<-told
		if text := <-told; !strings.Contains(text, "can be closed") {
			t.Errorf("the browser shows %q", text)
		}
	}
	l, err := provider(t, server, func(o *oauth.Options) { o.RedirectURL = "https://enrol.example.org/back" }).Loopback()
	if err == nil || l.URL != "https://enrol.example.org/back" {
		t.Errorf("a web page as redirect: %v, %v", l, err)
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options oauth.Options
		want    string // "" for none
	}{
		{"google", oauth.Options{ClientID: "x"}, ""},
		{"microsoft", oauth.Options{ClientID: "x"}, ""},
		{"contoso", oauth.Options{Preset: "microsoft", Tenant: "contoso.example", ClientID: "x"}, ""},
		{"microsoft", oauth.Options{}, "client_id: missing; it is what the provider calls the gateway, once that is registered there"},
		{"gogle", oauth.Options{ClientID: "x"}, `token_url: missing; set it, or preset = "google" or "microsoft"; "gogle" is no preset`},
		{"x", oauth.Options{Preset: "yahoo", ClientID: "x"}, `preset: found "yahoo"; allowed are "google" and "microsoft"`},
		{"google", oauth.Options{ClientID: "x", Tenant: "y"}, `tenant: found "y"; it is for preset = "microsoft" alone`},
		{"microsoft", oauth.Options{ClientID: "x", Tenant: "a/b"}, `tenant: found "a/b"; allowed are a domain`},
		{"microsoft", oauth.Options{ClientID: "x", Grant: oauth.GrantClient, ClientSecret: "y"}, `tenant: missing; grant = "client_credentials" needs the directory`},
		{"microsoft", oauth.Options{ClientID: "x", Grant: oauth.GrantClient, Tenant: "y"}, "client_secret: missing"},
		{"microsoft", oauth.Options{ClientID: "x", Grant: oauth.GrantClient, Tenant: "y", ClientSecretFile: "z"}, ""},
		{"google", oauth.Options{ClientID: "x", ClientSecret: "y", Grant: oauth.GrantClient, Scopes: []string{"z"}}, `grant: found "client_credentials"; Google has "service_account" for that`},
		{"google", oauth.Options{Grant: oauth.GrantServiceAccount}, "service_account_file: missing"},
		{"google", oauth.Options{Grant: oauth.GrantServiceAccount, ServiceAccountFile: "f", ServiceAccount: []byte("{")}, "service_account_file: f: it is not JSON; allowed is the JSON file that Google gave for the key"},
		{"google", oauth.Options{Grant: oauth.GrantServiceAccount, ServiceAccountFile: "f", ServiceAccount: []byte(`{"type":"authorized_user"}`)}, `service_account_file: f: found type "authorized_user"`},
		{"google", oauth.Options{Grant: oauth.GrantServiceAccount, ServiceAccountFile: "f", ServiceAccount: []byte(`{"type":"service_account","client_email":"a","private_key":"b"}`)}, "private_key: it is not in PEM form"},
		{"google", oauth.Options{ClientID: "x", ServiceAccountFile: "f"}, `service_account_file: found "f"; it needs grant = "service_account"`},
		{"x", oauth.Options{ClientID: "x", AuthURL: "https://a/", TokenURL: "http://a.example/", Scopes: []string{"s"}}, `token_url: found "http://a.example/"; allowed is an address that begins with https://`},
		{"x", oauth.Options{ClientID: "x", AuthURL: "https://a/", TokenURL: "http://127.0.0.1:1/", Scopes: []string{"s"}}, ""},
		{"x", oauth.Options{ClientID: "x", TokenURL: "https://a/", Scopes: []string{"s"}}, "auth_url: missing; set it or device_url"},
		{"x", oauth.Options{ClientID: "x", AuthURL: "https://a/", TokenURL: "https://a/"}, "scopes: missing"},
		{"google", oauth.Options{ClientID: "x", RedirectURL: "http://gw.example/"}, `redirect_url: found "http://gw.example/"; http:// is for this machine alone`},
		{"google", oauth.Options{ClientID: "x", RedirectURL: "localhost"}, `redirect_url: found "localhost"`},
	} {
		_, err := oauth.New(tt.name, tt.options, nil)
		if got := fmt.Sprint(err); tt.want == "" && err != nil || tt.want != "" && !strings.Contains(got, tt.want) {
			t.Errorf("%s %+v: %s\nwant %s", tt.name, tt.options, got, tt.want)
		}
	}
}

// The presets ask for what the providers document.
func TestPresets(t *testing.T) {
	for _, tt := range []struct {
		name, tenant string
		url          string
		params       map[string]string
		device       bool
	}{
		{"google", "", "https://accounts.google.com/o/oauth2/v2/auth", map[string]string{
			"scope": "https://mail.google.com/ openid email", "access_type": "offline", "prompt": "consent", "code_challenge_method": "S256", "response_type": "code", "login_hint": "j@example.org"}, false},
		{"microsoft", "", "https://login.microsoftonline.com/common/oauth2/v2.0/authorize", map[string]string{
			"scope": "https://outlook.office.com/IMAP.AccessAsUser.All offline_access openid profile email", "code_challenge_method": "S256"}, true},
		{"microsoft", "contoso.example", "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/authorize", nil, true},
	} {
		p, err := oauth.New(tt.name, oauth.Options{ClientID: "x", Tenant: tt.tenant}, nil)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(p.StartCode("http://127.0.0.1:1/", "j@example.org").URL)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		u.RawQuery = ""
		if u.String() != tt.url || p.HasDevice() != tt.device || !p.Identifies() {
			t.Errorf("%s: %s, device %v", tt.name, u, p.HasDevice())
		}
		for key, want := range tt.params {
			if q.Get(key) != want {
				t.Errorf("%s: %s is %q, want %q", tt.name, key, q.Get(key), want)
			}
		}
		if q.Get("code_challenge") == "" || q.Get("nonce") == "" || len(q.Get("state")) < 20 {
			t.Errorf("%s: %v", tt.name, q)
		}
	}
}
