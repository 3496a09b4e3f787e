package main

import (
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// startDemo starts the demo on ports that the system chooses, and returns what
// it prints: its folder, and the addresses for STLS and for TLS.
func startDemo(t *testing.T, tmp string) (p *process, dir, pop3, pop3s string) {
	t.Helper()
	p = start(t, tmp, "demo", "--port", "0", "--tls-port", "0")
	dir = filepath.Dir(p.out.find(t, `configuration +(\S+)\n`)[1])
	pop3, pop3s = p.out.find(t, `POP3 with STLS +(\S+)\n`)[1], p.out.find(t, `POP3 over TLS +(\S+)\n`)[1]
	p.out.find(t, "msg=ready")
	return p, dir, pop3, pop3s
}

func trust(t *testing.T, file string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

func isEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) > 0 {
		t.Errorf("%s is left behind", entries[0].Name())
	}
}

func TestDemo(t *testing.T) {
	tmp := t.TempDir()
	p, dir, pop3, pop3s := startDemo(t, tmp)
	config := trust(t, filepath.Join(dir, "tls.crt"))
	messages := splitMessages(demoMessages)
	octets := 0
	for _, m := range messages {
		octets += len(m)
	}
	size := fmt.Sprintf("+OK %d %d", len(messages), octets)

	logins := map[string]func(*client, string){
		"PASS": func(c *client, _ string) { c.do("+OK", "USER imap"); c.do("+OK", "PASS demo") },
		"APOP": func(c *client, greeting string) {
			stamp := regexp.MustCompile(`<.*>`).FindString(greeting)
			c.do("+OK", fmt.Sprintf("APOP maildir %x", md5.Sum([]byte(stamp+demoPassword))))
		},
		"STLS":      func(c *client, _ string) { c.stls(config); c.do("+OK", "USER maildir"); c.do("+OK", "PASS demo") },
		"STLS imap": func(c *client, _ string) { c.stls(config); c.do("+OK", "USER imap"); c.do("+OK", "PASS demo") },
	}
	for name, login := range logins {
		t.Run(name, func(t *testing.T) {
			c, greeting := dial(t, pop3, nil)
			login(c, greeting)
			c.do(size, "STAT")
			for i, m := range messages {
				c.do("+OK", fmt.Sprintf("RETR %d", i+1))
				if got, want := c.body(), strings.ReplaceAll(string(m), "\r\n", "\n"); got != want {
					t.Errorf("message %d is\n%swant\n%s", i+1, got, want)
				}
			}
			c.do("+OK", "QUIT")
		})
	}
	c, _ := dial(t, pop3s, config)
	c.do("+OK", "USER imap")
	c.do("-ERR [AUTH]", "PASS wrong")
	c.do("+OK", "USER imap")
	c.do("+OK", "PASS demo")
	c.do("+OK", "DELE 1")
	c.do("+OK", "QUIT")

	if err := buildFile(filepath.Join(dir, "config.toml")); err != nil {
		t.Errorf("the configuration to start from: %v", err)
	}
	if code := p.end(t, syscall.SIGINT); code != 0 {
		t.Errorf("exit code %d after SIGINT:\n%s", code, p.out)
	}
	isEmpty(t, tmp)
}

func TestDemoWithoutAPort(t *testing.T) {
	taken := occupied(t)
	_, port, err := net.SplitHostPort(taken)
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	const inUse = `another program listens on %s; stop it ("ss -ltnp" shows which) or choose another port`
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--port", port}, "--port " + port + ": " + fmt.Sprintf(inUse, taken)},
		{[]string{"--port", "0", "--tls-port", port}, "--tls-port " + port + ": " + fmt.Sprintf(inUse, taken)},
		{[]string{"--port", "70000"}, `--port 70000: listen tcp: address 70000: invalid port; an address is written "host:port", such as "0.0.0.0:110"`},
		{[]string{"--port", "0", "--address", "192.0.2.1"}, "--port 0: 192.0.2.1:0 is not an address of this machine; 0.0.0.0 stands for all of IPv4, [::] for all of IPv6"},
	} {
		out, stderr, code := pop3gw(t, "", append([]string{"demo"}, tt.args...)...)
		if code != 1 || out != "" || stderr != "pop3gw: "+tt.want+"\n" {
			t.Errorf("demo %v: exit code %d\n%s%swant %s", tt.args, code, out, stderr, tt.want)
		}
	}
	isEmpty(t, tmp)
}

func TestDemoThatFailsLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	// Listeners that are closed end the demo as soon as it serves.
	if err := runDemo(t.Context(), []net.Listener{l, l}, newSyncBuffer(), newSyncBuffer()); err == nil {
		t.Error("no error")
	}
	isEmpty(t, tmp)
}
