package maildir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pop3gw/gateway"
)

func TestParseTemplate(t *testing.T) {
	for path, want := range map[string]template{
		"/var/mail/{domain}/{local}/Maildir": {"/var/mail", "{domain}/{local}/Maildir"},
		"/home/{user}/Maildir/":              {"/home", "{user}/Maildir"},
		"/srv//m-{user}":                     {"/srv", "m-{user}"},
		"/{user}":                            {"/", "{user}"},
		"/srv/one/Maildir":                   {"/srv/one/Maildir", "."},
	} {
		if got, err := parseTemplate(path); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", path, got, err, want)
		}
	}
	for path, want := range map[string]string{
		"":                      "path: missing",
		"mail/{user}":           "must begin with /",
		"{user}":                "must begin with /",
		"/mail/../{user}":       `must not hold ".."`,
		"/mail/./{user}":        `must not hold "."`,
		"/mail/{name}":          "unknown placeholder {name}; allowed are {user}, {local} and {domain}",
		"/mail/{User}":          "unknown placeholder {User}",
		"/mail/{}":              "unknown placeholder {}",
		"/mail/{user":           "brace without its partner",
		"/mail/user}/x":         "brace without its partner",
		"/mail/{user}/}":        "brace without its partner",
		"/mail/{local}\x00":     "control character",
		"/mail/{local}\n/{user": "control character",
	} {
		if got, err := parseTemplate(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %+v, %v; want an error with %q", path, got, err, want)
		}
	}
}

func TestExpand(t *testing.T) {
	tests := []struct{ template, user, want, err string }{
		{"/m/{domain}/{local}/Maildir", "ann@example.org", "example.org/ann/Maildir", ""},
		{"/m/{domain}/{local}", "a@b@example.org", "example.org/a@b", ""},
		{"/m/{user}", "ann@example.org", "ann@example.org", ""},
		{"/m/{user}/{user}", "ann", "ann/ann", ""},
		{"/m/{user}", "{domain}", "{domain}", ""},
		{"/m/{user}-{local}", "{user}@x", "{user}@x-{user}", ""},
		{"/m/x{user}", "a..b", "xa..b", ""},
		{"/m/one", "anybody", ".", ""},
		{"/m/{domain}/{local}", "ann", "", "has no @"},
		{"/m/{domain}/{local}", "@example.org", "", "is empty"},
		{"/m/{domain}/{local}", "ann@", "", "is empty"},
		{"/m/{domain}/{local}", "..@example.org", "", "begins with a dot"},
		{"/m/{domain}/{local}", "ann@..", "", "begins with a dot"},
		{"/m/{domain}/{local}", "ann@.", "", "begins with a dot"},
		{"/m/{domain}/{local}", "a/b@example.org", "", "holds a slash"},
		{"/m/{domain}/{local}", "ann@a/b", "", "holds a slash"},
		{"/m/{user}", "", "", "is empty"},
		{"/m/{user}", "..", "", "begins with a dot"},
		{"/m/{user}", ".ssh", "", "begins with a dot"},
		{"/m/{user}", "../ann", "", "begins with a dot"},
		{"/m/{user}", "ann/../bob", "", "holds a slash"},
		{"/m/{user}", "/etc", "", "holds a slash"},
		{"/m/{user}", "ann\x00", "", "control character"},
		{"/m/{user}", "ann\n", "", "control character"},
		{"/m/{user}", "ann\x7f", "", "control character"},
		{"/m/{user}", strings.Repeat("a", 256), "", "more than 255 octets"},
	}
	for _, test := range tests {
		tmpl, err := parseTemplate(test.template)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tmpl.expand(test.user)
		if test.err == "" && (err != nil || got != test.want) {
			t.Errorf("%s for %q is %q, %v; want %q", test.template, test.user, got, err, test.want)
		}
		if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s for %q is %q, %v; want an error with %q", test.template, test.user, got, err, test.err)
		}
	}
}

