package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"pop3gw/gateway/admin"
)

// startAdmin serves as startServe, with an admin listener whose token is in a
// file. It returns the addresses of POP3 and of HTTP.
func startAdmin(t *testing.T) (p *process, dir, pop3, http string) {
	t.Helper()
	http = unreachable(t) // a port that is free
	dir = checkFolder(t)
	text, err := os.ReadFile(dir + "/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "[tls]")
	write(t, dir, "token", "0123456789abcdef\n")
	write(t, dir, "config.toml", fmt.Sprintf("[admin]\naddress = %q\ntoken_file = \"token\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[tls]%s", http, rest))
	p = start(t, dir, "serve", "--config", dir+"/config.toml")
	pop3 = p.out.find(t, `msg=listening address=(\S+) tls=stls`)[1]
	if got := p.out.find(t, `msg="admin listening" address=(\S+)`)[1]; got != http {
		t.Errorf("the admin listener is at %s, want %s", got, http)
	}
	p.out.find(t, "msg=ready")
	return p, dir, pop3, http
}

func get(t *testing.T, url string, status int) string {
	t.Helper()
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("me", "0123456789abcdef")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		t.Fatalf("%s: status %d, %v: %s", url, response.StatusCode, err, body)
	}
	return string(body)
}

func TestServeWithAdmin(t *testing.T) {
	p, dir, pop3, at := startAdmin(t)
	c, _ := dial(t, pop3, nil)
	c.do("+OK", "USER bob")
	c.do("+OK 5 ", "PASS secret")
	metrics := get(t, "http://"+at+"/metrics", 200)
	for _, want := range []string{
		`pop3gw_sessions{listener="` + pop3 + `",state="transaction"} 1`,
		`pop3gw_logins_total{adapter="files",mechanism="USER",result="ok"} 1`,
		`pop3gw_cache_requests_total{adapter="",cache="password",result="miss"} `,
		`pop3gw_certificate_expiry_timestamp_seconds{certificate="` + dir + `/tls.crt"} `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%s is missing in\n%s", want, metrics)
		}
	}
	get(t, "http://"+at+"/healthz", 200)
	get(t, "http://"+at+"/readyz/files", 200)
	if body := get(t, "http://"+at+"/readyz", 503); !strings.Contains(body, "adapter down: not reached: ") || !strings.Contains(body, "adapter up: reached") {
		t.Errorf("readyz says:\n%s", body)
	}
	if body := get(t, "http://"+at+"/", 200); !strings.Contains(body, "<bdi>bob</bdi>") {
		t.Errorf("the page lacks bob:\n%s", body)
	}

	stdout, stderr, code := pop3gw(t, "", "sessions", "--config", dir+"/config.toml")
	if want := regexp.MustCompile(`^ID +USER +FROM +STATE .*\n\w{10}  bob +127.0.0.1 +transaction +PASS +\ds +\ds +0/5 +\d+ +` + regexp.QuoteMeta(pop3) + ` +none +files\n$`); code != 0 || !want.MatchString(stdout) {
		t.Errorf("exit code %d, %s, sessions:\n%s", code, stderr, stdout)
	}
	stdout, stderr, code = pop3gw(t, "", "sessions", "--json", "--config", dir+"/config.toml")
	var sessions []admin.Session
	if err := json.Unmarshal([]byte(stdout), &sessions); code != 0 || err != nil || len(sessions) != 1 || sessions[0].User != "bob" {
		t.Fatalf("exit code %d, %v, %s, sessions:\n%s", code, err, stderr, stdout)
	}
	if _, stderr, code = pop3gw(t, "", "sessions", "--kick", "NOBODY", "--config", dir+"/config.toml"); code != 1 || !strings.Contains(stderr, `there is no session "NOBODY"`) {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if stdout, stderr, code = pop3gw(t, "", "sessions", "--kick", sessions[0].ID, "--config", dir+"/config.toml"); code != 0 || stdout != "session "+sessions[0].ID+" is being ended\n" {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	if line := c.line("nothing"); line != "-ERR [SYS/TEMP] session was ended by the operator, nothing was removed" || !c.isClosed() {
		t.Errorf("the client got %q", line)
	}
	p.out.find(t, `msg="session ended" .* ended=kicked user=bob`)
	stdout, _, _ = pop3gw(t, "", "sessions", "--config", dir+"/config.toml")
	if stdout != "nobody is connected\n" {
		t.Errorf("sessions:\n%s", stdout)
	}

	write(t, dir, "token", "another0123456789\n")
	if _, stderr, code = pop3gw(t, "", "sessions", "--config", dir+"/config.toml"); code != 1 || !strings.Contains(stderr, "refuses the token of [admin]; was it changed since the gateway started?") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d after SIGTERM:\n%s", code, p.out)
	}
	if _, stderr, code = pop3gw(t, "", "sessions", "--config", dir+"/config.toml"); code != 1 || !strings.Contains(stderr, "refused; is pop3gw running, and with this configuration?") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if log := p.out.String(); strings.Contains(log, "0123456789") {
		t.Errorf("the log has the token:\n%s", log)
	}
}

