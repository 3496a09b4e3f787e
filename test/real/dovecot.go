//go:build real

package real

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// dovecot is Dovecot's IMAP and POP3 server over Maildirs.
type dovecot struct {
	*maildirs
	*process
	port, tlsPort, popPort int
	config                 string
}

func startDovecot(t testing.TB) *dovecot { return startDovecotWith(t, "") }

// startDovecotWith is startDovecot with more settings.
func startDovecotWith(t testing.TB, settings string) *dovecot {
	t.Helper()
	dir := folder(t)
	d := &dovecot{maildirs: newMaildirs(t), port: freePort(t), tlsPort: freePort(t), popPort: freePort(t), config: filepath.Join(dir, "dovecot.conf")}
	write(t, filepath.Join(dir, "run", "keep"), "", 0o644)
	write(t, d.config, fmt.Sprintf(`protocols = imap pop3
base_dir = %[1]s/run
state_dir = %[1]s/run
log_path = /dev/stderr
instance_name = pop3gw-test
listen = 127.0.0.1
ssl = yes
ssl_cert = <%[2]s
ssl_key = <%[3]s
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
mail_uid = %[4]d
mail_gid = %[4]d
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:~/Maildir
mail_max_userip_connections = 0
login_trusted_networks = 127.0.0.0/8
stats_writer_socket_path =
passdb {
  driver = passwd-file
  args = %[5]s
}
userdb {
  driver = static
  args = uid=%[4]d gid=%[4]d home=%[6]s/%%u
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0 # no waiting for those who share an address with guessers
  }
}
service imap-login {
  chroot =
  inet_listener imap {
    port = %[7]d
  }
  inet_listener imaps {
    port = %[8]d
    ssl = yes
  }
}
service pop3-login {
  chroot =
  inet_listener pop3 {
    port = %[9]d
  }
  inet_listener pop3s {
    port = 0
  }
}
%[10]s
`, dir, testCA().certFile, testCA().keyFile, mailUID, d.users, d.root, d.port, d.tlsPort, d.popPort, settings), 0o644)
	d.start(t)
	return d
}

// start runs Dovecot, for the first time or again after kill.
func (d *dovecot) start(t testing.TB) {
	t.Helper()
	d.process = start(t, "dovecot", exec.Command("/usr/sbin/dovecot", "-F", "-c", d.config))
	d.waitGreeting(t, loopback(d.port), "* OK")
}

// createFolder has Dovecot make a folder of a user's. One that is made behind its back
// while it runs, it may not see for some time: its list of folders is kept in an index.
func (d *dovecot) createFolder(t testing.TB, user, name string) {
	t.Helper()
	if out, err := exec.Command("/usr/bin/doveadm", "-c", d.config, "mailbox", "create", "-u", user, name).CombinedOutput(); err != nil {
		t.Fatalf("doveadm mailbox create: %v: %s", err, out)
	}
}

func (d *dovecot) adapter() string { return imapAdapter(d.port, `tls = "none"`) }
