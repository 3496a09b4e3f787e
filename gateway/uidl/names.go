package uidl

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/state"
)

// Maildrop is what Names has to know of one that is listed. Indexes are as those
// of gateway.Maildrop.
type Maildrop interface {
	Len() int
	Size(i int) int64

	// Key returns the key of message i, the same in each session.
	Key(i int) Key

	// AppendForm appends what the form makes of message i.
	AppendForm(dst []byte, i int) []byte

	// ReadHeaders calls found with the header of each message of want, of which
	// nothing but the Fields need be there. It leaves out those that are gone.
	ReadHeaders(ctx context.Context, want []int, found func(i int, h *Header)) error
}

// Namer is a Maildrop some of whose names have to be found out.
type Namer interface {
	// FindNames calls found with the name of each message of want; "" is for one
	// that the form names. Messages that are gone it may leave out.
	FindNames(ctx context.Context, want []int, found func(i int, name string)) error
}

// Temporary is a Maildrop with messages that AppendForm may name otherwise in a
// later session, when their store has numbered them.
type Temporary interface {
	HasTemporary() bool // whether there may be any, at no expense
	IsTemporary(i int) bool
}

// Remembered is a Maildrop that can tell whether it is as it was in another session.
type Remembered interface {
	// Contents is equal to what another one returned, and not nil, only where the
	// two have the same messages in the same order, with the same Keys and names by
	// the form, and the same ones are temporary.
	Contents() any
}

// Names are the names of one maildrop during a session. One goroutine uses them at
// a time. Watch and Removed do nothing where they are nil.
type Names struct {
	book   *Book // nil without a state
	owner  owner
	drop   Maildrop
	given  *table  // names that are not the form's
	places []int32 // in given by message, -1 for none; nil where they are looked up
	record state.Maildrop
	exists bool

	settled   []state.Source
	page      page
	watched   watched
	header    Header // of the message that is read
	retrieved []retrieved
	kept      int       // how many of retrieved are in the store
	due       time.Time // when those that are not kept yet are to be
	removed   map[int]struct{}
}

// retrieved is a message that was read to its end.
type retrieved struct {
	i           int
	fingerprint Fingerprint
}

// Open begins a session of account's maildrop, whose lock is held, with what is
// known of it. The error is for the client.
func (b *Book) Open(ctx context.Context, account gateway.Account) (*Names, error) {
	n := &Names{book: b, owner: owner{account.Name, account.Folder}}
	if b == nil {
		return n, nil
	}
	var err error
	n.record, n.exists, err = b.store.Load(ctx, n.owner.user, n.owner.folder)
	return n, err
}

// Before returns what the source called name was at the last session, if messages
// from it were there.
func (n *Names) Before(name string) (s state.Source, ok bool) {
	i := slices.IndexFunc(n.record.Sources, func(s state.Source) bool { return s.Name == name })
	if i < 0 || n.record.Count == 0 {
		return s, false
	}
	return n.record.Sources[i], true
}

// Settle finds the name of each message of drop, which comes from sources, the
// first one of which is called "". It is called once, before Append. The error is
// for the client.
func (n *Names) Settle(ctx context.Context, drop Maildrop, sources []state.Source) error {
	n.drop, n.settled, n.due = drop, sources, time.Now().Add(keepEvery)
	if n.book == nil {
		n.distinguish()
		return nil
	}
	if err := n.open(ctx); err != nil {
		return err
	}
	moved := n.exists && n.record.Sources != nil && n.moved()
	contents := contentsOf(drop)
	if contents != nil && n.page.contents == contents && slices.Equal(n.page.sources, sources) && !moved {
		n.places = n.page.places
		return nil
	}
	if err := n.find(ctx, moved); err != nil {
		return err
	}
	if n.exists && contents != nil {
		n.settle(contents)
	}
	return nil
}

func contentsOf(drop Maildrop) any {
	if r, ok := drop.(Remembered); ok {
		return r.Contents()
	}
	return nil
}

// settle remembers that the messages of drop, which are contents, have their names:
// the same in a later session costs no look at each of them.
func (n *Names) settle(contents any) {
	if n.given.len() > 0 {
		n.places = make([]int32, n.drop.Len())
		for i := range n.places {
			n.places[i] = n.given.place(n.drop.Key(i))
		}
	}
	if _, ok := n.drop.(Namer); ok && slices.Contains(n.places, -1) {
		return // it may be found out later
	}
	n.page.contents, n.page.sources, n.page.places = contents, n.settled, n.places
	kept := n.page
	n.book.keep(n.owner, &kept)
}

