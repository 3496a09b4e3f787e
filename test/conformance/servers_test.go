//go:build real

package conformance

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ports "pop3gw/test/port"
)

// mailUID owns the mail and runs pop3gw; it needs no passwd entry.
const mailUID = 5000

// accounts are those of every server under test.
var (
	reader = Account{"reader", "pass-of-reader"}
	other  = Account{"other", "pass-of-other"}
	secret = Account{"secret", "pass-of-secret"} // has APOP
	odd    = map[string]Account{
		"a space":                {"odd1", "two words"},
		"a space in front":       {"odd2", " leading"},
		"a space behind":         {"odd3", "trailing "},
		"two spaces inside":      {"odd4", "two  spaces"},
		"UTF-8":                  {"odd5", "p\u00e4ssw\u00f6rd"},
		"quotes and backslashes": {"odd6", `a"b\c'd{5}`},
		"60 octets":              {"odd7", strings.Repeat("0123456789", 6)},
		"only spaces":            {"odd8", "   "},
	}
)

// world is what the servers of one test share: mail, passwords, a certificate.
type world struct {
	dir     string // everything below it goes when the test ends
	mail    string // mail/<user> is a Maildir
	users   string // passwd-file: name:{PLAIN}password
	cert    string
	key     string
	trusted *tls.Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests start servers under other users' ids: run them as root")
	}
	dir, err := os.MkdirTemp("", "conformance-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	w := &world{dir: dir, mail: filepath.Join(dir, "mail"), users: filepath.Join(dir, "users"), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	check(t, os.Mkdir(w.mail, 0o755))
	check(t, os.Chown(w.mail, mailUID, mailUID))
	var users strings.Builder
	everybody := []Account{reader, other, secret}
	for _, kind := range sorted(odd) {
		everybody = append(everybody, odd[kind])
	}
	for _, a := range everybody {
		fmt.Fprintf(&users, "%s:{PLAIN}%s\n", a.Name, a.Password)
		_, err := NewMaildir(filepath.Join(w.mail, a.Name), mailUID)
		check(t, err)
	}
	check(t, os.WriteFile(w.users, []byte(users.String()), 0o644))
	w.makeCertificate(t)
	return w
}

