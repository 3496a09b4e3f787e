package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// dovecotConfig is for speed, as an operator may set it where Dovecot alone
// touches the mail: few login processes that serve many clients each, and
// processes that serve many sessions one after the other. Its parts are: the
// folder, the uid, the protocol, host, port, the number of cores, the files of
// certificate and key, and the rest.
const dovecotConfig = `protocols = %[3]s
base_dir = %[1]s/run
state_dir = %[1]s/run
instance_name = bench
log_path = /dev/stderr
listen = %[4]s
ssl = yes
ssl_cert = <%[7]s
ssl_key = <%[8]s
disable_plaintext_auth = no
auth_mechanisms = plain
auth_failure_delay = 0
auth_username_format = %%u
mail_uid = %[2]d
mail_gid = %[2]d
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 0
default_process_limit = 4000
default_client_limit = 8000
stats_writer_socket_path =
service anvil {
  client_limit = 12000
}
service %[3]s-login {
  chroot =
  inet_listener %[3]s {
    port = %[5]s
  }
  inet_listener %[3]ss {
    port = 0
  }
  service_count = 0
  process_min_avail = %[6]d
  client_limit = 4000
  vsz_limit = 1G
}
service %[3]s {
  service_count = 1000
  process_limit = 4000
  vsz_limit = 1G
}
%[9]s`

// localUsers is where users and their mail are: a passwd-file, and Maildirs.
func localUsers(users, mail string) string {
	return fmt.Sprintf(`mail_location = maildir:%[2]s/%%u
passdb {
  driver = passwd-file
  args = %[1]s
}
userdb {
  driver = static
  args = uid=%[3]d gid=%[3]d home=%[2]s/%%u
}
`, users, mail, mailUID)
}

// dovecotPOP3 is Dovecot's POP3 server over the Maildirs in mail.
func dovecotPOP3(dir, mail, users string, cert keyPair) (*server, error) {
	s, err := newDovecot("Dovecot", "pop3", dir, cert, localUsers(users, mail)+`maildir_very_dirty_syncs = yes
pop3_no_flag_updates = yes
`)
	if err != nil {
		return nil, err
	}
	s.forget = func() error { return removeAll(filepath.Join(mail, "*", "dovecot*")) }
	return s, nil
}

// dovecotIMAP is the IMAP server behind the gateways.
func dovecotIMAP(dir, mail, users string, cert keyPair) (*server, error) {
	return newDovecot("Dovecot IMAP", "imap", dir, cert, localUsers(users, mail)+"maildir_very_dirty_syncs = yes\n")
}

// dovecotIMAPC is Dovecot as a POP3 gateway before an IMAP server, which checks
// passwords. Its indexes lie in the folder indexes.
func dovecotIMAPC(dir, indexes, upstream string, cert keyPair) (*server, error) {
	host, port, err := net.SplitHostPort(upstream)
	if err != nil {
		return nil, err
	}
	s, err := newDovecot("Dovecot imapc", "pop3", dir, cert, fmt.Sprintf(`mail_location = imapc:%[1]s/%%u
imapc_host = %[2]s
imapc_port = %[3]s
imapc_features = rfc822.size fetch-headers delay-login
pop3_no_flag_updates = yes
passdb {
  driver = imap
  args = host=%[2]s port=%[3]s
  default_fields = userdb_imapc_user=%%u userdb_imapc_password=%%w userdb_uid=%[4]d userdb_gid=%[4]d userdb_home=%[1]s/%%u
}
userdb {
  driver = prefetch
}
`, indexes, host, port, mailUID))
	if err != nil {
		return nil, err
	}
	s.forget = func() error { return removeAll(filepath.Join(indexes, "*")) }
	return s, ownedFolder(indexes)
}

func newDovecot(name, protocol, dir string, cert keyPair, rest string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "dovecot.conf")
	text := fmt.Sprintf(dovecotConfig, dir, mailUID, protocol, host, port, runtime.NumCPU(), cert.certificate, cert.key, rest)
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "run"), 0o755), os.WriteFile(config, []byte(text), 0o644)); err != nil {
		return nil, err
	}
	greeting := "+OK"
	if protocol == "imap" {
		greeting = "* OK"
	}
	return &server{name: name, greeting: greeting, addr: addr, logFile: filepath.Join(dir, "log"),
		command: func() *exec.Cmd { return exec.Command("dovecot", "-F", "-c", config) }}, nil
}

// removeAll removes what pattern matches.
func removeAll(pattern string) error {
	files, err := filepath.Glob(pattern)
	for _, file := range files {
		err = errors.Join(err, os.RemoveAll(file))
	}
	return err
}
