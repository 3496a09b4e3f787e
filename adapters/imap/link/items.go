package link

import (
	"bytes"
	"fmt"
)

// items reads the data of one FETCH response (RFC 9051 §7.5.2), "(UID 7 FLAGS
// (\Seen) BODY[] {5}...)", item by item: next, then one of the methods for its
// value. It keeps one line at a time, and its slices are valid until the next
// call. Errors are final.
type items struct {
	r    *reader
	seq  uint32
	line []byte // what is left of the current line
	open bool   // the list has not ended
}

func newItems(r *reader, seq uint32, list []byte) items {
	return items{r: r, seq: seq, line: list}
}

// next returns the name of the next item, in any case, or false at the end.
func (it *items) next() (name []byte, more bool, err error) {
	if !it.open {
		if len(it.line) == 0 || it.line[0] != '(' {
			return nil, false, it.malformed()
		}
		it.open, it.line = true, it.line[1:]
	}
	it.spaces()
	if len(it.line) > 0 && it.line[0] == ')' {
		if it.line = bytes.TrimRight(it.line[1:], " "); len(it.line) > 0 {
			return nil, false, it.malformed()
		}
		return nil, false, nil
	}
	// BODY[HEADER.FIELDS (A B)]<0> is one name.
	n, section := 0, false
	for n < len(it.line) && (section || it.line[n] != ' ' && it.line[n] != '(' && it.line[n] != ')') {
		switch it.line[n] {
		case '[':
			section = true
		case ']':
			section = false
		}
		n++
	}
	if n == 0 || n == len(it.line) {
		return nil, false, it.malformed()
	}
	name, it.line = it.line[:n], it.line[n:]
	it.spaces()
	return name, true, nil
}

// number reads a value that is a number.
func (it *items) number() (int64, error) {
	n, ok := number(it.atom())
	if !ok {
		return 0, it.malformed()
	}
	return n, nil
}

// uid reads a value that is a UID.
func (it *items) uid() (uint32, error) {
	uid, ok := number32(it.atom())
	if !ok {
		return 0, it.malformed()
	}
	return uid, nil
}

// text begins to read an nstring. A literal's size octets are then to be read
// from it.r, followed by behind. A quoted string is returned as it is meant, in
// memory of its own. For NIL exists is false.
func (it *items) text() (quoted []byte, size int64, exists bool, err error) {
	if it.isLiteral() {
		size, err = it.literal()
		return nil, size, true, err
	}
	if len(it.line) > 0 && it.line[0] == '"' {
		raw, err := it.quoted()
		if err != nil {
			return nil, 0, false, err
		}
		quoted = make([]byte, 0, len(raw))
		for i := 0; i < len(raw); i++ {
			if raw[i] == '\\' {
				i++
			}
			quoted = append(quoted, raw[i])
		}
		return quoted, int64(len(quoted)), true, nil
	}
	if !is(it.atom(), "NIL") {
		return nil, 0, false, it.malformed()
	}
	return nil, 0, false, nil
}

// behind reads on behind a literal.
func (it *items) behind() (err error) {
	it.line, err = it.r.line()
	return err
}

// skip passes over a value of any kind. Depth costs nothing.
func (it *items) skip() error {
	for depth := 0; ; {
		if len(it.line) == 0 {
			return it.malformed()
		}
		switch c := it.line[0]; {
		case it.isLiteral():
			n, err := it.literal()
			if err != nil {
				return err
			}
			if err := it.r.skip(n); err != nil {
				return err
			}
			if err := it.behind(); err != nil {
				return err
			}
		case c == '"':
			if _, err := it.quoted(); err != nil {
				return err
			}
		case c == '(':
			depth++
			it.line = it.line[1:]
		case c == ')':
			if depth--; depth < 0 {
				return it.malformed()
			}
			it.line = it.line[1:]
		case c == ' ':
			if depth == 0 {
				return it.malformed()
			}
			it.spaces()
			continue
		default:
			it.atom()
		}
		if depth == 0 {
			return nil
		}
	}
}

// skipRest passes over the items that are left.
func (it *items) skipRest() error {
	for {
		_, more, err := it.next()
		if !more {
			return err
		}
		if err := it.skip(); err != nil {
			return err
		}
	}
}

func (it *items) spaces() {
	for len(it.line) > 0 && it.line[0] == ' ' {
		it.line = it.line[1:]
	}
}

// atom takes everything up to a space or parenthesis.
func (it *items) atom() []byte {
	n := 0
	for n < len(it.line) && it.line[n] != ' ' && it.line[n] != '(' && it.line[n] != ')' {
		n++
	}
	atom := it.line[:n]
	it.line = it.line[n:]
	return atom
}

// quoted takes a quoted string and returns what is between the quotes, where
// each backslash has an octet behind it.
func (it *items) quoted() ([]byte, error) {
	for i := 1; i < len(it.line); i++ {
		switch it.line[i] {
		case '\\':
			i++
		case '"':
			raw := it.line[1:i]
			it.line = it.line[i+1:]
			return raw, nil
		}
	}
	return nil, it.malformed()
}

func (it *items) isLiteral() bool {
	return bytes.HasPrefix(it.line, []byte("{")) || bytes.HasPrefix(it.line, []byte("~{"))
}

// literal takes the announcement of a literal, the last thing on its line.
func (it *items) literal() (size int64, err error) {
	announced := bytes.LastIndexByte(it.line, '{') <= 1
	size, ok, err := literal(it.line)
	if err == nil && (!ok || !announced) {
		err = it.malformed()
	}
	return size, err
}

func (it *items) malformed() error {
	return fmt.Errorf("%w: FETCH response, %d octets before the end of a line", ErrProtocol, len(it.line))
}
