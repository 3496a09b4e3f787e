package gateway

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// established is TCP_ESTABLISHED: the other side has sent neither FIN nor RST.
const established = 1

// closedByClient reports whether the client has closed the connection, or will at
// least send nothing more, whatever of it is still to be read.
func closedByClient(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		closed = err == nil && info.State != established
	})
	return closed || err != nil
}
