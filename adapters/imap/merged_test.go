package imap

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"

	"pop3gw/gateway"
	"pop3gw/gateway/state"
	"pop3gw/gateway/uidl"
)

// mergedRig is an account whose INBOX and Junk are one maildrop, and the connections
// to its server.
type mergedRig struct {
	adapter *Adapter
	account gateway.Account
	user    *memUser

	mu    sync.Mutex
	conns []net.Conn
}

func newMergedRig(t *testing.T) *mergedRig {
	m := newMemServer(t, imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}})
	names := gateway.Mailboxes{"INBOX", "Junk"}
	f := m.fixture(t, Options{Folders: true, Policy: gateway.Policy{Mailboxes: &names}})
	r := &mergedRig{adapter: f.Adapter.(*Adapter)}
	r.adapter.link.Dial = func(context.Context, string, string) (net.Conn, error) {
		nc, err := m.Dial()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.conns = append(r.conns, nc)
		return nc, err
	}
	r.account = f.Create(t, [][]byte{[]byte("Subject: a\r\n\r\n"), []byte("Subject: b\r\n\r\n")})
	f.AddTo(t, r.account, "Junk", []byte("Subject: j\r\n\r\n"))
	r.user = m.user(r.account.Name)
	return r
}

func (r *mergedRig) open(t *testing.T, folder string) (gateway.Maildrop, error) {
	account := r.account
	account.Folder = folder
	return r.adapter.Open(t.Context(), account)
}

func (r *mergedRig) dialled() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

func text(t *testing.T, d gateway.Maildrop, i int) string {
	t.Helper()
	body, err := d.Retrieve(t.Context(), i, -1)
	if err != nil {
		t.Fatalf("message %d: %v", i, err)
	}
	raw, err := io.ReadAll(body)
	if err := cmpErr(err, body.Close()); err != nil {
		t.Fatalf("message %d: %v", i, err)
	}
	return string(raw)
}

func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestMergedIsLearned has the mail of both folders become known that nobody retrieves,
// by the connection that the next session has.
func TestMergedIsLearned(t *testing.T) {
	r := newMergedRig(t)
	db, err := state.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.adapter.Close(); db.Close() })
	book := uidl.NewBook(db, slog.New(slog.DiscardHandler))
	r.adapter.UseBook(book)
	for range 2 {
		d, err := r.open(t, "")
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		r.adapter.background.Wait()
	}
	for folder, want := range map[string]int{"": 2, "Junk": 1} {
		if n, err := book.Known(t.Context(), r.account.Name, folder); n != want || err != nil {
			t.Errorf("%d messages of folder %q are known, want %d; %v", n, folder, want, err)
		}
	}
	if n := r.dialled(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// All folders are locked, whoever asks for one of them, and reached by one
// connection, which the next session has as well.
func TestMergedLocks(t *testing.T) {
	r := newMergedRig(t)
	if _, err := r.open(t, "junk"); err == nil { // the name of the lock does not know case
		t.Fatal("the server's names do not know case")
	}
	junk, err := r.open(t, "Junk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.open(t, ""); gateway.CodeOf(err) != gateway.CodeInUse {
		t.Errorf("the merged maildrop while Junk is open: %v", err)
	}
	junk.Close()
	dialled := r.dialled()
	for range 2 {
		d, err := r.open(t, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, folder := range []string{"Junk", ""} {
			if _, err := r.open(t, folder); gateway.CodeOf(err) != gateway.CodeInUse {
				t.Errorf("%q while the merged maildrop is open: %v", folder, err)
			}
		}
		if d.Len() != 3 {
			t.Errorf("%d messages", d.Len())
		}
		d.Close()
	}
	// One login for the sessions that were refused at the most, which had to show
	// their password.
	if n := r.dialled() - dialled; n > 4 {
		t.Errorf("%d connections", n)
	}
	if junk, err = r.open(t, "Junk"); err != nil {
		t.Fatal(err)
	}
	junk.Close()
}

// A connection that is lost is replaced, and each folder is opened on it again when
// it is needed.
func TestMergedConnectionLost(t *testing.T) {
	r := newMergedRig(t)
	d, err := r.open(t, "")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if n := r.dialled(); n != 1 {
		t.Errorf("%d connections", n)
	}
	for k, i := range []int{2, 0, 2, 1} {
		if k%2 == 0 {
			r.mu.Lock()
			r.conns[len(r.conns)-1].Close()
			r.mu.Unlock()
		}
		if got, want := text(t, d, i), "Subject: "+[]string{"a", "b", "j"}[i]; !strings.HasPrefix(got, want) {
			t.Errorf("message %d is %q, want %q", i, got, want)
		}
	}
	r.mu.Lock()
	r.conns[len(r.conns)-1].Close()
	r.mu.Unlock()
	var removed []int
	if err := d.Delete(t.Context(), []int{1, 2}, func(i int) { removed = append(removed, i) }); err != nil || len(removed) != 2 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if left := r.user.list(t, &imap.SearchCriteria{}); len(left) != 1 || !strings.HasPrefix(string(left[0]), "Subject: a") {
		t.Errorf("in the INBOX are %q", left)
	}
	if left := r.user.in(t, "Junk"); len(left) != 0 {
		t.Errorf("in Junk are %q", left)
	}
}

func TestMergedMissing(t *testing.T) {
	r := newMergedRig(t)
	names := gateway.Mailboxes{"INBOX", "Junk", "Nowhere"}
	account := r.account
	account.Policy.Mailboxes = &names
	_, err := r.adapter.Open(t.Context(), account)
	wantError(t, err, gateway.CodeSysPerm, "a folder of this maildrop does not exist on the mail server", "take it out of mailboxes")
	if !strings.Contains(err.Error(), `"Nowhere"`) {
		t.Errorf("the log gets %v", err)
	}
	d, err := r.open(t, "") // no lock is left
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

// A client may type a folder in either encoding. It is the same one, and has one
// lock.
func TestFolderEncodings(t *testing.T) {
	s := newFake("x")
	a, _ := s.adapter(t, Options{Folders: true})
	in := func(folder string) (gateway.Maildrop, error) {
		account := account(a)
		account.Folder = folder
		return a.Open(t.Context(), account)
	}
	d, err := in("Entw&APw-rfe")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in("Entwürfe"); gateway.CodeOf(err) != gateway.CodeInUse {
		t.Errorf("the other encoding: %v", err)
	}
	d.Close()
	if d, err = in("Entwürfe"); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if n := s.seen(`EXAMINE "Entw&APw-rfe"`); n < 2 {
		t.Errorf("%q", s.commands)
	}
	for _, folder := range []string{"../x", "/etc/passwd", "~root", "a*", "a//b"} {
		_, err := in(folder)
		wantError(t, err, gateway.CodeSysPerm, "no such folder", folder)
	}
}
