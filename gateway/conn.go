package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"pop3gw/gateway/wire"
)

const (
	// A command line has 255 octets with its line end (RFC 2449 §4).
	maxCommandLine = 255
	// AUTH, PASS and SASL lines may carry tokens, which are far longer.
	maxSecretLine = 16<<10 + 512
	// What is read of an overlong line before the connection is given up.
	maxDrainedLine = 64 << 20
	// A reply line has 512 octets with its line end (RFC 2449 §4).
	maxReplyLine = 512

	lingerTime     = time.Second
	readBufferSize = 4 << 10
	// What is written at once. A session has such a buffer only while it replies.
	writeBufferSize = 128 << 10
)

var (
	errLineTooLong = errors.New("line is too long")
	errEndlessLine = errors.New("line has no end")
	errDraining    = errors.New("server is shutting down")
	errTimeout     = errors.New("timed out")
)

var (
	readBuffers  = sync.Pool{New: func() any { return new([readBufferSize]byte) }} // all zero
	writeBuffers = sync.Pool{New: func() any { return new([writeBufferSize]byte) }}
)

// conn is a client's connection: bounded lines in, buffered octets out, each
// with its time limit. Replies leave when the next read would have to wait, so
// that those of a pipelined batch leave together. Errors are sticky.
type conn struct {
	mu      sync.Mutex // guards nc against drain and abort
	nc      net.Conn
	records *recordWriter // below nc; nil without TLS

	// A read has no deadline of its own: see late. mu guards these, too.
	late        *late     // the server's
	silence     *lateCall // of silent; nil until the first read
	until       time.Time // how long a read may take that is under way; zero for none
	interrupted bool      // by silent

	// ctx ends when the connection is aborted, draining already when it is
	// drained. cancel ends both.
	ctx, draining context.Context
	cancel, stop  context.CancelFunc

	readBuf    []byte
	start, end int    // readBuf[start:end] was read and not yet consumed
	out        []byte // pending output, in one of writeBuffers; nil when there is none
	pace       *pace  // below TLS
	writeErr   error

	// For Server.makeRoom, which looks on.
	began     time.Time
	attempt   atomic.Pointer[attempt] // that is being looked at
	hasFailed atomic.Bool             // a login was refused
	loggedIn  atomic.Bool
	displaced atomic.Bool

	bodyBegan time.Time // when the last message's first octets came
	activity  activity
}

func newConn(nc net.Conn, limits Limits, late *late) *conn {
	p := &pace{Conn: nc, limit: limits.WriteTimeout, rate: limits.MinWriteRate}
	if limits.MaxSession > 0 {
		p.ends = time.Now().Add(limits.MaxSession)
	}
	c := &conn{nc: p, pace: p, late: late, began: time.Now(), readBuf: readBuffers.Get().(*[readBufferSize]byte)[:]}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.draining, c.stop = context.WithCancel(c.ctx)
	return c
}

// readLine returns the next line without its line end, LF or CRLF. It is valid
// until the next call. secret lines, and those that begin with AUTH or PASS, may
// have 16 KB. deadline is until when the client may take, asked when nothing more
// is pending. Of an overlong line all is read, little is kept, and the error is
// errLineTooLong: the connection is still good. After any other error it is not.
func (c *conn) readLine(secret bool, deadline func() time.Time) ([]byte, error) {
	scanned := 0
	for {
		pending := c.readBuf[c.start:c.end]
		if i := bytes.IndexByte(pending[scanned:], '\n'); i >= 0 {
			line := pending[:scanned+i]
			c.start += len(line) + 1
			tooLong := len(line)+1 > lineLimit(secret, line)
			line = bytes.TrimSuffix(line, []byte{'\r'})
			if tooLong {
				return nil, errLineTooLong
			}
			return line, nil
		}
		scanned = len(pending)
		if scanned >= lineLimit(secret, pending) {
			return nil, c.drainLine(deadline())
		}
		if c.start > 0 {
			c.end = copy(c.readBuf, pending)
			c.start = 0
		}
		if c.end == len(c.readBuf) {
			larger := make([]byte, maxSecretLine)
			copy(larger, c.readBuf)
			c.readBuf = larger
		}
		if err := c.fill(deadline()); err != nil {
			return nil, err
		}
	}
}

