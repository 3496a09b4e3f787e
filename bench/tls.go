package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// keyPair names the files of a certificate for this machine and of its key.
type keyPair struct{ certificate, key string }

// newKeyPair makes them in the folder dir.
func newKeyPair(dir string) (keyPair, error) {
	pair := keyPair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return pair, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair, err
	}
	return pair, errors.Join(
		writeReadable(pair.certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		writeReadable(pair.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// writeReadable writes a file that the servers' users can read.
func writeReadable(path string, text []byte) error {
	return errors.Join(os.WriteFile(path, text, 0o644), os.Chmod(path, 0o644))
}

// overTLS is amongMany with STLS before the login.
func overTLS(ctx context.Context, to netip.AddrPort) (stream, func() bool, error) {
	nc, forget, err := amongMany(ctx, to)
	if err != nil {
		return nil, nil, err
	}
	c := &client{nc: nc, forget: forget, buf: make([]byte, 4<<10)}
	c.wait()
	if _, err = c.status(); err == nil {
		_, err = c.command("STLS")
	}
	if err != nil {
		c.close()
		return nil, nil, err
	}
	tc := tls.Client(nc.(net.Conn), &tls.Config{InsecureSkipVerify: true}) // which certificate it is, is not measured
	if err := tc.HandshakeContext(ctx); err != nil {
		c.close()
		return nil, nil, err
	}
	return tc, forget, nil
}
