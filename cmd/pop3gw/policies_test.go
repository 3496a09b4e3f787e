package main

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPolicies has the program serve users of one adapter: one with its policy, and
// others with a policy of their own or of a route. Each has two messages.
func TestPolicies(t *testing.T) {
	dir := t.TempDir()
	for _, user := range []string{"alice", "bob", "carol", "dan@example.org"} {
		for _, sub := range []string{"new", "cur", ".Trash/new", ".Trash/cur"} {
			if err := os.MkdirAll(filepath.Join(dir, "mail", user, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"1.a", "2.a"} {
			write(t, filepath.Join(dir, "mail", user, "new"), name, "Message-ID: <"+name+">\n\nText\n")
		}
	}
	write(t, dir, "users", "dan@example.org:{PLAIN}secret\n")
	config := write(t, dir, "config.toml", strings.ReplaceAll(`
[[listeners]]
address = "127.0.0.1:0"
[adapters.files]
type = "maildir"
path = "DIR/mail/{user}"
on_delete = "keep"
[[users]]
name = "alice"
password = "{PLAIN}secret"
adapter = "files"
[[users]]
name = "bob"
password = "{PLAIN}secret"
adapter = "files"
on_delete = "seen"
window = { max_messages = 1 }
[[users]]
name = "carol"
password = "{PLAIN}secret"
adapter = "files"
on_delete = "expunge"
expire_after = "30d"
[[routes]]
users = "*@example.org"
adapter = "files"
passwd_file = "DIR/users"
on_delete = "move"
on_retrieve = "seen"
[state]
url = "file://DIR/state"
`, "DIR", dir))
	p := start(t, dir, "serve", "--config", config)
	login := func(user, want string) *client {
		t.Helper()
		c, _ := dial(t, p.out.find(t, `msg=listening address=(\S+) `)[1], nil)
		c.do("+OK", "USER "+user)
		c.do("+OK "+want+" ", "PASS secret")
		return c
	}
	// left is what a user has in a folder, as file names.
	left := func(user, folder string) string {
		entries, _ := os.ReadDir(filepath.Join(dir, "mail", user, folder))
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " ")
	}
	check := func(user, folder, want string) {
		t.Helper()
		if got := left(user, folder); got != want {
			t.Errorf("%s has %q in %s, want %q", user, got, folder, want)
		}
	}

	c := login("alice", "2")
	c.do("+OK", "DELE 1")
	c.do("+OK 1 messages kept", "QUIT")
	check("alice", "new", "1.a 2.a")

	c = login("bob", "1")
	c.do("+OK", "DELE 1")
	c.do("+OK 1 messages marked as read", "QUIT")
	check("bob", "new", "1.a")
	check("bob", "cur", "2.a:2,S")

	c = login("dan@example.org", "2")
	c.do("+OK", "RETR 1")
	c.body()
	c.do("+OK", "DELE 2")
	c.do("+OK 1 messages moved to the trash", "QUIT")
	check("dan@example.org", "new", "")
	check("dan@example.org", "cur", "1.a:2,S")
	check("dan@example.org", ".Trash/cur", "2.a:2,")

	c = login("carol", "2")
	c.do("+OK", "RETR 1")
	c.body()
	c.do("+OK", "CAPA")
	if capa := c.body(); !strings.Contains(capa, "\nEXPIRE 30\n") {
		t.Errorf("CAPA says %s", capa)
	}
	c.do("+OK", "QUIT")
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.out)
	}
	age(t, filepath.Join(dir, "state", "state.db"), 31*24*time.Hour)
	p = start(t, dir, "serve", "--config", config)
	c = login("carol", "2")
	check("carol", "new", "1.a 2.a")
	c.do("+OK 0 messages removed, 1 expired", "QUIT")
	check("carol", "new", "2.a")
	p.out.find(t, `msg="message removed".*expired=`)
}

// age has what was retrieved be so much longer ago.
func age(t *testing.T, path string, by time.Duration) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.Exec("UPDATE retrieved SET at = at - ?", int64(by/time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := result.RowsAffected(); n != 1 {
		t.Fatalf("%d messages are retrieved", n)
	}
}
