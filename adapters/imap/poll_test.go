package imap

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/gateway"
	"pop3gw/gateway/state/cache"
)

// without has no connections kept, so that each session logs in.
var without = Options{KeepConnections: Never}

// sent returns the verbs of what came in since the last call, LOGOUT left out.
func (s *fakeServer) sent() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var verbs []string
	for _, command := range s.commands {
		words := strings.Fields(command)
		if len(words) == 0 { // an answer to a challenge
			continue
		}
		verb := words[0]
		if verb == "UID" {
			verb = words[1]
			if verb == "FETCH" {
				verb += " " + words[2]
			}
		}
		if verb != "LOGOUT" {
			verbs = append(verbs, verb)
		}
	}
	s.commands = nil
	return strings.Join(verbs, " ")
}

// change does something to the mailbox.
func (s *fakeServer) change(do func(s *fakeServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(s)
}

func (s *fakeServer) add(uid imap.UID, raw string) {
	s.messages = append(s.messages, &fakeMessage{uid: uid, raw: raw})
}

func (s *fakeServer) remove(uids ...imap.UID) {
	s.messages = slices.DeleteFunc(s.messages, func(m *fakeMessage) bool { return slices.Contains(uids, m.uid) })
}

// poll opens the mailbox and compares it with what the server has.
func (s *fakeServer) poll(t *testing.T, a *Adapter) *maildrop {
	t.Helper()
	opened, err := a.Open(t.Context(), account(a))
	if err != nil {
		t.Fatal(err)
	}
	d := opened.(*maildrop)
	s.mu.Lock()
	defer s.mu.Unlock()
	var want, got []string
	for _, m := range s.messages {
		want = append(want, fmt.Sprint(m.uid, len(m.raw)))
	}
	for i, uid := range d.messages.uids {
		got = append(got, fmt.Sprint(uid, d.Size(i)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("UIDs with sizes are %v, want %v", got, want)
	}
	return d
}

// What is sent for a poll depends on what has changed.
func TestPoll(t *testing.T) {
	const rev1, esearch = "IMAP4rev1 UIDPLUS", "IMAP4rev1 UIDPLUS ESEARCH"
	for _, tt := range []struct {
		name   string
		caps   string
		change func(s *fakeServer)
		sent   string // behind LOGIN, CAPABILITY and EXAMINE
	}{
		{"nothing", rev1, func(s *fakeServer) {}, ""},
		{"nothing", esearch, func(s *fakeServer) {}, "SEARCH"},
		{"one more", rev1, func(s *fakeServer) { s.add(35, "more") }, "FETCH 31:*"},
		{"one more", esearch, func(s *fakeServer) { s.add(35, "more") }, "SEARCH FETCH 31:*"},
		{"one more came and went", rev1, func(s *fakeServer) { s.uidNext = 50 }, "FETCH 31:*"},
		{"one less", rev1, func(s *fakeServer) { s.uidNext = 31; s.remove(20) }, "SEARCH"},
		{"one less", esearch, func(s *fakeServer) { s.uidNext = 31; s.remove(20) }, "SEARCH SEARCH"},
		{"one for another", rev1, func(s *fakeServer) { s.remove(10); s.add(31, "other") }, "FETCH 31:* SEARCH"},
		{"one for another", esearch, func(s *fakeServer) { s.remove(30); s.add(31, "other") }, "SEARCH FETCH 31:* SEARCH"},
		{"nothing left", rev1, func(s *fakeServer) { s.uidNext = 31; s.remove(10, 20, 30) }, "SEARCH SEARCH"},
		{"nothing left", esearch, func(s *fakeServer) { s.uidNext = 31; s.remove(10, 20, 30) }, "SEARCH"},
		{"all others", rev1, func(s *fakeServer) { s.remove(10, 20, 30); s.add(40, "4"); s.add(41, "five!") }, "FETCH 31:* SEARCH"},
		{"UIDVALIDITY", rev1, func(s *fakeServer) { s.uidValidity++; s.messages[1].raw = "changed" }, "FETCH 1:*"},
		{"UIDNEXT back", rev1, func(s *fakeServer) { s.remove(30) }, "FETCH 1:*"},
		{"unlawful: new message with an old UID", rev1, func(s *fakeServer) {
			s.messages[0].uid = 9
			s.messages[0].raw = "?"
			s.add(11, "x")
			s.uidNext = 31
			slices.SortFunc(s.messages, byFakeUID)
		}, "FETCH 1:*"},
		{"unlawful: other messages with old UIDs", esearch, func(s *fakeServer) { s.messages[0].uid = 9; s.messages[0].raw = "?" }, "SEARCH FETCH 1:*"},
		{"HIGHESTMODSEQ", rev1, func(s *fakeServer) { s.modSeq = 8 }, ""},
		{"HIGHESTMODSEQ back", rev1, func(s *fakeServer) { s.modSeq = 6; s.messages[0].raw = "!" }, "FETCH 1:*"},
		{"no HIGHESTMODSEQ any more", rev1, func(s *fakeServer) { s.modSeq = 0 }, ""},
		{"no UIDNEXT any more", rev1, func(s *fakeServer) { s.noUIDNext = true }, "SELECT FETCH 1:*"},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, %s, restarted=%v", tt.name, tt.caps, restarted), func(t *testing.T) {
				s := newFake("1", "two", "three")
				s.caps, s.modSeq = tt.caps, 7
				a, _ := s.adapter(t, without)
				a.memory.store = openCache(t)
				s.poll(t, a).Close()
				if got := s.sent(); got != "LOGIN CAPABILITY EXAMINE FETCH 1:*" {
					t.Errorf("the first time %q was sent", got)
				}
				if restarted {
					a.Close()
					next, _ := s.adapter(t, without)
					next.memory.store = a.memory.store
					a = next
				}
				s.change(tt.change)
				s.poll(t, a).Close()
				// A new process learns of ESEARCH as it logs in.
				want := strings.TrimRight("LOGIN CAPABILITY EXAMINE "+tt.sent, " ")
				if restarted && tt.caps == esearch {
					want = ""
				}
				if got := s.sent(); got != want && want != "" {
					t.Errorf("%q was sent, want %q", got, want)
				}
				s.poll(t, a).Close()
				want = "LOGIN CAPABILITY EXAMINE"
				if tt.caps == esearch {
					want += " SEARCH"
				}
				if got := s.sent(); got != want && !s.noUIDNext {
					t.Errorf("without a change %q was sent, want %q", got, want)
				}
			})
		}
	}
}

