//go:build real

package real

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// store is a place for mail with pop3gw before it. Any user name made of
// letters and digits has a maildrop in it, with password.
type store interface {
	// adapter is the gateway's configuration: one adapter and the route to it.
	adapter() string
	// deliver adds messages to a user's maildrop, which it makes first if need be.
	deliver(t testing.TB, user string, messages ...[]byte)
	// stored returns what the maildrop now holds, in any order; line ends may
	// have become CRLF.
	stored(t testing.TB, user string) [][]byte
}

// kind is one kind of store. A store that does not start fails its test.
type kind struct {
	name  string
	start func(t testing.TB) store
	// holds says whether the store can keep a sample as it is.
	holds func(sample) bool
}

var kinds = []kind{
	{"maildir", func(t testing.TB) store { return newMaildirs(t) }, func(sample) bool { return true }},
	{"dovecot", func(t testing.TB) store { return startDovecot(t) }, func(s sample) bool { return !s.maildirOnly }},
	{"courier", func(t testing.TB) store { return startCourier(t) }, func(s sample) bool { return !s.maildirOnly }},
	// Cyrus refuses mail whose header is not in order.
	{"cyrus", func(t testing.TB) store { return startCyrus(t) }, func(s sample) bool { return !s.odd }},
}

// imapAdapter is the configuration for an IMAP server where the clients' own
// names and passwords log in.
func imapAdapter(port int, extra string) string {
	return fmt.Sprintf(`
[adapters.office]
type = "imap"
address = "localhost:%d"
%s

[[routes]]
users = "*"
adapter = "office"
`, port, extra)
}

// maildirs is a folder of Maildirs, user/Maildir, which is a store by itself
// and the mail of IMAP servers.
type maildirs struct {
	root  string
	users string // passwd-file for the gateway
}

func newMaildirs(t testing.TB) *maildirs {
	dir := folder(t)
	m := &maildirs{root: filepath.Join(dir, "mail"), users: filepath.Join(dir, "users")}
	mailFolder(t, m.root)
	var b strings.Builder
	for _, user := range users() {
		fmt.Fprintf(&b, "%s:{PLAIN}%s\n", user, password)
	}
	write(t, m.users, b.String(), 0o644)
	return m
}

func (m *maildirs) adapter() string {
	return fmt.Sprintf(`
[adapters.archive]
type = "maildir"
path = %q

[[routes]]
users = "*"
adapter = "archive"
passwd_file = %q
`, filepath.Join(m.root, "{user}", "Maildir"), m.users)
}

func (m *maildirs) path(user string) string { return filepath.Join(m.root, user, "Maildir") }

// create makes an empty Maildir where there is none.
func (m *maildirs) create(t testing.TB, user string) {
	t.Helper()
	mailFolder(t, filepath.Join(m.root, user))
	for _, sub := range []string{"", "cur", "new", "tmp"} {
		mailFolder(t, filepath.Join(m.path(user), sub))
	}
}

// delivered counts messages, for names that sort in the order of delivery.
var delivered atomic.Int64

// deliver writes every second message to new/, and the others to cur/ as if a
// mail program had seen them.
func (m *maildirs) deliver(t testing.TB, user string, messages ...[]byte) {
	t.Helper()
	m.create(t, user)
	for _, message := range messages {
		n := delivered.Add(1)
		name := fmt.Sprintf("new/%d.M%dP1.mx.example.org", 1700000000+n, n)
		if n%2 == 0 {
			name = fmt.Sprintf("cur/%d.M%dP1.mx.example.org:2,S", 1700000000+n, n)
		}
		path := filepath.Join(m.path(user), name)
		if err := os.WriteFile(path, message, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, mailUID, mailUID); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *maildirs) stored(t testing.TB, user string) [][]byte {
	t.Helper()
	return append(readFolder(t, filepath.Join(m.path(user), "new")),
		readFolder(t, filepath.Join(m.path(user), "cur"))...)
}

// readFolder returns the contents of the regular files in dir.
func readFolder(t testing.TB, dir string) (messages [][]byte) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, content)
	}
	return messages
}

// compare reports every message that is in one set and not in the other.
// Messages are compared as POP3 sends them.
func compare(t testing.TB, what string, got, want [][]byte) {
	t.Helper()
	g, w := canonicalSet(got), canonicalSet(want)
	var missing, surplus []string
	for s, n := range w {
		for range n - g[s] {
			missing = append(missing, s)
		}
	}
	for s, n := range g {
		for range n - w[s] {
			surplus = append(surplus, s)
		}
	}
	if len(missing)+len(surplus) == 0 {
		return
	}
	t.Errorf("%s: got %d messages, want %d; %d missing, %d unexpected", what, len(got), len(want), len(missing), len(surplus))
	for _, m := range missing {
		t.Errorf("%s: missing: %s", what, excerpt(m))
		if at, found := nearest(m, surplus); at > 0 {
			from := max(at-40, 0)
			t.Errorf("%s: instead there is one of %d octets that differs at octet %d:\n want ...%.100q\n got  ...%.100q",
				what, len(found), at, m[from:], found[from:])
		}
	}
	for _, m := range surplus {
		if at, _ := nearest(m, missing); at == 0 {
			t.Errorf("%s: unexpected: %s", what, excerpt(m))
		}
	}
}

// nearest returns the message with the most octets in common with m from the
// start, and how many those are.
func nearest(m string, among []string) (common int, found string) {
	for _, candidate := range among {
		n := 0
		for n < len(m) && n < len(candidate) && m[n] == candidate[n] {
			n++
		}
		if n > common {
			common, found = n, candidate
		}
	}
	return common, found
}

func canonicalSet(messages [][]byte) map[string]int {
	set := make(map[string]int)
	for _, m := range messages {
		set[string(canonical(m))]++
	}
	return set
}

func excerpt(s string) string {
	if _, after, ok := strings.Cut(s, "Subject: "); ok {
		s, _, _ = strings.Cut(after, "\r\n")
		return fmt.Sprintf("the message %q", s)
	}
	if len(s) > 160 {
		return fmt.Sprintf("%q... (%d octets)", s[:160], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// canonical is a message as RETR sends it, before byte-stuffing: each LF with
// its CR, and the last line ended.
func canonical(message []byte) []byte {
	out := bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))
	out = bytes.ReplaceAll(out, []byte("\n"), []byte("\r\n"))
	if len(out) > 0 && !bytes.HasSuffix(out, []byte("\r\n")) {
		out = append(out, "\r\n"...)
	}
	return out
}
