package imap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"pop3gw/gateway"
	"pop3gw/gateway/state"
)

// guardRig is a server without UIDPLUS, six messages of which others have flagged
// two, and a durable state.
type guardRig struct {
	*fakeServer
	dir string
}

const foreign = `20 60`

func newGuardRig(t *testing.T) *guardRig {
	s := newFake("one", "two", "three", "four", "five", "six")
	s.caps = "IMAP4rev1"
	s.messages[1].flags = []string{`\Deleted`}
	s.messages[5].flags = []string{`\Flagged`, `\Deleted`}
	return &guardRig{s, t.TempDir()}
}

// adapter returns an adapter with the state opened anew, and what ends both as a
// crash does.
func (r *guardRig) adapter(t *testing.T, o Options, wrap func(Journal) Journal) (a *Adapter, crash func()) {
	t.Helper()
	db, err := state.Open(r.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o.WithoutUIDPLUS = Guarded
	a, _ = r.fakeServer.adapter(t, o)
	var j Journal = db.Journal()
	if wrap != nil {
		j = wrap(j)
	}
	a.UseJournal(j)
	return a, func() {
		a.Close()
		db.Close()
	}
}

// flagged returns the UIDs of the messages flagged as \Deleted.
func (r *guardRig) flagged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var uids []string
	for _, m := range r.messages {
		if slices.Contains(m.flags, `\Deleted`) {
			uids = append(uids, fmt.Sprint(m.uid))
		}
	}
	return strings.Join(uids, " ")
}

func openGuarded(t *testing.T, a *Adapter) *maildrop {
	t.Helper()
	d, err := a.Open(t.Context(), account(a))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return d.(*maildrop)
}

func TestGuarded(t *testing.T) {
	toTrash := Options{Policy: gateway.Policy{OnDelete: gateway.MoveToTrash, TrashMailbox: "Trash"}}
	for _, tt := range []struct {
		name    string
		options Options
		set     func(*guardRig)
		marked  []int
		removed []int
		left    []imap.UID
		flagged string
		copied  []imap.UID
		text    string
	}{
		{name: "others have flagged some", marked: []int{0, 2}, removed: []int{0, 2}, left: []imap.UID{20, 40, 50, 60}, flagged: foreign},
		{name: "one is flagged by both", marked: []int{1, 3}, removed: []int{1, 3}, left: []imap.UID{10, 30, 50, 60}, flagged: "60"},
		{name: "some are gone", marked: []int{0, 1}, removed: []int{0, 1}, left: []imap.UID{30, 40, 50, 60}, flagged: "60",
			set: func(r *guardRig) { r.messages = r.messages[2:] }},
		{name: "all are gone", marked: []int{0}, removed: []int{0}, left: []imap.UID{20, 30, 40, 50, 60}, flagged: foreign,
			set: func(r *guardRig) { r.messages = r.messages[1:] }},
		{name: "flagged meanwhile", marked: []int{0}, removed: []int{0}, left: []imap.UID{20, 30, 40, 50, 60}, flagged: "20 30 60",
			set: func(r *guardRig) {
				r.does(once(func(c *fakeConn, command string) bool {
					if !strings.HasPrefix(command, `UID STORE 10 +FLAGS.SILENT (\Deleted)`) {
						return false
					}
					c.mu.Lock()
					defer c.mu.Unlock()
					c.answer(`UID STORE 10,30 +FLAGS.SILENT (\Deleted)`)
					return true
				}))
			}},
		{name: "flagged again and again", marked: []int{0}, left: []imap.UID{10, 20, 30, 40, 50, 60}, flagged: "20 30 60", text: "mail server cannot be used now, try again later",
			set: func(r *guardRig) {
				r.does(func(c *fakeConn, command string) bool {
					if command != "UID SEARCH DELETED" {
						return false
					}
					c.mu.Lock()
					defer c.mu.Unlock()
					for _, m := range c.messages {
						if m.uid == 30 {
							m.flags = []string{`\Deleted`}
						}
					}
					c.answer(command)
					return true
				})
			}},
		{name: "OK, and nothing is done", marked: []int{0}, left: []imap.UID{10, 20, 30, 40, 50, 60}, flagged: foreign, text: "mail server accepts the removal and keeps the messages",
			set: func(r *guardRig) { r.does(answering("UID STORE 10 +FLAGS", "OK")) }},
		{name: "EXPUNGE refused", marked: []int{0}, left: []imap.UID{10, 20, 30, 40, 50, 60}, flagged: foreign, text: "mail server does not permit this",
			set: func(r *guardRig) { r.does(answering("EXPUNGE", "NO [NOPERM] no")) }},
		{name: "lost once", marked: []int{0, 4}, removed: []int{0, 4}, left: []imap.UID{20, 30, 40, 60}, flagged: foreign,
			set: func(r *guardRig) { r.does(once(dropping("EXPUNGE"))) }},
		{name: "COPY", options: toTrash, marked: []int{0, 3}, removed: []int{0, 3}, left: []imap.UID{20, 30, 50, 60}, flagged: foreign, copied: []imap.UID{10, 40}},
		{name: "COPY refused", options: toTrash, marked: []int{0, 3}, left: []imap.UID{10, 20, 30, 40, 50, 60}, flagged: foreign, text: "mailbox has no room left",
			set: func(r *guardRig) { r.does(answering("UID COPY", "NO [OVERQUOTA] no")) }},
		{name: "COPY, lost behind it", options: toTrash, marked: []int{0, 3}, removed: []int{0, 3}, left: []imap.UID{20, 30, 50, 60}, flagged: foreign, copied: []imap.UID{10, 40},
			set: func(r *guardRig) { r.does(once(dropping("UID STORE 10,40"))) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newGuardRig(t)
			a, crash := r.adapter(t, tt.options, nil)
			defer crash()
			d := openGuarded(t, a)
			if err := d.PermitDelete(0); err != nil {
				t.Error(err)
			}
			if tt.set != nil {
				tt.set(r)
			}
			removed, err := remove(t, d, tt.marked...)
			if !slices.Equal(removed, tt.removed) {
				t.Errorf("removed %v, %v; want %v", removed, err, tt.removed)
			}
			if e, ok := errors.AsType[*gateway.Error](err); tt.text != "" && (!ok || e.Text != tt.text) {
				t.Errorf("error %v, want %q", err, tt.text)
			}
			d.Close()
			if left := r.left(); !slices.Equal(left, tt.left) {
				t.Errorf("left are %v, want %v", left, tt.left)
			}
			if got := r.flagged(); got != tt.flagged {
				t.Errorf("flagged are %q, want %q", got, tt.flagged)
			}
			if !slices.Equal(r.copied, tt.copied) {
				t.Errorf("copied are %v, want %v", r.copied, tt.copied)
			}
			if _, _, found, _ := a.journal.Get(t.Context(), d.journalName()); found {
				t.Error("the journal is not done")
			}
		})
	}
}