// That as many messages are there as the server has counted proves nothing where one
// was removed before, and one that had just come after it.
func TestPollWhileOneGoes(t *testing.T) {
	s := newFake("1", "two", "three")
	a, _ := s.adapter(t, without)
	s.poll(t, a).Close()
	s.change(func(s *fakeServer) { s.remove(10); s.add(40, "four"); s.add(41, "five!") })
	s.does(once(func(c *fakeConn, command string) bool {
		if strings.HasPrefix(command, "UID FETCH 31:*") {
			s.change(func(s *fakeServer) { s.uidNext = 42; s.remove(41) })
		}
		return false
	}))
	s.poll(t, a).Close()
}

func byFakeUID(a, b *fakeMessage) int { return int(a.uid) - int(b.uid) }

func openCache(t *testing.T) *cache.Cache {
	t.Helper()
	kept, err := cache.Open(filepath.Join(t.TempDir(), "cache"), 1<<30, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	return kept
}

// A server that tells its capabilities as it lets somebody in need not be asked.
func TestCapabilitiesWithLogin(t *testing.T) {
	s := newFake("x")
	s.does(func(c *fakeConn, command string) bool {
		return strings.HasPrefix(command, "LOGIN") && answering("LOGIN", "OK [CAPABILITY IMAP4rev1 UIDPLUS ESEARCH] hello")(c, command)
	})
	a, _ := s.adapter(t, without)
	for i, want := range []string{"LOGIN CAPABILITY EXAMINE FETCH 1:*", "LOGIN EXAMINE SEARCH", "LOGIN EXAMINE SEARCH"} {
		s.caps = "IMAP4rev1 UIDPLUS ESEARCH"
		s.poll(t, a).Close()
		if got := s.sent(); got != want {
			t.Errorf("login %d: %q was sent, want %q", i, got, want)
		}
	}
	s.does(nil) // it tells them no more
	s.poll(t, a).Close()
	if d := s.poll(t, a); !d.caps.Has(imap.CapUIDPlus) {
		t.Errorf("capabilities are %v", d.caps)
	}
}

// Servers that claim ESEARCH and answer nonsense, or have lost it, are asked for
// everything.
func TestExtentNotAnswered(t *testing.T) {
	for _, answer := range []string{"OK done", "BAD what?", "NO", "* SEARCH 10 20\nOK", `* ESEARCH (TAG "X1") UID MIN 10 MAX 20 COUNT 2` + "\nOK",
		`* ESEARCH (TAG "$TAG") MIN 10 MAX 20 COUNT 2` + "\nOK", `* ESEARCH (TAG "$TAG") UID MIN ten` + "\nOK", "* ESEARCH\nOK",
		`* ESEARCH (TAG "$TAG") UID MIN 10 MAX 20 COUNT 3` + "\nOK", `* ESEARCH (TAG "$TAG") UID MIN 10 MAX 21 COUNT 2` + "\nOK", `* ESEARCH (TAG "$TAG") UID COUNT 2` + "\nOK"} {
		s := newFake("one", "two")
		s.caps = "IMAP4rev1 UIDPLUS ESEARCH"
		a, _ := s.adapter(t, without)
		s.poll(t, a).Close()
		s.does(answering("UID SEARCH", answer))
		s.sent()
		s.poll(t, a).Close()
		if got := s.sent(); got != "LOGIN CAPABILITY EXAMINE SEARCH FETCH 1:*" {
			t.Errorf("%s: %q was sent", answer, got)
		}
	}
}

// What a session removed, the next one does not have to find out.
func TestPollAfterUpdate(t *testing.T) {
	s := newFake("1", "two", "three")
	s.uidNext = 31
	a, _ := s.adapter(t, without)
	d := s.poll(t, a)
	d.CorrectSize(2, 7)
	if err := d.Delete(t.Context(), []int{0, 1}, func(int) {}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	s.sent()
	opened, err := a.Open(t.Context(), account(a))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if got := s.sent(); got != "LOGIN CAPABILITY EXAMINE" {
		t.Errorf("%q was sent", got)
	}
	if opened.Len() != 1 || opened.Size(0) != 7 {
		t.Errorf("%d messages, the first of %d octets; want 1 of 7", opened.Len(), opened.Size(0))
	}
}

// No listing is believed for ever.
func TestRelist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake("1", "two")
		a, _ := s.adapter(t, without)
		d := s.poll(t, a)
		d.CorrectSize(1, 5)
		d.Close()
		time.Sleep(relistAfter - time.Minute)
		open := func(want string) {
			t.Helper()
			s.sent()
			d, err := a.Open(t.Context(), account(a))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if got := s.sent(); got != want || d.Size(1) != 5 {
				t.Errorf("%q was sent, want %q; size is %d, want 5", got, want, d.Size(1))
			}
		}
		open("LOGIN CAPABILITY EXAMINE")
		time.Sleep(2 * time.Minute)
		open("LOGIN CAPABILITY EXAMINE FETCH 1:*")
		open("LOGIN CAPABILITY EXAMINE")
	})
}

