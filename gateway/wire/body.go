// Package wire holds the syntax of POP3 that needs no connection: command
// lines, and messages as RETR and TOP send them. Everything in it is pure.
package wire

import (
	"bytes"
	"io"
	"sync"
)

// Body says how a stored message is sent. The zero value sends a header alone;
// use Lines: -1 for all of a message.
type Body struct {
	// Lines is how many lines of the body follow the header and the empty line
	// after it (TOP, RFC 1939 §7); negative for all of them.
	Lines int

	// ReplaceNUL sends 0x80 for each NUL: Outlook hangs on a NUL.
	ReplaceNUL bool

	// EndHeader adds the empty line that ends the header to a message that has
	// none: Outlook Express waits for it. The octets count.
	EndHeader bool
}

// Copy reads a message from r and writes it to w as an Encoder makes it. It stops
// reading behind the last line that Lines wants. The terminating "." is left to
// the caller, who writes it only when Copy returned nil.
//
// octets counts what was written less the dots added: the size of the message
// (RFC 1939 §11). The error is r's or w's, as it is.
func (b Body) Copy(w io.Writer, r io.Reader) (octets int64, err error) {
	buf := bufferPool.Get().(*buffers)
	defer bufferPool.Put(buf)
	e := b.Encoder()
	for !e.Done() {
		n, rerr := r.Read(buf.in[:])
		out := e.Append(buf.out[:0], buf.in[:n])
		if rerr == io.EOF { // one that wraps it is a connection that was lost
			out = e.End(out)
		}
		if len(out) > 0 {
			if _, err := w.Write(out); err != nil {
				return e.Octets(), err
			}
		}
		if rerr == io.EOF {
			break
		}
		if rerr != nil && !e.Done() {
			return e.Octets(), rerr
		}
	}
	return e.Octets(), nil
}

const chunkSize = 32 << 10

type buffers struct {
	in  [chunkSize]byte
	out [2*chunkSize + MaxEnd]byte
}

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// Count returns the size in octets of the message in r as Copy would send it
// whole: the very code that sends it counts it.
func Count(r io.Reader) (octets int64, err error) {
	return Body{Lines: -1}.Copy(io.Discard, r)
}

// MaxEnd is the most that Encoder.End appends: two line ends.
const MaxEnd = 4

// Encoder makes a message as RETR and TOP send it of the message as it is
// stored, in pieces: LF becomes CRLF, the last line gets an end if it has none,
// and a line that begins with a dot gets another (RFC 1939 §3). The first line and
// a line behind a bare LF count as such, or a stored message could forge the end
// of the reply. A CR that no LF follows is sent as it is.
type Encoder struct {
	body      Body
	written   int64 // octets appended
	stuffed   int64 // dots among them that were added
	lineStart bool  // nothing of the current line was seen
	blank     bool  // nothing but one CR was seen of the current line
	lastCR    bool  // the octet before was a CR
	inHeader  bool  // the end of the header is looked for and not yet seen
	bodyLines int   // lines of the body seen, where Lines limits them
	done      bool  // the last line wanted is complete
}

// Encoder returns one for a message.
func (b Body) Encoder() Encoder {
	return Encoder{body: b, inHeader: b.Lines >= 0 || b.EndHeader, lineStart: true}
}

// Octets is what was appended so far less the dots added: the size of the
// message (RFC 1939 §11).
func (e *Encoder) Octets() int64 { return e.written - e.stuffed }

// Done says that all lines that Lines wants are complete. Nothing is appended
// any more.
func (e *Encoder) Done() bool { return e.done }

// Append appends the next piece of the message, p, to dst: each octet becomes
// two at most. The two must not overlap.
func (e *Encoder) Append(dst, p []byte) []byte {
	if e.done {
		return dst
	}
	before := len(dst)
	dst = e.encode(dst, p)
	e.written += int64(len(dst) - before)
	if e.body.ReplaceNUL {
		replaceNUL(dst[before:])
	}
	return dst
}

func replaceNUL(p []byte) {
	for {
		i := bytes.IndexByte(p, 0)
		if i < 0 {
			return
		}
		p[i] = 0x80
		p = p[i+1:]
	}
}

// encode appends p in runs of lines that need no change.
func (e *Encoder) encode(dst, p []byte) []byte {
	run := 0 // p[run:i] is seen and not yet appended
	for i := 0; i < len(p); {
		if e.lineStart {
			if p[i] == '.' {
				dst = append(append(dst, p[run:i]...), '.')
				run = i
				e.stuffed++
			}
			e.lineStart, e.blank = false, true
		}
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			e.see(p[i:])
			break
		}
		e.see(p[i : i+n])
		i += n // at the LF
		if !e.lastCR {
			dst = append(append(dst, p[run:i]...), '\r')
			run = i
		}
		i++
		e.lineStart, e.lastCR = true, false
		if e.inHeader {
			e.inHeader = !e.blank
		} else if e.body.Lines > 0 {
			e.bodyLines++
		}
		if e.body.Lines >= 0 && !e.inHeader && e.bodyLines >= e.body.Lines {
			dst = append(dst, p[run:i]...)
			e.done = true
			return dst
		}
	}
	return append(dst, p[run:]...)
}

// see notes what p, a part of a line without LF, says of the line.
func (e *Encoder) see(p []byte) {
	if len(p) == 0 {
		return
	}
	// A second CR makes CR CR LF, which is not an empty line.
	e.blank = e.blank && len(p) == 1 && p[0] == '\r' && !e.lastCR
	e.lastCR = p[len(p)-1] == '\r'
}

// End appends what is missing behind the last piece: MaxEnd octets at most.
func (e *Encoder) End(dst []byte) []byte {
	if e.done {
		return dst
	}
	before := len(dst)
	if !e.lineStart {
		if !e.lastCR {
			dst = append(dst, '\r')
		}
		dst = append(dst, '\n')
		if e.inHeader && e.blank {
			e.inHeader = false
		}
	}
	if e.inHeader && e.body.EndHeader {
		dst = append(dst, '\r', '\n')
	}
	e.written += int64(len(dst) - before)
	return dst
}
