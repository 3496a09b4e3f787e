package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is pop3gw in a process of its own.
type process struct {
	*exec.Cmd
	out  *syncBuffer // standard output and error
	done chan struct{}
}

// start starts pop3gw. Temporary files lie in tmp.
func start(t *testing.T, tmp string, args ...string) *process {
	t.Helper()
	return startCommand(t, tmp, exec.Command(os.Args[0], args...))
}

// startWithFiles starts pop3gw where it may have so many open files.
func startWithFiles(t *testing.T, tmp string, limit int, args ...string) *process {
	t.Helper()
	script := fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, limit)
	return startCommand(t, tmp, exec.Command("/bin/sh", append([]string{"-c", script, os.Args[0]}, args...)...))
}

func startCommand(t *testing.T, tmp string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd, newSyncBuffer(), make(chan struct{})}
	p.Env = append(append(os.Environ(), asCommand+"=1", "TMPDIR="+tmp), cmd.Env...)
	p.Stdout, p.Stderr = p.out, p.out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.Wait(); close(p.done) }()
	t.Cleanup(func() { p.Process.Kill(); <-p.done })
	return p
}

// end sends a signal and returns the exit code.
func (p *process) end(t *testing.T, s syscall.Signal) int {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	return p.exit(t)
}

func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not end; it wrote:\n%s", p.out)
	}
	return p.ProcessState.ExitCode()
}

// syncBuffer keeps what a process or goroutine writes.
type syncBuffer struct {
	mu      sync.Mutex
	text    strings.Builder
	written chan struct{} // closed by the next Write
}

func newSyncBuffer() *syncBuffer { return &syncBuffer{written: make(chan struct{})} }

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.written)
	b.written = make(chan struct{})
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// find waits until pattern matches and returns the match and its groups.
func (b *syncBuffer) find(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(20 * time.Second)
	for {
		b.mu.Lock()
		text, written := b.text.String(), b.written
		b.mu.Unlock()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-written:
		case <-timeout:
			t.Fatalf("nothing fits %s in:\n%s", pattern, text)
		}
	}
}
