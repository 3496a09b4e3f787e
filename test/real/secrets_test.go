//go:build real

package real

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"pop3gw/gateway/oauth/oauthtest"
)

// secrets are what must not be in a log, each of them by itself.
type secrets struct{ planted []string }

// plant makes one up, and remembers it.
func (s *secrets) plant(about string) string {
	s.planted = append(s.planted, fmt.Sprintf("%s-%x", about, time.Now().UnixNano()))
	return s.planted[len(s.planted)-1]
}

// find returns those that are in a log, as they are, in base64, or quoted.
func (s *secrets) find(log string) (found []string) {
	for _, secret := range s.planted {
		quoted := strconv.Quote(secret)
		for _, form := range []string{secret, encode(secret), base64.RawURLEncoding.EncodeToString([]byte(secret)), url.QueryEscape(secret), quoted[1 : len(quoted)-1]} {
			if strings.Contains(log, form) {
				found = append(found, secret)
				break
			}
		}
	}
	return found
}

// Whatever clients, servers and browsers send, right and wrong, whole and broken: no
// password, token, code or content is in the log at its most talkative.
func TestLogHoldsNoSecret(t *testing.T) {
	var planted secrets
	provider := oauthtest.Start(t)
	d := startTokenDovecot(t, provider)
	masters := filepath.Join(folder(t), "masters")
	master, upstream := planted.plant("master-password"), planted.plant("upstream-password")
	write(t, masters, "master:{PLAIN}"+master+"\n", 0o644)
	second := startDovecotWith(t, fmt.Sprintf(`auth_master_user_separator = *
passdb {
  driver = passwd-file
  args = %s
  master = yes
}
`, masters))
	box, broken, user := planted.plant("box-password"), planted.plant("broken-password"), planted.plant("user-password")
	page, open := freePort(t), freePort(t)
	files := newMaildirs(t)
	mangled := startMangler(t, loopback(d.port))
	o := provider.Options()
	g := startGateway(t, d, fmt.Sprintf(`
[log]
level = "debug"
[limits]
login_failure_delay = "1ms"
[[listeners]]
address = %[1]q
tls = "none"
cleartext_login = "always"
mechanisms = ["USER", "PLAIN", "LOGIN", "APOP", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"]
[adapters.files]
type = "maildir"
path = %[2]q
[adapters.broken]
type = "imap"
address = "localhost:%[3]d"
tls = "none"
[adapters.master]
type = "imap"
address = "localhost:%[4]d"
tls = "none"
master_user = "master"
master_password = %[5]q
[adapters.usurper]
type = "imap"
address = "localhost:%[4]d"
tls = "none"
master_user = "master"
master_password = %[6]q
[enrol]
address = %[7]q
public_url = "https://localhost:%[8]d"
domains = ["*"]
[[enrol.providers]]
oauth = "idp"
adapter = "office"
%[9]s`, loopback(open), filepath.Join(files.root, "{user}", "Maildir"), mangled, second.port, master, planted.plant("wrong-master-password"),
		loopback(page), page, oauthTable("idp", o.ClientID, provider))+
		configuredUser("box", box, "files", "")+
		configuredUser("up", user, "office", fmt.Sprintf("upstream_user = \"alice\"\nupstream_password = %q\n", password))+
		configuredUser("down", user, "office", fmt.Sprintf("upstream_user = \"alice\"\nupstream_password = %q\n", upstream))+
		configuredUser("broken", broken, "broken", fmt.Sprintf("upstream_user = \"bob\"\nupstream_password = %q\n", password))+
		configuredUser("carol", user, "master", "")+
		configuredUser("dave", user, "usurper", ""))
	planted.planted = append(planted.planted, password)

	subject, line := planted.plant("subject"), planted.plant("line")
	message := []byte("From: a@example.org\r\nSubject: " + subject + "\r\n\r\n" + strings.Repeat(line+"\r\n", 50))
	files.deliver(t, "box", message)
	for _, mailbox := range []string{"alice", "bob", "jane@example.org"} {
		d.deliver(t, mailbox, message)
	}
	second.deliver(t, "carol", message)

	// Each client comes from an address of its own, so that none is held up for another.
	clients := 0
	connect := func() *pop3 {
		t.Helper()
		clients++
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 9, byte(clients>>8), byte(clients))}}
		conn, err := from.Dial("tcp", loopback(open))
		if err != nil {
			t.Fatal(err)
		}
		c := newPOP3(conn)
		if _, err := c.reply(); err != nil {
			t.Fatal(err)
		}
		return c
	}

	// Passwords, right and wrong, and the mail behind them.
	for name, right := range map[string]string{"box": box, "up": user, "down": user, "broken": broken, "carol": user, "dave": user, "bob": password, "nobody": ""} {
		for _, given := range []string{right, planted.plant("wrong-password")} {
			for _, auth := range [][]string{
				{"USER " + name, "PASS " + given},
				{"AUTH PLAIN " + encode("\x00"+name+"\x00"+given)},
				{"AUTH PLAIN", encode("\x00" + name + "\x00" + given)},
				{"AUTH PLAIN", "!" + given},
				{"AUTH LOGIN", encode(name), encode(given)},
				{"AUTH SCRAM-SHA-256 " + encode("n,,n="+name+",r="+given), encode("c=biws,r=" + given + ",p=" + encode(given))},
				{"APOP " + name + " " + strings.Repeat("0123456789abcdef", 2)},
				{"USER " + name, "PASS " + strings.Repeat(given, 20)},
			} {
				c := connect()
				c.talk(auth...)
				c.talk("RETR 1")
				c.talk("TOP 1 5")
				c.talk("QUIT")
				c.conn.Close()
				for _, sent := range auth {
					if _, response, ok := strings.Cut(sent, " "); ok && strings.HasPrefix(sent, "AUTH ") && len(response) > 20 {
						planted.planted = append(planted.planted, response)
					}
				}
			}
		}
	}

	// Tokens of clients' own.
	for _, token := range []string{provider.Token("bob"), provider.Token("alice"), planted.plant("wrong-token")} {
		for _, response := range []string{"XOAUTH2 " + encode("user=bob\x01auth=Bearer "+token+"\x01\x01"), "OAUTHBEARER " + encode("n,a=bob,\x01auth=Bearer "+token+"\x01\x01")} {
			c := connect()
			c.bearer(response)
			c.talk("QUIT")
			c.conn.Close()
		}
	}

	// The page: what goes to and fro in the browser, and the password on it.
	enrolled := enrolByHand(t, &planted, fmt.Sprintf("https://localhost:%d", page))
	for _, given := range []string{enrolled, enrolled + "x"} {
		c := connect()
		c.talk("USER jane@example.org", "PASS "+given)
		c.talk("RETR 1")
		c.talk("QUIT")
		c.conn.Close()
	}
	planted.planted = append(planted.planted, provider.Secrets()...)

	if err := g.stop(); err != nil {
		t.Error(err)
	}
	log := g.log.String()
	for _, secret := range planted.find(log) {
		t.Errorf("the log has %.40q", secret)
	}
	for _, done := range []string{
		"msg=login .*mechanism=PLAIN user=box ", "msg=login .*user=up ", "msg=login .*user=carol ", "msg=login .*mechanism=XOAUTH2 user=bob ", "msg=login .*user=jane@example.org ",
		`msg="login failed".*user=down `, `msg="login failed".*user=dave `, `msg="login failed".*mechanism=LOGIN .*user=nobody `, "msg=enrolled user=jane@example.org", "user=broken .*error=",
	} {
		if !regexp.MustCompile(done).MatchString(log) {
			t.Errorf("the log has no %s: what was to be kept out of it did not happen", done)
		}
	}
	t.Logf("%d secrets in %d octets of a log", len(planted.planted), len(log))
}

