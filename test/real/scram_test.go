//go:build real

package real

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Verifiers of pop3gw's and Dovecot's making are good for each other, and mpop
// logs in with them by SCRAM-SHA-256 and by the old ways.
func TestSCRAM(t *testing.T) {
	pop3gw, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	passwd := exec.Command(pop3gw, "passwd", "--scheme", "scram-sha-256")
	passwd.Stdin = strings.NewReader(password + "\n")
	ours, err := passwd.Output()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := exec.Command("/usr/bin/doveadm", "pw", "-s", "SCRAM-SHA-256", "-p", password).Output()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/usr/bin/doveadm", "pw", "-t", strings.TrimSpace(string(ours)), "-p", password).CombinedOutput(); err != nil || !strings.Contains(string(out), "(verified)") {
		t.Errorf("Dovecot does not take the verifier of pop3gw: %v, %s", err, out)
	}

	mail := newMaildirs(t)
	write(t, mail.users, fmt.Sprintf("ours:%stheirs:%splain:{PLAIN}%s\n", ours, theirs, password), 0o644)
	g := startGateway(t, mail, "")
	for _, user := range []string{"ours", "theirs", "plain"} {
		messages := letters(2)
		mail.deliver(t, user, messages...)
		for _, auth := range []string{"scram-sha-256", "plain", "user"} {
			t.Run(user+"/"+auth, func(t *testing.T) {
				s := session{port: g.port, user: user, home: folder(t), purpose: keep}
				s.inbox = filepath.Join(s.home, "inbox")
				if out, err := runMpop(t, s, auth, password); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				compare(t, "received", readFolder(t, filepath.Join(s.inbox, "new")), messages)
				login := "msg=login .* mechanism=" + strings.ToUpper(auth) + " user=" + user + " "
				if !regexp.MustCompile(login).MatchString(g.log.String()) {
					t.Errorf("the log has no %s", login)
				}
			})
		}
	}
	for _, user := range []string{"ours", "nobody"} {
		s := session{port: g.port, user: user, home: folder(t), purpose: keep}
		s.inbox = filepath.Join(s.home, "inbox")
		out, err := runMpop(t, s, "scram-sha-256", "wrong horse")
		if err == nil || !strings.Contains(out, "authentication failed (method SCRAM-SHA-256)") {
			t.Errorf("%s with a wrong password: %v\n%s", user, err, out)
		}
	}
}

// runMpop fetches with one way to log in.
func runMpop(t *testing.T, s session, auth, password string) (string, error) {
	t.Helper()
	makeMaildir(t, s.inbox)
	file := filepath.Join(s.home, "mpoprc")
	write(t, file, fmt.Sprintf("account default\nhost 127.0.0.1\nport %d\nuser %s\npassword %s\nauth %s\ntls off\nuidls_file %s/uidls\ndelivery maildir %s\nreceived_header off\nkeep on\n",
		s.port, s.user, password, auth, s.home, s.inbox), 0o600)
	return run(time.Minute, exec.Command("/usr/bin/mpop", "--file", file))
}
