//go:build real

package real

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"pop3gw/gateway/oauth/oauthtest"
)

// startTokenDovecot runs Dovecot with a passdb that asks the provider what a token
// is worth (RFC 7662).
func startTokenDovecot(t testing.TB, provider *oauthtest.Server) *dovecot {
	t.Helper()
	return startTokenDovecotWith(t, provider, "oauthbearer xoauth2", "")
}

// startTokenDovecotWith is startTokenDovecot with other mechanisms for tokens, and
// more settings of its passdb.
func startTokenDovecotWith(t testing.TB, provider *oauthtest.Server, mechanisms, settings string) *dovecot {
	t.Helper()
	config := filepath.Join(folder(t), "oauth2.conf")
	write(t, config, fmt.Sprintf(`introspection_url = %s/introspect
introspection_mode = post
username_attribute = username
active_attribute = active
active_value = true
timeout_msecs = 5000
%s
`, provider.URL, settings), 0o644)
	return startDovecotWith(t, fmt.Sprintf(`
auth_mechanisms = plain login %[1]s
passdb {
  driver = oauth2
  mechanisms = %[1]s
  args = %[2]s
}
`, mechanisms, config))
}

// unkept is a store to which no connection is kept, so that each session logs in.
type unkept struct{ *dovecot }

func (u unkept) adapter() string {
	return imapAdapter(u.port, "tls = \"none\"\nkeep_connections = \"0s\"")
}

// command is pop3gw with the gateway's configuration and as its user.
func (g *gateway) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(args, "--config", g.config)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: mailUID, Gid: mailUID}}
	return cmd
}

// authorise has a user authorise the gateway as on a headless host: the browser is
// elsewhere, and its last address is pasted.
func (g *gateway) authorise(t testing.TB, provider *oauthtest.Server, name string) {
	t.Helper()
	g.oauthLogin(t, func(in io.Writer, line string) {
		if strings.HasPrefix(line, provider.URL) {
			fmt.Fprintln(in, provider.Browse(t, line))
		}
	}, "--browser", name)
}

