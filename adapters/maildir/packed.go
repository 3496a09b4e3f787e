package maildir

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

// packed holds the messages of a listing in their order, in some 30 octets each
// where a message takes up 120: names as what they differ in from the one before,
// numbers as differences. It is shared, and never changed.
type packed struct {
	data  []byte   // one message after the other: see cursor.next
	index []uint32 // where in data each block begins
	sizes []uint32 // octets of each message, or math.MaxUint32 where they do not fit

	duplicates bool    // some message is one
	unread     []int32 // those that are unreadable
}

// blockSize is how many messages make a block. The first is told without the one
// before it, so that any message is found in a few steps.
const blockSize = 32

// Of the first octet of a message.
const (
	packedCur       = 1 << iota // in cur, not in new
	packedShared                // message.shared
	packedDuplicate             // message.duplicate
	packedFresh                 // message.fresh
	packedUnread                // unreadable, not readable
	packedSameInfo              // what stands behind the base name is that of the message before
	packedSameForm              // the base name differs from the one before in numbers alone
	packedNear                  // modified is told from the time of delivery, not from the message before
)

// pack packs messages in their order, which are readable or unreadable.
func pack(messages []message) packed {
	var p packed
	var before message
	for i := range messages {
		if i%blockSize == 0 {
			before = message{}
		}
		m := &messages[i]
		p.note(len(p.data), m.octets)
		p.sum(i, m)
		p.data = appendPacked(p.data, m, &before)
		before = *m
	}
	p.data, p.index, p.sizes = slices.Clip(p.data), slices.Clip(p.index), slices.Clip(p.sizes)
	return p
}

// sum notes what is known of the messages together.
func (p *packed) sum(i int, m *message) {
	p.duplicates = p.duplicates || m.duplicate
	if m.state == unreadable {
		p.unread = append(p.unread, int32(i))
	}
}

// note adds a message that begins at an offset in data.
func (p *packed) note(at int, octets int64) {
	if len(p.sizes)%blockSize == 0 {
		p.index = append(p.index, uint32(at))
	}
	p.sizes = append(p.sizes, uint32(min(octets, math.MaxUint32)))
}

func (p *packed) len() int { return len(p.sizes) }

// memory is the memory that it takes up, in octets.
func (p *packed) memory() int64 {
	return int64(cap(p.data)) + 4*int64(cap(p.index)+cap(p.sizes)+cap(p.unread))
}

// size is the number of octets of message i as RETR sends it.
func (p *packed) size(i int) int64 {
	if n := p.sizes[i]; n != math.MaxUint32 {
		return int64(n)
	}
	c := cursor{packed: p}
	return c.seek(i).octets
}

// unpack returns the messages.
func (p *packed) unpack() []message {
	messages := make([]message, 0, p.len())
	var names []byte
	for c := (cursor{packed: p}); len(messages) < p.len(); {
		messages = append(messages, *c.seek(len(messages)))
		names = append(names, c.name...)
	}
	all := string(names) // one allocation for all names
	for i, c := 0, (cursor{packed: p}); i < len(messages); i++ {
		c.seek(i)
		messages[i].name, all = all[:len(c.name)], all[len(c.name):]
		messages[i].delivered = deliveryTime(messages[i].base())
	}
	return messages
}

var errPacked = errors.New("messages that cannot be, or are out of order")

// readPacked takes data for n packed messages if that is what it is.
func readPacked(data []byte, n uint64) (packed, error) {
	const least = 7 // octets of a message
	if n > uint64(len(data)/least) || len(data) > math.MaxUint32 {
		return packed{}, errPacked
	}
	p := packed{data: data, index: make([]uint32, 0, (n+blockSize-1)/blockSize), sizes: make([]uint32, 0, n)}
	c := cursor{packed: &p, decoder: decoder{rest: data}}
	var before struct {
		base      []byte
		delivered int64
		inode     uint64
	}
	for i := range int(n) {
		p.note(len(data)-len(c.rest), 0)
		m := c.seek(i)
		if c.failed || m.octets < 0 || m.file.size < 0 || m.baseLen == 0 || bytes.IndexByte(c.base(), ':') >= 0 ||
			len(c.name) > int(m.baseLen) && c.name[m.baseLen] != ':' {
			return packed{}, errPacked
		}
		p.sizes[i] = uint32(min(m.octets, math.MaxUint32))
		p.sum(i, m)
		delivered := c.delivered()
		// The order is relied on: see compare.
		if i > 0 && cmp.Or(cmp.Compare(before.delivered, delivered), bytes.Compare(before.base, c.base()), cmp.Compare(before.inode, m.file.inode)) >= 0 {
			return packed{}, errPacked
		}
		before.base, before.delivered, before.inode = append(before.base[:0], c.base()...), delivered, m.file.inode
	}
	if n == 0 && len(data) > 0 || len(c.rest) > 0 {
		return packed{}, errPacked
	}
	return p, nil
}

