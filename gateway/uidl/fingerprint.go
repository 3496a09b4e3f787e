package uidl

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
)

// Fields are the header fields that tell a message's content from others. An IMAP
// server is to be asked for these.
var Fields = []string{"Message-ID", "Date", "From", "To", "Subject"}

const (
	maxHeader = 256 << 10 // octets of a header that are looked at
	maxValue  = 4 << 10   // octets of a field's value that count
)

// Fingerprint stands for the content of a message: a digest of its Message-ID, or
// of other fields where it has none.
type Fingerprint uint64

// Header finds the Fields in a header that is written to it, in pieces of any
// size. The zero value is an empty header.
type Header struct {
	values [5][]byte // by Fields
	line   []byte    // begins the line that is not ended
	skip   bool      // line is full, and what follows is not kept
	field  int       // that the last line is of, and -1 for none
	begun  bool
	read   int
	done   bool
}

// Reset makes h that of another message.
func (h *Header) Reset() {
	for i := range h.values {
		h.values[i] = h.values[i][:0]
	}
	h.line, h.skip, h.field, h.begun, h.read, h.done = h.line[:0], false, -1, false, 0, false
}

// Done reports whether the header has ended.
func (h *Header) Done() bool { return h.done }

// Write takes the next octets of a message; those behind the header are of no
// effect. It never fails.
func (h *Header) Write(p []byte) (int, error) {
	n := len(p)
	for !h.done && len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		piece := p
		if end >= 0 {
			piece = p[:end]
			p = p[end+1:]
		} else {
			p = nil
		}
		if h.read += len(piece) + 1; h.read > maxHeader {
			h.done = true
			break
		}
		if room := maxValue - len(h.line); len(piece) > room {
			piece, h.skip = piece[:room], true
		}
		if end < 0 {
			h.line = append(h.line, piece...)
			break
		}
		if len(h.line) > 0 {
			h.line = append(h.line, piece...)
			piece = h.line
		}
		h.take(bytes.TrimSuffix(piece, []byte("\r")))
		h.line = h.line[:0]
	}
	return n, nil
}

// take looks at a line without its end.
func (h *Header) take(line []byte) {
	if len(line) == 0 {
		h.done = true
		return
	}
	if line[0] == ' ' || line[0] == '\t' {
		if h.begun && h.field >= 0 {
			h.add(line)
		}
		return
	}
	h.begun, h.field = true, -1
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return
	}
	name := bytes.TrimRight(line[:colon], " \t")
	for i, field := range Fields {
		if len(name) == len(field) && strings.EqualFold(string(name), field) && len(h.values[i]) == 0 {
			h.field = i
			h.add(line[colon+1:])
			return
		}
	}
}

// add appends a line of the field's value, with space as single spaces: servers
// fold lines as they like.
func (h *Header) add(line []byte) {
	v := h.values[h.field]
	for _, c := range line {
		if c == ' ' || c == '\t' || c == '\r' {
			if len(v) > 0 && v[len(v)-1] != ' ' {
				v = append(v, ' ')
			}
			continue
		}
		if len(v) >= maxValue {
			break
		}
		v = append(v, c)
	}
	h.values[h.field] = v
}

// MessageID returns the value of Message-ID, or "".
func (h *Header) MessageID() string { return string(bytes.TrimRight(h.values[0], " ")) }

// Fingerprint returns that of the header. A message without any of the fields has
// that of an empty one.
func (h *Header) Fingerprint() Fingerprint {
	if id := bytes.TrimRight(h.values[0], " "); len(id) > 0 {
		return digest('i', id)
	}
	all := make([]byte, 0, 512)
	for _, v := range h.values[1:] {
		all = append(append(all, bytes.TrimRight(v, " ")...), 0)
	}
	return digest('f', all)
}

// OfMessageID returns the fingerprint of a message with this Message-ID.
func OfMessageID(id string) Fingerprint {
	return digest('i', []byte(strings.Join(strings.Fields(id), " ")))
}

func digest(kind byte, of []byte) Fingerprint {
	sum := sha256.Sum256(append([]byte{kind}, of...))
	return Fingerprint(binary.BigEndian.Uint64(sum[:]))
}

// noMessageID begins what stands in a list for the Message-ID that a message does
// not have: its fingerprint.
const noMessageID = "~"

// Reference returns how a list names the message: by its Message-ID, or else by
// its fingerprint.
func (h *Header) Reference() string {
	if id := h.MessageID(); id != "" && !strings.HasPrefix(id, noMessageID) && !strings.ContainsAny(id, "\x00\n") {
		return id
	}
	return noMessageID + strconv.FormatUint(uint64(h.Fingerprint()), 16)
}

func ofReference(s string) Fingerprint {
	if digits, ok := strings.CutPrefix(s, noMessageID); ok {
		if n, err := strconv.ParseUint(digits, 16, 64); err == nil {
			return Fingerprint(n)
		}
	}
	return OfMessageID(s)
}

// Key tells a message from all others that a maildrop has or had. Adapters make
// them of what never changes.
type Key uint64

// KeyOf returns a key for any octets.
func KeyOf(parts ...string) Key {
	hash := sha256.New()
	for _, p := range parts {
		hash.Write(binary.AppendUvarint(nil, uint64(len(p))))
		hash.Write([]byte(p))
	}
	return Key(binary.BigEndian.Uint64(hash.Sum(nil)))
}

// Tag is a short text for a name of any length, for unique-ids.
func Tag(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:4])
}

// XUIDL returns the value of the first X-UIDL field of a header if it is a legal
// unique-id, else "".
func XUIDL(header []byte) string {
	for line := range bytes.Lines(header) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return ""
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if ok && strings.EqualFold(string(bytes.TrimRight(name, " \t")), "X-UIDL") {
			if id := string(bytes.TrimSpace(value)); Legal(id) {
				return id
			}
			return ""
		}
	}
	return ""
}
