package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	emersion "github.com/emersion/go-maildir"
	"golang.org/x/sys/unix"

	"pop3gw/gateway"
)

// oneMaildir returns an adapter of a single new Maildir, and its path.
func oneMaildir(t testing.TB) (*Adapter, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "Maildir")
	makeMaildir(t, path)
	return newAdapter(t, Options{Path: path}), path
}

var ann = gateway.Account{Name: "ann"}

func TestOrder(t *testing.T) {
	a, path := oneMaildir(t)
	names := []string{ // in the order of the maildrop
		"new/Zmsg", "cur/msg", // without a time, by name
		"cur/9.z:2,S",
		"new/1000.M1.a", "cur/1000.M2.b:2,", "new/1000.M3.a", "cur/1000.M11.a", "new/1000.M100000.a",
		"cur/1700000000.M9.host,S=4,W=5:2,FS",
		"new/1700000001.M1.host:1,x",
		"new/99999999999999999999.late",
	}
	for _, name := range slices.Backward(names) {
		write(t, path, name, name+"\n")
	}
	write(t, path, "new/1.space in name", "1\n")
	names = slices.Insert(names, 2, "new/1.space in name")
	d := open(t, a, ann)
	got := uids(d)
	if len(got) != len(names) {
		t.Fatalf("%d messages: %q", len(got), got)
	}
	for i, name := range names {
		want := string(legalUID(baseName(name[4:])))
		if got[i] != want {
			t.Errorf("UID of message %d is %q, want %q", i, got[i], want)
		}
		if i != 2 {
			wantMessage(t, d, i, name+"\n")
		}
	}
	closeMaildrop(t, d)
}

// A Maildir with more messages than there may be is refused, and takes up no more
// memory for those.
func TestTooManyMessages(t *testing.T) {
	_, path := oneMaildir(t)
	for i := range 10 {
		write(t, path, fmt.Sprintf("new/%d.m", i), "x\n")
	}
	f, err := openFolder(path, ".", "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if found, _, whole, err := f.meet(t.Context(), 0, 10); len(found) != 10 || !whole || err != nil {
		t.Errorf("%d messages, whole: %v, %v", len(found), whole, err)
	}
	if found, _, _, err := f.meet(t.Context(), 0, 9); found != nil || gateway.CodeOf(err) != gateway.CodeSysPerm {
		t.Errorf("%d messages, %v", len(found), err)
	}
}

