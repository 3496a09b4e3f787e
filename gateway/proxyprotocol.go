package gateway

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
)

const (
	// proxyHeaderTimeout is for the PROXY header of a balancer, which sends it
	// with the connection. The standard wants 3 s at least, for a lost packet.
	proxyHeaderTimeout = 10 * time.Second
	// What is read ahead of a header; the longest of version 1 has 107 octets.
	proxyBufferSize = 512
)

func init() {
	// As nginx writes them where clients come by IPv4 and the gateway is reached
	// by IPv6.
	proxyproto.V1AcceptIPv4InTCP6 = true
}

// trusts reports whether a connection from addr begins with a PROXY header.
func (o ListenerOptions) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(o.ProxyFrom, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// identify learns from the PROXY header who the client is. What is no header ends
// the session: to guess would let the client say who it is.
func (s *session) identify() bool {
	header, err := s.conn.readProxyHeader()
	switch {
	case err == errDraining:
		s.end("server shutdown")
		return false
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET): // before its first octet
		s.end("client disconnected")
		return false
	case err != nil:
		s.log.Warn("connection refused", "remote", s.addr.String(), "reason", "no PROXY header, though proxy_protocol_from has this address",
			"error", err)
		s.end("no PROXY header")
		return false
	}
	balancer := s.addr
	s.local = false // unless the header says so: the balancer's machine is not the client's
	s.log = s.log.With("via", balancer.String())
	client, ok := header.SourceAddr.(*net.TCPAddr)
	if !ok || header.Command.IsLocal() {
		return true // a check of the balancer's; these count for no address
	}
	s.addr = client.AddrPort().Addr().Unmap()
	s.local = balancer.IsLoopback() && s.addr.IsLoopback()
	s.identified()
	if full := s.server.move(s.conn, blockOf(s.addr), s.limits); full != "" {
		s.server.logRefused(s.log, s.addr, full)
		if !s.options.Implicit {
			s.conn.reply("-ERR", "["+string(CodeSysTemp)+"] "+full+", try again later")
		}
		s.end(full)
		return false
	}
	return true
}

// refuseProxyHeader ends the session of a client that says it speaks for another.
func (s *session) refuseProxyHeader() error {
	const why = "a PROXY header is not taken from this address"
	s.log.Warn("connection refused", "remote", s.addr.String(), "reason", why+"; if it is your balancer's, add it to proxy_protocol_from")
	if s.tls != nil || !s.options.Implicit {
		s.conn.reply("-ERR", why)
	}
	return s.end("unexpected PROXY header")
}

// readProxyHeader reads the header with which the connection must begin. io.EOF
// says that nothing came at all.
func (c *conn) readProxyHeader() (*proxyproto.Header, error) {
	c.mu.Lock()
	nc := c.nc
	if c.draining.Err() != nil {
		c.mu.Unlock()
		return nil, errDraining
	}
	nc.SetReadDeadline(time.Now().Add(proxyHeaderTimeout))
	c.mu.Unlock()
	in := bufio.NewReaderSize(nc, proxyBufferSize)
	if _, err := in.Peek(1); err != nil {
		return nil, c.readError(err)
	}
	header, err := proxyproto.Read(in)
	if err != nil {
		return nil, fmt.Errorf("reading a PROXY header: %v", c.readError(err)) // not io.EOF in the chain
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining.Err() == nil {
		nc.SetReadDeadline(time.Time{})
	}
	if rest, _ := in.Peek(in.Buffered()); len(rest) > 0 {
		c.nc = &behindHeader{nc, rest}
	}
	return header, nil
}

// behindHeader is a connection of which some was read ahead.
type behindHeader struct {
	net.Conn
	rest []byte
}

func (b *behindHeader) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.rest)
	if b.rest = b.rest[n:]; len(b.rest) == 0 {
		b.rest = nil
	}
	return n, nil
}

func (b *behindHeader) CloseWrite() error {
	if half, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// beginsWithProxyHeader reports whether line, the first one, is the beginning of
// a PROXY header. That of version 2 begins with an empty line.
func (c *conn) beginsWithProxyHeader(line []byte) bool {
	return bytes.HasPrefix(line, []byte("PROXY ")) ||
		len(line) == 0 && bytes.HasPrefix(c.readBuf[:c.end], proxyproto.SIGV2)
}

// isProxyHeader reports whether a TLS handshake failed since a PROXY header came
// in its place.
func isProxyHeader(err error) bool {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok && (string(record.RecordHeader[:]) == string(proxyproto.SIGV1) ||
		bytes.HasPrefix(proxyproto.SIGV2, record.RecordHeader[:]))
}
