package imap

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/gateway"
)

// remove deletes the marked messages and returns what was reported.
func remove(t testing.TB, d *maildrop, marked ...int) (removed []int, err error) {
	t.Helper()
	err = d.Delete(t.Context(), marked, func(i int) { removed = append(removed, i) })
	if (err == nil) != (len(removed) == len(marked)) {
		t.Errorf("Delete of %v reported %v and returned %v", marked, removed, err)
	}
	return removed, err
}

// DELE tells that the mailbox is read-only, or another one by now, and asks once.
func TestDeleteKnowsTheMailbox(t *testing.T) {
	const readOnly = "mailbox is read-only on the mail server"
	for _, o := range []Options{{}, {Policy: gateway.Policy{OnDelete: gateway.SeenOnDelete}}, {Policy: gateway.Policy{OnDelete: gateway.KeepOnDelete}}} {
		s := newFake("one", "two")
		s.does(answering("SELECT", "* 2 EXISTS\n* OK [UIDVALIDITY 2748] .\nOK [READ-ONLY] done"))
		d := s.open(t, o)
		for range 2 {
			if err := d.PermitDelete(0); o.Policy.OnDelete == gateway.KeepOnDelete && err == nil {
				continue
			} else {
				wantError(t, err, gateway.CodeSysPerm, readOnly, "READ-ONLY")
			}
			wantMessage(t, d, 0, "one") // reading goes on
		}
		if n := s.seen("SELECT"); n > 1 {
			t.Errorf("%d times SELECT", n)
		}
	}
	s := newFake("one", "two")
	d := s.open(t, Options{})
	s.change(func(s *fakeServer) { s.uidValidity++ })
	wantError(t, d.PermitDelete(0), gateway.CodeSysTemp, "mailbox was replaced on the mail server, log in again", "UIDVALIDITY")

	// What else may go wrong is left to QUIT, which tries again.
	for _, on := range []func(*fakeConn, string) bool{dropping("SELECT"), answering("SELECT", "NO [INUSE] locked")} {
		s := newFake("one", "two")
		d := s.open(t, Options{})
		s.does(once(on))
		if err := d.PermitDelete(0); err != nil {
			t.Errorf("DELE: %v", err)
		}
		if removed, err := remove(t, d, 0); err != nil || len(removed) != 1 {
			t.Errorf("QUIT: %v, %v", removed, err)
		}
	}
	// Messages on their way are not lost for it.
	s = newFake("1", "2", "3", "4", "5", "6")
	d = s.open(t, Options{})
	for i := range 3 {
		wantMessage(t, d, i, fmt.Sprint(i+1))
	}
	if d.ahead == nil {
		t.Fatal("nothing is prefetched")
	}
	if err := d.PermitDelete(0); err != nil || s.seen("SELECT") > 0 {
		t.Errorf("%v, %d times SELECT", err, s.seen("SELECT"))
	}
	wantMessage(t, d, 3, "4")
}

