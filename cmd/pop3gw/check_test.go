package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// checkConfig is a Maildir, an IMAP server that works, and one that does not.
const checkConfig = `
[[listeners]]
address = "127.0.0.1:0"
[[listeners]]
address = "$TAKEN"
tls = "implicit"
[tls]
certificate = "tls.crt"
key = "tls.key"
[adapters.files]
type = "maildir"
path = "$DIR/{user}"
[adapters.up]
type = "imap"
address = "$UP"
tls = "none"
[adapters.down]
type = "imap"
address = "$DOWN"
tls = "none"
[[users]]
name = "bob"
password = "{PLAIN}secret"
adapter = "files"
[[users]]
name = "none"
password = "{PLAIN}secret"
adapter = "files"
[[users]]
name = "own"
password = "{PLAIN}secret"
adapter = "up"
upstream_user = "imap"
upstream_password = "demo"
[[users]]
name = "binned"
password = "{PLAIN}secret"
adapter = "up"
upstream_user = "imap"
upstream_password = "demo"
on_delete = "move"
trash_mailbox = "Bin"
[[users]]
name = "unlucky"
adapter = "down"
[[routes]]
users = "imap"
adapter = "up"
[[routes]]
users = "nobody"
adapter = "up"
passwd_file = "users"
`

func checkFolder(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	writeTestCertificate(t, dir)
	write(t, dir, "users", "nobody:{PLAIN}demo\n")
	messages := splitMessages(demoMessages)
	if err := fillMaildir(filepath.Join(dir, "bob"), messages); err != nil {
		t.Fatal(err)
	}
	upstream, err := serveIMAP(messages)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { upstream.Close() })
	write(t, dir, "config.toml", strings.NewReplacer(
		"$DIR", dir, "$UP", upstream.address, "$DOWN", unreachable(t), "$TAKEN", occupied(t)).Replace(checkConfig))
	return dir
}

// TestCheck compares the lines of the table, as expressions, with their columns
// apart by two spaces or more.
func TestCheck(t *testing.T) {
	dir := checkFolder(t)
	common := []string{
		`ok  configuration  \S+/config.toml`,
		`ok  certificate  \S+/tls.crt, good until 20\d\d-\d\d-\d\d`,
		`ok  listener 127.0.0.1:0  free, tls stls`,
		`FAIL  listener 127.0.0.1:\d+  \S+/config.toml:5: listeners.address: another program listens on 127.0.0.1:\d+; stop it .*`,
		`FAIL  adapter down  \S+/config.toml:17: adapters.down: connecting .*refused.*`,
		`ok  adapter files  reached, type maildir`,
		`ok  adapter up  reached, type imap`,
	}
	for _, tt := range []struct {
		user, stdin string
		want        string // the row of the user
		stderr      string
	}{
		{"", "", "", "2 of 7 checks failed"},
		{"bob", "", `ok  user bob  5 messages, \d+ octets, opened in \S+`, "2 of 8 checks failed"},
		{"own", "", `ok  user own  5 messages, \d+ octets, opened in \S+`, "2 of 8 checks failed"},
		{"binned", "", `FAIL  user binned  .* has no mailbox "Bin"; create it, or mend trash_mailbox \(clients are told: .*`, "3 of 8 checks failed"},
		{"imap", "demo\n", `ok  user imap  5 messages, \d+ octets, opened in \S+`, "2 of 8 checks failed"},
		{"imap", "wrong\n", `FAIL  user imap  .*\(clients are told: wrong name or password\)`, "3 of 8 checks failed"},
		{"imap", "", `FAIL  user imap  standard input has no password on its first line`, "3 of 8 checks failed"},
		{"nobody", "wrong\n", `FAIL  user nobody  wrong password for "nobody" \(clients are told: wrong name or password\)`, "3 of 8 checks failed"},
		{"unlucky", "x\n", `FAIL  user unlucky  \S+/config.toml:17: adapters.down: .*refused.*`, "3 of 8 checks failed"},
		{"none", "", `FAIL  user none  .*`, "3 of 8 checks failed"},
		{"else", "", `FAIL  user else  "else" is not a user and fits no route`, "3 of 8 checks failed"},
	} {
		t.Run(tt.user, func(t *testing.T) {
			args := []string{"check", "--config", dir + "/config.toml"}
			want := common
			if tt.user != "" {
				args = append(args, "--user", tt.user)
				want = append(common[:len(common):len(common)], tt.want)
			}
			out, stderr, code := pop3gw(t, tt.stdin, args...)
			if code != 1 || stderr != "pop3gw: "+tt.stderr+"\n" {
				t.Errorf("exit code %d, %s", code, stderr)
			}
			got := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
			if len(got) != len(want) {
				t.Fatalf("%d rows, want %d:\n%s", len(got), len(want), out)
			}
			for i := range want {
				row := regexp.MustCompile(` {2,}`).ReplaceAllString(got[i], "  ")
				if !regexp.MustCompile("^" + want[i] + "$").MatchString(row) {
					t.Errorf("row %q, want %s", row, want[i])
				}
			}
		})
	}
}