func TestFolderName(t *testing.T) {
	for folder, want := range map[string]string{
		"": "", "INBOX": "", "inbox": "",
		"Sent": ".Sent", "A/B": ".A.B", "A.B": ".A.B", "A.B/C": ".A.B.C", "INBOX.Sent": ".Sent", "inbox/A/B": ".A.B",
		"Gesendete Objekte": ".Gesendete Objekte",
	} {
		if got, err := folderName(folder); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", folder, got, err, want)
		}
	}
	for _, folder := range []string{
		".", "/", "..", "../..", "/etc", "A//B", "A..B", "A/", ".A", "INBOX.", "A\x00", "A\n/B", strings.Repeat("a", 255),
	} {
		if got, err := folderName(folder); err == nil {
			t.Errorf("%q is %q, want an error", folder, got)
		}
	}
}

// FuzzPath checks that no login name and folder lead out of the template's root.
func FuzzPath(f *testing.F) {
	f.Add("/m/{domain}/{local}/Maildir", "ann@example.org", "A/B")
	f.Add("/m/.{local}./{user}", ".@..", "../x")
	f.Add("/{user}", "../../etc", "/")
	f.Fuzz(func(t *testing.T, path, user, folder string) {
		tmpl, err := parseTemplate(path)
		if err != nil {
			return
		}
		below, err := tmpl.expand(user)
		if err != nil {
			return
		}
		// Each name stays one part of the path.
		if got, want := strings.Count(below, "/"), strings.Count(tmpl.below, "/"); got != want {
			t.Fatalf("%q for %q is %q", path, user, below)
		}
		for _, part := range strings.Split(below, "/") {
			if part == ".." || part == "" || strings.ContainsRune(part, 0) {
				t.Fatalf("%q for %q is %q", path, user, below)
			}
		}
		name, err := folderName(folder)
		if err != nil || name == "" {
			return
		}
		if len(name) < 2 || name[0] != '.' || name[1] == '.' || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
			t.Fatalf("folder %q is %q", folder, name)
		}
	})
}

