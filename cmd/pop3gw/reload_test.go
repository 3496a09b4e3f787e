package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pop3gw/gateway"
	"pop3gw/gateway/account"
)

// rewrite changes the configuration of a folder.
func rewrite(t *testing.T, dir string, oldNew ...string) {
	t.Helper()
	text, err := os.ReadFile(dir + "/config.toml")
	must(t, err)
	changed := string(text)
	for i := 0; i < len(oldNew); i += 2 {
		changed = change(t, changed, oldNew[i], oldNew[i+1])
	}
	write(t, dir, "config.toml", changed)
}

func TestReload(t *testing.T) {
	p, dir, address := startServe(t)
	logIn := func(want, name, password string) *client {
		t.Helper()
		c, _ := dial(t, address, nil)
		c.do("+OK", "USER "+name)
		c.do(want, "PASS "+password)
		return c
	}
	held := logIn("+OK 5 ", "bob", "secret")
	held.do("+OK", "DELE 1")
	upstream := logIn("+OK 5 ", "imap", "demo")
	before := logIn("-ERR [AUTH]", "eve", "new")

	mkdir(t, filepath.Join(dir, "moved"))
	must(t, fillMaildir(filepath.Join(dir, "moved", "bob"), splitMessages(demoMessages)[:2]))
	must(t, fillMaildir(filepath.Join(dir, "moved", "eve"), splitMessages(demoMessages)[:1]))
	rewrite(t, dir,
		`path = "`+dir+`/{user}"`, `path = "`+dir+`/moved/{user}"`,
		"name = \"bob\"\npassword = \"{PLAIN}secret\"", "name = \"bob\"\npassword = \"{PLAIN}changed\"",
		"[tls]", "mechanisms = [\"USER\"]\n[[listeners]]\naddress = \"127.0.0.2:0\"\n[tls]",
		"", "[[users]]\nname = \"eve\"\npassword = \"{PLAIN}new\"\nadapter = \"files\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n[limits]\nmax_errors = 2\nlogin_failure_delay = \"400ms\"\n")
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.out.find(t, `level=WARN msg="some changes of the configuration need a restart" keys="listeners.address, limits.login_failure_delay, log.format"\n`)
	p.out.find(t, `level=INFO msg="configuration reloaded" file=\S+/config.toml\n`)

	logIn("-ERR [AUTH]", "bob", "secret").do("+OK", "QUIT")
	moved := logIn("+OK 2 ", "bob", "changed")
	moved.do("+OK", "DELE 1")
	moved.do("+OK", "QUIT")
	before.do("+OK", "USER eve") // a connection that was there before
	before.do("+OK 1 ", "PASS new")
	upstream.do("+OK", "RETR 2")
	upstream.body()
	held.do("+OK", "RETR 2")
	held.body()
	if n := countFiles(t, dir+"/bob/new"); n != 5 {
		t.Errorf("%d messages in the Maildir of the session that goes on, want 5", n)
	}
	held.do("+OK", "QUIT")
	if n, m := countFiles(t, dir+"/bob/new"), countFiles(t, dir+"/moved/bob/new"); n != 4 || m != 1 {
		t.Errorf("%d and %d messages are left, want 4 and 1", n, m)
	}
	limited, _ := dial(t, address, nil)
	limited.do("-ERR this way to log in is not offered here", "AUTH PLAIN")
	limited.do("-ERR unknown command; too many errors, closing", "NONSENSE")
	silent, _ := dial(t, address, nil)
	silent.nc.Close()
	p.out.find(t, "level=DEBUG")

	// What is wrong is refused whole, with all reasons.
	for _, tt := range []struct{ old, new, reason string }{
		{`level = "debug"`, `level = "loud"`, `config.toml:\d+: log.level: found \\"loud\\"; allowed are`},
		{`{PLAIN}new`, `{NONE}new`, `config.toml:\d+: users.password: user \\"eve\\": `},
		{`certificate = "tls.crt"`, `certificate = "none.crt"`, `config.toml:\d+: tls.certificate: open \S+/none.crt: no such file or directory`},
		{`passwd_file = "users"`, `passwd_file = "nobody"`, `config.toml:\d+: routes.passwd_file: reading passwd_file: stat \S+/nobody: no such file`},
		{`[limits]`, `[limits`, `config.toml:\d+: `},
	} {
		rewrite(t, dir, tt.old, tt.new, `{PLAIN}changed`, `{PLAIN}again`)
		must(t, p.Process.Signal(syscall.SIGHUP))
		p.out.find(t, `level=ERROR msg="the configuration was not reloaded; the one before stays in force" error="\S*`+tt.reason)
		logIn("+OK 1 ", "bob", "changed").do("+OK", "QUIT")
		logIn("-ERR [AUTH]", "bob", "again").do("+OK", "QUIT")
		rewrite(t, dir, tt.new, tt.old, `{PLAIN}again`, `{PLAIN}changed`)
	}
	must(t, os.Rename(dir+"/config.toml", dir+"/away"))
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.out.find(t, `the one before stays in force" error="open \S+/config.toml: no such file`)
	must(t, os.Rename(dir+"/away", dir+"/config.toml"))
	logIn("+OK 1 ", "bob", "changed")

	// A listener may even turn to TLS from the first octet on.
	rewrite(t, dir, "mechanisms = [\"USER\"]\n", "tls = \"implicit\"\n")
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.out.find(t, `(?s)(configuration reloaded.*){2}`)
	secure, _ := dial(t, address, &tls.Config{InsecureSkipVerify: true})
	secure.do("+OK", "USER bob")
	secure.do("-ERR [IN-USE]", "PASS changed") // by the last one above
	rewrite(t, dir, "tls = \"implicit\"\n", "")
	must(t, p.Process.Signal(syscall.SIGHUP))
	p.out.find(t, `(?s)(configuration reloaded.*){3}`)

	upstream.do("+OK", "DELE 1")
	upstream.do("+OK", "QUIT")
	logIn("+OK 4 ", "imap", "demo")
	if code := p.end(t, syscall.SIGTERM); code != 0 || strings.Contains(p.out.String(), "did not end as it should") {
		t.Errorf("exit code %d:\n%s", code, p.out)
	}
}

