//go:build real

package real

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// maildirFolder makes a folder of a user's Maildir, and delivers messages to it.
func (m *maildirs) maildirFolder(t testing.TB, user, dir string, messages ...[]byte) {
	t.Helper()
	path := filepath.Join(m.path(user), dir)
	for _, sub := range []string{"", "cur", "new", "tmp"} {
		mailFolder(t, filepath.Join(path, sub))
	}
	for _, message := range messages {
		n := delivered.Add(1)
		file := filepath.Join(path, fmt.Sprintf("new/%d.M%dP1.mx.example.org", 1700000000+n, n))
		if err := os.WriteFile(file, message, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(file, mailUID, mailUID); err != nil {
			t.Fatal(err)
		}
	}
}

// inFolder returns what lies in a folder of a user's Maildir.
func (m *maildirs) inFolder(t testing.TB, user, dir string) [][]byte {
	t.Helper()
	path := filepath.Join(m.path(user), dir)
	return append(readFolder(t, filepath.Join(path, "new")), readFolder(t, filepath.Join(path, "cur"))...)
}

// withKeys adds keys to the adapter of a store.
func withKeys(s store, keys string) store { return keyed{s, keys} }

type keyed struct {
	store
	keys string
}

func (k keyed) adapter() string {
	return strings.Replace(k.store.adapter(), "\n[[routes]]", k.keys+"\n[[routes]]", 1)
}

// TestTrashOfTheServer finds Dovecot's trash by its attribute, whose name is not
// ASCII.
func TestTrashOfTheServer(t *testing.T) {
	d := startDovecotWith(t, `
namespace inbox {
  inbox = yes
  mailbox Papierkörbe {
    special_use = \Trash
    auto = create
  }
}
`)
	messages := letters(4)
	d.deliver(t, "alice", messages...)
	g := startGateway(t, withKeys(d, "on_delete = \"move\"\n"), "")
	c := login(t, g.addr(), "alice")
	c.must(t, "DELE 1")
	c.must(t, "DELE 3")
	if reply := c.must(t, "QUIT"); reply != "2 messages moved to the trash, bye" {
		t.Errorf("QUIT: %s", reply)
	}
	compare(t, "the maildrop", d.stored(t, "alice"), [][]byte{messages[1], messages[3]})
	compare(t, "the trash", d.inFolder(t, "alice", ".Papierk&APY-rbe"), [][]byte{messages[0], messages[2]})
	if log := g.log.tail(1 << 16); strings.Count(log, `msg="message moved to the trash"`) != 2 || strings.Contains(log, `msg="message removed"`) {
		t.Errorf("the log does not say what was done:\n%s", log)
	}
}

// TestTrashThatIsNotThere names one that Dovecot does not have: DELE says so.
func TestTrashThatIsNotThere(t *testing.T) {
	d := startDovecot(t)
	messages := letters(2)
	d.deliver(t, "alice", messages...)
	g := startGateway(t, withKeys(d, "on_delete = \"move\"\ntrash_mailbox = \"Bin\"\n"), "")
	c := login(t, g.addr(), "alice")
	if _, err := c.command("DELE 1"); err == nil || !strings.Contains(err.Error(), "[SYS/PERM] mail server has no trash mailbox") {
		t.Errorf("DELE: %v", err)
	}
	c.must(t, "QUIT")
	compare(t, "the maildrop", d.stored(t, "alice"), messages)
	d.createFolder(t, "alice", "Bin")
	c = login(t, g.addr(), "alice")
	c.must(t, "DELE 1")
	c.must(t, "QUIT")
	compare(t, "the trash", d.inFolder(t, "alice", ".Bin"), messages[:1])
}

// TestPoliciesOfRoutes has users of one Dovecot with policies of their own: what becomes
// of their mail there, and what is shown of it.
func TestPoliciesOfRoutes(t *testing.T) {
	d := startDovecot(t)
	messages := letters(4)
	for _, user := range []string{"alice", "bob", "carol"} {
		d.create(t, user)
		d.maildirFolder(t, user, "", messages...)
	}
	_, routes, _ := strings.Cut(d.adapter(), "[[routes]]")
	route := func(user, keys string) string {
		return strings.Replace("[[routes]]"+routes, `users = "*"`, fmt.Sprintf("users = %q\n%s", user, keys), 1)
	}
	g := startGateway(t, constant(strings.Replace(d.adapter(), "[[routes]]", "on_delete = \"keep\"\n"+
		route("alice", `on_delete = "seen"`)+
		route("bob", `on_retrieve = "seen"`)+
		route("carol", `window = { max_messages = 2, unseen_only = true }`)+"[[routes]]", 1)), "")
	// seen returns the messages that Dovecot has as read.
	seen := func(user string) (read [][]byte) {
		t.Helper()
		paths, _ := filepath.Glob(filepath.Join(d.path(user), "cur", "*:2,*S*"))
		for _, path := range paths {
			message, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			read = append(read, message)
		}
		return read
	}
	quit := func(c *pop3, want string) {
		t.Helper()
		if reply := c.must(t, "QUIT"); reply != want {
			t.Errorf("QUIT: %s, want %s", reply, want)
		}
	}

	c := login(t, g.addr(), "alice")
	c.retrieve(t, 3)
	c.must(t, "DELE 2")
	quit(c, "1 messages marked as read, bye")
	compare(t, "what alice has read", seen("alice"), messages[1:2])
	compare(t, "what alice has", d.stored(t, "alice"), messages)

	c = login(t, g.addr(), "bob")
	c.retrieve(t, 3)
	c.lines(t, "TOP 1 100")
	c.must(t, "DELE 2")
	quit(c, "1 messages kept, bye")
	compare(t, "what bob has read", seen("bob"), messages[2:3])
	compare(t, "what bob has", d.stored(t, "bob"), messages)

	numbers := func(c *pop3) (uids []string) {
		for _, line := range c.lines(t, "UIDL") {
			_, uid, _ := strings.Cut(line, " ")
			uids = append(uids, uid)
		}
		return uids
	}
	c = login(t, g.addr(), "carol")
	first := numbers(c)
	compare(t, "what carol is shown", [][]byte{c.retrieve(t, 1), c.retrieve(t, 2)}, messages[2:])
	quit(c, "0 messages removed, bye")
	// The newest is read with another program.
	read := exec.Command("/usr/bin/curl", "-sS", "-u", "carol:"+password, "-X", `STORE 4 +FLAGS (\Seen)`, fmt.Sprintf("imap://%s/INBOX", loopback(d.port)))
	if out, err := read.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c = login(t, g.addr(), "carol")
	second := numbers(c)
	compare(t, "what carol is shown then", [][]byte{c.retrieve(t, 1), c.retrieve(t, 2)}, messages[1:3])
	quit(c, "0 messages removed, bye")
	if len(first) != 2 || len(second) != 2 || second[1] != first[0] {
		t.Errorf("unique-ids are %q, then %q", first, second)
	}
}

// TestFoldersMerged serves two folders as one, and one of them by its name in either
// encoding, over Maildirs and over Dovecot.
func TestFoldersMerged(t *testing.T) {
	const folder = ".Entw&APw-rfe"
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			s := k.start(t)
			var m *maildirs
			switch s := s.(type) {
			case *maildirs:
				m = s
			case *dovecot:
				m = s.maildirs
			}
			messages := letters(6)
			m.deliver(t, "alice", messages[:3]...)
			m.maildirFolder(t, "alice", folder, messages[3:]...)
			g := startGateway(t, withKeys(s, "folders = true\nmailboxes = [\"INBOX\", \"Entwürfe\"]\n"), "")

			c := login(t, g.addr(), "alice")
			first := c.lines(t, "UIDL")
			if len(first) != 6 || len(slices.Compact(slices.Sorted(slices.Values(first)))) != 6 {
				t.Errorf("unique-ids are %q", first)
			}
			for _, name := range []string{"alice+Entwürfe", "alice+Entw&APw-rfe"} {
				other, err := dialPOP3(g.addr())
				if err != nil {
					t.Fatal(err)
				}
				other.command("USER %s", name)
				if reply, err := other.command("PASS %s", password); err == nil || !strings.Contains(err.Error(), "[IN-USE]") {
					t.Errorf("%s while both are open: %s, %v", name, reply, err)
				}
				other.conn.Close()
			}
			c.must(t, "DELE 2")
			c.must(t, "DELE 5")
			c.must(t, "QUIT")
			compare(t, "the INBOX", m.stored(t, "alice"), [][]byte{messages[0], messages[2]})
			compare(t, "the folder", m.inFolder(t, "alice", folder), [][]byte{messages[3], messages[5]})

			g.kill() // nothing of it is in memory alone
			g.start(t)
			c = login(t, g.addr(), "alice")
			var names []string
			for _, line := range c.lines(t, "UIDL") {
				_, uid, _ := strings.Cut(line, " ")
				names = append(names, uid)
			}
			var want []string
			for i, line := range first {
				if _, uid, _ := strings.Cut(line, " "); i != 1 && i != 4 {
					want = append(want, uid)
				}
			}
			if !slices.Equal(names, want) {
				t.Errorf("unique-ids are %q, were %q", names, want)
			}
			c.must(t, "QUIT")
			for _, name := range []string{"alice+Entwürfe", "alice+Entw&APw-rfe"} {
				c := login(t, g.addr(), name)
				if reply := c.must(t, "STAT"); !strings.HasPrefix(reply, "2 ") {
					t.Errorf("%s: STAT says %s", name, reply)
				}
				c.must(t, "QUIT")
			}
		})
	}
}

