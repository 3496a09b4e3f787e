package uidl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/state"
)

// finder finds known messages by their content.
type finder struct {
	all    []known
	by     map[Fingerprint][]int // indexes of all
	used   map[int]bool
	exact  bool                // sizes must be the same, if they are known
	wanted map[Fingerprint]int // how many messages look for one
}

func newFinder(all []known) *finder {
	f := &finder{all: all, by: make(map[Fingerprint][]int, len(all)), used: make(map[int]bool), wanted: make(map[Fingerprint]int)}
	for i, k := range all {
		f.by[k.fingerprint] = append(f.by[k.fingerprint], i)
	}
	return f
}

// looking is a message that a name is looked for.
type looking struct {
	i           int
	fingerprint Fingerprint
	size        int64
}

// find returns the names of those messages that are known. A size must be the same;
// but it may be unknown, or differ a little unless exact, as between servers that
// count line ends otherwise, where there is only one such message on either side: the
// wrong name would keep a message from its reader.
func (f *finder) find(all []looking) map[int]string {
	found := make(map[int]string)
	for _, l := range all {
		f.wanted[l.fingerprint]++
	}
	take := func(l looking, k int) {
		f.used[k], found[l.i] = true, f.all[k].uid
	}
	for _, l := range all {
		for _, k := range f.by[l.fingerprint] {
			if !f.used[k] && f.all[k].size == l.size {
				take(l, k)
				break
			}
		}
	}
	for _, l := range all {
		ks := f.by[l.fingerprint]
		if _, ok := found[l.i]; ok || len(ks) != 1 || f.used[ks[0]] || f.wanted[l.fingerprint] != 1 {
			continue
		}
		if k := ks[0]; f.all[k].size < 0 || !f.exact && alike(f.all[k].size, l.size) {
			take(l, k)
		}
	}
	return found
}

// alike reports whether two sizes may be of one message with line ends counted as
// LF and as CRLF.
func alike(a, b int64) bool {
	if a > b {
		a, b = b, a
	}
	return b-a <= b/32+128
}

// exclude takes the known messages with these names out of the search.
func (f *finder) exclude(names map[string]struct{}) {
	for k := range f.all {
		if _, ok := names[f.all[k].uid]; ok {
			f.used[k] = true
		}
	}
}

// others returns the names of the messages that are not in want, which is in order.
func (n *Names) others(want []int) map[string]struct{} {
	names := make(map[string]struct{}, n.drop.Len()-len(want))
	for i := range n.drop.Len() {
		if len(want) > 0 && want[0] == i {
			want = want[1:]
			continue
		}
		names[string(n.Append(nil, i))] = struct{}{}
	}
	return names
}

// look reads the headers of messages.
func (n *Names) look(ctx context.Context, want []int) ([]looking, error) {
	all := make([]looking, 0, len(want))
	err := n.drop.ReadHeaders(ctx, want, func(i int, h *Header) {
		all = append(all, looking{i, h.Fingerprint(), n.drop.Size(i)})
	})
	return all, err
}

// match gives messages that were not looked for yet, and are known, the name that
// they are known by. What comes later may be another copy of a message that is gone,
// such as a mailing list's, with the same Message-ID: its size must be the same.
func (n *Names) match(ctx context.Context) error {
	var want []int
	for _, i := range n.unnamed() {
		if _, ok := n.page.checked[n.drop.Key(i)]; !ok {
			want = append(want, i)
		}
	}
	if len(want) == 0 {
		return nil
	}
	all, _, err := n.book.known(ctx, n.owner)
	if err != nil {
		return err
	}
	f := newFinder(all)
	f.exact = n.record.Looked
	f.exclude(n.others(want))
	messages, err := n.look(ctx, want)
	if err != nil {
		return err
	}
	found := f.find(messages)
	if !n.record.Looked {
		if err := n.book.store.Apply(ctx, n.owner.user, n.owner.folder, state.Change{Looked: true}); err != nil {
			return err
		}
	}
	more := n.rename(want, found, all)
	checked := make(map[Key]struct{}, len(n.page.checked)+len(want))
	for key := range n.page.checked {
		checked[key] = struct{}{}
	}
	for _, i := range want {
		checked[n.drop.Key(i)] = struct{}{}
	}
	n.page.checked = checked
	n.given = n.given.with(more)
	if len(more) == 0 {
		kept := n.page
		n.book.keep(n.owner, &kept)
		return nil
	}
	n.book.log.Info("messages got the unique-ids that clients know them by", "user", n.owner.user, "folder", n.owner.folder,
		"number", len(found), "looked for", len(want))
	return n.add(ctx, more)
}

