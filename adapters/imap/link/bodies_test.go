package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
)

// readBodies reads all messages, as "UID:text". UIDs are those known at the end.
func readBodies(b *Bodies) (got []string, err error) {
	for {
		body, err := b.Next(context.Background())
		if err != nil {
			return got, err
		}
		text, err := io.ReadAll(body)
		if err == nil {
			err = body.Close()
		}
		if err != nil {
			return got, err
		}
		got = append(got, fmt.Sprintf("%d:%s", body.UID(), text))
	}
}

func TestFetchBodies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer string
		want   []string
		err    error // nil is io.EOF
		broken bool
	}{
		{name: "plain", answer: "* 1 FETCH (UID 7 BODY[] {3}\none)\n* 2 FETCH (UID 8 BODY[] {0}\n)\n% OK\n", want: []string{"7:one", "8:"}},
		{name: "quoted", answer: "* 1 FETCH (UID 7 BODY[] \"a\\\"b\")\n* 2 FETCH (UID 8 BODY[] {3}\ntwo)\n% OK\n", want: []string{`7:a"b`, "8:two"}},
		{name: "out of order", answer: "* 2 FETCH (UID 8 BODY[] {3}\ntwo)\n* 1 FETCH (UID 7 BODY[] {3}\none)\n% OK\n", want: []string{"8:two", "7:one"}},
		{name: "odd items", answer: "* 1 FETCH (FLAGS (\\Seen \")\") UID 7 X (NIL {2}\n)( ) BODY[] ~{3}\none MODSEQ (4))\n% OK\n", want: []string{"7:one"}},
		{name: "UID behind the body", answer: "* 1 FETCH (BODY[] {3}\none UID 7)\n% OK\n", want: []string{"7:one"}},
		{name: "no UID", answer: "* 1 FETCH (BODY[] {3}\none)\n% OK\n", want: []string{"0:one"}},
		{name: "others between", answer: "* 1 FETCH (FLAGS ())\n* 9 EXISTS\n* 1 FETCH (UID 7 BODY[] {3}\none)\n* 1 EXPUNGE\n* XYZZY\n* 1 FETCH (UID 8 FLAGS (\\Seen))\n% OK\n", want: []string{"7:one"}},
		{name: "NIL", answer: "* 1 FETCH (UID 7 BODY[] NIL)\n* 2 FETCH (UID 8 BODY[] {3}\ntwo)\n% OK\n", want: []string{"8:two"}},
		{name: "none", answer: "% OK\n"},
		{name: "NO", answer: "% NO [limit] enough\n", err: &imap.Error{Type: "NO", Code: "LIMIT", Text: "enough"}},
		{name: "NO behind all", answer: "* 1 FETCH (UID 7 BODY[] {3}\none)\n% NO failed\n", want: []string{"7:one"}, err: &imap.Error{Type: "NO", Text: "failed"}},
		{name: "another UID behind the body", answer: "* 1 FETCH (UID 7 BODY[] {3}\none UID 8)\n% OK\n", err: ErrProtocol, broken: true},
		{name: "literal too short", answer: "* 1 FETCH (UID 7 BODY[] {2}\none)\n% OK\n", err: ErrProtocol, broken: true},
		{name: "cut in the second", answer: "* 1 FETCH (UID 7 BODY[] {3}\none)\n* 2 FETCH (UID 8 BODY[] {9}\ntw", want: []string{"7:one"}, err: io.ErrUnexpectedEOF, broken: true},
		{name: "cut behind the literal", answer: "* 1 FETCH (UID 7 BODY[] {3}\none", err: io.ErrUnexpectedEOF, broken: true},
		{name: "no completion", answer: "* 1 FETCH (UID 7 BODY[] {3}\none)\n", want: []string{"7:one"}, err: io.ErrUnexpectedEOF, broken: true},
		{name: "not a list", answer: "* 1 FETCH UID 7\n% OK\n", err: ErrProtocol, broken: true},
		{name: "unknown tag", answer: "* 1 FETCH (UID 7 BODY[] {3}\none)\nF99 OK\n", want: []string{"7:one"}, err: ErrProtocol, broken: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialPipe(t, Limits{}, func(u *upstream) {
				u.send("", greeting)
				u.send(u.expect("UID FETCH 7:8 (UID BODY.PEEK[])"), tt.answer)
				if !tt.broken {
					u.send(u.expect("NOOP"), "% OK\n")
				}
			})
			b, err := c.FetchBodies(context.Background(), "7:8", Section{})
			if err != nil {
				t.Fatal(err)
			}
			wantErr(t, "Do meanwhile", c.Do(context.Background(), noop), ErrBusy)
			got, err := readBodies(b)
			if tt.err == nil {
				tt.err = io.EOF
			}
			checkErr(t, "Next", err, tt.err)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			b.Close()
			if broken := c.Err() != nil; broken != tt.broken {
				t.Errorf("connection ended: %v, want %v: %v", broken, tt.broken, c.Err())
			}
			if !tt.broken {
				inStep(t, c)
			}
		})
	}
}

