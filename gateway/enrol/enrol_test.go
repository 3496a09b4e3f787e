package enrol

import (
	"bytes"
	"context"
	"errors"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/account"
	"pop3gw/gateway/oauth"
	"pop3gw/gateway/oauth/oauthtest"
)

// kept is Accounts in memory.
type kept struct {
	mu       sync.Mutex
	accounts map[string]Account
	grants   map[string]*oauth.Grant
	fail     error
	late     Account // is made just before the next one
}

func (k *kept) Enrolled(_ context.Context, name string) (Account, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a, ok := k.accounts[name]
	return a, ok, k.fail
}

func (k *kept) Enrol(_ context.Context, a Account, g *oauth.Grant) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	if k.late.Name != "" {
		k.accounts[k.late.Name] = k.late
	}
	if old, ok := k.accounts[a.Name]; ok && old.Subject != a.Subject {
		return ErrTaken
	}
	k.accounts[a.Name], k.grants[a.Name] = a, g
	return nil
}

func (k *kept) Reserved(name string) bool { return name == "scanner@example.org" }

// site is a page over HTTPS, with a provider.
type site struct {
	t        *testing.T
	url      string
	page     *Page
	provider *oauthtest.Server
	kept     *kept
	terms    Terms
	log      *bytes.Buffer
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, provider: oauthtest.Start(t), kept: &kept{accounts: make(map[string]Account), grants: make(map[string]*oauth.Grant)}, log: new(bytes.Buffer)}
	provider, err := oauth.New("test", s.provider.Options(), nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	s.url = "https://" + server.Listener.Addr().String()
	s.terms = Terms{Domains: []string{"example.org", "Example.NET"}, Providers: []Provider{{provider, "Test & <b>Mail</b>"}},
		Settings: Settings{Server: "pop.example.org", Ports: []Port{{995, "SSL/TLS"}, {110, "STARTTLS"}}}}
	s.page, err = New(Options{
		URL: s.url + "/", Terms: func() Terms { return s.terms }, Accounts: s.kept,
		Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = s.page
	server.StartTLS()
	t.Cleanup(server.Close)
	return s
}

// browser is one that keeps cookies and follows no redirects.
type browser struct {
	*site
	client *http.Client
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := insecureClient()
	client.Jar = jar
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{s, client}
}

// answer is what a browser got.
type answer struct {
	status   int
	location string
	body     string
	header   http.Header
}

func (b *browser) do(r *http.Request) answer {
	b.t.Helper()
	response, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header.Get("Location"), string(body), response.Header}
}

func (b *browser) get(address string) answer {
	b.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = b.url + address
	}
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(r)
}

func (b *browser) post(path string, form url.Values, headers ...string) answer {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodPost, b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return b.do(r)
}

var tokenField = regexp.MustCompile(`name="token" value="(\w+)"`)

// token is that of the form in a page.
func (b *browser) token(a answer) string {
	b.t.Helper()
	m := tokenField.FindStringSubmatch(a.body)
	if m == nil {
		b.t.Fatalf("no form in %d: %s", a.status, a.body)
	}
	return m[1]
}

var refresh = regexp.MustCompile(`<meta http-equiv="refresh" content="0; url=([^"]+)">`)

// start chooses the provider, and returns where the page goes on by itself.
func (b *browser) start() string {
	b.t.Helper()
	a := b.post("/start", url.Values{"token": {b.token(b.get("/"))}, "provider": {"test"}})
	m := refresh.FindStringSubmatch(a.body)
	if a.status != http.StatusOK || m == nil || !strings.Contains(a.body, `<a class="button" href="`+m[1]+`">`) {
		b.t.Fatalf("start: %d %s", a.status, a.body)
	}
	return html.UnescapeString(m[1])
}

// consent goes to the provider, and returns the address that it sends back to.
func (b *browser) consent() string {
	b.t.Helper()
	back := b.get(b.start())
	if back.status != http.StatusFound {
		b.t.Fatalf("provider: %d %s", back.status, back.body)
	}
	return back.location
}

