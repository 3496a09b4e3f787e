package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Quick returns nc, and if it is a TCP connection one that reads and writes with
// less effort. One goroutine may read at a time, and one write.
//
// Go takes each system call for one that may block, and has a thread (sysmon)
// look every 20 microseconds whether it does: with a client that waits for each
// reply that is a fifth of the processor time. Here it cannot block, since the
// socket does not; waiting is left to Go's network poller as before.
func Quick(nc net.Conn) net.Conn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nc
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nc
	}
	c := &quick{TCPConn: tcp, raw: raw}
	c.tryRead, c.tryWrite = c.in.read, c.out.write // once, and not for each call
	c.readOnce, c.writeOnce = c.in.readOnce, c.out.writeOnce
	return c
}

type quick struct {
	*net.TCPConn
	raw                 syscall.RawConn
	in, out             transfer
	tryRead, tryWrite   func(fd uintptr) (done bool)
	readOnce, writeOnce func(fd uintptr)
}

// transfer is a read or write under way.
type transfer struct {
	p   []byte
	n   int
	err syscall.Errno
}

func (c *quick) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.run("read", p, c.raw.Read, c.tryRead)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (c *quick) Write(p []byte) (int, error) { return c.out.run("write", p, c.raw.Write, c.tryWrite) }

// TryRead is that of package socket.
func (c *quick) TryRead(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	err := c.in.once(p, c.raw, c.readOnce)
	switch n, errno := c.in.n, c.in.err; {
	case err != nil:
		return 0, err
	case errno == unix.EAGAIN:
		return 0, ErrWait
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case n == 0:
		return 0, io.EOF
	default:
		return n, nil
	}
}

// TryWrite is that of package socket.
func (c *quick) TryWrite(p []byte) (int, error) {
	err := c.out.once(p, c.raw, c.writeOnce)
	if err == nil && c.out.err != 0 {
		err = os.NewSyscallError("write", c.out.err)
	}
	return c.out.n, err
}

// run has try called until it is done.
func (t *transfer) run(name string, p []byte, wait func(func(uintptr) bool) error, try func(uintptr) bool) (int, error) {
	t.p, t.n, t.err = p, 0, 0
	err := wait(try)
	t.p = nil
	switch {
	case err != nil:
		var op *net.OpError
		if errors.As(err, &op) { // "raw-read"
			op.Op = name
		}
	case t.err != 0:
		err = os.NewSyscallError(name, t.err)
	}
	return t.n, err
}

// once has try called once, whatever deadlines there are.
func (t *transfer) once(p []byte, raw syscall.RawConn, try func(uintptr)) error {
	t.p, t.n, t.err = p, 0, 0
	err := raw.Control(try)
	t.p = nil
	return err
}

func (t *transfer) readOnce(fd uintptr) { t.n, t.err = call(unix.SYS_READ, fd, t.p) }

func (t *transfer) writeOnce(fd uintptr) { t.write(fd) }

func (t *transfer) read(fd uintptr) bool {
	n, errno := call(unix.SYS_READ, fd, t.p)
	if errno == unix.EAGAIN {
		return false
	}
	t.n, t.err = n, errno
	return true
}

func (t *transfer) write(fd uintptr) bool {
	for t.n < len(t.p) {
		n, errno := call(unix.SYS_WRITE, fd, t.p[t.n:])
		if errno == unix.EAGAIN {
			return false
		}
		t.n += n
		if t.err = errno; errno != 0 {
			break
		}
	}
	return true
}

// call is a read or write of p, which is not empty.
func call(trap, fd uintptr, p []byte) (n int, errno syscall.Errno) {
	for {
		r, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch errno {
		case 0:
			return int(r), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
