package maildroptest

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Pipe is a connection in memory with a buffer in each direction, unlike
// net.Pipe: a client may send a batch before it reads the first reply. In a
// synctest bubble its waits are durably blocking. Both ends have 127.0.0.1 as
// their address.
func Pipe() (client, server net.Conn) {
	a, b := newStream(), newStream()
	return &pipeEnd{in: a, out: b}, &pipeEnd{in: b, out: a}
}

// pipeBuffer is how many octets a writer may be ahead of the reader.
const pipeBuffer = 256 << 10

// stream is one direction of a Pipe.
type stream struct {
	mu       sync.Mutex
	changed  sync.Cond
	data     []byte
	eof      bool // the writer has closed
	cut      bool // the reader has closed
	deadline [2]time.Time
	timers   [2]*time.Timer
}

const (
	reading = iota
	writing
)

func newStream() *stream {
	s := new(stream)
	s.changed.L = &s.mu
	return s
}

func (s *stream) expired(side int) bool {
	d := s.deadline[side]
	return !d.IsZero() && !time.Now().Before(d)
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.cut:
			return 0, net.ErrClosed
		case s.expired(reading):
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0:
			n := copy(p, s.data)
			s.data = s.data[n:]
			s.changed.Broadcast()
			return n, nil
		case s.eof:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.eof:
			return n, net.ErrClosed
		case s.cut:
			return n, io.ErrClosedPipe
		case s.expired(writing):
			return n, os.ErrDeadlineExceeded
		case n == len(p):
			return n, nil
		}
		if room := min(pipeBuffer-len(s.data), len(p)-n); room > 0 {
			s.data = append(s.data, p[n:n+room]...)
			n += room
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

func (s *stream) setDeadline(side int, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timers[side] != nil {
		s.timers[side].Stop()
		s.timers[side] = nil
	}
	s.deadline[side] = t
	if !t.IsZero() {
		s.timers[side] = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.changed.Broadcast()
		})
	}
	s.changed.Broadcast()
}

func (s *stream) end(flag *bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*flag = true
	for _, t := range s.timers {
		if t != nil {
			t.Stop()
		}
	}
	s.changed.Broadcast()
}

type pipeEnd struct{ in, out *stream }

func (e *pipeEnd) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *pipeEnd) Write(p []byte) (int, error) { return e.out.write(p) }

func (e *pipeEnd) Close() error {
	e.out.end(&e.out.eof)
	e.in.end(&e.in.cut)
	return nil
}

// CloseWrite ends what this end sends.
func (e *pipeEnd) CloseWrite() error {
	e.out.end(&e.out.eof)
	return nil
}

func (e *pipeEnd) SetDeadline(t time.Time) error {
	e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *pipeEnd) SetReadDeadline(t time.Time) error {
	e.in.setDeadline(reading, t)
	return nil
}

func (e *pipeEnd) SetWriteDeadline(t time.Time) error {
	e.out.setDeadline(writing, t)
	return nil
}

var loopback = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:110"))

func (e *pipeEnd) LocalAddr() net.Addr  { return loopback }
func (e *pipeEnd) RemoteAddr() net.Addr { return loopback }

// Listener is a net.Listener whose connections are Pipes. Make one by NewListener.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewListener returns a Listener ready for Dial.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects; the client's end is returned once the other was accepted.
func (l *Listener) Dial() (net.Conn, error) {
	client, server := Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *Listener) Addr() net.Addr { return loopback }
