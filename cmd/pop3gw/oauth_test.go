package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/oauth"
	"pop3gw/gateway/oauth/oauthtest"
)

const oauthConfig = `
[[listeners]]
address = "127.0.0.1:0"
[adapters.office]
type = "imap"
address = "127.0.0.1:1"
tls = "none"
[[users]]
name = "jane"
password = "{PLAIN}x"
adapter = "office"
oauth = "idp"
upstream_user = "jane@example.org"
[[users]]
name = "sales"
password = "{PLAIN}x"
adapter = "office"
oauth = "idp"
oauth_user = "jane"
upstream_user = "sales@example.org"
[[users]]
name = "robot"
password = "{PLAIN}x"
adapter = "office"
oauth = "app"
[[users]]
name = "plain"
adapter = "office"
[[routes]]
users = "*@example.org"
adapter = "office"
oauth = "idp"
passwd_file = "users"
[oauth.idp]
client_id = "pop3gw-client"
client_secret_file = "secret"
scopes = ["https://mail.example.org/imap", "offline_access", "openid", "email"]
auth_url = "$IDP/authorize"
token_url = "$IDP/token"
device_url = "$IDP/device"
revoke_url = "$IDP/revoke"
issuer = "$IDP"
keys_url = "$IDP/keys"
[oauth.app]
client_id = "pop3gw-client"
client_secret_file = "secret"
grant = "client_credentials"
scopes = ["https://mail.example.org/imap"]
token_url = "$IDP/token"
[state]
url = "file://$DIR/state"
`

// oauthFolder has a configuration of users of a provider that runs.
func oauthFolder(t *testing.T) (dir string, server *oauthtest.Server) {
	t.Helper()
	server = oauthtest.Start(t)
	server.Interval = 1
	dir = t.TempDir()
	write(t, dir, "secret", server.ClientSecret+"\n")
	write(t, dir, "users", "bob@example.org:{PLAIN}x\n")
	write(t, dir, "config.toml", strings.NewReplacer("$IDP", server.URL, "$DIR", dir).Replace(oauthConfig))
	return dir, server
}

// talk runs a command line that is talked to. done gets its exit code.
func talk(t *testing.T, args ...string) (in io.WriteCloser, out *syncBuffer, done chan int) {
	t.Helper()
	read, in := io.Pipe()
	out, done = newSyncBuffer(), make(chan int, 1)
	root := newRootCommand()
	root.SetIn(read)
	root.SetOut(out)
	root.SetErr(out)
	root.SetArgs(args)
	go func() { done <- run(root) }()
	t.Cleanup(func() { in.Close() })
	return in, out, done
}

