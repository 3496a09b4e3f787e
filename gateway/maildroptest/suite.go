package maildroptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/wire"
)

// Fixture is a store under test. TestAdapter asks for a new one for each of its
// tests; cleaning up is the fixture's own, by t.Cleanup.
type Fixture struct {
	Adapter gateway.Adapter

	// Locks are those of the adapter.
	Locks *gateway.Locks

	// Exact says that the store keeps any octets as they are given. Otherwise
	// the suite stores only messages of lines that end in CRLF, without NUL and
	// bare CR: what an IMAP server takes (RFC 9051 §2.3.4).
	Exact bool

	// Large is the number of messages in the test of a large maildrop; 0 means
	// 1000.
	Large int

	// Create makes an account that no earlier call made, with messages in its
	// maildrop, in the order in which the adapter lists them.
	Create func(t testing.TB, messages [][]byte) gateway.Account

	// Add stores a message at the end of the account's maildrop, behind the
	// adapter's back.
	Add func(t testing.TB, account gateway.Account, message []byte)

	// Remove removes the message that Create got as messages[i], or Add after
	// those, behind the adapter's back. It is asked for each i once at most.
	Remove func(t testing.TB, account gateway.Account, i int)

	// List returns the messages stored, in any order, without the adapter's help.
	List func(t testing.TB, account gateway.Account) [][]byte

	// The others are for the tests of policies, in whose fixtures Create marks no
	// message as read, and whose accounts have a folder Trash.

	// AddAged is Add of a message that came so long ago.
	AddAged func(t testing.TB, account gateway.Account, message []byte, age time.Duration)
	// AddTo is Add in another folder, which it makes if it is missing, and In is List of
	// that.
	AddTo func(t testing.TB, account gateway.Account, folder string, message []byte)
	In    func(t testing.TB, account gateway.Account, folder string) [][]byte
	// Read marks a message as read, behind the adapter's back. i is as for Remove.
	Read func(t testing.TB, account gateway.Account, i int)
	// Trash and Seen return the messages in the trash, and those of List that are
	// marked as read.
	Trash, Seen func(t testing.TB, account gateway.Account) [][]byte
}

// TestAdapter tests that an adapter keeps the contract of gateway.Adapter and
// gateway.Maildrop.
func TestAdapter(t *testing.T, newFixture func(t *testing.T) Fixture) {
	tests := []struct {
		name string
		run  func(*testing.T, Fixture)
	}{
		{"Empty", testEmpty},
		{"Octets", testOctets},
		{"Stable", testStable},
		{"Lines", testLines},
		{"CloseEarly", testCloseEarly},
		{"CloseKeeps", testCloseKeeps},
		{"Delete", testDelete},
		{"DeleteAll", testDeleteAll},
		{"AlreadyGone", testAlreadyGone},
		{"NewMail", testNewMail},
		{"Lock", testLock},
		{"LockRace", testLockRace},
		{"Cancelled", testCancelled},
		{"Accounts", testAccounts},
		{"Large", testLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, newFixture(t)) })
	}
}

func testEmpty(t *testing.T, f Fixture) {
	account := f.Create(t, nil)
	d := open(t, f, account)
	if n := d.Len(); n != 0 {
		t.Errorf("an empty maildrop has %d messages", n)
	}
	if err := d.Delete(t.Context(), nil, func(i int) { t.Errorf("removed(%d) without a mark", i) }); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
	closeMaildrop(t, d)
}

