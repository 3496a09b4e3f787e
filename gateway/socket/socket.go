// Package socket makes TCP connections cheaper where little is said at a time.
package socket

import (
	"errors"
	"net"
)

// ErrWait is the error of TryRead where nothing has come yet.
var ErrWait = errors.New("nothing has come yet")

// TryRead reads what has come, without waiting for more. It takes no notice of
// deadlines. Where nc knows no such thing, as Quick's connections do, the error is
// ErrWait.
func TryRead(nc net.Conn, p []byte) (int, error) {
	if q, ok := nc.(interface{ TryRead([]byte) (int, error) }); ok {
		return q.TryRead(p)
	}
	return 0, ErrWait
}

// TryWrite writes as much of p as can be written without waiting, of which less than all
// is no error. It takes no notice of deadlines. Where nc knows no such thing, that is
// nothing.
func TryWrite(nc net.Conn, p []byte) (int, error) {
	if q, ok := nc.(interface{ TryWrite([]byte) (int, error) }); ok {
		return q.TryWrite(p)
	}
	return 0, nil
}
