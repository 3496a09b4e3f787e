package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy is a network path with a delay: each octet arrives a fixed time after
// it was sent, in both directions. The bandwidth is not limited, nothing is lost,
// and to connect takes no round trip.
type proxy struct {
	listener net.Listener
	to       string
	delay    time.Duration // one way; half of the round trip
	received atomic.Int64  // octets from the server

	mu    sync.Mutex
	conns map[net.Conn]bool // both sides; nil once closed
}

func newProxy(to string, delay time.Duration) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, to: to, delay: delay, conns: make(map[net.Conn]bool)}
	go p.accept()
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *proxy) serve(client net.Conn) {
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.to)
	if err != nil {
		client.Close()
		return
	}
	if !p.keep(client, server) {
		return
	}
	defer p.drop(client, server)
	var both sync.WaitGroup
	both.Go(func() { p.carry(server, client, nil) })
	both.Go(func() { p.carry(client, server, &p.received) })
	both.Wait()
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, nc := range conns {
		if p.conns == nil {
			nc.Close()
		} else {
			p.conns[nc] = true
		}
	}
	return p.conns != nil
}

func (p *proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, nc := range conns {
		nc.Close()
		delete(p.conns, nc)
	}
}

// close ends the path and every connection over it.
func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for nc := range p.conns {
		nc.Close()
	}
	p.conns = nil
}

// piece is what one read gave.
type piece struct {
	due time.Time
	buf *[]byte
	n   int
}

var pieces = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// carry copies one direction and closes it at its end, counting into count.
func (p *proxy) carry(dst, src net.Conn, count *atomic.Int64) {
	under := make(chan piece, 4096) // on their way
	go func() {
		defer close(under)
		for {
			buf := pieces.Get().(*[]byte)
			n, err := src.Read(*buf)
			if n > 0 {
				if count != nil {
					count.Add(int64(n))
				}
				under <- piece{time.Now().Add(p.delay), buf, n}
			}
			if err != nil {
				return
			}
		}
	}()
	for q := range under {
		time.Sleep(time.Until(q.due))
		_, err := dst.Write((*q.buf)[:q.n])
		pieces.Put(q.buf)
		if err != nil {
			src.Close() // ends the reader
			for range under {
			}
			return
		}
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	} else {
		dst.Close()
	}
}