func testOctets(t *testing.T, f Fixture) {
	var names []string
	var messages [][]byte
	var sizes []int64
	for _, c := range octetCases() {
		if c.exact && !f.Exact {
			continue
		}
		names, messages, sizes = append(names, c.name), append(messages, []byte(c.raw)), append(sizes, c.octets)
	}
	account := f.Create(t, messages)
	d := open(t, f, account)
	if d.Len() != len(messages) {
		t.Fatalf("Len is %d; %d messages were stored", d.Len(), len(messages))
	}
	for i, name := range names {
		got := retrieve(t, d, i, -1)
		if f.Exact && !bytes.Equal(got, messages[i]) {
			t.Errorf("%s: retrieved %s, stored %s", name, excerpt(got), excerpt(messages[i]))
		}
		if !bytes.Equal(sent(t, got), sent(t, messages[i])) {
			t.Errorf("%s: RETR would send %s, want %s", name, excerpt(sent(t, got)), excerpt(sent(t, messages[i])))
		}
		if d.Size(i) != sizes[i] {
			t.Errorf("%s: Size is %d octets, RETR sends %d", name, d.Size(i), sizes[i])
		}
	}
	closeMaildrop(t, d)
}

// octetCase is a message and its size in octets as RETR sends it.
type octetCase struct {
	name   string
	raw    string
	octets int64
	exact  bool // only for a store that is Exact
}

func octetCases() []octetCase {
	const (
		header = "Subject: octets\r\n\r\n" // 19 octets
		mega   = 1 << 20
	)
	return []octetCase{
		{"crlf", header + "one\r\ntwo\r\n", 29, false},
		{"dots", header + ".\r\n..\r\n.three\r\n", 34, false},
		{"empty lines", header + "\r\n\r\n\r\n", 25, false},
		{"no body", header, 19, false},
		{"long line", header + strings.Repeat("x", mega) + "\r\n", 19 + mega + 2, false},
		{"many lines", header + strings.Repeat("0123456789\r\n", 50000), 19 + 12*50000, false},
		{"8-bit", header + "Gr\xfc\xdfe \xe2\x82\xac \xff\xfe\r\n", 19 + 14, false},
		{"first line a dot", ".\r\n.\r\nSubject: octets\r\n", 3 + 3 + 17, false},
		{"lf", "Subject: octets\n\none\ntwo\n", 29, true},
		{"mixed", "Subject: octets\n\r\none\r\ntwo\n", 29, true},
		{"no final line end", header + "one\r\ntwo", 29, true},
		{"final cr", header + "one\r", 24, true},
		{"header without end", "Subject: octets\r\n", 17, true},
		{"empty", "", 0, true},
		{"only lf", "\n", 2, true},
		{"first octet a dot", ".\n.\r\nSubject: octets\n", 3 + 3 + 17, true},
		{"bare cr", header + "a\rb\r\rc\r\r\nd\n", 19 + 9 + 3, true},
		{"nul", header + "a\x00b\x00\r\n", 19 + 6, true},
		{"long lf line", header + strings.Repeat("x", mega) + "\n" + strings.Repeat("y", mega), 19 + 2*mega + 4, true},
		{"many lf", header + strings.Repeat("\n", 70000), 19 + 2*70000, true},
	}
}

func testStable(t *testing.T, f Fixture) {
	messages := samples(7)
	account := f.Create(t, messages)
	d := open(t, f, account)
	first := uids(t, d)
	for i := range messages {
		if got := retrieve(t, d, i, -1); !bytes.Equal(sent(t, got), messages[i]) {
			t.Errorf("message %d is %s, want %s", i, excerpt(got), excerpt(messages[i]))
		}
	}
	// Reading once more gives the same: nothing was renamed or used up.
	if got := retrieve(t, d, 3, -1); !bytes.Equal(sent(t, got), messages[3]) {
		t.Errorf("message 3 read twice is %s", excerpt(got))
	}
	closeMaildrop(t, d)

	d = open(t, f, account)
	if again := uids(t, d); !slices.Equal(again, first) {
		t.Errorf("the second session lists %q, the first %q", again, first)
	}
	for i := range messages {
		if want := int64(len(messages[i])); d.Size(i) != want {
			t.Errorf("Size(%d) of the second session is %d, want %d", i, d.Size(i), want)
		}
	}
	closeMaildrop(t, d)

	f.Remove(t, account, 2)
	f.Add(t, account, sample(7))
	d = open(t, f, account)
	kept := slices.Delete(slices.Clone(first), 2, 3)
	third := uids(t, d)
	if len(third) != 7 || !slices.Equal(third[:6], kept) {
		t.Errorf("less message 2 and with a new one the maildrop lists %q, want %q and a new one", third, kept)
	} else if slices.Contains(first, third[6]) {
		t.Errorf("the new message has a UID that was in use: %q", third[6])
	}
	closeMaildrop(t, d)
}

