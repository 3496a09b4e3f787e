//go:build real

package docker

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pop3gw/test/port"
)

const password = "correct horse"

// freeAddress is a loopback address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	free, err := port.Free()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", free)
}

// pop3 is a POP3 client over TLS.
type pop3 struct {
	*textproto.Reader
	nc *tls.Conn
}

func dialPOP3(address string, config *tls.Config) (*pop3, error) {
	nc, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", address, config)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(2 * time.Minute))
	c := &pop3{textproto.NewReader(bufio.NewReader(nc)), nc}
	if _, err := c.reply(); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *pop3) reply() (string, error) {
	line, err := c.ReadLine()
	if err == nil && !strings.HasPrefix(line, "+OK") {
		err = errors.New(line)
	}
	return line, err
}

func (c *pop3) command(command string) (string, error) {
	if _, err := fmt.Fprintf(c.nc, "%s\r\n", command); err != nil {
		return "", err
	}
	return c.reply()
}

func (c *pop3) must(t *testing.T, command string) string {
	t.Helper()
	line, err := c.command(command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return line
}

// login logs alice in.
func login(address string, config *tls.Config) (*pop3, error) {
	c, err := dialPOP3(address, config)
	if err != nil {
		return nil, err
	}
	for _, command := range []string{"USER alice@example.org", "PASS " + password} {
		if _, err := c.command(command); err != nil {
			c.nc.Close()
			return nil, err
		}
	}
	return c, nil
}

func mustLogin(t *testing.T, address string, config *tls.Config) *pop3 {
	t.Helper()
	c, err := login(address, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.nc.Close() })
	return c
}

// greeted waits for a greeting and says when it came.
func greeted(t *testing.T, address string) time.Time {
	t.Helper()
	eventually(t, time.Minute, func() error {
		c, err := dialPOP3(address, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			c.nc.Close()
		}
		return err
	})
	return time.Now()
}

// served starts a composition and measures how long its pop3gw takes from the
// start of the container to the greeting. This machine may be busy, so the best
// of a few counts.
func served(t *testing.T, c composition, address string) (container string) {
	t.Helper()
	c.up(t)
	greeted(t, address)
	container = c.container(t, "pop3gw")
	best := time.Hour
	for range 3 {
		must(t, "restart", container)
		at := greeted(t, address)
		started, err := time.Parse(time.RFC3339Nano, inspect(t, container, "{{.State.StartedAt}}"))
		if err != nil {
			t.Fatal(err)
		}
		if best = min(best, at.Sub(started)); best < time.Second {
			break
		}
	}
	t.Logf("greeting %v after the start of the container", best.Round(time.Millisecond))
	if best >= time.Second {
		t.Errorf("it took %v from the start of the container to the greeting, want less than 1 s", best)
	}
	return container
}

// trusted is a TLS configuration with the certificate that pop3gw has, as an
// operator would hand it to clients, and its file.
func trusted(t *testing.T, container string) (*tls.Config, string) {
	t.Helper()
	path := filepath.Join(folder(t), "tls.crt")
	must(t, "cp", container+":/etc/pop3gw/tls/tls.crt", path)
	pem, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %s", pem)
	}
	return &tls.Config{RootCAs: roots}, path
}

// confined checks what the compose file is to grant pop3gw's container, and who runs it.
func confined(t *testing.T, container string, user int) {
	t.Helper()
	for template, want := range map[string]string{
		"{{.HostConfig.ReadonlyRootfs}}":                 "true",
		"{{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}}": "[ALL] []",
		"{{.HostConfig.SecurityOpt}}":                    "[no-new-privileges:true]",
		"{{.HostConfig.Privileged}}":                     "false",
		"{{.State.Restarting}} {{.RestartCount}}":        "false 0",
	} {
		if got := inspect(t, container, template); got != want {
			t.Errorf("%s is %s, want %s", template, got, want)
		}
	}
	pid := inspect(t, container, "{{.State.Pid}}")
	if top := must(t, "top", container, "-o", "pid,uid,gid,args"); !strings.Contains(strings.Join(strings.Fields(top), " "), fmt.Sprintf("%s %d %d /usr/bin/pop3gw serve", pid, user, user)) {
		t.Errorf("the processes:\n%s", top)
	}
}

// healthy waits for what the engine says of the health check, and asks on both
// ways itself.
func healthy(t *testing.T, container string) {
	t.Helper()
	must(t, "exec", container, "/usr/bin/pop3gw", "health")
	if out, err := docker("exec", container, "/usr/bin/pop3gw", "health", "--address", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "is pop3gw running") {
		t.Errorf("health of a port that nobody listens on: %s, %v", out, err)
	}
	eventually(t, 30*time.Second, func() error {
		if got := inspect(t, container, "{{.State.Health.Status}}"); got != "healthy" {
			return fmt.Errorf("the container is %s", got)
		}
		return nil
	})
}

// mail is a message of at least so many octets, its lines ending in CRLF.
func mail(subject string, octets int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: bob@example.org\r\nTo: alice@example.org\r\nSubject: %s\r\nMessage-ID: <%s@example.org>\r\n\r\n", subject, rand.Text())
	noise := make([]byte, 54)
	for b.Len() < octets {
		rand.Read(noise)
		b.WriteString(base64.StdEncoding.EncodeToString(noise) + "\r\n")
	}
	return b.Bytes()
}