// find finds the names of messages that have none yet.
func (n *Names) find(ctx context.Context, moved bool) error {
	drop := n.drop
	switch {
	case moved:
		if err := n.giveBack(ctx); err != nil {
			return err
		}
	case n.exists && time.Now().Before(n.record.Match):
		if err := n.match(ctx); err != nil {
			return err
		}
	}
	var more []named
	if _, ok := drop.(Namer); ok { // else no key is taken
		var err error
		if more, err = n.findNames(ctx, n.unnamed()); err != nil {
			return err
		}
	}
	if t, ok := drop.(Temporary); ok && t.HasTemporary() {
		var temporary []named
		for _, i := range n.unnamed() {
			if t.IsTemporary(i) {
				temporary = append(temporary, named{drop.Key(i), string(n.Append(nil, i))})
			}
		}
		n.given = n.given.with(temporary)
		more = append(more, temporary...)
	}
	more = append(more, n.distinguish()...)
	if len(more) > 0 {
		return n.add(ctx, more)
	}
	return nil
}

// findNames adds the names of want that have to be found out to given, and returns
// them.
func (n *Names) findNames(ctx context.Context, want []int) (more []named, err error) {
	namer, ok := n.drop.(Namer)
	if !ok || len(want) == 0 {
		return nil, nil
	}
	err = namer.FindNames(ctx, want, func(i int, name string) {
		if name != "" && !Legal(name) {
			name = string(AppendHash(nil, []byte(name)))
		}
		more = append(more, named{n.drop.Key(i), name})
	})
	if err != nil {
		return nil, err
	}
	n.given = n.given.with(more)
	return more, nil
}

// open sets given and page.
func (n *Names) open(ctx context.Context) error {
	n.page = *n.book.page(n.owner)
	if n.exists && n.page.version != n.record.Version {
		names, err := n.book.names(ctx, n.owner)
		if err != nil {
			return err
		}
		n.page = page{version: n.record.Version, names: names, learned: n.page.learned}
		kept := n.page
		n.book.keep(n.owner, &kept)
	}
	n.given = n.page.names
	return nil
}

// moved reports whether a source is not what it was.
func (n *Names) moved() bool {
	return slices.ContainsFunc(n.settled, func(s state.Source) bool { return n.isMoved(s) })
}

// isRenamed reports whether a source makes names otherwise than it did.
func (n *Names) isRenamed() bool {
	return slices.ContainsFunc(n.settled, func(s state.Source) bool {
		return slices.ContainsFunc(n.record.Sources, func(old state.Source) bool { return old.Name == s.Name && old.Form != s.Form })
	})
}

func (n *Names) isMoved(s state.Source) bool {
	i := slices.IndexFunc(n.record.Sources, func(old state.Source) bool { return old.Name == s.Name })
	return i >= 0 && n.record.Sources[i] != s
}

// unnamed returns the messages without a name that is kept.
func (n *Names) unnamed() []int {
	var all []int
	for i := range n.drop.Len() {
		if _, ok := n.given.get(n.drop.Key(i)); !ok {
			all = append(all, i)
		}
	}
	return all
}

// add keeps names, which are in given already. Where there are many lists they
// become one, without the names of messages that are gone if those are many.
func (n *Names) add(ctx context.Context, more []named) error {
	extent, err := n.book.store.Extent(ctx, n.owner.user, n.owner.folder, state.NamesChunk)
	if err != nil {
		return err
	}
	c := state.Change{Add: []state.Addition{{Kind: state.NamesChunk, Data: encodeNames(more)}}}
	if extent.Chunks >= maxChunks {
		if n.given.len() > 2*n.drop.Len()+1000 {
			n.given = newTable(n.ofPresent())
		}
		all := make([]named, n.given.len())
		for i := range all {
			all[i] = named{n.given.keys[i], string(n.given.at(i))}
		}
		c = state.Change{Replace: []state.Addition{{Kind: state.NamesChunk, Through: math.MaxInt64, Data: encodeNames(all)}}}
	}
	if err := n.book.store.Apply(ctx, n.owner.user, n.owner.folder, c); err != nil {
		return err
	}
	return n.reload(ctx)
}

// ofPresent returns the names of given whose messages are in the maildrop.
func (n *Names) ofPresent() (present []named) {
	for i := range n.drop.Len() {
		key := n.drop.Key(i)
		if name, ok := n.given.get(key); ok {
			present = append(present, named{key, string(name)})
		}
	}
	return present
}

