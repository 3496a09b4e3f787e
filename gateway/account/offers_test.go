package account

import (
	"os"
	"path/filepath"
	"testing"

	"pop3gw/gateway"
)

func TestOffers(t *testing.T) {
	type offer struct{ some, all bool }
	none, some, all := offer{}, offer{true, false}, offer{true, true}
	plain := User{Name: "plain", Password: "{PLAIN}x", Target: maildir}
	hash := User{Name: "hash", Password: sshaHash, Target: maildir}
	forward := User{Name: "forward", Target: imap}
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "users")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		about        string
		users        []User
		routes       []Route
		apop, tokens offer
	}{
		{"a plain secret", []User{plain}, nil, all, none},
		{"a plain secret and a hash", []User{plain, hash}, nil, some, none},
		{"the store checks", []User{forward}, nil, none, all},
		{"both", []User{forward, plain}, nil, some, some},
		{"a route to the store", []User{hash}, []Route{{Pattern: "*", Target: imap}}, none, some},
		{"a passwd-file of Maildirs", nil, []Route{{Pattern: "*", Target: maildir, PasswdFile: file("a:{PLAIN}x\nb:{PLAIN}y\n")}}, all, none},
		{"a passwd-file with hashes", nil, []Route{{Pattern: "*", Target: maildir, PasswdFile: file("a:{PLAIN}x\nb:" + sshaHash + "\n")}}, some, none},
		{"a passwd-file before the store", nil, []Route{{Pattern: "*", Target: imap, PasswdFile: file("a:{PLAIN}x\n")}}, none, none},
		{"a passwd-file that is missing", []User{plain}, []Route{{Pattern: "*", Target: maildir, PasswdFile: "/nowhere/users"}}, all, none},
	} {
		d, err := New(Config{Users: tt.users, Routes: tt.routes})
		if err != nil {
			t.Fatal(err)
		}
		for mechanism, want := range map[string]offer{"APOP": tt.apop, "OAUTHBEARER": tt.tokens, "XOAUTH2": tt.tokens, "PLAIN": all, "USER": all} {
			if some, allOfThem := d.Offers(mechanism); (offer{some, allOfThem}) != want {
				t.Errorf("%s: %s for some %v, for all %v; want %v", tt.about, mechanism, some, allOfThem, want)
			}
		}
	}
}

// A token goes to the store that can tell what it is worth, and nowhere else.
func TestLoginWithToken(t *testing.T) {
	d := office(t)
	const token = "ya29.token"
	for _, tt := range []struct{ user, upstream string }{ // upstream "": refused
		{"alias", "real@example.org"},
		{"bob@example.net", "bob@example.net"},
		{"scanner", ""},
		{"box", ""},
		{"self", ""},
		{"ben@both.example.org", ""},
		{"mia@master.example.org", ""},
		{"nobody@files.example.org", ""},
		{"nobody@nowhere.example", ""},
	} {
		a, err := d.Login(t.Context(), gateway.Credentials{User: tt.user, Token: token})
		if tt.upstream == "" {
			if gateway.CodeOf(err) != gateway.CodeAuth || a != (gateway.Account{}) {
				t.Errorf("%s: %v, %v; want [AUTH]", tt.user, a.Name, err)
			}
			continue
		}
		if want := (gateway.Credentials{User: tt.upstream, Token: token}); err != nil || a.Upstream != want || !a.Forwarded {
			t.Errorf("%s: upstream as %q, forwarded %v, %v", tt.user, a.Upstream.User, a.Forwarded, err)
		}
	}
}
