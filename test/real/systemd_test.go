//go:build real

package real

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestUnderSystemd boots a copy of this system with the Debian package, and has the
// service as an operator has it: testdata/trial.sh.
func TestUnderSystemd(t *testing.T) {
	out := filepath.Join(folder(t), "out")
	write(t, out, "", 0o644)
	boot := exec.Command("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup", "--kill-child", "--propagation", "private",
		"bash", "testdata/boot.sh", buildPackage(t), "testdata/trial.sh", out)
	if text, err := run(3*time.Minute, boot); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	session := func(hostname string) string {
		return "+OK " + hostname + " POP3 server ready\n+OK send PASS\n+OK 1 messages (22 octets)\n+OK 1 22\n+OK 0 messages removed, bye\n"
	}
	for _, tt := range []struct{ step, want string }{
		{"start", session("pop.example.org")},
		{"status", "Serving 0 sessions on 1 listeners\n"},
		{"as whom", "pop3gw\n"},
		{"reload", "status 0\n-ERR [AUTH] wrong name or password\n"},
		{"reload of a wrong configuration", "status 1, active\n"},
		{"start with it", "failed\nResult=exit-code\nNRestarts=0\nExecMainStatus=2\n"}, // and is not tried again
		{"after kill -9", "another\n+OK 0 messages removed, bye\n"},
		{"watchdog", "the same\nanother\n+OK 0 messages removed, bye\n"},
		{"stop", "Result=success\nExecMainStatus=0\n"},
		{"sockets", "inactive\n" + session("mail.example.org") + "active\n"},
	} {
		_, rest, ran := strings.Cut(string(text), "# "+tt.step+"\n")
		if got, _, _ := strings.Cut(rest, "# "); !ran || got != tt.want {
			t.Errorf("%s says:\n%s\nwant:\n%s", tt.step, got, tt.want)
		}
	}
	if t.Failed() {
		t.Logf("all of it:\n%s", text)
	}
}
