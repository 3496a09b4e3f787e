package gateway

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsentOctets is how much of what was written the client's side has not yet
// acknowledged; 0 where that is not known.
func unsentOctets(nc net.Conn) (octets int) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		octets, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	})
	if err != nil {
		return 0
	}
	return octets
}
