package account

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkMemory is what a login costs whose password was found right lately.
func BenchmarkMemory(b *testing.B) {
	m := newMemory(time.Hour, maxRemembered)
	const stored = "$argon2id$v=19$m=19456,t=2,p=1$mn6oE3DlGfUK/VfN7IfAkQ$4WbpMeCsQJCGcGYi336SOGjM/2tz1nAiipd/I9+lvfw"
	names := make([]string, maxRemembered)
	for i := range names {
		names[i] = fmt.Sprint("user", i, "@example.org")
		m.add(m.mark(names[i], stored, []byte("secret")))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if !m.knows(m.mark(names[i%len(names)], stored, []byte("secret"))) {
				b.Error("a password was forgotten")
				return
			}
		}
	})
}