var shownPassword = regexp.MustCompile(`<code class="password">([a-z2-9-]+)</code>`)

// enrol goes the whole way, and returns the last page and the password on it.
func (b *browser) enrol() (answer, string) {
	b.t.Helper()
	if a := b.get(b.consent()); a.status != http.StatusSeeOther || a.location != "/account" {
		b.t.Fatalf("callback: %d to %q: %s", a.status, a.location, a.body)
	}
	a := b.post("/password", url.Values{"token": {b.token(b.get("/account"))}})
	m := shownPassword.FindStringSubmatch(a.body)
	if a.status != http.StatusOK || m == nil {
		b.t.Fatalf("password: %d %s", a.status, a.body)
	}
	return a, m[1]
}

// opens reports whether a password is the one of an account.
func (s *site) opens(name, password string) bool {
	s.t.Helper()
	s.kept.mu.Lock()
	hash := s.kept.accounts[name].Password
	s.kept.mu.Unlock()
	d, err := account.New(account.Config{Users: []account.User{{Name: name, Password: hash, Target: account.Target{Adapter: struct{ gateway.Adapter }{}}}}})
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = d.Login(s.t.Context(), gateway.Credentials{User: name, Password: password})
	return err == nil
}

func TestEnrol(t *testing.T) {
	s := newSite(t)
	s.provider.Change(func(p *oauthtest.Server) { p.User = "Jane.Doe@Example.org" })
	b := s.browser()
	first := b.get("/")
	for _, want := range []string{"Continue with Test &amp; &lt;b&gt;Mail&lt;/b&gt;", "<b>@example.org</b>, <b>@Example.NET</b>", "pop.example.org"} {
		if !strings.Contains(first.body, want) {
			t.Errorf("the first page has no %s", want)
		}
	}
	page, password := b.enrol()
	for _, want := range []string{"<code>pop.example.org</code>", "<code>995</code> with SSL/TLS", "<code>110</code> with STARTTLS", "<code>jane.doe@example.org</code>", "not shown again"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the last page has no %s:\n%s", want, page.body)
		}
	}
	got := s.kept.accounts["jane.doe@example.org"]
	if got.Upstream != "Jane.Doe@Example.org" || got.Provider != "test" || got.Issuer != s.provider.URL || got.Subject == "" || time.Since(got.Changed) > time.Minute {
		t.Errorf("account %+v", got)
	}
	if g := s.kept.grants["jane.doe@example.org"]; g == nil || g.Refresh == "" {
		t.Error("no grant is kept")
	}
	if len(strings.ReplaceAll(password, "-", "")) != 20 || !s.opens("jane.doe@example.org", password) || strings.Contains(got.Password, password) {
		t.Errorf("password %q is not of the account", password)
	}

	// Neither reloading nor going back makes or shows another one.
	for _, again := range []answer{b.get("/account"), b.post("/password", url.Values{"token": {b.token(first)}})} {
		if again.status != http.StatusForbidden || strings.Contains(again.body, password) {
			t.Errorf("again: %d %s", again.status, again.body)
		}
	}
	if !s.opens("jane.doe@example.org", password) {
		t.Error("the password was changed behind the user's back")
	}

	// Whoever comes again is told what a new password means.
	b = s.browser()
	if a := b.get(b.consent()); a.location != "/account" {
		t.Fatalf("again: %+v", a)
	}
	if a := b.get("/account"); !strings.Contains(a.body, "A new one replaces it") || !strings.Contains(a.body, "Replace the password") {
		t.Errorf("again: %s", a.body)
	}
	_, second := s.browser().enrol()
	if second == password || s.opens("jane.doe@example.org", password) || !s.opens("jane.doe@example.org", second) {
		t.Error("the new password does not replace the old one")
	}

	log := s.log.String()
	if n := strings.Count(log, "msg=enrolled user=jane.doe@example.org provider=test"); n != 2 || !strings.Contains(log, "replaced=true") {
		t.Errorf("log:\n%s", log)
	}
	for _, secret := range append(s.provider.Secrets(), password, second) {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds the secret %.12s...", secret)
		}
	}
}