// A listing that is shared is not changed by what a session finds out.
func TestListingsAreNotShared(t *testing.T) {
	s := newFake("1", "two", "three")
	a, _ := s.adapter(t, without)
	d := s.poll(t, a)
	before := *a.memory.recall(d.key)
	sizes := slices.Clone(before.messages.sizes)
	d.CorrectSize(1, 1<<40)
	d.CorrectSize(2, 9)
	s.change(func(s *fakeServer) { s.add(40, "four"); s.remove(10) })
	d.Close()
	opened, err := a.Open(t.Context(), account(a))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if opened.Size(0) != 1<<40 || opened.Size(1) != 9 || opened.Size(2) != 4 {
		t.Errorf("sizes are %d, %d, %d", opened.Size(0), opened.Size(1), opened.Size(2))
	}
	if !slices.Equal(before.messages.sizes, sizes) || before.messages.large != nil || before.messages.right != nil {
		t.Errorf("listing was changed: %+v", before.messages)
	}
}

// Somebody else's UPDATE must not fall between EXAMINE and the lock.
func TestUpdateWhileLoggingIn(t *testing.T) {
	t.Run("by one adapter", func(t *testing.T) { testUpdateWhileLoggingIn(t, false) })
	t.Run("by another", func(t *testing.T) { testUpdateWhileLoggingIn(t, true) }) // as after SIGHUP
}

