package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// told is what systemd is told on its socket.
type told struct {
	path  string
	lines chan string
}

func newTold(t *testing.T) *told {
	t.Helper()
	n := &told{filepath.Join(t.TempDir(), "notify"), make(chan string, 100)}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			k, err := l.Read(buffer)
			if err != nil {
				return
			}
			n.lines <- string(buffer[:k])
		}
	}()
	return n
}

// wait waits for a message with a line, and returns the message.
func (n *told) wait(t *testing.T, line string) string {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case got := <-n.lines:
			if strings.HasPrefix(got+"\n", line) {
				return got
			}
		case <-timeout:
			t.Fatalf("systemd was not told %s", line)
		}
	}
}

// startActivated is start with sockets passed as systemd does, whose process
// knows its own number.
func startActivated(t *testing.T, tmp string, sockets []net.Listener, env []string, args ...string) *process {
	t.Helper()
	script := `LISTEN_PID=$$ exec "$0" "$@"`
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, os.Args[0]}, args...)...)
	cmd.Env = append(env, "LISTEN_FDS="+string(rune('0'+len(sockets))))
	for _, l := range sockets {
		f, err := l.(*net.TCPListener).File()
		must(t, err)
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	return startCommand(t, tmp, cmd)
}

func TestSystemd(t *testing.T) {
	dir := checkFolder(t)
	var sockets []net.Listener
	var listeners string
	for _, tls := range []string{"stls", "implicit"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		sockets = append(sockets, l)
		listeners = "[[listeners]]\naddress = \"" + l.Addr().String() + "\"\ntls = \"" + tls + "\"\n" + listeners // in the other order
	}
	text, err := os.ReadFile(dir + "/config.toml")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "[tls]")
	write(t, dir, "config.toml", listeners+"[tls]"+rest)

	early, err := net.Dial("tcp", sockets[0].Addr().String()) // before it runs
	must(t, err)
	defer early.Close()
	systemd := newTold(t)
	p := startActivated(t, dir, sockets, []string{"NOTIFY_SOCKET=" + systemd.path, "WATCHDOG_USEC=150000"}, "serve", "--config", dir+"/config.toml")
	systemd.wait(t, "READY=1\nSTATUS=Serving on 2 listeners")
	early.SetDeadline(time.Now().Add(20 * time.Second))
	greeting := make([]byte, 3)
	if _, err := early.Read(greeting); err != nil || string(greeting) != "+OK" {
		t.Errorf("who connected before the start gets %q, %v", greeting, err)
	}
	if err := health(t.Context(), sockets[1].Addr().String(), true, nil); err != nil {
		t.Errorf("the second socket: %v", err)
	}
	systemd.wait(t, "WATCHDOG=1\n")
	systemd.wait(t, "WATCHDOG=1\nSTATUS=Serving ")
	must(t, p.Process.Signal(syscall.SIGHUP))
	systemd.wait(t, "RELOADING=1\nMONOTONIC_USEC=")
	systemd.wait(t, "READY=1\n")
	must(t, p.Process.Signal(syscall.SIGTERM))
	systemd.wait(t, "STOPPING=1\n")
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.out)
	}

	// A socket that no listener wants is a mistake.
	write(t, dir, "config.toml", "[[listeners]]\naddress = \""+sockets[0].Addr().String()+"\"\n[tls]"+rest)
	p = startActivated(t, dir, sockets, nil, "serve", "--config", dir+"/config.toml")
	if code := p.exit(t); code != 1 || !strings.Contains(p.out.String(), "config.toml:1: listeners: systemd listens on "+sockets[1].Addr().String()+
		", and no listener has this address; correct ListenStream= in pop3gw.socket, or add the listener") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
}

// The watchdog's signal does not end it as a wrong configuration does, after which systemd
// would not start it again, and leaves no core file.
func TestWatchdogSignal(t *testing.T) {
	_, dir, _ := startServe(t)
	p := startCommand(t, dir, exec.Command("/bin/sh", "-c", `ulimit -S -c unlimited; cd "$1" && exec "$0" serve --config config.toml`, os.Args[0], dir))
	p.out.find(t, "msg=ready")
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.Process.Pid)); err != nil || !regexp.MustCompile(`Max core file size +0 `).Match(limits) {
		t.Errorf("%s, %v", limits, err)
	}
	must(t, p.Process.Signal(syscall.SIGABRT))
	p.exit(t)
	if status := p.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGABRT || status.CoreDump() {
		t.Errorf("it ended with %v", p.ProcessState)
	}
	if out := p.out.String(); !strings.Contains(out, "goroutine ") {
		t.Errorf("nothing says what it did:\n%s", out)
	}
}

func TestSocketFitsAddress(t *testing.T) {
	for _, tt := range []struct {
		socket, address string
		want            int
	}{
		{"127.0.0.1:110", "127.0.0.1:110", 2},
		{"127.0.0.1:110", "127.0.0.1:995", 0},
		{"127.0.0.1:110", "127.0.0.2:110", 0},
		{"127.0.0.1:110", ":110", 0},
		{"0.0.0.0:110", "0.0.0.0:110", 2},
		{"0.0.0.0:110", ":110", 1},
		{"0.0.0.0:110", "[::]:110", 1},
		{"[::]:110", "0.0.0.0:110", 1},
		{"[::]:110", "[::]:110", 2},
		{"[::]:110", ":pop3", 1},
		{"[::ffff:127.0.0.1]:110", "127.0.0.1:110", 2},
		{"[::1]:110", "localhost.invalid:110", 0},
	} {
		if got := fits(netip.MustParseAddrPort(tt.socket), tt.address); got != tt.want {
			t.Errorf("the socket %s fits %s: %d, want %d", tt.socket, tt.address, got, tt.want)
		}
	}
}
