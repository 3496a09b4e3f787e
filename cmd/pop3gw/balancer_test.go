package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// Behind a balancer on the same machine a client is not on it, and who comes
// without a header is not served.
func TestServeBehindBalancer(t *testing.T) {
	_, dir, _ := startServe(t)
	text, err := os.ReadFile(dir + "/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, dir, "balancer.toml", strings.Replace(string(text), "address = \"127.0.0.1:0\"\n",
		"address = \"127.0.0.1:0\"\nproxy_protocol_from = [\"127.0.0.0/8\", \"2001:db8::1\"]\n", 1))
	p := start(t, dir, "serve", "--config", path)
	address := p.out.find(t, `msg=listening address=(\S+) tls=stls`)[1]
	p.out.find(t, "msg=ready")

	c, _ := dialBehind(t, address, "PROXY TCP4 198.51.100.7 203.0.113.1 4711 110\r\n")
	c.do("-ERR no password on a connection without TLS", "USER bob")
	c.stls(&tls.Config{InsecureSkipVerify: true})
	c.do("+OK", "USER bob")
	c.do("+OK", "PASS secret")
	c.do("+OK", "QUIT")
	p.out.find(t, `msg=login session=\S+ via=127.0.0.1 remote=198.51.100.7 tls="TLS 1.3" mechanism=USER user=bob `)

	named := write(t, dir, "named.toml", strings.Replace(string(text), "\"127.0.0.1:0\"", fmt.Sprintf("%q\nproxy_protocol_from = [\"127.0.0.1\"]", address), 1))
	if stdout, stderr, code := pop3gw(t, "", "health", "--config", named); code != 0 || stdout+stderr != "" {
		t.Errorf("health: exit code %d, %s%s", code, stdout, stderr)
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if log := p.out.String(); strings.Contains(log, "connection refused") {
		t.Errorf("the health check was refused:\n%s", log)
	}
}
