//go:build real

package real

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// cyrus is Cyrus' IMAP and POP3 server, with its users in sasldb.
type cyrus struct{ port, popPort int }

func startCyrus(t testing.TB) *cyrus {
	t.Helper()
	packages := unpacked(t, "cyrus")
	dir := folder(t)
	c := &cyrus{port: freePort(t), popPort: freePort(t)}
	for _, sub := range []string{"conf", "conf/socket", "mail"} {
		mailFolder(t, filepath.Join(dir, sub))
	}
	etc := filepath.Join(dir, "etc")
	withLine(t, "/etc/passwd", filepath.Join(etc, "passwd"), fmt.Sprintf("cyrus:x:%d:%d::%s:/bin/sh", mailUID, mailUID, dir))
	withLine(t, "/etc/group", filepath.Join(etc, "group"), fmt.Sprintf("cyrus:x:%d:", mailUID))
	write(t, filepath.Join(etc, "imapd.conf"), fmt.Sprintf(`configdirectory: %[1]s/conf
defaultpartition: default
partition-default: %[1]s/mail
proc_path: /run/cyrus/proc
mboxname_lockpath: /run/cyrus/lock
servername: localhost
defaultdomain: localhost
admins: cyrus
autocreate_quota: -1
allowplaintext: yes
sasl_mech_list: PLAIN LOGIN
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: %[1]s/sasldb2
`, dir), 0o644)
	write(t, filepath.Join(etc, "cyrus.conf"), fmt.Sprintf(`START {
	recover cmd="/usr/lib/cyrus/bin/ctl_cyrusdb -r"
}
SERVICES {
	imap cmd="/usr/lib/cyrus/bin/imapd" listen="127.0.0.1:%d" prefork=2 maxchild=100
	pop3 cmd="/usr/lib/cyrus/bin/pop3d" listen="127.0.0.1:%d" prefork=0 maxchild=100
}
EVENTS {
}
`, c.port, c.popPort), 0o644)
	script := "mkdir -p /run/cyrus/proc /run/cyrus/lock\nchown -R cyrus:cyrus /run/cyrus\n"
	for _, user := range users() {
		script += fmt.Sprintf("echo '%s' | saslpasswd2 -p -c -f %s/sasldb2 -u localhost %s\n", password, dir, user)
	}
	script += fmt.Sprintf("chown cyrus %s/sasldb2\n/usr/lib/cyrus/bin/master -D -C /etc/imapd.conf -M /etc/cyrus.conf -p /run/master.pid\n", dir)
	server := start(t, "cyrus", inNamespace(packages, etc, script))
	server.waitGreeting(t, loopback(c.port), "* OK")
	return c
}

// withLine copies a file with one line more.
func withLine(t testing.TB, from, to, line string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(content)+line+"\n", 0o644)
}

func (c *cyrus) adapter() string { return imapAdapter(c.port, `tls = "none"`) }

// inbox logs in as user and opens the inbox, which it creates where there is
// none. The connection ends with close.
func (c *cyrus) inbox(t testing.TB, user string) (client *imapclient.Client, messages uint32, close func()) {
	t.Helper()
	client, err := imapclient.DialInsecure(loopback(c.port), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Login(user, password).Wait(); err != nil {
		t.Fatalf("IMAP login of %s: %v", user, err)
	}
	client.Create("INBOX", nil).Wait() // fails where there is one; Select tells
	selected, err := client.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatalf("selecting the inbox of %s: %v", user, err)
	}
	return client, selected.NumMessages, func() {
		client.Logout().Wait()
		client.Close()
	}
}

func (c *cyrus) deliver(t testing.TB, user string, messages ...[]byte) {
	t.Helper()
	client, _, close := c.inbox(t, user)
	defer close()
	for _, message := range messages {
		message = crlf(message)
		appending := client.Append("INBOX", int64(len(message)), &imap.AppendOptions{Time: time.Now()})
		if _, err := appending.Write(message); err != nil {
			t.Fatal(err)
		}
		if err := appending.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := appending.Wait(); err != nil {
			t.Fatalf("storing %s: %v", excerpt(string(message)), err)
		}
	}
}

func (c *cyrus) stored(t testing.TB, user string) (messages [][]byte) {
	t.Helper()
	client, n, close := c.inbox(t, user)
	defer close()
	if n == 0 {
		return nil
	}
	var all imap.SeqSet
	all.AddRange(1, 0)
	body := &imap.FetchItemBodySection{Peek: true}
	fetching := client.Fetch(all, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{body}})
	for m := fetching.Next(); m != nil; m = fetching.Next() {
		for item := m.Next(); item != nil; item = m.Next() {
			section, ok := item.(imapclient.FetchItemDataBodySection)
			if !ok {
				continue
			}
			content, err := io.ReadAll(section.Literal)
			if err != nil {
				t.Fatal(err)
			}
			messages = append(messages, content)
		}
	}
	if err := fetching.Close(); err != nil {
		t.Fatal(err)
	}
	return messages
}