// Two commands at a time, completed in any order.
func TestBodiesMore(t *testing.T) {
	const one, two = "* 1 FETCH (UID 7 BODY[] {3}\none)\n", "* 2 FETCH (UID 8 BODY[] {3}\ntwo)\n"
	for _, order := range []string{one + "F1 OK\n" + two + "F2 OK\n", one + two + "F1 OK\nF2 OK\n", one + two + "F2 OK\nF1 OK\n", two + "F2 OK\n" + one + "F1 OK\n"} {
		for _, answer := range []string{order, strings.Replace(order, "F1 OK", "F1 NO sorry", 1)} {
			c := dialPipe(t, Limits{}, func(u *upstream) {
				u.send("", greeting)
				u.expect("UID FETCH 7 (")
				u.expect("UID FETCH 8 (")
				u.send("", answer)
				u.send(u.expect("NOOP"), "% OK\n")
			})
			b, err := c.FetchBodies(context.Background(), "7", Section{})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.More("8"); err != nil {
				t.Fatal(err)
			}
			got, err := readBodies(b)
			slices.Sort(got)
			if !slices.Equal(got, []string{"7:one", "8:two"}) {
				t.Errorf("%q: got %q", answer, got)
			}
			if _, refused := errors.AsType[*imap.Error](err); refused != (answer != order) || !refused && err != io.EOF {
				t.Errorf("%q: error is %v", answer, err)
			}
			b.Close()
			inStep(t, c)
		}
	}
}

func TestBodiesAbandoned(t *testing.T) {
	body := func(uid, n int) string {
		return fmt.Sprintf("* 1 FETCH (UID %d BODY[] {%d}\n%s)\n", uid, n, strings.Repeat("x", n))
	}
	for _, tt := range []struct {
		name   string
		answer string
		read   int   // octets of the first body; -1 does not ask for it
		octets int64 // as if
		broken bool
	}{
		{"untouched", body(7, 10) + body(8, 10) + "% OK\n", -1, 20, false},
		{"in the first", body(7, 10) + body(8, 10) + "% OK\n", 5, 10, false},
		{"behind the first", body(7, 10) + body(8, 10) + "% OK\n", 10, 10, false},
		{"much is expected", body(7, 10), 5, maxDrain + 1, true},
		{"more than expected", body(7, 10) + body(8, maxDrain+1) + "% OK\n", 5, 1, true},
		{"a large first", body(7, maxDrain+bufferSize), 5, 1, true},
		{"nothing is left", "% OK\n", -1, 0, false},
		{"refused", "% NO\n", -1, 10, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialPipe(t, Limits{}, func(u *upstream) {
				u.send("", greeting)
				u.send(u.expect("UID FETCH 7:8"), tt.answer)
				if !tt.broken {
					u.send(u.expect("NOOP"), "% OK\n")
				}
			})
			b, err := c.FetchBodies(context.Background(), "7:8", Section{})
			if err != nil {
				t.Fatal(err)
			}
			if tt.read >= 0 {
				body, err := b.Next(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(body, make([]byte, tt.read)); err != nil {
					t.Fatal(err)
				}
			}
			b.Abandon(context.Background(), tt.octets)
			if broken := c.Err() != nil; broken != tt.broken {
				t.Errorf("connection ended: %v", c.Err())
			}
			if !tt.broken {
				inStep(t, c)
			}
		})
	}
}

