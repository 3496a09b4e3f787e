package maildir

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

// Names of messages are much alike: programs that deliver make them of times, numbers
// of processes and inodes, and the name of the machine. So a name is told by the
// numbers that differ from the name before, if that has the same form, and otherwise by
// what stands between the beginning and the end that they share.

// part is a piece of a name: text or a number.
type part struct {
	text   []byte
	number uint64
	base   int // of the number, 10 or 16; 0 for text
}

const (
	hexDigits  = 16 // as the maildrop of Courier writes numbers
	maxDecimal = 18 // digits of which a number surely fits
)

// cutPart splits name, which is not empty, behind its first part.
func cutPart(name []byte) (p part, rest []byte) {
	decimal, n := uint64(0), 0
	for n < len(name) && isDigit(name[n]) {
		decimal = decimal*10 + uint64(name[n]-'0')
		n++
	}
	if end := countHex(name, n); end == hexDigits {
		return part{name[:end], parseHex(name[:end]), 16}, name[end:]
	}
	if n > 0 && n <= maxDecimal {
		return part{name[:n], decimal, 10}, name[n:]
	}
	// Text: too many digits, or what goes up to the next number.
	for n = max(n, 1); n < len(name) && !isDigit(name[n]) && (!isHexDigit(name[n]) || isHexDigit(name[n-1])); n++ {
	}
	return part{text: name[:n]}, name[n:]
}

// countHex counts the leading hexadecimal digits of s, of which there are n at least.
func countHex(s []byte, n int) int {
	for n < len(s) && isHexDigit(s[n]) {
		n++
	}
	return n
}

func parseHex(digits []byte) (n uint64) {
	for _, c := range digits {
		if isDigit(c) {
			c -= '0'
		} else {
			c -= 'A' - 10
		}
		n = n<<4 | uint64(c)
	}
	return n
}

func isDigit(c byte) bool    { return c-'0' < 10 }
func isHexDigit(c byte) bool { return c-'0' < 10 || c-'A' < 6 }

// appendNumbers appends the numbers of name as what they differ in from those of
// before. ok is false if the names differ in more than that.
func appendNumbers(b, before, name []byte) (_ []byte, ok bool) {
	for len(before) > 0 && len(name) > 0 {
		var old, new part
		old, before = cutPart(before)
		new, name = cutPart(name)
		switch {
		case old.base != new.base, old.base == 0 && !bytes.Equal(old.text, new.text):
			return b, false
		case new.base == 16:
			b = binary.AppendVarint(b, int64(new.number-old.number))
		case new.base == 10:
			difference := zigzag(int64(new.number - old.number))
			if width := len(strconv.AppendUint(nil, new.number, 10)); width == len(new.text) {
				b = binary.AppendUvarint(b, difference<<1)
			} else { // zeros before it
				b = append(binary.AppendUvarint(b, difference<<1|1), byte(len(new.text)))
			}
		}
	}
	return b, len(before) == 0 && len(name) == 0
}

// numeral is a number in a name.
type numeral struct {
	start, end int // where it stands
	n          uint64
	base       int
}

// appendSplit appends the numbers in name.
func appendSplit(numbers []numeral, name []byte) []numeral {
	for rest := name; len(rest) > 0; {
		start := len(name) - len(rest)
		var p part
		if p, rest = cutPart(rest); p.base != 0 {
			numbers = append(numbers, numeral{start, start + len(p.text), p.number, p.base})
		}
	}
	return numbers
}

// numbers is the inverse of appendNumbers. old are the numbers of before, and become
// those of the name. That takes the place of before if no number has other digits
// in number, and is otherwise appended to room.
func (d *decoder) numbers(old []numeral, before, room []byte) (name []byte, inPlace bool) {
	var digits [20]byte
	moved, end := false, 0 // end: up to where before was copied to room
	for i := range old {
		o := &old[i]
		text := digits[:0]
		if o.base == 16 {
			o.n += uint64(d.varint())
			text = appendHex(text, o.n)
		} else if code := d.uvarint(); code == 0 && before[o.start] != '0' && !moved {
			continue
		} else {
			o.n += uint64(unzigzag(code >> 1))
			if code&1 != 0 {
				text = appendPadded(text, o.n, int(d.octet()))
			} else {
				text = strconv.AppendUint(text, o.n, 10)
			}
		}
		if !moved && len(text) == o.end-o.start {
			copy(before[o.start:], text)
			continue
		}
		moved = true
		room = append(append(room, before[end:o.start]...), text...)
		end = o.end
		o.start, o.end = len(room)-len(text), len(room)
	}
	if moved {
		return append(room, before[end:]...), false
	}
	return before, true
}

// appendPadded appends a number, with zeros before it up to a width.
func appendPadded(b []byte, n uint64, width int) []byte {
	digits := 1
	for m := n; m >= 10; m /= 10 {
		digits++
	}
	for range width - digits {
		b = append(b, '0')
	}
	return strconv.AppendUint(b, n, 10)
}

func appendHex(b []byte, n uint64) []byte {
	for shift := 4 * (hexDigits - 1); shift >= 0; shift -= 4 {
		b = append(b, "0123456789ABCDEF"[n>>shift&0xf])
	}
	return b
}

// appendDifference appends how much of the beginning and of the end of before name
// has too, and what stands between.
func appendDifference(b, before, name []byte) []byte {
	most := min(len(before), len(name))
	head := 0
	for head < most && before[head] == name[head] {
		head++
	}
	tail := 0
	for tail < most-head && before[len(before)-1-tail] == name[len(name)-1-tail] {
		tail++
	}
	middle := name[head : len(name)-tail]
	b = binary.AppendUvarint(b, uint64(head))
	b = binary.AppendUvarint(b, uint64(tail))
	b = binary.AppendUvarint(b, uint64(len(middle)))
	return append(b, middle...)
}

// difference is the inverse of appendDifference: it appends the name.
func (d *decoder) difference(b, before []byte) []byte {
	head, tail, middle := d.uvarint(), d.uvarint(), d.octets(d.uvarint())
	if n := uint64(len(before)); head > n || tail > n-head {
		d.failed = true
		return b
	}
	b = append(append(b, before[:head]...), middle...)
	return append(b, before[uint64(len(before))-tail:]...)
}

// zigzag makes small numbers of either sign small.
func zigzag(n int64) uint64 { return uint64(n)<<1 ^ uint64(n>>63) }

func unzigzag(n uint64) int64 { return int64(n>>1) ^ -int64(n&1) }
