//go:build real

package real

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pop3gw/test/port"
)

// mailUID owns the mail and runs pop3gw: nobody's number, so that a test sees
// at once what would need more rights than a mail user has.
const mailUID = 5000

// folder makes a temporary folder that other users can enter, unlike
// t.TempDir's, and removes it at the end of the test.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pop3gw-real-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the test's files: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// write writes a file below the test's folder, with its parent folders.
func write(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// mailFolder makes dir and gives it to the mail user.
func mailFolder(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, mailUID, mailUID); err != nil {
		t.Fatal(err)
	}
}

// freePort returns a loopback TCP port that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	free, err := port.Free()
	if err != nil {
		t.Fatal(err)
	}
	return free
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// process is a server under test with everything it printed.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{} // closed when it has ended
	err  error         // valid after done
}

// start runs a server in a process group of its own. At the end of the test the
// group is ended, and its output is shown if the test failed.
func start(t testing.TB, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, log: new(logBuffer), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, p.log.tail(3000))
		}
	})
	return p
}

// stop asks the process to end and returns how it did. It is killed when it
// takes longer than 20 s, which is an error.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(20 * time.Second):
		p.kill()
		return fmt.Errorf("%s did not end within 20 s of SIGTERM", p.name)
	}
}

// kill ends the process and its group at once, as a power cut would.
func (p *process) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// waitGreeting waits until a server greets on addr with prefix.
func (p *process) waitGreeting(t testing.TB, addr, prefix string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	var last error
	for time.Now().Before(deadline) {
		if last = greets(addr, prefix); last == nil {
			return
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended instead of serving: %v\n%s", p.name, p.err, p.log.tail(6000))
		case <-time.After(30 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not greet on %s: %v\n%s", p.name, addr, last, p.log.tail(6000))
}

func greets(addr, prefix string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(prefix))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != prefix {
		return fmt.Errorf("greeting begins with %q", got)
	}
	return nil
}

// run runs a program to its end, at most limit, and returns what it printed.
func run(limit time.Duration, cmd *exec.Cmd) (string, error) {
	var out logBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	err := cmd.Wait()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("still running after %v", limit)
	}
	return out.String(), err
}

// logBuffer collects output, safe for concurrent use.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// tail returns the last n octets or so, from the start of a line.
func (b *logBuffer) tail(n int) string {
	s := b.String()
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	return "...\n" + s[strings.IndexByte(s, '\n')+1:]
}
