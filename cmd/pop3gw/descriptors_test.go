package main

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Without file descriptors the gateway goes on: one line in the log, and service
// again as soon as clients have left.
func TestServeWithoutFileDescriptors(t *testing.T) {
	_, dir, _ := startServe(t)
	p := startWithFiles(t, dir, 40, "serve", "--config", dir+"/config.toml")
	address := p.out.find(t, `msg=listening address=(\S+) tls=stls`)[1]
	p.out.find(t, `level=WARN msg="connections may be refused" reason=".*limits.max_connections: 10000 connections need 50000 open files, and this process may have 40; raise that \(LimitNOFILE`)
	p.out.find(t, "msg=ready")

	first, _ := dial(t, address, nil)
	first.do("+OK", "USER bob")
	first.do("+OK", "PASS secret")
	var crowd []net.Conn
	for range 60 {
		nc, err := net.DialTimeout("tcp", address, 10*time.Second) // the system accepts it
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		crowd = append(crowd, nc)
	}
	p.out.find(t, `level=ERROR msg="accepting connections fails; it is tried again and again" .*too many open files: this process has as many open files as it may; raise that`)
	first.do("+OK", "STAT") // who is there is served, though a message cannot be opened
	first.do("-ERR", "RETR 1")
	for _, nc := range crowd {
		nc.Close()
	}
	second, _ := dial(t, address, nil) // waits until it is accepted
	second.do("+OK", "USER bob")
	second.do("-ERR [IN-USE]", "PASS secret")
	first.do("+OK", "RETR 1")
	first.body()
	first.do("+OK", "QUIT")
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.out)
	}
	log := p.out.String()
	if n := strings.Count(log, "level=ERROR"); n != 1 {
		t.Errorf("%d errors in the log:\n%s", n, log)
	}
	if strings.Contains(log, "panic") {
		t.Errorf("a panic:\n%s", log)
	}
}
