package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"

	"pop3gw/gateway"
)

// counted is a maildrop whose messages differ in their number alone: it costs
// nothing itself. It is its own adapter.
type counted struct {
	messages int
	body     []byte
}

func (d *counted) Open(context.Context, gateway.Account) (gateway.Maildrop, error) { return d, nil }
func (d *counted) Len() int                                                        { return d.messages }
func (d *counted) Size(int) int64                                                  { return int64(len(d.body)) }
func (d *counted) Close() error                                                    { return nil }

func (d *counted) AppendUID(dst []byte, i int) []byte {
	return strconv.AppendInt(append(dst, "1600000000.M"...), int64(1_000_000+i), 10)
}

func (d *counted) Retrieve(context.Context, int, int) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(d.body)), nil
}

func (d *counted) Delete(context.Context, []int, func(int)) error {
	return errors.New("a benchmark removes nothing")
}

// serveCounted serves d over loopback, and returns the address.
func serveCounted(b *testing.B, d *counted, o gateway.ListenerOptions, log *slog.Logger) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &gateway.Server{Accounts: anyone{d}, Log: log}
	go server.Serve(listener, o)
	b.Cleanup(func() { server.Shutdown(context.Background()) })
	return listener.Addr().String()
}

// benchmarkReplies sends a batch of commands in one piece, again and again, and
// reads the octets of its replies.
func benchmarkReplies(b *testing.B, d *counted, o gateway.ListenerOptions, commands string) {
	nc, err := net.Dial("tcp", serveCounted(b, d, o, slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	if o.Implicit {
		nc = tls.Client(nc, tlsClient)
	}
	b.Cleanup(func() { nc.Close() })
	exchange(b, nc, "USER ann\r\nPASS x\r\nNONSENSE\r\n")
	octets := exchange(b, nc, commands+"NONSENSE\r\n") - exchange(b, nc, "NONSENSE\r\n")
	b.SetBytes(int64(octets))
	b.ReportAllocs()
	buf := make([]byte, 256<<10)
	for b.Loop() {
		go io.WriteString(nc, commands)
		for left := octets; left > 0; {
			n, err := nc.Read(buf[:min(left, len(buf))])
			if err != nil {
				b.Fatal(err)
			}
			left -= n
		}
	}
}

// exchange sends commands, the last of which is none, and reads up to its -ERR.
func exchange(b *testing.B, nc net.Conn, commands string) (octets int) {
	b.Helper()
	go io.WriteString(nc, commands)
	var got []byte
	buf := make([]byte, 256<<10)
	for {
		n, err := nc.Read(buf)
		if err != nil {
			b.Fatalf("%v after %q", err, got[max(0, len(got)-100):])
		}
		got = append(got, buf[:n]...)
		tail := got[bytes.LastIndexByte(got[:len(got)-1], '\n')+1:]
		if bytes.HasPrefix(tail, []byte("-ERR ")) && got[len(got)-1] == '\n' {
			return len(got)
		}
	}
}

// BenchmarkSession has pipelined batches of 1,000 commands and listings of
// 100,000 messages go through a whole session, over loopback.
func BenchmarkSession(b *testing.B) {
	var noop, list strings.Builder
	for i := range 1000 {
		noop.WriteString("NOOP\r\n")
		fmt.Fprintf(&list, "LIST %d\r\n", i+1)
	}
	plain := gateway.ListenerOptions{}
	many := &counted{messages: 100_000, body: []byte("x\n")}
	b.Run("NOOP", func(b *testing.B) { benchmarkReplies(b, many, plain, noop.String()) })
	b.Run("LIST-n", func(b *testing.B) { benchmarkReplies(b, many, plain, list.String()) })
	b.Run("LIST", func(b *testing.B) { benchmarkReplies(b, many, plain, "LIST\r\n") })
	b.Run("UIDL", func(b *testing.B) { benchmarkReplies(b, many, plain, "UIDL\r\n") })
	large := &counted{messages: 1, body: bytes.Repeat([]byte(strings.Repeat("x", 75)+"\n"), 100_000)}
	b.Run("RETR", func(b *testing.B) { benchmarkReplies(b, large, plain, "RETR 1\r\n") })
	overTLS := tlsOptions(b)
	overTLS.Implicit = true
	b.Run("RETR-TLS", func(b *testing.B) { benchmarkReplies(b, large, overTLS, "RETR 1\r\n") })
}

// BenchmarkLogin is a session that does nothing but log in and quit.
func BenchmarkLogin(b *testing.B) {
	addr := serveCounted(b, &counted{messages: 100, body: []byte("x\n")}, gateway.ListenerOptions{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	buf := make([]byte, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		for _, command := range []string{"", "USER ann\r\n", "PASS x\r\n", "QUIT\r\n"} {
			io.WriteString(nc, command)
			if n, err := nc.Read(buf); err != nil || !bytes.HasPrefix(buf[:n], []byte("+OK ")) {
				b.Fatalf("%q: %q, %v", command, buf[:n], err)
			}
		}
		nc.Close()
	}
}
