package imap

import (
	"fmt"
	"strings"
	"testing"

	"pop3gw/gateway"
)

// report is what an adapter says of itself, but for what is 0.
func report(a gateway.StatsReporter) string {
	kinds := map[gateway.StatKind]string{gateway.UpstreamConnections: "connections", gateway.UpstreamWaiting: "waiting",
		gateway.UpstreamLeftAlone: "left alone", gateway.CacheHits: "hit", gateway.CacheMisses: "miss"}
	var said []string
	a.Report(func(s gateway.Stat) {
		if s.Value > 0 {
			said = append(said, fmt.Sprintf("%s %s %d", kinds[s.Kind], s.Name, s.Value))
		}
	})
	return strings.Join(said, ", ")
}

func TestReport(t *testing.T) {
	s := newFake("1", "2", "3", "4", "5", "6")
	s.caps = "IMAP4rev1 UIDPLUS ESEARCH"
	a, _ := s.adapter(t, Options{})
	want := func(when, text string) {
		t.Helper()
		if got := report(a); got != text {
			t.Errorf("%s: %s\nwant %s", when, got, text)
		}
	}
	want("at first", "")
	d := s.poll(t, a)
	want("in a session", "connections used 1, miss connection 1, miss listing 1")
	d.Close()
	want("behind it", "connections kept 1, miss connection 1, miss listing 1")
	d = s.poll(t, a)
	want("in the next", "connections used 1, hit connection 1, miss connection 1, hit listing 1, miss listing 1")
	for i := range 6 { // the second asks for those behind it
		wantMessage(t, d, i, fmt.Sprint(i+1))
	}
	want("behind a download", "connections used 1, hit connection 1, miss connection 1, hit listing 1, miss listing 1, hit message 4, miss message 2")
	d.Close()
	a.Close()
	want("at the end", "hit connection 1, miss connection 1, hit listing 1, miss listing 1, hit message 4, miss message 2")
}
