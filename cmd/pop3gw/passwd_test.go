package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pop3gw/gateway"
	"pop3gw/gateway/account"
)

// opens reports whether password logs in where hash is stored.
func opens(t *testing.T, hash, password string) bool {
	t.Helper()
	d, err := account.New(account.Config{Users: []account.User{{
		Name: "bob", Password: hash, Target: account.Target{Adapter: struct{ gateway.Adapter }{}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Login(t.Context(), gateway.Credentials{User: "bob", Password: password})
	return err == nil
}

func TestPasswdFromStandardInput(t *testing.T) {
	for _, stdin := range []string{"s3cret pass\n", "s3cret pass", "s3cret pass\r\n", "s3cret pass\nsecond line\n"} {
		out, stderr, code := pop3gw(t, stdin, "passwd")
		hash, ok := strings.CutSuffix(out, "\n")
		if code != 0 || stderr != "" || !ok || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Fatalf("%q: exit code %d, %q, %q", stdin, code, out, stderr)
		}
		if !opens(t, hash, "s3cret pass") || opens(t, hash, "s3cret") {
			t.Errorf("%q: %s is not its hash", stdin, hash)
		}
	}
	for _, scheme := range []string{"scram-sha-256", "SCRAM-SHA-256", "{SCRAM-SHA-256}"} {
		out, stderr, code := pop3gw(t, "s3cret pass\n", "passwd", "--scheme", scheme)
		hash, ok := strings.CutSuffix(out, "\n")
		if code != 0 || stderr != "" || !ok || !strings.HasPrefix(hash, "{SCRAM-SHA-256}15000,") || !opens(t, hash, "s3cret pass") || opens(t, hash, "s3cret") {
			t.Errorf("%s: exit code %d, %q, %q", scheme, code, out, stderr)
		}
	}
	want := "pop3gw: --scheme: found \"md5\"; allowed are argon2id and scram-sha-256\n"
	if out, stderr, code := pop3gw(t, "x\n", "passwd", "--scheme", "md5"); code != 2 || stderr != want || out != "" {
		t.Errorf("md5: exit code %d, %q, %q", code, out, stderr)
	}
	for _, tt := range []struct{ stdin, stderr string }{
		{"\n", "pop3gw: standard input has no password on its first line\n"},
		{strings.Repeat("x", 1025), "pop3gw: the password is longer than 1024 octets\n"},
		{strings.Repeat("x", 10_000), "pop3gw: the password is longer than 1024 octets\n"},
		{"a\x00b\n", "pop3gw: the password has a line end or NUL in it, which POP3 cannot carry\n"},
	} {
		if out, stderr, code := pop3gw(t, tt.stdin, "passwd"); code != 1 || stderr != tt.stderr || out != "" {
			t.Errorf("%.20q: exit code %d, %q, %q; want %q", tt.stdin, code, out, stderr, tt.stderr)
		}
	}
}

// openPTY returns both ends of a pseudo-terminal.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func TestPasswdFromATerminal(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second string
		want          string // of standard error, as the terminal shows it
		code          int
	}{
		{"same", "s3cret pass", "s3cret pass", "Password: \r\nAgain: \r\n", 0},
		{"different", "s3cret pass", "s3cret past", "Password: \r\nAgain: \r\npop3gw: the two passwords differ\r\n", 1},
		{"empty", "", "", "Password: \r\npop3gw: the password is empty\r\n", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			master, slave := openPTY(t)
			shown, stdout := newSyncBuffer(), newSyncBuffer()
			cmd := exec.Command(os.Args[0], "passwd")
			cmd.Env = append(os.Environ(), asCommand+"=1")
			cmd.Stdin, cmd.Stderr, cmd.Stdout = slave, slave, stdout
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			p := &process{cmd, shown, make(chan struct{})}
			go func() { cmd.Wait(); close(p.done) }()
			t.Cleanup(func() { cmd.Process.Kill(); <-p.done })
			go func() {
				b := make([]byte, 1024)
				for {
					n, err := master.Read(b)
					if err != nil {
						return
					}
					shown.Write(b[:n])
				}
			}()
			// Turning echo off throws away what was typed before: each line waits
			// until it is off.
			shown.find(t, `Password: $`)
			waitEchoOff(t, slave)
			fmt.Fprintf(master, "%s\n", tt.first)
			if tt.first != "" {
				shown.find(t, `Again: $`)
				waitEchoOff(t, slave)
				fmt.Fprintf(master, "%s\n", tt.second)
			}
			if code := p.exit(t); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			shown.find(t, "^"+regexp.QuoteMeta(tt.want)+"$")
			if hash := strings.TrimSpace(stdout.String()); tt.code == 0 && !opens(t, hash, tt.first) {
				t.Errorf("%s is not its hash", hash)
			} else if tt.code != 0 && hash != "" {
				t.Errorf("it prints %s", hash)
			}
		})
	}
}

// waitEchoOff waits until what is typed is not shown.
func waitEchoOff(t *testing.T, terminal *os.File) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		settings, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if settings.Lflag&unix.ECHO == 0 {
			return
		}
	}
	t.Fatal("the terminal shows what is typed")
}
