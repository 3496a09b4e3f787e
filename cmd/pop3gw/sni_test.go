package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writePair writes name.crt and name.key: a certificate signed by itself for host
// names and mail addresses, whose common name is name.
func writePair(t *testing.T, dir, name string, isRSA bool, names ...string) {
	t.Helper()
	writePairUntil(t, time.Now().Add(time.Hour), dir, name, isRSA, names...)
}

// writePairUntil is writePair, for a certificate that ends some time.
func writePairUntil(t *testing.T, end time.Time, dir, name string, isRSA bool, names ...string) {
	t.Helper()
	var key crypto.Signer
	var err error
	if isRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	must(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: names,
		NotBefore: end.Add(-2 * time.Hour), NotAfter: end,
	}
	for _, n := range names {
		if strings.Contains(n, "@") {
			template.DNSNames = nil
			template.EmailAddresses = append(template.EmailAddresses, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	write(t, dir, name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, dir, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

// handshake returns the state of a TLS connection between the two.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Server(a, server).Handshake()
	client = client.Clone()
	client.InsecureSkipVerify = true
	c := tls.Client(b, client)
	err := c.Handshake()
	return c.ConnectionState(), err
}

var ecdsaOnly = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}

func TestCertificateByName(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "default", false, "pop.example.org")
	writePair(t, dir, "wild", false, "*.Example.net", "example.net")
	writePair(t, dir, "exact", false, "pop.example.net")
	writePair(t, dir, "rsa", true, "pop.example.org")
	writePair(t, dir, "nameless", false)
	certs := certificatesOf(t, dir, "default", "wild", "exact", "rsa", "nameless")
	server := newListenerTLS(&tls.Config{GetCertificate: certs.forClient}).config
	rsaOnly := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, tt := range []struct {
		name   string
		suites []uint16
		want   string
	}{
		{"pop.example.org", nil, "default"},
		{"POP.example.ORG", nil, "default"},
		{"pop.example.org.", nil, "default"},
		{"pop.example.org", ecdsaOnly, "default"},
		{"pop.example.org", rsaOnly, "rsa"},
		{"pop.example.net", nil, "exact"}, // though the wildcard comes first
		{"imap.example.net", nil, "wild"},
		{"example.net", nil, "wild"},
		{"a.b.example.net", nil, "default"}, // a wildcard is one label
		{"nameless", nil, "nameless"},       // by its common name
		{"elsewhere.example", nil, "default"},
		{"elsewhere.example", rsaOnly, "rsa"},
		{"", nil, "default"},
		{"", rsaOnly, "rsa"},
	} {
		client := &tls.Config{ServerName: tt.name, CipherSuites: tt.suites}
		if tt.suites != nil {
			client.MaxVersion = tls.VersionTLS12
		}
		state, err := handshake(t, server, client)
		if err != nil || state.PeerCertificates[0].Subject.CommonName != tt.want {
			t.Errorf("%q %v: %v, want %s", tt.name, tt.suites, err, tt.want)
		}
	}
}

// Each pair is watched by itself: one that is spoilt does not hinder another.
func TestEachCertificateIsReplaced(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "a", false, "a.example.org")
	writePair(t, dir, "b", false, "b.example.org")
	certs := certificatesOf(t, dir, "a", "b")
	server := &tls.Config{GetCertificate: certs.forClient}
	text := newSyncBuffer()
	log := slog.New(slog.NewTextHandler(text, nil))
	must(t, os.Remove(filepath.Join(dir, "a.key")))
	writePair(t, dir, "b", false, "b.example.org", "c.example.org")
	certs.reload(log)
	for _, name := range []string{"a.example.org", "b.example.org", "c.example.org"} {
		state, err := handshake(t, server, &tls.Config{ServerName: name})
		if err != nil || state.PeerCertificates[0].VerifyHostname(name) != nil {
			t.Errorf("%s: %v, %v", name, err, state.PeerCertificates[0].DNSNames)
		}
	}
	if s := text.String(); strings.Count(s, "level=ERROR") != 1 || !strings.Contains(s, "tls.certificates.key: open") || strings.Count(s, "certificate replaced") != 1 {
		t.Errorf("the log:\n%s", s)
	}
}

// An ACME client that changes the kind of key leaves old devices out, and that is said.
func TestRenewalWithoutRSA(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "tls", true, "localhost")
	for _, wantRSA := range []bool{true, false} {
		certs := certificatesOf(t, dir, "tls")
		certs.wantRSA = wantRSA
		text := newSyncBuffer()
		log := slog.New(slog.NewTextHandler(text, nil))
		certs.reload(log)
		if text.String() != "" {
			t.Errorf("without a change: %s", text)
		}
		writePair(t, dir, "tls", false, "localhost")
		certs.reload(log)
		if said := strings.Contains(text.String(), "level=ERROR msg=\"no certificate has an RSA key any more"); said != wantRSA {
			t.Errorf("wanted %v: %s", wantRSA, text)
		}
		writePair(t, dir, "tls", true, "localhost")
	}
}

func TestProfiles(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "ec", false, "localhost")
	writePair(t, dir, "rsa", true, "localhost")
	certs := certificatesOf(t, dir, "ec", "rsa")
	c := &config{Listeners: []listenerConfig{{TLSProfile: modernTLS}, {TLSProfile: legacyTLS}}}
	for _, tt := range []struct {
		name           string
		client         *tls.Config
		modern, legacy bool
	}{
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, true, true},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, true, true},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}, false, true},
		{"TLS 1.0, RSA key exchange, CBC", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, false, true},
		{"TLS 1.0, 3DES", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}}, false, true},
		{"TLS 1.2, RSA key exchange", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false, true},
		{"RC4", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}}, false, false},
	} {
		for i, want := range []bool{tt.modern, tt.legacy} {
			settings, err := c.tlsSettings(i, certs)
			must(t, err)
			if _, err := handshake(t, newListenerTLS(settings).config, tt.client); (err == nil) != want {
				t.Errorf("%s with the profile %s: %v", tt.name, c.Listeners[i].TLSProfile, err)
			}
		}
	}
}

func TestProfileOfReload(t *testing.T) {
	p, dir, address := startServe(t)
	writePair(t, dir, "rsa", true, "localhost")
	old := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
	refused := func() bool {
		c, _ := dial(t, address, nil)
		c.do("+OK", "STLS")
		return tls.Client(c.nc, old).Handshake() != nil
	}
	if !refused() {
		t.Error("TLS 1.0 with the profile modern")
	}
	rewrite(t, dir, `address = "127.0.0.1:0"`, "address = \"127.0.0.1:0\"\ntls_profile = \"legacy\"")
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.out.find(t, `was not reloaded.*tls_profile: found \\"legacy\\", whose devices need a certificate with an RSA key`)
	rewrite(t, dir, `key = "tls.key"`, "key = \"tls.key\"\n[[tls.certificates]]\ncertificate = \"rsa.crt\"\nkey = \"rsa.key\"")
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.out.find(t, `level=WARN msg="the configuration is risky" reason="\S+: listeners.tls_profile: \\"legacy\\" lets TLS 1.0 `)
	p.out.find(t, "configuration reloaded")
	c, _ := dial(t, address, nil)
	c.stls(old)
	c.do("+OK", "USER bob")
	c.do("+OK", "PASS secret")
	c.do("+OK", "QUIT")
	p.out.find(t, `msg=login .*tls="TLS 1.0"`)
}