// step is a relay to an IMAP server that, at a command behind SELECT, ends pop3gw.
type step struct {
	port int

	mu   sync.Mutex
	left int // commands before that; 0 is never
	end  func()
}

func startStep(t testing.TB, addr string) *step {
	t.Helper()
	s := new(step)
	s.port = relay(t, addr, s.relay, plainly)
	return s
}

func (s *step) relay(server io.Writer, client io.Reader) {
	r := bufio.NewReader(client)
	counting := false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		counting = counting || strings.Contains(line, " SELECT ")
		if counting && s.hit() {
			return
		}
		if _, err := io.WriteString(server, line); err != nil {
			return
		}
	}
}

func (s *step) hit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return false
	}
	if s.left--; s.left > 0 {
		return false
	}
	s.end()
	return true
}

func (s *step) set(left int, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.end = left, end
}

// TestGuardedKilled kills pop3gw at each command of a removal from a Dovecot without
// UIDPLUS. What others have flagged as deleted is there, and flagged, after the next
// login; what was marked is gone or as it was.
func TestGuardedKilled(t *testing.T) {
	d := startDovecotWith(t, "imap_capability = IMAP4rev1 SASL-IR LITERAL+ ENABLE IDLE ESEARCH UNSELECT CHILDREN NAMESPACE\n")
	const most = 30
	var b strings.Builder
	for k := range most {
		fmt.Fprintf(&b, "step%d:{PLAIN}%s\n", k+1, password)
	}
	write(t, d.users, b.String(), 0o644)
	s := startStep(t, loopback(d.port))
	g := startGateway(t, constant(imapAdapter(s.port, "tls = \"none\"\nwithout_uidplus = \"guarded\"\nkeep_connections = \"0s\"")), "")
	// flagged returns the subjects of the messages that are flagged as deleted, and
	// of all.
	state := func(user string) (flagged, all []string) {
		t.Helper()
		entries, err := os.ReadDir(filepath.Join(d.path(user), "cur"))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			base, flags, _ := strings.Cut(entry.Name(), ":2,")
			all = append(all, base)
			if strings.Contains(flags, "T") {
				flagged = append(flagged, base)
			}
		}
		slices.Sort(flagged)
		slices.Sort(all)
		return flagged, all
	}
	for k := 1; ; k++ {
		if k > most {
			t.Fatalf("still killed at command %d", k)
		}
		user := fmt.Sprint("step", k)
		d.create(t, user)
		for i, message := range letters(5) {
			flags := map[int]string{1: "T", 4: "ST"}[i]
			path := filepath.Join(d.path(user), "cur", fmt.Sprintf("%d.M%dP1.mx:2,%s", 1700000000+i, i, flags))
			write(t, path, string(message), 0o600)
			if err := os.Chown(path, mailUID, mailUID); err != nil {
				t.Fatal(err)
			}
		}
		before, _ := state(user)
		c := login(t, g.addr(), user)
		c.must(t, "DELE 1")
		c.must(t, "DELE 3")
		s.set(k, g.kill)
		_, err := c.command("QUIT")
		s.set(0, nil)
		if err == nil {
			if flagged, all := state(user); !slices.Equal(flagged, before) || len(all) != 3 {
				t.Errorf("after QUIT: flagged are %q, were %q; there are %q", flagged, before, all)
			}
			if k < 8 {
				t.Errorf("only %d commands", k)
			}
			t.Logf("killed at each of %d commands", k-1)
			return
		}
		<-g.done
		g.start(t)
		login(t, g.addr(), user).must(t, "QUIT")
		flagged, all := state(user)
		if !slices.Equal(flagged, before) {
			t.Errorf("killed at command %d: flagged are %q, were %q", k, flagged, before)
		}
		for _, i := range []int{1, 3, 4} {
			if !slices.Contains(all, fmt.Sprintf("%d.M%dP1.mx", 1700000000+i, i)) {
				t.Errorf("killed at command %d: message %d, which was not marked, is gone", k, i)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// constant is a store of which nothing but the configuration is of interest.
type constant string

func (c constant) adapter() string                          { return string(c) }
func (c constant) deliver(testing.TB, string, ...[]byte)    {}
func (c constant) stored(testing.TB, string) (all [][]byte) { return nil }
