//go:build real

package real

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// purpose is what a client is to do in one session.
type purpose string

const (
	keep       purpose = "keep"   // fetch what is new, leave all on the server
	remove     purpose = "remove" // fetch and delete all
	removeSome purpose = "some"   // delete the removable messages alone
)

// client is a POP3 client driven as its users drive it, without a terminal
// where it can do without.
type client struct {
	name string // also its user's name
	// memory is what it knows of earlier sessions.
	memory memory
	// selective clients can delete some messages and keep others.
	selective bool
	// exact clients keep every octet, of messages without a header as well.
	exact bool
	// longest is the longest line it keeps whole, in octets; 0 for any.
	longest int
	// makes is what the client is known to make of a message as RETR sends it;
	// nil if it keeps every octet.
	makes func(message []byte) []byte
	// adds matches header lines that the client writes into what it delivers.
	// (?m) is set; the lines are LF-terminated.
	adds string
	// fetch runs one session. Messages go to separate files below s.inbox.
	fetch func(t testing.TB, s session)
}

type memory int

const (
	unseenOnly memory = iota // fetches what it has not seen, by UIDL
	cached                   // shows all, and fetches what its cache lacks, by UIDL
	none                     // shows and fetches all
)

// session is one run of a client.
type session struct {
	port        int
	user        string
	home, inbox string // home stays between sessions, inbox is this one's
	purpose     purpose
}

func (s session) url() *url.URL {
	return &url.URL{Scheme: "pop3", Host: loopback(s.port), Path: "/"}
}

var clients = []client{
	{name: "fetchmail", memory: unseenOnly, longest: 2048, fetch: fetchmail}, // it breaks longer lines
	{name: "getmail", memory: unseenOnly, longest: 2046, fetch: getmail},     // poplib's limit, and its own
	{name: "mpop", memory: unseenOnly, fetch: mpop},
	{name: "curl", memory: unseenOnly, selective: true, exact: true, fetch: curl, makes: lineForNothing},
	{name: "mutt", memory: cached, selective: true, fetch: mutt("mutt"), adds: `^(Status|Content-Length|Lines): .*\n`},
	{name: "neomutt", memory: cached, selective: true, fetch: mutt("neomutt"), adds: `^(Status|Content-Length|Lines): .*\n`},
	{name: "snail", memory: none, selective: true, fetch: snail, makes: mbox},
	{name: "poplib", memory: unseenOnly, selective: true, exact: true, fetch: script("/usr/bin/python3", "fetch.py", poplibScript)},
	{name: "netpop3", memory: unseenOnly, selective: true, exact: true, fetch: script("/usr/bin/perl", "fetch.pl", netpop3Script), makes: oneCR},
}

// lineForNothing: curl writes an empty line for an empty message.
func lineForNothing(message []byte) []byte {
	if len(message) == 0 {
		return []byte("\r\n")
	}
	return message
}

// mbox: s-nail quotes "From " and has each message end with an empty line, in a
// Maildir as well.
func mbox(message []byte) []byte {
	message = regexp.MustCompile(`(?m)^From `).ReplaceAll(message, []byte(">From "))
	if !bytes.HasSuffix(message, []byte("\r\n\r\n")) {
		message = append(message, "\r\n"...)
	}
	return message
}

// oneCR: Net::POP3 takes any number of CRs for a part of the line end.
func oneCR(message []byte) []byte {
	return regexp.MustCompile(`\r+\n`).ReplaceAll(message, []byte("\r\n"))
}

// keeps says whether the client keeps a sample, but for what is known of it.
func (c client) keeps(s sample) bool {
	return (c.exact || !s.odd) && (c.longest == 0 || longestLine(s.octets) <= c.longest)
}

// expected is what the client makes of messages.
func (c client) expected(messages [][]byte) [][]byte {
	if c.makes == nil {
		return messages
	}
	made := make([][]byte, len(messages))
	for i, m := range messages {
		made[i] = c.makes(canonical(m))
	}
	return made
}

// users are all names that have a maildrop in every store.
func users() []string {
	names := []string{"alice", "bob", "carol"}
	for _, c := range clients {
		names = append(names, c.name)
	}
	return names
}

