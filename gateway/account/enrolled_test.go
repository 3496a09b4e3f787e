package account

import (
	"context"
	"errors"
	"testing"

	"pop3gw/gateway"
)

type fakeTokens string

func (fakeTokens) Authorization(context.Context) (string, error)   { return "", nil }
func (t fakeTokens) Token(context.Context, string) (string, error) { return string(t), nil }

func TestEnrolled(t *testing.T) {
	jane := User{Name: "jane@example.org", Password: scramOf(t, "hxkwp-7nmr3"), Target: imap, UpstreamUser: "Jane@example.org", Tokens: fakeTokens("t")}
	janeFolders := jane
	janeFolders.Name, janeFolders.Target.Folders = "folders@example.org", true
	d, err := New(Config{
		Users:  []User{{Name: "fixed@example.org", Password: "{PLAIN}x", Target: maildir}},
		Routes: []Route{{Pattern: "*@example.org", Target: Target{Adapter: noAdapter{"route"}, ChecksPasswords: true}}},
		Enrolled: func(name string) (User, bool, error) {
			switch name {
			case "jane@example.org":
				return jane, true, nil
			case "folders@example.org":
				return janeFolders, true, nil
			case "fixed@example.org":
				t.Error("asked for a name that is configured")
			case "down@example.org":
				return User{}, false, gateway.Unavailable("down", nil)
			case "damaged@example.org":
				return User{Name: name, Password: "{ROT13}x", Target: imap, Tokens: fakeTokens("t")}, true, nil
			}
			return User{}, false, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	enrolled := gateway.Account{Name: "jane@example.org", Adapter: imap.Adapter, Upstream: gateway.Credentials{User: "Jane@example.org"}, Tokens: fakeTokens("t")}
	inFolder := enrolled
	inFolder.Name, inFolder.Folder = "folders@example.org", "Sent"
	for _, tt := range []struct {
		name, password string
		code           gateway.Code
		want           gateway.Account
	}{
		{"jane@example.org", "hxkwp-7nmr3", "", enrolled},
		{"Jane@Example.org", "hxkwp-7nmr3", "", enrolled},
		{"jane@example.org", "wrong", gateway.CodeAuth, gateway.Account{}},
		{"folders+Sent@example.org", "hxkwp-7nmr3", "", inFolder},
		{"fixed@example.org", "x", "", gateway.Account{Name: "fixed@example.org", Adapter: maildir.Adapter}},
		{"down@example.org", "x", gateway.CodeSysTemp, gateway.Account{}},
		{"damaged@example.org", "x", gateway.CodeSysPerm, gateway.Account{}},
		{"other@example.org", "x", "", gateway.Account{Name: "other@example.org", Adapter: noAdapter{"route"}, Forwarded: true, Upstream: gateway.Credentials{User: "other@example.org", Password: "x"}}},
		{"nobody@example.net", "x", gateway.CodeAuth, gateway.Account{}},
	} {
		a, err := d.Login(t.Context(), gateway.Credentials{User: tt.name, Password: tt.password})
		if gateway.CodeOf(err) != tt.code || a != tt.want {
			t.Errorf("%s: %+v, %v; want [%s] %+v", tt.name, a.Name, err, tt.code, tt.want.Name)
		}
	}
	if _, a, err := talk(t, d, "jane@example.org", "hxkwp-7nmr3", "", nil); err != nil || a != enrolled {
		t.Errorf("SCRAM: %v, %v", a.Name, err)
	}
	if !d.Configured("fixed@example.org") || d.Configured("jane@example.org") {
		t.Error("Configured is wrong")
	}
	if _, ok := errors.AsType[*unknown](func() error { _, err := d.find("nobody@example.net", ""); return err }()); !ok {
		t.Error("nobody is not unknown")
	}
	// Nobody else is there, and the names that are absent still cost a check.
	if d, err = New(Config{Enrolled: func(string) (User, bool, error) { return User{}, false, nil }}); err != nil || len(d.kinds) != 1 || !d.kinds[0].costly {
		t.Errorf("users by enrolment alone: %v", err)
	}
}
