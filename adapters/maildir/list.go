package maildir

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"pop3gw/gateway"
)

// list lists the folder. What known tells of sizes is believed; it may be nil.
//
// What a directory says of a file is its name and inode. Both are those of a
// message in known only if it is the same file. That its content was replaced
// in place, which no mail program does, is found out by Retrieve.
func (f *folder) list(ctx context.Context, c *counter, known *listing, work *work) (*listing, error) {
	room := 0
	if known != nil { // it is about as large
		room = known.len() + known.len()/64 + 8
	}
	found, v, whole, err := f.meet(ctx, room, maxMessages)
	if err != nil {
		return nil, err
	}
	if known != nil {
		adopt(found, known, whole && f.isLocal() && known.version.sameDirs(v))
	}
	if err := c.measure(ctx, f, found, work); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(found, func(m message) bool { return m.state == missing }) {
		whole = false
	}
	found, err = f.recover(ctx, found, c, work)
	if err != nil {
		return nil, err
	}
	work.end()
	messages := arrange(found, work.log)
	l := &listing{packed: pack(messages)}
	if len(messages) >= largeListing {
		giveBackMemory()
	}
	if whole {
		l.version = v
		l.stands = !slices.ContainsFunc(messages, func(m message) bool { return m.fresh })
	}
	return l, nil
}

// largeListing is how many messages it takes until the memory for making a listing,
// some 300 octets for each, is worth giving back.
const largeListing = 20_000

var givingBack atomic.Bool

// giveBackMemory returns what is not in use to the system in a moment. The collector
// by itself keeps it for minutes.
func giveBackMemory() {
	if givingBack.CompareAndSwap(false, true) {
		time.AfterFunc(time.Second, func() {
			givingBack.Store(false)
			debug.FreeOSMemory()
		})
	}
}

// maxMessages bounds a listing, and so the memory that the owner of a Maildir can take
// up: some 200 octets for each message while it is made.
const maxMessages = 2 << 20

// meet returns the files that it meets in new and cur, of which there are about room.
// More than most are an error. If whole, they are all that there were, and v is the
// version of that.
func (f *folder) meet(ctx context.Context, room, most int) (found []message, v version, whole bool, err error) {
	found = make([]message, 0, room)
	for range maxScans {
		start := len(found)
		v, whole, err = f.scan(ctx, func(in subdir, name string, inode uint64) {
			if len(found)-start <= most {
				m := newMessage(in, name)
				m.file.inode = inode
				found = append(found, m)
			}
		})
		if err != nil {
			return nil, v, false, err
		}
		if len(found)-start > most {
			return nil, v, false, gateway.Unusable("mailbox has too many messages", fmt.Errorf("there are more than %d; remove some, or move them to other folders", most))
		}
		if whole {
			return distinctNames(found[start:]), v, true, nil
		}
		// What any scan met is there or was renamed.
		found = distinctNames(found)
	}
	return found, v, false, nil
}

// mended reports whether a message that could not be read may be readable now, which
// no directory shows.
func (f *folder) mended(known *listing) bool {
	c := cursor{packed: &known.packed}
	for _, i := range known.unread {
		m := c.seek(int(i))
		if b, err := f.openBody(m.in, string(c.name)); err == nil {
			b.Close()
			return true
		}
	}
	return false
}

// adopt takes the sizes of messages in found, which is in order, from known. A
// file of the same base name and inode is the same file if proof; others will be
// examined as well. That is so where the directories are not those of known, as
// after a restart of the machine.
func adopt(found []message, known *listing, proof bool) {
	c := cursor{packed: &known.packed}
	first := 0 // in known: those before it are before all messages to come
	for i := range found {
		m, inode := &found[i], found[i].file.inode
		for first < known.len() && c.compareBase(first, m) < 0 {
			first++
		}
		for j := first; j < known.len() && c.compareBase(j, m) == 0; j++ {
			k := c.seek(j)
			if k.state != readable || k.fresh {
				continue
			}
			if proof && k.file.inode == inode {
				m.file, m.octets, m.state = k.file, k.octets, readable
				break
			}
			m.file, m.octets, m.state = k.file, k.octets, presumed
		}
	}
}

// recover adds to found, which was measured, the files that were renamed since
// they were met. A message of which no file is left was removed.
func (f *folder) recover(ctx context.Context, found []message, c *counter, work *work) ([]message, error) {
	for range maxScans {
		lost := lostBases(found)
		if len(lost) == 0 {
			return found, nil
		}
		var again []message
		_, whole, err := f.scan(ctx, func(in subdir, name string, _ uint64) {
			if _, ok := lost[baseName(name)]; ok {
				again = append(again, newMessage(in, name))
			}
		})
		if err != nil {
			return nil, err
		}
		if whole && len(again) == 0 {
			return found, nil
		}
		if err := c.measure(ctx, f, again, work); err != nil {
			return nil, err
		}
		found = append(found, again...)
	}
	if len(lostBases(found)) > 0 {
		return nil, errBusy(f)
	}
	return found, nil
}

// distinctNames drops the messages that have a name in common with another.
func distinctNames(messages []message) []message {
	slices.SortFunc(messages, func(a, b message) int {
		if c := compareBase(&a, &b); c != 0 {
			return c
		}
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return int(a.in) - int(b.in)
	})
	return slices.CompactFunc(messages, func(a, b message) bool { return a.in == b.in && a.name == b.name })
}

// lostBases returns the base names that only missing files have.
func lostBases(messages []message) map[string]struct{} {
	var lost map[string]struct{}
	for i := range messages {
		if messages[i].state == missing {
			if lost == nil {
				lost = make(map[string]struct{})
			}
			lost[messages[i].base()] = struct{}{}
		}
	}
	if lost == nil {
		return nil
	}
	for i := range messages {
		if messages[i].state != missing {
			delete(lost, messages[i].base())
		}
	}
	return lost
}

// arrange sorts what is a message and joins the names of one file.
func arrange(found []message, log *slog.Logger) []message {
	foreignFiles := 0
	messages := slices.DeleteFunc(found, func(m message) bool {
		if m.state == foreign {
			foreignFiles++
		}
		return m.state != readable && m.state != unreadable
	})
	if foreignFiles > 0 {
		log.Debug("what is no regular file is no message", "number", foreignFiles)
	}
	slices.SortFunc(messages, compare)
	messages = slices.CompactFunc(messages, func(a, b message) bool { return compare(a, b) == 0 })
	duplicates := 0
	for i := 1; i < len(messages); i++ {
		if compareBase(&messages[i-1], &messages[i]) == 0 {
			messages[i-1].shared, messages[i].shared, messages[i].duplicate = true, true, true
			duplicates++
		}
	}
	if duplicates > 0 {
		log.Warn("several files share a base name; all are listed, but without state.url their UIDLs change when one of them goes", "number", duplicates)
	}
	return messages
}
