//go:build real

package load

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startDovecot runs a Dovecot as it is without settings, but for where things are and
// that it believes who pop3gw's clients are. Everybody's password is "secret".
func startDovecot(t *testing.T) (address string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pop3gw-load-") // its users must be able to enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	const mailUID = 8
	mail := filepath.Join(dir, "mail")
	for _, err := range []error{os.Chmod(dir, 0o755), os.Mkdir(mail, 0o700), os.Chown(mail, mailUID, mailUID)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, port, _ := net.SplitHostPort(address)
	config := filepath.Join(dir, "dovecot.conf")
	write(t, config, fmt.Sprintf(`protocols = imap
base_dir = %[1]s/run
state_dir = %[1]s/run
log_path = /dev/stderr
instance_name = pop3gw-load
listen = 127.0.0.1
ssl = no
login_trusted_networks = 127.0.0.0/8
mail_location = maildir:~/Maildir
first_valid_uid = 1
stats_writer_socket_path =
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=%[2]d gid=%[2]d home=%[3]s/%%u
}
service imap-login {
  chroot =
  inet_listener imap {
    port = %[4]s
  }
  inet_listener imaps {
    port = 0
  }
}
`, dir, mailUID, mail, port))
	cmd := exec.Command("/usr/sbin/dovecot", "-F", "-c", config)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if t.Failed() {
			text := log.String()
			t.Logf("Dovecot's log ends with\n%s", text[max(0, len(text)-4000):])
		}
	})
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		nc, err := net.Dial("tcp", address)
		if err == nil {
			nc.Close()
			return address
		}
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
}
