//go:build !linux

package socket

import "net"

// Quick returns nc.
func Quick(nc net.Conn) net.Conn { return nc }
