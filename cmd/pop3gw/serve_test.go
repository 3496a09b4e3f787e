package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

func countFiles(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// startServe serves a Maildir (bob) and an IMAP server (imap).
func startServe(t *testing.T) (p *process, dir, address string) {
	t.Helper()
	dir = checkFolder(t)
	text, err := os.ReadFile(dir + "/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "[tls]")
	write(t, dir, "config.toml", "[[listeners]]\naddress = \"127.0.0.1:0\"\n[tls]"+rest)
	p = start(t, dir, "serve", "--config", dir+"/config.toml")
	address = p.out.find(t, `msg=listening address=(\S+) tls=stls`)[1]
	p.out.find(t, "msg=ready")
	return p, dir, address
}

func TestServe(t *testing.T) {
	p, dir, address := startServe(t)
	inbox := filepath.Join(dir, "bob", "new")

	c, _ := dial(t, address, nil)
	c.do("+OK", "USER bob")
	c.do("+OK", "PASS secret")
	c.do("+OK", "DELE 2")
	c.do("+OK", "QUIT")
	if n := countFiles(t, inbox); n != 4 {
		t.Errorf("%d messages are left in the Maildir, want 4", n)
	}
	c, _ = dial(t, address, nil)
	c.do("+OK", "USER imap")
	c.do("+OK", "PASS demo")
	c.do("+OK", "DELE 1")
	c.do("+OK", "QUIT")

	// Two sessions run when the signal comes, one with a mark.
	marked, _ := dial(t, address, nil)
	marked.do("+OK", "USER bob")
	marked.do("+OK 4 ", "PASS secret")
	marked.do("+OK", "DELE 1")
	other, _ := dial(t, address, nil)
	other.do("+OK", "USER imap")
	other.do("+OK 4 ", "PASS demo")
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d after SIGTERM:\n%s", code, p.out)
	}
	if !marked.isClosed() || !other.isClosed() {
		t.Error("a session is still open")
	}
	if n := countFiles(t, inbox); n != 4 {
		t.Errorf("%d messages are left in the Maildir, want 4: a mark without QUIT removes nothing", n)
	}
	if nc, err := net.Dial("tcp", address); err == nil {
		nc.Close()
		t.Error("it still listens")
	}
	log := p.out.String()
	if !strings.Contains(log, "msg=stopped") || strings.Contains(log, "connections were cut") {
		t.Errorf("the log:\n%s", log)
	}
	if n := strings.Count(log, `msg="session ended"`); n != 4 {
		t.Errorf("%d sessions ended in the log, want 4", n)
	}
	if strings.Contains(log, "secret") {
		t.Errorf("the log has a password:\n%s", log)
	}
}

func TestServeWithoutAPort(t *testing.T) {
	dir := checkFolder(t) // the second address is taken
	_, stderr, code := pop3gw(t, "", "serve", "--config", dir+"/config.toml")
	want := fmt.Sprintf("pop3gw: %s/config.toml:5: listeners.address: another program listens on 127.0.0.1:", dir)
	if code != 1 || !strings.HasPrefix(stderr, want) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, %s\nwant %s", code, stderr, want)
	}
}

func TestServeWarns(t *testing.T) {
	dir := checkFolder(t)
	write(t, dir, "config.toml", fmt.Sprintf("[[listeners]]\naddress = \"0.0.0.0:0\"\n[adapters.a]\ntype = \"imap\"\naddress = %q\n[[routes]]\nusers = \"*\"\nadapter = \"a\"\n", unreachable(t)))
	p := start(t, dir, "serve", "--config", dir+"/config.toml")
	p.out.find(t, `level=WARN msg="the configuration is risky" reason=".*nobody can log in from another machine`)
	p.out.find(t, "msg=ready")
	if code := p.end(t, syscall.SIGINT); code != 0 {
		t.Errorf("exit code %d after SIGINT:\n%s", code, p.out)
	}
}

func TestListenErrors(t *testing.T) {
	taken := occupied(t)
	for _, tt := range []struct {
		err  error
		want string
	}{
		{func() error { _, err := listen(taken); return err }(), "another program listens on " + taken + `; stop it ("ss -ltnp" shows which) or choose another port`},
		{func() error { _, err := listen("192.0.2.1:0"); return err }(), "192.0.2.1:0 is not an address of this machine; 0.0.0.0 stands for all of IPv4, [::] for all of IPv6"},
		{listenError("0.0.0.0:110", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)}),
			"no right to listen on 0.0.0.0:110; ports below 1024 need root, the capability CAP_NET_BIND_SERVICE, or the sysctl net.ipv4.ip_unprivileged_port_start: give one of them, or choose a port above"},
	} {
		if tt.err == nil || tt.err.Error() != tt.want {
			t.Errorf("%v\nwant %s", tt.err, tt.want)
		}
	}
}

func TestListenOnOnePortTwice(t *testing.T) {
	v4, err := listen("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer v4.Close()
	address := v4.Addr().(*net.TCPAddr)
	if address.IP.To4() == nil {
		t.Errorf("0.0.0.0 listens on %v", address)
	}
	v6, err := listen(fmt.Sprintf("[::]:%d", address.Port))
	if err == nil {
		v6.Close()
	} else if strings.Contains(err.Error(), "another program") { // there may be no IPv6 here
		t.Errorf("[::] beside 0.0.0.0: %v", err)
	}
	all, err := listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	nc, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", all.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatalf("an address without a host does not listen on IPv4: %v", err)
	}
	nc.Close()
}

// An explicit GOMEMLIMIT, which the runtime has read at the start, stays.
func TestExplicitMemoryLimit(t *testing.T) {
	const limit = 123 << 20
	t.Setenv("GOMEMLIMIT", fmt.Sprint(limit))
	before := debug.SetMemoryLimit(limit)
	defer debug.SetMemoryLimit(before)
	var text strings.Builder
	limitMemory(slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Errorf("the limit became %d", got)
	}
	if !strings.Contains(text.String(), fmt.Sprint("octets=", limit)) {
		t.Errorf("the log says %q", text.String())
	}
}