func TestCheckSucceeds(t *testing.T) {
	dir := checkFolder(t)
	text, err := os.ReadFile(dir + "/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	works := regexp.MustCompile(`(?s)\[\[listeners\]\]\naddress = "127.0.0.1:[1-9].*?\n\[tls\]`).ReplaceAllString(string(text), "[tls]")
	works = regexp.MustCompile(`(?s)\[adapters.down\].*?\n\[\[`).ReplaceAllString(works, "[[")
	works = strings.ReplaceAll(works, `adapter = "down"`, `adapter = "up"`)
	write(t, dir, "config.toml", works)
	before := tree(t, dir)
	out, stderr, code := pop3gw(t, "", "check", "--config", dir+"/config.toml", "--user", "bob")
	if code != 0 || stderr != "" || strings.Contains(out, "FAIL") {
		t.Errorf("exit code %d, %s\n%s", code, stderr, out)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("it changed files:\n%s\nbefore:\n%s", after, before)
	}
}

// tree lists the files of a folder, with their sizes and times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			b.WriteString(path + " " + info.ModTime().String() + " " + info.Mode().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCheckCertificate(t *testing.T) {
	configFolder(t)
	write(t, ".", "config.toml", change(t, goodConfig, `"localhost"`, `"pop.example.org"`))
	out, _, _ := pop3gw(t, "", "check", "--config", "config.toml")
	want := regexp.MustCompile(`(?m)^FAIL  certificate +config.toml:1: hostname: x509: certificate is valid for localhost, not pop.example.org; clients that connect to this name will refuse it: correct it, or name a certificate for it in \[tls\]$`)
	if !want.MatchString(out) {
		t.Errorf("a certificate for another host:\n%s", out)
	}
}

// besideConfig has every port that pop3gw may open, and a certificate that
// no client takes.
const besideConfig = `
hostname = "pop.example.org"
[[listeners]]
address = "$POP3"
[tls]
certificate = "old.crt"
key = "old.key"
[admin]
address = "$ADMIN"
[enrol]
address = "$ENROL"
public_url = "https://pop.example.org:8443"
domains = ["*"]
[[enrol.providers]]
oauth = "google"
adapter = "up"
[oauth.google]
client_id = "x"
[adapters.up]
type = "imap"
address = "127.0.0.1:1"
[state]
url = "file://$DIR/state"
`

// While it runs its own ports are no failure; and without the network neither
// ports nor servers are tried, so that a reload is refused for what would end it alone.
func TestCheckBesideServe(t *testing.T) {
	dir := t.TempDir()
	writePairUntil(t, time.Now().Add(-time.Hour), dir, "old", false, "other.example.org")
	pop3, admin, page := unreachable(t), unreachable(t), unreachable(t)
	write(t, dir, "config.toml", strings.NewReplacer("$POP3", pop3, "$ADMIN", admin, "$ENROL", page, "$DIR", dir).Replace(besideConfig))
	p := start(t, dir, "serve", "--config", dir+"/config.toml")
	p.out.find(t, "msg=ready")
	args := []string{"check", "--config", dir + "/config.toml"}
	out, _, _ := pop3gw(t, "", args...)
	for _, what := range []string{"listener " + pop3, "admin listener " + admin, "enrolment page https://pop.example.org:8443"} {
		if !regexp.MustCompile(`(?m)^warn +` + what + ` +a server that answers as pop3gw does listens here already; while pop3gw runs that is pop3gw itself$`).MatchString(out) {
			t.Errorf("beside a gateway that runs there is no warning of %s:\n%s", what, out)
		}
	}
	if n := len(regexp.MustCompile(`(?m)^FAIL +certificate `).FindAllString(out, -1)); n != 2 {
		t.Errorf("%d rows of the certificate fail, want 2:\n%s", n, out)
	}
	// As ExecReload= of pop3gw.service does.
	out, stderr, code := pop3gw(t, "", append(args, "--offline")...)
	if code != 0 || strings.Contains(out, "FAIL") || strings.Contains(out, "adapter") ||
		len(regexp.MustCompile(`(?m)^warn +certificate `).FindAllString(out, -1)) != 2 {
		t.Errorf("offline: exit code %d, %s\n%s", code, stderr, out)
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.out)
	}
	if _, stderr, code := pop3gw(t, "", append(args, "--offline", "--user", "bob")...); code != 2 || stderr != "pop3gw: --offline reads files alone; leave --user out\n" {
		t.Errorf("offline with a user: exit code %d, %s", code, stderr)
	}
}