func lineLimit(secret bool, line []byte) int {
	if secret || len(line) > 5 && (bytes.EqualFold(line[:5], []byte("AUTH ")) || bytes.EqualFold(line[:5], []byte("PASS "))) {
		return maxSecretLine
	}
	return maxCommandLine
}

// drainLine reads the rest of a line without keeping it.
func (c *conn) drainLine(deadline time.Time) error {
	for drained := 0; drained < maxDrainedLine; {
		if i := bytes.IndexByte(c.readBuf[c.start:c.end], '\n'); i >= 0 {
			c.start += i + 1
			return errLineTooLong
		}
		drained += c.end - c.start
		c.start, c.end = 0, 0
		if err := c.fill(deadline); err != nil {
			return err
		}
	}
	return errEndlessLine
}

// fill reads once into the free end of readBuf, after what is pending has left.
func (c *conn) fill(deadline time.Time) error {
	if err := c.flush(); err != nil {
		return err
	}
	c.mu.Lock()
	nc := c.nc
	if c.draining.Err() != nil {
		c.mu.Unlock()
		return errDraining
	}
	if !time.Now().Before(deadline) { // who never stops sending is never waited for
		c.mu.Unlock()
		return errTimeout
	}
	if c.silence == nil {
		c.silence = c.late.add(c.silent)
	}
	c.until = deadline
	c.silence.at(deadline)
	c.mu.Unlock()
	c.activity.awaits()
	n, err := nc.Read(c.readBuf[c.end:])
	c.activity.reads(n)
	c.mu.Lock()
	c.silence.never()
	c.until = time.Time{}
	if c.interrupted && c.draining.Err() == nil {
		nc.SetReadDeadline(time.Time{})
	}
	c.interrupted = false
	c.mu.Unlock()
	c.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return c.readError(err)
}

// silent interrupts a read that lasts until its deadline.
func (c *conn) silent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.until.IsZero() && !time.Now().Before(c.until) {
		c.interrupted = true
		c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// readError says what an error of a read with a deadline means.
func (c *conn) readError(err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		if c.draining.Err() != nil {
			return errDraining
		}
		return errTimeout
	}
	return err
}

// forget overwrites what was consumed, which may be a secret, and gives a
// buffer that grew for a long line back.
func (c *conn) forget() {
	clear(c.readBuf[:c.start])
	clear(c.readBuf[c.end:])
	if len(c.readBuf) > readBufferSize && c.end-c.start <= readBufferSize {
		smaller := make([]byte, readBufferSize)
		n := copy(smaller, c.readBuf[c.start:c.end])
		clear(c.readBuf)
		c.readBuf, c.start, c.end = smaller, 0, n
	}
}

// discardInput throws away what was read and not yet consumed.
func (c *conn) discardInput() { c.start, c.end = 0, 0 }

// room returns the pending output with room for n octets, writeBufferSize at
// most, behind it. What the caller appends becomes pending by assignment to out.
func (c *conn) room(n int) []byte {
	if len(c.out)+n > writeBufferSize {
		c.flush()
	}
	if c.out == nil {
		c.out = writeBuffers.Get().(*[writeBufferSize]byte)[:0]
	}
	return c.out
}

// Write buffers p, or sends it when it is large.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) > writeBufferSize {
		if err := c.flush(); err != nil {
			return 0, err
		}
		return c.send(p)
	}
	c.out = append(c.room(len(p)), p...)
	return len(p), c.writeErr
}

// WriteString is Write.
func (c *conn) WriteString(s string) (int, error) {
	c.out = append(c.room(len(s)), s...)
	return len(s), c.writeErr
}

// flush sends what is buffered.
func (c *conn) flush() error {
	if c.out == nil {
		return c.writeErr
	}
	out := c.out
	c.out = nil
	if c.writeErr == nil && len(out) > 0 {
		c.send(out)
	}
	writeBuffers.Put((*[writeBufferSize]byte)(out[:writeBufferSize]))
	return c.writeErr
}

// send writes p.
func (c *conn) send(p []byte) (int, error) {
	c.activity.publish()
	n, err := c.nc.Write(p)
	c.activity.writes(n)
	if c.records != nil && err == nil {
		err = c.records.flush()
	}
	if err != nil {
		c.writeErr = fmt.Errorf("writing to the client: %w", err)
	}
	return n, c.writeErr
}

