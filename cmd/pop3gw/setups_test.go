package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// serveTLS accepts connections with a certificate in dir, and greets as an IMAP
// server does. It returns the port.
func serveTLS(t *testing.T, dir, name string) (port int) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	must(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(10 * time.Second))
				fmt.Fprint(nc, "* OK ready\r\n")
				nc.Read(make([]byte, 100))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// TestWrongSetups has what is wrong in most set-ups, and what check says to it: the
// key, and what to change. Those that are wrong by the configuration alone are in
// TestWrongConfigurations, those that only an unprivileged user meets in test/real.
func TestWrongSetups(t *testing.T) {
	configFolder(t)
	writePair(t, ".", "imap", false, "imap.example.org")
	writePairUntil(t, time.Now().Add(-time.Hour), ".", "expired", false, "localhost")
	imapPort := serveTLS(t, ".", "imap")
	taken := occupied(t)
	for _, tt := range []struct{ name, old, new, want string }{
		{"port in use", `"127.0.0.1:0"`, `"` + taken + `"`,
			`FAIL listener ` + taken + ` config.toml:3: listeners.address: another program listens on ` + taken + `; stop it \("ss -ltnp" shows which\) or choose another port`},
		{"address of another machine", `"127.0.0.1:0"`, `"192.0.2.1:0"`,
			`FAIL listener 192.0.2.1:0 config.toml:3: listeners.address: 192.0.2.1:0 is not an address of this machine; 0.0.0.0 stands for all of IPv4, \[::\] for all of IPv6`},
		{"expired certificate", "certificate = \"tls.crt\"\nkey = \"tls.key\"", "certificate = \"expired.crt\"\nkey = \"expired.key\"",
			`FAIL certificate config.toml:10: tls.certificate: expired.crt expired on \d{4}-\d\d-\d\d; renew it`},
		{"certificate for another name", `"localhost"`, `"pop.example.org"`,
			`FAIL certificate config.toml:1: hostname: x509: certificate is valid for localhost, not pop.example.org; clients that connect to this name will refuse it: correct it, or name a certificate for it in \[tls\]`},
		{"Maildirs that are not there", `/nowhere/{user}`, `/nowhere/{user}`,
			`FAIL adapter files config.toml:12: adapters.files: /nowhere does not exist; create or mount it, or correct path`},
		{"IMAP server that is down", `connect_timeout = "30s"`, ``,
			`FAIL adapter office config.toml:15: adapters.office: .*connection refused; if the server is up, mend address.*`},
		{"IMAP server of no name", `address = "127.0.0.1:1"`, `address = "imap..example.org:993"`, // not asked of any resolver
			`FAIL adapter office config.toml:15: adapters.office: .*imap\.\.example\.org.*no such host.*`},
		{"IMAP server of another name", `address = "127.0.0.1:1"`, fmt.Sprintf("address = \"localhost:%d\"\nca_file = \"imap.crt\"", imapPort),
			`FAIL adapter office config.toml:15: adapters.office: .*the certificate is for "imap.example.org": set address or server_name to one of these.*`},
		{"IMAP server of an unknown authority", `address = "127.0.0.1:1"`, fmt.Sprintf("address = \"localhost:%d\"\nserver_name = \"imap.example.org\"", imapPort),
			`FAIL adapter office config.toml:15: adapters.office: .*set ca_file to the certificate of its issuer.*`},
		{"IMAP server without TLS", `address = "127.0.0.1:1"`, `address = "` + answering(t, "* OK ready\r\n") + `"`,
			`FAIL adapter office config.toml:15: adapters.office: .*set tls to "starttls" if the port is 143, or mend address.*`},
		{"state that is a file", "", "[state]\nurl = \"file://" + mustAbs(t, "users") + "\"\n",
			`FAIL state config.toml:36: state.url: .*/users/cache: not a directory; the gateway's user \(uid \d+\) must be able to write to this folder`},
		{"clear text to the world", "address = \"127.0.0.1:0\"\ntls = \"stls\"", "address = \"0.0.0.0:0\"\ntls = \"none\"\ncleartext_login = \"always\"",
			`warn configuration config.toml:5: listeners.cleartext_login: passwords and mail may cross the network in clear text; set tls to "stls" or "implicit", or listen in a network that you trust alone`},
		{"old TLS", `key = "tls.key"`, "key = \"tls.key\"\n[[tls.certificates]]\ncertificate = \"rsa.crt\"\nkey = \"rsa.key\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = \"implicit\"\ntls_profile = \"legacy\"",
			`warn configuration config.toml:18: listeners.tls_profile: "legacy" lets TLS 1.0 and 1.1, .*`},
	} {
		if tt.name == "old TLS" {
			writePair(t, ".", "rsa", true, "localhost")
		}
		write(t, ".", "config.toml", change(t, goodConfig, tt.old, tt.new))
		out, stderr, code := pop3gw(t, "", "check", "--config", "config.toml")
		out = regexp.MustCompile(` {2,}`).ReplaceAllString(out, " ")
		if !regexp.MustCompile(`(?m)^`+tt.want+`$`).MatchString(out) || code != 1 {
			t.Errorf("%s: exit code %d, want a line %s in\n%s%s", tt.name, code, tt.want, out, stderr)
		}
	}
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	must(t, err)
	return abs
}

// A certificate that has expired is served, with a warning.
func TestServeExpiredCertificate(t *testing.T) {
	dir := checkFolder(t)
	writePairUntil(t, time.Now().Add(-time.Hour), dir, "tls", false, "localhost")
	text, err := os.ReadFile(dir + "/config.toml")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "[tls]")
	write(t, dir, "config.toml", "[[listeners]]\naddress = \"127.0.0.1:0\"\n[tls]"+rest)
	p := start(t, dir, "serve", "--config", dir+"/config.toml")
	p.out.find(t, `level=WARN msg="clients will refuse the certificate" reason="\S+/config.toml:4: tls.certificate: \S+/tls.crt expired on \S+; renew it"`)
	p.out.find(t, "msg=ready")
}
