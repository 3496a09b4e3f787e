package imap

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"pop3gw/gateway"
)

func TestList(t *testing.T) {
	const incomplete = "mail server does not list all messages, try again later"
	remove := func(c *fakeConn, i int) {
		c.mu.Lock()
		c.messages = slices.Delete(c.messages, i, i+1)
		c.mu.Unlock()
	}
	for _, tt := range []struct {
		name string
		on   func(*fakeConn, string) bool
		want []uint32
		code gateway.Code
		text string
	}{
		{name: "plain", want: []uint32{10, 20, 30}},
		{name: "one goes before the listing", want: []uint32{10, 30},
			on: once(func(c *fakeConn, command string) bool {
				if strings.HasPrefix(command, "UID FETCH") {
					remove(c, 1)
				}
				return false
			})},
		{name: "one goes behind the listing", want: []uint32{10, 20, 30},
			on: once(func(c *fakeConn, command string) bool {
				if !strings.HasPrefix(command, "UID FETCH") {
					return false
				}
				c.answer(command)
				remove(c, 1)
				return true
			})},
		{name: "one comes before the listing", want: []uint32{10, 20, 30, 31},
			on: once(func(c *fakeConn, command string) bool {
				if strings.HasPrefix(command, "UID FETCH") {
					c.mu.Lock()
					c.messages = append(c.messages, &fakeMessage{uid: 31, raw: "new"})
					c.mu.Unlock()
				}
				return false
			})},
		{name: "left out once", want: []uint32{10, 20, 30},
			on: once(answering("UID FETCH", "* 1 FETCH (UID 10 RFC822.SIZE 3)\nOK"))},
		{name: "left out", code: "SYS/TEMP", text: incomplete,
			on: answering("UID FETCH", "* 1 FETCH (UID 10 RFC822.SIZE 3)\n* 3 FETCH (UID 30 RFC822.SIZE 3)\nOK")},
		{name: "nothing listed", code: "SYS/TEMP", text: incomplete,
			on: answering("UID FETCH", "OK")},
		{name: "nothing listed, nothing found", code: "SYS/TEMP", text: incomplete,
			on: func(c *fakeConn, command string) bool {
				return answering("UID FETCH", "OK")(c, command) || answering("UID SEARCH", "OK")(c, command)
			}},
		{name: "refused", code: "SYS/TEMP", text: "mail server refused, try again later",
			on: answering("UID FETCH", "* 1 FETCH (UID 10 RFC822.SIZE 3)\nNO internal error")},
		{name: "cut off", code: "SYS/TEMP", text: "mail server closed the connection, try again later",
			on: dropping("UID FETCH")},
		{name: "garbage", code: "SYS/TEMP", text: "mail server sent something that is not IMAP, try again later",
			on: answering("UID FETCH", "* 1 FETCH ((((\nOK")},
		{name: "out of order and twice", want: []uint32{10, 20, 30},
			on: answering("UID FETCH", "* 3 FETCH (UID 30 RFC822.SIZE 3)\n* 1 FETCH (UID 10 RFC822.SIZE 3)\n* 2 FETCH (UID 20 RFC822.SIZE 3)\n* 1 FETCH (UID 10 RFC822.SIZE 3)\nOK")},
		{name: "two messages with one UID", code: "SYS/TEMP", text: "mail server sent something that is not IMAP, try again later",
			on: func(c *fakeConn, command string) bool {
				return answering("UID FETCH", "* 1 FETCH (UID 10 RFC822.SIZE 3)\n* 2 FETCH (UID 10 RFC822.SIZE 3)\n* 3 FETCH (UID 30 RFC822.SIZE 3)\nOK")(c, command) ||
					answering("UID SEARCH", "* SEARCH 10 30\nOK")(c, command)
			}},
		{name: "EXISTS is missing", code: "SYS/TEMP", text: incomplete,
			on: answering("EXAMINE", "* OK [UIDVALIDITY 2748] .\n* OK [UIDNEXT 31] .\nOK")},
		{name: "no UIDVALIDITY", code: "SYS/PERM", text: "mail server cannot tell its messages apart over time",
			on: answering("EXAMINE", "* 3 EXISTS\n* OK [UIDNEXT 31] .\nOK [READ-ONLY] done")},
		{name: "no such mailbox", code: "SYS/PERM", text: "mailbox cannot be opened on the mail server",
			on: answering("EXAMINE", "NO what?")},
		{name: "mailbox without rights", code: "SYS/PERM", text: "mail server does not permit this",
			on: answering("EXAMINE", "NO [NOPERM] no")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newFake("one", "two", "six")
			s.does(tt.on)
			a, _ := s.adapter(t, Options{})
			opened, err := a.Open(t.Context(), account(a))
			if tt.code != "" {
				wantError(t, err, tt.code, tt.text, "imap.example.org:143")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close()
			d := opened.(*maildrop)
			if !slices.Equal(d.messages.uids, tt.want) {
				t.Errorf("UIDs are %v, want %v", d.messages.uids, tt.want)
			}
			for i := range d.Len() {
				if d.Size(i) != 3 {
					t.Errorf("Size(%d) is %d", i, d.Size(i))
				}
			}
		})
	}
}