// makeCertificate writes a self-signed certificate for localhost.
func (w *world) makeCertificate(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	check(t, os.WriteFile(w.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	check(t, os.WriteFile(w.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	check(t, os.Chown(w.key, mailUID, mailUID))
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	w.trusted = &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

func (w *world) maildir(t *testing.T, a Account) *Maildir {
	t.Helper()
	m, err := NewMaildir(filepath.Join(w.mail, a.Name), mailUID)
	check(t, err)
	return m
}

// startDovecot runs a private Dovecot with one protocol, pop3 or imap, over the
// world's Maildirs, without the delays that slow down password guessing.
func (w *world) startDovecot(t *testing.T, protocol string) (address, tlsAddress string) {
	t.Helper()
	address, tlsAddress = freeAddress(t), freeAddress(t)
	dir := filepath.Join(w.dir, "dovecot-"+protocol)
	check(t, os.MkdirAll(filepath.Join(dir, "run"), 0o755))
	config := filepath.Join(dir, "dovecot.conf")
	check(t, os.WriteFile(config, fmt.Appendf(nil, `
base_dir = %[1]s/run
state_dir = %[1]s/run
log_path = %[1]s/log
instance_name = conformance-%[2]s
protocols = %[2]s
ssl = yes
ssl_cert = <%[3]s
ssl_key = <%[4]s
disable_plaintext_auth = yes
auth_mechanisms = plain login
auth_failure_delay = 0
mail_uid = %[5]d
mail_gid = %[5]d
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 0
stats_writer_socket_path =
mail_location = maildir:%[6]s/%%u
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service %[2]s-login {
  chroot =
  inet_listener %[2]s {
    address = 127.0.0.1
    port = %[7]s
  }
  inet_listener %[2]ss {
    address = 127.0.0.1
    port = %[8]s
  }
  service_count = 0
  process_min_avail = 1
}
passdb {
  driver = passwd-file
  args = scheme=PLAIN %[9]s
}
userdb {
  driver = static
  args = uid=%[5]d gid=%[5]d home=%[6]s/%%u
}
`, dir, protocol, w.cert, w.key, mailUID, w.mail, port(address), port(tlsAddress), w.users), 0o644))
	startServer(t, address, filepath.Join(dir, "log"), exec.Command("/usr/sbin/dovecot", "-F", "-c", config))
	return address, tlsAddress
}

// gatewayListeners are where a pop3gw under test listens.
type gatewayListeners struct{ open, implicit, strict, apop string }

// startGateway runs pop3gw as the mail user. adapter is the configuration of an
// adapter called "store"; route and upstream are added to the route that leads
// to it and to the one user of its own.
func (w *world) startGateway(t *testing.T, adapter, route, upstream string) gatewayListeners {
	t.Helper()
	dir := filepath.Join(w.dir, "gateway")
	state := filepath.Join(dir, "state")
	check(t, os.MkdirAll(state, 0o755))
	check(t, os.Chown(state, mailUID, mailUID))
	l := gatewayListeners{freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)}
	config := filepath.Join(dir, "config.toml")
	check(t, os.WriteFile(config, fmt.Appendf(nil, `
hostname = "pop.example.org"

[[listeners]]
address = %q
tls = "stls"
cleartext_login = "always"

[[listeners]]
address = %q
tls = "implicit"

[[listeners]]
address = %q
tls = "stls"
cleartext_login = "never"

[[listeners]]
address = %q
tls = "stls"
cleartext_login = "always"
mechanisms = ["USER", "PLAIN", "APOP"]

[tls]
certificate = %q
key = %q

[adapters.store]
%s

[[users]]
name = %q
password = "{PLAIN}%s"
adapter = "store"
%s

[[routes]]
users = "*"
adapter = "store"
%s

[state]
url = %q

%s
`, l.open, l.implicit, l.strict, l.apop, w.cert, w.key, adapter, secret.Name, secret.Password, upstream, route, "file://"+state, gatewayLimits), 0o644))
	binary := os.Getenv("POP3GW_BINARY") // one that is built already
	if binary == "" {
		binary = filepath.Join(dir, "pop3gw")
		build := exec.Command("go", "build", "-o", binary, "pop3gw/cmd/pop3gw")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building pop3gw: %v\n%s", err, out)
		}
	}
	serve := exec.Command(binary, "serve", "--config", config)
	serve.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: mailUID, Gid: mailUID}}
	startServer(t, l.open, "", serve)
	return l
}

// gatewayLimits are limits that hundreds of failed logins from one address
// stay within.
const gatewayLimits = `
[limits]
max_connections_per_address = 1000
max_login_failures = 10
login_failure_delay = "1ns" # which doubles with each failure, 16 times at most
`

// startServer runs a server until the test ends and waits for its greeting. Of
// a failed test its output and the file logPath are shown.
func startServer(t *testing.T, address, logPath string, cmd *exec.Cmd) {
	t.Helper()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Dir = "/"
	check(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s did not end within 20 s of SIGTERM", cmd.Path)
			cmd.Process.Kill()
			<-ended
		}
		for _, sign := range []string{"DATA RACE", "panic"} { // built with GOFLAGS=-race it tells of races
			if bytes.Contains(output.Bytes(), []byte(sign)) {
				t.Errorf("%s printed %q", filepath.Base(cmd.Path), sign)
			}
		}
		if t.Failed() {
			file, _ := os.ReadFile(logPath)
			t.Logf("the end of the log of %s:\n%s%s", filepath.Base(cmd.Path), ending(output.Bytes()), ending(file))
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			_, err = io.ReadFull(conn, make([]byte, 3))
			conn.Close()
			if err == nil {
				return
			}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended at once: %v\n%s", cmd.Path, err, output.Bytes())
		case <-time.After(30 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not greet on %s: %v", cmd.Path, address, err)
		}
	}
}

func ending(log []byte) []byte { return log[max(0, len(log)-4000):] }

// freeAddress is a loopback address with a port that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	free, err := ports.Free()
	check(t, err)
	return fmt.Sprintf("127.0.0.1:%d", free)
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