// oauthLogin runs "pop3gw oauth login", and has answer see each line that it shows.
func (g *gateway) oauthLogin(t testing.TB, answer func(in io.Writer, line string), args ...string) {
	t.Helper()
	cmd := g.command(t, append([]string{"oauth", "login"}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	var shown strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		shown.WriteString(line + "\n")
		answer(in, line)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("oauth login %s: %v\n%s", args, err, &shown)
	}
}

// tryLogin logs in and returns the client, or the reply that refused it.
func tryLogin(t testing.TB, addr, user string) (*pop3, error) {
	t.Helper()
	c, err := dialPOP3(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	if _, err := c.command("USER %s", user); err != nil {
		return nil, err
	}
	if _, err := c.command("PASS %s", password); err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

func refusedWith(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the client gets %v, want %q", err, want)
	}
}

// Dovecot takes no password of these users. The gateway reads their mail with
// tokens that Dovecot has the provider check, through their expiry and their end.
func TestOAuth(t *testing.T) {
	provider := oauthtest.Start(t)
	provider.User = "alice"
	provider.Lifetime = 2 * time.Second
	d := startTokenDovecot(t, provider)
	const content = "the content of a message is nobody's business"
	message := func(to string) []byte {
		return []byte("From: a@example.org\r\nTo: " + to + "\r\nSubject: x\r\n\r\n" + content + "\r\n")
	}
	robot := filepath.Join(folder(t), "robot.json")
	write(t, robot, string(provider.ServiceAccount()), 0o644)
	o := provider.Options()
	g := startGateway(t, unkept{d}, fmt.Sprintf(`
[[users]]
name = "scanner"
password = "{PLAIN}%[1]s"
adapter = "office"
oauth = "idp"
upstream_user = "alice"
[[users]]
name = "robot"
password = "{PLAIN}%[1]s"
adapter = "office"
oauth = "robot"
upstream_user = "bob"
[oauth.idp]
client_id = %[2]q
client_secret = %[3]q
scopes = [%[4]q, "offline_access", "openid", "email"]
auth_url = %[5]q
token_url = %[6]q
revoke_url = %[7]q
issuer = %[8]q
keys_url = %[9]q
[oauth.robot]
grant = "service_account"
service_account_file = %[10]q
scopes = [%[4]q]
[log]
level = "debug"
`, password, o.ClientID, o.ClientSecret, oauthtest.MailScope, o.AuthURL, o.TokenURL, o.RevokeURL, o.Issuer, o.KeysURL, robot))
	d.deliver(t, "alice", message("alice"), message("alice"))
	d.deliver(t, "bob", message("bob"))

	_, err := tryLogin(t, g.addr(), "scanner")
	refusedWith(t, err, "[AUTH] the gateway was not authorised to read this mailbox, authorise it")
	g.authorise(t, provider, "scanner")

	// While tokens end every two seconds, and connections are not kept: each
	// session has a token that Dovecot takes.
	deadline := time.Now().Add(30 * time.Second)
	sessions := 0
	for ; provider.Count("refresh_token") < 3; sessions++ {
		c, err := tryLogin(t, g.addr(), "scanner")
		if err != nil {
			t.Fatalf("session %d, after %d refreshes: %v", sessions+1, provider.Count("refresh_token"), err)
		}
		if got := c.retrieve(t, 1); !strings.Contains(string(got), content) {
			t.Fatalf("RETR 1: %q", got)
		}
		if _, err := c.command("QUIT"); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %d refreshes in %d sessions", provider.Count("refresh_token"), sessions)
		}
	}
	if provider.Count("reused") > 0 {
		t.Error("a refresh token was used twice")
	}
	t.Logf("%d sessions, %d refreshes", sessions, provider.Count("refresh_token"))
	provider.Change(func(s *oauthtest.Server) { s.Lifetime = time.Hour })

	// Deletion, and a restart.
	c, err := tryLogin(t, g.addr(), "scanner")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"DELE 2", "QUIT"} {
		if _, err := c.command("%s", command); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
	compare(t, "alice's mail", d.stored(t, "alice"), [][]byte{message("alice")})
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	logs := g.log.String()
	g.start(t)
	if c, err = tryLogin(t, g.addr(), "scanner"); err != nil {
		t.Errorf("after a restart: %v", err)
	} else {
		c.command("QUIT")
	}

	// Without anybody's consent, for the mailbox of one user.
	if c, err = tryLogin(t, g.addr(), "robot"); err != nil {
		t.Errorf("with a service account: %v", err)
	} else {
		if text, err := c.command("STAT"); err != nil || !strings.HasPrefix(text, "1 ") {
			t.Errorf("with a service account: STAT %s, %v", text, err)
		}
		c.command("QUIT")
	}

	// The provider ends it, and Dovecot takes the token no more, though it is new.
	provider.RevokeUser("alice")
	for range 2 {
		_, err = tryLogin(t, g.addr(), "scanner")
		refusedWith(t, err, "[AUTH] the gateway may not read this mailbox any more, authorise again")
	}
	g.authorise(t, provider, "scanner")
	if c, err = tryLogin(t, g.addr(), "scanner"); err != nil {
		t.Errorf("after another consent: %v", err)
	} else {
		c.command("QUIT")
	}
	out, err := g.command(t, "oauth", "revoke", "scanner").CombinedOutput()
	if err != nil || string(out) != "Revoked, and removed.\n" {
		t.Errorf("revoke: %s, %v", out, err)
	}
	_, err = tryLogin(t, g.addr(), "scanner")
	refusedWith(t, err, "[AUTH] the gateway was not authorised")
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	logs += g.log.String()
	if !regexp.MustCompile(`run \\"pop3gw oauth login scanner\\"|pop3gw oauth login scanner`).MatchString(logs) {
		t.Error("the log does not say what to type")
	}
	secrets := append(provider.Secrets(), password, content)
	for _, secret := range secrets {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(logs, form) {
				t.Errorf("the log, with level debug, has %.20q", secret)
			}
		}
	}
	if len(secrets) < 20 || len(logs) < 2000 {
		t.Errorf("%d secrets were looked for in %d octets of a log", len(secrets), len(logs))
	}
}

