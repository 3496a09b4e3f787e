package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Policy is what becomes of mail, and which of it is served, beyond what POP3
// itself says. Zero fields leave that open: to the adapter's own policy where it
// is a user's, and to the default, in parentheses, where it is the adapter's.
type Policy struct {
	// OnDelete is what UPDATE does to a message that a client has marked with
	// DELE ("expunge").
	OnDelete OnDelete `toml:"on_delete"`
	// TrashMailbox is where OnDelete = "move" moves messages (what the store
	// calls its trash).
	TrashMailbox string `toml:"trash_mailbox"`
	// OnRetrieve is what happens to a message that a client has retrieved whole
	// ("keep").
	OnRetrieve OnRetrieve `toml:"on_retrieve"`
	// Mailboxes are the folders that are served as one maildrop, in this order (none:
	// the adapter's one mailbox). A client that asks for a folder gets that one alone.
	Mailboxes *Mailboxes `toml:"mailboxes"`
	// Window says which messages are shown (nil is all).
	Window *Window `toml:"window"`
	// ExpireAfter is how long after a client has retrieved it, in a session that
	// ended with QUIT, a message is removed as OnDelete has it, at the QUIT of a
	// later session (Never). It needs Server.Retrieved.
	ExpireAfter Age `toml:"expire_after"`
}

// OnDelete is what UPDATE does to a message with a deletion mark; "" leaves it
// open.
type OnDelete string

const (
	Expunge      OnDelete = "expunge" // it is removed for good
	MoveToTrash  OnDelete = "move"    // it is moved to Policy.TrashMailbox
	SeenOnDelete OnDelete = "seen"    // it stays, marked as read
	KeepOnDelete OnDelete = "keep"    // it stays as it is
)

// OnRetrieve is what is done to a message that was retrieved; "" leaves it open.
type OnRetrieve string

const (
	KeepOnRetrieve OnRetrieve = "keep" // nothing
	SeenOnRetrieve OnRetrieve = "seen" // it is marked as read
)

// Window is the part of a maildrop that is shown. What is hidden is not numbered
// and not counted, and never removed.
type Window struct {
	// MaxAge hides messages that are older than this (0 is none).
	MaxAge Age `toml:"max_age"`
	// MaxMessages shows only so many of the newest messages that the other keys
	// do not hide (0 is all).
	MaxMessages int `toml:"max_messages"`
	// UnseenOnly hides messages that are marked as read (false).
	UnseenOnly bool `toml:"unseen_only"`
}

// Age is how old a message is.
type Age time.Duration

// Never is the age that no message reaches. It is for fields whose zero value
// means something else.
const Never Age = -1

// Mailboxes are names of folders. Nil has none.
type Mailboxes []string

// Names returns the names.
func (m *Mailboxes) Names() []string {
	if m == nil {
		return nil
	}
	return *m
}

func (m *Mailboxes) check() error {
	names := m.Names()
	for i, name := range names {
		same := func(other string) bool {
			return name == other || strings.EqualFold(name, "INBOX") && strings.EqualFold(other, "INBOX")
		}
		switch {
		case name == "" || !isFolderName(name):
			return fmt.Errorf("found %q; allowed are names of folders, such as \"INBOX\"", name)
		case slices.ContainsFunc(names[:i], same):
			return fmt.Errorf("found %q twice; remove one of the two", name)
		}
	}
	if len(names) > maxMailboxes {
		return fmt.Errorf("found %d names; allowed are %d", len(names), maxMailboxes)
	}
	return nil
}

// maxMailboxes bounds Policy.Mailboxes: each takes a round trip of every login.
const maxMailboxes = 100

const day = 24 * time.Hour

// UnmarshalText takes "" and "never", days and weeks such as "30d" and "2w", and
// times such as "36h".
func (a *Age) UnmarshalText(text []byte) error {
	s := string(text)
	switch s {
	case "":
		*a = 0
		return nil
	case "never":
		*a = Never
		return nil
	}
	unit := day
	digits, ok := strings.CutSuffix(s, "d")
	if !ok {
		digits, ok = strings.CutSuffix(s, "w")
		unit = 7 * day
	}
	if n, err := strconv.ParseUint(digits, 10, 15); ok && err == nil && n > 0 {
		*a = Age(n) * Age(unit)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return fmt.Errorf(`found %q; allowed are "never" and ages such as "30d", "2w" or "36h"`, s)
	}
	*a = Age(d)
	return nil
}