func testUpdateWhileLoggingIn(t *testing.T, byAnother bool) {
	s := newFake("1", "two", "three")
	s.uidNext = 31
	o := without
	o.Servers = new(Servers)
	a, _ := s.adapter(t, o)
	first := s.poll(t, a)
	if byAnother {
		locks := a.locks
		a, _ = s.adapter(t, o)
		a.locks = locks
	}
	entered, goOn := make(chan bool), make(chan bool)
	var held, stale atomic.Bool // a server may show messages that are gone until the mailbox is opened anew
	s.does(func(c *fakeConn, command string) bool {
		if !strings.HasPrefix(command, "EXAMINE") || held.Swap(true) {
			stale.Store(stale.Load() && !strings.HasPrefix(command, "EXAMINE"))
			return stale.Load() && answering("UID FETCH", "* 1 FETCH (UID 10 RFC822.SIZE 1)\n* 2 FETCH (UID 20 RFC822.SIZE 3)\n* 3 FETCH (UID 30 RFC822.SIZE 5)\nOK")(c, command)
		}
		stale.Store(true)
		c.send("* 3 EXISTS\r\n* OK [UIDVALIDITY %d] .\r\n* OK [UIDNEXT 31] .", s.uidValidity)
		entered <- true
		<-goOn
		c.done("OK [READ-ONLY] done")
		return true
	})
	var opening sync.WaitGroup
	opening.Go(func() { s.poll(t, a).Close() })
	<-entered
	if err := first.Delete(t.Context(), []int{1}, func(int) {}); err != nil {
		t.Error(err)
	}
	first.Close()
	close(goOn)
	opening.Wait()
}

// Corrupt files, and those of others, cost a listing and nothing else.
func TestDamagedMemory(t *testing.T) {
	s := newFake("1", "two", "three")
	kept := openCache(t)
	for _, damage := range []func(key string){
		func(key string) { kept.Put(key, nil) },
		func(key string) { kept.Put(key, []byte{1, 2, 3}) },
		func(key string) {
			value, ok := kept.Get(key)
			if !ok {
				t.Fatal("nothing was written")
			}
			kept.Put(key, append(value, 0))
		},
	} {
		a, _ := s.adapter(t, without)
		a.memory.store = kept
		d := s.poll(t, a)
		key := d.key
		d.Close()
		a.Close()
		damage(key)
		a, _ = s.adapter(t, without)
		a.memory.store = kept
		s.sent()
		s.poll(t, a).Close()
		a.Close()
		if got := s.sent(); got != "LOGIN CAPABILITY EXAMINE FETCH 1:*" {
			t.Errorf("%q was sent", got)
		}
	}
}

// A mailbox that changes all the time is not written each time, and what was not
// written is at the end.
func TestMemoryIsWritten(t *testing.T) {
	s := newFake("1")
	a, _ := s.adapter(t, without)
	kept := openCache(t)
	a.memory.store = kept
	d := s.poll(t, a)
	key := d.key
	d.Close()
	for i := range 3 {
		s.change(func(s *fakeServer) { s.add(imap.UID(20+i), "x") })
		s.poll(t, a).Close()
		a.memory.saving.Wait()
		if r := stored(t, kept, key); r.messages.len() != 1 {
			t.Errorf("%d messages were written at once", r.messages.len())
		}
	}
	a.Close()
	if r := stored(t, kept, key); r.messages.len() != 4 {
		t.Errorf("%d messages were written in the end, want 4", r.messages.len())
	}
}