// reload remembers given as what is now in the store.
func (n *Names) reload(ctx context.Context) error {
	var err error
	n.record, n.exists, err = n.book.store.Load(ctx, n.owner.user, n.owner.folder)
	if err != nil {
		return err
	}
	n.page = page{version: n.record.Version, names: n.given, checked: n.page.checked, learned: n.page.learned}
	kept := n.page
	n.book.keep(n.owner, &kept)
	return nil
}

// Given reports whether a message with this key has a name that is kept.
func (n *Names) Given(key Key) bool {
	name, ok := n.given.get(key)
	return ok && len(name) > 0
}

// Append appends the unique-id of message i.
func (n *Names) Append(dst []byte, i int) []byte {
	if n.places != nil {
		if at := n.places[i]; at >= 0 && len(n.given.at(int(at))) > 0 {
			return append(dst, n.given.at(int(at))...)
		}
	} else if n.given.len() > 0 {
		if name, _ := n.given.get(n.drop.Key(i)); len(name) > 0 {
			return append(dst, name...)
		}
	}
	start := len(dst)
	return AppendLegal(n.drop.AppendForm(dst, i), start)
}

// Unique is a Maildrop whose AppendForm never makes two alike.
type Unique interface{ IsUnique() bool }

var distinctSeed = maphash.MakeSeed()

// distinguish gives messages that share a name others. The first one keeps it, the
// next ones get "-2", "-3" and so on behind it, as Dovecot has it. The names are
// added to given, and returned to be kept; without a state they depend on the
// message alone, as far as that goes.
func (n *Names) distinguish() []named {
	if u, ok := n.drop.(Unique); ok && u.IsUnique() && n.given.len() == 0 {
		return nil
	}
	var more []named
	taken := make(map[uint64]struct{}, n.drop.Len())
	take := func(name []byte) bool {
		hash := maphash.Bytes(distinctSeed, name)
		_, ok := taken[hash]
		taken[hash] = struct{}{}
		return !ok
	}
	var later []int
	var name []byte
	for i := range n.drop.Len() {
		// Those that are kept first: they must stay.
		if given, _ := n.given.get(n.drop.Key(i)); len(given) > 0 {
			if !take(given) {
				later = append(later, i)
			}
		}
	}
	for i := range n.drop.Len() {
		if given, _ := n.given.get(n.drop.Key(i)); len(given) > 0 {
			continue
		}
		if name = n.Append(name[:0], i); !take(name) {
			later = append(later, i)
		}
	}
	for _, i := range later {
		base := n.Append(nil, i)
		for k := 2; ; k++ {
			suffix := "-" + strconv.Itoa(k)
			if n.book == nil {
				suffix = fmt.Sprintf("-%x", uint64(n.drop.Key(i))+uint64(k-2))
			}
			name = append(append(name[:0], base...), suffix...)
			if len(name) > MaxLength {
				name = AppendHash(nil, name)
			}
			if take(name) {
				break
			}
		}
		more = append(more, named{n.drop.Key(i), string(name)})
	}
	n.given = n.given.with(more)
	return more
}

// Watch returns r, which reads message i, so that the message is known by its name
// from then on if it was read to its end: by RETR, or by TOP with more lines than it
// has, as fetchmail gets what it keeps. The reader before it must have been closed.
func (n *Names) Watch(i int, r io.ReadCloser) io.ReadCloser {
	if n == nil || n.book == nil {
		return r
	}
	if len(n.retrieved) > n.kept && !time.Now().Before(n.due) {
		ctx, cancel := context.WithTimeout(context.Background(), keepLimit)
		n.keep(ctx) // Close tries again
		cancel()
	}
	n.header.Reset()
	n.watched = watched{ReadCloser: r, names: n, i: i}
	return &n.watched
}

type watched struct {
	io.ReadCloser
	names *Names
	i     int
	ended bool
}

func (w *watched) Read(p []byte) (int, error) {
	k, err := w.ReadCloser.Read(p)
	if h := &w.names.header; !h.done {
		h.Write(p[:k])
	}
	w.ended = err == io.EOF
	return k, err
}

func (w *watched) Close() error {
	err := w.ReadCloser.Close()
	if err == nil && w.ended {
		n := w.names
		n.retrieved = append(n.retrieved, retrieved{w.i, n.header.Fingerprint()})
	}
	w.ended = false
	return err
}

// Removed notes that message i is gone, and need not be known.
func (n *Names) Removed(i int) {
	if n == nil || n.book == nil {
		return
	}
	if n.removed == nil {
		n.removed = make(map[int]struct{})
	}
	n.removed[i] = struct{}{}
}