// configuredUser is an entry of [[users]], whose name is that of the mailbox too.
func configuredUser(name, password, adapter, more string) string {
	return fmt.Sprintf("[[users]]\nname = %q\npassword = \"{PLAIN}%s\"\nadapter = %q\n%s", name, password, adapter, more)
}

// talk sends lines, and waits for a reply to each, whatever that is. A message is read
// to its end, or to where the connection breaks.
func (c *pop3) talk(lines ...string) {
	for _, line := range lines {
		if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
			return
		}
		c.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		reply, err := c.r.ReadString('\n')
		if err != nil || strings.HasPrefix(reply, "-ERR") {
			return
		}
		if strings.HasPrefix(line, "RETR") || strings.HasPrefix(line, "TOP") {
			c.body(io.Discard)
		}
	}
}

// enrolByHand goes the way over the page, plants all that it meets there, and returns
// the password.
func enrolByHand(t *testing.T, planted *secrets, page string) (password string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	note := func(address *url.URL) {
		for _, key := range []string{"state", "code", "nonce", "code_challenge"} {
			if value := address.Query().Get(key); value != "" {
				planted.planted = append(planted.planted, value)
			}
		}
		for _, cookie := range jar.Cookies(address) {
			planted.planted = append(planted.planted, cookie.Value)
		}
	}
	client := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(r *http.Request, _ []*http.Request) error { note(r.URL); return nil }}
	read := func(response *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		note(response.Request.URL)
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	find := func(pattern, body string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(body)
		if m == nil {
			t.Fatalf("no %s in\n%s", pattern, body)
		}
		planted.planted = append(planted.planted, html.UnescapeString(m[1]))
		return html.UnescapeString(m[1])
	}
	const token = `name="token" value="(\w+)"`
	first := read(client.Get(page))
	read(client.Get(page + "/callback?state=" + planted.plant("stray-state") + "&code=" + planted.plant("stray-code")))
	leave := read(client.PostForm(page+"/start", url.Values{"token": {find(token, first)}, "provider": {"idp"}}))
	account := read(client.Get(find(`content="0; url=([^"]+)"`, leave)))
	last := read(client.PostForm(page+"/password", url.Values{"token": {find(token, account)}}))
	return find(`<code class="password">([a-z2-9-]+)</code>`, last)
}

// startMangler relays to an IMAP server, and makes the messages that it sends a bit
// longer than it says: their ends are where its client expects the protocol.
func startMangler(t testing.TB, addr string) (port int) {
	t.Helper()
	literal := regexp.MustCompile(`(BODY\[.*\] \{)(\d+)\}\r\n$`)
	return relay(t, addr, plainly, func(client io.Writer, server io.Reader) {
		for r := bufio.NewReader(server); ; {
			line, err := r.ReadString('\n')
			if m := literal.FindStringSubmatchIndex(line); m != nil {
				n, _ := strconv.Atoi(line[m[4]:m[5]])
				line = fmt.Sprintf("%s%d}\r\n", line[:m[4]], max(n-200, 0))
			}
			if _, wrong := io.WriteString(client, line); err != nil || wrong != nil {
				return
			}
		}
	})
}
