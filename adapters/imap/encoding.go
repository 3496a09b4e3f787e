package imap

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// encodingFormat is the first octet of an encoded listing; another one means
// another form.
const encodingFormat = 1

// encode returns r as numbers of variable length, UIDs as the difference to the
// one before: some four octets for each message.
func (r *remembered) encode() []byte {
	l := &r.messages
	b := make([]byte, 0, 64+len(r.mailbox)+5*l.len())
	b = append(b, encodingFormat)
	b = binary.AppendUvarint(b, uint64(r.uidValidity))
	b = binary.AppendUvarint(b, uint64(r.uidNext))
	b = binary.AppendUvarint(b, r.highestModSeq)
	b = binary.AppendUvarint(b, uint64(max(0, r.listed.Unix())))
	b = binary.AppendUvarint(b, uint64(len(r.mailbox)))
	b = append(b, r.mailbox...)
	b = binary.AppendUvarint(b, uint64(l.len()))
	last := uint32(0)
	for i, uid := range l.uids {
		b = binary.AppendUvarint(b, uint64(uid-last))
		b = binary.AppendUvarint(b, uint64(l.size(i)))
		last = uid
	}
	right := l.right.members()
	b = binary.AppendUvarint(b, uint64(len(right)))
	before := 0
	for _, i := range right {
		b = binary.AppendUvarint(b, uint64(i-before))
		before = i
	}
	return b
}

var errEncoding = errors.New("not a listing")

// decode is the reverse of encode. It takes any octets, and what it returns is a
// listing that could be.
func decode(b []byte) (*remembered, error) {
	if len(b) == 0 || b[0] != encodingFormat {
		return nil, errEncoding
	}
	d := decoder{b: b[1:]}
	r := &remembered{
		uidValidity:   uint32(d.number(1, math.MaxUint32)),
		uidNext:       uint32(d.number(0, math.MaxUint32)),
		highestModSeq: d.number(0, math.MaxUint64),
		listed:        time.Unix(int64(d.number(0, math.MaxInt32*1000)), 0),
	}
	r.mailbox = string(d.octets(d.number(0, uint64(len(b)))))
	l := &r.messages
	n := int(d.number(0, min(maxMessages, uint64(len(d.b)/2)))) // two octets each at least
	l.uids, l.sizes = make([]uint32, 0, n), make([]uint32, 0, n)
	uid := uint64(0)
	for range n {
		if d.failed {
			return nil, errEncoding
		}
		uid += d.number(1, math.MaxUint32)
		if uid > math.MaxUint32 || r.uidNext > 0 && uid >= uint64(r.uidNext) {
			return nil, errEncoding
		}
		l.uids, l.sizes = append(l.uids, uint32(uid)), append(l.sizes, 0)
		l.setSize(len(l.uids)-1, int64(d.number(0, math.MaxInt64)))
	}
	i := 0
	for k := range d.number(0, uint64(n)) {
		i += int(d.number(min(k, 1), uint64(n)))
		if i >= n || d.failed {
			return nil, errEncoding
		}
		l.right.add(i)
	}
	if d.failed || len(d.b) > 0 {
		return nil, errEncoding
	}
	return r, nil
}

// decoder reads numbers until one is not as it must be.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) number(least, most uint64) uint64 {
	n, octets := binary.Uvarint(d.b)
	if octets <= 0 || n < least || n > most {
		d.failed, d.b = true, nil
		return 0
	}
	d.b = d.b[octets:]
	return n
}

func (d *decoder) octets(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.failed, n = true, 0
	}
	octets := d.b[:n]
	d.b = d.b[n:]
	return octets
}
