package maildir

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	durable "pop3gw/gateway/state"
	"pop3gw/gateway/uidl"
)

// BenchmarkOpen opens a maildrop of 100,000 messages of 2 KB: at first, and
// again when the sizes are remembered.
func BenchmarkOpen(b *testing.B) {
	const n = 100000
	a, path := oneMaildir(b)
	content := strings.Repeat(strings.Repeat("x", 70)+"\n", 29)
	for i := range n {
		name := fmt.Sprintf("cur/%d.M%dP1234.host.example.org,S=2059:2,S", 1700000000+i, i)
		write(b, path, name, content)
		age(b, path+"/"+name, time.Hour)
	}
	for _, cached := range []bool{false, true} {
		b.Run(map[bool]string{false: "count", true: "remembered"}[cached], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !cached {
					a.listings.forget(path)
				}
				d := open(b, a, ann)
				if d.Len() != n {
					b.Fatalf("%d messages", d.Len())
				}
				closeMaildrop(b, d)
			}
		})
	}
}

// BenchmarkDownload gets 2,000 messages of 10 KB, without a state and with an empty one,
// in which they become known. cpu-ns is the processor's time.
func BenchmarkDownload(b *testing.B) {
	const messages = 2000
	a, path := oneMaildir(b)
	body := strings.Repeat(strings.Repeat("x", 70)+"\n", 150)
	for i := range messages {
		name := fmt.Sprintf("cur/%d.b:2,", 1000+i)
		write(b, path, name, fmt.Sprintf("Received: by example.org\nMessage-ID: <%d@example.org>\n\n%s", i, body))
		age(b, path+"/"+name, time.Hour)
	}
	processor := func() int64 {
		var u unix.Rusage
		unix.Getrusage(unix.RUSAGE_SELF, &u)
		return u.Utime.Nano() + u.Stime.Nano()
	}
	// fresh has the adapter know no message.
	fresh := func(b *testing.B) (end func()) {
		db, err := durable.Open(b.TempDir(), slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		a.UseBook(uidl.NewBook(db, slog.New(slog.DiscardHandler)))
		return func() { db.Close() }
	}
	for _, known := range []bool{false, true} {
		b.Run(map[bool]string{false: "unknown", true: "known"}[known], func(b *testing.B) {
			b.SetBytes(int64(messages * len(body)))
			var took int64
			for b.Loop() {
				b.StopTimer()
				end := func() {}
				if known {
					end = fresh(b)
				}
				closeMaildrop(b, open(b, a, ann)) // the messages are counted
				began := processor()
				b.StartTimer()
				d := open(b, a, ann)
				for i := range d.Len() {
					r, err := d.Retrieve(b.Context(), i, -1)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, r); err != nil {
						b.Fatal(err)
					}
					r.Close()
				}
				closeMaildrop(b, d)
				a.background.Wait()
				took += processor() - began
				b.StopTimer()
				end()
				b.StartTimer()
			}
			b.ReportMetric(float64(took)/float64(b.N), "cpu-ns/op")
		})
	}
}
