package uidl

import (
	"encoding/binary"
	"errors"
	"slices"
	"sort"
)

// table holds names by key. It is never changed, and may be shared. A name "" says
// that the form makes the name, which had to be found out. nil is empty.
type table struct {
	keys []Key // ascending
	ends []uint32
	text []byte
}

func (t *table) len() int {
	if t == nil {
		return 0
	}
	return len(t.keys)
}

// get returns the name of key, in memory of the table.
func (t *table) get(key Key) (name []byte, ok bool) {
	if t == nil {
		return nil, false
	}
	i, ok := slices.BinarySearch(t.keys, key)
	if !ok {
		return nil, false
	}
	return t.at(i), true
}

// place returns which name of the table is that of key, -1 for none.
func (t *table) place(key Key) int32 {
	if i, ok := slices.BinarySearch(t.keys, key); ok {
		return int32(i)
	}
	return -1
}

// at returns name i.
func (t *table) at(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = t.ends[i-1]
	}
	return t.text[start:t.ends[i]]
}

func (t *table) octets() int {
	if t == nil {
		return 0
	}
	return 12*len(t.keys) + len(t.text)
}

// with returns the names of t and those of more, which win.
func (t *table) with(more []named) *table {
	if len(more) == 0 {
		return t
	}
	all := make([]named, 0, t.len()+len(more))
	for i := range t.len() {
		all = append(all, named{t.keys[i], string(t.at(i))})
	}
	return newTable(append(all, more...))
}

// named is a name and whose it is.
type named struct {
	key  Key
	name string
}

// newTable makes a table. Of several names for a key the last one counts.
func newTable(all []named) *table {
	sort.SliceStable(all, func(i, j int) bool { return all[i].key < all[j].key })
	t := &table{}
	for i, n := range all {
		if i+1 < len(all) && all[i+1].key == n.key {
			continue
		}
		t.keys = append(t.keys, n.key)
		t.text = append(t.text, n.name...)
		t.ends = append(t.ends, uint32(len(t.text)))
	}
	return t
}

// known is a message that clients know by a unique-id.
type known struct {
	fingerprint Fingerprint
	size        int64 // octets; -1 where it is not known
	uid         string
}

// A chunk begins with an octet for its form, and then has entries: eight octets,
// for known a size, and a name with its length in front.
const chunkFormat = 1

var errChunk = errors.New("is not a list of unique-ids, or of another version")

func encodeNames(all []named) []byte {
	if len(all) == 0 {
		return nil
	}
	b := []byte{chunkFormat}
	for _, n := range all {
		b = binary.BigEndian.AppendUint64(b, uint64(n.key))
		b = appendText(b, n.name)
	}
	return b
}

func encodeKnown(all []known) []byte {
	if len(all) == 0 {
		return nil
	}
	b := []byte{chunkFormat}
	for _, k := range all {
		b = binary.BigEndian.AppendUint64(b, uint64(k.fingerprint))
		b = binary.AppendUvarint(b, uint64(k.size+1))
		b = appendText(b, k.uid)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func decodeNames(b []byte, all []named) ([]named, error) {
	d := decoder{rest: b}
	d.format()
	for len(d.rest) > 0 && !d.failed {
		all = append(all, named{Key(d.fixed()), d.text(0)})
	}
	return all, d.err()
}

func decodeKnown(b []byte, all []known) ([]known, error) {
	d := decoder{rest: b}
	d.format()
	for len(d.rest) > 0 && !d.failed {
		all = append(all, known{Fingerprint(d.fixed()), int64(d.uvarint()) - 1, d.text(1)})
	}
	return all, d.err()
}

type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) err() error {
	if d.failed {
		return errChunk
	}
	return nil
}

func (d *decoder) take(n int) []byte {
	if n > len(d.rest) {
		d.failed, d.rest = true, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) format() {
	if b := d.take(1); b == nil || b[0] != chunkFormat {
		d.failed = true
	}
}

func (d *decoder) fixed() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (d *decoder) uvarint() uint64 {
	n, octets := binary.Uvarint(d.rest)
	if octets <= 0 || n > 1<<62 {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[octets:]
	return n
}

// text reads a unique-id, of least octets.
func (d *decoder) text(least int) string {
	n := d.uvarint()
	if n > MaxLength || int(n) < least {
		d.failed = true
		return ""
	}
	s := string(d.take(int(n)))
	if s != "" && !Legal(s) {
		d.failed = true
	}
	return s
}
