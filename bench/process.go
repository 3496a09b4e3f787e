package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a program under test, in files and on a port of its own.
type server struct {
	name     string // in messages
	greeting string // what it greets with
	addr     string
	logFile  string
	command  func() *exec.Cmd
	forget   func() error // removes what it remembers of mail; it is not running

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// start starts the server, unless it runs, and waits for its greeting.
func (s *server) start(ctx context.Context) error {
	if s.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(s.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command()
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", s.name, err)
	}
	s.cmd, s.done = cmd, make(chan struct{})
	go func() {
		cmd.Wait()
		close(s.done)
	}()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := s.greets(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("%s ended at once:\n%s", s.name, s.logTail())
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not greet: %w\n%s", s.name, err, s.logTail())
		}
	}
}

func (s *server) greets(ctx context.Context) error {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(nc).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, s.greeting) {
		err = fmt.Errorf("it greets with %q", line)
	}
	return err
}

// stop ends the server and its children.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
	}
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // what is left of its group
	<-s.done
	s.cmd = nil
}

// cold makes the server forget all mail, and starts it.
func (s *server) cold(ctx context.Context) error {
	s.stop()
	if err := s.forget(); err != nil {
		return err
	}
	return s.start(ctx)
}

func (s *server) restart(ctx context.Context) error {
	s.stop()
	return s.start(ctx)
}

func (s *server) logTail() string {
	text, err := os.ReadFile(s.logFile)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-3000):])
}

// memory is the proportional set size (PSS) of the server and all its
// descendants, in kB.
func (s *server) memory() (float64, error) {
	parents, err := processParents()
	if err != nil {
		return 0, err
	}
	total := 0.0
	for pid := range parents {
		if !descends(parents, pid, s.cmd.Process.Pid) {
			continue
		}
		kB, err := pss(pid)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		total += kB
	}
	return total, nil
}

func descends(parents map[int]int, pid, from int) bool {
	for pid > 1 && pid != from {
		pid = parents[pid]
	}
	return pid == from
}

// processParents maps each process to its parent.
func processParents() (map[int]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	parents := make(map[int]int)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (name) state ppid, where the name may hold anything: proc_pid_stat(5)
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parents[pid], _ = strconv.Atoi(fields[1])
	}
	return parents, nil
}

func pss(pid int) (kB float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n, _ := fmt.Sscanf(line, "Pss: %f kB", &kB); n == 1 {
			return kB, nil
		}
	}
	return 0, fmt.Errorf("no Pss in smaps_rollup of process %d", pid)
}

// freeAddr is an address on loopback that was free a moment ago, below the ports
// that the system gives to outgoing connections.
func freeAddr() (string, error) {
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", 12000+rand.IntN(20000))); err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", err
}