func TestSymbolicLinks(t *testing.T) {
	root := t.TempDir()
	outside := filepath.Join(t.TempDir(), "Maildir")
	makeMaildir(t, outside)
	write(t, outside, "new/1.out", "out\n")
	inside := filepath.Join(root, "mail", "bob", "Maildir")
	makeMaildir(t, inside)
	write(t, inside, "new/1.in", "in\n")
	mail := filepath.Join(root, "mail")
	link := func(target, path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(mail, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(mail, path)); err != nil {
			t.Fatal(err)
		}
	}
	link("bob", "relative")
	link(filepath.Join(mail, "bob"), "absolute")
	link(filepath.Dir(outside), "escape")
	link(outside, "escape2/Maildir")
	link("../../../../../../../../../etc", "etc")
	link("../bob/../../mail/bob/Maildir", "winding/Maildir")
	link("nowhere", "dangling")
	for _, sub := range []string{"new", "cur"} {
		name := "linked-" + sub
		makeMaildir(t, filepath.Join(mail, name, "Maildir"))
		if err := os.Remove(filepath.Join(mail, name, "Maildir", sub)); err != nil {
			t.Fatal(err)
		}
		link(filepath.Join(inside, sub), name+"/Maildir/"+sub)
	}
	// The folder above the first placeholder is the operator's, link or not.
	if err := os.Symlink(mail, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{"mail", "link"} {
		a := newAdapter(t, Options{Path: filepath.Join(root, base, "{user}", "Maildir")})
		for _, user := range []string{"bob", "relative", "absolute", "winding"} {
			d := open(t, a, gateway.Account{Name: user})
			if d.Len() != 1 {
				t.Fatalf("%s: %d messages", user, d.Len())
			}
			wantMessage(t, d, 0, "in\n")
			// Whatever the name, it is one maildrop.
			if _, err := a.Open(t.Context(), gateway.Account{Name: "bob"}); gateway.CodeOf(err) != gateway.CodeInUse {
				t.Errorf("bob while %s is open: %v", user, err)
			}
			closeMaildrop(t, d)
		}
		for _, user := range []string{"escape", "escape2", "etc", "dangling", "linked-new", "linked-cur"} {
			d, err := a.Open(t.Context(), gateway.Account{Name: user})
			if err == nil {
				d.Close()
				t.Errorf("%s was opened", user)
			} else if gateway.CodeOf(err) != gateway.CodeSysPerm {
				t.Errorf("%s: %v", user, err)
			}
		}
	}
}

func TestFolders(t *testing.T) {
	root := t.TempDir()
	maildir := filepath.Join(root, "ann")
	makeMaildir(t, maildir)
	makeMaildir(t, filepath.Join(maildir, ".A.B"))
	write(t, maildir, "new/1.top", "top\n")
	write(t, maildir, "cur/.A.B", "a dot file\n")
	write(t, filepath.Join(maildir, ".A.B"), "cur/1.sub:2,", "sub\n")
	if err := os.Symlink(".A.B", filepath.Join(maildir, ".Link")); err != nil {
		t.Fatal(err)
	}
	a := newAdapter(t, Options{Path: root + "/{user}", Folders: true})
	for folder, want := range map[string]string{"": "top\n", "inbox": "top\n", "A/B": "sub\n", "A.B": "sub\n", "INBOX/A.B": "sub\n"} {
		d := open(t, a, gateway.Account{Name: "ann", Folder: folder})
		if d.Len() != 1 {
			t.Fatalf("%q: %d messages", folder, d.Len())
		}
		wantMessage(t, d, 0, want)
		closeMaildrop(t, d)
	}
	// Folders are maildrops of their own.
	top := open(t, a, gateway.Account{Name: "ann"})
	closeMaildrop(t, open(t, a, gateway.Account{Name: "ann", Folder: "A.B"}))
	closeMaildrop(t, top)
	for _, folder := range []string{"A", "a.b", "..", "../bob", "cur", "Link"} {
		if _, err := a.Open(t.Context(), gateway.Account{Name: "ann", Folder: folder}); gateway.CodeOf(err) != gateway.CodeSysPerm {
			t.Errorf("folder %q: %v", folder, err)
		}
	}
	without := newAdapter(t, Options{Path: root + "/{user}"})
	if _, err := without.Open(t.Context(), gateway.Account{Name: "ann", Folder: "A.B"}); gateway.CodeOf(err) != gateway.CodeSysPerm {
		t.Errorf("folders = false: %v", err)
	}
	closeMaildrop(t, open(t, without, gateway.Account{Name: "ann", Folder: "INBOX"}))
}

func TestOpenRefuses(t *testing.T) {
	root := t.TempDir()
	for _, user := range []string{"no-new", "no-cur", "file-cur"} {
		makeMaildir(t, filepath.Join(root, "example.org", user))
		sub := filepath.Join(root, "example.org", user, user[strings.IndexByte(user, '-')+1:])
		if err := os.Remove(sub); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "example.org", "file-cur", "cur"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "example.org", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAdapter(t, Options{Path: root + "/{domain}/{local}"})
	for user, want := range map[string]string{
		"ann":                  "log in with the full address, name@domain",
		"..@example.org":       "this login name cannot have a maildrop here",
		"nobody@example.org":   "the maildrop does not exist",
		"no-new@example.org":   "the maildrop does not exist",
		"no-cur@example.org":   "the maildrop does not exist",
		"file-cur@example.org": "the maildrop cannot be opened",
		"file@example.org":     "the maildrop cannot be opened",
	} {
		_, err := a.Open(t.Context(), gateway.Account{Name: user})
		var e *gateway.Error
		if !errors.As(err, &e) || e.Code != gateway.CodeSysPerm || e.Text != want || e.Err == nil {
			t.Errorf("%s: %v; want [SYS/PERM] %s, with a cause", user, err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	makeMaildir(t, filepath.Join(root, "Maildir"))
	for path, want := range map[string]string{
		root + "/{user}":         "",
		root + "/Maildir":        "",
		root + "/missing/{user}": "does not exist; create or mount it",
		root + "/missing":        "does not exist",
		root + "/file/{user}":    "is not a directory",
		root:                     "new does not exist",
	} {
		err := newAdapter(t, Options{Path: path}).Check(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", path, err, want)
		}
	}
}
