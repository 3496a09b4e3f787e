package main

import (
	"syscall"

	"pop3gw/gateway"
)

// What a session has open: its connection, and one to the IMAP server, or three
// folders of a Maildir and a message.
const (
	filesPerSession        = 2
	filesPerMaildirSession = 5
)

// fileWarning says that max_connections cannot be reached. The Go runtime has
// raised the limit of open files as far as the process may.
func (c *config) fileWarning() error {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return nil
	}
	max := c.Limits.MaxConnections
	if max == 0 {
		max = gateway.DefaultLimits().MaxConnections
	}
	may := uint64(limit.Cur) // signed on FreeBSD
	each := uint64(filesPerSession)
	for _, a := range c.adapters {
		if a.Type == "maildir" {
			each = filesPerMaildirSession
		}
	}
	if need := uint64(max) * each; need > may {
		return c.source.errorf("limits.max_connections", "%d connections need %d open files, and this process may have %d; "+
			"raise that (LimitNOFILE of systemd, ulimits of Docker, ulimit -Hn) or lower max_connections", max, need, may)
	}
	return nil
}