// Before returns the time since which messages are younger than a, ok false where
// no message is too old.
func (a Age) Before(now time.Time) (t time.Time, ok bool) {
	if a <= 0 {
		return t, false
	}
	return now.Add(-time.Duration(a)), true
}

func (d *OnDelete) UnmarshalText(text []byte) error {
	return oneOf(d, text, Expunge, MoveToTrash, SeenOnDelete, KeepOnDelete)
}

func (r *OnRetrieve) UnmarshalText(text []byte) error {
	return oneOf(r, text, KeepOnRetrieve, SeenOnRetrieve)
}

func oneOf[T ~string](value *T, text []byte, allowed ...T) error {
	if !slices.Contains(allowed, T(text)) {
		quoted := make([]string, len(allowed))
		for i, a := range allowed {
			quoted[i] = strconv.Quote(string(a))
		}
		return fmt.Errorf("found %q; allowed are %s", text, strings.Join(quoted, ", "))
	}
	*value = T(text)
	return nil
}

// Or returns p, with what it leaves open as in q.
func (p Policy) Or(q Policy) Policy {
	p.OnDelete = cmp.Or(p.OnDelete, q.OnDelete)
	p.TrashMailbox = cmp.Or(p.TrashMailbox, q.TrashMailbox)
	p.OnRetrieve = cmp.Or(p.OnRetrieve, q.OnRetrieve)
	p.Mailboxes = cmp.Or(p.Mailboxes, q.Mailboxes)
	p.Window = cmp.Or(p.Window, q.Window)
	p.ExpireAfter = cmp.Or(p.ExpireAfter, q.ExpireAfter)
	return p
}

// DefaultPolicy is what is done where nothing else is said.
func DefaultPolicy() Policy {
	return Policy{OnDelete: Expunge, OnRetrieve: KeepOnRetrieve, Mailboxes: new(Mailboxes), Window: new(Window), ExpireAfter: Never}
}

// Check returns what is wrong, an error for each key, which it begins with.
func (p Policy) Check() error {
	var errs []error
	wrong := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(key+": "+format, args...))
	}
	var d OnDelete
	if err := d.UnmarshalText([]byte(p.OnDelete)); p.OnDelete != "" && err != nil {
		wrong("on_delete", "%w", err)
	}
	var r OnRetrieve
	if err := r.UnmarshalText([]byte(p.OnRetrieve)); p.OnRetrieve != "" && err != nil {
		wrong("on_retrieve", "%w", err)
	}
	if !isFolderName(p.TrashMailbox) {
		wrong("trash_mailbox", "found %q; allowed is UTF-8 without control characters", p.TrashMailbox)
	}
	if err := p.Mailboxes.check(); err != nil {
		wrong("mailboxes", "%w", err)
	}
	if w := p.Window; w != nil {
		if w.MaxAge < 0 {
			wrong("window", `found max_age = "never"; leave max_age out to show messages of any age`)
		}
		if w.MaxMessages < 0 {
			wrong("window", "found max_messages = %d; allowed are numbers above 0, and 0 for no limit", w.MaxMessages)
		}
	}
	if p.ExpireAfter > 0 && (p.OnDelete == SeenOnDelete || p.OnDelete == KeepOnDelete) {
		wrong("expire_after", "found %v where on_delete is %q, so that nothing would be removed; it needs \"expunge\" or \"move\"", time.Duration(p.ExpireAfter), p.OnDelete)
	}
	return errors.Join(errs...)
}

// isFolderName reports whether name can be a mailbox's, or is "".
func isFolderName(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}

// Outcome is what Delete has done to a message.
type Outcome struct {
	Fate Fate
	To   string // the folder, where it was Moved
}

// Fate is what becomes of a message with a deletion mark.
type Fate int

const (
	Removed Fate = iota // it is gone
	Moved               // it lies in the trash
	Marked              // it is there, marked as read
	Kept                // it is there as it was
	Missing             // another program had removed it already
)

// past is how the log and QUIT's reply call it, behind a number of messages.
func (f Fate) past() string {
	return [...]string{"removed", "moved to the trash", "marked as read", "kept", "gone already"}[f]
}

// OutcomeTeller is a Maildrop whose Delete may do something else than remove.
// Outcome is asked about messages that Delete has reported, as it reports them.
type OutcomeTeller interface {
	Outcome(i int) Outcome
}
