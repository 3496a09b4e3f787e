package main

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection whose reads and writes are plain system calls that
// block. For a client that is alone this costs far less than Go's network poller:
// the thread that waits is the one that goes on. Many at a time would keep each
// other from running.
type socket struct {
	mu     sync.Mutex // keeps interrupt away from a descriptor that is another's by now
	fd     int
	closed bool
}

// dialSocket connects to an IPv4 address on this machine.
func dialSocket(to netip.AddrPort) (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	s := &socket{fd: fd}
	err = os.NewSyscallError("connect", ignoringEINTR(func() error {
		return unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	}))
	if err == nil {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// SetDeadline bounds the time that each later read and write may take; that it
// is a limit for each, and not one for all, makes no difference to a client.
func (s *socket) SetDeadline(t time.Time) error {
	limit := unix.NsecToTimeval(int64(max(time.Until(t), time.Millisecond)))
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, option, &limit); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

func (s *socket) Read(p []byte) (n int, err error) {
	err = ignoringEINTR(func() error {
		n, err = unix.Read(s.fd, p)
		return err
	})
	switch {
	case err == unix.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (s *socket) Write(p []byte) (written int, err error) {
	for written < len(p) {
		var n int
		err := ignoringEINTR(func() error {
			n, err = unix.Write(s.fd, p[written:])
			return err
		})
		if err == unix.EAGAIN {
			return written, os.ErrDeadlineExceeded
		}
		if err != nil {
			return written, os.NewSyscallError("write", err)
		}
		written += n
	}
	return written, nil
}

// interrupt ends what is under way, and all that would follow.
func (s *socket) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		unix.Shutdown(s.fd, unix.SHUT_RDWR)
	}
}

func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return os.ErrClosed
	}
	s.closed = true
	return unix.Close(s.fd)
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// stream is what a client needs of a connection.
type stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// dialer opens a stream that ends with ctx; forget drops the watch on ctx.
type dialer func(ctx context.Context, to netip.AddrPort) (s stream, forget func() bool, err error)

// alone is for a client that no other works beside.
func alone(ctx context.Context, to netip.AddrPort) (stream, func() bool, error) {
	s, err := dialSocket(to)
	if err != nil {
		return nil, nil, err
	}
	return s, context.AfterFunc(ctx, s.interrupt), nil
}

// amongMany is for a client that is one of many.
func amongMany(ctx context.Context, to netip.AddrPort) (stream, func() bool, error) {
	// Keep-alive would be four more system calls.
	nc, err := (&net.Dialer{KeepAlive: -1}).DialTCP(ctx, "tcp", netip.AddrPort{}, to)
	if err != nil {
		return nil, nil, err
	}
	return nc, context.AfterFunc(ctx, func() { nc.Close() }), nil
}
