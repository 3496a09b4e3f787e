package maildir

import (
	"crypto/md5"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"pop3gw/gateway"
	durable "pop3gw/gateway/state"
	"pop3gw/gateway/uidl"
)

// numbered is a Maildir of three messages, 1, 2 and 3, and an adapter on it that
// keeps its unique-ids.
type numbered struct {
	*testing.T
	dir     string
	adapter *Adapter
	book    *uidl.Book
	account gateway.Account
}

func newNumbered(t *testing.T, o Options) *numbered {
	t.Helper()
	root := t.TempDir()
	n := &numbered{T: t, dir: filepath.Join(root, "u")}
	for _, sub := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(n.dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		n.deliver(fmt.Sprintf("cur/%d.a:2,S", i+1), i)
	}
	o.Path = root + "/{user}"
	a, err := New(o, new(gateway.Locks), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	db, err := durable.Open(filepath.Join(root, ".state"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); db.Close() })
	n.book = uidl.NewBook(db, slog.New(slog.DiscardHandler))
	a.UseBook(n.book)
	n.adapter, n.account = a, gateway.Account{Name: "u", Adapter: a}
	return n
}

func (n *numbered) deliver(name string, i int) {
	n.put(name, fmt.Sprintf("Message-ID: <%d@example.org>\nX-UIDL: x%d\n\nText\n", i, i))
}

func (n *numbered) put(name, text string) {
	n.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
		n.Fatal(err)
	}
	then := time.Now().Add(-time.Hour) // a new file would be counted again each time
	if err := os.Chtimes(filepath.Join(n.dir, name), then, then); err != nil {
		n.Fatal(err)
	}
}

// session returns the unique-ids, after the messages were all retrieved if retr.
func (n *numbered) session(retr bool) (string, error) {
	n.Helper()
	d, err := n.adapter.Open(n.Context(), n.account)
	if err != nil {
		return "", err
	}
	defer d.Close()
	var all []string
	for i := range d.Len() {
		all = append(all, string(d.AppendUID(nil, i)))
		if retr {
			r, err := d.Retrieve(n.Context(), i, -1)
			if err != nil {
				n.Fatal(err)
			}
			io.Copy(io.Discard, r)
			r.Close()
		}
	}
	return strings.Join(all, " "), nil
}

func (n *numbered) want(want string) {
	n.Helper()
	for range 2 {
		if got, err := n.session(false); err != nil || got != want {
			n.Errorf("unique-ids are %q, %v; want %q", got, err, want)
		}
	}
}

// uidlist is as Dovecot writes it, with the messages in another order than by name.
const uidlist = "3 V10 N9 G0123456789abcdef\n7 W100 :2.a:2,\n8 :1.a:2,S\n"

func TestUidlist(t *testing.T) {
	for _, tt := range []struct {
		form UIDL
		list string
		want string
	}{
		{"dovecot", "", "1.a 2.a 3.a"},
		{"dovecot", uidlist, "000000070000000a 000000080000000a 3.a"},
		{"dovecot", "1 10 9\n7 2.a:2,\n8 1.a\n", "000000070000000a 000000080000000a 3.a"},
		{"cyrus", uidlist, "10.7 10.8 3.a"},
		{"dovecot", uidlist + "9 Pold-3 :3.a\n", "000000070000000a 000000080000000a old-3"},
		{"dovecot", uidlist + "9 P :3.a\n", "000000070000000a 000000080000000a 3.a"},
		{"dovecot", "3 V10 N9\n7 O2 :2.a:2,\n8 O1 :1.a:2,S\n9 :3.a\n", "000000080000000a 000000070000000a 000000090000000a"},
		{"%g", uidlist + "9 Gffff :3.a\n", "2.a 1.a ffff"},
		{"dovecot", uidlist + "9 :3.a", "000000070000000a 000000080000000a 3.a"}, // the line is not whole
		{"dovecot", uidlist + "9 Psame :3.a\n10 Psame :4.a\n", "000000070000000a 000000080000000a same"},
		{"qmail", uidlist, "1.a 2.a 3.a"},
		{"tpop3d", "", md5Hex("1.a") + " " + md5Hex("2.a") + " " + md5Hex("3.a")},
	} {
		n := newNumbered(t, Options{UIDL: tt.form})
		if tt.list != "" {
			n.put(uidlistName, tt.list)
		}
		n.want(tt.want)
	}
}