func TestDelivery(t *testing.T) {
	a, path := oneMaildir(t)
	for n := range 3 {
		delivery, err := emersion.NewDelivery(path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(delivery, "Subject: %d\n\ntext\n", n)
		if err := delivery.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, a, ann)
	if d.Len() != 3 || d.Size(0) != 20 {
		t.Errorf("%d messages, the first of %d octets", d.Len(), d.Size(0))
	}
	before := uids(d)
	closeMaildrop(t, d)
	// Another program takes them to cur, and sets flags.
	messages, err := emersion.Dir(path).Unseen()
	if err != nil {
		t.Fatal(err)
	}
	if err := messages[0].SetFlags([]emersion.Flag{emersion.FlagSeen}); err != nil {
		t.Fatal(err)
	}
	d = open(t, a, ann)
	if got := uids(d); !slices.Equal(got, before) {
		t.Errorf("UIDs were %q and are %q", before, got)
	}
	closeMaildrop(t, d)
}

// TestForeign has all in new and cur that is no message: none of it may be
// opened, or break the login.
func TestForeign(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "new/1.message", "one\n")
	write(t, path, "cur/2.message:2,S", "two\n")
	for _, sub := range []string{"new/", "cur/"} {
		write(t, path, sub+".hidden", "dot\n")
		write(t, path, sub+".3.message:2,", "dot\n")
		at := func(name string) string { return filepath.Join(path, sub+name) }
		if err := os.Mkdir(at("4.dir:2,S"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(at("5.fifo"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path+"/new/1.message", at("6.link")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/nowhere", at("7.dangling")); err != nil {
			t.Fatal(err)
		}
		// The path of a socket may have some 100 octets only, so it is made elsewhere.
		short, err := os.MkdirTemp("", "sock")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(short)
		l, err := net.Listen("unix", short+"/s")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := os.Rename(short+"/s", at("8.socket")); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&log, nil))
	done := make(chan struct{})
	timeout := time.AfterFunc(20*time.Second, func() {
		select {
		case <-done:
		default:
			panic("opening the Maildir hangs")
		}
	})
	defer timeout.Stop()
	d := open(t, a, ann)
	close(done)
	if got := uids(d); !slices.Equal(got, []string{"1.message", "2.message"}) {
		t.Errorf("the maildrop lists %q", got)
	}
	before := files(t, path)
	if err := d.Delete(t.Context(), []int{0, 1}, func(int) {}); err != nil {
		t.Error(err)
	}
	closeMaildrop(t, d)
	if got := len(before) - len(files(t, path)); got != 2 {
		t.Errorf("%d files were removed", got)
	}
	if log.Len() > 0 {
		t.Errorf("nothing here is worth a warning:\n%s", &log)
	}
}

// TestTurnedForeign replaces messages by what would hang or mislead a reader.
func TestTurnedForeign(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "new/1.fifo", "one\n")
	write(t, path, "new/2.link", "two\n")
	write(t, path, "new/3.dir", "three\n")
	write(t, path, "new/4.stays", "four\n")
	d := open(t, a, ann)
	for _, name := range []string{"1.fifo", "2.link", "3.dir"} {
		if err := os.Remove(filepath.Join(path, "new", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		unix.Mkfifo(path+"/new/1.fifo", 0o600),
		os.Symlink("4.stays", path+"/new/2.link"),
		os.Mkdir(path+"/new/3.dir", 0o700),
	); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if got, err := read(t, d, i); gateway.CodeOf(err) != gateway.CodeSysTemp {
			t.Errorf("message %d: %q, %v", i, got, err)
		}
	}
	wantMessage(t, d, 3, "four\n")
	var removed []int
	err := d.Delete(t.Context(), []int{0, 1, 2, 3}, func(i int) { removed = append(removed, i) })
	if err == nil || !strings.Contains(err.Error(), "3 of 4") || !slices.Equal(removed, []int{3}) {
		t.Errorf("removed %v: %v", removed, err)
	}
	closeMaildrop(t, d)
	if got, want := files(t, path), []string{"new/1.fifo", "new/2.link", "new/3.dir"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}

// TestSameBase has one file under two names, as in the middle of a rename, and
// two files under one base name.
func TestSameBase(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "new/1.linked", "linked\n")
	if err := os.Link(path+"/new/1.linked", path+"/cur/1.linked:2,S"); err != nil {
		t.Fatal(err)
	}
	write(t, path, "new/2.twice", "new\n")
	write(t, path, "cur/2.twice:2,", "cur\n")
	write(t, path, "cur/2.twice:2,S", "seen\n")
	write(t, path, "cur/3.other:2,", "other\n")
	d := open(t, a, ann)
	first := uids(d)
	if d.Len() != 5 {
		t.Fatalf("the maildrop lists %q", first)
	}
	if distinct := len(slices.Compact(slices.Sorted(slices.Values(first)))); distinct != 5 {
		t.Errorf("UIDs are not distinct: %q", first)
	}
	contents := func() (list []string) {
		for i := range d.Len() {
			text, err := read(t, d, i)
			if err != nil {
				t.Error(err)
			}
			list = append(list, text)
		}
		return list
	}
	before := contents()
	closeMaildrop(t, d)

	// Flags and places change: UIDs stay with the files.
	for _, move := range [][2]string{
		{"cur/2.twice:2,", "cur/2.twice:2,F"}, {"new/2.twice", "cur/2.twice:2,"},
	} {
		if err := os.Rename(filepath.Join(path, move[0]), filepath.Join(path, move[1])); err != nil {
			t.Fatal(err)
		}
	}
	d = open(t, a, ann)
	if got := uids(d); !slices.Equal(got, first) || !slices.Equal(contents(), before) {
		t.Errorf("the maildrop was %q %q and is %q %q", first, before, got, contents())
	}
	// Now in the session, in a ring.
	for _, move := range [][2]string{
		{"cur/2.twice:2,F", "tmp/x"}, {"cur/2.twice:2,", "cur/2.twice:2,F"}, {"cur/2.twice:2,S", "cur/2.twice:2,"},
		{"tmp/x", "cur/2.twice:2,S"},
	} {
		if err := os.Rename(filepath.Join(path, move[0]), filepath.Join(path, move[1])); err != nil {
			t.Fatal(err)
		}
	}
	if got := contents(); !slices.Equal(got, before) {
		t.Errorf("after renames the messages are %q, were %q", got, before)
	}
	// Both links go, and one of the three.
	text := before[2]
	if err := d.Delete(t.Context(), []int{0, 2}, func(int) {}); err != nil {
		t.Error(err)
	}
	closeMaildrop(t, d)
	left := files(t, path)
	if len(left) != 3 {
		t.Errorf("left are %q", left)
	}
	for _, name := range left {
		if raw, err := os.ReadFile(filepath.Join(path, name)); err != nil || string(raw) == text || string(raw) == "linked\n" {
			t.Errorf("%s is left: %q, %v", name, raw, err)
		}
	}
}

// TestCopies has two files with one base name, size and time, as a careless
// restore leaves them: removing the one never takes the other.
func TestCopies(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "new/1.m", "text\n")
	write(t, path, "cur/1.m:2,S", "text\n")
	then := time.Now().Add(-time.Hour)
	for _, name := range files(t, path) {
		if err := os.Chtimes(filepath.Join(path, name), then, then); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []int{1, 0} {
		d := open(t, a, ann)
		if d.Len() != 2 {
			t.Fatalf("%d messages", d.Len())
		}
		// The marked one vanishes, once by another's coming to its place.
		marked := d.d.path(d.d.message(1 - other))
		if other == 1 {
			if err := os.Remove(marked); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Rename(d.d.path(d.d.message(other)), marked); err != nil {
			t.Fatal(err)
		}
		if _, err := read(t, d, 1-other); err == nil {
			t.Errorf("message %d is read from the file of the other", 1-other)
		}
		wantMessage(t, d, other, "text\n")
		d.Delete(t.Context(), []int{1 - other}, func(int) {})
		closeMaildrop(t, d)
		left := files(t, path)
		if len(left) != 1 {
			t.Fatalf("left are %q", left)
		}
		// The copy is made again for the second round.
		write(t, path, "new/2.copy", "text\n")
		name := "cur/1.m:2,S"
		if left[0] == name {
			name = "new/1.m"
		}
		if err := os.Rename(path+"/new/2.copy", filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(path, name), then, then); err != nil {
			t.Fatal(err)
		}
	}
}

func TestManyUnreadable(t *testing.T) {
	var log bytes.Buffer
	report := &work{log: slog.New(slog.NewTextHandler(&log, nil))}
	for n := range 25 {
		m := newMessage(inNew, fmt.Sprint(n))
		report.unreadable(&m, unix.EACCES)
	}
	report.end()
	if lines := strings.Count(log.String(), "\n"); lines != maxReports+1 || !strings.Contains(log.String(), "number=15") {
		t.Errorf("%d lines in the log:\n%s", lines, &log)
	}
}
