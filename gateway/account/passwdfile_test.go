package account

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pop3gw/gateway"
)

const sshaHash = "{SSHA}WxMeMp+BQzPaD1ZULvT6bkeyOmE2F0iu" // "s3cret pass"

func TestParsePasswd(t *testing.T) {
	file := "# a comment\r\n" +
		"\n" +
		":no:name\n" +
		"alice:" + sshaHash + "\r\n" +
		"bob:{PLAIN}tanstaaf:1000:1000:Bob:/home/bob:/bin/sh:userdb_mail=maildir:~/Maildir\n" +
		"carol:$1$v5EGzxRm$fSQK7t3xOWfOB.cbwqgt11:::::\n" +
		"dave:\n" +
		"erin\n" +
		"frank:!$1$v5EGzxRm$fSQK7t3xOWfOB.cbwqgt11\n" +
		"grace:*\n" +
		"heidi:{PLAIN}x::::::nologin=y\n" +
		"ivan:{PLAIN}x::::::quota=1 allow_nets=10.0.0.0/8\n" +
		"judy:YPoBT6FYdFNN2\n" +
		"mallory:{ROT13}Tr0ub4dor\n" +
		"alice:{PLAIN}second\n" +
		"\x01:{PLAIN}x\n" +
		"niaj:{PLAIN}" + "yyyyyyyy\n" +
		"olivia:" + strings.Repeat("z", maxPasswdLine) + "\n" +
		"peggy:{PLAIN}last"
	table, err := parsePasswd(strings.NewReader(file), "users", nameRules{})
	if err != nil {
		t.Fatal(err)
	}

	got := make(map[string]string)
	for name, e := range table.users {
		switch {
		case e.err != nil:
			got[name] = "damaged"
		case e.hash == "":
			got[name] = "locked"
		default:
			got[name] = e.hash
		}
	}
	want := map[string]string{
		"alice": sshaHash, "bob": "{PLAIN}tanstaaf", "carol": "$1$v5EGzxRm$fSQK7t3xOWfOB.cbwqgt11",
		"dave": "locked", "erin": "locked", "frank": "locked", "grace": "locked", "heidi": "locked",
		"ivan": "damaged", "judy": "damaged", "mallory": "damaged", "niaj": "{PLAIN}yyyyyyyy",
		"olivia": "damaged", "peggy": "{PLAIN}last",
	}
	if !maps.Equal(got, want) {
		t.Errorf("users\n%v, want\n%v", got, want)
	}
	if !table.plain {
		t.Error("no plain secret seen")
	}
	if kinds := kindNames(table.kinds); !slices.Equal(kinds, []string{"SSHA", "PLAIN", "1"}) {
		t.Errorf("kinds %q", kinds)
	}

	var complaints []string
	for _, err := range table.complaints {
		line, _, _ := strings.Cut(err.Error(), ": ")
		complaints = append(complaints, line)
		if strings.Contains(err.Error(), "Tr0ub4dor") || strings.Contains(err.Error(), "YPoBT6FYdFNN2") || strings.Contains(err.Error(), "zzzz") {
			t.Errorf("complaint gives a password away: %v", err)
		}
	}
	if want := []string{"users:12", "users:13", "users:14", "users:15", "users:16", "users:18"}; !slices.Equal(complaints, want) {
		t.Errorf("complaints at %q, want %q", complaints, want)
	}
}

func kindNames(kinds []*secret) (names []string) {
	for _, k := range kinds {
		names = append(names, k.kind)
	}
	return names
}

func TestParsePasswdIsBounded(t *testing.T) {
	table, err := parsePasswd(strings.NewReader(strings.Repeat("\x01\n", 1000)+strings.Repeat("x", 1<<20)+"\nbob:{PLAIN}x"), "users", nameRules{})
	if err != nil {
		t.Fatal(err)
	}
	if len(table.complaints) != maxComplaints || table.further != 1001-maxComplaints {
		t.Errorf("%d complaints and %d further", len(table.complaints), table.further)
	}
	if table.users["bob"].hash == "" {
		t.Error("the user after the long line is lost")
	}
}