func stored(t *testing.T, kept *cache.Cache, key string) *remembered {
	t.Helper()
	data, _ := kept.Get(key)
	r, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Memory is bounded in octets, and what was used last stays.
func TestMemoryIsBounded(t *testing.T) {
	m := memory{store: openCache(t)}
	const n = 1 << 20
	r := func() *remembered {
		l := listing{uids: make([]uint32, n), sizes: make([]uint32, n)}
		for i := range l.uids {
			l.uids[i] = uint32(i + 1)
		}
		return &remembered{uidValidity: 1, uidNext: n + 1, messages: l}
	}
	for i := range 12 {
		m.remember(fmt.Sprint(i), r(), i == 1)
		m.recall("0")
		if m.octets > memoryOctets {
			t.Fatalf("%d octets are held", m.octets)
		}
	}
	if m.entries["0"] == nil || m.entries["1"] != nil || m.entries["11"] == nil {
		t.Errorf("of 12, %d are held, and not those used last", len(m.entries))
	}
	m.saving.Wait()
	if got := m.recall("1"); got == nil || got.messages.len() != n {
		t.Error("what had to go was not written")
	}
	if m.recall("2") != nil {
		t.Error("what had not changed was written")
	}
	total := 0
	for _, e := range m.entries {
		total += e.Value.(*entry).r.octets()
	}
	if total != m.octets || m.used.Len() != len(m.entries) {
		t.Errorf("%d octets are counted, %d held", m.octets, total)
	}
}

// A listing that there is no room for is of use all the same.
func TestMemoryOfOneTooLarge(t *testing.T) {
	m := memory{store: openCache(t)}
	m.remember("other", &remembered{uidValidity: 1}, false)
	r := &remembered{uidValidity: 1, uidNext: maxMessages + 1, messages: listing{uids: make([]uint32, maxMessages), sizes: make([]uint32, maxMessages)}}
	for i := range r.messages.uids {
		r.messages.uids[i] = uint32(i + 1)
	}
	m.remember("large", r, true)
	m.saving.Wait()
	if got := m.recall("large"); got == nil || got.messages.len() != maxMessages {
		t.Error("it was not recalled")
	}
	if m.entries["other"] == nil {
		t.Error("another one went for it")
	}
}

// What cannot be understood is told, and goes.
func TestMemoryOfNonsense(t *testing.T) {
	s := newFake("x")
	a, log := s.adapter(t, without)
	a.memory.store = openCache(t)
	key := a.memoryKey(login{Credentials: gateway.Credentials{User: "ann"}}, "")
	a.memory.store.Put(key, []byte("nonsense"))
	if a.memory.recall(key) != nil || !strings.Contains(log.String(), "cannot be used") {
		t.Errorf("the log has %s", log)
	}
	if _, ok := a.memory.store.Get(key); ok {
		t.Error("it was left there")
	}
}

func TestMemoryKey(t *testing.T) {
	s := newFake("x")
	a, _ := s.adapter(t, Options{Folders: true})
	keys := make(map[string]bool)
	for _, owner := range []string{"ann", "Ann", "ann\" \"x"} {
		for _, folder := range []string{"", "x", "X", "a.b", "a/b"} {
			keys[a.memoryKey(login{Credentials: gateway.Credentials{User: owner}}, folder)] = true
		}
	}
	if len(keys) != 15 {
		t.Errorf("%d keys for 15 mailboxes", len(keys))
	}
}

func BenchmarkDecode(b *testing.B) {
	data := large(100_000).encode()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

func large(n int) *remembered {
	r := &remembered{mailbox: "INBOX", uidValidity: 1, uidNext: uint32(2*n + 1), listed: time.Unix(1e9, 0)}
	for i := range n {
		r.messages.add(imap.UID(2*i+1), int64(i*7919%200_000))
	}
	return r
}

func TestEncodingIsCompact(t *testing.T) {
	if n := len(large(100_000).encode()); n > 500_000 {
		t.Errorf("100,000 messages take %d octets", n)
	}
}

func FuzzDecode(f *testing.F) {
	r := large(5)
	r.messages.correct(1, 1<<40)
	r.messages.correct(4, 0)
	r.highestModSeq = 1 << 63
	f.Add(r.encode())
	f.Add((&remembered{uidValidity: 1}).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data)
		if err != nil {
			return
		}
		l := &r.messages
		for i, uid := range l.uids {
			if uid == 0 || i > 0 && uid <= l.uids[i-1] || r.uidNext > 0 && uid >= r.uidNext || l.size(i) < 0 {
				t.Fatalf("message %d has UID %d and %d octets", i, uid, l.size(i))
			}
		}
		if len(l.sizes) != len(l.uids) || r.uidValidity == 0 {
			t.Fatalf("%+v", r)
		}
		again, err := decode(r.encode())
		if err != nil || !slices.Equal(again.messages.uids, l.uids) || !slices.Equal(again.messages.sizes, l.sizes) ||
			!slices.Equal(again.messages.right.members(), l.right.members()) || again.highestModSeq != r.highestModSeq ||
			!again.listed.Equal(r.listed) || again.mailbox != r.mailbox || again.uidNext != r.uidNext {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
		for uid, size := range l.large {
			if again.messages.large[uid] != size {
				t.Fatalf("size of %d is %d, want %d", uid, again.messages.large[uid], size)
			}
		}
	})
}

// BenchmarkPoll is a session that changes nothing, without the client's part.
func BenchmarkPoll(b *testing.B) {
	for name, o := range map[string]Options{"kept": {}, "login": without} {
		b.Run(name, func(b *testing.B) {
			s := newFake()
			for i := range 10_000 {
				s.add(imap.UID(i+1), "x")
			}
			s.does(func(c *fakeConn, command string) bool {
				return answering("EXAMINE", "* 10000 EXISTS\n* OK [UIDVALIDITY 2748] .\n* OK [UIDNEXT 10001] .\nOK [READ-ONLY] done")(c, command)
			})
			a, _ := s.adapter(b, o)
			b.ReportAllocs()
			for b.Loop() {
				d, err := a.Open(b.Context(), account(a))
				if err != nil {
					b.Fatal(err)
				}
				d.Close()
			}
		})
	}
}
