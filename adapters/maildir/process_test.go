package maildir

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pop3gw/gateway"
)

// holdVariable makes the test binary open the Maildir at its value as a session
// would, say so, and hold it until its standard input ends.
const holdVariable = "MAILDIR_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdVariable); path != "" {
		if err := hold(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func hold(path string) error {
	a, err := New(Options{Path: path}, new(gateway.Locks), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	d, err := a.Open(context.Background(), gateway.Account{Name: "other"})
	if err != nil {
		return err
	}
	fmt.Println("open")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return d.Close()
}

// startHolder starts a process that has the Maildir open. end closes it in good
// order, kill in none; both wait until the process is gone.
func startHolder(t *testing.T, path string) (end, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdVariable+"="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if line != "open\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	end = func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the other process: %v", err)
		}
	}
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	return end, kill
}

func TestLockBetweenProcesses(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "new/1.m", "one\n")
	wantBusy := func() {
		t.Helper()
		if d, err := a.Open(t.Context(), ann); err == nil {
			d.Close()
			t.Error("two processes opened the Maildir")
		} else if gateway.CodeOf(err) != gateway.CodeInUse {
			t.Errorf("while another process has it: %v", err)
		}
	}
	end, _ := startHolder(t, path)
	wantBusy()
	wantBusy() // being refused must not leave the lock of the process behind
	end()
	closeMaildrop(t, open(t, a, ann))

	_, kill := startHolder(t, path)
	wantBusy()
	kill()
	d := open(t, a, ann)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdVariable+"="+path)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "[IN-USE]") {
		t.Errorf("the other process, while this one has the Maildir: %s, %v", out, err)
	}
	closeMaildrop(t, d)
	end, _ = startHolder(t, path)
	end()
}

// A login waits for another process where the policy says so, and takes nothing over
// from it.
func TestWaitForAnotherProcess(t *testing.T) {
	for _, policy := range []gateway.WhenBusy{gateway.WaitWhenBusy, gateway.TakeOverWhenBusy} {
		a, path := oneMaildir(t)
		write(t, path, "new/1.m", "one\n")
		a.locks.SetPolicy(gateway.LockPolicy{WhenBusy: policy, Wait: 300 * time.Millisecond})
		end, _ := startHolder(t, path)
		begun := time.Now()
		if _, err := a.Open(t.Context(), ann); gateway.CodeOf(err) != gateway.CodeInUse || time.Since(begun) < 300*time.Millisecond {
			t.Errorf("%s: %v after %v", policy, err, time.Since(begun))
		}
		a.locks.SetPolicy(gateway.LockPolicy{WhenBusy: policy, Wait: time.Minute})
		opened := make(chan error)
		go func() {
			d, err := a.Open(context.Background(), ann)
			if err == nil {
				err = d.Close()
			}
			opened <- err
		}()
		end() // in good order, so that it was not taken over
		if err := <-opened; err != nil {
			t.Errorf("%s: %v", policy, err)
		}
	}
}

// TestPermissions is about what the gateway's user may not do. Root may do
// everything, so it has another user run the test.
func TestPermissions(t *testing.T) {
	if os.Geteuid() == 0 {
		runAsNobody(t, "TestPermissions")
		return
	}
	t.Run("message", testUnreadableMessage)
	t.Run("remembered", testUnreadableIsRemembered)
	t.Run("directories", testUnreadableDirectories)
	t.Run("read-only", testReadOnly)
}

// runAsNobody runs the test called name in a copy of the test binary, as a user
// without privileges.
func runAsNobody(t *testing.T, name string) {
	const nobody = 65534
	dir, err := os.MkdirTemp("", "maildir-nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "maildir.test")
	if err := errors.Join(os.WriteFile(program, binary, 0o755), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.v", "-test.run=^"+name+"$")
	cmd.Dir = dir
	cmd.Env = []string{"TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+name+"/")) {
		t.Errorf("as user %d: %v\n%s", nobody, err, out)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(path, info.Mode()) }) // or it cannot be cleaned up
}

func testUnreadableMessage(t *testing.T) {
	a, path := oneMaildir(t)
	var log bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&log, nil))
	write(t, path, "new/1.m", "one\n")
	write(t, path, "cur/2.m:2,S", "secret\n")
	write(t, path, "cur/3.m:2,S", "three\n")
	chmod(t, path+"/cur/2.m:2,S", 0)
	d := open(t, a, ann)
	if d.Len() != 3 || d.Size(1) != 7 {
		t.Fatalf("%d messages, the unreadable one of %d octets", d.Len(), d.Size(1))
	}
	if n := strings.Count(log.String(), "cannot be read"); n != 1 || !strings.Contains(log.String(), "cur/2.m:2,S") ||
		!strings.Contains(log.String(), "user=ann") {
		t.Errorf("the log does not announce the message once:\n%s", &log)
	}
	wantMessage(t, d, 0, "one\n")
	wantMessage(t, d, 2, "three\n")
	_, err := d.Retrieve(t.Context(), 1, -1)
	var e *gateway.Error
	if !errors.As(err, &e) || e.Code != gateway.CodeSysPerm || !strings.Contains(e.Text, "could not be read") {
		t.Errorf("Retrieve of the unreadable message: %v", err)
	}
	// One becomes unreadable in the session.
	chmod(t, path+"/new/1.m", 0)
	if _, err := d.Retrieve(t.Context(), 0, -1); gateway.CodeOf(err) != gateway.CodeSysPerm {
		t.Errorf("Retrieve of a message that became unreadable: %v", err)
	}
	// Removing takes no more than the directory's permission.
	if err := d.Delete(t.Context(), []int{1}, func(int) {}); err != nil {
		t.Error(err)
	}
	closeMaildrop(t, d)
	if got, want := files(t, path), []string{"new/1.m", "cur/3.m:2,S"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}

