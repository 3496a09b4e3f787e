package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pair is a quick connection and the other end of it.
func pair(t *testing.T) (near net.Conn, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near = Quick(accepted)
	t.Cleanup(func() { near.Close(); dialled.Close() })
	return near, dialled.(*net.TCPConn)
}

// Far more than the system buffers goes both ways at the same time, unchanged.
func TestBothWays(t *testing.T) {
	near, far := pair(t)
	sent := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{}).Read(sent)
	got := make(chan []byte, 2)
	for _, nc := range []net.Conn{near, far} {
		go func() {
			if n, err := nc.Write(sent); n != len(sent) || err != nil {
				t.Errorf("Write: %d, %v", n, err)
			}
		}()
		go func() {
			p := make([]byte, len(sent))
			if _, err := io.ReadFull(nc, p); err != nil {
				t.Errorf("ReadFull: %v", err)
			}
			got <- p
		}()
	}
	for range 2 {
		if !bytes.Equal(<-got, sent) {
			t.Error("what came is not what was sent")
		}
	}
}

func TestEnds(t *testing.T) {
	buf := make([]byte, 10)
	isTimeout := func(err error) bool {
		ne, ok := errors.AsType[net.Error](err)
		return ok && ne.Timeout() && errors.Is(err, os.ErrDeadlineExceeded)
	}
	for _, tt := range []struct {
		name string
		do   func(near net.Conn, far *net.TCPConn) (int, error)
		want func(err error) bool
	}{
		{"the other end closes", func(near net.Conn, far *net.TCPConn) (int, error) {
			far.Close()
			return near.Read(buf)
		}, func(err error) bool { return err == io.EOF }},
		{"the other end resets", func(near net.Conn, far *net.TCPConn) (int, error) {
			far.SetLinger(0)
			far.Close()
			return near.Read(buf)
		}, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{"writing to one that is gone", func(near net.Conn, far *net.TCPConn) (int, error) {
			far.SetLinger(0)
			far.Close()
			near.Read(buf)
			return near.Write(buf)
		}, func(err error) bool { return errors.Is(err, syscall.EPIPE) }},
		{"a read deadline", func(near net.Conn, far *net.TCPConn) (int, error) {
			near.SetReadDeadline(time.Now().Add(time.Millisecond))
			return near.Read(buf)
		}, isTimeout},
		{"a read deadline that is set while it waits", func(near net.Conn, far *net.TCPConn) (int, error) {
			time.AfterFunc(time.Millisecond, func() { near.SetReadDeadline(time.Unix(1, 0)) })
			return near.Read(buf)
		}, isTimeout},
		{"closed while it waits", func(near net.Conn, far *net.TCPConn) (int, error) {
			time.AfterFunc(time.Millisecond, func() { near.Close() })
			return near.Read(buf)
		}, func(err error) bool { return errors.Is(err, net.ErrClosed) }},
		{"read of nothing", func(near net.Conn, far *net.TCPConn) (int, error) { return near.Read(nil) },
			func(err error) bool { return err == nil }},
		{"write of nothing", func(near net.Conn, far *net.TCPConn) (int, error) { return near.Write(nil) },
			func(err error) bool { return err == nil }},
	} {
		near, far := pair(t)
		if n, err := tt.do(near, far); n != 0 || !tt.want(err) {
			t.Errorf("%s: %d, %v", tt.name, n, err)
		}
	}
}

// A writer whose reader takes nothing more says how much has left when its time is over.
func TestWriteDeadline(t *testing.T) {
	near, far := pair(t)
	began := make(chan error)
	go func() {
		_, err := io.ReadFull(far, make([]byte, 1000))
		near.SetWriteDeadline(time.Now().Add(-time.Second))
		began <- err
	}()
	n, err := near.Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Fatalf("Write: %d, %v", n, err)
	}
	if err := <-began; err != nil {
		t.Fatal(err)
	}
	near.(interface{ CloseWrite() error }).CloseWrite()
	if got, err := io.Copy(io.Discard, far); got+1000 != int64(n) || err != nil {
		t.Errorf("%d octets came of %d, %v", got+1000, n, err)
	}
}