// certificate is a folder with a self-signed one, whose key the owner can read.
func certificate(t *testing.T, owner int) string {
	t.Helper()
	dir := folder(t)
	key := filepath.Join(dir, "tls.key")
	if _, err := command(nil, nil, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
		"-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", filepath.Join(dir, "tls.crt")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(key, owner, owner); err != nil {
		t.Fatal(err)
	}
	return dir
}

// deliver appends a message to alice's INBOX over IMAP, as curl does it.
func deliver(t *testing.T, c composition, message []byte) {
	t.Helper()
	path := write(t, filepath.Join(folder(t), "mail"), string(message), 0)
	eventually(t, 30*time.Second, func() error { // Dovecot may only be starting, or its container be started again
		address := inspect(t, c.container(t, "dovecot"), "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
		_, err := command(nil, nil, "curl", "--silent", "--show-error", "--insecure", "--max-time", "60", "--user", "alice@example.org:"+password,
			"--upload-file", path, "imaps://"+address+"/INBOX")
		return err
	})
}

// guess has six logins fail at once, from an address that is not this machine's. It
// does not wait for pop3gw's own delays: Dovecot's last as long.
func guess(t *testing.T, c composition) {
	t.Helper()
	const guesses = `for i in 1 2 3 4 5 6; do
	printf 'USER guest%s@example.org\r\nPASS wrong\r\nQUIT\r\n' $i | timeout 7 openssl s_client -quiet -connect pop3gw:995 2>/dev/null &
done; wait`
	out, err := docker("exec", c.container(t, "dovecot"), "sh", "-c", guesses)
	if n := strings.Count(out, "-ERR [AUTH]"); err != nil || n == 0 {
		t.Fatalf("%d of 6 guesses were refused by then: %v\n%s", n, err, out)
	}
}

// TestDovecot is compose.yaml: nothing is edited but the password file.
func TestDovecot(t *testing.T) {
	dir := folder(t)
	address := freeAddress(t)
	c := composition{[]string{"compose.yaml"}, []string{
		"POP3GW_VERSION=test", "POP3GW_USERS=" + write(t, filepath.Join(dir, "users"), "alice@example.org:{PLAIN}"+password+"\n", 0),
		"POP3_PORT=" + freeAddress(t), "POP3S_PORT=" + address,
	}}
	gateway := served(t, c, address)
	confined(t, gateway, 65532)
	config, certificate := trusted(t, gateway)
	guess(t, c)
	began := time.Now()
	mustLogin(t, address, config).must(t, "QUIT")
	if took := time.Since(began); took > time.Second {
		t.Errorf("a login takes %v after those of others have failed", took.Round(time.Millisecond))
	}

	// A client that keeps the mail gets each message once.
	home := folder(t)
	host, port, _ := net.SplitHostPort(address)
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(home, "inbox", sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rc := write(t, filepath.Join(home, "mpoprc"), fmt.Sprintf(`account default
host %s
port %s
user alice@example.org
password %s
auth user
tls on
tls_starttls off
tls_trust_file %s
uidls_file %s/uidls
delivery maildir %[5]s/inbox
keep on
only_new on
`, host, port, password, certificate, home), 0)
	if err := os.Chmod(rc, 0o600); err != nil {
		t.Fatal(err)
	}
	poll := func() error {
		_, err := command(nil, nil, "mpop", "--file", rc)
		return err
	}
	fetched := func(want int) {
		t.Helper()
		got, err := os.ReadDir(filepath.Join(home, "inbox", "new"))
		if err != nil || len(got) != want {
			t.Fatalf("mpop has %d messages, want %d: %v", len(got), want, err)
		}
	}
	first := mail("first", 500)
	deliver(t, c, first)
	deliver(t, c, mail("second", 50_000))
	if err := poll(); err != nil {
		t.Fatal(err)
	}
	fetched(2)

	// The IMAP server goes away in the middle of a session and comes back.
	open := mustLogin(t, address, config)
	must(t, "stop", "--time", "5", c.container(t, "dovecot"))
	if _, err := login(address, config); err == nil || !strings.Contains(err.Error(), "-ERR [SYS/TEMP]") {
		t.Errorf("a login without the IMAP server: %v, want [SYS/TEMP]", err)
	}
	if _, err := open.command("RETR 1"); err == nil {
		if got, err := open.ReadDotBytes(); err == nil && !bytes.Equal(got, bytes.ReplaceAll(first, []byte("\r\n"), []byte("\n"))) {
			t.Errorf("RETR without the IMAP server gave %d octets and the final dot", len(got))
		}
	} else if !strings.HasPrefix(err.Error(), "-ERR [SYS/TEMP]") {
		t.Errorf("RETR without the IMAP server: %v, want [SYS/TEMP]", err)
	}
	open.nc.Close()
	must(t, "start", c.container(t, "dovecot"))
	deliver(t, c, mail("third", 500))
	eventually(t, 30*time.Second, poll)
	fetched(3)

	// It is asked to end while a RETR runs.
	big := mail("big", 48<<20)
	deliver(t, c, big)
	s := mustLogin(t, address, config)
	s.must(t, "DELE 1")
	s.must(t, "RETR 4")
	got := new(bytes.Buffer)
	body := s.DotReader()
	if _, err := io.CopyN(got, body, 1<<20); err != nil {
		t.Fatal(err)
	}
	must(t, "kill", "--signal", "HUP", gateway) // reads the certificate again, and no more
	must(t, "kill", "--signal", "TERM", gateway)
	eventually(t, 10*time.Second, func() error {
		log, err := c.run("logs", "--no-color", "pop3gw")
		if err == nil && !strings.Contains(log, "shutting down") {
			err = errors.New("SIGTERM is not in the log")
		}
		return err
	})
	if running := inspect(t, gateway, "{{.State.Running}}"); running != "true" {
		t.Error("it ended though a RETR ran")
	}
	if _, err := io.Copy(got, body); err != nil {
		t.Fatalf("the RETR that ran at SIGTERM: %v after %d of %d octets", err, got.Len(), len(big))
	}
	if !bytes.Equal(got.Bytes(), bytes.ReplaceAll(big, []byte("\r\n"), []byte("\n"))) {
		t.Errorf("the message of the RETR that ran at SIGTERM differs: %d octets", got.Len())
	}
	if code := must(t, "wait", gateway); code != "0" {
		t.Errorf("exit code %s after SIGTERM, want 0", code)
	}
	must(t, "start", gateway)
	eventually(t, 10*time.Second, func() error {
		s, err := login(address, config)
		if err != nil {
			return err
		}
		defer s.nc.Close()
		if stat := s.must(t, "STAT"); !strings.HasPrefix(stat, "+OK 4 ") {
			t.Errorf("%s; want 4 messages: what was marked without QUIT stays", stat)
		}
		return nil
	})
	healthy(t, gateway)
}

// TestMaildir is compose.maildir.yaml over a folder of this machine that belongs to
// another user, for whom the image is built.
func TestMaildir(t *testing.T) {
	const owner = 5000
	dir := folder(t)
	address := freeAddress(t)
	inbox := filepath.Join(dir, "mail", "example.org", "alice", "Maildir")
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(inbox, sub), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(inbox, sub), owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 {
		write(t, filepath.Join(inbox, "new", fmt.Sprint(i)), string(mail("hello", 500)), owner)
	}
	tls := certificate(t, owner)
	c := building(t, "compose.maildir.yaml", []string{
		"POP3GW_VERSION=1.2.3", "MAIL_UID=5000", "POP3GW_USERS=" + write(t, filepath.Join(dir, "users"), "alice@example.org:{PLAIN}"+password+"\n", owner),
		"POP3_PORT=" + freeAddress(t), "POP3S_PORT=" + address,
		"POP3GW_TLS=" + tls, "MAILDIRS=" + filepath.Join(dir, "mail"),
	})
	gateway := served(t, c, address)
	confined(t, gateway, owner)
	config, _ := trusted(t, gateway)
	s := mustLogin(t, address, config)
	s.must(t, "RETR 1")
	if _, err := s.ReadDotBytes(); err != nil {
		t.Fatal(err)
	}
	s.must(t, "DELE 1")
	s.must(t, "QUIT")
	left, err := os.ReadDir(filepath.Join(inbox, "new"))
	if err != nil || len(left) != 1 || left[0].Name() != "1" {
		t.Errorf("left are %v, want the second message: %v", left, err)
	}
}

// TestOAuth is compose.oauth.yaml with no edit but a client_id: it runs, and says who is
// to be authorised.
func TestOAuth(t *testing.T) {
	const owner = 65532
	dir := folder(t)
	address := freeAddress(t)
	config, err := os.ReadFile(filepath.Join(root, "packaging/docker/oauth.toml"))
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(config), "00000000-0000-0000-0000-000000000000", "11111111-2222-3333-4444-555555555555", 1)
	c := building(t, "compose.oauth.yaml", []string{
		"POP3GW_VERSION=1.2.3", "POP3GW_USERS=" + write(t, filepath.Join(dir, "users"), "alice@example.org:{PLAIN}"+password+"\n", owner),
		"POP3GW_CONFIG=" + write(t, filepath.Join(dir, "my.toml"), edited, owner),
		"POP3_PORT=" + freeAddress(t), "POP3S_PORT=" + address, "POP3GW_TLS=" + certificate(t, owner),
	})
	gateway := served(t, c, address)
	confined(t, gateway, owner)
	healthy(t, gateway)
	roots, _ := trusted(t, gateway)
	if _, err := login(address, roots); err == nil || !strings.Contains(err.Error(), "authorise it") {
		t.Errorf("a login before anybody has authorised it: %v", err)
	}
	if log, err := c.run("logs", "--no-color", "pop3gw"); err != nil || !strings.Contains(log, "pop3gw oauth login alice@example.org") {
		t.Errorf("the log does not say what to do: %v\n%s", err, log)
	}
}
