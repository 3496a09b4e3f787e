package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// uidlFolder is a Maildir of user bob with two messages, and a configuration with a
// state.
func uidlFolder(t *testing.T) (dir, config string) {
	t.Helper()
	dir = t.TempDir()
	for _, sub := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, "mail", "bob", sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "mail", "bob", "cur"), "1.a:2,S", "Message-ID: <1@example.org>\n\nOne\n")
	write(t, filepath.Join(dir, "mail", "bob", "cur"), "2.a:2,S", "Message-ID: <2@example.org>\n\nTwo\n")
	config = write(t, dir, "config.toml", `
hostname = "pop.example.org"
[[listeners]]
address = "127.0.0.1:0"
[adapters.files]
type = "maildir"
path = "`+dir+`/mail/{user}"
[[users]]
name = "bob"
password = "{PLAIN}secret"
adapter = "files"
[state]
url = "file://`+dir+`/state"
`)
	return dir, config
}

func TestUIDLCommands(t *testing.T) {
	dir, config := uidlFolder(t)
	uidl := func(args ...string) (out, stderr string, code int) {
		return pop3gw(t, "", append([]string{"uidl"}, append(args, "--config", config)...)...)
	}
	must := func(want string, args ...string) {
		t.Helper()
		out, stderr, code := uidl(args...)
		if code != 0 || !strings.Contains(out, want) {
			t.Fatalf("uidl %q: exit code %d, %q, %q; want %q", args, code, out, stderr, want)
		}
	}
	list := write(t, dir, "bob.list", "# of the old server\nUID1-7\t<1@example.org>\t36\nUID9-7\t<9@example.org>\n")
	must("2 unique-ids for bob; its messages have them from the next login on", "import", "--user", "bob", list)
	must("UID1-7\t<1@example.org>\t", "export", "--user", "bob")
	must("2.a\t<2@example.org>\t", "export", "-u", "bob")
	must("old unique-ids are looked for until", "list")
	must("the unique-ids of bob may change at the next login", "allow", "--user", "bob")
	must("may change once", "list", "--user", "bob")
	must("the unique-ids of 1 maildrops may change", "allow", "--all")

	// What was exported can be imported.
	out, _, _ := uidl("export", "--user", "bob")
	write(t, dir, "again.list", out)
	must("2 unique-ids for bob", "import", "--user", "bob", filepath.Join(dir, "again.list"))
}

// TestExportOfMergedFolders lists the unique-ids that a client is told.
func TestExportOfMergedFolders(t *testing.T) {
	dir, config := uidlFolder(t)
	for _, sub := range []string{"new", "cur"} {
		if err := os.MkdirAll(filepath.Join(dir, "mail", "bob", ".Junk", sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "mail", "bob", ".Junk", "cur"), "1.a:2,S", "Message-ID: <3@example.org>\n\nThree\n")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	config = write(t, dir, "config.toml", strings.Replace(string(text), "[[users]]", "mailboxes = [\"INBOX\", \"Junk\"]\n[[users]]", 1))
	out, stderr, code := pop3gw(t, "", "uidl", "export", "--user", "bob", "--config", config)
	if code != 0 {
		t.Fatal(stderr)
	}
	p := start(t, dir, "serve", "--config", config)
	c, _ := dial(t, p.out.find(t, `msg=listening address=(\S+) `)[1], nil)
	c.do("+OK", "USER bob")
	c.do("+OK 3 ", "PASS secret")
	c.do("+OK", "UIDL")
	lines := strings.Split(strings.TrimSpace(out), "\n")[1:]
	told := strings.Split(strings.TrimSpace(c.body()), "\n")
	if len(lines) != len(told) {
		t.Fatalf("%q, and UIDL says %q", lines, told)
	}
	for i := range told {
		uid, _, _ := strings.Cut(lines[i], "\t")
		if _, want, _ := strings.Cut(told[i], " "); uid != want {
			t.Errorf("%q, and UIDL says %q", lines[i], told[i])
		}
	}
}

func TestUIDLCommandsRefuse(t *testing.T) {
	dir, config := uidlFolder(t)
	wrong := write(t, dir, "wrong.list", "a\t<1>\nb b\t<2>\na\t<3>\n")
	without := write(t, dir, "without.toml", `
hostname = "pop.example.org"
[[listeners]]
address = "127.0.0.1:0"
[adapters.files]
type = "maildir"
path = "`+dir+`/mail/{user}"
[[users]]
name = "bob"
password = "{PLAIN}secret"
adapter = "files"
`)
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"import --user bob " + wrong, 1, wrong + `:2: unique-id "b b" has a character that is not allowed`},
		{"import --user bob " + wrong, 1, wrong + `:3: unique-id "a" is on line 1 already`},
		{"import --user bob " + dir + "/none", 1, "no such file"},
		{"import --user bob", 2, "0 files are named"},
		{"import " + config, 1, "found"},
		{"export", 2, "--user is missing"},
		{"export --user nobody", 1, "nobody"},
		{"allow", 2, "name one maildrop with --user, or all of them with --all"},
		{"allow --all --user bob", 2, "name one maildrop"},
		{"allow --user bob", 1, `nothing is known of a maildrop of "bob"`},
		{"export --user bob --config " + without, 2, "state.url: missing; unique-ids are kept in the folder that it names"},
		{"frob", 2, `unknown command "frob"`},
	} {
		args := append([]string{"uidl"}, strings.Fields(tt.args)...)
		if !strings.Contains(tt.args, "--config") && tt.args != "frob" {
			args = append(args, "--config", config)
		}
		_, stderr, code := pop3gw(t, "", args...)
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit code %d, %q; want %d, %q", tt.args, code, stderr, tt.code, tt.want)
		}
	}
}

func TestFormsThatNeedAState(t *testing.T) {
	dir := t.TempDir()
	for _, line := range []string{"reuse_x_uidl = true", `uidl = "gmail"`} {
		path := write(t, dir, "config.toml", `
[[listeners]]
address = "127.0.0.1:0"
[adapters.a]
type = "imap"
address = "127.0.0.1"
tls = "none"
`+line+`
[[routes]]
users = "*"
adapter = "a"
`)
		_, err := loadConfig(path)
		key, _, _ := strings.Cut(line, " ")
		if err == nil || !strings.Contains(err.Error(), "config.toml:8: adapters.a."+key) || !strings.Contains(err.Error(), "set state.url as well") {
			t.Errorf("%s: %v", line, err)
		}
	}
}