// Each way to a token, and each mechanism for it, at a server that has the one alone:
// a code, which opens a shared mailbox as well, and the client's own credentials.
func TestOAuthWays(t *testing.T) {
	for _, mechanism := range []string{"xoauth2", "oauthbearer"} {
		t.Run(mechanism, func(t *testing.T) {
			provider := oauthtest.Start(t)
			provider.Interval = 1
			// Whoever has a token may read all mailboxes of the domain, here of none.
			d := startTokenDovecotWith(t, provider, mechanism, "username_format = %d")
			o := provider.Options()
			g := startGateway(t, unkept{d}, oauthTable("idp", o.ClientID, provider)+fmt.Sprintf(`
device_url = %[1]q
[oauth.app]
grant = "client_credentials"
client_id = %[2]q
client_secret = %[3]q
client_auth = "basic"
scopes = [%[4]q]
token_url = %[5]q
[[users]]
name = "scanner"
password = "{PLAIN}%[6]s"
adapter = "office"
oauth = "idp"
upstream_user = "alice"
[[users]]
name = "desk"
password = "{PLAIN}%[6]s"
adapter = "office"
oauth = "idp"
oauth_user = "scanner"
upstream_user = "sales"
[[users]]
name = "robot"
password = "{PLAIN}%[6]s"
adapter = "office"
oauth = "app"
upstream_user = "bob"
`, o.DeviceURL, o.ClientID, o.ClientSecret, oauthtest.MailScope, o.TokenURL, password))
			g.authoriseByCode(t, provider, "scanner", "alice")
			for user, mailbox := range map[string]string{"scanner": "alice", "desk": "sales", "robot": "bob"} {
				message := []byte("Subject: for " + mailbox + "\r\n\r\ntext\r\n")
				d.deliver(t, mailbox, message)
				c, err := tryLogin(t, g.addr(), user)
				if err != nil {
					t.Errorf("%s: %v", user, err)
					continue
				}
				if got := c.retrieve(t, 1); string(canonical(got)) != string(canonical(message)) {
					t.Errorf("the mail of %s is %q", user, got)
				}
				c.must(t, "QUIT")
			}
			if n := provider.Count("urn:ietf:params:oauth:grant-type:device_code"); n == 0 || provider.Count("client_credentials") != 1 {
				t.Errorf("%d polls for the code, %d tokens of the client", n, provider.Count("client_credentials"))
			}
		})
	}
}

// authoriseByCode has a user authorise the gateway by a code, which they type in
// elsewhere.
func (g *gateway) authoriseByCode(t testing.TB, provider *oauthtest.Server, name, user string) {
	t.Helper()
	code := regexp.MustCompile(`^[A-Z0-9]{8}$`)
	g.oauthLogin(t, func(_ io.Writer, line string) {
		if code.MatchString(line) {
			if err := provider.Type(line, user, true); err != nil {
				t.Error(err)
			}
		}
	}, name)
}

// A client that has a token of its own logs in at the server with it.
func TestClientToken(t *testing.T) {
	provider := oauthtest.Start(t)
	d := startTokenDovecot(t, provider)
	d.deliver(t, "bob", []byte("Subject: x\r\n\r\nx\r\n"))
	addr := loopback(freePort(t))
	startGateway(t, d, fmt.Sprintf(`
[[listeners]]
address = %q
tls = "none"
cleartext_login = "always"
mechanisms = ["USER", "XOAUTH2", "OAUTHBEARER"]
`, addr))
	for token, want := range map[string]string{provider.Token("bob"): "", provider.Token("alice"): "[AUTH]", "wrong-token": "[AUTH]"} {
		for _, response := range []string{
			"XOAUTH2 " + encode("user=bob\x01auth=Bearer "+token+"\x01\x01"),
			"OAUTHBEARER " + encode("n,a=bob,\x01auth=Bearer "+token+"\x01\x01"),
		} {
			c, err := dialPOP3(addr)
			if err != nil {
				t.Fatal(err)
			}
			mechanism, _, _ := strings.Cut(response, " ")
			err = c.bearer(response)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: the client gets %v, want %q", mechanism, err, want)
			}
			c.conn.Close()
		}
	}
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// bearer logs in by AUTH with an initial response of its own line, and answers the
// challenge that says why it was refused.
func (c *pop3) bearer(auth string) error {
	mechanism, response, _ := strings.Cut(auth, " ")
	if _, err := io.WriteString(c.conn, "AUTH "+mechanism+" "+response+"\r\n"); err != nil {
		return err
	}
	c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	line, err := c.r.ReadString('\n')
	if err != nil {
		return err
	}
	if strings.HasPrefix(line, "+ ") {
		if _, err := io.WriteString(c.conn, "AQ==\r\n"); err != nil {
			return err
		}
		if line, err = c.r.ReadString('\n'); err != nil {
			return err
		}
	}
	if strings.HasPrefix(line, "+OK") {
		return nil
	}
	return fmt.Errorf("%w: %s", errRefused, strings.TrimSpace(line))
}