func TestDelete(t *testing.T) {
	on := func(on func(*fakeConn, string) bool) func(*fakeServer) {
		return func(s *fakeServer) { s.does(on) }
	}
	toTrash := Options{Policy: gateway.Policy{OnDelete: gateway.MoveToTrash, TrashMailbox: "Trash"}}
	for _, tt := range []struct {
		name    string
		options Options
		set     func(*fakeServer) // once the maildrop is open
		caps    string
		marked  []int
		removed []int
		left    []imap.UID
		copied  []imap.UID
		code    gateway.Code
		text    string
		cause   string
	}{
		{name: "expunge", marked: []int{0, 2}, removed: []int{0, 2}, left: []imap.UID{20, 40}},
		{name: "flagged by others", marked: []int{0}, removed: []int{0}, left: []imap.UID{20, 30, 40},
			set: func(s *fakeServer) { s.messages[1].flags = []string{`\Deleted`} }},
		{name: "already gone", marked: []int{1, 2}, removed: []int{1, 2}, left: []imap.UID{10, 40},
			set: func(s *fakeServer) { s.messages = slices.Delete(s.messages, 1, 2) }},
		{name: "new mail", marked: []int{0, 1, 2, 3}, removed: []int{0, 1, 2, 3}, left: []imap.UID{35, 41},
			set: func(s *fakeServer) { // one of them late, and out of order
				s.messages = append(s.messages, &fakeMessage{uid: 35}, &fakeMessage{uid: 41})
			}},
		{name: "OK, and nothing is done", marked: []int{0, 2}, left: []imap.UID{10, 20, 30, 40},
			set: on(answering("UID STORE", "OK")), code: "SYS/PERM",
			text: "mail server accepts the removal and keeps the messages", cause: "rights"},
		{name: "some stay", marked: []int{0, 1}, removed: []int{0}, left: []imap.UID{20, 30, 40},
			set: on(func(c *fakeConn, command string) bool {
				if strings.HasPrefix(command, "UID STORE") {
					c.answer(`UID STORE 10 +FLAGS.SILENT (\Deleted)`)
					return true
				}
				return false
			}), code: "SYS/PERM", text: "mail server accepts the removal and keeps the messages"},
		{name: "STORE refused", marked: []int{0}, left: []imap.UID{10, 20, 30, 40},
			set: on(answering("UID STORE", "NO [NOPERM] no")), code: "SYS/PERM",
			text: "mail server does not permit this", cause: "rights"},
		{name: "EXPUNGE refused", marked: []int{0}, left: []imap.UID{10, 20, 30, 40},
			set: on(answering("UID EXPUNGE", "NO [INUSE] no")), code: "IN-USE",
			text: "mailbox is in use on the mail server, try again later"},
		{name: "search refused", marked: []int{0}, left: []imap.UID{20, 30, 40}, // removed, and nobody knows
			set: on(answering("UID SEARCH", "NO no")), code: "SYS/TEMP",
			text: "mail server refused, try again later"},
		{name: "STORE refused, search says nothing", marked: []int{0}, left: []imap.UID{10, 20, 30, 40},
			set: on(func(c *fakeConn, command string) bool {
				return answering("UID STORE", "NO [NOPERM] no")(c, command) || answering("UID SEARCH", "OK")(c, command)
			}), code: "SYS/PERM", text: "mail server does not permit this"},
		{name: "ESEARCH says nothing", caps: basicCaps + " ESEARCH", marked: []int{0}, left: []imap.UID{20, 30, 40},
			set: on(answering("UID SEARCH", "OK")), code: "SYS/TEMP",
			text: "mail server cannot be used now, try again later", cause: "did not answer a search"},
		{name: "ESEARCH with sequence numbers", caps: basicCaps + " ESEARCH", marked: []int{0}, left: []imap.UID{20, 30, 40},
			set: on(answering("UID SEARCH", "* ESEARCH (TAG \"$TAG\") ALL 1:2\nOK")), code: "SYS/TEMP",
			text: "mail server cannot be used now, try again later", cause: "sequence numbers"},
		{name: "ESEARCH", caps: basicCaps + " ESEARCH", marked: []int{0}, removed: []int{0}, left: []imap.UID{20, 30, 40},
			set: on(answering("UID SEARCH", "* ESEARCH (TAG \"$TAG\") UID\nOK"))},
		{name: "ESEARCH finds some, out of order", caps: basicCaps + " ESEARCH", marked: []int{0, 1, 2}, removed: []int{1}, left: []imap.UID{40},
			set: on(answering("UID SEARCH", "* ESEARCH (TAG \"$TAG\") UID ALL 30,5:10\nOK")), code: "SYS/PERM",
			text: "mail server accepts the removal and keeps the messages"},
		{name: "read-only", marked: []int{0}, left: []imap.UID{10, 20, 30, 40},
			set: on(answering("SELECT", "* 4 EXISTS\n* OK [UIDVALIDITY 2748] .\nOK [READ-ONLY] done")), code: "SYS/PERM",
			text: "mailbox is read-only on the mail server", cause: `on_delete = "keep"`},
		{name: "replaced", marked: []int{0}, left: []imap.UID{10, 20, 30, 40},
			set: func(s *fakeServer) { s.uidValidity++ }, code: "SYS/TEMP",
			text: "mailbox was replaced on the mail server, log in again", cause: "was 2748 and is 2749"},
		{name: "lost before", marked: []int{0, 1}, removed: []int{0, 1}, left: []imap.UID{30, 40},
			set: on(once(dropping("SELECT"))), code: "SYS/TEMP"},
		{name: "lost between STORE and EXPUNGE", marked: []int{0, 1}, removed: []int{0, 1}, left: []imap.UID{30, 40},
			set: on(once(dropping("UID EXPUNGE")))},
		{name: "lost behind EXPUNGE", marked: []int{0, 1}, removed: []int{0, 1}, left: []imap.UID{30, 40},
			set: on(once(func(c *fakeConn, command string) bool {
				return c.seen("UID EXPUNGE") > 0 && dropping("UID SEARCH")(c, command)
			}))},
		{name: "lost for good", marked: []int{0, 1}, left: []imap.UID{10, 20, 30, 40},
			set: on(dropping("UID EXPUNGE")), code: "SYS/TEMP",
			text: "mail server closed the connection, try again later"},
		{name: "lost and replaced", marked: []int{0, 1}, left: []imap.UID{10, 20, 30, 40},
			set: on(once(func(c *fakeConn, command string) bool {
				if strings.HasPrefix(command, "UID EXPUNGE") {
					c.mu.Lock()
					c.uidValidity++
					c.mu.Unlock()
					c.Close()
					return true
				}
				return false
			})), code: "SYS/TEMP", text: "mailbox was replaced on the mail server, log in again"},
		{name: "no UIDPLUS", caps: "IMAP4rev1 MOVE", marked: []int{0}, left: []imap.UID{10, 20, 30, 40}, code: "SYS/PERM",
			text: "mail server has no UIDPLUS, so messages cannot be removed safely", cause: "on_delete"},
		{name: "MOVE", options: toTrash, caps: "IMAP4rev1 MOVE", marked: []int{0, 2}, removed: []int{0, 2},
			left: []imap.UID{20, 40}, copied: []imap.UID{10, 30}},
		{name: "MOVE refused", options: toTrash, caps: "IMAP4rev1 MOVE UIDPLUS", marked: []int{0}, left: []imap.UID{10, 20, 30, 40},
			set: on(answering("UID MOVE", "NO [TRYCREATE] no")), code: "SYS/PERM",
			text: "no such mailbox on the mail server", cause: "trash_mailbox"},
		{name: "COPY", options: toTrash, marked: []int{0, 2}, removed: []int{0, 2},
			left: []imap.UID{20, 40}, copied: []imap.UID{10, 30}},
		{name: "lost behind COPY", options: toTrash, marked: []int{0, 2}, removed: []int{0, 2},
			set: on(once(dropping("UID STORE"))), left: []imap.UID{20, 40}, copied: []imap.UID{10, 30}},
		{name: "lost in COPY", options: toTrash, marked: []int{0, 2}, removed: []int{0, 2},
			set: on(once(dropping("UID COPY"))), left: []imap.UID{20, 40}, copied: []imap.UID{10, 30}},
		{name: "COPY refused", options: toTrash, marked: []int{0, 2}, left: []imap.UID{10, 20, 30, 40},
			set: on(answering("UID COPY", "NO [OVERQUOTA] no")), code: "SYS/PERM",
			text: "mailbox has no room left", cause: "quota"},
		{name: "MOVE in lower case", options: toTrash, caps: "IMAP4rev1 move uidplus", marked: []int{0}, removed: []int{0},
			left: []imap.UID{20, 30, 40}, copied: []imap.UID{10}},
		{name: "neither MOVE nor UIDPLUS", options: toTrash, caps: "IMAP4rev1", marked: []int{0}, left: []imap.UID{10, 20, 30, 40}, code: "SYS/PERM",
			text: "mail server has no UIDPLUS, so messages cannot be removed safely"},
		{name: "no trash", options: Options{Policy: gateway.Policy{OnDelete: gateway.MoveToTrash}}, marked: []int{0}, left: []imap.UID{10, 20, 30, 40}, code: "SYS/PERM",
			text: "mail server has no trash mailbox, so messages cannot be removed", cause: "set trash_mailbox"},
		{name: "no trash of that name", options: Options{Policy: gateway.Policy{OnDelete: gateway.MoveToTrash, TrashMailbox: "None"}}, marked: []int{0}, left: []imap.UID{10, 20, 30, 40}, code: "SYS/PERM",
			text: "mail server has no trash mailbox, so messages cannot be removed", cause: `no mailbox "None"; create it, or mend trash_mailbox`},
		{name: "in the trash", options: Options{Policy: gateway.Policy{OnDelete: gateway.MoveToTrash, TrashMailbox: "INBOX"}}, marked: []int{0}, removed: []int{0}, left: []imap.UID{20, 30, 40}},
		{name: "seen", options: Options{Policy: gateway.Policy{OnDelete: gateway.SeenOnDelete}}, caps: "IMAP4rev1", marked: []int{0, 1}, removed: []int{0, 1}, left: []imap.UID{10, 20, 30, 40}},
		{name: "seen, and nothing is done", options: Options{Policy: gateway.Policy{OnDelete: gateway.SeenOnDelete}}, marked: []int{0, 1}, left: []imap.UID{10, 20, 30, 40},
			set: on(answering("UID STORE", "OK")), code: "SYS/PERM", text: "mail server accepts the removal and keeps the messages"},
		{name: "keep", options: Options{Policy: gateway.Policy{OnDelete: gateway.KeepOnDelete}}, marked: []int{0, 1}, removed: []int{0, 1}, left: []imap.UID{10, 20, 30, 40},
			set: func(s *fakeServer) { s.caps = "IMAP4rev1" }},
		{name: "nothing", marked: nil, left: []imap.UID{10, 20, 30, 40}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newFake("one", "two", "three", "four")
			if tt.caps != "" {
				s.caps = tt.caps
			}
			d := s.open(t, tt.options)
			if strings.Contains(tt.name, "no ") || strings.Contains(tt.name, "neither") {
				wantError(t, d.PermitDelete(0), tt.code, tt.text, tt.cause)
			}
			if tt.set != nil {
				tt.set(s)
			}
			removed, err := remove(t, d, tt.marked...)
			if !slices.Equal(removed, tt.removed) {
				t.Errorf("removed %v, want %v", removed, tt.removed)
			}
			if len(tt.removed) < len(tt.marked) {
				wantError(t, err, tt.code, tt.text, tt.cause)
			}
			if left := s.left(); !slices.Equal(left, tt.left) {
				t.Errorf("left are %v, want %v", left, tt.left)
			}
			if !slices.Equal(s.copied, tt.copied) {
				t.Errorf("copied are %v, want %v", s.copied, tt.copied)
			}
			d.Close()
			if s.seen("EXPUNGE")+s.seen("CLOSE") > 0 {
				t.Errorf("a command that removes what others have flagged: %q", s.commands)
			}
		})
	}
}

