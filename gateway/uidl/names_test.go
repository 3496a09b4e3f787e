package uidl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/state"
)

// mail is a message of a fakeDrop.
type mail struct {
	uid  uint32
	id   string // its Message-ID
	size int64
}

// fakeDrop is a mailbox whose messages are named by form.
type fakeDrop struct {
	form     Form
	validity uint32
	mail     []mail
	reads    int // headers
	keys     int // that were asked for
	contents any
}

func (d *fakeDrop) Contents() any { return d.contents }

func (d *fakeDrop) Len() int         { return len(d.mail) }
func (d *fakeDrop) Size(i int) int64 { return d.mail[i].size }
func (d *fakeDrop) Key(i int) Key {
	d.keys++
	return Key(d.validity)<<32 | Key(d.mail[i].uid)
}
func (d *fakeDrop) AppendForm(dst []byte, i int) []byte {
	return d.form.Append(dst, &Values{UID: d.mail[i].uid, Validity: d.validity, File: d.mail[i].id})
}
func (d *fakeDrop) IsUnique() bool { return d.form.Has(UID) }

func (d *fakeDrop) ReadHeaders(ctx context.Context, want []int, found func(int, *Header)) error {
	for _, i := range want {
		d.reads++
		found(i, headerOf("Message-ID: "+d.mail[i].id+"\r\n\r\n", 10))
	}
	return nil
}

// clients is a user's maildrop over several sessions.
type clients struct {
	t    *testing.T
	book *Book
	db   *state.DB
	dir  string

	learns bool // what is listed, behind each session
}

func newClients(t *testing.T) *clients {
	t.Helper()
	c := &clients{t: t, dir: t.TempDir()}
	c.open()
	return c
}

func (c *clients) open() {
	db, err := state.Open(c.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { db.Close() })
	c.db, c.book = db, NewBook(db, slog.New(slog.DiscardHandler))
}

// restart forgets what is in memory alone.
func (c *clients) restart() {
	c.db.Close()
	c.open()
}

func drop(form string, validity uint32, mail ...mail) *fakeDrop {
	f, err := Parse(form, everything)
	if err != nil {
		panic(err)
	}
	return &fakeDrop{form: f, validity: validity, mail: mail}
}

func mails(n int) []mail {
	var all []mail
	for i := range n {
		all = append(all, mail{uint32(i + 1), fmt.Sprintf("<%d@example.org>", i), int64(1000 + i)})
	}
	return all
}

// renumbered are the same messages with other UIDs.
func renumbered(all []mail, by uint32) []mail {
	var others []mail
	for _, m := range all {
		m.uid += by
		others = append(others, m)
	}
	return others
}

// session retrieves the messages with the indexes of retr and removes those of
// dele. It returns the unique-ids.
func (c *clients) session(drop Maildrop, retr, dele []int) (uids []string, err error) {
	c.t.Helper()
	ctx := c.t.Context()
	d, ok := drop.(*fakeDrop)
	if !ok {
		d = drop.(headed).fakeDrop
	}
	n, err := c.book.Open(ctx, gateway.Account{Name: "u"})
	if err != nil {
		return nil, err
	}
	if err := n.Settle(ctx, drop, []state.Source{{Form: d.form.String(), Validity: fmt.Sprint(d.validity)}}); err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	for i := range d.mail {
		uid := string(n.Append(nil, i))
		if !Legal(uid) || seen[uid] {
			c.t.Errorf("unique-id %q is not legal, or there twice", uid)
		}
		seen[uid] = true
		uids = append(uids, uid)
	}
	for _, i := range retr {
		r := n.Watch(i, io.NopCloser(strings.NewReader("Message-ID: "+d.mail[i].id+"\r\n\r\nBody\r\n")))
		io.Copy(io.Discard, r)
		r.Close()
	}
	for _, i := range dele {
		n.Removed(i)
	}
	if err := n.Close(time.Minute); err != nil {
		c.t.Fatal(err)
	}
	if c.learns {
		if learn := n.Learner(); learn != nil {
			learn(ctx)
		}
	}
	return uids, nil
}

