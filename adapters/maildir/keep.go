package maildir

import (
	"encoding/binary"
	"errors"
	"time"
)

// keepFormat is the first octet of a listing as it is kept on disk. Another one
// is of another version of the program.
const keepFormat = 2

// keepRate bounds, in octets a second for each folder, what is written of
// listings that change all the time. One that is out of date still tells sizes.
const keepRate = 100_000

// keepKey is the cache's key for the folder at path.
func keepKey(path string) string { return "maildir " + path }

// encode appends the listing, for decode: whether it stands, its version, the
// number of messages, and these as they are packed.
func (l *listing) encode(b []byte) []byte {
	stands := byte(0)
	if l.stands {
		stands = 1
	}
	b = append(b, keepFormat, stands)
	for _, v := range l.version {
		b = binary.AppendUvarint(b, v.dev)
		b = binary.AppendUvarint(b, v.inode)
		b = binary.AppendVarint(b, v.modified)
		b = binary.AppendVarint(b, v.changed)
	}
	b = binary.AppendUvarint(b, uint64(l.len()))
	return append(b, l.data...)
}

var errKept = errors.New("is no listing, or one of another version")

// decode is the inverse of encode. It keeps b.
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
	n := d.uvarint()
	if d.failed {
		return nil, errKept
	}
	var err error
	if l.packed, err = readPacked(d.rest, n); err != nil {
		return nil, errors.Join(errKept, err)
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

// octets returns the next n, which are d's.
func (d *decoder) octets(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.failed, n = true, 0
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
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
func (a *Adapter) keep(path string, l, last *listing) {
	if a.kept == nil {
		return
	}
	now := time.Now()
	l.kept = now
	if last != nil && !last.kept.IsZero() {
		pause := time.Duration(l.memory()) * time.Second / keepRate
		if now.Sub(last.kept) < pause {
			l.kept, l.due = last.kept, true
			return
		}
	}
	done := make(chan struct{})
	before, _ := a.writes.Swap(path, done)
	a.background.Go(func() {
		if before != nil {
			<-before.(chan struct{})
		}
		a.kept.Put(keepKey(path), l.encode(nil))
		a.writes.CompareAndDelete(path, done)
		close(done)
	})
}

// keepDue writes the listings that were not written when they were made.
func (a *Adapter) keepDue() {
	for path, l := range a.listings.all() {
		if l.due {
			a.kept.Put(keepKey(path), l.encode(nil))
		}
	}
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

// forget is for listings that were found to be wrong. One that is being written is
// waited for, lest it comes back.
func (a *Adapter) forget(path string) {
	a.listings.forget(path)
	if done, ok := a.writes.Load(path); ok {
		<-done.(chan struct{})
	}
	a.kept.Delete(keepKey(path))
}