// testUnreadableIsRemembered has no folder listed again for what cannot be read,
// unless it can be.
func testUnreadableIsRemembered(t *testing.T) {
	path, dir := filepath.Join(t.TempDir(), "Maildir"), t.TempDir()
	makeMaildir(t, path)
	a := restarted(t, path, dir)
	write(t, path, "new/1.m", "a\nb\n")
	write(t, path, "cur/2.m:2,S", "c\n")
	settle(t, path, "new/1.m", "cur/2.m:2,S")
	chmod(t, path+"/cur/2.m:2,S", 0)
	wantSizes(t, a, "[6 2]")
	wantReads(t, a, 2, 1)
	wantSizes(t, a, "[6 2]")
	wantReads(t, a, 0, 0)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	again := restarted(t, path, dir)
	wantSizes(t, again, "[6 2]")
	wantReads(t, again, 0, 1) // taken from the cache
	chmod(t, path+"/cur/2.m:2,S", 0o600)
	wantSizes(t, again, "[6 3]")
	wantReads(t, again, 1, 1)
	wantSizes(t, again, "[6 3]")
	wantReads(t, again, 0, 0)
}

func testUnreadableDirectories(t *testing.T) {
	for _, c := range []struct {
		name string
		mode os.FileMode
	}{{"..", 0}, {".", 0}, {"new", 0}, {"cur", 0}, {"new", 0o300}, {"cur", 0o300}, {"new", 0o600}, {"cur", 0o600}} {
		t.Run(fmt.Sprintf("%s %03o", c.name, c.mode), func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			a := newAdapter(t, Options{Path: root + "/{user}"})
			path := filepath.Join(root, "ann")
			makeMaildir(t, path)
			write(t, path, "new/1.m", "one\n")
			write(t, path, "cur/2.m:2,S", "two\n")
			chmod(t, filepath.Join(path, c.name), c.mode)
			d, err := a.Open(t.Context(), ann)
			if err == nil {
				t.Fatalf("the maildrop opened with %d messages", d.Len())
			}
			if gateway.CodeOf(err) != gateway.CodeSysPerm {
				t.Errorf("Open: %v", err)
			}
			if err := a.Check(t.Context()); (err != nil) != (c.name == "..") {
				t.Errorf("Check: %v", err)
			}
			// The lock was not kept.
			if err := os.Chmod(filepath.Join(path, c.name), 0o700); err != nil {
				t.Fatal(err)
			}
			closeMaildrop(t, open(t, a, ann))
		})
	}
}

// testReadOnly has messages in a directory that may be written, and in one that
// may not.
func testReadOnly(t *testing.T) {
	a, path := oneMaildir(t)
	for n := range 15 {
		write(t, path, fmt.Sprintf("new/%d.m", 10+n), "new\n")
	}
	write(t, path, "cur/30.m:2,", "cur\n")
	chmod(t, path+"/new", 0o500)
	d := open(t, a, ann)
	wantMessage(t, d, 0, "new\n")
	marked := make([]int, 16)
	for i := range marked {
		marked[i] = i
	}
	var removed []int
	err := d.Delete(t.Context(), marked, func(i int) { removed = append(removed, i) })
	if gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), "15 of 16 marked messages remain") {
		t.Errorf("Delete: %v", err)
	} else if n := strings.Count(err.Error(), "write permission"); n != maxReports {
		t.Errorf("the error has %d reasons, want %d:\n%v", n, maxReports, err)
	}
	if !slices.Equal(removed, []int{15}) {
		t.Errorf("removed %v, want the message in cur", removed)
	}
	closeMaildrop(t, d)
}