// Courier gives new messages UIDs that last, and a mailbox that nobody has
// selected a UIDVALIDITY that does, only with SELECT. It tells no UIDNEXT.
func TestWithoutUIDNext(t *testing.T) {
	s := newFake("one", "two", "six")
	s.noUIDNext = true
	lasts := false
	s.does(func(c *fakeConn, command string) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		selects := strings.HasPrefix(command, "SELECT")
		if !lasts && (selects || strings.HasPrefix(command, "EXAMINE")) {
			c.uidValidity++
			for _, m := range c.messages {
				m.uid++
			}
		}
		lasts = lasts || selects
		return false
	})
	a, _ := s.adapter(t, Options{})
	var first string
	for range 3 {
		d, err := a.Open(t.Context(), account(a))
		if err != nil {
			t.Fatal(err)
		}
		uid := string(d.AppendUID(nil, 2))
		if first == "" {
			first = uid
		}
		if uid != first {
			t.Errorf("unique-id was %s and is %s", first, uid)
		}
		wantMessage(t, d.(*maildrop), 2, "six")
		if err := d.Delete(t.Context(), []int{0}, func(int) {}); err != nil {
			t.Errorf("Delete: %v", err)
		}
		d.Close()
		s.mu.Lock()
		s.messages = append([]*fakeMessage{{uid: 1, raw: "old"}}, s.messages...)
		s.mu.Unlock()
	}
}

func TestEmptyMailbox(t *testing.T) {
	s := newFake()
	if n := s.open(t, Options{}).Len(); n != 0 {
		t.Errorf("%d messages", n)
	}
	if s.seen("UID FETCH") > 0 {
		t.Error("FETCH 1:* in an empty mailbox is BAD on some servers")
	}
}

// The form is that of a running Dovecot.
func TestUniqueID(t *testing.T) {
	s := newFake("x")
	s.messages[0].uid, s.uidValidity = 0xfedcba98, 0x1234abc
	d := s.open(t, Options{})
	if got, want := string(d.AppendUID([]byte("1 "), 0)), "1 fedcba9801234abc"; got != want {
		t.Errorf("unique-id is %q, want %q", got, want)
	}
}

func TestLargeSizes(t *testing.T) {
	var l listing
	sizes := []int64{0, math.MaxUint32 - 1, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64}
	for i, size := range sizes {
		if err := l.add(imap.UID(100-i), size); err != nil {
			t.Fatal(err)
		}
	}
	l.sort()
	slices.Reverse(sizes)
	for i, size := range sizes {
		if l.size(i) != size {
			t.Errorf("size of %d is %d, want %d", l.uids[i], l.size(i), size)
		}
	}
}

func TestCovers(t *testing.T) {
	l := listing{uids: []uint32{3, 4, 7, math.MaxUint32}}
	for _, tt := range []struct {
		set   imap.UIDSet
		limit uint64
		want  bool
	}{
		{nil, 100, true},
		{imap.UIDSet{{Start: 3, Stop: 4}}, 100, true},
		{imap.UIDSet{{Start: 3, Stop: 4}, {Start: 7, Stop: 7}}, 100, true},
		{imap.UIDSet{{Start: 3, Stop: 5}}, 100, false},
		{imap.UIDSet{{Start: 3, Stop: 5}}, 5, true},
		{imap.UIDSet{{Start: 8, Stop: 9}}, 8, true},
		{imap.UIDSet{{Start: 1, Stop: math.MaxUint32}}, 1 << 32, false},
		{imap.UIDSet{{Start: math.MaxUint32, Stop: math.MaxUint32}}, 1 << 32, true},
		{imap.UIDSet{{Start: math.MaxUint32 - 1, Stop: math.MaxUint32}}, 1 << 32, false},
	} {
		if got := l.covers(tt.set, tt.limit); got != tt.want {
			t.Errorf("covers(%v, %d) = %v", tt.set, tt.limit, got)
		}
	}
}

func TestFolders(t *testing.T) {
	for _, tt := range []struct {
		folder    string
		separator rune
		want      []string
	}{
		{"Sent", '.', []string{"Sent"}},
		{"Lists/Go", '.', []string{"Lists.Go"}},
		{"Lists.Go", '.', []string{"Lists.Go"}},
		{"Lists/Go", '/', []string{"Lists/Go"}},
		{"Lists.Go/v1.2", '/', []string{"Lists.Go/v1.2", "Lists/Go/v1/2"}},
		{"a/b.c", '|', []string{"a|b.c", "a|b|c"}},
		{"a/b.c", 0, []string{"a/b.c"}},
	} {
		if got := folderNames(tt.folder, tt.separator); !slices.Equal(got, tt.want) {
			t.Errorf("folderNames(%q, %q) = %q, want %q", tt.folder, tt.separator, got, tt.want)
		}
	}

	s := newFake("x")
	s.does(func(c *fakeConn, command string) bool {
		if strings.HasPrefix(command, "EXAMINE") && !strings.HasSuffix(command, ` "Entw&APw-rfe.2024"`) {
			c.done("NO no such mailbox")
			return true
		}
		return false
	})
	a, _ := s.adapter(t, Options{Folders: true})
	in := func(folder string) gateway.Account {
		account := account(a)
		account.Folder = folder
		return account
	}
	d, err := a.Open(t.Context(), in("Entwürfe/2024"))
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	for _, folder := range []string{"None", "None\r\ny", "None\xff"} {
		_, err = a.Open(t.Context(), in(folder))
		wantError(t, err, gateway.CodeSysPerm, "no such folder", "None")
	}
	without, _ := s.adapter(t, Options{})
	_, err = without.Open(t.Context(), in("Sent"))
	wantError(t, err, gateway.CodeSysPerm, "no folders here, log in with the name alone", "folders = true")
}