func TestPasswdNamesTakeTheNormalForm(t *testing.T) {
	table, err := parsePasswd(strings.NewReader("Bob:{PLAIN}x\nEve@Example.net:{PLAIN}x\n"), "users", nameRules{domain: "example.org", lowerCase: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(table.users)); !slices.Equal(got, []string{"bob@example.org", "eve@example.net"}) {
		t.Errorf("users %q", got)
	}
}

// routed returns a directory whose one route reads a passwd-file with content.
func routed(t *testing.T, content string) (d *Directory, path string, log *bytes.Buffer) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	log = new(bytes.Buffer)
	d, err := New(Config{
		Routes: []Route{{Pattern: "*", Target: Target{Adapter: noAdapter{}}, PasswdFile: path}},
		Log:    slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d, path, log
}

func login(t *testing.T, d *Directory, name, password string) (gateway.Account, gateway.Code) {
	t.Helper()
	a, err := d.Login(t.Context(), gateway.Credentials{User: name, Password: password})
	if err != nil && a != (gateway.Account{}) {
		t.Errorf("login of %q: both an account and %v", name, err)
	}
	return a, gateway.CodeOf(err)
}

func TestPasswdFileIsReadAgain(t *testing.T) {
	d, path, _ := routed(t, "bob:{PLAIN}one\n")
	expect := func(password string, want gateway.Code) {
		t.Helper()
		if _, got := login(t, d, "bob", password); got != want {
			t.Errorf("login with %q: [%s], want [%s]", password, got, want)
		}
	}
	write := func(content string, modified time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	expect("one", "")

	now := time.Now()
	write("bob:{PLAIN}two\n", now)
	expect("two", "")
	write("bob:{PLAIN}six\n", now) // same size, same time, yet recent
	expect("six", "")
	expect("two", gateway.CodeAuth)

	old := now.Add(-time.Hour)
	write("bob:{PLAIN}ten\n", old)
	expect("ten", "")
	write("bob:{PLAIN}eleven\n", old) // another size
	expect("eleven", "")
	write("bob:{PLAIN}twelve\n", old.Add(time.Second)) // another time
	expect("twelve", "")

	// Another file of the same size and time, as rsync -t leaves it.
	if err := os.WriteFile(path+".new", []byte("bob:{PLAIN}eleven\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path+".new", old.Add(time.Second), old.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	expect("eleven", "")

	// A file that is not read again is not: what is there cannot be told apart.
	write("bob:{PLAIN}latest\n", old)
	expect("latest", "")
	write("bob:{PLAIN}newest\n", old)
	expect("latest", "")
}

func TestPasswdFileThatCannotBeRead(t *testing.T) {
	d, path, _ := routed(t, "bob:{PLAIN}one\n")
	unreadable := func(what, cause string) {
		t.Helper()
		_, err := d.Login(t.Context(), gateway.Credentials{User: "bob", Password: "one"})
		if gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), cause) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want [SYS/PERM] with %q and the path", what, err, cause)
		}
		err = d.Check()
		if wrong, ok := errors.AsType[*ConfigError](err); !ok || wrong.Key != "passwd_file" || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: Check gives %v; want a ConfigError with the path", what, err)
		}
		if d.HasPlainSecret() {
			t.Errorf("%s: HasPlainSecret", what)
		}
	}
	if !d.HasPlainSecret() {
		t.Error("HasPlainSecret is false")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	unreadable("missing", "no such file")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	unreadable("directory", "not a regular file")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	unreadable("FIFO", "not a regular file")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, maxPasswdFile+1); err != nil {
		t.Fatal(err)
	}
	unreadable("huge", "larger than 64 MiB")
	if err := os.WriteFile(path, []byte("bob:{PLAIN}one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, code := login(t, d, "bob", "one"); code != "" {
		t.Errorf("after it came back: [%s]", code)
	}
}

func TestDamagedLineIsTheUsersOwn(t *testing.T) {
	d, path, log := routed(t, "eve:Tr0ub4dor\nbob:{PLAIN}one\n")
	if _, code := login(t, d, "bob", "one"); code != "" {
		t.Errorf("bob: [%s]", code)
	}
	if _, code := login(t, d, "eve", "Tr0ub4dor"); code != gateway.CodeSysPerm {
		t.Errorf("eve: [%s], want [SYS/PERM]", code)
	}
	if !strings.Contains(log.String(), path+":1: ") || !strings.Contains(log.String(), "eve") || strings.Contains(log.String(), "Tr0ub4dor") {
		t.Errorf("log: %s", log)
	}
	err := d.Check()
	if _, isConfig := errors.AsType[*ConfigError](err); err == nil || isConfig || !strings.Contains(err.Error(), path+":1: ") {
		t.Errorf("Check: %v; want an error of that line alone", err)
	}
}

func TestPasswdFileManyAtATime(t *testing.T) {
	d, path, _ := routed(t, "bob:{PLAIN}one\n")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if _, code := login(t, d, "bob", "one"); code != "" {
					t.Errorf("[%s]", code)
				}
			}
		})
	}
	for i := range 50 {
		temp := path + ".new"
		if err := os.WriteFile(temp, []byte(strings.Repeat("#\n", i)+"bob:{PLAIN}one\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, path); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func FuzzPasswdLine(f *testing.F) {
	f.Add("bob:" + sshaHash + ":1000:1000::/home/bob::quota=1 allow_nets=::1")
	f.Add("bob:{PLAIN}x::::::nologin")
	f.Add("#\n:\r\nbob\nbob:\n\xff:x\n")
	f.Fuzz(func(t *testing.T, content string) {
		table, err := parsePasswd(strings.NewReader(content), "users", nameRules{lowerCase: true})
		if err != nil {
			t.Fatalf("parsePasswd(%q): %v", content, err)
		}
		lines := strings.Count(content, "\n") + 1
		if len(table.users) > lines || len(table.complaints)+table.further > lines {
			t.Fatalf("%d users and %d complaints in %d lines", len(table.users), len(table.complaints), lines)
		}
		for name, e := range table.users {
			if checkText(name) != nil {
				t.Fatalf("name %q", name)
			}
			if _, err := parseSecret(e.hash); err != nil && e.hash != "" {
				t.Fatalf("%q was taken: %v", e.hash, err)
			}
		}
		for _, err := range table.complaints {
			if !strings.HasPrefix(err.Error(), "users:") || strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("complaint %q", err)
			}
		}
	})
}
