package account

import (
	"errors"
	"testing"
	"time"
)

func TestNewRefuses(t *testing.T) {
	good := []Route{{Pattern: "*", Target: imap}}
	user := func(u User) Config { return Config{Users: []User{{Name: "ok", Target: imap}, u}} }
	route := func(r Route) Config {
		return Config{Routes: []Route{{Pattern: "*@ok.example.org", Target: imap}, r}}
	}
	tests := []struct {
		about  string
		config Config
		table  string
		index  int
		key    string
	}{
		{"nothing", Config{}, "routes", -1, "users"},
		{"domain with @", Config{Routes: good, DefaultDomain: "@example.org"}, "login", -1, "default_domain"},
		{"domain with control character", Config{Routes: good, DefaultDomain: "a\x00"}, "login", -1, "default_domain"},

		{"no name", user(User{Target: imap}), "users", 1, "name"},
		{"name with line end", user(User{Name: "a\n", Target: imap}), "users", 1, "name"},
		{"name twice", user(User{Name: "ok", Target: imap}), "users", 1, "name"},
		{"no adapter", user(User{Name: "bob", Password: sshaHash}), "users", 1, "adapter"},
		{"bare word", user(User{Name: "bob", Password: "tanstaaf", Target: maildir}), "users", 1, "password"},
		{"absurd hash", user(User{Name: "bob", Password: "$2b$31$abcdefghijklmnopqrstuu1qdcFaS0PtqFUPzaCxLQ8/0lspH0ZEW", Target: maildir}), "users", 1, "password"},
		{"nobody checks, Maildir", user(User{Name: "bob", Target: maildir}), "users", 1, "password"},
		{"nobody checks, master user", user(User{Name: "bob", Target: master}), "users", 1, "password"},
		{"nobody checks, upstream password", user(User{Name: "bob", Target: imap, UpstreamPassword: "x"}), "users", 1, "password"},
		{"no way upstream", user(User{Name: "bob", Password: sshaHash, Target: imap}), "users", 1, "upstream_password_file"},
		{"two ways upstream", user(User{Name: "bob", Password: sshaHash, Target: master, UpstreamPassword: "x"}), "users", 1, "upstream_password_file"},
		{"upstream of a Maildir", user(User{Name: "bob", Password: sshaHash, Target: maildir, UpstreamPassword: "x"}), "users", 1, "upstream_password_file"},
		{"upstream name of a Maildir", user(User{Name: "bob", Password: sshaHash, Target: maildir, UpstreamUser: "x"}), "users", 1, "upstream_user"},

		{"no pattern", route(Route{Target: imap}), "routes", 1, "users"},
		{"no adapter", route(Route{Pattern: "*"}), "routes", 1, "adapter"},
		{"nobody checks, Maildir", route(Route{Pattern: "*", Target: maildir}), "routes", 1, "passwd_file"},
		{"nobody checks, master user", route(Route{Pattern: "*", Target: master}), "routes", 1, "passwd_file"},
		{"same pattern", route(Route{Pattern: "*@OK.example.org", Target: imap}), "routes", 1, "users"},
		{"after the one for all", Config{Routes: []Route{good[0], {Pattern: "*@example.org", Target: imap}}}, "routes", 1, "users"},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			d, err := New(tt.config)
			e, ok := errors.AsType[*ConfigError](err)
			if !ok || d != nil {
				t.Fatalf("New: %v, %v", d, err)
			}
			if e.Table != tt.table || e.Index != tt.index || e.Key != tt.key || e.Err == nil {
				t.Errorf("%v: at %s %d %s, want %s %d %s", e, e.Table, e.Index, e.Key, tt.table, tt.index, tt.key)
			}
		})
	}
}

func TestNewNamesEveryMistake(t *testing.T) {
	_, err := New(Config{
		Users:  []User{{Name: "bob"}, {Name: "", Target: imap}},
		Routes: []Route{{Pattern: "*", Target: maildir}},
	})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 3 {
		t.Fatalf("New: %v", err)
	}
	const want = `users, entry 1, adapter: user "bob": no adapter is named`
	if got := joined.Unwrap()[0].Error(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestNewFoldsNamesBeforeComparing(t *testing.T) {
	c := Config{Users: []User{{Name: "Bob", Target: imap}, {Name: "bob@example.org", Target: imap}}}
	if _, err := New(c); err != nil {
		t.Errorf("two names: %v", err)
	}
	c.LowerCase, c.DefaultDomain = true, "example.org"
	if _, err := New(c); err == nil {
		t.Error("one name twice is taken")
	}
}

func TestNewDefaults(t *testing.T) {
	d, err := New(Config{Routes: []Route{{Pattern: "*", Target: imap}}})
	if err != nil {
		t.Fatal(err)
	}
	if d.verifier.queue.max < 1 || d.verifier.memory.life != 5*time.Minute {
		t.Errorf("%d slots, %v", d.verifier.queue.max, d.verifier.memory.life)
	}
	d, err = New(Config{Routes: []Route{{Pattern: "*", Target: imap}}, MaxHashing: 7, RememberFor: -1})
	if err != nil || d.verifier.queue.max != 7 || d.verifier.memory.life > 0 {
		t.Errorf("%d slots, %v, %v", d.verifier.queue.max, d.verifier.memory.life, err)
	}
}