const (
	keepEvery = 10 * time.Second // what was retrieved is kept, in a session that goes on
	keepLimit = time.Second      // for which the client waits then
)

// Close keeps what the session has found out, if it can do so within a limit. It ends
// the use of n.
func (n *Names) Close(limit time.Duration) error {
	if n.book == nil || n.drop == nil || !n.hasNews() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := n.keep(ctx)
	if err != nil {
		n.book.setLearned(n.owner, time.Time{}) // what is lost here is learned from the list
	}
	return err
}

// hasNews reports whether there is something to keep.
func (n *Names) hasNews() bool {
	return len(n.retrieved) > n.kept || n.kept > 0 && len(n.removed) > 0 || n.isListedAnew()
}

// isListedAnew reports whether what is in the maildrop has changed enough to be kept.
func (n *Names) isListedAnew() bool {
	return !n.exists || !slices.Equal(n.record.Sources, n.settled) || countChanged(n.record.Count, n.left())
}

// left is how many messages are in the maildrop after what was removed.
func (n *Names) left() int { return n.drop.Len() - len(n.removed) }

// keep keeps what the session has found out so far.
func (n *Names) keep(ctx context.Context) error {
	all := len(n.retrieved)
	n.due = time.Now().Add(keepEvery)
	var c state.Change
	if n.isListedAnew() {
		c.Listed, c.Count = n.settled, n.left()
	}
	var added []known
	for _, r := range n.retrieved[n.kept:] {
		if _, gone := n.removed[r.i]; !gone {
			added = append(added, known{r.fingerprint, n.drop.Size(r.i), string(n.Append(nil, r.i))})
		}
	}
	if len(added) > 0 || n.kept > 0 && len(n.removed) > 0 {
		if err := n.learn(ctx, added, &c); err != nil {
			return err
		}
	}
	if c.Listed == nil && c.Add == nil && c.Replace == nil {
		return nil
	}
	if err := n.book.store.Apply(ctx, n.owner.user, n.owner.folder, c); err != nil {
		return err
	}
	if n.kept = all; c.Listed != nil {
		n.exists, n.record.Sources, n.record.Count = true, c.Listed, c.Count
	}
	return nil
}

// countChanged reports whether a number of messages is worth writing: it is for a
// rule of thumb.
func countChanged(old, now int) bool {
	return (old == 0) != (now == 0) || 4*now < 3*old || 4*old < 3*now
}

// learn adds known messages to a change. Where the list has grown to twice what it
// was it is written anew, without what is twice in it or, unless that may still come,
// gone.
func (n *Names) learn(ctx context.Context, added []known, c *state.Change) error {
	extent, err := n.book.store.Extent(ctx, n.owner.user, n.owner.folder, state.KnownChunk)
	if err != nil {
		return err
	}
	gone := make(map[string]struct{}) // names of what has been removed since it was kept
	if n.kept > 0 {
		for i := range n.removed {
			gone[string(n.Append(nil, i))] = struct{}{}
		}
	}
	data := encodeKnown(added)
	most := 2 * (n.drop.Len() + 1000) * (len(data)/max(1, len(added)) + 1)
	if len(gone) == 0 && extent.Chunks < maxChunks && extent.Octets+len(data) <= max(most, 2*extent.First) {
		c.Add = append(c.Add, state.Addition{Kind: state.KnownChunk, Data: data})
		return nil
	}
	all, through, err := n.book.known(ctx, n.owner)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(distinctKnown(append(added, all...)), func(k known) bool {
		_, ok := gone[k.uid]
		return ok
	})
	if !time.Now().Before(n.record.Match) && len(all) > 2*n.drop.Len()+1000 {
		all = n.present(all)
	}
	c.Replace = append(c.Replace, state.Addition{Kind: state.KnownChunk, Through: through, Data: encodeKnown(all)})
	return nil
}

// maxChunks is how many sessions add to a list before it is written anew.
const maxChunks = 32

// present returns those of all whose names are in the maildrop.
func (n *Names) present(all []known) []known {
	names := make(map[string]struct{}, n.drop.Len())
	var name []byte
	for i := range n.drop.Len() {
		name = n.Append(name[:0], i)
		names[string(name)] = struct{}{}
	}
	return slices.DeleteFunc(all, func(k known) bool {
		_, ok := names[k.uid]
		return !ok
	})
}

// stateText names the state of the maildrop, for a refusal to be remembered.
func (n *Names) stateText() string {
	sources, _ := json.Marshal(n.settled)
	return fmt.Sprintf("%s %d %v", sources, n.drop.Len(), n.record.Allowed)
}
