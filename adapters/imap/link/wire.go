package link

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pop3gw/gateway/socket"
)

// wire is the network connection, below TLS. It arms a deadline for each read
// and write, so that the idle limit counts from the last octet that came and
// not from the last response that was whole.
type wire struct {
	net.Conn
	idle time.Duration

	// The reader's alone. within is how long it may take to get anywhere, 0
	// for no limit; the time runs from the first read after progress.
	within   time.Duration
	progress bool
	limit    time.Time
	soon     bool // for a pause at most, and no longer
	patient  bool // see waitForMuch

	writeErr atomic.Pointer[error] // why writing failed
}

// pause is how long what has come of a body may be held back, since more of it
// is on its way, as a rule, and each piece costs whoever gets it as much as all.
const pause = time.Millisecond

// lastWords is how long a server that takes nothing any more has for a BYE.
const lastWords = time.Second

// bound limits the time for reading to d from the next read on, and again
// from each progress; 0 lifts the limit.
func (w *wire) bound(d time.Duration) {
	w.within, w.limit, w.progress = d, time.Time{}, true
}

func (w *wire) Read(p []byte) (int, error) {
	now := time.Now()
	if w.progress && w.within > 0 {
		w.limit = now.Add(w.within)
	}
	w.progress = false
	deadline := now.Add(w.idle)
	if w.writeErr.Load() != nil {
		deadline = now.Add(min(w.idle, lastWords))
	}
	if !w.limit.IsZero() && w.limit.Before(deadline) {
		deadline = w.limit
	}
	if w.soon {
		deadline = now.Add(min(w.idle, pause))
	}
	if now.Before(deadline) { // what has come already needs no timer
		if n, err := socket.TryRead(w.Conn, p); err != socket.ErrWait {
			return n, err
		}
	}
	if brief := now.Add(pause); w.patient && brief.Before(deadline) {
		n, err := w.readUntil(brief, p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		w.setLowWater(1) // what has come may be all there is for now
		defer w.setLowWater(lowWater)
	}
	return w.readUntil(deadline, p)
}

func (w *wire) readUntil(deadline time.Time, p []byte) (int, error) {
	if err := w.Conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	return w.Conn.Read(p)
}

// lowWater is how much must have come, in octets, before a patient reader is woken.
const lowWater = 128 << 10

// waitForMuch makes reads patient, or ends that: the system does not wake the
// process for each packet of a stream, but when much has come or after a pause.
func (w *wire) waitForMuch(on bool) {
	switch {
	case on && !w.patient:
		w.patient = w.setLowWater(lowWater)
	case w.patient && !on:
		w.patient = false
		w.setLowWater(1)
	}
}

// setLowWater reports whether the connection knows such a thing.
func (w *wire) setLowWater(octets int) bool {
	conn, ok := w.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, octets)
	})
	return err == nil && cerr == nil
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := socket.TryWrite(w.Conn, p)
	if n == len(p) || err != nil {
		return n, err
	}
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.idle)); err != nil {
		return n, err
	}
	m, err := w.Conn.Write(p[n:])
	return n + m, err
}

// broken notes that writing failed. The reader learns why from the server, if
// that left word, and gets an error soon in any case.
func (w *wire) broken(err error) {
	if w.writeErr.CompareAndSwap(nil, &err) {
		w.Conn.SetReadDeadline(time.Now().Add(min(w.idle, lastWords)))
	}
}