// What takes no waiting is done whatever deadlines there were, and nothing else.
func TestTry(t *testing.T) {
	near, far := pair(t)
	buf := make([]byte, 10)
	if n, err := TryRead(near, buf); n != 0 || err != ErrWait {
		t.Errorf("before anything came: %d, %v", n, err)
	}
	if n, err := TryRead(near, nil); n != 0 || err != nil {
		t.Errorf("a read of nothing: %d, %v", n, err)
	}
	near.SetDeadline(time.Unix(1, 0))
	if n, err := TryWrite(near, []byte("hello")); n != 5 || err != nil {
		t.Errorf("TryWrite: %d, %v", n, err)
	}
	if _, err := io.ReadFull(far, buf[:5]); err != nil || string(buf[:5]) != "hello" {
		t.Errorf("%q, %v came", buf[:5], err)
	}
	far.Write([]byte("world"))
	n, err := 0, ErrWait
	for until := time.Now().Add(10 * time.Second); err == ErrWait && time.Now().Before(until); {
		n, err = TryRead(near, buf)
	}
	if err != nil || string(buf[:n]) != "world" {
		t.Errorf("TryRead: %q, %v", buf[:n], err)
	}
	if n, err := TryWrite(near, make([]byte, 64<<20)); n == 0 || n == 64<<20 || err != nil {
		t.Errorf("TryWrite of more than the system takes: %d, %v", n, err)
	}
	far.SetLinger(0)
	far.Close()
	for err = ErrWait; err == ErrWait; {
		n, err = TryRead(near, buf)
	}
	if n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("TryRead after a reset: %d, %v", n, err)
	}
	if n, err := TryWrite(near, buf); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("TryWrite after a reset: %d, %v", n, err)
	}
	near.Close()
	if _, err := TryRead(near, buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("TryRead of what is closed: %v", err)
	}
	if _, err := TryWrite(near, buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("TryWrite to what is closed: %v", err)
	}

	near, far = pair(t)
	far.CloseWrite()
	for err = ErrWait; err == ErrWait; {
		n, err = TryRead(near, buf)
	}
	if n != 0 || err != io.EOF {
		t.Errorf("TryRead at the end: %d, %v", n, err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if n, err := TryRead(a, buf); n != 0 || err != ErrWait {
		t.Errorf("TryRead of another connection: %d, %v", n, err)
	}
	if n, err := TryWrite(a, buf); n != 0 || err != nil {
		t.Errorf("TryWrite to another connection: %d, %v", n, err)
	}
}

func TestOthers(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if Quick(a) != a {
		t.Error("a connection that is none of TCP is another one now")
	}
}

// Whoever waits for a moment gets what comes in it, and else is told to wait.
func TestReadSoon(t *testing.T) {
	near, far := pair(t)
	buf := make([]byte, 10)
	if n, err := ReadSoon(near, buf); n != 0 || err != ErrWait {
		t.Errorf("before anything came: %d, %v", n, err)
	}
	for got := 0; got < 1000; {
		go far.Write([]byte("x"))
		n, err := ReadSoon(near, buf)
		if err == ErrWait {
			n, err = near.Read(buf)
		}
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	far.Close()
	n, err := 0, ErrWait
	for until := time.Now().Add(10 * time.Second); (err == ErrWait || err == nil) && time.Now().Before(until); {
		n, err = ReadSoon(near, buf)
	}
	if n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

type never struct {
	net.Conn
	tries int
}

func (c *never) TryRead([]byte) (int, error) { c.tries++; return 0, ErrWait }

// It ends also where time stands still, and others do not wait.
func TestReadSoonEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(never)
		if _, err := ReadSoon(c, nil); err != ErrWait || c.tries < 2 {
			t.Errorf("%d tries, %v", c.tries, err)
		}
		waitingSoon.Store(true)
		defer waitingSoon.Store(false)
		c.tries = 0
		if _, err := ReadSoon(c, nil); err != ErrWait || c.tries != 1 {
			t.Errorf("while another waits: %d tries, %v", c.tries, err)
		}
	})
}
