package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"pop3gw/gateway"
)

func credentials(user, password string) gateway.Credentials {
	return gateway.Credentials{User: user, Password: password}
}

// write writes a file of t's own folder and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeTestCertificate puts tls.crt and tls.key into dir.
func writeTestCertificate(t *testing.T, dir string) {
	t.Helper()
	if err := writeCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
}

// occupied is the address of a listener that is open until the test ends.
func occupied(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// unreachable is an address that nothing listens on.
func unreachable(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
