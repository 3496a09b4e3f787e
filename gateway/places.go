package gateway

import (
	"net/netip"
	"time"
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
	case s.blockIsFull(block, limits):
		return fullAddress
	case len(s.conns) >= limits.MaxConnections && !s.makeRoom(block):
		return fullServer
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
	if was, ok := s.conns[c]; ok {
		s.leave(was)
		s.conns[c] = block
		s.perBlock[block]++
	}
	return ""
}

const (
	// makeRoomSample is how many connections are looked at to find one to end.
	makeRoomSample = 64
	// doubtfulSample is the same for a client of an address that has failed to log in
	// several times: whoever comes as often as he can finds most places taken by his like.
	doubtfulSample = 8
	// makeRoomAfter is how long a client may take for its login, though others wait
	// for its place, whose addresses have as many connections.
	makeRoomAfter = 2 * time.Second
)

// makeRoom ends a connection that is not logged in, for the sake of a new one of
// block: one that fails to log in, else one that takes its time, or is of an address
// that has more connections than block. Otherwise whoever opens max_connections of them,
// and waits, or opens them again and again, would keep all others out. s.mu is held.
//
// For one of a block that fails again and again those that fail alike make no room: they
// would come back, and all take each other's places as fast as the machine can. Of a
// client behind a balancer nothing is known here yet.
func (s *Server) makeRoom(block netip.Prefix) bool {
	connections := func(of netip.Prefix) int {
		if !of.IsValid() { // of whom nothing is known yet
			return 0
		}
		return s.perBlock[of]
	}
	most := connections(block) + 1
	rank, sample := s.throttle.rank(block), makeRoomSample
	doubtful := rank > 1+freeFailures // who has not only mistyped
	if doubtful {
		sample = doubtfulSample
	}
	var idle *conn
	looked := 0
	for c, of := range s.conns { // in an order that is another one each time
		if looked++; looked > sample {
			break
		}
		if c.loggedIn.Load() {
			continue
		}
		attempt := c.attempt.Load()
		known, gone, fails := false, false, c.hasFailed.Load()
		if attempt != nil {
			r := attempt.rank()
			known, gone, fails = attempt.known, r == rankGone, r > 1
		}
		switch {
		case gone, !doubtful && fails, doubtful && !known && s.throttle.rank(of) > rank:
			s.displace(c)
			return true
		case attempt != nil, fails: // it stays
		case time.Since(c.began) < makeRoomAfter && (doubtful || connections(of) <= most):
		case idle == nil || c.began.Before(idle.began):
			idle = c
		}
	}
	if idle == nil {
		return false
	}
	s.displace(idle)
	return true
}

// displace ends a connection and counts it no more. s.mu is held.
func (s *Server) displace(c *conn) {
	if left, due := s.full.pass(); due {
		s.log().Warn("too many connections: some that have not logged in make room; raise max_connections if these are all clients of yours", "unlogged", left)
	}
	c.displaced.Store(true)
	s.remove(c)
	go c.abort() // which may wait for a handshake's lock
}

// remove takes a connection off the counts, once.
func (s *Server) remove(c *conn) {
	if block, ok := s.conns[c]; ok {
		s.leave(block)
		delete(s.conns, c)
	}
}

func (s *Server) finish(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(c)
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