// TestUidlistWithWindow has a window, by which a session shows some messages alone.
func TestUidlistWithWindow(t *testing.T) {
	n := newNumbered(t, Options{})
	n.put(uidlistName, uidlist+"9 :3.a\n")
	arranged := func() *arranged { return n.adapter.arranged.get(n.dir) }
	n.account.Policy.Window = &gateway.Window{MaxMessages: 2}
	n.want("000000070000000a 000000090000000a")
	first := arranged()
	n.want("000000070000000a 000000090000000a")
	if arranged() != first {
		t.Error("the list was read again, and nothing had changed")
	}
	n.account.Policy.Window = &gateway.Window{UnseenOnly: true}
	n.want("")
	n.account.Policy.Window = &gateway.Window{MaxMessages: 3}
	n.want("000000070000000a 000000080000000a 000000090000000a")
	if arranged() == first {
		t.Error("the list was not read for other messages")
	}
	listing := weak.Make(n.adapter.listings.get(n.dir))
	n.adapter.listings.forget(n.dir)
	n.adapter.background.Wait() // what is behind the sessions has it as well
	runtime.GC()
	if listing.Value() != nil {
		t.Error("a listing that was given up is kept")
	}
}

// What a window hides takes up no memory.
func TestWindowMemory(t *testing.T) {
	l := &listing{packed: pack(manyMessages(50_000))}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	d := &maildrop{policy: gateway.Policy{Window: &gateway.Window{MaxMessages: 100}}}
	d.hold(l)
	d.narrow()
	if more := heap() - before; more > 1<<20 {
		t.Errorf("100 messages of 50,000 take up %d KB", more>>10)
	}
	all := l.unpack()
	for i := range 100 {
		if got, want := d.message(i), &all[len(all)-100+i]; *got != *want {
			t.Errorf("message %d is %+v, want %+v", i, got, want)
		}
	}
}

// TestFirstNameStays has Dovecot number a message that had a name of ours.
func TestFirstNameStays(t *testing.T) {
	n := newNumbered(t, Options{})
	n.put(uidlistName, uidlist)
	n.want("000000070000000a 000000080000000a 3.a")
	n.put(uidlistName, uidlist+"9 :3.a:2,S\n")
	n.want("000000070000000a 000000080000000a 3.a")
	n.deliver("cur/4.a:2,", 4)
	n.put(uidlistName, uidlist+"9 :3.a:2,S\n10 :4.a\n")
	n.want("000000070000000a 000000080000000a 3.a 0000000a0000000a")
}

// TestListComesLater has Dovecot begin to work on a Maildir whose messages were
// named by their files.
func TestListComesLater(t *testing.T) {
	n := newNumbered(t, Options{})
	n.want("1.a 2.a 3.a")
	n.put(uidlistName, uidlist)
	n.want("1.a 2.a 3.a")
}

func TestLostUidlist(t *testing.T) {
	n := newNumbered(t, Options{})
	n.put(uidlistName, uidlist+"9 :3.a:2,S\n")
	if _, err := n.session(true); err != nil {
		t.Fatal(err)
	}
	n.put(uidlistName, "3 V11 N4\n1 :1.a:2,S\n2 :2.a:2,S\n3 :3.a:2,S\n")
	n.want("000000080000000a 000000070000000a 000000090000000a") // the order is the new one
	os.Remove(filepath.Join(n.dir, uidlistName))
	n.want("000000080000000a 000000070000000a 000000090000000a")

	// And where nobody retrieved them, and they are too many to be learned at once.
	n = newNumbered(t, Options{})
	list := "3 V10 N1000\n"
	for i := range 600 {
		n.deliver(fmt.Sprintf("cur/%d.b:2,S", 1000+i), i)
		list += fmt.Sprintf("%d :%d.b:2,S\n", i+1, 1000+i)
	}
	n.put(uidlistName, list)
	old, err := n.session(false)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(n.dir, uidlistName))
	if _, err := n.session(false); gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), "pop3gw uidl allow") {
		t.Errorf("error is %v; they were %.100s", err, old)
	}
}

func TestDamagedList(t *testing.T) {
	for _, text := range []string{"", "3\n", "3 N9\n", "4 V10 N9\n", "3 V10 N9\nx :1.a\n", "3 V10 N9\n7 1.a\n", "\x00\x00\x00\n"} {
		n := newNumbered(t, Options{})
		n.put(uidlistName, text)
		_, err := n.session(false)
		if gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), "doveadm force-resync") || !strings.Contains(err.Error(), n.dir+"/"+uidlistName) {
			t.Errorf("%q: %v", text, err)
		}
	}
	n := newNumbered(t, Options{})
	if err := os.Symlink("/etc/passwd", filepath.Join(n.dir, uidlistName)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.session(false); gateway.CodeOf(err) != gateway.CodeSysPerm {
		t.Errorf("a link: %v", err)
	}
}