func wantCode(t *testing.T, done chan int, out *syncBuffer, want int) {
	t.Helper()
	select {
	case code := <-done:
		if code != want {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not end; it wrote:\n%s", out)
	}
}

func TestOAuthLogin(t *testing.T) {
	dir, server := oauthFolder(t)
	config := dir + "/config.toml"
	authorisedBy := func() string {
		out, _, _ := pop3gw(t, "", "oauth", "list", "--config", config)
		m := regexp.MustCompile(`ok +jane +idp +authorised by (\S+) at`).FindStringSubmatch(out)
		if m == nil {
			return out
		}
		return m[1]
	}

	// By a code, which is the way where there are both.
	_, out, done := talk(t, "oauth", "login", "--config", config, "jane")
	code := out.find(t, `enter the code\n\n    (\S+)\n`)[1]
	if err := server.Type(code, "jane@example.org", true); err != nil {
		t.Fatal(err)
	}
	wantCode(t, done, out, 0)
	out.find(t, `Authorised by jane@example.org. Try it: pop3gw check --user jane`)
	if got := authorisedBy(); got != "jane@example.org" {
		t.Errorf("listed: %s", got)
	}
	info, err := os.Stat(filepath.Join(dir, "state", "key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is %v, %v", info, err)
	}

	// By a browser on this machine, as somebody else with access to the mailbox.
	server.Change(func(s *oauthtest.Server) { s.Claims = map[string]any{"email": "boss@example.org"} })
	_, out, done = talk(t, "oauth", "login", "--browser", "--config", config, "sales")
	back := server.Browse(t, out.find(t, `open\n\n    (\S+)\n`)[1])
	response, err := http.Get(back.String())
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if !strings.Contains(string(text), "can be closed") {
		t.Errorf("the browser shows %q", text)
	}
	wantCode(t, done, out, 0)
	out.find(t, `Authorised by boss@example.org, who must have access to the mailbox of jane@example.org.`)
	if got := authorisedBy(); got != "boss@example.org" {
		t.Errorf("listed: %s", got)
	}

	// By a browser elsewhere: the address is pasted.
	server.Change(func(s *oauthtest.Server) { s.Claims = nil })
	in, out, done := talk(t, "oauth", "login", "--browser", "--config", config, "jane")
	back = server.Browse(t, out.find(t, `open\n\n    (\S+)\n`)[1])
	io.WriteString(in, "\nwhat?\n")
	out.find(t, `That did not do: this is not the address that the browser came to; it begins with http://127.0.0.1:\d+ and holds code=`)
	io.WriteString(in, "http://127.0.0.1/?state=x&code=y\n")
	out.find(t, `belongs to another login`)
	io.WriteString(in, "  "+back.String()+"\r\n")
	wantCode(t, done, out, 0)

	// Refused, and never.
	server.Change(func(s *oauthtest.Server) { s.Refuse = true })
	in, out, done = talk(t, "oauth", "login", "--browser", "--config", config, "bob@example.org")
	io.WriteString(in, server.Browse(t, out.find(t, `open\n\n    (\S+)\n`)[1]).String()+"\n")
	wantCode(t, done, out, 1)
	out.find(t, `"access_denied" "the user said no"; the consent was refused: begin again, and agree to it`)
	for _, secret := range server.Secrets() {
		if strings.Contains(out.String(), secret) {
			t.Errorf("a secret is shown: %s", out)
		}
	}
}

func TestOAuthMistakes(t *testing.T) {
	dir, _ := oauthFolder(t)
	config := dir + "/config.toml"
	stateless := write(t, dir, "stateless.toml", "[[listeners]]\naddress = \":0\"\n[adapters.a]\ntype = \"imap\"\naddress = \"x\"\n[[users]]\nname = \"a\"\nadapter = \"a\"\n")
	for _, tt := range []struct {
		args   []string
		code   int
		stderr string
	}{
		{[]string{"login"}, 2, "'pop3gw oauth login' takes one NAME; see 'pop3gw oauth login --help'"},
		{[]string{"login", "a", "b"}, 2, "takes one NAME"},
		{[]string{"login", "--device", "--browser", "jane"}, 2, "choose one"},
		{[]string{"login", "-c", config, "nobody"}, 1, `"nobody" is not a user and fits no route; NAME is a login name, or an oauth_user of one`},
		{[]string{"login", "-c", config, "plain"}, 1, `user "plain" does not log in with a token: add oauth = "PROVIDER" to it in ` + config},
		{[]string{"login", "-c", config, "robot"}, 1, `user "robot" needs nobody's consent: [oauth.app] has grant = "client_credentials"`},
		{[]string{"login", "-c", stateless, "a"}, 2, "state.url: missing"},
		{[]string{"revoke", "-c", config, "jane"}, 1, `nothing was authorised under the name "jane"; see 'pop3gw oauth list'`},
		{[]string{"revoke", "--local", "-c", config, "jane"}, 1, `nothing was authorised under the name "jane"`},
		{[]string{"list", "x"}, 2, "takes no arguments"},
	} {
		_, stderr, code := pop3gw(t, "", append([]string{"oauth"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.stderr) {
			t.Errorf("%v: exit code %d, %s", tt.args, code, stderr)
		}
	}
	out, stderr, code := pop3gw(t, "", "oauth", "list", "-c", config)
	if code != 1 || !strings.Contains(stderr, "1 of the authorisations are of no use") ||
		!regexp.MustCompile(`FAIL +jane +idp +it was never authorised; run "pop3gw oauth login jane"`).MatchString(out) {
		t.Errorf("exit code %d, %s%s", code, out, stderr)
	}
}

// authorise has a user authorise the gateway without the command.
func authorise(t *testing.T, s *service, server *oauthtest.Server, name string) *oauth.Grant {
	t.Helper()
	flow := s.accounts.current.providers["idp"].StartCode("http://127.0.0.1:1/", "")
	grant, err := flow.Finish(t.Context(), server.Browse(t, flow.URL).Query())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keeper.Put(t.Context(), name, grant); err != nil {
		t.Fatal(err)
	}
	return grant
}

// buildOAuth is the service of a configuration, with its state.
func buildOAuth(t *testing.T, dir string, log *syncBuffer) *service {
	t.Helper()
	c, err := loadConfig(dir + "/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	c.Log.Level = "debug"
	logger := newLogger(log, c.Log)
	kept, err := c.openStores(logger)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.build(kept, logger)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The commands and the gateway share what was authorised while both run. A wrong
// password of a client changes nothing of it.
func TestOAuthWhileServing(t *testing.T) {
	dir, server := oauthFolder(t)
	log := newSyncBuffer()
	s := buildOAuth(t, dir, log)
	defer s.close()
	token := func(user string) (string, error) {
		t.Helper()
		a, err := s.accounts.Login(t.Context(), credentials(user, "x"))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Held.Close()
		return a.Tokens.Token(t.Context(), "")
	}
	if _, err := token("jane"); gateway.CodeOf(err) != gateway.CodeAuth || !strings.Contains(err.Error(), `run "pop3gw oauth login jane"`) {
		t.Errorf("before the consent: %v", err)
	}
	_, out, done := talk(t, "oauth", "login", "--config", dir+"/config.toml", "jane")
	server.Type(out.find(t, `enter the code\n\n    (\S+)\n`)[1], "jane@example.org", true)
	wantCode(t, done, out, 0)
	for _, user := range []string{"jane", "sales"} { // by one authorisation
		got, err := token(user)
		if err != nil || server.Owner(got) != "jane@example.org" {
			t.Errorf("%s: the token opens the mail of %q, %v", user, server.Owner(got), err)
		}
	}
	for range 20 {
		if _, err := s.accounts.Login(t.Context(), credentials("jane", "wrong")); gateway.CodeOf(err) != gateway.CodeAuth {
			t.Errorf("a wrong password: %v", err)
		}
	}
	if got, err := token("jane"); err != nil || server.Owner(got) != "jane@example.org" {
		t.Errorf("after wrong passwords: %v", err)
	}
	if got, err := token("robot"); err != nil || server.Owner(got) != "*" {
		t.Errorf("an app: %v", err)
	}

	shown, stderr, code := pop3gw(t, "", "oauth", "revoke", "--config", dir+"/config.toml", "sales")
	if code != 0 || shown != "Revoked, and removed.\n" {
		t.Errorf("revoke: exit code %d, %s%s", code, shown, stderr)
	}
	if _, err := token("sales"); gateway.CodeOf(err) != gateway.CodeAuth {
		t.Errorf("after revoking: %v", err)
	}
	if server.Count("/revoke") != 1 {
		t.Error("the provider was not told")
	}
	for _, secret := range server.Secrets() {
		if strings.Contains(log.String(), secret) {
			t.Errorf("a secret is in the log: %s", log)
		}
	}
}

func TestOAuthListAndRevoke(t *testing.T) {
	dir, server := oauthFolder(t)
	config := dir + "/config.toml"
	s := buildOAuth(t, dir, newSyncBuffer())
	defer s.close()
	jane := authorise(t, s, server, "jane")
	authorise(t, s, server, "bob@example.org")
	authorise(t, s, server, "gone")
	list := func(want ...string) {
		t.Helper()
		out, _, _ := pop3gw(t, "", "oauth", "list", "--config", config)
		for _, w := range want {
			if !regexp.MustCompile(`(?m)^` + w).MatchString(out) {
				t.Errorf("no line %q in\n%s", w, out)
			}
		}
	}
	list(`ok +jane +idp +authorised by jane@example.org at 20\d\d-\d\d-\d\d, token good until`, `ok +bob@example.org +idp +authorised by`,
		`warn +gone +idp +no user of this name; remove it with "pop3gw oauth revoke"`)
	jane.Refused, jane.Reason = time.Now(), `it answered "invalid_grant"`
	if err := s.keeper.Put(t.Context(), "jane", jane); err != nil {
		t.Fatal(err)
	}
	list(`FAIL +jane +idp +the provider ended it, found out at \S+ \S+: it answered "invalid_grant"; run "pop3gw oauth login jane"`)

	server.Change(func(s *oauthtest.Server) {
		s.Fail = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	})
	_, stderr, code := pop3gw(t, "", "oauth", "revoke", "--config", config, "gone")
	if code != 1 || !strings.Contains(stderr, "503") || !strings.Contains(stderr, `"pop3gw oauth revoke --local" removes it here alone`) {
		t.Errorf("a provider that is down: exit code %d, %s", code, stderr)
	}
	out, _, code := pop3gw(t, "", "oauth", "revoke", "--local", "--config", config, "gone")
	if code != 0 || !strings.Contains(out, "At the provider the authorisation goes on") {
		t.Errorf("exit code %d, %s", code, out)
	}

	// With the key of another state.
	if err := os.Remove(dir + "/state/key"); err != nil {
		t.Fatal(err)
	}
	list(`FAIL +jane +idp +there is no key file: ` + regexp.QuoteMeta(dir) + `/state/key is missing, and 2 authorisations were stored with it; put it back`)
	if _, err := oauth.MakeKey(dir + "/state/key"); err != nil {
		t.Fatal(err)
	}
	list(`FAIL +jane +idp +the authorisation of "jane" cannot be read: it was stored with another key than that in ` + regexp.QuoteMeta(dir) + `/state/key; run "pop3gw oauth login jane"`)
}

// check has a row for each provider and each authorisation.
func TestCheckOAuth(t *testing.T) {
	dir, server := oauthFolder(t)
	rows := func(want ...string) {
		t.Helper()
		out, stderr, _ := pop3gw(t, "", "check", "--config", dir+"/config.toml")
		for _, w := range want {
			if !regexp.MustCompile(`(?m)^` + w).MatchString(out) {
				t.Errorf("no line %q in\n%s%s", w, out, stderr)
			}
		}
	}
	rows(`ok +oauth idp +reached, and knows the gateway`, `ok +oauth app +reached, and knows the gateway`,
		`FAIL +oauth of jane +it was never authorised; run "pop3gw oauth login jane"`)
	if _, err := os.Stat(dir + "/state"); err == nil {
		t.Error("check has made the state")
	}
	s := buildOAuth(t, dir, newSyncBuffer())
	defer s.close()
	authorise(t, s, server, "jane")
	rows(`ok +oauth of jane +authorised by jane@example.org`)
	if n := server.Count("refresh_token"); n != 0 {
		t.Errorf("check has refreshed %d tokens", n)
	}
	if err := os.Chmod(dir+"/state/key", 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "secret", "wrong\n")
	server.Change(func(s *oauthtest.Server) { s.ClientID = "else" })
	rows(`FAIL +oauth idp +.*"invalid_client".*mend client_id, client_secret or client_auth in \[oauth.idp\]`, `FAIL +oauth app +.*invalid_client`,
		`warn +oauth +\S+: state.key_file: others than its owner may read \S+/state/key; chmod 600 it`)
}

// The configuration of compose.oauth.yaml, and those of docs/oauth.md, can be used.
func TestConfigurationsWithOAuth(t *testing.T) {
	compose, err := os.ReadFile("../../packaging/docker/oauth.toml")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/oauth.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeTestCertificate(t, dir)
	hash, _, _ := pop3gw(t, "secret", "passwd")
	file := write(t, dir, "secret", "s3cret\n")
	robot := write(t, dir, "robot.json", string(oauthtest.New().ServiceAccount()))
	users := write(t, dir, "users", "")
	names := strings.NewReplacer("$argon2id$...", strings.TrimSpace(hash), "/etc/pop3gw/tls/", dir+"/", "/run/secrets/users", users,
		"/etc/pop3gw/secrets/robot.json", robot, "/etc/pop3gw/secrets/microsoft", file, "/etc/pop3gw/secrets/company", file, "/etc/pop3gw/users", users)
	const listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n"
	const adapter = "[adapters.microsoft]\ntype = \"imap\"\naddress = \"x\"\n"
	const provider = "[oauth.microsoft]\nclient_id = \"x\"\n"
	const state = "[state]\nurl = \"file:///tmp/state\"\n"
	const user = "[[users]]\nname = \"a\"\nadapter = \"microsoft\"\n"
	texts := []string{string(compose)}
	for _, b := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(docs), -1) {
		text := listener + b[1]
		for part, marks := range map[string][]string{adapter: {"[adapters."}, provider: {"[oauth."}, state: {"[state]"}, user: {"[[users]]", "[[routes]]"}} {
			if !strings.Contains(b[1], marks[0]) && !strings.Contains(b[1], marks[len(marks)-1]) {
				text += part
			}
		}
		texts = append(texts, text)
	}
	if len(texts) < 6 {
		t.Fatalf("only %d configurations", len(texts))
	}
	for i, text := range texts {
		if err := buildFile(write(t, dir, "config.toml", names.Replace(text))); err != nil {
			t.Errorf("configuration %d: %v", i, err)
		}
	}
}

// What is kept alive is what users log in with, and nothing else.
func TestProviderOfGrant(t *testing.T) {
	dir, _ := oauthFolder(t)
	s := buildOAuth(t, dir, newSyncBuffer())
	defer s.close()
	for name, want := range map[string]string{"jane": "idp", "bob@example.org": "idp", "sales": "", "robot": "app", "plain": "", "nobody": "", "eve@example.org": ""} {
		got := ""
		if p := s.accounts.current.providerOf(name); p != nil {
			got = p.Name()
		}
		if got != want {
			t.Errorf("%s: the provider is %q, want %q", name, got, want)
		}
	}
}

// Two gateways over one state refresh an authorisation once, however many of their
// sessions want the token.
func TestOneRefreshOfTwoGateways(t *testing.T) {
	dir, server := oauthFolder(t)
	log := newSyncBuffer()
	first, second := buildOAuth(t, dir, log), buildOAuth(t, dir, log)
	defer first.close()
	defer second.close()
	grant := authorise(t, first, server, "jane")
	grant.Expiry = time.Now()
	if err := first.keeper.Put(t.Context(), "jane", grant); err != nil {
		t.Fatal(err)
	}
	var sessions sync.WaitGroup
	for _, s := range []*service{first, second} {
		for range 300 {
			sessions.Go(func() {
				a, err := s.accounts.Login(t.Context(), credentials("sales", "x"))
				if err != nil {
					t.Error(err)
					return
				}
				defer a.Held.Close()
				token, err := a.Tokens.Token(t.Context(), "")
				if err != nil || server.Owner(token) != "jane@example.org" {
					t.Errorf("the token opens the mail of %q, %v", server.Owner(token), err)
				}
			})
		}
	}
	sessions.Wait()
	if n := server.Count("refresh_token"); n != 1 {
		t.Errorf("%d refreshes", n)
	}
}