// Each message has a context of its own.
func TestBodiesContext(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.expect("UID FETCH 7:8")
		u.send("", "* 1 FETCH (UID 7 BODY[] {3}\none)\n* 2 FETCH (UID 8 BODY[] {3}\nt")
		u.line()
	})
	first, cancel := context.WithCancel(context.Background())
	b, err := c.FetchBodies(first, "7:8", Section{})
	if err != nil {
		t.Fatal(err)
	}
	body, err := b.Next(first)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(body); string(text) != "one" || err != nil || body.Close() != nil {
		t.Errorf("got %q, %v", text, err)
	}
	cancel()
	if _, err := b.Next(first); !errors.Is(err, context.Canceled) || c.Err() != nil {
		t.Errorf("Next: %v; connection: %v", err, c.Err())
	}
	second, cancel := context.WithCancel(context.Background())
	if body, err = b.Next(second); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = io.ReadAll(body)
	wantErr(t, "Read", err, context.Canceled)
	wantErr(t, "Close", body.Close(), context.Canceled)
	b.Close()
	wantErr(t, "Err", c.Err(), context.Canceled)
}

// What comes in quick succession is read together, and nothing is held back
// where a pause follows, with TLS as without.
func TestBodyInPieces(t *testing.T) {
	certificate() // outside the bubble
	for _, mode := range []TLSMode{NoTLS, Implicit} {
		synctest.Test(t, func(t *testing.T) {
			const quick, slow = pause / 4, time.Minute / 2
			c, err := tryPipe(t, Options{TLS: mode, TLSConfig: clientTLS()}, func(u *upstream) {
				if mode == Implicit {
					u.secure()
				}
				u.send("", greeting)
				tag := u.expect("UID FETCH 7:8 ")
				u.send("", "* 1 FETCH (UID 7 BODY[] {8}\n")
				for _, piece := range []struct {
					text  string
					pause time.Duration
				}{{"ab", quick}, {"cd", slow}, {"ef", quick}, {"gh", slow}} {
					u.send("", piece.text)
					time.Sleep(piece.pause)
				}
				u.send(tag, ")\n* 2 FETCH (UID 8 BODY[] {1}\nx)\n% OK\n")
			})
			if err != nil {
				t.Fatal(err)
			}
			b, err := c.FetchBodies(t.Context(), "7:8", Section{})
			if err != nil {
				t.Fatal(err)
			}
			body, err := b.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			p := make([]byte, 100)
			for _, want := range []struct {
				text string
				at   time.Duration // when it is read, about
			}{{"abcd", 0}, {"efgh", slow}, {"", 2 * slow}} {
				n, err := body.Read(p)
				if at := time.Since(began); string(p[:n]) != want.text || (err == io.EOF) != (want.text == "") || at < want.at || at > want.at+10*pause {
					t.Errorf("%v: read %q, %v after %v, want %q after %v", mode, p[:n], err, at, want.text, want.at)
				}
			}
			body.Close()
			if got, err := readBodies(b); len(got) != 1 || got[0] != "8:x" || err != io.EOF {
				t.Errorf("%v: the next are %q, %v", mode, got, err)
			}
			b.Close()
		})
	}
}

// The buffer is wide only while bodies come, whatever is left in it.
func TestWideBuffer(t *testing.T) {
	one := strings.Repeat("x", 100_000)
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		for range 3 {
			u.send(u.expect("UID FETCH 7 "), "* 1 FETCH (UID 7 BODY[] {100000}\n"+one+")\n% OK\n")
			u.send(u.expect("NOOP"), "% OK\n")
		}
	})
	for range 3 {
		b, err := c.FetchBodies(t.Context(), "7", Section{})
		if err != nil {
			t.Fatal(err)
		}
		if c.r.br.Size() != wideSize {
			t.Errorf("the buffer has %d octets while bodies come", c.r.br.Size())
		}
		if got, err := readBodies(b); len(got) != 1 || got[0] != "7:"+one || err != io.EOF {
			t.Fatalf("%d messages, %v", len(got), err)
		}
		b.Close()
		if c.r.br.Size() != bufferSize {
			t.Errorf("the buffer has %d octets afterwards", c.r.br.Size())
		}
		inStep(t, c)
	}
}