func TestSizelist(t *testing.T) {
	const list = "/3 9 55\n1.a 100 3:55:0\n2.a 100 4:0:0\n"
	n := newNumbered(t, Options{UIDL: "courier"})
	n.put(sizelistName, list)
	n.want("UID3-55 UID4 3.a")
	n.put(sizelistName, list+"3.a 100 8:55:0\n")
	n.want("UID3-55 UID4 3.a")

	n = newNumbered(t, Options{UIDL: "courier"})
	n.deliver("cur/4+'b:2,", 4)
	n.put(sizelistName, list+"3.a 1 7:55:0\n4+'b 100 0:0:0\n")
	n.want("UID3-55 UID4 UID7-55 4+2B+27b")
}

// TestMailFromBefore has the list lost of messages that clients have from Dovecot,
// and nobody has retrieved here.
func TestMailFromBefore(t *testing.T) {
	n := newNumbered(t, Options{})
	n.put(uidlistName, uidlist)
	n.want("000000070000000a 000000080000000a 3.a")
	n.adapter.background.Wait()
	if err := os.Remove(filepath.Join(n.dir, uidlistName)); err != nil {
		t.Fatal(err)
	}
	n.want("000000080000000a 000000070000000a 3.a")
}

func TestReuseXUIDL(t *testing.T) {
	n := newNumbered(t, Options{ReuseXUIDL: true})
	n.put("new/4.a", "Subject: none\n\nX-UIDL: no\n")
	n.want("x0 x1 x2 4.a")
}

// TestOrderedRemoval has messages in another order than their files, and removes
// some.
func TestOrderedRemoval(t *testing.T) {
	n := newNumbered(t, Options{})
	n.put(uidlistName, uidlist)
	d, err := n.adapter.Open(t.Context(), n.account)
	if err != nil {
		t.Fatal(err)
	}
	var gone []int
	if err := d.Delete(t.Context(), []int{0, 2}, func(i int) { gone = append(gone, i) }); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if len(gone) != 2 || gone[0]+gone[1] != 2 {
		t.Errorf("gone are %v", gone)
	}
	left, _ := filepath.Glob(n.dir + "/cur/*")
	if len(left) != 1 || filepath.Base(left[0]) != "1.a:2,S" {
		t.Errorf("left are %q", left)
	}
	n.want("000000080000000a")
}

// TestDuplicateStays has two files of one base name, of which one goes.
func TestDuplicateStays(t *testing.T) {
	n := newNumbered(t, Options{})
	n.deliver("new/1.a", 7)
	both, err := n.session(false)
	if err != nil {
		t.Fatal(err)
	}
	ids := strings.Fields(both)
	if ids[0] != "1.a" || ids[1] == "1.a" {
		t.Fatalf("%q", ids)
	}
	d, err := n.adapter.Open(t.Context(), n.account)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), []int{0}, func(int) {}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	n.want(strings.Join(ids[1:], " "))
}

