package main

import (
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pop3gw/gateway/enrol"
	"pop3gw/gateway/oauth/oauthtest"
	"pop3gw/gateway/state"
)

// enrolService is what a configuration with a page makes, over a provider that runs.
func enrolService(t *testing.T) (*service, *enrol.Page, *oauthtest.Server) {
	t.Helper()
	configFolder(t)
	folder := mkdir(t, filepath.Join(t.TempDir(), "state"))
	provider := oauthtest.Start(t)
	rewrite(t, ".", "", strings.Replace(enrolTables, "{state}", folder, 1)+"[log]\nlevel = \"debug\"\n", `[oauth.google]
client_id = "x"
`, strings.NewReplacer("$IDP", provider.URL, "$CLIENT", provider.ClientID, "$SECRET", provider.ClientSecret).Replace(`[oauth.google]
client_id = "$CLIENT"
client_secret = "$SECRET"
scopes = ["https://mail.example.org/imap", "offline_access", "openid", "email"]
auth_url = "$IDP/authorize"
token_url = "$IDP/token"
issuer = "$IDP"
keys_url = "$IDP/keys"
`))
	c, err := loadConfig("config.toml")
	must(t, err)
	durable, err := state.Open(folder, slog.New(slog.DiscardHandler))
	must(t, err)
	s, err := c.build(stores{durable: durable}, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { s.close() })
	page, err := c.enrolPage(s, s.log)
	must(t, err)
	return s, page, provider
}

// enrolAt goes the way of a user over the page, and returns the last answer and the
// password in it.
func enrolAt(t *testing.T, page *enrol.Page, provider *oauthtest.Server) (body, password string) {
	t.Helper()
	cookie := ""
	find := func(pattern, text string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s in\n%s", pattern, text)
		}
		return html.UnescapeString(m[1])
	}
	do := func(method, address string, form url.Values) string {
		t.Helper()
		r := httptest.NewRequest(method, address, strings.NewReader(form.Encode()))
		r.Host = "pop.example.org:8443"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		if set := w.Header().Get("Set-Cookie"); set != "" {
			cookie, _, _ = strings.Cut(set, ";")
		}
		return w.Body.String()
	}
	const token = `name="token" value="(\w+)"`
	first := do(http.MethodGet, "/", nil)
	leave := do(http.MethodPost, "/start", url.Values{"token": {find(token, first)}, "provider": {"google"}})
	back := provider.Browse(t, find(`content="0; url=([^"]+)"`, leave))
	do(http.MethodGet, back.RequestURI(), nil)
	body = do(http.MethodPost, "/password", url.Values{"token": {find(token, do(http.MethodGet, "/account", nil))}})
	return body, find(`<code class="password">([a-z2-9-]+)</code>`, body)
}

// After a reload the page is as the configuration says by then: whoever enrols has a
// token for the client that the gateway is now.
func TestEnrolAfterReload(t *testing.T) {
	s, page, provider := enrolService(t)
	check := func(ports string) {
		t.Helper()
		body, password := enrolAt(t, page, provider)
		if !strings.Contains(body, ports) {
			t.Errorf("no %q on the page:\n%s", ports, body)
		}
		found, err := s.accounts.Login(t.Context(), credentials("jane@example.org", password))
		must(t, err)
		defer found.Held.Close()
		token, err := found.Tokens.Token(t.Context(), "")
		if err != nil || provider.Owner(token) != "jane@example.org" {
			t.Errorf("the token opens the mail of %q, %v", provider.Owner(token), err)
		}
	}
	check("with STARTTLS")
	provider.Change(func(p *oauthtest.Server) { p.ClientID = "another" })
	rewrite(t, ".", `client_id = "pop3gw-client"`, `client_id = "another"`, `tls = "stls"`, `tls = "none"`,
		"[tls]", "[[listeners]]\naddress = \"127.0.0.2:7110\"\n[tls]")
	must(t, s.tryReload())
	check("with no encryption")
	if body, _ := enrolAt(t, page, provider); strings.Contains(body, "7110") {
		t.Errorf("a listener that is not open yet is on the page:\n%s", body)
	}
	rewrite(t, ".", `domains = ["example.org"]`, `domains = ["example.net"]`)
	must(t, s.tryReload())
	provider.Change(func(p *oauthtest.Server) { p.User = "jane@example.net" })
	enrolAt(t, page, provider)
	rewrite(t, ".", `"openid", `, "")
	if err := s.tryReload(); err == nil || !strings.Contains(err.Error(), "does not tell who has consented") {
		t.Errorf("a provider that is of no use for the page: %v", err)
	}
}

// What becomes of the mail of those who enrol is what the adapter says.
func TestEnrolledPolicy(t *testing.T) {
	s, page, provider := enrolService(t)
	rewrite(t, ".", `connect_timeout = "30s"`, "on_delete = \"move\"\nexpire_after = \"30d\"",
		"name = \"two\"\nadapter = \"office\"", "name = \"two\"\nadapter = \"files\"\npassword = \"{PLAIN}2\"",
		"users = \"*\"\nadapter = \"office\"", "users = \"*\"\nadapter = \"files\"\npasswd_file = \"users\"")
	must(t, s.tryReload())
	_, password := enrolAt(t, page, provider)
	found, err := s.accounts.Login(t.Context(), credentials("jane@example.org", password))
	must(t, err)
	defer found.Held.Close()
	want := s.config.adapters["office"].IMAP.Policy
	if found.Policy.OnDelete != want.OnDelete || found.Policy.ExpireAfter != want.ExpireAfter || want.OnDelete != "move" {
		t.Errorf("the policy is %+v, want %+v", found.Policy, want)
	}
	if least, varies := s.accounts.Expiry(); least != want.ExpireAfter || !varies {
		t.Errorf("mail expires after %v, which varies: %v; want %v, true", least, varies, want.ExpireAfter)
	}
}
