package maildir

import (
	"fmt"
	"strings"
	"testing"
	"time"
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