// A server with UIDPLUS is never sent EXPUNGE.
func TestGuardedNotNeeded(t *testing.T) {
	r := newGuardRig(t)
	r.caps = basicCaps
	a, crash := r.adapter(t, Options{}, nil)
	defer crash()
	d := openGuarded(t, a)
	defer d.Close()
	if _, err := remove(t, d, 0); err != nil || r.seen("EXPUNGE") > 0 || r.flagged() != foreign {
		t.Errorf("%v, %q", err, r.commands)
	}
}

func TestGuardedWithoutJournal(t *testing.T) {
	r := newGuardRig(t)
	d := r.open(t, Options{WithoutUIDPLUS: Guarded})
	wantError(t, d.PermitDelete(0), gateway.CodeSysPerm, "mail server has no UIDPLUS, so messages cannot be removed safely", "set state.url")
}

var errCrash = errors.New("the process is gone")

// crashing is a journal whose process ends before or behind its nth change.
type crashing struct {
	Journal
	n      *int
	behind bool
	die    func()
}

func (j crashing) change(do func() error) error {
	*j.n--
	if *j.n > 0 {
		return do()
	}
	if j.behind && *j.n == 0 {
		do()
	}
	j.die()
	return errCrash
}

func (j crashing) Put(ctx context.Context, name string, entry []byte) error {
	return j.change(func() error { return j.Journal.Put(ctx, name, entry) })
}

func (j crashing) Delete(ctx context.Context, name string) error {
	return j.change(func() error { return j.Journal.Delete(ctx, name) })
}

// However a removal is interrupted, at each command to the server and each change of
// the journal, before or behind it: the next session leaves the flags of others as
// they were, and those that are marked are gone or as they were.
func TestGuardedCrash(t *testing.T) {
	for _, where := range []string{"before a command", "behind a command", "before the journal", "behind the journal"} {
		for step := 1; ; step++ {
			if !guardedCrash(t, where, step) {
				if min := map[bool]int{true: 3, false: 9}[strings.HasSuffix(where, "journal")]; step < min {
					t.Errorf("%s: only %d steps", where, step)
				}
				break
			}
			if t.Failed() {
				return
			}
		}
	}
}