// An adapter of which nothing has changed is the same one after a reload, and
// what its secrets and files say counts as well as its table.
func TestReloadKeepsAdapters(t *testing.T) {
	configFolder(t)
	rewrite(t, ".", `connect_timeout = "30s"`, "ca_file = \"other/tls.crt\"\n[adapters.master]\ntype = \"imap\"\naddress = \"127.0.0.1:1\"\nmaster_user = \"m\"\nmaster_password_file = \"secret\"")
	c, err := loadConfig("config.toml")
	must(t, err)
	s, err := c.build(stores{}, slog.New(slog.DiscardHandler))
	must(t, err)
	defer s.close()
	expect := func(what string, changed ...string) {
		t.Helper()
		before := s.accounts.current
		must(t, s.tryReload())
		for name, built := range before.adapters {
			isNew := s.accounts.current.adapters[name] != built
			if want := strings.Contains(strings.Join(changed, " "), name); isNew != want {
				t.Errorf("%s: the adapter %s is new: %v, want %v", what, name, isNew, want)
			}
		}
	}
	expect("nothing changed")
	write(t, ".", "secret", "another\n")
	expect("another secret", "master")
	overwrite(t, "other/tls.crt", "tls.crt")
	expect("other authorities", "office")
	rewrite(t, ".", "/nowhere/{user}", "/elsewhere/{user}")
	expect("another path", "files")
	rewrite(t, ".", "[[users]]", "[[users]]\nname = \"three\"\npassword = \"{PLAIN}3\"\nadapter = \"files\"\n[[users]]")
	expect("another user")
}