func TestTrashByAttribute(t *testing.T) {
	for _, caps := range []string{"", " SPECIAL-USE LIST-EXTENDED"} {
		s := newFake("one")
		s.caps = "IMAP4rev1 MOVE" + caps
		s.does(answering("LIST", `* LIST (\HasNoChildren) "/" Work`+"\n"+`* LIST (\trash) "/" "Gel&APY-scht"`+"\nOK"))
		d := s.open(t, Options{Policy: gateway.Policy{OnDelete: gateway.MoveToTrash}})
		if d.trash != "Gelöscht" {
			t.Errorf("trash is %q", d.trash)
		}
		if _, err := remove(t, d, 0); err != nil {
			t.Error(err)
		}
		if s.seen(`UID MOVE 10 "Gel&APY-scht"`) != 1 {
			t.Errorf("%q", s.commands)
		}
	}
}

// Each command removes a bounded number of messages, and a range holds no UID
// that was not listed.
func TestChunks(t *testing.T) {
	var l listing
	for i := range 20000 {
		uid := 4_000_000_000 + i*3
		if i >= 10000 {
			uid = 4_100_000_000 + i
		}
		l.add(imap.UID(uid), 1)
	}
	indexes := make([]int, l.len())
	for i := range indexes {
		indexes[i] = i
	}
	var all []uint32
	for len(indexes) > 0 {
		set, n := l.chunk(indexes)
		nums, ok := set.Nums()
		if n == 0 || n > maxSetMessages || len(set.String()) > maxSetOctets || !ok {
			t.Fatalf("chunk of %d messages, %d octets", n, len(set.String()))
		}
		for _, uid := range nums {
			all = append(all, uint32(uid))
		}
		indexes = indexes[n:]
	}
	if !slices.Equal(all, l.uids) {
		t.Errorf("the chunks have %d UIDs, want %d", len(all), len(l.uids))
	}
}

