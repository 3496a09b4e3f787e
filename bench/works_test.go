package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWorkTakesTurns(t *testing.T) {
	var order string
	c := func(name string) contender {
		return contender{name: name,
			prepare: func(context.Context) error { order += "(" + name + ")"; return nil },
			measure: func(context.Context) ([]float64, error) { order += name; return []float64{float64(len(order)), 7}, nil },
		}
	}
	w := work{turns: 2, contenders: []contender{c("a"), c("b")}}
	got, err := w.run(t.Context(), 5)
	if err != nil || order != "(a)(b)abab" {
		t.Fatalf("order %s, %v", order, err)
	}
	if !slices.Equal(got["a"][0], []float64{7, 9}) || !slices.Equal(got["b"][1], []float64{7, 7}) {
		t.Errorf("got %v", got)
	}
	broken := errors.New("broken")
	w.contenders[1].measure = func(context.Context) ([]float64, error) { return nil, broken }
	if _, err := w.run(t.Context(), 1); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "b: ") {
		t.Errorf("got %v", err)
	}
}

// Every row names contenders and a metric that its work has.
func TestWorksAreWhole(t *testing.T) {
	l := &lab{gateway: new(server), gatewayNear: new(server), gatewayFar: new(server), dovecot: new(server),
		imapcNear: new(server), imapcFar: new(server), upstream: new(server)}
	l.path = &proxy{listener: listen(t)}
	l.canned = &canned{listener: listen(t)}
	for _, s := range []scale{full, short} {
		seen := make(map[string]bool)
		boxes := make(map[string]mailbox)
		for _, w := range l.works(s) {
			if seen[w.name] {
				t.Errorf("two works are called %s", w.name)
			}
			seen[w.name] = true
			if w.contenders[0].name != nameGateway {
				t.Errorf("%s begins with %s", w.name, w.contenders[0].name)
			}
			for _, r := range w.rows {
				if !slices.ContainsFunc(w.contenders, func(c contender) bool { return c.name == r.peer }) {
					t.Errorf("%s: %q is compared with %s, which does not take part", w.name, r.title, r.peer)
				}
			}
			for _, b := range w.boxes {
				if have, ok := boxes[b.user]; ok && have != b {
					t.Errorf("%s and another work disagree about the mail of %s", w.name, b.user)
				}
				boxes[b.user] = b
			}
		}
		if s.stormUsers%s.stormClients != 0 {
			t.Error("two clients of a storm would meet in one maildrop")
		}
	}
	for only, want := range map[string]string{
		"poll-10, storm": "poll-10, storm", // not poll-1000, not imap-storm
		"big":            "big",
		"-storm,-big":    "imap-big, imap-storm",
		"nothing":        "",
		"big,":           "big",
	} {
		if got := names(selected(l.works(full), only)); got != want {
			t.Errorf("%q selects %s, want %s", only, got, want)
		}
	}
	if got := len(selected(l.works(full), "")); got != len(l.works(full)) {
		t.Errorf("without -only %d works run", got)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestProxyDelays(t *testing.T) {
	echo := listen(t)
	go func() {
		for {
			nc, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(nc, nc)
				nc.Close()
			}()
		}
	}()
	const delay = 30 * time.Millisecond
	p, err := newProxy(echo.Addr().String(), delay)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	nc, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	in := bufio.NewReader(nc)
	begin := time.Now()
	// Two lines that follow each other closely are under way together.
	for _, s := range []string{"one\n", "two\n"} {
		io.WriteString(nc, s)
		time.Sleep(time.Millisecond)
	}
	for _, want := range []string{"one\n", "two\n"} {
		if got, err := in.ReadString('\n'); got != want || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
		if took := time.Since(begin); took < 2*delay {
			t.Errorf("%q came back after %v", want, took)
		}
	}
	big := strings.Repeat("0123456789abcdef", 1<<18)
	go func() {
		io.WriteString(nc, big)
		nc.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(in)
	if err != nil || string(got) != big {
		t.Fatalf("%d octets, %v", len(got), err)
	}
	if n := p.received.Load(); n != int64(len(big)+len("one\ntwo\n")) {
		t.Errorf("%d octets counted", n)
	}
}

func TestLiteralAtEnd(t *testing.T) {
	for line, want := range map[string]int{
		"* 1 FETCH (UID 1 BODY[] {12}\r\n": 12, "* 1 FETCH (BODY[] {0}\r\n": 0,
		"a1 OK done\r\n": -1, "* OK {x}\r\n": -1, "* OK 12}\r\n": -1, "{7}\n": -1,
	} {
		n, ok := literalAtEnd([]byte(line))
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: %d, %v", line, n, ok)
		}
	}
}

// BenchmarkPoll is what the client and the canned server cost together.
func BenchmarkPoll(b *testing.B) {
	dir := b.TempDir()
	box := mailbox{user: "ann", messages: 100, octets: 1000}
	if err := writeMail([]string{dir}, []mailbox{box}, os.Getuid()); err != nil {
		b.Fatal(err)
	}
	s, err := newCanned(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer s.close()
	p := poller{dial: alone, addr: s.addr()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.poll(b.Context(), box); err != nil {
			b.Fatal(err)
		}
	}
}
