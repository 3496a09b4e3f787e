//go:build real

package real

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// migrant is a fetchmail that keeps mail on the server, and knows it by unique-id.
type migrant struct {
	testing.TB
	user, home string
	rounds     int
}

func newMigrant(t testing.TB, user string) *migrant {
	return &migrant{TB: t, user: user, home: folder(t)}
}

// fetch runs fetchmail before a server, and returns how many messages it got.
func (m *migrant) fetch(port int) (messages int) {
	m.Helper()
	m.rounds++
	inbox := filepath.Join(m.home, fmt.Sprintf("inbox%d", m.rounds))
	if err := os.MkdirAll(inbox, 0o755); err != nil {
		m.Fatal(err)
	}
	wire := startTap(m, loopback(port))
	fetchmail(m, session{port: wire.port, user: m.user, home: m.home, inbox: inbox, purpose: keep})
	got := len(readFolder(m, inbox))
	// With "keep" it takes TOP, with more lines than a message has.
	if n := wire.count("RETR") + wire.count("TOP"); n != got {
		m.Errorf("fetchmail asked for %d messages and got %d", n, got)
	}
	return got
}

// moves has fetchmail get all from one server, and nothing of it again from the
// other, which must list the same messages, in the same order, by the same names.
func (m *migrant) moves(from, to int, messages int) {
	m.Helper()
	if got := m.fetch(from); got != messages {
		m.Fatalf("fetchmail got %d messages from the server before, want %d", got, messages)
	}
	before := uidlOf(m, from, m.user)
	after := uidlOf(m, to, m.user)
	if len(after) < messages || !slices.Equal(before, after[:messages]) {
		m.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if got := m.fetch(to); got != len(after)-messages {
		m.Errorf("fetchmail got %d messages from pop3gw, want %d", got, len(after)-messages)
	}
	if got := m.fetch(to); got != 0 {
		m.Errorf("fetchmail got %d messages from pop3gw the second time", got)
	}
}

// staysThrough has the mail server number the mailbox anew behind moves, so that no
// message was ever retrieved from pop3gw: nothing is fetched again. The mail server
// is started for t.
func (m *migrant) staysThrough(t testing.TB, d *dovecot, g *gateway) {
	m.Helper()
	before := uidlOf(m, g.port, m.user)
	g.stop() // nothing of it is in memory alone
	d.renumber(t, m.user)
	g.start(m)
	if got := m.fetch(g.port); got != 0 {
		m.Errorf("%d messages were fetched again", got)
	}
	if after := uidlOf(m, g.port, m.user); !slices.Equal(before, after) {
		m.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// uidlOf is what UIDL says.
func uidlOf(t testing.TB, port int, user string) []string {
	t.Helper()
	c := login(t, loopback(port), user)
	defer c.must(t, "QUIT")
	return c.lines(t, "UIDL")
}

// identified are n messages, each with a Message-ID.
func identified(from, n int) (messages [][]byte) {
	for i := range n {
		messages = append(messages, letter(fmt.Sprintf("letter %d", from+i), strings.Repeat(fmt.Sprintf("Line of %d.\n", from+i), from+i+1)))
	}
	return messages
}

const migrating = 25

// withForm is a store whose adapter has more keys.
type withForm struct {
	store
	keys string
}

func (w withForm) adapter() string {
	return regexp.MustCompile(`type = "[a-z]*"\n`).ReplaceAllString(w.store.adapter(), "${0}"+w.keys+"\n")
}

// asMaildirs has pop3gw serve the Maildirs themselves.
func asMaildirs(m *maildirs, keys string) store { return withForm{m, keys} }

// TestFromDovecot has its POP3 server replaced, over its Maildirs and over its
// IMAP, for each form that it is known to be run with.
func TestFromDovecot(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, settings, form string }{
		{"default", "", "dovecot"},
		{"old", "pop3_uidl_format = %v.%u", "%v.%u"},
		{"uw", "pop3_uidl_format = %08Xv%08Xu", "uw"},
		{"upper", "pop3_uidl_format = %XUu-%UXv", "%XUu-%UXv"},
		{"qmail", "pop3_uidl_format = %f", "qmail"},
		{"tpop3d", "pop3_uidl_format = %Mf", "tpop3d"},
		{"guid", "pop3_uidl_format = %g", "%g"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := startDovecotWith(t, tt.settings)
			for _, user := range []string{"alice", "bob"} {
				d.deliver(t, user, identified(0, migrating)...)
			}
			keys, server := fmt.Sprintf("uidl = %q", tt.form), t
			t.Run("maildir", func(t *testing.T) {
				m, g := newMigrant(t, "alice"), startGateway(t, asMaildirs(d.maildirs, keys), "")
				m.moves(d.popPort, g.port, migrating)
				if tt.name == "default" {
					m.staysThrough(server, d, g)
				}
			})
			if tt.form == "qmail" || tt.form == "tpop3d" || tt.form == "%g" {
				return // IMAP tells neither file names nor GUIDs
			}
			t.Run("imap", func(t *testing.T) {
				m, g := newMigrant(t, "bob"), startGateway(t, withForm{d, keys}, "")
				m.moves(d.popPort, g.port, migrating)
				if tt.name == "default" {
					m.staysThrough(server, d, g)
				}
			})
		})
	}
}

// TestNewMailBesideDovecot has mail come that Dovecot has not numbered when pop3gw
// serves it, and numbers later.
func TestNewMailBesideDovecot(t *testing.T) {
	t.Parallel()
	d := startDovecot(t)
	d.deliver(t, "alice", identified(0, migrating)...)
	m := newMigrant(t, "alice")
	g := startGateway(t, asMaildirs(d.maildirs, ""), "")
	m.moves(d.popPort, g.port, migrating)
	d.deliver(t, "alice", identified(migrating, 3)...)
	if got := m.fetch(g.port); got != 3 {
		t.Errorf("%d new messages were fetched, want 3", got)
	}
	before := uidlOf(t, g.port, "alice")
	login(t, loopback(d.popPort), "alice").must(t, "QUIT") // Dovecot numbers them
	if after := uidlOf(t, g.port, "alice"); !slices.Equal(before, after) {
		t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if got := m.fetch(g.port); got != 0 {
		t.Errorf("%d messages were fetched again", got)
	}
}

// TestDovecotsFields has what doveadm and other migrations write into
// dovecot-uidlist: unique-ids and an order of another server before.
func TestDovecotsFields(t *testing.T) {
	t.Parallel()
	d := startDovecot(t)
	d.deliver(t, "alice", identified(0, 8)...)
	login(t, loopback(d.popPort), "alice").must(t, "QUIT")
	path := filepath.Join(d.path("alice"), "dovecot-uidlist")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{"1": "Pold-1 O5", "2": "Pold-2 O3", "3": "P", "4": "O1", "6": "Pold-6"}
	changed := regexp.MustCompile(`(?m)^(\d) `).ReplaceAllStringFunc(string(text), func(uid string) string {
		if f := fields[uid[:1]]; f != "" && !strings.Contains(uid, "V") {
			return uid + f + " "
		}
		return uid
	})
	header, _, _ := strings.Cut(string(text), "\n")
	_, rest, _ := strings.Cut(changed, "\n")
	d.stop()
	write(t, path, header+"\n"+rest, 0o600)
	own := exec.Command("sh", "-c", fmt.Sprintf("chown %d:%d %s; rm -f %s/dovecot.index*", mailUID, mailUID, path, d.path("alice")))
	if out, err := own.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.start(t)
	want := uidlOf(t, d.popPort, "alice")
	t.Logf("Dovecot:\n%s", strings.Join(want, "\n"))
	if !strings.Contains(strings.Join(want, " "), "old-1") {
		t.Fatal("Dovecot does not go by the fields that were written")
	}
	if got := uidlOf(t, startGateway(t, asMaildirs(d.maildirs, ""), "").port, "alice"); !slices.Equal(got, want) {
		t.Errorf("pop3gw:\n%s", strings.Join(got, "\n"))
	}
}

func TestFromCourier(t *testing.T) {
	t.Parallel()
	c := startCourier(t)
	c.deliver(t, "alice", identified(0, migrating)...)
	newMigrant(t, "alice").moves(c.popPort, startGateway(t, asMaildirs(c.maildirs, `uidl = "courier"`), "").port, migrating)

	// Its IMAP server counts otherwise than its POP3 server: a list is needed.
	c.deliver(t, "bob", identified(0, migrating)...)
	imported(t, "bob", c.popPort, startGateway(t, c, ""), migrating)
}

func TestFromCyrus(t *testing.T) {
	t.Parallel()
	c := startCyrus(t)
	c.deliver(t, "alice", identified(0, migrating)...)
	newMigrant(t, "alice").moves(c.popPort, startGateway(t, withForm{c, `uidl = "cyrus"`}, "").port, migrating)
}

// imported has fetchmail come from a server whose unique-ids are brought in by a
// list, made as docs/migration.md says.
func imported(t testing.TB, user string, from int, g *gateway, messages int) {
	t.Helper()
	m := newMigrant(t, user)
	if got := m.fetch(from); got != messages {
		t.Fatalf("fetchmail got %d messages from the server before, want %d", got, messages)
	}
	path := filepath.Join(folder(t), "list")
	write(t, path, listed(t, from, user), 0o644)
	g.uidl(t, "import", "--user", user, path)
	if got := m.fetch(g.port); got != 0 {
		t.Errorf("%d messages were fetched again", got)
	}
}

// listed is what the script of docs/migration.md prints, without its TLS.
func listed(t testing.TB, port int, user string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	script := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(text)
	if script == nil {
		t.Fatal("docs/migration.md has no script")
	}
	plain := strings.Replace(string(script[1]), "poplib.POP3_SSL(", "poplib.POP3(", 1)
	out, err := exec.Command("/usr/bin/python3", "-c", plain, loopback(port), user, password).Output()
	if err != nil {
		t.Fatalf("the script: %v", err)
	}
	return string(out)
}

// TestListOfOddMail imports a list of messages without a Message-ID, and with an odd
// header.
func TestListOfOddMail(t *testing.T) {
	t.Parallel()
	d := startDovecotWith(t, "pop3_uidl_format = old-%f")
	var odd [][]byte
	for i, header := range []string{
		"From: a@example.org\r\nSubject: no id\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n",
		"From: a@example.org\r\nSubject: folded\r\n and\t \tspaced \r\nTo:\r\n b@example.org,\r\n\tc@example.org\r\n",
		"Subject: \xe4\xf6\xfc in no encoding\r\n",
		"X-Nothing: of use\r\n",
		"Message-ID:\r\n <folded@example.org>\r\n",
		"Message-Id : <space@example.org> \r\n",
		"Message-ID:\r\nMessage-ID: <second@example.org>\r\n",
		"Message-ID: ~1\r\nSubject: looks like a digest\r\n",
		"Message-ID: <\xe4@example.org>\r\n",
		"Subject: " + strings.Repeat("long ", 600) + "\r\n",
	} {
		odd = append(odd, fmt.Appendf(nil, "%s\r\nText %d\r\n", header, i))
	}
	d.deliver(t, "alice", append(identified(0, 3), odd...)...)
	imported(t, "alice", d.popPort, startGateway(t, d, ""), 3+len(odd))
}

// uidl runs a command as root, as an administrator might, while the gateway runs.
func (g *gateway) uidl(t testing.TB, args ...string) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, append(append([]string{"uidl"}, args...), "--config", g.config)...).CombinedOutput()
	if err != nil {
		t.Fatalf("pop3gw uidl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// renumber has Dovecot forget the UIDs of a user's inbox.
func (d *dovecot) renumber(t testing.TB, user string) {
	t.Helper()
	before := uidlOf(t, d.popPort, user)
	d.stop()
	for none := 0; none < 25; none++ { // its processes end one after the other, and write
		lost, _ := filepath.Glob(filepath.Join(d.path(user), "dovecot*"))
		for _, path := range lost {
			none = 0
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	d.start(t)
	if after := uidlOf(t, d.popPort, user); after[0] == before[0] {
		t.Fatalf("Dovecot has not forgotten that %q", after[0])
	}
}

// TestUIDValidityChange has the mail server number a mailbox anew, twice.
func TestUIDValidityChange(t *testing.T) {
	t.Parallel()
	d := startDovecot(t)
	d.deliver(t, "alice", identified(0, migrating)...)
	g := startGateway(t, d, "")
	m := newMigrant(t, "alice")
	if got := m.fetch(g.port); got != migrating {
		t.Fatalf("fetchmail got %d messages, want %d", got, migrating)
	}
	before := uidlOf(t, g.port, "alice")
	for round := range 2 {
		d.renumber(t, "alice")
		if round == 1 {
			g.stop()
			g.start(t)
		}
		if got := m.fetch(g.port); got != 0 {
			t.Errorf("round %d: %d messages were fetched again", round, got)
		}
		if after := uidlOf(t, g.port, "alice"); !slices.Equal(before, after) {
			t.Errorf("round %d: before:\n%s\nafter:\n%s", round, strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	}
	// By then a new message is named by the server's new numbers.
	d.deliver(t, "alice", identified(migrating, 1)...)
	if got := m.fetch(g.port); got != 1 {
		t.Errorf("%d new messages were fetched, want 1", got)
	}
}

// TestMassChangeIsRefused has a mailbox in whose place comes another, until the
// operator allows it.
func TestMassChangeIsRefused(t *testing.T) {
	t.Parallel()
	d := startDovecot(t)
	d.deliver(t, "alice", identified(0, migrating)...)
	g := startGateway(t, d, "")
	before := uidlOf(t, g.port, "alice")
	d.renumber(t, "alice")
	for _, sub := range []string{"cur", "new"} {
		if err := os.RemoveAll(filepath.Join(d.path("alice"), sub)); err != nil {
			t.Fatal(err)
		}
	}
	d.deliver(t, "alice", identified(migrating, migrating)...)
	c, err := dialPOP3(g.addr())
	if err != nil {
		t.Fatal(err)
	}
	c.must(t, "USER alice")
	if _, err := c.command("PASS %s", password); err == nil || !strings.Contains(err.Error(), "-ERR [SYS/PERM] this mailbox was replaced") {
		t.Fatalf("login: %v", err)
	}
	c.conn.Close()
	for start := time.Now(); !strings.Contains(g.log.String(), "pop3gw uidl allow --user alice"); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > 10*time.Second { // it is behind the answer
			t.Fatalf("the log does not say what to type: %s", g.log)
		}
	}
	g.uidl(t, "allow", "--user", "alice")
	if after := uidlOf(t, g.port, "alice"); len(after) != migrating || slices.Equal(after, before) {
		t.Errorf("%q", after)
	}
}
