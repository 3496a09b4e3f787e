package gateway

import (
	"net/netip"
)

// blockOf is what counts as one address: an IPv4 address, or the 64 bits of an
// IPv6 address that a provider gives to one customer. The zero Prefix stands for
// no address, and is not counted.
func blockOf(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	block, _ := addr.WithZone("").Prefix(bits)
	return block
}

// Why there is no place for a connection.
const (
	fullServer  = "too many connections"
	fullAddress = "too many connections from this address"
)

// admit counts c as one of block's, or says why there is no place for it.
func (s *Server) admit(c *conn, block netip.Prefix, limits Limits) (full string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return "server is shutting down"
	case len(s.conns) >= limits.MaxConnections:
		return fullServer
	case s.blockIsFull(block, limits):
		return fullAddress
	}
	s.conns[c] = block
	s.perBlock[block]++
	s.sessions.Add(1)
	return ""
}

// move counts c, which was admitted, as one of block's instead.
func (s *Server) move(c *conn, block netip.Prefix, limits Limits) (full string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blockIsFull(block, limits) {
		return fullAddress
	}
	s.leave(s.conns[c])
	s.conns[c] = block
	s.perBlock[block]++
	return ""
}

func (s *Server) finish(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(s.conns[c])
	delete(s.conns, c)
	s.sessions.Done()
}

func (s *Server) blockIsFull(block netip.Prefix, limits Limits) bool {
	return limits.MaxConnectionsPerAddress > 0 && block.IsValid() && s.perBlock[block] >= limits.MaxConnectionsPerAddress
}

func (s *Server) leave(block netip.Prefix) {
	if s.perBlock[block]--; s.perBlock[block] == 0 {
		delete(s.perBlock, block)
	}
}
