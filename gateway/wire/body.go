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

const (
	chunkSize = 32 << 10
	// Each octet of input becomes two at most: LF becomes CRLF, a dot at the
	// start of a line is doubled. The end adds two line ends.
	outSize = 2*chunkSize + 4
)

type buffers struct {
	in  [chunkSize]byte
	out [outSize]byte
}

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// Copy reads a message from r and writes it to w: LF becomes CRLF, the last
// line gets an end if it has none, and a line that begins with a dot gets
// another (RFC 1939 §3). The first line and a line behind a bare LF count as
// such, or a stored message could forge the end of the reply. A CR that no LF
// follows is sent as it is. The terminating "." is left to the caller, who
// writes it only when Copy returned nil.
//
// octets counts what was written less the dots added: the size of the message
// (RFC 1939 §11). Copy stops reading behind the last line that Lines wants. The
// error is r's or w's, as it is.
func (b Body) Copy(w io.Writer, r io.Reader) (octets int64, err error) {
	buf := bufferPool.Get().(*buffers)
	defer bufferPool.Put(buf)
	e := encoder{body: b, inHeader: b.Lines >= 0 || b.EndHeader, lineStart: true}
	for {
		n, rerr := r.Read(buf.in[:])
		if n > 0 {
			e.out = buf.out[:0]
			e.encode(buf.in[:n])
			if _, err := w.Write(e.finished()); err != nil {
				return e.octets(), err
			}
			if e.done {
				return e.octets(), nil
			}
		}
		if rerr == nil {
			continue
		}
		if rerr != io.EOF { // one that wraps it is a connection that was lost
			return e.octets(), rerr
		}
		e.out = buf.out[:0]
		e.end()
		if len(e.out) > 0 {
			_, err = w.Write(e.finished())
		}
		return e.octets(), err
	}
}

// Count returns the size in octets of the message in r as Copy would send it
// whole: the very code that sends it counts it.
func Count(r io.Reader) (octets int64, err error) {
	return Body{Lines: -1}.Copy(io.Discard, r)
}

// encoder is the state between two chunks of a message.
type encoder struct {
	body      Body
	out       []byte
	written   int64 // octets in earlier values of out
	stuffed   int64 // dots added
	lineStart bool  // nothing of the current line was seen
	blank     bool  // nothing but one CR was seen of the current line
	lastCR    bool  // the octet before was a CR
	inHeader  bool  // the end of the header is looked for and not yet seen
	bodyLines int   // lines of the body seen, where Lines limits them
	done      bool  // the last line wanted is complete
}

func (e *encoder) octets() int64 { return e.written - e.stuffed }

// finished returns what was encoded of a chunk.
func (e *encoder) finished() []byte {
	e.written += int64(len(e.out))
	if e.body.ReplaceNUL {
		for p := e.out; ; {
			i := bytes.IndexByte(p, 0)
			if i < 0 {
				break
			}
			p[i] = 0x80
			p = p[i+1:]
		}
	}
	return e.out
}

// encode appends the encoding of p to e.out. Lines that need no change are
// appended together, in runs.
func (e *encoder) encode(p []byte) {
	run := 0 // p[run:i] is seen and not yet appended
	for i := 0; i < len(p); {
		if e.lineStart {
			if p[i] == '.' {
				e.out = append(append(e.out, p[run:i]...), '.')
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
			e.out = append(append(e.out, p[run:i]...), '\r')
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
			e.out = append(e.out, p[run:i]...)
			e.done = true
			return
		}
	}
	e.out = append(e.out, p[run:]...)
}

// see notes what p, a part of a line without LF, says of the line.
func (e *encoder) see(p []byte) {
	if len(p) == 0 {
		return
	}
	// A second CR makes CR CR LF, which is not an empty line.
	e.blank = e.blank && len(p) == 1 && p[0] == '\r' && !e.lastCR
	e.lastCR = p[len(p)-1] == '\r'
}

// end appends what is missing at the end of the message.
func (e *encoder) end() {
	if !e.lineStart {
		if !e.lastCR {
			e.out = append(e.out, '\r')
		}
		e.out = append(e.out, '\n')
		if e.inHeader && e.blank {
			e.inHeader = false
		}
	}
	if e.inHeader && e.body.EndHeader {
		e.out = append(e.out, '\r', '\n')
	}
}
