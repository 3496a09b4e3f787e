package link

import (
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// peakHeap runs f and returns how many octets the heap grew at most.
func peakHeap(f func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // what is used, not what is thrown away
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var peak atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			runtime.ReadMemStats(&now)
			peak.Store(max(peak.Load(), int64(now.HeapAlloc)-int64(before.HeapAlloc)))
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	f()
	close(stop)
	<-stopped
	return peak.Load()
}

// pour writes s again and again, until n octets are written or nobody reads.
func (u *upstream) pour(s string, n int) {
	chunk := []byte(strings.Repeat(s, max(1, 32<<10/len(s))))
	for n > 0 {
		k, err := u.nc.Write(chunk[:min(len(chunk), n)])
		if err != nil {
			return
		}
		n -= k
	}
}

// Whatever a server sends costs little memory, and ends.
func TestHostile(t *testing.T) {
	const heap = 8 << 20
	examine := func(c *Conn) error {
		return c.Do(context.Background(), func(client *imapclient.Client) error {
			_, err := client.Select("INBOX", nil).Wait()
			return err
		})
	}
	sizes := func(c *Conn) error {
		return c.FetchSizes(context.Background(), "1:*", func(uint32, imap.UID, int64) error { return nil })
	}
	body := func(c *Conn) error {
		b, err := c.FetchBody(context.Background(), 1, Section{})
		if err != nil {
			return err
		}
		defer b.Close()
		_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{b}, make([]byte, 64<<10))
		return err
	}
	search := func(c *Conn) error {
		return c.Do(context.Background(), func(client *imapclient.Client) error {
			_, err := client.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
			return err
		})
	}
	for _, tt := range []struct {
		name string
		run  func(*Conn) error
		pour func(*upstream)
		err  error // nil: any, as what is sent harms nobody until the end
	}{
		{"300 MB line", examine, func(u *upstream) { u.pour("x", 300<<20) }, ErrTooLong},
		{"300 MB quoted string", examine, func(u *upstream) { u.send("", `* LIST () "`); u.pour("x", 300<<20) }, ErrTooLong},
		{"300 MB line, sizes", sizes, func(u *upstream) { u.pour("x", 300<<20) }, ErrTooLong},
		{"300 MB line, body", body, func(u *upstream) { u.send("", `* 1 FETCH (UID `); u.pour("7", 300<<20) }, ErrTooLong},
		{"20 MB of parentheses", examine, func(u *upstream) { u.send("", `* 1 FETCH (BODYSTRUCTURE `); u.pour("(", 20<<20) }, ErrTooLong},
		{"20 MB of parentheses, sizes", sizes, func(u *upstream) { u.send("", `* 1 FETCH (BODYSTRUCTURE `); u.pour("(", 20<<20) }, ErrTooLong},
		{"20 MB of parentheses in lines", sizes, func(u *upstream) { u.send("", `* 1 FETCH (BODYSTRUCTURE `); u.pour("(((((((((({0}\r\n", 20<<20) }, nil},
		{"20 MB of parentheses in LIST", examine, func(u *upstream) { u.send("", `* LIST (`); u.pour("((((((((({0}\r\n", 20<<20) }, ErrTooLong},
		{"100 MB of literals nobody wants", sizes, func(u *upstream) { u.send("", "* 1 FETCH (BODY[] {104857600}\n"); u.pour("x", 100<<20) }, nil},
		{"100 MB of literals nobody wants, command", examine, func(u *upstream) { u.send("", "* XYZZY {104857600}\n"); u.pour("x", 100<<20) }, nil},
		{"200 MB of a body, cut", body, func(u *upstream) { u.send("", "* 1 FETCH (UID 1 BODY[] {1048576000}\n"); u.pour("x", 200<<20) }, io.ErrUnexpectedEOF},
		{"100 MB quoted body", body, func(u *upstream) { u.send("", `* 1 FETCH (UID 1 BODY[] "`); u.pour("x", 100<<20) }, ErrTooLong},
		{"endless SEARCH", search, func(u *upstream) { u.pour("* SEARCH 1 3 5 7 9 11\r\n", 100<<20) }, ErrTooLong},
		{"endless LIST", search, func(u *upstream) { u.pour("* LIST () \"/\" x\r\n", 100<<20) }, ErrTooLong},
		{"endless EXPUNGE", sizes, func(u *upstream) { u.pour("* 1 EXPUNGE\r\n", 20<<20) }, nil},
		{"endless EXISTS", sizes, func(u *upstream) { u.pour("* 1 EXISTS\r\n", 5<<20) }, nil},
		{"endless CAPABILITY", sizes, func(u *upstream) { u.pour("* CAPABILITY A B C D\r\n", 5<<20) }, nil},
		{"endless OK", examine, func(u *upstream) { u.pour("* OK [X-Y] hm\r\n", 20<<20) }, ErrTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listener := listen(t) // the pipe's buffer would count
			opts := Options{Address: listener.Addr().String(), TLS: NoTLS}
			go func() {
				nc, err := listener.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				u := newUpstream(t, nc)
				u.send("", greeting)
				u.line()
				tt.pour(u)
			}()
			c, err := Dial(context.Background(), opts)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			allowed := int64(heap)
			if strings.HasPrefix(tt.name, "endless") {
				allowed *= 2 // imapclient leaves garbage for each line
			}
			if peak := peakHeap(func() { err = tt.run(c) }); peak > allowed {
				t.Errorf("the heap grew by %d octets", peak)
			}
			if tt.err != nil {
				wantErr(t, "the operation", err, tt.err)
			} else if err == nil || errors.Is(err, ErrTooLong) {
				t.Errorf("the operation: %v", err)
			}
			if c.Err() == nil {
				t.Error("the connection goes on")
			}
		})
	}
}

func BenchmarkFetchBody(b *testing.B) {
	const size = 100 << 20
	listener := listen(b)
	go func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				u := newUpstream(b, nc)
				u.send("", greeting)
				for s := u.line(); s != ""; s = u.line() {
					tag, _, _ := strings.Cut(s, " ")
					u.send("", "* 1 FETCH (UID 1 BODY[] {104857600}\n")
					u.pour("x", size)
					u.send(tag, ")\n% OK\n")
				}
			}()
		}
	}()
	c, err := Dial(context.Background(), Options{Address: listener.Addr().String(), TLS: NoTLS})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 64<<10)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		body, err := c.FetchBody(context.Background(), 1, Section{})
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{body}, buf); n != size || err != nil {
			b.Fatal(n, err)
		}
		body.Close()
	}
}