// Whatever speaks against an account, none is made, and the user is told why.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		about   string
		change  func(s *site)
		status  int
		want    string
		logWant string
	}{
		{"no consent", func(s *site) { s.provider.Refuse = true }, http.StatusForbidden, "You did not agree", "access_denied|consent"},
		{"the address is not verified", func(s *site) { s.provider.Verified = false }, http.StatusForbidden, "does not confirm that the address is yours", "enrolment refused"},
		{"verified as a text", func(s *site) { s.provider.Claims = map[string]any{"email_verified": "no"} }, http.StatusForbidden, "does not confirm", "enrolment refused"},
		{"no address", func(s *site) { s.provider.Claims = map[string]any{"email": ""} }, http.StatusForbidden, "does not confirm", "enrolment refused"},
		{"another domain", func(s *site) { s.provider.User = "jane@evil.example" }, http.StatusForbidden, "is of none of the domains", "jane@evil.example"},
		{"a domain below", func(s *site) { s.provider.User = "jane@sub.example.org" }, http.StatusForbidden, "is of none of the domains", ""},
		{"a domain behind", func(s *site) { s.provider.User = "jane@example.org.evil.example" }, http.StatusForbidden, "is of none of the domains", ""},
		{"two addresses in one", func(s *site) { s.provider.User = "jane@evil.example@example.org" }, http.StatusForbidden, "of a form", ""},
		{"markup", func(s *site) { s.provider.User = "<script>@example.org" }, http.StatusForbidden, "of a form", ""},
		{"a lookalike", func(s *site) { s.provider.User = "j\u0430ne@example.org" }, http.StatusForbidden, "of a form", ""},
		{"a name of the operator's", func(s *site) { s.provider.User = "Scanner@example.org" }, http.StatusForbidden, "was set up by whoever runs this service", ""},
		{"a nonce of another login", func(s *site) { s.provider.Claims = map[string]any{"nonce": "other"} }, http.StatusBadGateway, "has to look into it", "another login"},
		{"an id_token for somebody else", func(s *site) { s.provider.Claims = map[string]any{"aud": "other"} }, http.StatusBadGateway, "has to look into it", ""},
		{"a provider that fails", func(s *site) {
			s.provider.Fail = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/token" {
					return false
				}
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
		}, http.StatusBadGateway, "does not answer", "503"},
	} {
		t.Run(tt.about, func(t *testing.T) {
			s := newSite(t)
			s.provider.Change(func(*oauthtest.Server) { tt.change(s) })
			b := s.browser()
			a := b.get(b.consent())
			if a.status != tt.status || !strings.Contains(a.body, tt.want) || strings.Contains(a.body, "<script>") {
				t.Errorf("%d, want %d with %q:\n%s", a.status, tt.status, tt.want, a.body)
			}
			if a := b.get("/account"); a.status != http.StatusForbidden {
				t.Errorf("and then /account: %d", a.status)
			}
			if len(s.kept.accounts) != 0 {
				t.Errorf("accounts %v", s.kept.accounts)
			}
			if !regexp.MustCompile(tt.logWant).MatchString(s.log.String()) {
				t.Errorf("no %q in the log:\n%s", tt.logWant, s.log)
			}
		})
	}
}

