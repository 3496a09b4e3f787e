package maildir

import (
	"encoding/binary"
	"errors"
	"time"
)

// keepFormat is the first octet of a listing as it is kept on disk. Another one
// is of another version of the program.
const keepFormat = 1

// keepRate bounds, in octets a second for each folder, what is written of
// listings that change all the time. One that is out of date still tells sizes.
const keepRate = 100_000

// keepKey is the cache's key for the folder at path.
func keepKey(path string) string { return "maildir " + path }

// encode appends the listing, for decode: version, flags, number of messages, and
// each with its place and whether it shares its base name, name, inode, times,
// sizes. Numbers are varints, times differences.
func (l *listing) encode(b []byte) []byte {
	b = append(b, keepFormat, bits(l.stands))
	for _, v := range l.version {
		b = binary.AppendUvarint(b, v.dev)
		b = binary.AppendUvarint(b, v.inode)
		b = binary.AppendVarint(b, v.modified)
		b = binary.AppendVarint(b, v.changed)
	}
	b = binary.AppendUvarint(b, uint64(len(l.messages)))
	for i := range l.messages {
		m := &l.messages[i]
		sure := m.state == readable && !m.fresh
		b = append(b, byte(m.in)|bits(m.shared, m.duplicate, sure)<<1)
		b = binary.AppendUvarint(b, uint64(len(m.name)))
		b = append(b, m.name...)
		b = binary.AppendUvarint(b, m.file.inode)
		b = binary.AppendVarint(b, m.file.modified)
		b = binary.AppendUvarint(b, uint64(m.file.size))
		b = binary.AppendVarint(b, m.octets-m.file.size)
	}
	return b
}

func bits(flags ...bool) (b byte) {
	for i, set := range flags {
		if set {
			b |= 1 << i
		}
	}
	return b
}

var errKept = errors.New("is no listing, or one of another version")

// decode is the inverse of encode. Messages whose size was not beyond doubt are
// unmeasured.
func decode(b []byte) (*listing, error) {
	d := decoder{rest: b}
	if d.octet() != keepFormat {
		return nil, errKept
	}
	l := &listing{stands: d.octet() == 1}
	for i := range l.version {
		v := &l.version[i]
		v.dev, v.inode, v.modified, v.changed = d.uvarint(), d.uvarint(), d.varint(), d.varint()
	}
	const least = 6 // octets for a message
	n := d.uvarint()
	if n > uint64(len(d.rest)/least) {
		return nil, errKept
	}
	l.messages = make([]message, 0, n)
	all := string(b) // one allocation for all names
	for range n {
		flags := d.octet()
		length := d.uvarint()
		if d.failed || length == 0 || length > uint64(len(d.rest)) || flags > 0xf {
			return nil, errKept
		}
		at := len(b) - len(d.rest)
		m := newMessage(subdir(flags&1), all[at:at+int(length)])
		d.rest = d.rest[length:]
		m.shared, m.duplicate = flags&2 != 0, flags&4 != 0
		m.file.inode, m.file.modified, m.file.size = d.uvarint(), d.varint(), int64(d.uvarint())
		m.octets = m.file.size + d.varint()
		if m.file.size < 0 || m.octets < 0 {
			return nil, errKept
		}
		if flags&8 != 0 {
			m.state = readable
		} else if l.stands {
			return nil, errKept
		}
		// The order is relied on.
		if k := len(l.messages); k > 0 && compare(l.messages[k-1], m) >= 0 {
			return nil, errKept
		}
		l.messages = append(l.messages, m)
	}
	if d.failed || len(d.rest) > 0 {
		return nil, errKept
	}
	return l, nil
}

type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) octet() byte {
	if len(d.rest) == 0 {
		d.failed = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	return take(d, v, n)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	return take(d, v, n)
}

func take[T any](d *decoder, v T, n int) T {
	if n <= 0 {
		d.failed = true
		return v
	}
	d.rest = d.rest[n:]
	return v
}

// keep writes a new listing of the folder at path to the cache, not too often. It
// does not wait for that.
func (a *Adapter) keep(path string, l, before *listing) {
	if a.kept == nil {
		return
	}
	now := time.Now()
	l.kept = now
	if before != nil && !before.kept.IsZero() {
		pause := time.Duration(l.octets()) * time.Second / keepRate
		if now.Sub(before.kept) < pause {
			l.kept = before.kept
			return
		}
	}
	a.background.Go(func() { a.kept.Put(keepKey(path), l.encode(nil)) })
}

// recall returns what is remembered of the folder at path, in memory or on disk;
// nil if nothing is.
func (a *Adapter) recall(path string) *listing {
	if l := a.listings.get(path); l != nil {
		return l
	}
	data, ok := a.kept.Get(keepKey(path))
	if !ok {
		return nil
	}
	l, err := decode(data)
	if err != nil {
		a.log.Warn("what was kept of a folder cannot be used, its messages are counted anew", "maildir", path, "error", err)
		a.kept.Delete(keepKey(path))
		return nil
	}
	l.kept = time.Now()
	a.listings.put(path, l)
	return l
}

// forget is for listings that were found to be wrong.
func (a *Adapter) forget(path string) {
	a.listings.forget(path)
	a.kept.Delete(keepKey(path))
}