// A failure in one chunk does not keep the next from being removed.
func TestDeleteGoesOn(t *testing.T) {
	s := newFake(make([]string, 3*maxSetMessages)...)
	for i, m := range s.messages {
		m.uid, m.raw = imap.UID(i+1), "x"
	}
	d := s.open(t, Options{})
	s.does(once(answering("UID STORE", "NO [LIMIT] not now")))
	marked := make([]int, 3*maxSetMessages)
	for i := range marked {
		marked[i] = i
	}
	removed, err := remove(t, d, marked...)
	wantError(t, err, gateway.CodeSysTemp, "mail server limits the use of this account, try again later", "removing")
	if len(removed) != 2*maxSetMessages || removed[0] != maxSetMessages {
		t.Errorf("removed %d messages", len(removed))
	}
}

func TestSeenOnRetrieve(t *testing.T) {
	for _, quit := range []bool{true, false} {
		s := newFake("one", "two", "three", "four")
		d := s.open(t, Options{Policy: gateway.Policy{OnRetrieve: gateway.SeenOnRetrieve}})
		wantMessage(t, d, 0, "one")
		wantMessage(t, d, 2, "three")
		if _, err := read(t, d, 1, 100); err != nil { // TOP may reach the end
			t.Fatal(err)
		}
		r, err := d.Retrieve(t.Context(), 3, -1)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if s.seen("SELECT") > 0 {
			t.Error("reading opened the mailbox for writing")
		}
		if quit {
			remove(t, d, 2)
		}
		d.Close()
		var seen []imap.UID
		s.mu.Lock()
		for _, m := range s.messages {
			if slices.Contains(m.flags, `\Seen`) {
				seen = append(seen, m.uid)
			}
		}
		s.mu.Unlock()
		want := []imap.UID{10, 30}
		if quit { // message 30 is removed
			want = want[:1]
		}
		if !slices.Equal(seen, want) {
			t.Errorf("quit %v: seen are %v, want %v", quit, seen, want)
		}
	}
}