// An account stays with the user of the provider who made it, whoever proves the
// address later.
func TestTaken(t *testing.T) {
	s := newSite(t)
	_, password := s.browser().enrol()
	s.provider.Change(func(p *oauthtest.Server) { p.Claims = map[string]any{"sub": "somebody else"} })
	b := s.browser()
	b.get(b.consent())
	a := b.get("/account")
	if a.status != http.StatusForbidden || !strings.Contains(a.body, "This address is taken") {
		t.Errorf("%d %s", a.status, a.body)
	}
	// Not even with the form of a page that was shown.
	cookies := b.client.Jar.Cookies(must(url.Parse(s.url)))
	if a := b.post("/password", url.Values{"token": {s.page.token(cookies[0].Value)}}); a.status != http.StatusForbidden {
		t.Errorf("and by its form: %d", a.status)
	}
	if !s.opens("jane@example.org", password) {
		t.Error("the password was replaced")
	}
	if !strings.Contains(s.log.String(), `command="pop3gw enrol remove jane@example.org"`) {
		t.Errorf("log:\n%s", s.log)
	}
}

// A grant for the client that the gateway was until a reload is of no use any more.
func TestReloadBehindTheProvider(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	back := b.consent()
	o := s.provider.Options()
	o.ClientID = "another"
	s.terms.Providers = []Provider{{must(oauth.New("test", o, nil)), "Test"}}
	if a := b.get(back); a.status != http.StatusForbidden || !strings.Contains(a.body, "took too long") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := b.get("/account"); a.status != http.StatusForbidden {
		t.Errorf("and then /account: %d", a.status)
	}
}

// Two who prove the same address at the same moment: the account is the first one's.
func TestTakenMeanwhile(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.get(b.consent())
	form := url.Values{"token": {b.token(b.get("/account"))}}
	s.kept.mu.Lock()
	s.kept.late = Account{Name: "jane@example.org", Issuer: s.provider.URL, Subject: "somebody else"}
	s.kept.mu.Unlock()
	a := b.post("/password", form)
	if a.status != http.StatusForbidden || !strings.Contains(a.body, "This address is taken") || shownPassword.MatchString(a.body) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if s.kept.grants["jane@example.org"] != nil {
		t.Error("the grant was replaced")
	}
}

