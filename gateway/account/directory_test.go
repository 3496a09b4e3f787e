package account

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"pop3gw/gateway"
)

// noAdapter stands for any adapter: a Directory only hands it on.
type noAdapter struct{ name string }

func (noAdapter) Open(context.Context, gateway.Account) (gateway.Maildrop, error) {
	return nil, errors.New("nothing to open")
}

var (
	maildir = Target{Adapter: noAdapter{"maildir"}}
	imap    = Target{Adapter: noAdapter{"imap"}, ChecksPasswords: true, Folders: true}
	master  = Target{Adapter: noAdapter{"master"}, ChecksPasswords: true, MasterUser: true}
)

// office has every way to check a password and to log in upstream.
func office(t *testing.T) *Directory {
	t.Helper()
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	d, err := New(Config{
		DefaultDomain: "example.org",
		LowerCase:     true,
		Users: []User{
			{Name: "scanner", Password: "{PLAIN}tanstaaf", Target: imap, UpstreamUser: "scan@example.org", UpstreamPassword: "upstream"},
			{Name: "box", Password: sshaHash, Target: maildir},
			{Name: "as", Password: sshaHash, Target: master, UpstreamUser: "boss@example.org"},
			{Name: "self", Password: sshaHash, Target: master},
			{Name: "alias", Target: imap, UpstreamUser: "real@example.org"},
			{Name: "c+d", Password: sshaHash, Target: maildir},
		},
		Routes: []Route{
			{Pattern: "*@files.example.org", Target: maildir, PasswdFile: file("files", "ann:x\nAnn@files.example.org:{PLAIN}tanstaaf\nold@files.example.org:!\n")},
			{Pattern: "*@master.example.org", Target: master, PasswdFile: file("master", "mia@master.example.org:"+sshaHash+"\n")},
			{Pattern: "*@both.example.org", Target: imap, PasswdFile: file("both", "ben@both.example.org:{PLAIN}tanstaaf\nbea@both.example.org:{PLAIN}other\n")},
			{Pattern: "one@example.org", Target: Target{Adapter: noAdapter{"one"}, ChecksPasswords: true}},
			{Pattern: "*+plus@example.org", Target: Target{Adapter: noAdapter{"plus"}, ChecksPasswords: true}},
			{Pattern: "*@example.org", Target: imap},
			{Pattern: "*@example.net", Target: Target{Adapter: noAdapter{"net"}, ChecksPasswords: true}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLogin(t *testing.T) {
	d := office(t)
	const s3cret = "s3cret pass"
	type creds = gateway.Credentials
	tests := []struct {
		about   string
		client  creds
		code    gateway.Code // "" for logged in
		account gateway.Account
	}{
		{"own hash, own upstream secret", creds{User: "Scanner", Password: "tanstaaf"}, "",
			gateway.Account{Name: "scanner@example.org", Adapter: imap.Adapter, Upstream: creds{User: "scan@example.org", Password: "upstream"}}},
		{"own hash, wrong password", creds{User: "scanner", Password: "tanstaa"}, gateway.CodeAuth, gateway.Account{}},
		{"own hash, no password", creds{User: "scanner"}, gateway.CodeAuth, gateway.Account{}},
		{"the upstream secret is not the user's", creds{User: "scanner", Password: "upstream"}, gateway.CodeAuth, gateway.Account{}},
		{"own hash, Maildir", creds{User: "box", Password: s3cret}, "",
			gateway.Account{Name: "box@example.org", Adapter: maildir.Adapter}},
		{"password with NUL", creds{User: "box", Password: s3cret + "\x00"}, gateway.CodeAuth, gateway.Account{}},
		{"master user for another name", creds{User: "as", Password: s3cret}, "",
			gateway.Account{Name: "as@example.org", Adapter: master.Adapter, Upstream: creds{User: "boss@example.org"}}},
		{"master user for the same name", creds{User: "self", Password: s3cret}, "",
			gateway.Account{Name: "self@example.org", Adapter: master.Adapter, Upstream: creds{User: "self@example.org"}}},
		{"the store checks a user", creds{User: "alias", Password: "any"}, "",
			gateway.Account{Name: "alias@example.org", Adapter: imap.Adapter, Forwarded: true, Upstream: creds{User: "real@example.org", Password: "any"}}},
		{"the store checks a user, no password", creds{User: "alias"}, gateway.CodeAuth, gateway.Account{}},
		{"the store checks a route", creds{User: "Zoe", Password: "any"}, "",
			gateway.Account{Name: "zoe@example.org", Adapter: imap.Adapter, Forwarded: true, Upstream: creds{User: "zoe@example.org", Password: "any"}}},
		{"the store checks a route, no password", creds{User: "zoe"}, gateway.CodeAuth, gateway.Account{}},
		{"no route", creds{User: "zoe@example.com", Password: "any"}, gateway.CodeAuth, gateway.Account{}},
		{"bad name", creds{User: "zoe\x00@example.org", Password: "any"}, gateway.CodeAuth, gateway.Account{}},
		{"no name", creds{Password: "any"}, gateway.CodeAuth, gateway.Account{}},

		{"passwd-file", creds{User: "ann@Files.example.org", Password: "tanstaaf"}, "",
			gateway.Account{Name: "ann@files.example.org", Adapter: maildir.Adapter}},
		{"passwd-file, wrong password", creds{User: "ann@files.example.org", Password: "x"}, gateway.CodeAuth, gateway.Account{}},
		{"passwd-file, wrong name", creds{User: "bob@files.example.org", Password: "tanstaaf"}, gateway.CodeAuth, gateway.Account{}},
		{"passwd-file, locked", creds{User: "old@files.example.org", Password: "x"}, gateway.CodeAuth, gateway.Account{}},
		{"passwd-file, master user", creds{User: "mia@master.example.org", Password: s3cret}, "",
			gateway.Account{Name: "mia@master.example.org", Adapter: master.Adapter, Upstream: creds{User: "mia@master.example.org"}}},
		{"passwd-file, then the store", creds{User: "ben@both.example.org", Password: "tanstaaf"}, "",
			gateway.Account{Name: "ben@both.example.org", Adapter: imap.Adapter, Forwarded: true, Upstream: creds{User: "ben@both.example.org", Password: "tanstaaf"}}},
		{"passwd-file, then the store, wrong password", creds{User: "ben@both.example.org", Password: "any"}, gateway.CodeAuth, gateway.Account{}},

		{"folder of a user", creds{User: "scanner+Sent/2024", Password: "tanstaaf"}, "",
			gateway.Account{Name: "scanner@example.org", Folder: "Sent/2024", Adapter: imap.Adapter, Upstream: creds{User: "scan@example.org", Password: "upstream"}}},
		{"folder before the domain", creds{User: "Zoe+Sent@example.org", Password: "any"}, "",
			gateway.Account{Name: "zoe@example.org", Folder: "Sent", Adapter: imap.Adapter, Forwarded: true, Upstream: creds{User: "zoe@example.org", Password: "any"}}},
		{"folder after the domain", creds{User: "zoe@example.org+Sent", Password: "any"}, "",
			gateway.Account{Name: "zoe@example.org", Folder: "Sent", Adapter: imap.Adapter, Forwarded: true, Upstream: creds{User: "zoe@example.org", Password: "any"}}},
		{"folder INBOX", creds{User: "zoe+inbox", Password: "any"}, "",
			gateway.Account{Name: "zoe@example.org", Adapter: imap.Adapter, Forwarded: true, Upstream: creds{User: "zoe@example.org", Password: "any"}}},
		{"a user's name with plus", creds{User: "c+d", Password: s3cret}, "",
			gateway.Account{Name: "c+d@example.org", Adapter: maildir.Adapter}},
		{"a user's name never reaches a route by a folder", creds{User: "box+Sent", Password: s3cret}, gateway.CodeAuth, gateway.Account{}},
		{"a route's name never reaches another by a folder", creds{User: "one+Sent", Password: "any"}, gateway.CodeAuth, gateway.Account{}},
		{"a route for names with plus", creds{User: "two+plus", Password: "any"}, "",
			gateway.Account{Name: "two+plus@example.org", Adapter: noAdapter{"plus"}, Forwarded: true, Upstream: creds{User: "two+plus@example.org", Password: "any"}}},
		{"no folders on this route", creds{User: "zoe+Sent@example.net", Password: "any"}, "",
			gateway.Account{Name: "zoe+sent@example.net", Adapter: noAdapter{"net"}, Forwarded: true, Upstream: creds{User: "zoe+sent@example.net", Password: "any"}}},
		{"a folder without a name", creds{User: "+Sent@example.net", Password: "any"}, "",
			gateway.Account{Name: "+sent@example.net", Adapter: noAdapter{"net"}, Forwarded: true, Upstream: creds{User: "+sent@example.net", Password: "any"}}},
		{"nothing before the @", creds{User: "@example.org", Password: "any"}, gateway.CodeAuth, gateway.Account{}},

		{"as oneself", creds{User: "Box", Identity: "box@example.org", Password: s3cret}, "",
			gateway.Account{Name: "box@example.org", Adapter: maildir.Adapter}},
		{"as oneself, in a folder", creds{User: "scanner", Identity: "scanner+Sent", Password: "tanstaaf"}, "",
			gateway.Account{Name: "scanner@example.org", Folder: "Sent", Adapter: imap.Adapter, Upstream: creds{User: "scan@example.org", Password: "upstream"}}},
		{"as oneself, by route", creds{User: "zoe", Identity: "ZOE", Password: "any"}, "",
			gateway.Account{Name: "zoe@example.org", Adapter: imap.Adapter, Forwarded: true, Upstream: creds{User: "zoe@example.org", Password: "any"}}},
		{"as another, where the store knows", creds{User: "admin", Identity: "Zoe+Sent", Password: "any"}, "",
			gateway.Account{Name: "zoe@example.org", Folder: "Sent", Adapter: imap.Adapter, Forwarded: true, Upstream: creds{Identity: "zoe@example.org", User: "admin@example.org", Password: "any"}}},
		{"as another, from no route", creds{User: "admin@nowhere", Identity: "zoe", Password: "any"}, "",
			gateway.Account{Name: "zoe@example.org", Adapter: imap.Adapter, Forwarded: true, Upstream: creds{Identity: "zoe@example.org", User: "admin@nowhere", Password: "any"}}},
		{"as another, no password", creds{User: "admin", Identity: "zoe"}, gateway.CodeAuth, gateway.Account{}},
		{"as another, own hash", creds{User: "box", Identity: "scanner", Password: s3cret}, gateway.CodeAuth, gateway.Account{}},
		{"as another, from own hash to route", creds{User: "box", Identity: "zoe", Password: s3cret}, gateway.CodeAuth, gateway.Account{}},
		{"as another, from route to own hash", creds{User: "zoe", Identity: "box", Password: s3cret}, gateway.CodeAuth, gateway.Account{}},
		{"as another, from route to a user of the store", creds{User: "zoe", Identity: "alias", Password: "any"}, gateway.CodeAuth, gateway.Account{}},
		{"as another, passwd-file", creds{User: "ann@files.example.org", Identity: "old@files.example.org", Password: "tanstaaf"}, gateway.CodeAuth, gateway.Account{}},
		{"as another, verified by a file", creds{User: "ben@both.example.org", Identity: "bea@both.example.org", Password: "tanstaaf"}, gateway.CodeAuth, gateway.Account{}},
		{"as another, with the other's password", creds{User: "ben@both.example.org", Identity: "bea@both.example.org", Password: "other"}, gateway.CodeAuth, gateway.Account{}},
		{"as another, of another store", creds{User: "zoe@example.net", Identity: "zoe@example.org", Password: "any"}, gateway.CodeAuth, gateway.Account{}},
		{"as another, absent from the file it belongs to", creds{User: "bob@files.example.org", Identity: "zoe@example.org", Password: "any"}, gateway.CodeAuth, gateway.Account{}},
		{"as another, bad name", creds{User: "a\x00", Identity: "zoe", Password: "any"}, gateway.CodeAuth, gateway.Account{}},
		{"as nobody", creds{User: "zoe", Identity: "a\x00", Password: "any"}, gateway.CodeAuth, gateway.Account{}},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			got, err := d.Login(t.Context(), tt.client)
			if gateway.CodeOf(err) != tt.code || (err == nil) != (tt.code == "") {
				t.Fatalf("%v, want code %q", err, tt.code)
			}
			if got != tt.account {
				t.Errorf("account\n%+v, want\n%+v", got, tt.account)
			}
			if err == nil {
				return
			}
			e, ok := errors.AsType[*gateway.Error](err)
			if !ok || e.Text != gateway.Refused(nil).(*gateway.Error).Text || e.Err == nil {
				t.Errorf("%v: not the text of every refusal with a cause for the log", err)
			}
			if p := tt.client.Password; len(p) > 3 && strings.Contains(err.Error(), p) {
				t.Errorf("%v gives the password away", err)
			}
			if strings.ContainsAny(err.Error(), "\x00\r\n") {
				t.Errorf("%q is not quoted", err)
			}
		})
	}
}

func TestLoginByAPOP(t *testing.T) {
	d := office(t)
	const timestamp = "<1896.697170952@dbc.mtview.ca.us>"
	digest := md5hex(timestamp + "tanstaaf")
	tests := []struct {
		user string
		code gateway.Code
	}{
		{"scanner", ""},
		{"scanner+Sent", ""},
		{"ann@files.example.org", ""},
		{"old@files.example.org", gateway.CodeAuth},
		{"box", gateway.CodeAuth},                  // a hash alone is known
		{"ben@both.example.org", gateway.CodeAuth}, // the store wants the password
		{"alias", gateway.CodeAuth},
		{"zoe", gateway.CodeAuth},
		{"nobody@example.com", gateway.CodeAuth},
	}
	for _, tt := range tests {
		a, err := d.Login(t.Context(), gateway.Credentials{User: tt.user, Timestamp: timestamp, Digest: digest})
		if gateway.CodeOf(err) != tt.code || (err == nil) != (tt.code == "") {
			t.Errorf("%s: %v, want code %q", tt.user, err, tt.code)
		}
		if (a.Adapter != nil) != (tt.code == "") {
			t.Errorf("%s: account %+v", tt.user, a)
		}
	}
	for _, c := range []gateway.Credentials{
		{User: "scanner", Timestamp: timestamp, Digest: md5hex(timestamp + "x")},
		{User: "scanner", Timestamp: timestamp},
		{User: "scanner", Digest: md5hex("tanstaaf")},
		{User: "scanner", Timestamp: timestamp, Password: "tanstaaf"}, // not both
		{User: "box", Timestamp: timestamp, Digest: md5hex(timestamp)},
	} {
		if _, err := d.Login(t.Context(), c); gateway.CodeOf(err) != gateway.CodeAuth {
			t.Errorf("%+v: %v, want [AUTH]", c, err)
		}
	}
}

func TestHasPlainSecret(t *testing.T) {
	if !office(t).HasPlainSecret() {
		t.Error("none among users")
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("bob:{PLAIN}x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		target Target
		want   bool
	}{{maildir, true}, {master, true}, {imap, false}} {
		d, err := New(Config{
			Users:  []User{{Name: "box", Password: sshaHash, Target: maildir}},
			Routes: []Route{{Pattern: "*", Target: tt.target, PasswdFile: file}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := d.HasPlainSecret(); got != tt.want {
			t.Errorf("a plain secret in the passwd-file of %+v: %v", tt.target, got)
		}
	}
}

// A stranger can tell an existing name by time alone if the password of an
// absent one is not checked.
func TestAbsentNamesCostACheck(t *testing.T) {
	d, err := New(Config{
		Users:  []User{{Name: "box", Password: sshaHash, Target: maildir}, {Name: "fwd", Target: imap}},
		Routes: []Route{{Pattern: "*@example.org", Target: imap}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var checks atomic.Int32
	count := func(p []byte) bool { checks.Add(1); return string(p) == "right" }
	for _, s := range []*secret{d.users["box"].secret, d.kinds[0]} {
		s.match, s.costly = count, true
	}
	for _, c := range []gateway.Credentials{
		{User: "box", Password: "wrong"},
		{User: "nobody", Password: "wrong"},
		{User: "nobody", Password: "right"},
		{User: "nobody", Password: "right"}, // not remembered either
		{User: "bad\x00name", Password: "wrong"},
		{User: "box", Identity: "fwd", Password: "wrong"},
		{User: "box", Identity: "nobody", Password: "right"},
	} {
		checks.Store(0)
		if _, err := d.Login(t.Context(), c); gateway.CodeOf(err) != gateway.CodeAuth {
			t.Errorf("%q: %v", c.User, err)
		}
		if checks.Load() != 1 {
			t.Errorf("%q as %q: %d checks, want 1", c.User, c.Identity, checks.Load())
		}
	}
}

func TestLoginIsRememberedAcrossFolders(t *testing.T) {
	d := office(t)
	var checks atomic.Int32
	s := d.users["scanner@example.org"].secret
	s.match, s.costly = func(p []byte) bool { checks.Add(1); return string(p) == "tanstaaf" }, true
	for _, name := range []string{"scanner", "Scanner+Sent", "scanner@example.org"} {
		if _, code := login(t, d, name, "tanstaaf"); code != "" {
			t.Errorf("%s: [%s]", name, code)
		}
	}
	if checks.Load() != 1 {
		t.Errorf("%d checks, want 1", checks.Load())
	}
}

func TestFind(t *testing.T) {
	d := office(t)
	a, err := d.Find("scanner+Sent")
	want := gateway.Account{Name: "scanner@example.org", Folder: "Sent", Adapter: imap.Adapter,
		Upstream: gateway.Credentials{User: "scan@example.org", Password: "upstream"}}
	if err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = d.Find("zoe")
	want = gateway.Account{Name: "zoe@example.org", Adapter: imap.Adapter, Forwarded: true, Upstream: gateway.Credentials{User: "zoe@example.org"}}
	if err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	for _, name := range []string{"zoe@example.com", "bob@files.example.org", ""} {
		if a, err := d.Find(name); err == nil || a != (gateway.Account{}) {
			t.Errorf("%q: %+v, %v", name, a, err)
		}
	}
}
