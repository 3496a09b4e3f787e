package imap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"pop3gw/gateway"
)

// certificate makes a self-signed certificate, and a file to trust it by.
func certificate(t *testing.T, name string, expires time.Time) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    expires.Add(-time.Hour),
		NotAfter:     expires,
		DNSNames:     []string{name},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// serve serves IMAP on loopback: with TLS at once, or by STARTTLS where config
// is not nil.
func serve(t *testing.T, mode TLSMode, config *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if mode == Implicit {
		l, config = tls.NewListener(l, config), nil
	}
	users := imapmemserver.New()
	user := imapmemserver.NewUser("ann", "secret")
	user.Create("INBOX", nil)
	users.AddUser(user)
	server := imapserver.New(&imapserver.Options{
		TLSConfig: config,
		Logger:    log.New(io.Discard, "", 0),
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return users.NewSession(), nil, nil
		},
	})
	done := make(chan struct{})
	go func() {
		server.Serve(l)
		close(done)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return address
}

func TestTLS(t *testing.T) {
	good, trusted := certificate(t, "mail.example.org", time.Now().Add(time.Minute))
	expired, trustedExpired := certificate(t, "mail.example.org", time.Now().Add(-time.Minute))
	config := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	const untrusted = "mail server's certificate cannot be verified"
	for _, tt := range []struct {
		name    string
		server  TLSMode
		config  *tls.Config
		options Options
		code    gateway.Code
		text    string
		cause   string
	}{
		{"implicit", Implicit, config(good), Options{CAFile: trusted, ServerName: "mail.example.org"}, "", "", ""},
		{"STARTTLS", StartTLS, config(good), Options{TLS: StartTLS, CAFile: trusted, ServerName: "mail.example.org"}, "", "", ""},
		{"unknown issuer", Implicit, config(good), Options{ServerName: "mail.example.org"}, "SYS/PERM", untrusted, "set ca_file"},
		{"unknown issuer, STARTTLS", StartTLS, config(good), Options{TLS: StartTLS, ServerName: "mail.example.org"}, "SYS/PERM", untrusted, "set ca_file"},
		{"other name", Implicit, config(good), Options{CAFile: trusted}, "SYS/PERM", untrusted, `the certificate is for "mail.example.org": set address or server_name`},
		{"expired", Implicit, config(expired), Options{CAFile: trustedExpired, ServerName: "mail.example.org"}, "SYS/PERM", untrusted, "expired"},
		{"old TLS", Implicit, &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10},
			Options{CAFile: trusted, ServerName: "mail.example.org"}, "SYS/PERM", "mail server and gateway do not agree on TLS", "TLS 1.2"},
		{"implicit at the port of STARTTLS", StartTLS, config(good), Options{CAFile: trusted}, "SYS/PERM",
			"mail server does not speak TLS where the gateway expects it", `set tls to "starttls"`},
		{"no STARTTLS", StartTLS, nil, Options{TLS: StartTLS, CAFile: trusted}, "SYS/PERM",
			"mail server does not offer TLS", `set tls to "implicit"`},
		{"clear text not allowed by the server", StartTLS, config(good), Options{TLS: NoTLS}, "SYS/PERM",
			"mail server takes no password from the gateway", `set tls to "starttls" or "implicit"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.options
			o.Address = serve(t, tt.server, tt.config)
			a, err := New(o, new(gateway.Locks), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			d, err := a.Open(t.Context(), account(a))
			checked := a.Check(t.Context())
			if tt.code != "" {
				wantError(t, err, tt.code, tt.text, tt.cause)
				wantError(t, checked, tt.code, tt.text, tt.cause)
				return
			}
			if err != nil || checked != nil {
				t.Fatal(err, checked)
			}
			d.Close()
		})
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	a, err := New(Options{Address: closed.Addr().String()}, new(gateway.Locks), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Open(t.Context(), account(a))
	wantError(t, err, gateway.CodeSysTemp, "mail server does not accept connections, try again later", "mend address")
}

// A connection to a server that is known costs no handshake with certificates.
func TestTLSResumes(t *testing.T) {
	good, trusted := certificate(t, "mail.example.org", time.Now().Add(time.Minute))
	for _, mode := range []TLSMode{Implicit, StartTLS} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			var mu sync.Mutex
			var resumed []bool
			config := &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: version, VerifyConnection: func(state tls.ConnectionState) error {
				mu.Lock()
				defer mu.Unlock()
				resumed = append(resumed, state.DidResume)
				return nil
			}}
			a, err := New(Options{Address: serve(t, mode, config), TLS: mode, CAFile: trusted, ServerName: "mail.example.org", KeepConnections: Never},
				new(gateway.Locks), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				d, err := a.Open(t.Context(), account(a))
				if err != nil {
					t.Fatal(err)
				}
				d.Close()
			}
			a.Close()
			mu.Lock()
			if !slices.Equal(resumed, []bool{false, true, true}) {
				t.Errorf("%s, TLS %x: sessions were resumed: %v", mode, version, resumed)
			}
			mu.Unlock()
		}
	}
}
