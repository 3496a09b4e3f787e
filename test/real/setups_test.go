//go:build real

package real

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asMailUser runs pop3gw to its end as the mail user, in a network of its own with
// no rights in it.
func asMailUser(t *testing.T, args ...string) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: mailUID, Gid: mailUID},
		Cloneflags: syscall.CLONE_NEWNET, // where ports below 1024 are privileged, whatever they are outside
	}
	out, err := run(20*time.Second, cmd)
	if err == nil {
		t.Errorf("pop3gw %v succeeds:\n%s", args, out)
	}
	return regexp.MustCompile(` {2,}`).ReplaceAllString(out, " ")
}

// TestUnprivilegedSetups has what goes wrong for want of rights, and what pop3gw says
// to it: the key, and what to change.
func TestUnprivilegedSetups(t *testing.T) {
	m := newMaildirs(t)
	m.deliver(t, "alice", letters(1)...)
	m.deliver(t, "bob", letters(1)...)
	if err := os.Chown(m.path("bob"), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(m.path("bob"), 0o700); err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	write(t, filepath.Join(dir, "root.key"), "", 0o600)
	const listener = "[[listeners]]\naddress = \"127.0.0.1:1110\"\n"
	for _, tt := range []struct {
		name, config string
		args         []string
		want         string
	}{
		{"privileged port, serve", "[[listeners]]\naddress = \"127.0.0.1:110\"\n", []string{"serve"},
			`pop3gw: CONFIG:2: listeners\.address: no right to listen on 127\.0\.0\.1:110; ports below 1024 need root, the capability CAP_NET_BIND_SERVICE, or the sysctl net\.ipv4\.ip_unprivileged_port_start: give one of them, or choose a port above`},
		{"privileged port, check", "[[listeners]]\naddress = \"127.0.0.1:110\"\n", []string{"check"},
			`FAIL listener 127\.0\.0\.1:110 CONFIG:2: listeners\.address: no right to listen on 127\.0\.0\.1:110; ports below 1024 need root, the capability CAP_NET_BIND_SERVICE, .*`},
		{"Maildir of another", listener, []string{"check", "--user", "bob"},
			`FAIL user bob CONFIG:4: adapters\.archive: .*/bob/Maildir: the gateway's user \(uid 5000\) needs to read and enter it: .*permission denied.*`},
		{"key of another", listener + "[tls]\ncertificate = \"" + testCA().certFile + "\"\nkey = \"" + filepath.Join(dir, "root.key") + "\"\n", []string{"serve"},
			`pop3gw: CONFIG:5: tls\.key: open .*/root\.key: permission denied; set it to a PEM file that the gateway's user \(uid 5000\) can read`},
		{"state of another, check", listener + "[state]\nurl = \"file://" + dir + "/state\"\n", []string{"check"},
			`FAIL state CONFIG:4: state\.url: .*: permission denied; the gateway's user \(uid 5000\) must be able to write to this folder`},
		{"state of another, serve", listener + "[state]\nurl = \"file://" + dir + "/state\"\n", []string{"serve"},
			`pop3gw: CONFIG:4: state\.url: .*permission denied; the gateway's user \(uid 5000\) must be able to write to .*/state`},
		{"list of users of another", listener + "[[users]]\nname = \"eve\"\npassword_file = \"" + filepath.Join(dir, "root.key") + "\"\nadapter = \"archive\"\n", []string{"serve"},
			`pop3gw: CONFIG:5: users\.password_file: open .*/root\.key: permission denied; it must be a file that the gateway's user \(uid 5000\) can read`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := filepath.Join(dir, "config.toml")
			write(t, config, tt.config+m.adapter(), 0o644)
			out := asMailUser(t, append(tt.args, "--config", config)...)
			want := strings.ReplaceAll(tt.want, "CONFIG", regexp.QuoteMeta(config))
			if !regexp.MustCompile("(?m)^" + want + "$").MatchString(out) {
				t.Errorf("want a line %s in\n%s", want, out)
			}
		})
	}
}

// TestLegacyTLS has OpenSSL speak TLS 1.0 with RSA key exchange and CBC, as old
// devices do: a listener with the profile "legacy" answers and a modern one does not.
func TestLegacyTLS(t *testing.T) {
	m := newMaildirs(t)
	m.deliver(t, "alice", letters(1)...)
	dir := folder(t)
	key, cert := filepath.Join(dir, "rsa.key"), filepath.Join(dir, "rsa.crt")
	if out, err := run(30*time.Second, exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
		"-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chown(key, mailUID, mailUID); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	g := startGateway(t, m, fmt.Sprintf(`
[[tls.certificates]]
certificate = %q
key = %q
[[listeners]]
address = %q
tls = "implicit"
tls_profile = "legacy"
`, cert, key, loopback(port)))
	for _, tt := range []struct {
		name   string
		port   int
		flags  []string
		want   []string // in what OpenSSL says
		refuse bool
	}{
		{"TLS 1.0, RSA, AES-CBC", port, []string{"-tls1", "-cipher", "AES128-SHA:@SECLEVEL=0"}, []string{"Protocol  : TLSv1\n", "Cipher    : AES128-SHA\n"}, false},
		{"TLS 1.1, RSA, AES-CBC", port, []string{"-tls1_1", "-cipher", "AES256-SHA:@SECLEVEL=0"}, []string{"Protocol  : TLSv1.1\n", "Cipher    : AES256-SHA\n"}, false},
		{"TLS 1.2, RSA key exchange", port, []string{"-tls1_2", "-cipher", "AES128-SHA256:@SECLEVEL=0"}, []string{"Protocol  : TLSv1.2\n"}, false},
		{"TLS 1.0, ECDHE", port, []string{"-tls1", "-cipher", "ECDHE-RSA-AES128-SHA:@SECLEVEL=0"}, []string{"Protocol  : TLSv1\n"}, false},
		{"TLS 1.3", port, []string{"-tls1_3"}, []string{"TLSv1.3"}, false},
		{"TLS 1.0 at the modern one", g.tlsPort, []string{"-tls1", "-cipher", "ALL:@SECLEVEL=0"}, nil, true},
		{"RSA key exchange at the modern one", g.tlsPort, []string{"-tls1_2", "-cipher", "AES128-SHA256:AES128-SHA:@SECLEVEL=0"}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			command := fmt.Sprintf(`(for line in "USER alice" "PASS %s" STAT QUIT; do sleep 0.2; printf '%%s\r\n' "$line"; done; sleep 0.5) |
				openssl s_client -ign_eof -connect 127.0.0.1:%d %s 2>&1`, password, tt.port, strings.Join(tt.flags, " "))
			out, _ := run(20*time.Second, exec.Command("/bin/sh", "-c", command))
			logged := strings.Contains(out, "+OK 1 ") && strings.Contains(out, "bye")
			if logged == tt.refuse {
				t.Errorf("logged in: %v\n%s", logged, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("OpenSSL does not say %q:\n%s", want, out)
				}
			}
		})
	}
	if log := g.log.String(); !strings.Contains(log, `"legacy\" lets TLS 1.0 and 1.1`) || !strings.Contains(log, `tls="TLS 1.0"`) {
		t.Errorf("the log says nothing of old TLS:\n%s", log)
	}
}
