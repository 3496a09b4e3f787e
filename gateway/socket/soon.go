package socket

import (
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// soon is how long ReadSoon tries: about what it takes to put a processor to
	// sleep and wake it.
	soon = 50 * time.Microsecond
	// maxTries bounds it where time stands still.
	maxTries = 200
)

var waitingSoon atomic.Bool

// ReadSoon is TryRead, tried again and again for a moment, in which other goroutines
// run, but the thread does not sleep. One caller at a time does so; others try once.
func ReadSoon(nc net.Conn, p []byte) (n int, err error) {
	if n, err = TryRead(nc, p); err != ErrWait || !waitingSoon.CompareAndSwap(false, true) {
		return n, err
	}
	defer waitingSoon.Store(false)
	began := time.Now()
	for tries := 1; err == ErrWait && tries < maxTries && time.Since(began) < soon; tries++ {
		runtime.Gosched()
		n, err = TryRead(nc, p)
	}
	return n, err
}
