//go:build real

package real

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// A client that takes many small messages at a steady rate has them asked for ahead up
// to the last, though Dovecot may send those of two commands mixed.
func TestSteadyDownload(t *testing.T) {
	const messages, octets, rate = 10_000, 4_000, 40e6
	d := startDovecot(t)
	g := startGateway(t, d, "")
	line := strings.Repeat("x", 70) + "\n"
	var mail [][]byte
	for i := range messages {
		mail = append(mail, letter(fmt.Sprint("number ", i), strings.Repeat(line, (octets+i%2000-1000)/len(line))))
	}
	d.deliver(t, "alice", mail...)
	for range 4 {
		c := login(t, g.addr(), "alice")
		began := time.Now()
		total := int64(0)
		for n := 1; n <= messages; n++ {
			c.must(t, "RETR %d", n)
			got, err := c.body(io.Discard)
			if err != nil {
				t.Fatalf("RETR %d: %v", n, err)
			}
			total += got
			time.Sleep(time.Until(began.Add(time.Duration(float64(total) / rate * float64(time.Second)))))
		}
		t.Logf("%d octets in %v", total, time.Since(began).Round(time.Millisecond))
		c.must(t, "QUIT")
	}
	if log := g.log.String(); strings.Contains(log, "fetched alone") || strings.Contains(log, "connecting again") {
		t.Error("messages were not prefetched to the end")
	}
}
