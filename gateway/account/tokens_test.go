package account

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pop3gw/gateway"
)

// namedTokens are tokens that say whose they are.
type namedTokens struct{ name, upstream string }

func (namedTokens) Authorization(context.Context) (string, error) { return "", nil }
func (namedTokens) Token(context.Context, string) (string, error) { return "", nil }

func makeTokens(name, upstream string) gateway.Tokens { return namedTokens{name, upstream} }

// Where the gateway logs in with a token, it checks the client's password itself
// and passes nothing of it on.
func TestTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("ben@example.org:{PLAIN}tanstaaf\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := New(Config{
		LowerCase: true,
		Users: []User{
			{Name: "Ann", Password: "{PLAIN}tanstaaf", Target: imap, UpstreamUser: "shared@example.org", MakeTokens: makeTokens},
			{Name: "bob", Password: "{PLAIN}tanstaaf", Target: imap, MakeTokens: makeTokens},
		},
		Routes: []Route{{Pattern: "*@example.org", Target: imap, PasswdFile: file, MakeTokens: makeTokens}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]namedTokens{
		"ann":             {"ann", "shared@example.org"},
		"ann+Sent":        {"ann", "shared@example.org"},
		"bob":             {"bob", "bob"},
		"ben@example.org": {"ben@example.org", "ben@example.org"},
	} {
		a, err := d.Login(t.Context(), gateway.Credentials{User: user, Password: "tanstaaf"})
		if err != nil {
			t.Errorf("%s: %v", user, err)
			continue
		}
		if a.Tokens != gateway.Tokens(want) || a.Upstream != (gateway.Credentials{User: want.upstream}) || a.Forwarded {
			t.Errorf("%s: %+v, forwarded %v", user, a.Tokens, a.Forwarded)
		}
		for _, wrong := range []gateway.Credentials{
			{User: user, Password: "wrong"}, {User: user}, {User: user, Token: "a token"},
			{User: "bob", Identity: "ann", Password: "tanstaaf"}, {User: "ben@example.org", Identity: "eve@example.org", Password: "tanstaaf"},
		} {
			if a, err := d.Login(t.Context(), wrong); gateway.CodeOf(err) != gateway.CodeAuth || a.Tokens != nil {
				t.Errorf("%+v: %v, %v", wrong, a.Tokens, err)
			}
		}
		if a, err := d.Find(user); err != nil || a.Tokens != gateway.Tokens(want) {
			t.Errorf("Find %s: %v, %v", user, a.Tokens, err)
		}
	}
}

func TestTokensConfig(t *testing.T) {
	for _, tt := range []struct {
		user User
		key  string
		want string
	}{
		{User{Target: imap}, "password", "anybody could log in with the token"},
		{User{Target: maildir, Password: "{PLAIN}x"}, "oauth", "does not log in anywhere"},
		{User{Target: master, Password: "{PLAIN}x"}, "oauth", "master_user: remove one"},
		{User{Target: imap, Password: "{PLAIN}x", UpstreamPassword: "y"}, "oauth", "remove one"},
	} {
		tt.user.Name, tt.user.MakeTokens = "ann", makeTokens
		_, err := New(Config{Users: []User{tt.user}})
		if err == nil || !strings.Contains(err.Error(), tt.key+": ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.user, err)
		}
	}
	for _, tt := range []struct {
		route Route
		want  string
	}{
		{Route{Target: imap}, "passwd_file: "},
		{Route{Target: maildir, PasswdFile: "x"}, "oauth: "},
		{Route{Target: master, PasswdFile: "x"}, "oauth: "},
	} {
		tt.route.Pattern, tt.route.MakeTokens = "*", makeTokens
		_, err := New(Config{Routes: []Route{tt.route}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.route, err)
		}
	}
}