// execute runs a client with its home as its only surroundings.
func (s session) execute(t testing.TB, ok func(code int) bool, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = s.home
	cmd.Env = []string{"HOME=" + s.home, "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TERM=vt100",
		"USER=nobody", "LOGNAME=nobody", "FETCHMAILHOME=" + s.home, "TMPDIR=" + s.home}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	own(t, s.home)
	out, err := run(3*time.Minute, cmd)
	if cmd.ProcessState == nil || !ok(cmd.ProcessState.ExitCode()) {
		t.Errorf("%s: %v\n%s", filepath.Base(name), err, out[max(len(out)-2000, 0):])
	}
	return out
}

// nobody runs the clients: some refuse to be root, others want a user that has
// a name.
const nobody = 65534

// own gives everything below dir to nobody.
func own(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func zero(code int) bool { return code == 0 }

// fetchmail delivers to a command, as to procmail or maildrop. With nokeep it
// leaves messages it knows alone unless told "fetchall".
func fetchmail(t testing.TB, s session) {
	options := "keep"
	if s.purpose == remove {
		options = "nokeep fetchall"
	}
	write(t, filepath.Join(s.home, "deliver"), fmt.Sprintf("#!/bin/sh\nexec cat >\"$(mktemp %s/XXXXXXXX)\"\n", s.inbox), 0o755)
	write(t, filepath.Join(s.home, "fetchmailrc"), fmt.Sprintf(`set invisible
set no bouncemail
poll 127.0.0.1 service %d protocol POP3 auth password uidl
	user %q password %q is nobody here
	%s norewrite sslproto "" mda "%s/deliver"
`, s.port, s.user, password, options, s.home), 0o600)
	nothingNew := func(code int) bool { return code == 0 || code == 1 }
	s.execute(t, nothingNew, "/usr/bin/fetchmail", "-v", "--nosyslog", "--fetchmailrc", filepath.Join(s.home, "fetchmailrc"), "--idfile", filepath.Join(s.home, "ids"))
}

// getmail waits for a child of its own that delivers, and misses one that ends
// before it waits; a command can take its time.
func getmail(t testing.TB, s session) {
	write(t, filepath.Join(s.home, "deliver"), fmt.Sprintf("#!/bin/sh\ncat >\"$(mktemp %s/XXXXXXXX)\"\nexec sleep 0.3\n", s.inbox), 0o755)
	write(t, filepath.Join(s.home, "rc"), fmt.Sprintf(`[retriever]
type = SimplePOP3Retriever
server = 127.0.0.1
port = %d
username = %s
password = %s
[destination]
type = MDA_external
path = %s/deliver
[options]
read_all = %t
delete = %t
delivered_to = false
received = false
verbose = 2
`, s.port, s.user, password, s.home, s.purpose == remove, s.purpose == remove), 0o600)
	s.execute(t, zero, "/usr/bin/getmail", "--getmaildir", s.home, "--rcfile", filepath.Join(s.home, "rc"))
}

func mpop(t testing.TB, s session) {
	makeMaildir(t, s.inbox)
	onOff := map[bool]string{true: "on", false: "off"}
	write(t, filepath.Join(s.home, "mpoprc"), fmt.Sprintf(`account default
host 127.0.0.1
port %d
user %s
password %s
auth user
tls off
uidls_file %s/uidls
delivery maildir %s
received_header off
keep %s
only_new %s
`, s.port, s.user, password, s.home, s.inbox, onOff[s.purpose == keep], onOff[s.purpose == keep]), 0o600)
	s.execute(t, zero, "/usr/bin/mpop", "--file", filepath.Join(s.home, "mpoprc"))
}

// curl has no memory; a list of UIDLs beside it is the usual shell script.
func curl(t testing.TB, s session) {
	base := []string{"--silent", "--show-error", "--max-time", "60", "--user", s.user + ":" + password}
	ask := func(args ...string) string {
		return s.execute(t, zero, "/usr/bin/curl", append(base[:len(base):len(base)], args...)...)
	}
	seenFile := filepath.Join(s.home, "seen")
	seen, _ := os.ReadFile(seenFile)
	var fetching, deleting []string
	for line := range strings.Lines(ask("--request", "UIDL", s.url().String())) {
		number, uid, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		message := s.url().JoinPath(number).String()
		if s.purpose == remove || !bytes.Contains(seen, []byte(uid+"\n")) {
			fetching = append(fetching, message, "--output", filepath.Join(s.inbox, number))
			seen = append(seen, uid+"\n"...)
		}
		if s.purpose == remove ||
			s.purpose == removeSome && strings.Contains(ask("--request", "TOP "+number+" 0", s.url().String()), removable) {
			deleting = append(deleting, message)
		}
	}
	if len(fetching) > 0 {
		ask(fetching...)
	}
	if len(deleting) > 0 {
		ask(append([]string{"--list-only", "--request", "DELE"}, deleting...)...)
	}
	write(t, seenFile, string(seen), 0o600)
}

// mutt returns the driver of mutt or neomutt, which open the maildrop as a
// folder, on a terminal of script's.
func mutt(program string) func(t testing.TB, s session) {
	return func(t testing.TB, s session) {
		makeMaildir(t, s.inbox)
		var keys string
		switch s.purpose {
		case keep:
			keys = "<tag-pattern>~A<enter><tag-prefix-cond><copy-message>" + s.inbox + "<enter><end-cond>"
		case remove:
			keys = "<tag-pattern>~A<enter><tag-prefix-cond><copy-message>" + s.inbox + "<enter><end-cond><delete-pattern>~A<enter><sync-mailbox>"
		case removeSome:
			keys = "<delete-pattern>~s '" + removable + "'<enter><sync-mailbox>"
		}
		write(t, filepath.Join(s.home, "muttrc"), fmt.Sprintf(`set folder=%[1]s
set mbox_type=Maildir
set confirmcreate=no confirmappend=no delete=yes quit=yes beep=no
set pop_user=%[2]s
set pop_pass=%[3]q
set pop_authenticators="user"
set ssl_starttls=no ssl_force_tls=no
set pop_delete=no pop_checkinterval=3600
set header_cache=%[1]s/headers message_cachedir=%[1]s/bodies message_cache_clean=no
set mail_check=0
set wait_key=no sleep_time=0 pager_stop=yes
set copy=no
push "%[4]s<quit>"
`, s.home, s.user, password, keys), 0o600)
		for _, cache := range []string{"headers", "bodies"} {
			if err := os.MkdirAll(filepath.Join(s.home, cache), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		command := fmt.Sprintf("%s -n -F %s/muttrc -f pop://%s/", program, s.home, loopback(s.port))
		// A key that fails, as in an empty folder, drops those pushed after it.
		// Typed keys come after the pushed ones, so that "q" cannot cut in.
		s.execute(t, zero, "/bin/bash", "-c",
			`(while sleep 0.5; do printf q; done) | script -q -e -c "$1" "$2"`, "bash", command, filepath.Join(s.home, "screen"))
	}
}

func snail(t testing.TB, s session) {
	makeMaildir(t, s.inbox)
	var commands string
	switch s.purpose {
	case keep:
		commands = "copy * maildir://" + s.inbox
	case remove:
		commands = "copy * maildir://" + s.inbox + "\ndelete *"
	case removeSome:
		commands = `delete "/` + removable + `"`
	}
	write(t, filepath.Join(s.home, "commands"), commands+"\nquit\n", 0o600)
	u := s.url()
	u.User = url.UserPassword(s.user, password)
	command := fmt.Sprintf("exec s-nail -:/ -# -S v15-compat -S pop3-auth=plain -S pop3-no-apop -S pop3-bulk-load -S MBOX=/dev/null -S newmail=nopoll -S quiet -f '%s' <%s/commands",
		u, s.home)
	s.execute(t, zero, "/bin/sh", "-c", command)
}

var (
	//go:embed testdata/fetch.py
	poplibScript string
	//go:embed testdata/fetch.pl
	netpop3Script string
)

// script returns the driver of a script that takes port, user, password, inbox,
// the file of UIDLs it has seen, the purpose and the removable subject.
func script(interpreter, name, source string) func(t testing.TB, s session) {
	return func(t testing.TB, s session) {
		path := filepath.Join(s.home, name)
		write(t, path, source, 0o600)
		s.execute(t, zero, interpreter, path, strconv.Itoa(s.port), s.user, password, s.inbox,
			filepath.Join(s.home, "seen"), string(s.purpose), removable)
	}
}

func makeMaildir(t testing.TB, dir string) {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// received returns the messages a session delivered, without the header lines
// the client is known to add.
func (c client) received(t testing.TB, inbox string) (messages [][]byte) {
	t.Helper()
	for _, sub := range []string{"", "new", "cur"} {
		messages = append(messages, readFolder(t, filepath.Join(inbox, sub))...)
	}
	if c.adds == "" {
		return messages
	}
	added := regexp.MustCompile("(?m)" + c.adds)
	for i, m := range messages {
		end := bytes.Index(m, []byte("\n\n"))
		if end < 0 {
			continue
		}
		messages[i] = append(added.ReplaceAll(m[:end+1], nil), m[end+1:]...)
	}
	return messages
}
