package main

import (
	"crypto/tls"
	"encoding/base64"
	"os"
	"strings"
	"syscall"
	"testing"
)

// Clients log in by their certificates, as the name in it and no other.
func TestLoginByCertificate(t *testing.T) {
	p, dir, address := startServe(t)
	var authorities []byte
	for name, addresses := range map[string][]string{"bob": nil, "mail": {"bob@example.org"}, "imap": nil, "else": nil, "stranger": nil} {
		writePair(t, dir, name, false, addresses...)
		text, err := os.ReadFile(dir + "/" + name + ".crt")
		must(t, err)
		if name != "stranger" {
			authorities = append(authorities, text...)
		}
	}
	write(t, dir, "clients.pem", string(authorities))
	rewrite(t, dir, `address = "127.0.0.1:0"`, "address = \"127.0.0.1:0\"\nclient_ca_file = \"clients.pem\"",
		`name = "own"`, `name = "bob@example.org"`)
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.out.find(t, "configuration reloaded")

	connect := func(name string) *client {
		t.Helper()
		config := &tls.Config{InsecureSkipVerify: true}
		if name != "" {
			pair, err := tls.LoadX509KeyPair(dir+"/"+name+".crt", dir+"/"+name+".key")
			must(t, err)
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		c, _ := dial(t, address, nil)
		c.stls(config)
		return c
	}
	identity := base64.StdEncoding.EncodeToString
	for _, tt := range []struct{ certificate, response, want string }{
		{"", "=", "-ERR this way to log in is not offered here"},
		{"bob", "=", "+OK 5 "},
		{"bob", identity([]byte("bob")), "+OK 5 "},
		{"bob", identity([]byte("own")), "-ERR [AUTH]"},
		{"bob", identity([]byte("imap")), "-ERR [AUTH]"},
		{"mail", "=", "+OK 5 "},        // with a secret of its own for the IMAP server
		{"imap", "=", "-ERR [AUTH] "},  // whose password the server wants
		{"else", "=", "-ERR [AUTH] "},  // unknown here
		{"bob", "!", "-ERR response "}, // no base64
	} {
		c := connect(tt.certificate)
		c.do("+OK", "CAPA")
		if has := strings.Contains(c.body(), "SASL EXTERNAL PLAIN LOGIN\n"); has != (tt.certificate != "") {
			t.Errorf("certificate %q: CAPA has EXTERNAL: %v", tt.certificate, has)
		}
		c.do(tt.want, "AUTH EXTERNAL "+tt.response)
		c.do("+OK", "QUIT")
	}
	c := connect("bob")
	c.do("+", "AUTH EXTERNAL")
	c.do("+OK 5 ", "") // the empty identity

	stranger := connect("stranger")
	if err := stranger.PrintfLine("NOOP"); err == nil {
		_, err = stranger.ReadLine()
		if err == nil {
			t.Error("a certificate of an unknown authority was taken")
		}
	}
	p.out.find(t, `level=INFO msg=login .*mechanism=EXTERNAL user=bob@example.org`)
	p.out.find(t, `error="\\"imap\\" cannot log in with a certificate: the store wants the password; `)
	p.out.find(t, `msg="session ended" .*ended="TLS failed".*error="TLS handshake: .*certificate signed by unknown authority`)
}