// A form or an answer of the provider counts only in the browser it was meant for,
// once, and when it comes from the page itself.
func TestForgery(t *testing.T) {
	s := newSite(t)
	b, other := s.browser(), s.browser()
	token := b.token(b.get("/"))
	start := url.Values{"token": {token}, "provider": {"test"}}
	for _, tt := range []struct {
		about  string
		a      answer
		status int
	}{
		{"another browser's token", other.post("/start", start), http.StatusForbidden},
		{"no token", b.post("/start", url.Values{"provider": {"test"}}), http.StatusForbidden},
		{"another site's form", b.post("/start", start, "Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		{"another site's form in an old browser", b.post("/start", start, "Sec-Fetch-Site", "", "Origin", "https://evil.example"), http.StatusForbidden},
		{"no such provider", b.post("/start", url.Values{"token": {token}, "provider": {"https://evil.example"}}), http.StatusBadRequest},
		{"by GET", b.get("/start"), http.StatusNotFound},
		{"no visit", b.get("/account"), http.StatusForbidden},
		{"a form beyond all measure", b.post("/start", url.Values{"x": {strings.Repeat("x", 10_000)}, "token": {token}, "provider": {"test"}}), http.StatusForbidden},
		{"a callback out of nowhere", b.get("/callback?state=x&code=y"), http.StatusForbidden},
		{"nothing there", b.get("/nothing"), http.StatusNotFound},
		{"a path that is another host's in other words", b.get("//evil.example/"), http.StatusTemporaryRedirect},
	} {
		if tt.a.status != tt.status && tt.a.status != http.StatusMethodNotAllowed || tt.a.location != "" && (!strings.HasPrefix(tt.a.location, "/") || strings.HasPrefix(tt.a.location, "//")) {
			t.Errorf("%s: %d to %q, want %d", tt.about, tt.a.status, tt.a.location, tt.status)
		}
	}

	back := b.consent()
	if a := other.get(back); a.status != http.StatusForbidden {
		t.Errorf("the answer in another browser: %d", a.status)
	}
	wrong := strings.Replace(back, "state=", "state=x", 1)
	if a := b.get(wrong); a.status != http.StatusForbidden {
		t.Errorf("another state: %d", a.status)
	}
	planted := b.client.Jar.Cookies(must(url.Parse(s.url)))[0].Value
	if a := b.get(back); a.location != "/account" {
		t.Errorf("the right one behind it: %+v", a)
	}
	if now := b.client.Jar.Cookies(must(url.Parse(s.url)))[0].Value; now == planted {
		t.Error("the cookie is the same behind the provider")
	}
	if a := b.get(back); a.status != http.StatusForbidden {
		t.Errorf("and once more: %d", a.status)
	}
	if s.provider.Count("authorization_code") != 1 {
		t.Errorf("%d codes were sent to the provider, want 1", s.provider.Count("authorization_code"))
	}
	if len(s.kept.accounts) != 0 {
		t.Errorf("accounts %v", s.kept.accounts)
	}
}

// What goes to the provider is what RFC 6749, RFC 7636 and OpenID Connect want.
func TestRequestOfConsent(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	seen := make(map[string]bool)
	for range 2 {
		address := b.start()
		q := must(url.Parse(address)).Query()
		if !strings.HasPrefix(address, s.provider.URL+"/authorize?") || q.Get("redirect_uri") != s.url+"/callback" || q.Get("code_challenge_method") != "S256" || !strings.Contains(q.Get("scope"), "openid") {
			t.Errorf("%s", address)
		}
		for _, key := range []string{"state", "nonce", "code_challenge"} {
			if v := q.Get(key); len(v) < 22 || seen[v] {
				t.Errorf("%s is %q", key, v)
			} else {
				seen[v] = true
			}
		}
	}
}

func TestHeaders(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	last, _ := b.enrol()
	leave := b.post("/start", url.Values{"token": {b.token(b.get("/"))}, "provider": {"test"}})
	for name, a := range map[string]answer{"first": b.get("/"), "leave": leave, "last": last, "error": b.get("/account"), "missing": b.get("/nothing")} {
		for header, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"X-Frame-Options":         "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"Content-Type": "text/html; charset=utf-8",
		} {
			if got := a.header.Get(header); got != want {
				t.Errorf("%s page: %s is %q, want %q", name, header, got, want)
			}
		}
		if strings.Contains(a.body, "<script") || strings.Contains(a.body, "style=") {
			t.Errorf("%s page has a script or a style in it", name)
		}
	}
	cookie := s.browser().get("/").header.Get("Set-Cookie")
	if !regexp.MustCompile(`^__Host-pop3gw=[A-Z2-7]{26}; Path=/; Max-Age=900; HttpOnly; Secure; SameSite=Lax$`).MatchString(cookie) {
		t.Errorf("cookie %q", cookie)
	}
	if a := b.get("/style.css"); a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/css") {
		t.Errorf("style: %d %s", a.status, a.header.Get("Content-Type"))
	}
	r := must(http.NewRequest(http.MethodGet, s.url, nil))
	r.Host = "evil.example"
	if a := b.do(r); a.status != http.StatusMisdirectedRequest || strings.Contains(a.body, "form") {
		t.Errorf("by another name: %d %s", a.status, a.body)
	}
}