// reply writes one line: status ("+OK", "-ERR", "+"), a space, and text. What
// is not printable ASCII in text, or too long, does not reach the client.
func (c *conn) reply(status, text string) {
	line := append(append(c.room(maxReplyLine), status...), ' ')
	text = text[:min(len(text), maxReplyLine-len(status)-len(" \r\n"))]
	start := len(line)
	line = append(line, text...)
	for i, b := range line[start:] {
		if b < ' ' || b > '~' {
			line[start+i] = '?'
		}
	}
	c.out = append(line, '\r', '\n')
}

// chunkSize is what is read of a message at once: what becomes of it fits into
// writeBufferSize behind the line before it.
const chunkSize = (writeBufferSize - maxReplyLine - wire.MaxEnd) / 2

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// copyBody replies "+OK", and text, as soon as r has delivered the first octets of
// a message of size octets, and has e make what follows; e's end is left to the
// caller. Of a message that r delivers at once all becomes pending. Otherwise
// nothing is held back while r may have to wait for more than its end.
func (c *conn) copyBody(e *wire.Encoder, r io.Reader, text string, size int64) (begun bool, err error) {
	for {
		begun, err = c.copyChunk(e, r, text, begun)
		switch {
		case e.Done() || err == io.EOF: // one that wraps it is a connection that was lost
			return begun, nil
		case err != nil:
			return begun, err
		case size-e.Octets() > wire.MaxEnd && c.flush() != nil:
			return begun, c.writeErr
		}
	}
}

// copyChunk reads from r once. Whoever waits to write keeps no chunk.
func (c *conn) copyChunk(e *wire.Encoder, r io.Reader, text string, begun bool) (bool, error) {
	chunk := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(chunk)
	n, err := r.Read(chunk[:])
	if n > 0 {
		if !begun {
			c.bodyBegan = time.Now()
			c.reply("+OK", text)
		}
		c.out = e.Append(c.room(2*n), chunk[:n])
	}
	return begun || n > 0, err
}

// startTLS replaces the plain connection by a TLS one. What the client sent
// behind its request is thrown away (RFC 2595 §4, and the reason why: an
// attacker in between could have put it there).
func (c *conn) startTLS(ctx context.Context, config *tls.Config) error {
	c.discardInput()
	if err := c.flush(); err != nil {
		return err
	}
	records := &recordWriter{Conn: c.nc}
	tc := tls.Server(records, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	records.gather = true
	c.mu.Lock()
	c.nc, c.records = tc, records
	c.mu.Unlock()
	return nil
}

// tlsState is the state of TLS, nil without.
func (c *conn) tlsState() *tls.ConnectionState {
	tc, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	state := tc.ConnectionState()
	return &state
}

// drain makes the connection end at its next wait for a command.
func (c *conn) drain() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// abort ends the connection at once, whatever it does.
func (c *conn) abort() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc.SetDeadline(time.Unix(1, 0))
	if tc, ok := c.nc.(*tls.Conn); ok {
		tc.NetConn().Close() // tls.Conn.Close would wait to send its alert
	} else {
		c.nc.Close()
	}
}

// close sends what is buffered, says that no more will come, and reads what
// the client still sends, for a moment, before it closes: a socket closed with
// unread input is reset, and the last reply could be lost with it.
func (c *conn) close() {
	defer c.cancel()
	err := c.flush()
	if c.records != nil {
		c.records.gather = false // what TLS says at its end
	}
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		c.nc.SetReadDeadline(time.Time{}) // it may be over
		enough := c.late.after(lingerTime, func() { c.nc.SetReadDeadline(time.Unix(1, 0)) })
		io.CopyN(io.Discard, c.nc, maxDrainedLine)
		enough.stop()
	}
	if c.silence != nil {
		c.silence.stop()
	}
	c.nc.Close() // without c.mu: TLS may take seconds to say goodbye
	if len(c.readBuf) == readBufferSize {
		clear(c.readBuf)
		readBuffers.Put((*[readBufferSize]byte)(c.readBuf))
	}
	c.readBuf, c.start, c.end = nil, 0, 0
}