func (c *clients) mustSession(d Maildrop, retr, dele []int) []string {
	c.t.Helper()
	uids, err := c.session(d, retr, dele)
	if err != nil {
		c.t.Fatal(err)
	}
	return uids
}

func all(n int) (indexes []int) {
	for i := range n {
		indexes = append(indexes, i)
	}
	return indexes
}

func same(a, b []string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func TestOldNamesComeBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		c := newClients(t)
		old := c.mustSession(drop("dovecot", 7, mails(10)...), all(10), nil)
		for round := range uint32(3) {
			if restart {
				c.restart()
			}
			d := drop("dovecot", 8+round, renumbered(mails(10), 100*round)...)
			for range 2 {
				if got := c.mustSession(d, nil, nil); !same(got, old) {
					t.Fatalf("round %d: %q, want %q", round, got, old)
				}
			}
			if d.reads != 10 {
				t.Errorf("round %d: %d headers were read", round, d.reads)
			}
		}
	}
}

// TestNewMailAfterAChange has messages that nobody knows.
func TestNewMailAfterAChange(t *testing.T) {
	c := newClients(t)
	old := c.mustSession(drop("%u", 7, mails(10)...), all(10), nil)
	moved := renumbered(mails(10), 5) // 6 to 15, so that 6 to 10 mean other messages than before
	moved = append(moved, mail{1, "<new@example.org>", 1})
	got := c.mustSession(drop("%u", 8, moved...), nil, nil)
	if !same(got[:10], old) {
		t.Errorf("%q, want %q", got[:10], old)
	}
	if got[10] == "1" {
		t.Error("a new message has a name that clients know, and would not be fetched")
	}
	if again := c.mustSession(drop("%u", 8, moved...), nil, nil); !same(again, got) {
		t.Errorf("%q, then %q", got, again)
	}
}

func TestMassChangeIsRefused(t *testing.T) {
	c := newClients(t)
	old := c.mustSession(drop("dovecot", 7, mails(10)...), all(4), nil)
	d := drop("dovecot", 8, mails(10)...)
	for range 3 {
		_, err := c.session(d, nil, nil)
		if gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), `pop3gw uidl allow --user u`) {
			t.Fatalf("error is %v", err)
		}
	}
	if d.reads != 10 {
		t.Errorf("%d headers were read for three logins", d.reads)
	}
	if back := c.mustSession(drop("dovecot", 7, mails(10)...), nil, nil); !same(back, old) {
		t.Errorf("put back, they are %q", back)
	}
	if _, err := c.session(d, nil, nil); err == nil {
		t.Error("no error")
	}
	if found, err := c.book.Allow(t.Context(), "u", ""); !found || err != nil {
		t.Fatal(found, err)
	}
	got := c.mustSession(d, nil, nil)
	if !same(got[:4], old[:4]) || same(got[4:], old[4:]) {
		t.Errorf("allowed, they are %q, and were %q", got, old)
	}
	// Once is not for ever.
	if _, err := c.session(drop("dovecot", 9, renumbered(mails(10), 50)...), nil, nil); err == nil {
		t.Error("the next change was not refused")
	}
	if found, err := c.book.Allow(t.Context(), "nobody", ""); found || err != nil {
		t.Error(found, err)
	}
}

// TestMailFromBefore has a move from another server: nobody retrieves here what
// clients have from there.
func TestMailFromBefore(t *testing.T) {
	c := newClients(t)
	c.learns = true
	before := mails(2*learnMost + 10)
	d := drop("dovecot", 7, before...)
	old := c.mustSession(d, nil, nil)
	if d.reads != 0 {
		t.Errorf("%d headers were read at the start", d.reads)
	}
	later := func() { c.book.setLearned(owner{"u", ""}, time.Unix(1, 0)) }
	later()
	c.mustSession(d, nil, nil)
	c.mustSession(d, nil, nil)
	if d.reads != learnMost {
		t.Errorf("%d headers were read in two sessions at once", d.reads)
	}
	for range 2 {
		later()
		c.mustSession(d, nil, nil)
	}
	c.restart()
	later()
	c.mustSession(d, nil, nil)
	if d.reads != len(before) {
		t.Errorf("%d headers were read of %d messages", d.reads, len(before))
	}
	if got := c.mustSession(drop("dovecot", 8, renumbered(before, 100)...), nil, nil); !same(got, old) {
		t.Error("the unique-ids have changed")
	}
}

