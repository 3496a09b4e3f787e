package maildir

import (
	"testing"

	"pop3gw/gateway"
)

func TestReport(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "new/1.m", "a\nb\n")
	settle(t, path, "new/1.m")
	for range 3 {
		wantSizes(t, a, "[6]")
	}
	var hits, misses uint64
	a.Report(func(s gateway.Stat) {
		switch {
		case s.Kind == gateway.CacheHits && s.Name == "listing":
			hits = s.Value
		case s.Kind == gateway.CacheMisses && s.Name == "listing":
			misses = s.Value
		default:
			t.Errorf("it says %+v", s)
		}
	})
	if hits != 2 || misses != 1 {
		t.Errorf("%d hits and %d misses, want 2 and 1", hits, misses)
	}
}