func testLines(t *testing.T, f Fixture) {
	long := []byte("Subject: long\r\nX-Long: " + strings.Repeat("h", 100000) + "\r\n\r\n" +
		strings.Repeat(strings.Repeat("b", 998)+"\r\n", 2000))
	messages := [][]byte{sample(0), long}
	d := open(t, f, f.Create(t, messages))
	for i, message := range messages {
		for _, lines := range []int{0, 1, 2, 100, 1999, 2000, 2001, 1 << 30} {
			got := retrieve(t, d, i, lines)
			var top, want bytes.Buffer
			body := wire.Body{Lines: lines}
			if _, err := body.Copy(&top, bytes.NewReader(got)); err != nil {
				t.Fatal(err)
			}
			if _, err := body.Copy(&want, bytes.NewReader(message)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(top.Bytes(), want.Bytes()) {
				t.Errorf("TOP %d of message %d has %d octets, want %d", lines, i, top.Len(), want.Len())
			}
		}
		if got := retrieve(t, d, i, -1); !bytes.Equal(sent(t, got), message) {
			t.Errorf("message %d after TOP is %s", i, excerpt(got))
		}
	}
	closeMaildrop(t, d)
}

func testCloseEarly(t *testing.T, f Fixture) {
	messages := [][]byte{
		[]byte("Subject: big\r\n\r\n" + strings.Repeat("0123456789\r\n", 200000)),
		sample(1),
	}
	d := open(t, f, f.Create(t, messages))
	for _, octets := range []int{0, 10} {
		r, err := d.Retrieve(t.Context(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, octets)); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("Close after %d octets: %v", octets, err)
		}
		for i, message := range messages {
			if got := retrieve(t, d, i, -1); !bytes.Equal(sent(t, got), message) {
				t.Errorf("after a Close at %d octets message %d is %s", octets, i, excerpt(got))
			}
		}
	}
	closeMaildrop(t, d)
}

func testCloseKeeps(t *testing.T, f Fixture) {
	messages := samples(3)
	account := f.Create(t, messages)
	d := open(t, f, account)
	retrieve(t, d, 1, -1)
	closeMaildrop(t, d)
	wantStored(t, f, account, messages)
}

func testDelete(t *testing.T, f Fixture) {
	messages := samples(6)
	account := f.Create(t, messages)
	d := open(t, f, account)
	before := uids(t, d)
	retrieve(t, d, 1, -1)
	wantRemoved(t, d, []int{1, 2, 5}, nil)
	closeMaildrop(t, d)
	wantStored(t, f, account, [][]byte{messages[0], messages[3], messages[4]})

	d = open(t, f, account)
	if got, want := uids(t, d), []string{before[0], before[3], before[4]}; !slices.Equal(got, want) {
		t.Errorf("after Delete the maildrop lists %q, want %q", got, want)
	}
	closeMaildrop(t, d)
}

func testDeleteAll(t *testing.T, f Fixture) {
	account := f.Create(t, samples(20))
	d := open(t, f, account)
	marked := make([]int, 20)
	for i := range marked {
		marked[i] = i
	}
	wantRemoved(t, d, marked, nil)
	closeMaildrop(t, d)
	wantStored(t, f, account, nil)
	testEmpty(t, f) // in another account, which must not matter
	d = open(t, f, account)
	if d.Len() != 0 {
		t.Errorf("%d messages are left", d.Len())
	}
	closeMaildrop(t, d)
}

