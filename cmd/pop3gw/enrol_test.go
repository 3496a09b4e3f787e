package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/enrol"
	"pop3gw/gateway/oauth"
	"pop3gw/gateway/state"
)

// enrolTables make goodConfig one with a page; {state} is a folder.
const enrolTables = `[oauth.google]
client_id = "x"
[oauth.robot]
preset = "microsoft"
client_id = "x"
client_secret = "y"
tenant = "example.org"
grant = "client_credentials"
[enrol]
address = "127.0.0.1:0"
public_url = "https://pop.example.org:8443"
domains = ["example.org"]
[[enrol.providers]]
oauth = "google"
adapter = "office"
[state]
url = "file://{state}"
`

func TestWrongEnrolment(t *testing.T) {
	configFolder(t)
	good := goodConfig + strings.Replace(enrolTables, "{state}", filepath.Join(t.TempDir(), "state"), 1)
	line := strings.Count(goodConfig, "\n")
	at := func(n int, text string) string { return "config.toml:" + strconv.Itoa(line+n) + ": " + text }
	for _, tt := range []struct{ name, old, new, want string }{
		{"as it should be", "domains", "domains", ""},
		{"no address", "address = \"127.0.0.1:0\"\npublic_url", "public_url", at(9, `enrol.address: missing; such as "0.0.0.0:110"`)},
		{"no port", "address = \"127.0.0.1:0\"\npublic_url", "address = \"127.0.0.1\"\npublic_url", at(10, `enrol.address: found "127.0.0.1"; wanted is an address and a port, such as "0.0.0.0:110", or "[::]:110"`)},
		{"no URL", "public_url = \"https://pop.example.org:8443\"\n", "", at(9, `enrol.public_url: missing; such as "https://pop.example.org:8443"`)},
		{"clear text", "https://pop", "http://pop", at(11, `enrol.public_url: found "http://pop.example.org:8443"; wanted is "https://", a host and perhaps a port, such as "https://pop.example.org:8443"`)},
		{"no domain", "domains = [\"example.org\"]\n", "", at(9, `enrol.domains: missing; such as ["example.org"], or ["*"] for any`)},
		{"an address for a domain", `["example.org"]`, `["@example.org"]`, at(12, `enrol.domains: found "@example.org"; wanted is a domain without "@", such as "example.org", or "*" for any`)},
		{"no provider", "[[enrol.providers]]\noauth = \"google\"\nadapter = \"office\"\n", "", at(9, `enrol.providers: there is none; add a [[enrol.providers]] table with oauth and adapter`)},
		{"a provider without a name", "oauth = \"google\"\n", "", at(13, `enrol.providers.oauth: missing; such as "microsoft"`)},
		{"another provider", `oauth = "google"`, `oauth = "yahoo"`, at(14, `enrol.providers.oauth: found "yahoo"; [oauth] has: google, robot`)},
		{"no consent", `oauth = "google"`, `oauth = "robot"`, at(14, `enrol.providers.oauth: found "robot", which has grant = "client_credentials"; users can only consent where that is "user"`)},
		{"a provider twice", "[state]", "[[enrol.providers]]\noauth = \"google\"\nadapter = \"office\"\n[state]", at(17, `enrol.providers.oauth: found "google" a second time; remove one`)},
		{"Maildirs", "adapter = \"office\"\n[state]", "adapter = \"files\"\n[state]", at(15, `enrol.providers.adapter: found "files", which does not log in with a token; wanted is one of type "imap" without master_user`)},
		{"no state", "[state]\n", "[log]\n#", "config.toml: state.url: missing; the accounts that users enrol must be kept somewhere"},
		{"nobody is identified", `client_id = "x"`, "client_id = \"x\"\nscopes = [\"https://mail.google.com/\"]", at(15, `enrol.providers.oauth: found "google", which does not tell who has consented; set auth_url, issuer and keys_url in [oauth.google], and let scopes have "openid" and "email"`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := change(t, good, tt.old, tt.new)
			if tt.name == "no state" {
				text = good[:strings.Index(good, "[state]")]
			}
			write(t, ".", "config.toml", text)
			c, err := loadConfig("config.toml")
			if err == nil {
				var s *service
				if s, err = c.build(stores{}, slog.New(slog.DiscardHandler)); err == nil {
					_, err = c.enrolPage(s, s.log)
				}
			}
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestEnrolPorts(t *testing.T) {
	for _, tt := range []struct {
		listeners []listenerConfig
		want      []enrol.Port
	}{
		{[]listenerConfig{{Address: "0.0.0.0:110", TLS: "stls"}, {Address: "[::]:995", TLS: "implicit"}, {Address: "0.0.0.0:995", TLS: "implicit"}},
			[]enrol.Port{{Number: 995, Security: "SSL/TLS"}, {Number: 110, Security: "STARTTLS"}}},
		{[]listenerConfig{{Address: "127.0.0.1:1110", TLS: "none"}, {Address: ":995", TLS: "implicit"}}, []enrol.Port{{Number: 995, Security: "SSL/TLS"}}},
		{[]listenerConfig{{Address: "127.0.0.1:1995", TLS: "implicit"}}, []enrol.Port{{Number: 1995, Security: "SSL/TLS"}}},
		{[]listenerConfig{{Address: "10.0.0.1:110", TLS: "none", CleartextLogin: "always"}}, []enrol.Port{{Number: 110, Security: "no encryption"}}},
		{[]listenerConfig{{Address: "10.0.0.1:110", TLS: "none", CleartextLogin: "loopback"}}, nil},
	} {
		if got := enrolPorts(tt.listeners); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %+v, want %+v", tt.listeners, got, tt.want)
		}
	}
}

// What the page makes lets its user in, the commands show it, and removing it ends it.
func TestEnrolledAccount(t *testing.T) {
	configFolder(t)
	folder := mkdir(t, filepath.Join(t.TempDir(), "state"))
	write(t, ".", "config.toml", goodConfig+strings.Replace(enrolTables, "{state}", folder, 1))
	if out, stderr, code := pop3gw(t, "", "enrol", "list", "--config", "config.toml"); code != 0 || out != "nobody has enrolled\n" {
		t.Errorf("exit code %d, %q, %q", code, out, stderr)
	}
	c, err := loadConfig("config.toml")
	if err != nil {
		t.Fatal(err)
	}
	durable, err := state.Open(folder, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.build(stores{durable: durable}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	hash, _, _ := pop3gw(t, "hxkwp-7nmr3\n", "passwd", "--scheme", "scram-sha-256")
	a := enrol.Account{Name: "jane@example.org", Upstream: "Jane@example.org", Password: strings.TrimSpace(hash), Provider: "google", Issuer: "i", Subject: "s", Changed: time.Unix(1_800_000_000, 0)}
	made := enrolments{s}
	if err := made.Enrol(t.Context(), a, &oauth.Grant{Provider: "google", Client: "x", Refresh: "refresh-token"}); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := made.Enrolled(t.Context(), a.Name); got != a || !ok || err != nil {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	c.Users = append(c.Users, userConfig{Name: "sales", OAuth: "google", OAuthUser: "Boss@example.org"})
	if !made.Reserved("one") || !made.Reserved("boss@example.org") || made.Reserved(a.Name) {
		t.Error("Reserved is wrong")
	}
	login := func(password string) (gateway.Account, error) {
		return s.accounts.current.directory.Login(context.Background(), credentials(a.Name, password))
	}
	found, err := login("hxkwp-7nmr3")
	if err != nil || found.Name != a.Name || found.AdapterName != "office" || found.Upstream.User != a.Upstream || found.Forwarded || found.Tokens == nil {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := login("wrong"); gateway.CodeOf(err) != gateway.CodeAuth {
		t.Errorf("a wrong password: %v", err)
	}
	if out, stderr, code := pop3gw(t, "", "enrol", "list", "--config", "config.toml"); code != 0 || !strings.HasPrefix(out, "jane@example.org  google  Jane@example.org  20") {
		t.Errorf("exit code %d, %q, %q", code, out, stderr)
	}
	c.Enrol.Providers[0].OAuth = "other"
	if _, err := login("wrong"); gateway.CodeOf(err) != gateway.CodeAuth {
		t.Errorf("its provider is gone, and whoever has no password is told so: %v", err)
	}
	if found, err = login("hxkwp-7nmr3"); err == nil {
		_, err = found.Adapter.Open(t.Context(), found)
	}
	if gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), `"google", which is not among [[enrol.providers]]`) {
		t.Errorf("its provider is gone: %v", err)
	}
	other := a
	other.Subject = "another"
	if err := made.Enrol(t.Context(), other, &oauth.Grant{Provider: "google", Client: "x", Refresh: "another-token"}); err != enrol.ErrTaken {
		t.Errorf("enrolled by another user: %v", err)
	}
	if g, err := s.keeper.Grant(t.Context(), a.Name); err != nil || g.Refresh != "refresh-token" {
		t.Errorf("the grant is another one, or there is %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}

	if out, stderr, code := pop3gw(t, "", "enrol", "remove", "Jane@Example.org", "--config", "config.toml"); !strings.HasPrefix(out, "jane@example.org: the account is removed\n") {
		t.Errorf("exit code %d, %q, %q", code, out, stderr)
	}
	want := "pop3gw: \"bob@example.org\" has not enrolled; \"pop3gw enrol list\" shows who has\n"
	if _, stderr, code := pop3gw(t, "", "enrol", "remove", "bob@example.org", "--config", "config.toml"); code != 1 || stderr != want {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if _, stderr, code := pop3gw(t, "", "enrol", "remove", "--config", "config.toml"); code != 2 || !strings.Contains(stderr, "takes one NAME") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
