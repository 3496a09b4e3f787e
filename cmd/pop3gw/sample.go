package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	gomaildir "github.com/emersion/go-maildir"
)

// What the demo serves: sample mail in a Maildir and in an IMAP server, and a
// certificate.

// splitMessages takes the sample apart: each message follows a "From " line.
func splitMessages(mbox string) [][]byte {
	var messages [][]byte
	for _, m := range strings.Split("\n"+mbox, "\nFrom \n")[1:] {
		m = strings.TrimSuffix(m, "\n") + "\n"
		messages = append(messages, []byte(strings.ReplaceAll(m, "\n", "\r\n")))
	}
	return messages
}

// fillMaildir makes a Maildir of messages, in their order: the names begin with
// a time, as those of a delivery do, a second later for each.
func fillMaildir(path string, messages [][]byte) error {
	if err := gomaildir.Dir(path).Init(); err != nil {
		return err
	}
	start := time.Date(2026, time.March, 2, 9, 0, 0, 0, time.UTC).Unix()
	for i, m := range messages {
		name := fmt.Sprintf("%d.sample%d.localhost", start+int64(i), i+1)
		if err := os.WriteFile(filepath.Join(path, "new", name), m, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// demoUpstream is an IMAP server with one account, "imap".
type demoUpstream struct {
	*imapserver.Server
	address string
}

func serveIMAP(messages [][]byte) (*demoUpstream, error) {
	user := imapmemserver.NewUser("imap", demoPassword)
	if err := user.Create("INBOX", nil); err != nil {
		return nil, err
	}
	for _, m := range messages {
		if _, err := user.Append("INBOX", literal{bytes.NewReader(m), int64(len(m))}, &imap.AppendOptions{}); err != nil {
			return nil, err
		}
	}
	mem := imapmemserver.New()
	mem.AddUser(user)
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return mem.NewSession(), nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
		InsecureAuth: true, // it listens on loopback alone
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go server.Serve(l)
	return &demoUpstream{server, l.Addr().String()}, nil
}

// literal is an imap.LiteralReader.
type literal struct {
	io.Reader
	size int64
}

func (l literal) Size() int64 { return l.size }

// writeCertificate makes a self-signed certificate for this machine and for the
// address of a listener, good for a day.
func writeCertificate(certPath, keyPath string, addr net.Addr) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "pop3gw demo"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if tcp, ok := addr.(*net.TCPAddr); ok {
		template.IPAddresses = append(template.IPAddresses, tcp.IP)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
}