// A password that was found right is not computed again after a reload, unless its
// hash is another one. Computing it takes a good part of a second of a processor.
func TestReloadKeepsVerifiedPasswords(t *testing.T) {
	configFolder(t)
	hash := func(password string) string {
		out, _, _ := pop3gw(t, password+"\n", "passwd")
		return strings.TrimSpace(out)
	}
	first := hash("secret")
	rewrite(t, ".", "", "[[users]]\nname = \"dave\"\npassword = \""+first+"\"\nadapter = \"files\"\n")
	c, err := loadConfig("config.toml")
	must(t, err)
	s, err := c.build(stores{}, slog.New(slog.DiscardHandler))
	must(t, err)
	defer s.close()
	logIn := func(password string, hits, misses uint64) {
		t.Helper()
		found, err := s.accounts.Login(t.Context(), credentials("dave", password))
		must(t, err)
		found.Held.Close()
		if h, m := s.accounts.passwordCache(); h != hits || m != misses {
			t.Errorf("%d hits and %d misses, want %d and %d", h, m, hits, misses)
		}
	}
	logIn("secret", 0, 1)
	logIn("secret", 1, 1)
	must(t, s.tryReload())
	logIn("secret", 2, 1)
	rewrite(t, ".", first, hash("changed"))
	must(t, s.tryReload())
	logIn("changed", 2, 2)
	if _, err := s.accounts.Login(t.Context(), credentials("dave", "secret")); err == nil {
		t.Error("the password from before lets in")
	}
}

// Limits are replaced for every listener, also for one whose address waits for a
// restart, and the admin listener knows them.
func TestReloadOfLimits(t *testing.T) {
	configFolder(t)
	c, err := loadConfig("config.toml")
	must(t, err)
	s, err := c.build(stores{}, slog.New(slog.DiscardHandler))
	must(t, err)
	defer s.close()
	rewrite(t, ".", "address = \"127.0.0.1:0\"\ntls = \"stls\"", "address = \"127.0.0.1:1\"\ntls = \"stls\"", "[limits]", "[limits]\nmax_connections = 77")
	must(t, s.tryReload())
	if n := s.limits().MaxConnections; n != 77 {
		t.Errorf("the admin listener shows %d sessions allowed", n)
	}
	for _, l := range s.listeners {
		if _, limits := l.options.Current(); limits.MaxConnections != 77 {
			t.Errorf("%s %s allows %d sessions", l.address, l.tls, limits.MaxConnections)
		}
	}
}

// closing is an adapter that tells when it is closed.
type closing struct{ closed chan struct{} }

func (c closing) Open(context.Context, gateway.Account) (gateway.Maildrop, error) {
	return nil, errors.New("not to be opened")
}
func (c closing) Close() error { close(c.closed); return nil }

func (c closing) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

func TestReplacedAdaptersEndWithTheirSessions(t *testing.T) {
	of := func(adapters ...*builtAdapter) *generation {
		config := account.Config{}
		g := &generation{adapters: make(map[string]*builtAdapter)}
		for i, built := range adapters {
			name := string(rune('a' + i))
			g.adapters[name] = built
			config.Users = append(config.Users, account.User{Name: name, Password: "{PLAIN}x", Target: account.Target{Adapter: built.Adapter}})
		}
		var err error
		g.directory, err = account.New(config)
		must(t, err)
		return g
	}
	made := func() (*builtAdapter, closing) {
		c := closing{make(chan struct{})}
		return &builtAdapter{Adapter: c}, c
	}
	kept, keptEnd := made()
	old, oldEnd := made()
	fresh, freshEnd := made()
	a := &accounts{log: slog.New(slog.DiscardHandler)}
	a.use(of(kept, old))
	logIn := func(name string) gateway.Account {
		t.Helper()
		found, err := a.Login(t.Context(), credentials(name, "x"))
		must(t, err)
		return found
	}
	session, other := logIn("b"), logIn("a")
	if _, err := a.Login(t.Context(), credentials("b", "wrong")); err == nil {
		t.Fatal("a wrong password is right")
	}
	a.use(of(kept, fresh))
	if found := logIn("b"); found.Adapter != gateway.Adapter(freshEnd) {
		t.Error("the next login does not get the new adapter")
	} else {
		found.Held.Close()
	}
	other.Held.Close()
	if oldEnd.isClosed() {
		t.Error("an adapter was closed before its session")
	}
	session.Held.Close()
	<-oldEnd.closed
	unused, unusedEnd := made()
	must(t, a.discard(of(kept, unused)))
	if !unusedEnd.isClosed() || keptEnd.isClosed() || freshEnd.isClosed() {
		t.Error("what was never used was not closed, or another was")
	}
	a.close()
	if !keptEnd.isClosed() || !freshEnd.isClosed() {
		t.Error("an adapter was not closed at the end")
	}
}
