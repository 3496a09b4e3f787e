package link

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

// dialAnswer connects over TCP to a server that answers each command with the
// same text, in which % is the tag.
func dialAnswer(b *testing.B, answer string) *Conn {
	b.Helper()
	head, tail, _ := strings.Cut(strings.ReplaceAll(answer, "\n", "\r\n"), "%")
	text := []byte(head)
	listener := listen(b)
	go func() {
		nc, err := listener.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		u := newUpstream(b, nc)
		u.send("", greeting)
		for s := u.line(); s != ""; s = u.line() {
			tag, _, _ := strings.Cut(s, " ")
			buffers := net.Buffers{text, append([]byte(tag), tail...)}
			buffers.WriteTo(nc)
		}
	}()
	c, err := Dial(context.Background(), Options{Address: listener.Addr().String(), TLS: NoTLS})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// BenchmarkFetchSizes lists a mailbox of 100,000 messages.
func BenchmarkFetchSizes(b *testing.B) {
	const messages = 100_000
	var answer strings.Builder
	for i := range messages {
		fmt.Fprintf(&answer, "* %d FETCH (UID %d RFC822.SIZE %d)\n", i+1, 3*i+1, 1000+i%9000)
	}
	answer.WriteString("% OK done\n")
	c := dialAnswer(b, answer.String())
	b.SetBytes(int64(answer.Len()))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		err := c.FetchSizes(context.Background(), "1:*", func(uint32, imap.UID, int64) error { n++; return nil })
		if n != messages || err != nil {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkFetchSmallBody fetches messages of 4 KB, a command for each.
func BenchmarkFetchSmallBody(b *testing.B) {
	const size = 4096
	c := dialAnswer(b, fmt.Sprintf("* 1 FETCH (UID 1 BODY[] {%d}\n%s)\n%% OK done\n", size, strings.Repeat("x", size)))
	b.SetBytes(size)
	b.ReportAllocs()
	buf := make([]byte, 64<<10)
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