func TestSessionsWithoutAdmin(t *testing.T) {
	dir := checkFolder(t)
	_, stderr, code := pop3gw(t, "", "sessions", "--config", dir+"/config.toml")
	want := "pop3gw: " + dir + `/config.toml: admin.address: missing, so that there is nobody to ask; set it to "127.0.0.1:8110" in [admin] and start the gateway again` + "\n"
	if code != 2 || stderr != want {
		t.Errorf("exit code %d, %s\nwant %s", code, stderr, want)
	}
	_, stderr, code = pop3gw(t, "", "sessions", "--json", "--kick", "x", "--config", dir+"/config.toml")
	if code != 2 || !strings.Contains(stderr, "leave --json out") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

func TestAdminPortInUse(t *testing.T) {
	dir := checkFolder(t)
	write(t, dir, "config.toml", fmt.Sprintf("[admin]\naddress = %q\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[adapters.files]\ntype = \"maildir\"\npath = \"%s/{user}\"\n[[users]]\nname = \"bob\"\npassword = \"{PLAIN}secret\"\nadapter = \"files\"\n", occupied(t), dir))
	_, stderr, code := pop3gw(t, "", "serve", "--config", dir+"/config.toml")
	if want := "pop3gw: " + dir + "/config.toml:2: admin.address: another program listens on 127.0.0.1:"; code != 1 || !strings.HasPrefix(stderr, want) {
		t.Errorf("exit code %d, %s\nwant %s", code, stderr, want)
	}
	stdout, _, _ := pop3gw(t, "", "check", "--config", dir+"/config.toml")
	if want := regexp.MustCompile(`(?m)^FAIL  admin listener 127.0.0.1:\d+  +\S+/config.toml:2: admin.address: another program listens on`); !want.MatchString(stdout) {
		t.Errorf("check says:\n%s", stdout)
	}
}

func TestTokenFiles(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, tt := range map[string]struct{ file, want string }{
		"good":    {"0123456789abcdef\n", ""},
		"short":   {"secret\n", "config.toml:3: admin.token_file: it must have 16 characters at least"},
		"spaces":  {"0123456789 abcdef\n", "config.toml:3: admin.token_file: it must have 16 characters at least, of ASCII and without spaces"},
		"empty":   {"\n", "config.toml:3: admin.token_file: the first line of token is empty"},
		"missing": {"", "config.toml:3: admin.token_file: open token: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			os.Remove("token")
			if tt.file != "" {
				write(t, dir, "token", tt.file)
			}
			c, err := parseConfig("config.toml", []byte("[admin]\naddress = \"127.0.0.1:8110\"\ntoken_file = \"token\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[adapters.a]\ntype = \"imap\"\naddress = \"127.0.0.1:1\"\n[[routes]]\nusers = \"*\"\nadapter = \"a\"\n"))
			if err != nil {
				t.Fatal(err)
			}
			switch _, err := c.adminToken(); {
			case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestAdminWarnings(t *testing.T) {
	for _, tt := range []struct{ address, token, want string }{
		{"127.0.0.1:8110", "", ""},
		{"[::1]:8110", "", ""},
		{"localhost:8110", "", ""},
		{"0.0.0.0:8110", "", "whoever reaches this address sees who is connected and can end sessions"},
		{":8110", "", "whoever reaches"},
		{"0.0.0.0:8110", "0123456789abcdef", "what is seen there crosses the network in clear text"},
	} {
		c := &config{Admin: adminConfig{Address: tt.address, Token: tt.token}, source: newSource("c", nil)}
		if got := c.adminWarning(); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.address, got, tt.want)
		}
	}
}

// Names that clients chose do nothing to a terminal or to the table.
func TestSessionsOfHostileNames(t *testing.T) {
	var b strings.Builder
	err := printSessions(&b, []admin.Session{
		{ID: "A", User: "x\x1b[31m\r\n\tA  bob", State: "authorization"}, {ID: "B", User: "\u202egnp", State: "authorization"},
		{ID: "C", User: strings.Repeat("x", 255), State: "authorization"},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got := b.String()
	if strings.Count(got, "\n") != 4 || strings.ContainsAny(got, "\x1b\r\t\u202e") || !strings.Contains(got, `"x\x1b[31m\r\n\tA  bob"`) || !strings.Contains(got, `"\u202egnp"`) {
		t.Errorf("it prints %q", got)
	}
	for line := range strings.Lines(got) {
		if len(line) > 300 {
			t.Errorf("a line of %d octets", len(line))
		}
	}
}
