//go:build real

package real

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// password is everybody's, in every store.
const password = "correct horse" // with a space, as RFC 1939 §7 lets PASS have

// binary builds pop3gw once. POP3GW_BINARY names one that is built already.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("POP3GW_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "pop3gw-binary-")
	if err != nil {
		return "", err
	}
	removeAtExit = append(removeAtExit, dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pop3gw")
	build := exec.Command("go", "build", "-o", path, "./cmd/pop3gw")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/pop3gw: %v\n%s", err, out)
	}
	return path, nil
})

// removeAtExit are folders that outlive single tests.
var removeAtExit []string

// gateway is a running pop3gw with two listeners: one with STLS that also
// takes clear-text logins, and one with implicit TLS.
type gateway struct {
	*process
	port, tlsPort int
	config        string // path of its configuration file
}

// startGateway runs "pop3gw serve" before a store, as the mail user. extra is
// appended to the configuration.
func startGateway(t testing.TB, s store, extra string) *gateway {
	t.Helper()
	dir := folder(t)
	mailFolder(t, filepath.Join(dir, "state"))
	g := &gateway{port: freePort(t), tlsPort: freePort(t), config: filepath.Join(dir, "config.toml")}
	write(t, g.config, fmt.Sprintf(`hostname = "pop.example.org"

[[listeners]]
address = %q
tls = "stls"
cleartext_login = "always"

[[listeners]]
address = %q
tls = "implicit"

[tls]
certificate = %q
key = %q

[state]
url = %q

%s
%s`, loopback(g.port), loopback(g.tlsPort), testCA().certFile, testCA().keyFile,
		"file://"+filepath.Join(dir, "state"), s.adapter(), extra), 0o644)
	g.start(t)
	return g
}

// start runs the gateway, for the first time or again.
func (g *gateway) start(t testing.TB) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "serve", "--config", g.config)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: mailUID, Gid: mailUID}}
	g.process = start(t, "pop3gw", cmd)
	g.waitGreeting(t, g.addr(), "+OK")
}

func (g *gateway) addr() string { return loopback(g.port) }

// peakMemory is the most memory that was ever resident, in octets (VmHWM).
func (g *gateway) peakMemory(t testing.TB) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmHWM in /proc/PID/status")
	return 0
}
