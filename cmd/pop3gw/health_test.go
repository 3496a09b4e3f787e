package main

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHealth(t *testing.T) {
	dir := checkFolder(t)
	taken := unreachable(t)
	rest := "[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n[adapters.a]\ntype = \"maildir\"\npath = \"" + dir +
		"/{user}\"\n[[users]]\nname = \"bob\"\npassword = \"{PLAIN}secret\"\nadapter = \"a\"\n[log]\nlevel = \"debug\"\n"
	port := taken[strings.LastIndexByte(taken, ':'):]
	for _, listener := range []string{
		"address = \"0.0.0.0" + port + "\"\ntls = \"stls\"\n",
		"address = \"" + port + "\"\ntls = \"none\"\n",
		"address = \"127.0.0.1" + port + "\"\ntls = \"implicit\"\n",
	} {
		path := write(t, dir, "health.toml", "[[listeners]]\n"+listener+rest)
		if _, stderr, code := pop3gw(t, "", "health", "--config", path); code != 1 ||
			!strings.Contains(stderr, "connection refused; is pop3gw running, and does it listen there?") {
			t.Errorf("before the start: exit code %d, %s", code, stderr)
		}
		p := start(t, dir, "serve", "--config", path)
		p.out.find(t, "msg=ready")
		if stdout, stderr, code := pop3gw(t, "", "health", "--config", path); code != 0 || stdout+stderr != "" {
			t.Errorf("%s: exit code %d, %s%s", listener, code, stdout, stderr)
		}
		args := []string{"health", "--address", taken}
		if strings.Contains(listener, "implicit") {
			args = append(args, "--tls")
		}
		if _, stderr, code := pop3gw(t, "", args...); code != 0 {
			t.Errorf("%v: exit code %d, %s", args, code, stderr)
		}
		// Health checks do not fill a log of the usual level.
		p.out.find(t, `(?s)level=DEBUG msg="session ended".*level=DEBUG msg="session ended"`)
		if code := p.end(t, syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

// answering is the address of a server that sends text and no more.
func answering(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			nc.Write([]byte(text))
			if strings.HasSuffix(text, "\n") || text == "" {
				t.Cleanup(func() { nc.Close() })
				continue
			}
			nc.Close()
		}
	}()
	return l.Addr().String()
}

func TestHealthOfOthers(t *testing.T) {
	busy := answering(t, "-ERR [SYS/TEMP] too many connections\r\n")
	smtp := answering(t, "220 mx ESMTP\r\n")
	silent := answering(t, "")
	cut := answering(t, "+OK")
	long := answering(t, "+OK "+strings.Repeat("x", 600))
	for _, tt := range []struct {
		address string
		tls     bool
		want    string
	}{
		{busy, false, busy + ` answers "-ERR [SYS/TEMP] too many connections"; wanted is a greeting +OK`},
		{smtp, false, smtp + ` answers "220 mx ESMTP"; wanted is a greeting +OK`},
		{cut, false, cut + " does not greet: EOF"},
		{long, false, long + " does not greet: bufio: buffer full"},
		{silent, false, "i/o timeout"},
		{busy, true, "is this a port with TLS from the first octet on?"},
	} {
		start := time.Now()
		err := health(t.Context(), tt.address, tt.tls, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v\nwant %s", err, tt.want)
		}
		if took := time.Since(start); took > healthTimeout+2*time.Second {
			t.Errorf("%s: it took %v", tt.want, took)
		}
	}
	for _, tt := range []struct {
		args   []string
		stderr string
	}{
		{[]string{"--tls"}, "pop3gw: --tls goes with --address; without it the configuration says whether there is TLS\n"},
		{[]string{"--address", "x:1", "--config", "y"}, "pop3gw: --address needs no configuration; leave --config out\n"},
		{[]string{"--config", "/nowhere.toml"}, "pop3gw: open /nowhere.toml: no such file or directory; name the configuration file with --config or $POP3GW_CONFIG\n"},
	} {
		if _, stderr, code := pop3gw(t, "", append([]string{"health"}, tt.args...)...); code != 2 || stderr != tt.stderr {
			t.Errorf("%v: exit code %d, %s", tt.args, code, stderr)
		}
	}
}

// A configuration that was edited since, well or badly, is not what a running gateway
// is judged by: what watches it would restart it into that edit.
func TestHealthAfterAnEdit(t *testing.T) {
	p, dir, address := startServe(t)
	ask := func(when string, want int, reason string) {
		t.Helper()
		if _, stderr, code := pop3gw(t, "", "health", "--config", dir+"/config.toml"); code != want || !strings.Contains(stderr, reason) {
			t.Errorf("%s: exit code %d, want %d: %s", when, code, want, stderr)
		}
	}
	rewrite(t, dir, `address = "127.0.0.1:0"`, `address = "`+unreachable(t)+"\"\ntls = \"implicit\"")
	ask("another address", 0, "")
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.out.find(t, "msg=\"configuration reloaded\"")
	ask("another address, reloaded", 0, "")
	rewrite(t, dir, "[tls]", "[tls")
	ask("a mistake", 0, "")
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.out.find(t, "the configuration was not reloaded")
	ask("a mistake that was refused", 0, "")
	must(t, p.Process.Signal(syscall.SIGSTOP))
	ask("it hangs", 1, "pop3gw runs, and does not say where it listens: ")
	must(t, p.Process.Signal(syscall.SIGCONT))
	ask("it goes on", 0, "")
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.out)
	}
	ask("it is gone", 2, "config.toml:")
	if nc, err := net.Dial("tcp", address); err == nil {
		nc.Close()
		t.Error("it still listens")
	}
}

// A listener that turns to TLS from the first octet on is asked so at once.
func TestHealthAfterReload(t *testing.T) {
	p, dir, _ := startServe(t)
	rewrite(t, dir, "[tls]", "tls = \"implicit\"\nproxy_protocol_from = [\"127.0.0.1\"]\n[tls]")
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.out.find(t, "msg=\"configuration reloaded\"")
	if _, stderr, code := pop3gw(t, "", "health", "--config", dir+"/config.toml"); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