// guardedCrash ends a process at a step of its removal. It reports whether there was
// such a step.
func guardedCrash(t *testing.T, where string, step int) (crashed bool) {
	t.Helper()
	r := newGuardRig(t)
	left := step
	die := func() {
		crashed = true
		r.mu.Lock()
		r.down = errCrash
		r.mu.Unlock()
	}
	var wrap func(Journal) Journal
	if strings.HasSuffix(where, "journal") {
		wrap = func(j Journal) Journal {
			return crashing{j, &left, strings.HasPrefix(where, "behind"), func() {
				die()
				r.does(func(c *fakeConn, _ string) bool { c.Close(); return true })
			}}
		}
	}
	a, crash := r.adapter(t, Options{}, wrap)
	d := openGuarded(t, a)
	if wrap == nil {
		r.does(func(c *fakeConn, command string) bool {
			c.mu.Lock()
			left--
			now, after := left == 0, left < 0
			c.mu.Unlock()
			if now || after {
				die()
				if now && strings.HasPrefix(where, "behind") {
					c.mu.Lock()
					c.answer(command)
					c.mu.Unlock()
				}
				c.Close()
				return true
			}
			return false
		})
	}
	marked := []int{0, 1, 3}
	d.Delete(t.Context(), marked, func(int) {})
	crash()
	if !crashed {
		return false
	}
	r.does(nil)
	r.mu.Lock()
	r.down = nil
	r.mu.Unlock()

	a, end := r.adapter(t, Options{}, nil)
	defer end()
	again := openGuarded(t, a)
	defer again.Close()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s, step %d: %s; %q", where, step, fmt.Sprintf(format, args...), r.commands)
	}
	uids := r.left()
	for _, uid := range []imap.UID{30, 50, 60} {
		if !slices.Contains(uids, uid) {
			fail("message %d, which is not marked, is gone: %v", uid, uids)
		}
	}
	want := "60"
	if slices.Contains(uids, 20) {
		want = foreign
	}
	if got := r.flagged(); got != want {
		fail("flagged are %q, want %q", got, want)
	}
	if _, _, found, _ := a.journal.Get(t.Context(), again.journalName()); found {
		fail("the journal is not done")
	}
	if _, err := remove(t, again, 0); err != nil {
		fail("the next removal: %v", err)
	}
	return true
}

// Whatever others flag before and meanwhile, only what is marked is removed.
func TestGuardedProperty(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		r := newGuardRig(t)
		for _, m := range r.messages {
			m.flags = nil
			if random.IntN(2) == 0 {
				m.flags = []string{`\Deleted`}
			}
		}
		before := strings.Fields(r.flagged())
		a, crash := r.adapter(t, Options{}, nil)
		d := openGuarded(t, a)
		drops := random.IntN(12)
		r.does(func(c *fakeConn, _ string) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			if drops--; drops == 0 {
				c.Close()
				return true
			}
			return false
		})
		var marked []int
		var want []imap.UID
		var flags []string
		for i, m := range r.messages {
			if random.IntN(2) == 0 {
				marked = append(marked, i)
				continue
			}
			want = append(want, m.uid)
			if uid := fmt.Sprint(m.uid); slices.Contains(before, uid) {
				flags = append(flags, uid)
			}
		}
		if _, err := remove(t, d, marked...); err != nil {
			t.Fatalf("marked %v: %v", marked, err)
		}
		d.Close()
		crash()
		if got := r.left(); !slices.Equal(got, want) {
			t.Fatalf("flagged %v, marked %v: left are %v, want %v", before, marked, got, want)
		}
		if got := strings.Fields(r.flagged()); !slices.Equal(got, flags) {
			t.Fatalf("flagged %v, marked %v: flagged are %v, want %v", before, marked, got, flags)
		}
	}
}

func TestRepairImpossible(t *testing.T) {
	r := newGuardRig(t)
	a, crash := r.adapter(t, Options{}, nil)
	defer crash()
	name := openGuarded(t, a)
	entry := []byte(`{"uidvalidity":2748,"lifted":"30","flagged":""}`)
	if err := a.journal.Put(t.Context(), name.journalName(), entry); err != nil {
		t.Fatal(err)
	}
	name.Close()
	r.does(answering("UID STORE", "NO [NOPERM] no"))
	d := openGuarded(t, a)
	wantError(t, d.PermitDelete(0), gateway.CodeSysTemp, "an interrupted removal could not be undone, so messages cannot be removed now", "NOPERM")
	d.Close()
	r.does(nil)
	d = openGuarded(t, a)
	if err := d.PermitDelete(0); err != nil || r.flagged() != "20 30 60" {
		t.Errorf("%v, flagged are %s", err, r.flagged())
	}
	d.Close()
	// An entry of another mailbox under the same name changes nothing.
	if err := a.journal.Put(t.Context(), d.journalName(), []byte(`{"uidvalidity":1,"lifted":"10","flagged":"20"}`)); err != nil {
		t.Fatal(err)
	}
	openGuarded(t, a).Close()
	if got := r.flagged(); got != "20 30 60" {
		t.Errorf("flagged are %s", got)
	}
}

func FuzzParseUIDs(f *testing.F) {
	for _, seed := range []string{"", "3,7:9", "1:4294967295", "0", "2,1", "4294967295", "5:4", "1:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		uids, err := parseUIDs(text)
		if err != nil {
			return
		}
		again, err := parseUIDs(formatUIDs(uids))
		if err != nil || !slices.Equal(uids, again) {
			t.Errorf("%q: %v, then %v, %v", text, uids, again, err)
		}
	})
}
