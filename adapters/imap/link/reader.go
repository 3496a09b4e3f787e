package link

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
)

const (
	bufferSize = 16 << 10 // one TLS record
	// wideSize is that of the buffer while many messages come: most of them are
	// then read whole, and some together.
	wideSize = 128 << 10
)

var wideReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, wideSize) }}

// reader cuts what a server sends into lines and literals (RFC 9051 §4.3).
type reader struct {
	src     io.Reader
	br      *bufio.Reader
	narrow  *bufio.Reader // br, while that is wide
	maxLine atomic.Int64
	long    []byte // a line that does not fit into br
}

func newReader(src io.Reader, maxLine int) *reader {
	r := &reader{src: src, br: bufio.NewReaderSize(src, bufferSize)}
	r.maxLine.Store(int64(maxLine))
	return r
}

// reset makes src the source. Nothing may be buffered.
func (r *reader) reset(src io.Reader) {
	r.src = src
	r.br.Reset(src)
}

// widen gives the reader a wide buffer, and unwiden takes it back unless too
// much is in it. Lines that were read before are lost.
func (r *reader) widen() {
	if r.narrow == nil {
		r.narrow = r.br
		r.br = r.swap(wideReaders.Get().(*bufio.Reader))
	}
}

func (r *reader) unwiden() {
	if r.narrow == nil || r.br.Buffered() > bufferSize {
		return
	}
	wide := r.br
	r.br, r.narrow = r.swap(r.narrow), nil
	wide.Reset(nil)
	wideReaders.Put(wide)
}

// swap returns to, with what is buffered in r.br to be read first.
func (r *reader) swap(to *bufio.Reader) *bufio.Reader {
	pending, _ := r.br.Peek(r.br.Buffered())
	if len(pending) == 0 {
		to.Reset(r.src)
		return to
	}
	to.Reset(io.MultiReader(bytes.NewReader(bytes.Clone(pending)), r.src))
	return to
}

// line returns the next line without its CRLF or LF. It is the caller's, to
// change as well, until the next call. Errors are ErrTooLong or the source's.
func (r *reader) line() ([]byte, error) {
	if cap(r.long) > 4*bufferSize {
		r.long = nil // was a rare one
	}
	line, err := r.br.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		r.long = r.long[:0]
		for err == bufio.ErrBufferFull {
			r.long = append(r.long, line...)
			if int64(len(r.long)) > r.maxLine.Load() {
				return nil, fmt.Errorf("%w: a line of more than %d octets", ErrTooLong, r.maxLine.Load())
			}
			line, err = r.br.ReadSlice('\n')
		}
		r.long = append(r.long, line...)
		line = r.long
	}
	if err != nil {
		return nil, err
	}
	line = bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'})
	if int64(len(line)) > r.maxLine.Load() {
		return nil, fmt.Errorf("%w: a line of more than %d octets", ErrTooLong, r.maxLine.Load())
	}
	return line, nil
}

// skip reads n octets of a literal and forgets them.
func (r *reader) skip(n int64) error {
	for n > 0 {
		k, err := r.br.Discard(int(min(n, 1<<30)))
		n -= int64(k)
		if err != nil {
			return err
		}
	}
	return nil
}

// walk reads on to the end of a response of which line is the first line.
// Where text is true a "{5}" at the end of a line announces nothing, as in the
// human-readable text of an OK. keep, if not nil, gets each line and literal.
func (r *reader) walk(line []byte, text bool, keep *response) error {
	for {
		if keep != nil {
			if err := keep.addLine(line); err != nil {
				return err
			}
		}
		n, ok, err := literal(line)
		if text || !ok {
			return nil
		}
		if err != nil {
			return err
		}
		if keep != nil {
			err = keep.addLiteral(r.br, n)
		} else {
			err = r.skip(n)
		}
		if err != nil {
			return err
		}
		if line, err = r.line(); err != nil {
			return err
		}
	}
}

// response is one response kept whole, with the limits that allow it.
type response struct {
	data                []byte
	maxLine, maxLiteral int64 // octets left
}

func (k *response) addLine(line []byte) error {
	k.maxLine -= int64(len(line))
	if k.maxLine < 0 {
		return fmt.Errorf("%w: lines beyond the limit", ErrTooLong)
	}
	k.data = append(append(k.data, line...), '\r', '\n')
	return nil
}

func (k *response) addLiteral(src io.Reader, n int64) error {
	if k.maxLiteral -= n; k.maxLiteral < 0 {
		return fmt.Errorf("%w: literals beyond the limit", ErrTooLong)
	}
	k.data = append(k.data, make([]byte, n)...)
	_, err := io.ReadFull(src, k.data[len(k.data)-int(n):])
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return err
}

// literal reports whether line ends in the announcement of a literal, "{5}",
// "~{5}" or "{5+}", and of how many octets.
func literal(line []byte) (n int64, ok bool, err error) {
	end := len(line) - 1
	if end < 2 || line[end] != '}' {
		return 0, false, nil
	}
	if line[end-1] == '+' {
		end--
	}
	start := end
	for start > 0 && '0' <= line[start-1] && line[start-1] <= '9' {
		start--
	}
	if start == end || start == 0 || line[start-1] != '{' {
		return 0, false, nil
	}
	n, ok = number(line[start:end])
	if !ok {
		return 0, true, fmt.Errorf("%w: literal of %s octets", ErrProtocol, excerpt(line[start:end]))
	}
	return n, true, nil
}

// number parses decimal digits. A value beyond 63 bits is no number.
func number(s []byte) (n int64, ok bool) {
	if len(s) == 0 {
		return 0, false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := int64(c - '0')
		if n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// number32 parses a sequence number or UID: 1 to 2^32-1 (RFC 9051 §9 nz-number).
func number32(s []byte) (uint32, bool) {
	n, ok := number(s)
	return uint32(n), ok && 0 < n && n <= math.MaxUint32
}

// word cuts s at its first space.
func word(s []byte) (first, rest []byte) {
	if i := bytes.IndexByte(s, ' '); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, nil
}

// is compares a keyword of IMAP, whose case does not matter.
func is(s []byte, keyword string) bool {
	if len(s) != len(keyword) {
		return false
	}
	for i, c := range s {
		if upper(c) != keyword[i] {
			return false
		}
	}
	return true
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

// excerpt quotes the beginning of something a server sent, for an error.
func excerpt(s []byte) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q...", s[:60])
	}
	return fmt.Sprintf("%q", s)
}
