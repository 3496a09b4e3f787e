package maildir

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	emersion "github.com/emersion/go-maildir"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// TestAdapter runs the suite of all adapters.
func TestAdapter(t *testing.T) { maildroptest.TestAdapter(t, newFixture) }

// TestSession runs the session scripts of all adapters.
func TestSession(t *testing.T) { maildroptest.TestScripts(t, newFixture) }

// TestPolicies runs the scripts and the properties of policies.
func TestPolicies(t *testing.T) {
	maildroptest.TestPolicies(t, newUnreadFixture)
	maildroptest.TestMarkedAlone(t, newUnreadFixture)
}

// newFixture makes Maildirs whose messages lie half in new, half in cur, with
// and without info.
func newFixture(t *testing.T) maildroptest.Fixture {
	return makeFixture(t, []string{"new/%s", "cur/%s:2,S", "cur/%s:2,", "cur/%s"})
}

// newUnreadFixture makes Maildirs with a trash, and messages that nobody has read.
func newUnreadFixture(t *testing.T) maildroptest.Fixture {
	return makeFixture(t, []string{"new/%s", "cur/%s:2,F", "cur/%s:2,", "cur/%s"})
}

func makeFixture(t *testing.T, forms []string) maildroptest.Fixture {
	root := t.TempDir()
	a := newAdapter(t, Options{Path: root + "/{user}/Maildir"})
	accounts, added := 0, map[string]int{}
	path := func(account gateway.Account) string { return filepath.Join(root, account.Name, "Maildir") }
	add := func(t testing.TB, account gateway.Account, message []byte) {
		n := added[account.Name]
		added[account.Name]++
		base := fmt.Sprintf("%d.M%dP1.host", 1700000000+n/3, 100000+n)
		write(t, path(account), fmt.Sprintf(forms[n%4], base), string(message))
	}
	find := func(t testing.TB, account gateway.Account, i int) string {
		pattern := fmt.Sprintf("%s/*/%d.M%dP1.host*", path(account), 1700000000+i/3, 100000+i)
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %q, %v", pattern, files, err)
		}
		return files[0]
	}
	list := func(t testing.TB, maildir string, which func(name string) bool) (list [][]byte) {
		for _, name := range files(t, maildir) {
			raw, err := os.ReadFile(filepath.Join(maildir, name))
			if err != nil {
				t.Error(err)
			}
			if which(name) {
				list = append(list, raw)
			}
		}
		return list
	}
	all := func(string) bool { return true }
	return maildroptest.Fixture{
		Adapter: a,
		Locks:   a.locks,
		Exact:   true,
		Large:   5000,
		Create: func(t testing.TB, messages [][]byte) gateway.Account {
			accounts++
			account := gateway.Account{Name: fmt.Sprint("user", accounts), Adapter: a}
			makeMaildir(t, path(account))
			makeMaildir(t, path(account)+"/.Trash")
			for _, message := range messages {
				add(t, account, message)
			}
			return account
		},
		Add: add,
		Remove: func(t testing.TB, account gateway.Account, i int) {
			if err := os.Remove(find(t, account, i)); err != nil {
				t.Fatal(err)
			}
		},
		List: func(t testing.TB, account gateway.Account) [][]byte { return list(t, path(account), all) },
		AddAged: func(t testing.TB, account gateway.Account, message []byte, age time.Duration) {
			n := added[account.Name]
			add(t, account, message)
			then := time.Now().Add(-age)
			if err := os.Chtimes(find(t, account, n), then, then); err != nil {
				t.Fatal(err)
			}
		},
		AddTo: func(t testing.TB, account gateway.Account, folder string, message []byte) {
			maildir := path(account) + "/." + folder
			makeMaildir(t, maildir)
			added[maildir]++
			write(t, maildir, fmt.Sprintf("new/%d.M%dP1.host", 1700000000, 100000+added[maildir]), string(message))
		},
		In: func(t testing.TB, account gateway.Account, folder string) [][]byte {
			return list(t, path(account)+"/."+folder, all)
		},
		Read: func(t testing.TB, account gateway.Account, i int) {
			file := find(t, account, i)
			base := baseName(filepath.Base(file))
			if err := os.Rename(file, path(account)+"/cur/"+base+":2,S"); err != nil {
				t.Fatal(err)
			}
		},
		Trash: func(t testing.TB, account gateway.Account) [][]byte { return list(t, path(account)+"/.Trash", all) },
		Seen: func(t testing.TB, account gateway.Account) [][]byte {
			return list(t, path(account), func(name string) bool {
				_, flags, _ := strings.Cut(name, ":2,")
				return strings.Contains(flags, "S")
			})
		},
	}
}

func newAdapter(t testing.TB, o Options) *Adapter {
	t.Helper()
	a, err := New(o, new(gateway.Locks), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func makeMaildir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := emersion.Dir(path).Init(); err != nil {
		t.Fatal(err)
	}
}

// write puts a file into a Maildir, complete at once, as delivery does.
func write(t testing.TB, maildir, name, content string) {
	t.Helper()
	tmp := filepath.Join(maildir, "tmp", strings.ReplaceAll(name, "/", "_"))
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(maildir, name)); err != nil {
		t.Fatal(err)
	}
}

// files returns what lies in new and cur, as "new/name".
func files(t testing.TB, maildir string) []string {
	t.Helper()
	var names []string
	for _, sub := range subdirNames {
		entries, err := os.ReadDir(filepath.Join(maildir, sub))
		if err != nil {
			t.Error(err)
		}
		for _, entry := range entries {
			names = append(names, sub+"/"+entry.Name())
		}
	}
	return names
}

func open(t testing.TB, a *Adapter, account gateway.Account) *drop {
	t.Helper()
	d, err := a.Open(t.Context(), account)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return d.(*drop)
}

func closeMaildrop(t testing.TB, d *drop) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func uids(d *drop) []string {
	list := make([]string, d.Len())
	for i := range list {
		list[i] = string(d.AppendUID(nil, i))
	}
	return list
}

// read returns message i, or the error of Retrieve or of reading.
func read(t testing.TB, d *drop, i int) (string, error) {
	t.Helper()
	r, err := d.Retrieve(t.Context(), i, -1)
	if err != nil {
		return "", err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	return string(raw), err
}

func wantMessage(t testing.TB, d *drop, i int, want string) {
	t.Helper()
	if got, err := read(t, d, i); err != nil || got != want {
		t.Errorf("message %d is %q, %v; want %q", i, got, err, want)
	}
}
