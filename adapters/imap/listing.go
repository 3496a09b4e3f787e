package imap

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/emersion/go-imap/v2"

	"pop3gw/adapters/imap/link"
)

// maxMessages bounds a listing, and so the memory that a server can take up:
// eight octets for each message.
const maxMessages = 8 << 20

var errTooMany = fmt.Errorf("server lists more than %d messages", maxMessages)

// listing holds the messages of a mailbox, ascending by UID. Once it is complete
// it may be shared, and is not changed any more.
type listing struct {
	uids  []uint32
	sizes []uint32         // in octets, or math.MaxUint32: see large
	large map[uint32]int64 // sizes by UID, where sizes has no room for them
	right bitset           // sizes that the server is wrong about, and that were mended
}

func (l *listing) len() int { return len(l.uids) }

func (l *listing) size(i int) int64 {
	if l.sizes[i] == math.MaxUint32 {
		return l.large[l.uids[i]]
	}
	return int64(l.sizes[i])
}

func (l *listing) add(uid imap.UID, size int64) error {
	if len(l.uids) == maxMessages {
		return errTooMany
	}
	l.uids = append(l.uids, uint32(uid))
	l.sizes = append(l.sizes, 0)
	l.setSize(len(l.uids)-1, size)
	return nil
}

func (l *listing) setSize(i int, size int64) {
	if size < math.MaxUint32 {
		l.sizes[i] = uint32(size)
		return
	}
	if l.large == nil {
		l.large = make(map[uint32]int64)
	}
	l.sizes[i] = math.MaxUint32
	l.large[l.uids[i]] = size
}

// sort puts the messages in the order of their UIDs, each once. Sequence
// numbers have that order already, so that there is nothing to do as a rule.
func (l *listing) sort() {
	if !slices.IsSorted(l.uids) {
		sort.Sort(byUID{l})
	}
	n := 0
	for i, uid := range l.uids {
		if i == 0 || uid != l.uids[n-1] {
			l.uids[n], l.sizes[n] = uid, l.sizes[i]
			n++
		}
	}
	l.uids, l.sizes = l.uids[:n], l.sizes[:n]
}

type byUID struct{ *listing }

func (b byUID) Len() int           { return len(b.uids) }
func (b byUID) Less(i, j int) bool { return b.uids[i] < b.uids[j] }
func (b byUID) Swap(i, j int) {
	b.uids[i], b.uids[j] = b.uids[j], b.uids[i]
	b.sizes[i], b.sizes[j] = b.sizes[j], b.sizes[i]
}

// covers reports whether all UIDs of set below limit are listed.
func (l *listing) covers(set imap.UIDSet, limit uint64) bool {
	for _, r := range set {
		stop := min(uint64(r.Stop)+1, limit)
		if uint64(r.Start) >= stop {
			continue
		}
		first, _ := slices.BinarySearch(l.uids, uint32(r.Start))
		behind := len(l.uids)
		if stop <= math.MaxUint32 {
			behind, _ = slices.BinarySearch(l.uids, uint32(stop))
		}
		if uint64(behind-first) != stop-uint64(r.Start) {
			return false
		}
	}
	return true
}

// keeping returns those of the messages for which keep returns true.
func (l *listing) keeping(keep func(i int) bool) listing {
	var kept listing
	kept.uids, kept.sizes = make([]uint32, 0, l.len()), make([]uint32, 0, l.len())
	for i := range l.uids {
		if keep(i) {
			kept.take(l, i)
		}
	}
	return kept
}

// take appends message i of from.
func (l *listing) take(from *listing, i int) {
	l.uids, l.sizes = append(l.uids, from.uids[i]), append(l.sizes, 0)
	l.setSize(l.len()-1, from.size(i))
	if from.right.has(i) {
		l.right.add(l.len() - 1)
	}
}

// within returns those of the messages that are in set.
func (l *listing) within(set imap.UIDSet) listing {
	return l.keeping(func(i int) bool { return set.Contains(imap.UID(l.uids[i])) })
}

// with returns the messages of l and those of more, whose UIDs are higher.
func (l *listing) with(more listing) listing {
	all := listing{
		uids:  slices.Concat(l.uids, more.uids),
		sizes: slices.Concat(l.sizes, more.sizes),
		large: more.large,
		right: slices.Clone(l.right),
	}
	for uid, size := range l.large {
		if all.large == nil {
			all.large = make(map[uint32]int64)
		}
		all.large[uid] = size
	}
	return all
}

// correct sets the size of a message to what RETR found.
func (l *listing) correct(i int, octets int64) {
	l.setSize(i, octets)
	l.right.add(i)
}

// correctAs takes the sizes over that were found to be wrong in an earlier listing
// under the same UIDVALIDITY. Without that they would be wrong until each message
// is read again.
func (l *listing) correctAs(old *listing) {
	for _, i := range old.right.members() {
		if at, ok := slices.BinarySearch(l.uids, old.uids[i]); ok {
			l.correct(at, old.size(i))
		}
	}
}

// agrees reports whether a server's search found the first message, the last, and
// as many.
func (l *listing) agrees(e *link.Extent) bool {
	switch {
	case e == nil || int64(e.Count) != int64(l.len()):
		return false
	case l.len() == 0:
		return true
	}
	return e.Min == l.uids[0] && e.Max == l.uids[l.len()-1]
}

// chunk returns the UIDs of the first n of the messages in indexes, ascending,
// as many as fit in a command. Only UIDs that are neighbours as numbers share a
// range: in a gap there may be a message that was not listed.
func (l *listing) chunk(indexes []int) (set imap.UIDSet, n int) {
	const number = len(",4294967295")
	var last uint32
	for octets, inRange := 0, false; n < len(indexes) && n < maxSetMessages; n++ {
		uid := l.uids[indexes[n]]
		switch {
		case n == 0 || uid != last+1:
			octets, inRange = octets+number, false
		case !inRange:
			octets, inRange = octets+number, true
		}
		if octets > maxSetOctets {
			break
		}
		set.AddNum(imap.UID(uid))
		last = uid
	}
	return set, n
}