// appendPacked appends m, told from the message before.
func appendPacked(b []byte, m, before *message) []byte {
	base, baseBefore, info := []byte(m.base()), []byte(before.base()), m.name[m.baseLen:]
	flags := byte(0)
	for _, f := range []struct {
		set  bool
		flag byte
	}{
		{m.in == inCur, packedCur}, {m.shared, packedShared}, {m.duplicate, packedDuplicate}, {m.fresh, packedFresh},
		{m.state == unreadable, packedUnread}, {info == before.name[before.baseLen:], packedSameInfo},
	} {
		if f.set {
			flags |= f.flag
		}
	}
	name, same := appendNumbers(nil, baseBefore, base)
	if same {
		flags |= packedSameForm
	} else {
		name = appendDifference(name[:0], baseBefore, base)
	}
	near, far := m.file.modified-1000*m.delivered, m.file.modified-before.file.modified
	if zigzag(near) < zigzag(far) {
		flags |= packedNear
		far = near
	}
	b = append(append(b, flags), name...)
	if flags&packedSameInfo == 0 {
		b = append(binary.AppendUvarint(b, uint64(len(info))), info...)
	}
	b = binary.AppendVarint(b, int64(m.file.inode-before.file.inode))
	b = binary.AppendVarint(b, far)
	b = binary.AppendUvarint(b, uint64(m.file.size))
	return binary.AppendVarint(b, m.octets-m.file.size)
}

// cursor reads packed messages, best one after the other. The zero value but for
// packed is before the first.
type cursor struct {
	*packed
	decoder           // of what is behind the message that it is at
	behind  int       // the index of what is there
	name    []byte    // of the message that it is at, until the next call of seek
	spare   []byte    // room for the next name
	old     []numeral // in the base name, if split
	split   bool
	m       message
}

// seek goes to message i and returns it, without name and delivered. It is good
// until the next call.
func (c *cursor) seek(i int) *message {
	switch {
	case i+1 == c.behind:
		return &c.m
	case i < c.behind || i/blockSize > c.behind/blockSize || c.rest == nil:
		c.behind = i / blockSize * blockSize
		c.rest = c.data[c.index[i/blockSize]:]
	}
	for c.behind <= i {
		if c.behind%blockSize == 0 {
			c.name, c.split, c.m = c.name[:0], false, message{}
		}
		c.next()
		c.behind++
	}
	return &c.m
}

// base is the base name of the message that it is at.
func (c *cursor) base() []byte { return c.name[:c.m.baseLen] }

// delivered is deliveryTime of the base name.
func (c *cursor) delivered() int64 {
	base := c.base()
	return deliveryTime(string(base[:min(len(base), 32)])) // all that counts, and no allocation
}

// compareBase is compareBase of message i and m.
func (c *cursor) compareBase(i int, m *message) int {
	c.seek(i)
	if n := cmp.Compare(c.delivered(), m.delivered); n != 0 {
		return n
	}
	return bytes.Compare(c.base(), []byte(m.base()))
}

// next reads the message that is behind: see appendPacked.
func (c *cursor) next() {
	m := &c.m
	flags := c.octet()
	m.in, m.state = inNew, readable
	if flags&packedCur != 0 {
		m.in = inCur
	}
	if flags&packedUnread != 0 {
		m.state = unreadable
	}
	m.shared, m.duplicate, m.fresh = flags&packedShared != 0, flags&packedDuplicate != 0, flags&packedFresh != 0
	base, info := c.name[:m.baseLen], c.name[m.baseLen:]
	name, inPlace := c.spare[:0], false
	if flags&packedSameForm == 0 {
		name, c.split = c.difference(name, base), false
	} else {
		if !c.split {
			c.old, c.split = appendSplit(c.old[:0], base), true
		}
		name, inPlace = c.numbers(c.old, base, name)
	}
	baseLen := len(name)
	if flags&packedSameInfo == 0 {
		info = c.octets(c.uvarint())
	}
	if !inPlace {
		c.spare = c.name
	}
	c.name = append(name, info...) // which lies there already if it is the same, and in place
	if baseLen > math.MaxUint16 {
		c.failed, baseLen = true, 0
	}
	m.baseLen = uint16(baseLen)
	m.file.inode += uint64(c.varint())
	if flags&packedNear != 0 {
		m.file.modified = 1000 * c.delivered()
	}
	m.file.modified += c.varint()
	m.file.size = int64(c.uvarint())
	m.octets = m.file.size + c.varint()
}
