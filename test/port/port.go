// Package port finds TCP ports for servers of the tests.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// Where ports are looked for: below those that the system gives to whoever connects.
const first, last = 12_000, 32_000

// count begins anywhere, as another run may go on beside this one.
var count = func() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(rand.Int64N(last - first))
	return n
}()

// Free returns a loopback port that was free a moment ago, and none twice: tests run
// side by side.
func Free() (int, error) {
	for range 1000 {
		port := first + int(count.Add(1))%(last-first)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port, nil
		}
	}
	return 0, errors.New("no port is free")
}