// A list of many messages that are not in the Maildir, which its owner may write,
// takes up no memory.
func TestNumbersMemory(t *testing.T) {
	for _, tt := range []struct {
		parse      parser
		head, line string
	}{
		{parseUidlist, "3 V10 N9\n", "%[1]d W100 Gabcdef%[1]d :%[1]d.a\n"},
		{parseSizelist, "/3 9 55\n", "%[1]d.a 100 %[1]d:55:0\n"},
	} {
		heap := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before, at := heap(), 0
		n := &numbers{index: map[string]int32{"1.a": 0, "200000.a": 1}, of: make([]number, 2)}
		err := n.read(readerFunc(func(p []byte) (int, error) {
			switch at++; at {
			case 1:
				return copy(p, tt.head), nil
			case 200_001:
				if more := heap() - before; more > 1<<20 {
					t.Errorf("%d KB are taken up", more>>10)
				}
				return 0, io.EOF
			}
			return copy(p, fmt.Sprintf(tt.line, at)), nil
		}), tt.parse)
		if err != nil || n.of[0].uid != 0 || n.of[1].uid != 200_000 {
			t.Errorf("numbers are %v, %v", n.of, err)
		}
	}
	n := &numbers{}
	if err := n.read(strings.NewReader("3 V10 N9 "+strings.Repeat("x", 1<<20)+"\n"), parseUidlist); err != errNumbers {
		t.Errorf("of a line without an end the error is %v", err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestPollReadsNoList(t *testing.T) {
	n := newNumbered(t, Options{})
	n.put(uidlistName, uidlist)
	n.want("000000070000000a 000000080000000a 3.a")
	before := n.adapter.arranged.get(n.dir)
	n.want("000000070000000a 000000080000000a 3.a")
	if before == nil || n.adapter.arranged.get(n.dir) != before {
		t.Error("an unchanged list was read again")
	}
}

func TestExport(t *testing.T) {
	n := newNumbered(t, Options{})
	n.put(uidlistName, uidlist)
	d, err := n.adapter.Open(t.Context(), n.account)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var b strings.Builder
	if err := d.(*drop).ExportUIDs(t.Context(), func(l uidl.Listed) error { return l.Write(&b) }); err != nil {
		t.Fatal(err)
	}
	want := "000000070000000a\t<1@example.org>\t49\n000000080000000a\t<0@example.org>\t49\n3.a\t<2@example.org>\t49\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestWrongForm(t *testing.T) {
	_, err := New(Options{Path: "/x/{user}", UIDL: "gmail"}, new(gateway.Locks), nil, slog.New(slog.DiscardHandler))
	if err == nil || !strings.HasPrefix(err.Error(), `uidl: found "gmail", which needs message ids of Gmail`) {
		t.Errorf("error is %v", err)
	}
}

func FuzzNumbers(f *testing.F) {
	f.Add(uidlist)
	f.Add("1 10 9\n7 2.a:2,\n")
	f.Add("/3 9 55\n1.a 100 3:55:0\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []parser{parseUidlist, parseSizelist} {
			n := &numbers{index: map[string]int32{"1.a": 0, "2.a": 1}, of: make([]number, 2)}
			if err := n.read(strings.NewReader(text), parse); err == nil && n.version == "" {
				t.Error("neither numbers nor an error")
			}
		}
	})
}

func md5Hex(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }

// BenchmarkImported opens an unchanged maildrop of 100,000 messages whose clients
// know one by another name, and writes the unique-ids.
func BenchmarkImported(b *testing.B) {
	const messages = 100_000
	a, path := oneMaildir(b)
	for i := range messages {
		name := fmt.Sprintf("cur/%d.M%dP1234.host.example.org,S=20:2,S", 1700000000+i, i)
		write(b, path, name, fmt.Sprintf("Message-ID: <%d>\n\n", i))
		age(b, path+"/"+name, time.Hour)
	}
	db, err := durable.Open(b.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	book := uidl.NewBook(db, slog.New(slog.DiscardHandler))
	list := []uidl.Listed{{UID: "old", Reference: "<7>", Size: -1}}
	if err := book.Import(b.Context(), ann.Name, "", list); err != nil {
		b.Fatal(err)
	}
	a.UseBook(book)
	closeMaildrop(b, open(b, a, ann)) // which looks for the known message
	b.ReportAllocs()
	var out []byte
	for b.Loop() {
		d := open(b, a, ann)
		for i := range d.Len() {
			out = d.AppendUID(out[:0], i)
		}
		closeMaildrop(b, d)
	}
}

// What a dovecot-uidlist says of a large maildrop takes up little.
func TestPackedNumbers(t *testing.T) {
	of := make([]number, 100_000)
	for i := range of {
		of[i] = number{uid: uint32(i + 1), validity: 10}
	}
	others := map[int]number{
		3:  {},
		5:  {uid: 6, validity: 11},
		7:  {uid: 8, validity: 10, order: 1},
		9:  {uid: 10, validity: 10, pop3: "p"},
		11: {validity: 10, byName: true},
		13: {uid: 14, validity: 10, guid: "g"},
	}
	for i, k := range others {
		of[i] = k
	}
	p := packNumbers(of, 10)
	for i, want := range of {
		if got := p.at(i); got != want {
			t.Fatalf("message %d: %+v, want %+v", i, got, want)
		}
	}
	if per := float64(p.octets()) / float64(len(of)); per > 5 || len(p.others) != len(others)-1 {
		t.Errorf("%.1f octets for each message, %d apart", per, len(p.others))
	}
}