// What was retrieved is marked on another connection, if the first is gone, and
// that one is closed as well.
func TestSeenAfterLoss(t *testing.T) {
	for _, abandoned := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newFake("one", strings.Repeat("x", 1<<20))
			a, _ := s.adapter(t, Options{Policy: gateway.Policy{OnRetrieve: gateway.SeenOnRetrieve}})
			opened, err := a.Open(context.Background(), account(a))
			if err != nil {
				t.Fatal(err)
			}
			d := opened.(*maildrop)
			wantMessage(t, d, 0, "one")
			if abandoned {
				r, err := d.Retrieve(t.Context(), 1, -1)
				if err != nil {
					t.Fatal(err)
				}
				r.Close()
			} else {
				s.does(once(dropping("SELECT")))
			}
			d.Close()
			if n := s.dialled(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
			if !slices.Equal(s.messages[0].flags, []string{`\Seen`}) {
				t.Errorf("flags are %q", s.messages[0].flags)
			}
		}) // fails if a goroutine, and so a connection, is left
	}
}

// Close is quick, and what it starts comes to an end.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake("one")
		a, _ := s.adapter(t, Options{Policy: gateway.Policy{OnRetrieve: gateway.SeenOnRetrieve}})
		d, err := a.Open(context.Background(), account(a))
		if err != nil {
			t.Fatal(err)
		}
		silent := func(prefix string) {
			s.does(func(_ *fakeConn, command string) bool { return strings.HasPrefix(command, prefix) })
		}
		silent("LOGOUT")
		start := time.Now()
		if err := d.Close(); err != nil || time.Since(start) > 0 {
			t.Errorf("Close: %v after %v", err, time.Since(start))
		}
		d, err = a.Open(context.Background(), account(a)) // while LOGOUT goes on
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, d, 0, "one")
		silent("")
		start = time.Now()
		if err := d.Close(); err != nil || time.Since(start) > closeWait {
			t.Errorf("Close of a silent server: %v after %v", err, time.Since(start))
		}
	})
}

func TestUpdateDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake("one", "two")
		d := s.open(t, Options{})
		s.does(func(_ *fakeConn, command string) bool { return strings.HasPrefix(command, "UID STORE") })
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		start := time.Now()
		err := d.Delete(ctx, []int{0, 1}, func(i int) { t.Errorf("removed(%d)", i) })
		wantError(t, err, gateway.CodeSysTemp, "mail server does not answer in time, try again later", "removing messages")
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited for %v", waited)
		}
		d.Close()
	})
}
