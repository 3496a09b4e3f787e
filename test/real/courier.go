//go:build real

package real

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// courier is Courier's IMAP and POP3 server over Maildirs, with its users in userdb.
type courier struct {
	*maildirs
	port, popPort int
}

func startCourier(t testing.TB) *courier {
	t.Helper()
	packages := unpacked(t, "courier")
	dir := folder(t)
	c := &courier{maildirs: newMaildirs(t), port: freePort(t), popPort: freePort(t)}

	hash := cryptHash(t)
	var db strings.Builder
	for _, user := range users() {
		c.create(t, user)
		fmt.Fprintf(&db, "%s\thome=%s/%s|uid=%d|gid=%d|mail=%s|systempw=%s\n",
			user, c.root, user, mailUID, mailUID, c.path(user), hash)
	}
	etc := filepath.Join(dir, "etc")
	// The server's file watcher is found by its user's name; without one each
	// login waits for it in vain.
	withLine(t, "/etc/passwd", filepath.Join(etc, "passwd"), fmt.Sprintf("mail-user:x:%d:%d::%s:/bin/sh", mailUID, mailUID, c.root))
	write(t, filepath.Join(etc, "courier/userdb"), db.String(), 0o600)
	write(t, filepath.Join(etc, "courier/authdaemonrc"), `authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=3
authdaemonvar=/run/courier/authdaemon
DEFAULTOPTIONS=""
LOGGEROPTS=""
`, 0o644)
	// makeuserdb writes beside userdb, and an overlay without an upper layer
	// cannot be written to.
	server := start(t, "courier", inNamespace(packages, etc, fmt.Sprintf(`
mount --bind %[1]s/courier /etc/courier
mkdir -p /run/courier/authdaemon
makeuserdb
set -a
. /etc/courier/authdaemonrc
/usr/lib/courier/courier-authlib/authdaemond &
until [ -S /run/courier/authdaemon/socket ]; do sleep 0.05; done
TCPDOPTS=
IMAP_CAPABILITY="IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT SORT QUOTA AUTH=PLAIN IDLE"
IMAP_KEYWORDS=1
IMAP_ACL=1
IMAP_MAILBOX_SANITY_CHECK=1
IMAP_USELOCKS=1
IMAP_ENHANCEDIDLE=0
IMAP_TLS_REQUIRED=0
MAILDIRPATH=Maildir
POP3AUTH=
POP3_TLS_REQUIRED=0
couriertcpd -address=127.0.0.1 -maxprocs=200 -maxperip=200 -nodnslookup -noidentlookup %[3]d \
	/usr/lib/courier/courier/courierpop3login /usr/lib/courier/courier/courierpop3d Maildir &
couriertcpd -address=127.0.0.1 -maxprocs=200 -maxperip=200 -nodnslookup -noidentlookup %[2]d \
	/usr/lib/courier/courier/imaplogin /usr/bin/imapd Maildir
`, etc, c.port, c.popPort)))
	server.waitGreeting(t, loopback(c.port), "* OK")
	return c
}

func (c *courier) adapter() string { return imapAdapter(c.port, `tls = "none"`) }

// deliver stores LF alone, as a Maildir should have it: Courier adds a CR to
// every LF, also to one that has a CR.
func (c *courier) deliver(t testing.TB, user string, messages ...[]byte) {
	t.Helper()
	for _, message := range messages {
		c.maildirs.deliver(t, user, bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n")))
	}
}

// cryptHash is the hash of everybody's password, as crypt(3) checks it.
func cryptHash(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("openssl", "passwd", "-6", password).Output()
	if err != nil {
		t.Fatalf("openssl passwd: %v", err)
	}
	return strings.TrimSpace(string(out))
}