// TestImportBehindLearning has a list imported when somebody has looked at the
// mailbox already.
func TestImportBehindLearning(t *testing.T) {
	c := newClients(t)
	c.learns = true
	c.mustSession(drop("dovecot", 7, mails(2)...), all(1), nil)
	list := []Listed{{"old-1", "<0@example.org>", 1000}, {"old-2", "<1@example.org>", 1001}}
	if err := c.book.Import(t.Context(), "u", "", list); err != nil {
		t.Fatal(err)
	}
	if got := c.mustSession(drop("dovecot", 7, mails(2)...), nil, nil); !same(got, []string{"old-1", "old-2"}) {
		t.Errorf("%q", got)
	}
}

// TestLostSession has what a session retrieved lost.
func TestLostSession(t *testing.T) {
	c := newClients(t)
	c.learns = true
	d := drop("dovecot", 7, mails(10)...)
	c.mustSession(d, nil, nil)
	d.mail = mails(20)
	n, err := c.book.Open(t.Context(), gateway.Account{Name: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Settle(t.Context(), d, []state.Source{{Form: d.form.String(), Validity: "7"}}); err != nil {
		t.Fatal(err)
	}
	n.retrieved = []retrieved{{15, 1}}
	if err := n.Close(0); err == nil {
		t.Fatal("nothing went wrong")
	}
	old := c.mustSession(d, nil, nil)
	if got := c.mustSession(drop("dovecot", 8, renumbered(mails(20), 100)...), nil, nil); !same(got, old) {
		t.Errorf("%q, want %q", got, old)
	}
}

// TestKilledDownload has the process end in the middle of a long first download, and
// another client remove what it has got.
func TestKilledDownload(t *testing.T) {
	const kept, messages = 2000, 2100
	begin := func(c *clients, d *fakeDrop, retr int) *Names {
		t.Helper()
		n, err := c.book.Open(t.Context(), gateway.Account{Name: "u"})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Settle(t.Context(), d, []state.Source{{Form: d.form.String(), Validity: fmt.Sprint(d.validity)}}); err != nil {
			t.Fatal(err)
		}
		for i := range retr {
			if i == kept {
				n.due = time.Unix(1, 0) // time has passed
			}
			r := n.Watch(i, io.NopCloser(strings.NewReader("Message-ID: "+d.mail[i].id+"\r\n\r\n")))
			io.Copy(io.Discard, r)
			r.Close()
		}
		return n
	}
	d := drop("dovecot", 7, mails(messages)...)
	c := newClients(t)
	n := begin(c, d, messages)
	var old []string
	for i := range messages {
		old = append(old, string(n.Append(nil, i)))
	}
	c.restart()
	got := c.mustSession(drop("dovecot", 8, mails(messages)...), nil, nil)
	if !same(got[:kept], old[:kept]) || same(got, old) {
		t.Error("what was retrieved before the end has other unique-ids")
	}

	c = newClients(t)
	n = begin(c, d, messages)
	for i := range messages - 1 {
		n.Removed(i)
	}
	if err := n.Close(time.Minute); err != nil {
		t.Fatal(err)
	}
	if known, err := c.book.Known(t.Context(), "u", ""); known != 1 || err != nil {
		t.Errorf("%d messages are known, want the one that is left; %v", known, err)
	}
	if m, _, err := c.db.UIDLs().Load(t.Context(), "u", ""); m.Count != 1 || err != nil {
		t.Errorf("%d messages are left; %v", m.Count, err)
	}
}

// TestSmallChanges has changes after which few messages would be downloaded again.
func TestSmallChanges(t *testing.T) {
	c := newClients(t)
	old := c.mustSession(drop("dovecot", 7, mails(10)...), all(6), nil)
	got := c.mustSession(drop("dovecot", 8, mails(10)...), nil, nil)
	if !same(got[:6], old[:6]) {
		t.Errorf("%q", got)
	}

	c = newClients(t)
	c.mustSession(drop("dovecot", 7, mails(10)...), all(10), all(10)) // fetched and removed
	if _, err := c.session(drop("dovecot", 8, mail{1, "<new>", 5}), nil, nil); err != nil {
		t.Errorf("an emptied maildrop: %v", err)
	}
}

func TestFormChangeKeepsNames(t *testing.T) {
	c := newClients(t)
	old := c.mustSession(drop("dovecot", 7, mails(10)...), all(10), nil)
	more := append(mails(10), mail{11, "<new>", 5})
	got := c.mustSession(drop("cyrus", 7, more...), nil, nil)
	if !same(got[:10], old) || got[10] != "7.11" {
		t.Errorf("%q", got)
	}
}

// TestMailComesLater has the mailbox empty at first, as while it is restored.
func TestMailComesLater(t *testing.T) {
	c := newClients(t)
	old := c.mustSession(drop("dovecot", 7, mails(10)...), all(10), nil)
	c.mustSession(drop("dovecot", 8), nil, nil)
	for n := 5; n <= 10; n += 5 {
		d := drop("dovecot", 8, renumbered(mails(n), 3)...)
		if got := c.mustSession(d, nil, nil); !same(got, old[:n]) {
			t.Errorf("with %d: %q, want %q", n, got, old[:n])
		}
		if d.reads != 5 {
			t.Errorf("with %d: %d headers were read", n, d.reads)
		}
	}
}

// TestLaterCopies has a copy come of a message that was retrieved and is gone, with its
// Message-ID and a little more in it: nobody has read that.
func TestLaterCopies(t *testing.T) {
	copied := mail{50, "<0@example.org>", 1010}
	for name, prepare := range map[string]func(c *clients){
		"import": func(c *clients) {
			list := []Listed{{"old-0", "<0@example.org>", 1000}, {"old-1", "<1@example.org>", 990}, {"old-2", "<2@example.org>", -1}}
			if err := c.book.Import(t.Context(), "u", "", list); err != nil {
				t.Fatal(err)
			}
		},
		"change": func(c *clients) { c.mustSession(drop("%u", 7, mails(2)...), all(2), nil) },
	} {
		c := newClients(t)
		prepare(c)
		first := c.mustSession(drop("dovecot", 8, mails(2)[1]), nil, nil)
		if name == "import" && first[0] != "old-1" {
			t.Errorf("what is there may have another size: %q", first)
		}
		for range 2 { // the one in memory alone is forgotten
			got := c.mustSession(drop("dovecot", 8, mails(2)[1], copied), nil, nil)
			if got[0] != first[0] || got[1] != "0000003200000008" {
				t.Errorf("%s: %q", name, got)
			}
			c.restart()
		}
		if name == "import" {
			if got := c.mustSession(drop("dovecot", 8, mails(3)[2]), nil, nil); got[0] != "old-2" {
				t.Errorf("of no size: %q", got)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	c := newClients(t)
	big := mail{1, "<a>", 100_000}
	c.mustSession(drop("dovecot", 7, big, mail{2, "<b>", 100_000}, mail{3, "<c>", 5000}, mail{4, "<c>", 6000}), all(4), nil)
	got := c.mustSession(drop("dovecot", 8,
		mail{11, "<a>", 102_000}, // other line ends
		mail{12, "<b>", 150_000}, // another message of the same Message-ID
		mail{13, "<c>", 6000},    // two that sizes tell apart
		mail{14, "<c>", 5000},
	), nil, nil)
	want := []string{"0000000100000007", "0000000c00000008", "0000000400000007", "0000000300000007"}
	if !same(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDuplicates(t *testing.T) {
	c := newClients(t)
	three := []mail{{1, "a", 1}, {2, "a", 1}, {3, "b", 1}, {4, "a", 1}}
	first := c.mustSession(drop("%f", 7, three...), nil, nil)
	if !same(first, []string{"a", "a-2", "b", "a-3"}) {
		t.Errorf("%q", first)
	}
	// They stay what they are when the others go.
	if got := c.mustSession(drop("%f", 7, three[1:]...), nil, nil); !same(got, first[1:]) {
		t.Errorf("%q", got)
	}
	c.restart()
	if got := c.mustSession(drop("%f", 7, three[2:]...), nil, nil); !same(got, first[2:]) {
		t.Errorf("%q", got)
	}
}

func TestWithoutState(t *testing.T) {
	var b *Book
	n, err := b.Open(t.Context(), gateway.Account{Name: "u"})
	if err != nil {
		t.Fatal(err)
	}
	d := drop("%f", 7, mail{1, "a", 1}, mail{2, "a", 1}, mail{3, strings.Repeat("x", 70), 1}, mail{4, strings.Repeat("x", 70), 1})
	if err := n.Settle(t.Context(), d, nil); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for i := range d.mail {
		uid := string(n.Append(nil, i))
		if seen[uid] || !Legal(uid) {
			t.Errorf("%q", uid)
		}
		seen[uid] = true
	}
	if err := n.Close(time.Minute); err != nil {
		t.Error(err)
	}
}

func TestImport(t *testing.T) {
	c := newClients(t)
	list := []Listed{{"old-1", "<0@example.org>", 1000}, {"old-2", "<1@example.org>", -1}, {"old-9", "<gone@example.org>", 5}}
	if err := c.book.Import(t.Context(), "u", "", list); err != nil {
		t.Fatal(err)
	}
	want := []string{"old-1", "old-2", "0000000300000007"}
	d := drop("dovecot", 7, mails(3)...)
	for range 2 {
		if got := c.mustSession(d, nil, nil); !same(got, want) {
			t.Errorf("%q", got)
		}
	}
	if d.reads != 3 {
		t.Errorf("%d headers were read", d.reads)
	}
	// One that comes later.
	more := append(mails(3), mail{4, "<gone@example.org>", 5})
	if got := c.mustSession(drop("dovecot", 7, more...), nil, nil); !same(got, append(want, "old-9")) {
		t.Errorf("%q", got)
	}
	c.restart()
	if got := c.mustSession(drop("dovecot", 9, renumbered(mails(3), 9)...), nil, nil); !same(got[:2], want[:2]) {
		t.Errorf("after a change: %q", got)
	}
}

func TestExport(t *testing.T) {
	c := newClients(t)
	n, err := c.book.Open(t.Context(), gateway.Account{Name: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Settle(t.Context(), drop("dovecot", 7, mails(2)...), []state.Source{{}}); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := n.Export(t.Context(), func(l Listed) error { return l.Write(&b) }); err != nil {
		t.Fatal(err)
	}
	want := "0000000100000007\t<0@example.org>\t1000\n0000000200000007\t<1@example.org>\t1001\n"
	if b.String() != want {
		t.Errorf("%q", b.String())
	}
	if list, err := ReadList(strings.NewReader(b.String()), "list"); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestDamage has the list of names rewritten by nobody knows whom.
func TestDamage(t *testing.T) {
	c := newClients(t)
	c.mustSession(drop("%f", 7, mail{1, "a", 1}, mail{2, "a", 1}), nil, nil)
	c.db.Close()
	path := filepath.Join(c.dir, state.FileName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex(string(data), "a-2")
	if at < 0 {
		t.Fatal("the name is not in the file")
	}
	data[at+2] = '9'
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c.open()
	_, err = c.session(drop("%f", 7, mail{1, "a", 1}, mail{2, "a", 1}), nil, nil)
	if !errors.Is(err, state.ErrDamaged) || gateway.CodeOf(err) != gateway.CodeSysTemp {
		t.Errorf("error is %v", err)
	}
}

// TestKnownIsBounded has a client that downloads all in each session, and mail
// that comes and goes.
func TestKnownIsBounded(t *testing.T) {
	c := newClients(t)
	const messages = 1000
	for range 40 {
		c.mustSession(drop("dovecot", 7, mails(messages)...), all(messages), nil)
	}
	extent, err := c.db.UIDLs().Extent(t.Context(), "u", "", state.KnownChunk)
	chunks, octets := extent.Chunks, extent.Octets
	if err != nil || octets > 2*30*(messages+1000) || chunks > maxChunks {
		t.Errorf("%d chunks, %d octets, %v", chunks, octets, err)
	}
	for round := range uint32(10) {
		var come []mail
		for i := range uint32(messages) {
			uid := 5000 + 1000*round + i
			come = append(come, mail{uid, fmt.Sprintf("<%d>", uid), 1})
		}
		c.mustSession(drop("dovecot", 7, come...), all(messages), nil)
	}
	if e, _ := c.db.UIDLs().Extent(t.Context(), "u", "", state.KnownChunk); e.Octets > 3*30*(messages+1000) {
		t.Errorf("%d octets", e.Octets)
	}
}

// headed is a fakeDrop some of whose messages have their names in themselves.
type headed struct {
	*fakeDrop
	names map[string]string // by Message-ID
}

func (d headed) FindNames(ctx context.Context, want []int, found func(int, string)) error {
	for _, i := range want {
		found(i, d.names[d.mail[i].id])
	}
	return nil
}

// TestNamesInMessagesStay has the numbers of a mailbox change whose messages have
// their names in themselves, as with X-UIDL and Gmail's numbers, and nothing known.
func TestNamesInMessagesStay(t *testing.T) {
	names := make(map[string]string)
	for i, m := range mails(10) {
		names[m.id] = fmt.Sprint("x", i)
	}
	names["<9@example.org>"] = "" // one has none
	for _, known := range []bool{false, true} {
		c := newClients(t)
		if known { // one as it was before it had another size
			c.mustSession(headed{drop("dovecot", 7, mails(10)...), names}, []int{3}, nil)
			names["<copy@example.org>"] = "x3"
		}
		old := c.mustSession(headed{drop("dovecot", 7, mails(10)...), names}, nil, nil)
		other := renumbered(mails(10), 50)
		other[3].size += 5000
		got := c.mustSession(headed{drop("dovecot", 8, other...), names}, nil, nil)
		if !same(got[:9], old[:9]) || got[9] != "0000003c00000008" {
			t.Errorf("%q, want %q", got, old)
		}
		// Another form is another name for each.
		if _, err := c.session(headed{drop("cyrus", 9, renumbered(mails(10), 70)...), map[string]string{}}, nil, nil); gateway.CodeOf(err) != gateway.CodeSysPerm {
			t.Errorf("another form: error is %v", err)
		}
	}
}

// temporary is a fakeDrop whose messages may be named otherwise later.
type temporary struct{ *fakeDrop }

func (temporary) HasTemporary() bool   { return true }
func (temporary) IsTemporary(int) bool { return true }

// TestNamesAreBounded has mail that comes and goes, each message with a name that
// is kept.
func TestNamesAreBounded(t *testing.T) {
	c := newClients(t)
	const messages, rounds = 20, 300
	for round := range uint32(rounds) {
		n, err := c.book.Open(t.Context(), gateway.Account{Name: "u"})
		if err != nil {
			t.Fatal(err)
		}
		d := drop("dovecot", 7, renumbered(mails(messages), messages*round)...)
		if err := n.Settle(t.Context(), temporary{d}, []state.Source{{Validity: "7"}}); err != nil {
			t.Fatal(err)
		}
		if err := n.Close(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	extent, err := c.db.UIDLs().Extent(t.Context(), "u", "", state.NamesChunk)
	chunks, octets := extent.Chunks, extent.Octets
	most := (2*messages + 1000 + messages*(maxChunks+1)) * 26
	if err != nil || chunks > maxChunks+1 || octets > most || octets < messages*20 {
		t.Errorf("%d chunks, %d octets, at most %d; %v", chunks, octets, most, err)
	}
}

// TestKnownIsSeldomWrittenAnew has a long list imported for a maildrop of few
// messages, and a client that gets one in each session.
func TestKnownIsSeldomWrittenAnew(t *testing.T) {
	c := newClients(t)
	var list []Listed
	for i := range 10_000 {
		list = append(list, Listed{fmt.Sprint("old-", i), fmt.Sprintf("<old%d@example.org>", i), 1})
	}
	if err := c.book.Import(t.Context(), "u", "", list); err != nil {
		t.Fatal(err)
	}
	anew, first := 0, int64(0)
	for i := range 20 {
		c.mustSession(drop("dovecot", 7, mails(i+1)...), []int{i}, nil)
		chunks, err := c.db.UIDLs().Chunks(t.Context(), "u", "", state.KnownChunk)
		if err != nil {
			t.Fatal(err)
		}
		if chunks[0].ID != first {
			anew, first = anew+1, chunks[0].ID
		}
	}
	if anew != 1 { // by the import
		t.Errorf("the list was written %d times", anew)
	}
}

// TestCost has a bound of the documentation: 10,000 messages, each with a name that is
// kept and known by it, take up less than 2 MB. Those are the longest that a form makes.
// What it costs in time is shown by BenchmarkDownload of adapters/maildir.
func TestCost(t *testing.T) {
	c := newClients(t)
	const messages = 10_000
	d := headed{drop("dovecot", 7, mails(messages)...), make(map[string]string)}
	for i, m := range d.mail {
		d.names[m.id] = fmt.Sprintf("GmailId%016x", 1<<60+i)
	}
	c.mustSession(d, all(messages), nil)
	c.db.Close()
	info, err := os.Stat(filepath.Join(c.dir, state.FileName))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages take up %d octets", messages, info.Size())
	if info.Size() > 2<<20 {
		t.Errorf("%d messages take up %d octets", messages, info.Size())
	}
}

func TestSettledPollReadsLittle(t *testing.T) {
	c := newClients(t)
	d := drop("dovecot", 7, mails(100)...)
	c.mustSession(d, all(100), nil)
	version := func() int64 {
		m, _, err := c.db.UIDLs().Load(t.Context(), "u", "")
		if err != nil {
			t.Fatal(err)
		}
		return m.Version
	}
	before := version()
	d.keys = 0
	for range 3 {
		c.mustSession(d, nil, nil)
	}
	if d.reads != 0 || d.keys != 0 || version() != before {
		t.Errorf("%d headers were read, %d keys taken, version %d was %d", d.reads, d.keys, version(), before)
	}
}

// A maildrop that holds what it held is not looked through for the names that are
// kept, and has them all the same; one that holds other messages is.
func TestKeptNamesOfUnchangedMaildrop(t *testing.T) {
	c := newClients(t)
	d := drop("%f", 7, mails(6)...) // %f is not unique to the book
	d.mail[4].id = d.mail[1].id
	d.contents = 1
	first := c.mustSession(d, nil, nil)
	for range 2 {
		d.keys = 0
		if got := c.mustSession(d, nil, nil); !slices.Equal(got, first) || d.keys > 0 {
			t.Errorf("unique-ids %q, want %q, after %d keys", got, first, d.keys)
		}
	}
	d.mail = append(d.mail[:2:2], d.mail[3:]...) // the fifth keeps its name though it is the fourth now
	d.contents = 2
	want := append(first[:2:2], first[3:]...)
	for range 2 {
		if got := c.mustSession(d, nil, nil); !slices.Equal(got, want) {
			t.Errorf("unique-ids %q, want %q", got, want)
		}
	}
	c.restart()
	if got := c.mustSession(d, nil, nil); !slices.Equal(got, want) {
		t.Errorf("unique-ids %q after a restart, want %q", got, want)
	}
	// Another form makes other names, whatever is remembered.
	other := drop("dovecot", 7, d.mail...)
	other.contents = 2
	if got, err := c.session(other, nil, nil); err == nil && slices.Equal(got, want) {
		t.Errorf("unique-ids of another form are %q still", got)
	}
}

func BenchmarkPoll(b *testing.B) {
	db, err := state.Open(b.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	book := NewBook(db, slog.New(slog.DiscardHandler))
	d := drop("dovecot", 7, mails(10)...)
	sources := []state.Source{{Form: d.form.String(), Validity: "7"}}
	for b.Loop() {
		n, err := book.Open(b.Context(), gateway.Account{Name: "u"})
		if err != nil {
			b.Fatal(err)
		}
		n.Settle(b.Context(), d, sources)
		n.Close(time.Minute)
	}
}

func TestArgument(t *testing.T) {
	for s, want := range map[string]string{"bob@example.org": "bob@example.org", "": "''", "a b": "'a b'", "it's $x": `'it'\''s $x'`} {
		if got := argument(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}