// rename returns the names that must be kept, so that the messages that were found
// have the ones that they are known by, and no other has one of those.
func (n *Names) rename(want []int, found map[int]string, all []known) []named {
	knownBy := make(map[string]struct{}, len(all))
	for _, k := range all {
		knownBy[k.uid] = struct{}{}
	}
	foundBy := make(map[string]struct{}, len(found))
	for _, name := range found {
		foundBy[name] = struct{}{}
	}
	var more []named
	for _, i := range want {
		own := string(n.Append(nil, i))
		name, ok := found[i]
		if !ok {
			taken := knownBy
			if n.Given(n.drop.Key(i)) {
				taken = foundBy // it has its name wherever it lies, and so has one that is known
			}
			if _, taken := taken[own]; !taken {
				continue
			}
			// Clients know another message by this name, and would not fetch this.
			name = string(AppendHash(nil, fmt.Appendf(nil, "%s %x", own, uint64(n.drop.Key(i)))))
		}
		if name != own {
			more = append(more, named{n.drop.Key(i), name})
		}
	}
	return more
}

// giveBack gives messages the names that they are known by, after their source has
// changed, or refuses to go on where most would get new ones.
func (n *Names) giveBack(ctx context.Context) error {
	if n.page.refused != "" && n.page.refused == n.stateText() {
		return n.refusal(n.drop.Len(), n.drop.Len())
	}
	want := n.unnamed()
	if _, err := n.findNames(ctx, want); err != nil {
		return err
	}
	all, _, err := n.book.known(ctx, n.owner)
	if err != nil {
		return err
	}
	var found map[int]string
	if len(all) > 0 && len(want) > 0 {
		messages, err := n.look(ctx, want)
		if err != nil {
			return err
		}
		f := newFinder(all)
		f.exclude(n.others(want))
		found = f.find(messages)
	}
	others, renamed := 0, n.isRenamed() // those with other names than before, as far as anybody knows
	for _, i := range want {
		if _, ok := found[i]; !ok && (renamed || !n.Given(n.drop.Key(i))) {
			others++
		}
	}
	// What was there and is not found again is gone, or among the others.
	kept := n.drop.Len() - others
	changed := min(n.record.Count-kept, others)
	if changed*2 > min(n.drop.Len(), n.record.Count) && !n.record.Allowed {
		page := n.page
		page.refused = n.stateText()
		n.book.keep(n.owner, &page)
		return n.refusal(changed, n.drop.Len())
	}
	names := append(n.ofPresent(), n.rename(want, found, all)...)
	through := int64(1<<63 - 1)
	until, allowed := time.Now().Add(MatchTime), false
	err = n.book.store.Apply(ctx, n.owner.user, n.owner.folder, state.Change{
		Listed: n.settled, Count: n.drop.Len(), Match: &until, Looked: true, Allowed: &allowed,
		Replace: []state.Addition{{Kind: state.NamesChunk, Through: through, Data: encodeNames(names)}},
	})
	if err != nil {
		return err
	}
	n.book.log.Info("the store's own numbering of this mailbox has changed; messages keep the unique-ids that clients know them by",
		"user", n.owner.user, "folder", n.owner.folder, "was", describe(n.record.Sources), "is", describe(n.settled),
		"messages", n.drop.Len(), "kept", kept, "changed", max(0, changed))
	n.given = newTable(names)
	n.page.checked, n.page.learned = nil, time.Time{}
	return n.reload(ctx)
}

func (n *Names) refusal(changed, all int) error {
	command := "pop3gw uidl allow --user " + argument(n.owner.user)
	if n.owner.folder != "" {
		command += " --folder " + argument(n.owner.folder)
	}
	return gateway.Unusable("this mailbox was replaced, and all its messages would seem new; ask your administrator", fmt.Errorf(
		"%d of %d messages of user %q would get other unique-ids, and clients would download them again: the mailbox was %s and is %s; "+
			"if that is not meant to be, put it back; otherwise import the old unique-ids (pop3gw uidl import), or accept the new ones: %s",
		changed, all, n.owner.user, describe(n.record.Sources), describe(n.settled), command))
}

// argument returns s as it is typed in a shell.
func argument(s string) string {
	unsafe := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("@._+-/", r))
	}
	if s != "" && !strings.ContainsFunc(s, unsafe) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func describe(sources []state.Source) string {
	var b strings.Builder
	for i, s := range sources {
		if i > 0 {
			b.WriteString(", ")
		}
		if s.Name != "" {
			fmt.Fprintf(&b, "%q ", s.Name)
		}
		fmt.Fprintf(&b, "%s %s", s.Form, s.Validity)
	}
	return b.String()
}
