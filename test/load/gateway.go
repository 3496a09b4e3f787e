//go:build real

package load

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// full says that the sizes are those that must hold.
var full = os.Getenv("LOAD") == "full"

// binary builds pop3gw once. POP3GW_BINARY names one that is built already.
func binary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("POP3GW_BINARY"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "pop3gw")
	build := exec.Command("go", "build", "-o", path, "./cmd/pop3gw")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// gateway is a running pop3gw over Maildirs.
type gateway struct {
	pid        int
	plain, tls string // addresses of listeners without TLS, and with
	log        string // path of its log
}

// startGateway serves the users over Maildirs, whose passwords are in a passwd-file of
// lines "name:hash". Each has one message. limits are more keys of [limits].
func startGateway(t *testing.T, users map[string]string, limits string) *gateway {
	t.Helper()
	dir := t.TempDir()
	var passwd strings.Builder
	for name, hash := range users {
		fmt.Fprintf(&passwd, "%s:%s\n", name, hash)
		inbox := filepath.Join(dir, "mail", name, "Maildir")
		for _, sub := range []string{"cur", "new", "tmp"} {
			if err := os.MkdirAll(filepath.Join(inbox, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		write(t, filepath.Join(inbox, "new", "1.one.host"), "Subject: one\n\ntext\n")
	}
	write(t, filepath.Join(dir, "users"), passwd.String())
	return serve(t, dir, limits, fmt.Sprintf(`[adapters.store]
type = "maildir"
path = %q
[[routes]]
users = "*"
adapter = "store"
passwd_file = "users"
`, filepath.Join(dir, "mail", "{user}", "Maildir")))
}

// startGatewayBefore serves the users of an IMAP server.
func startGatewayBefore(t *testing.T, address string) *gateway {
	t.Helper()
	return serve(t, t.TempDir(), "", fmt.Sprintf(`[adapters.store]
type = "imap"
address = %q
tls = "none"
send_client_address = true
[[routes]]
users = "*"
adapter = "store"
`, address))
}

// serve runs pop3gw with a configuration in dir.
func serve(t *testing.T, dir, limits, store string) *gateway {
	t.Helper()
	writeCertificate(t, dir)
	config := filepath.Join(dir, "config.toml")
	write(t, config, fmt.Sprintf(`hostname = "localhost"
[[listeners]]
address = "127.0.0.1:0"
tls = "none"
cleartext_login = "always"
[[listeners]]
address = "127.0.0.1:0"
tls = "implicit"
[tls]
certificate = "tls.crt"
key = "tls.key"
[limits]
login_timeout = "15m"
%s%s`, limits, store))
	g := &gateway{log: filepath.Join(dir, "log")}
	log, err := os.Create(g.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary(t), "serve", "--config", config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.pid = cmd.Process.Pid
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
	})
	listening := regexp.MustCompile(`msg=listening address=(\S+) `)
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text, _ := os.ReadFile(g.log)
		if m := listening.FindAllStringSubmatch(string(text), -1); len(m) == 2 && strings.Contains(string(text), "msg=ready") {
			g.plain, g.tls = m[0][1], m[1][1]
			return g
		}
		if time.Now().After(until) {
			t.Fatalf("it does not serve:\n%s", text)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// memory is what the gateway has resident now, in octets, and at most so far.
func (g *gateway) memory(t *testing.T) (now, peak int64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.pid))
	if err != nil {
		t.Fatalf("the gateway is gone: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[2] == "kB" {
			kb, _ := strconv.ParseInt(fields[1], 10, 64)
			switch fields[0] {
			case "VmRSS:":
				now = kb << 10
			case "VmHWM:":
				peak = kb << 10
			}
		}
	}
	return now, peak
}

// files is how many files the gateway has open.
func (g *gateway) files(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

const mega = 1 << 20

// errorsInLog are the lines of the log that no load should bring.
func (g *gateway) errorsInLog(t *testing.T) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(g.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") {
			lines = append(lines, line)
		}
	}
	return lines
}

// client is a POP3 session.
type client struct {
	nc net.Conn
	in *bufio.Reader
}

var tlsClient = &tls.Config{InsecureSkipVerify: true}

// dial connects from an address of this machine, "" for any, and reads the greeting.
func dial(from, to string, withTLS bool) (*client, error) {
	d := net.Dialer{Timeout: 20 * time.Second, KeepAlive: -1}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	nc, err := d.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(60 * time.Second))
	if withTLS {
		nc = tls.Client(nc, tlsClient)
	}
	c := &client{nc, bufio.NewReaderSize(nc, 512)}
	line, err := c.in.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "+OK") {
		err = fmt.Errorf("greeting %q", line)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// command sends a line and returns the answer to it.
func (c *client) command(line string) (string, error) {
	if _, err := io.WriteString(c.nc, line+"\r\n"); err != nil {
		return "", err
	}
	return c.in.ReadString('\n')
}

// must is command for what has to be +OK.
func (c *client) must(line string) error {
	answer, err := c.command(line)
	if err == nil && !strings.HasPrefix(answer, "+OK") {
		err = fmt.Errorf("%.20s: %q", line, answer)
	}
	return err
}

// session is a poll: a login, a look, and the end.
func session(from, to string, withTLS bool, user, password string) error {
	_, err := timedSession(from, to, withTLS, user, password)
	return err
}

// stages are when each step of a session was done, from its beginning.
type stages struct{ connected, loggedIn, ended time.Duration }

// timedSession is session with what its steps took.
func timedSession(from, to string, withTLS bool, user, password string) (s stages, err error) {
	begin := time.Now()
	defer func() { s.ended = time.Since(begin) }()
	c, err := dial(from, to, withTLS)
	if err != nil {
		return s, err
	}
	defer c.nc.Close()
	s.connected = time.Since(begin)
	if err := errors.Join(c.must("USER "+user), c.must("PASS "+password)); err != nil {
		return s, err
	}
	s.loggedIn = time.Since(begin)
	if err := c.must("STAT"); err != nil {
		return s, err
	}
	return s, c.must("QUIT")
}

// failed collects errors, and keeps the first ones.
type failed struct {
	mu    sync.Mutex
	count int
	first []error
}

func (f *failed) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; len(f.first) < 5 {
		f.first = append(f.first, err)
	}
}