func TestStoreFails(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.get(b.consent())
	token := b.token(b.get("/account"))
	s.kept.mu.Lock()
	s.kept.fail = errors.New("disk full")
	s.kept.mu.Unlock()
	a := b.post("/password", url.Values{"token": {token}})
	if a.status != http.StatusInternalServerError || shownPassword.MatchString(a.body) || strings.Contains(a.body, "disk") || !strings.Contains(s.log.String(), "disk full") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestLimits(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	form := url.Values{"token": {b.token(b.get("/"))}, "provider": {"none"}}
	refused := 0
	for range burst + 5 {
		if a := b.post("/start", form); a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "" {
			refused++
		}
	}
	if refused != 5 {
		t.Errorf("%d of %d attempts were refused, want 5", refused, burst+5)
	}
	if a := b.get("/"); a.status != http.StatusOK {
		t.Errorf("the page itself: %d", a.status)
	}

	var all visits
	for range maxVisits {
		if _, ok := all.begin("", new(visit)); !ok {
			t.Fatal("refused too soon")
		}
	}
	if _, ok := all.begin("", new(visit)); ok || len(all.all) != maxVisits {
		t.Errorf("%d visits go on, at most %d are allowed", len(all.all), maxVisits)
	}
	for _, v := range all.all {
		v.ends = time.Now().Add(-time.Second)
	}
	cookie, ok := all.begin("", new(visit))
	if !ok || len(all.all) != 1 || all.find(cookie) == nil {
		t.Errorf("once they have ended: %v, %d go on", ok, len(all.all))
	}
	all.all[cookie].ends = time.Now().Add(-time.Second)
	if all.find(cookie) != nil || all.take(cookie) != nil {
		t.Error("a visit that has ended is found")
	}
}

func TestBlocks(t *testing.T) {
	for _, tt := range []struct{ a, b string }{
		{"192.0.2.1:1", "192.0.2.1:2"}, {"[2001:db8::1]:1", "[2001:db8::2:3]:1"}, {"[::ffff:192.0.2.1]:1", "192.0.2.1:1"},
	} {
		if blockOf(tt.a) != blockOf(tt.b) {
			t.Errorf("%s and %s are two", tt.a, tt.b)
		}
	}
	if blockOf("192.0.2.1:1") == blockOf("192.0.2.2:1") || blockOf("[2001:db8::1]:1") == blockOf("[2001:db8:0:1::1]:1") {
		t.Error("different addresses are one")
	}
}

func TestOptions(t *testing.T) {
	for _, address := range []string{"", "http://pop.example.org", "pop.example.org", "https://", "https://u@pop.example.org", "https://pop.example.org/x", "https://pop.example.org?x", "https://pop.example.org/#x", ":"} {
		if got, err := CheckURL(address); err == nil {
			t.Errorf("%q is taken, as %q", address, got)
		}
	}
	for address, want := range map[string]string{"https://Pop.example.org/": "https://pop.example.org", "https://[::1]:8443": "https://[::1]:8443"} {
		if got, err := CheckURL(address); got != want || err != nil {
			t.Errorf("%q: %q, %v", address, got, err)
		}
	}
	for domain, good := range map[string]bool{"example.org": true, "*": true, "": false, "@example.org": false, "*.example.org": false, "example": false, "a b.c": false} {
		if err := CheckDomain(domain); (err == nil) != good {
			t.Errorf("%q: %v", domain, err)
		}
	}
	if _, err := New(Options{URL: "https://pop.example.org", Terms: func() Terms { return Terms{} }}); err == nil || !strings.Contains(err.Error(), "no domain") || !strings.Contains(err.Error(), "no provider") {
		t.Errorf("without anything: %v", err)
	}
	if !(Terms{Domains: []string{"*"}}).allows("a@b.example") {
		t.Error(`"*" does not allow any`)
	}
}

func FuzzLoginName(f *testing.F) {
	f.Add("Jane.Doe@Example.org")
	f.Add("a@b@c")
	f.Add("\"a b\"@example.org")
	f.Fuzz(func(t *testing.T, address string) {
		name, err := loginName(address)
		if err != nil {
			return
		}
		again, err := loginName(name)
		if err != nil || again != name || !strings.EqualFold(name, address) || strings.Count(name, "@") != 1 || strings.ContainsAny(name, " \"<>\r\n\x00\\,") {
			t.Fatalf("%q gives %q, %v", address, name, err)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
