package main

import (
	"bytes"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pop3gw/gateway/state"
)

// withState returns the configuration of a folder with state.url added to it.
func withState(t *testing.T, url string) (dir string) {
	t.Helper()
	dir = checkFolder(t)
	text, err := os.ReadFile(dir + "/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "[tls]")
	write(t, dir, "config.toml", "[[listeners]]\naddress = \"127.0.0.1:0\"\n[tls]"+rest+
		"\n[state]\nurl = \""+strings.ReplaceAll(url, "$DIR", dir)+"\"\n")
	return dir
}

func TestCheckState(t *testing.T) {
	for _, tt := range []struct{ url, want string }{
		{"file://$DIR/state", "ok      state"},
		{"file://$DIR/a/b/c", "ok      state"},
		{"file://$DIR", "ok      state"},
		{"file://$DIR/damaged", "state.db: the file is damaged: it is empty; stop the gateway and"},
		{"file://$DIR/users", "not a directory"}, // a file
		{"file://$DIR/users/below", "not a directory"},
	} {
		dir := withState(t, tt.url)
		os.Mkdir(dir+"/damaged", 0o700)
		write(t, dir, "damaged/"+state.FileName, "")
		before := tree(t, dir)
		out, _, _ := pop3gw(t, "", "check", "--config", dir+"/config.toml")
		found := false
		for line := range strings.Lines(out) {
			found = found || strings.Contains(line, "state") && strings.Contains(strings.Join(strings.Fields(line), " "), strings.Join(strings.Fields(tt.want), " "))
		}
		if !found {
			t.Errorf("%s: no line with %q in\n%s", tt.url, tt.want, out)
		}
		if after := tree(t, dir); after != before {
			t.Errorf("%s: check changed files:\n%s\nbefore:\n%s", tt.url, after, before)
		}
	}
}

// A new pop3gw looks at the state of a gateway of an earlier version that still runs,
// and leaves it as it is.
func TestCheckEarlierState(t *testing.T) {
	dir := withState(t, "file://$DIR/state")
	rewrite(t, dir, "[state]", "[oauth.google]\nclient_id = \"x\"\n[[users]]\nname = \"jane@example.org\"\npassword = \"{PLAIN}x\"\nadapter = \"up\"\noauth = \"google\"\n[state]")
	durable, err := state.Open(dir+"/state", slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, durable.Close())
	file := filepath.Join(dir, "state", state.FileName)
	db, err := sql.Open("sqlite", file)
	must(t, err)
	_, err = db.Exec("PRAGMA user_version = 1")
	must(t, errors.Join(err, db.Close()))
	before, err := os.ReadFile(file)
	must(t, err)
	for _, args := range [][]string{{"check", "--config", dir + "/config.toml"}, {"check", "--config", dir + "/config.toml", "--offline"}} {
		out, stderr, _ := pop3gw(t, "", args...)
		want := regexp.MustCompile(`(?m)^warn +state +\S+/config.toml:\d+: state.url: \S+/state.db is of an earlier version of pop3gw \(1, this one makes \d+\); the gateway brings it up to date when it starts; what users`)
		if want.MatchString(out) == (len(args) > 3) || strings.Contains(out, "oauth of ") || strings.Contains(stderr, "state") {
			t.Errorf("%v: %s\n%s", args, stderr, out)
		}
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("check changed the file, %v", err)
	}
}

func TestServeState(t *testing.T) {
	dir := withState(t, "file://$DIR/state")
	p := start(t, dir, "serve", "--config", dir+"/config.toml")
	p.out.find(t, "msg=ready")
	info, err := os.Stat(filepath.Join(dir, "state", "cache"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v", info, err)
	}
	info, err = os.Stat(filepath.Join(dir, "state", state.FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}

	dir = withState(t, "file://$DIR/users")
	_, stderr, code := pop3gw(t, "", "serve", "--config", dir+"/config.toml")
	if code != 2 || !strings.Contains(stderr, "state.url: ") || !strings.Contains(stderr, "must be able to write to "+dir+"/users") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// A cache that cannot be used costs time, and keeps nobody out.
func TestServeWithoutCache(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string) error{
		"a file":    func(_ *testing.T, path string) error { return os.WriteFile(path, nil, 0o600) },
		"a link":    func(_ *testing.T, path string) error { return os.Symlink("/nowhere", path) },
		"read-only": readOnly,
	} {
		t.Run(name, func(t *testing.T) {
			dir := withState(t, "file://$DIR/state")
			if err := os.Mkdir(dir+"/state", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := spoil(t, dir+"/state/cache"); err != nil {
				t.Fatal(err)
			}
			p := start(t, dir, "serve", "--config", dir+"/config.toml")
			p.out.find(t, "the cache cannot be used.*"+dir+"/state/cache")
			p.out.find(t, "msg=ready")
		})
	}
}

// readOnly makes a folder that nobody can write to, not even root.
func readOnly(t *testing.T, path string) error {
	if err := os.Mkdir(path, 0o500); err != nil || os.Geteuid() != 0 {
		return err
	}
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", path).CombinedOutput()
	if err != nil {
		t.Fatalf("root can write to every folder but one on a read-only disk, and that cannot be mounted: %s; run this as another user, or in a container with --privileged", out)
	}
	t.Cleanup(func() { exec.Command("umount", path).Run() })
	return nil
}