func testAlreadyGone(t *testing.T, f Fixture) {
	messages := samples(5)
	account := f.Create(t, messages)
	d := open(t, f, account)
	before := uids(t, d)
	f.Remove(t, account, 1)
	f.Remove(t, account, 3)
	for _, lines := range []int{-1, 0} {
		r, err := d.Retrieve(t.Context(), 1, lines)
		if err == nil {
			r.Close()
			t.Errorf("Retrieve of a missing message, lines %d: no error", lines)
		} else if !errors.Is(err, gateway.ErrGone) {
			t.Errorf("Retrieve of a missing message, lines %d: %v; want gateway.Gone", lines, err)
		}
	}
	if d.Len() != 5 || !slices.Equal(uids(t, d), before) {
		t.Errorf("the maildrop changed in the session: %d messages", d.Len())
	}
	for _, i := range []int{0, 2, 4} {
		if got := retrieve(t, d, i, -1); !bytes.Equal(sent(t, got), messages[i]) {
			t.Errorf("message %d is %s", i, excerpt(got))
		}
	}
	wantRemoved(t, d, []int{0, 1, 3}, nil)
	closeMaildrop(t, d)
	wantStored(t, f, account, [][]byte{messages[2], messages[4]})
}

func testNewMail(t *testing.T, f Fixture) {
	messages := samples(2)
	account := f.Create(t, messages)
	d := open(t, f, account)
	f.Add(t, account, sample(2))
	if d.Len() != 2 {
		t.Errorf("Len became %d in the session", d.Len())
	}
	if got := retrieve(t, d, 1, -1); !bytes.Equal(sent(t, got), messages[1]) {
		t.Errorf("message 1 is %s", excerpt(got))
	}
	wantRemoved(t, d, []int{0, 1}, nil)
	closeMaildrop(t, d)
	wantStored(t, f, account, [][]byte{sample(2)})
}

func testCancelled(t *testing.T, f Fixture) {
	messages := samples(2)
	account := f.Create(t, messages)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := f.Adapter.Open(ctx, account); err == nil {
		t.Error("Open with a cancelled context succeeded")
		d.Close()
	}
	// The lock is free, and a context that ends after Open does not matter.
	ctx, cancel = context.WithCancel(t.Context())
	d, err := f.Adapter.Open(ctx, account)
	cancel()
	if err != nil {
		t.Fatalf("Open after a cancelled one: %v", err)
	}
	if got := retrieve(t, d, 1, -1); !bytes.Equal(sent(t, got), messages[1]) {
		t.Errorf("message 1 is %s", excerpt(got))
	}
	closeMaildrop(t, d)
	wantStored(t, f, account, messages)
}

func testLarge(t *testing.T, f Fixture) {
	n := f.Large
	if n == 0 {
		n = 1000
	}
	messages := samples(n)
	account := f.Create(t, messages)
	d := open(t, f, account)
	if d.Len() != n {
		t.Fatalf("Len is %d, want %d", d.Len(), n)
	}
	uids(t, d)
	for i, message := range messages {
		if d.Size(i) != int64(len(message)) {
			t.Fatalf("Size(%d) is %d, want %d", i, d.Size(i), len(message))
		}
	}
	for _, i := range []int{0, n / 2, n - 1} {
		if got := retrieve(t, d, i, -1); !bytes.Equal(sent(t, got), messages[i]) {
			t.Errorf("message %d is %s", i, excerpt(got))
		}
	}
	var odd []int
	var left [][]byte
	for i := range n {
		if i%2 == 1 {
			odd = append(odd, i)
		} else {
			left = append(left, messages[i])
		}
	}
	wantRemoved(t, d, odd, nil)
	closeMaildrop(t, d)
	wantStored(t, f, account, left)
}

// sample returns a message that differs from those of every other n.
func sample(n int) []byte {
	return fmt.Appendf(nil, "Message-ID: <%d@example.org>\r\nSubject: message %d\r\n\r\nText %d.\r\n%s.\r\n",
		n, n, n, strings.Repeat("line\r\n", n%7))
}

func samples(n int) [][]byte {
	messages := make([][]byte, n)
	for i := range messages {
		messages[i] = sample(i)
	}
	return messages
}
