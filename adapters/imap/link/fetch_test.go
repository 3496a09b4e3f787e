package link

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

func TestFetchBody(t *testing.T) {
	const text = "Subject: x\n\nbody\n" // LF is sent as CRLF: 20 octets
	want := strings.ReplaceAll(text, "\n", "\r\n")
	body := fmt.Sprintf("{%d}\n%s", len(want), text)
	for _, tt := range []struct {
		name    string
		section Section
		answer  string
		want    string // the body, or
		openErr error  // what FetchBody returns, or
		readErr error  // what Read ends with
		broken  bool   // the connection is finished
	}{
		{name: "plain", answer: "* 1 FETCH (UID 7 BODY[] " + body + ")\n% OK done\n", want: want},
		{name: "lower case", answer: "* 1 fetch (uid 7 body[] " + body + ")\n% ok\n", want: want},
		{name: "UID behind the body", answer: "* 1 FETCH (BODY[] " + body + " UID 7)\n% OK done\n", want: want},
		{name: "more items", answer: "* 1 FETCH (FLAGS (\\Seen \"q)\") MODSEQ (12) BODY[HEADER.FIELDS (A B)] {2}\nab UID 7 BODY[] " + body + " INTERNALDATE \"1) \\\" 2\")\n% OK done\n", want: want},
		{name: "section with origin", section: Section{Octets: 100}, answer: "* 1 FETCH (UID 7 BODY[]<0> " + body + ")\n% OK done\n", want: want},
		{name: "partial ignored", section: Section{Octets: 2}, answer: "* 1 FETCH (UID 7 BODY[] " + body + ")\n% OK done\n", want: want},
		{name: "second piece", section: Section{Offset: 5, Octets: 100}, answer: "* 1 FETCH (UID 7 BODY[]<5> " + body + ")\n% OK done\n", want: want},
		{name: "second piece ignored", section: Section{Offset: 5, Octets: 100}, answer: "* 1 FETCH (UID 7 BODY[] " + body + ")\n% OK done\n", openErr: ErrProtocol, broken: true},
		{name: "header", section: Section{Name: "HEADER"}, answer: "* 1 FETCH (UID 7 BODY[HEADER] " + body + ")\n% OK done\n", want: want},
		{name: "quoted", answer: "* 1 FETCH (UID 7 BODY[] \"a \\\"b\\\" \\\\ c)\")\n% OK done\n", want: "a \"b\" \\ c)"},
		{name: "quoted and empty", answer: "* 1 FETCH (UID 7 BODY[] \"\")\n% OK done\n", want: ""},
		{name: "empty", answer: "* 1 FETCH (UID 7 BODY[] {0}\n)\n% OK done\n", want: ""},
		{name: "literal8, non-synchronizing", answer: "* 1 FETCH (UID 7 BODY[] ~{3+}\nabc)\n% OK done\n", want: "abc"},
		{name: "bare LF", answer: "* 1 FETCH (UID 7 BODY[] {3}\nabc)\n% OK done\n", want: "abc"},
		{name: "unsolicited FLAGS of the same and others", answer: "* 2 FETCH (UID 8 FLAGS ())\n* 1 FETCH (UID 7 FLAGS (\\Seen))\n* 1 FETCH (FLAGS ())\n* 1 FETCH (UID 7 BODY[] " + body + ")\n* 1 FETCH (UID 7 FLAGS ())\n% OK done\n", want: want},
		{name: "another message's body first", answer: "* 2 FETCH (UID 8 BODY[] {2}\nno)\n* 1 FETCH (UID 7 BODY[] " + body + ")\n% OK done\n", want: want},
		{name: "only another message's body", answer: "* 2 FETCH (UID 8 BODY[] {2}\nno)\n% OK done\n", openErr: ErrNoMessage},
		{name: "another message's body, told late", answer: "* 2 FETCH (BODY[] {2}\nno UID 8)\n% OK done\n", readErr: ErrProtocol, broken: true},
		{name: "no UID", answer: "* 2 FETCH (BODY[] {2}\nno)\n% OK done\n", readErr: ErrProtocol, broken: true},
		{name: "UID in an earlier response", answer: "* 1 FETCH (UID 7)\n* 1 FETCH (BODY[] " + body + ")\n% OK done\n", want: want},
		{name: "UID in a later response", answer: "* 1 FETCH (BODY[] " + body + ")\n* 1 FETCH (UID 7)\n% OK done\n", want: want},
		{name: "UID in an earlier response, then renumbered", answer: "* 2 FETCH (UID 7)\n* 1 EXPUNGE\n* 2 FETCH (BODY[] " + body + ")\n% OK done\n", readErr: ErrProtocol, broken: true},
		{name: "renumbered afterwards", answer: "* 2 FETCH (UID 7 BODY[] " + body + ")\n* 1 EXPUNGE\n* 1 FETCH (UID 7 FLAGS ())\n% OK done\n", want: want},
		{name: "NIL", answer: "* 1 FETCH (UID 7 BODY[] NIL)\n% OK done\n", openErr: ErrNoMessage},
		{name: "expunged", answer: "* 1 EXPUNGE\n% OK done\n", openErr: ErrNoMessage},
		{name: "NO", answer: "% NO [serverbug] sorry\n", openErr: &imap.Error{Type: "NO", Code: "SERVERBUG", Text: "sorry"}},
		{name: "NO behind the body", answer: "* 1 FETCH (UID 7 BODY[] " + body + ")\n% NO failed\n", readErr: &imap.Error{Type: "NO", Text: "failed"}},
		{name: "unknown responses around", answer: "* XYZZY {3}\n)))(\n\n+ what\n* 3 EXISTS\n* VANISHED 1:3\n* 1 FETCH (UID 7 BODY[] " + body + ")\n* OK [uidnext 9] note {5}\n% OK done\n", want: want},
		{name: "UID 0", answer: "* 1 FETCH (UID 0 BODY[] " + body + ")\n% OK done\n", openErr: ErrProtocol, broken: true},
		{name: "not a list", answer: "* 1 FETCH UID 7\n% OK done\n", openErr: ErrProtocol, broken: true},
		{name: "unbalanced", answer: "* 1 FETCH (UID 7 FLAGS ((\\Seen)\n% OK done\n", openErr: ErrProtocol, broken: true},
		{name: "literal of 2^64", answer: "* 1 FETCH (UID 7 BODY[] {18446744073709551616}\n", openErr: ErrProtocol, broken: true},
		{name: "unknown tag", answer: "F99 OK done\n", openErr: ErrProtocol, broken: true},
		{name: "a tag of imapclient that awaits nothing", answer: "T99 OK done\n", openErr: ErrProtocol, broken: true},
		{name: "neither OK nor NO", answer: "% MAYBE\n", openErr: ErrProtocol, broken: true},
		{name: "body cut", answer: "* 1 FETCH (UID 7 BODY[] {20}\nabc", readErr: io.ErrUnexpectedEOF, broken: true},
		{name: "no completion", answer: "* 1 FETCH (UID 7 BODY[] " + body + ")\n", readErr: io.ErrUnexpectedEOF, broken: true},
		{name: "literal too short", answer: "* 1 FETCH (UID 7 BODY[] {2}\nabc)\n% OK done\n", readErr: ErrProtocol, broken: true},
		{name: "BYE", answer: "* BYE [unavailable] shutting down\n", openErr: io.ErrUnexpectedEOF, broken: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialPipe(t, Limits{}, func(u *upstream) {
				u.send("", greeting)
				tag := u.expect("UID FETCH 7 (UID " + tt.section.String() + ")")
				if tt.name == "bare LF" {
					io.WriteString(u.nc, strings.ReplaceAll(tt.answer, "%", tag))
				} else {
					u.send(tag, tt.answer)
				}
				if !tt.broken {
					u.send(u.expect("NOOP"), "% OK\n")
				}
			})
			b, err := c.FetchBody(context.Background(), 7, tt.section)
			if tt.openErr != nil {
				checkErr(t, "FetchBody", err, tt.openErr)
			} else if err != nil {
				t.Fatal(err)
			} else {
				got, err := io.ReadAll(b)
				checkErr(t, "Read", err, tt.readErr)
				if tt.readErr == nil && (string(got) != tt.want || b.Size() != int64(len(got))) {
					t.Errorf("got %q, size %d, want %q", got, b.Size(), tt.want)
				}
				checkErr(t, "Close", b.Close(), tt.readErr)
			}
			if broken := c.Err() != nil; broken != tt.broken {
				t.Errorf("connection ended: %v, want %v: %v", broken, tt.broken, c.Err())
			}
			if !tt.broken {
				inStep(t, c)
			}
		})
	}
}

// checkErr compares an *imap.Error by value, others by errors.Is.
func checkErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if status, ok := want.(*imap.Error); ok {
		if got, ok := err.(*imap.Error); !ok || *got != *status {
			t.Errorf("%s: got error %v, want %v", what, err, want)
		}
		return
	}
	wantErr(t, what, err, want)
}

// Wherever a connection ends inside an answer, the body does not end well.
func TestFetchBodyCut(t *testing.T) {
	const answer = "* 1 FETCH (UID 7 FLAGS (\\Seen) BODY[] {10}\r\n0123456789)\r\nF1 OK done\r\n"
	for n := range len(answer) {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", greeting)
			u.expect("UID FETCH")
			io.WriteString(u.nc, answer[:n])
		})
		b, err := c.FetchBody(context.Background(), 7, Section{})
		var got []byte
		if err == nil {
			got, err = io.ReadAll(b)
			if b.Close() == nil {
				t.Errorf("%d octets: Close returned nil", n)
			}
		}
		wantErr(t, fmt.Sprint(n, " octets"), err, io.ErrUnexpectedEOF)
		if !strings.HasPrefix("0123456789", string(got)) {
			t.Errorf("%d octets: read %q", n, got)
		}
		c.Close()
	}
}

func TestBodyClosedEarly(t *testing.T) {
	for _, tt := range []struct {
		size   int
		broken bool
	}{{1, false}, {maxDrain, false}, {maxDrain + bufferSize, true}} {
		c := dialPipe(t, Limits{}, func(u *upstream) {
			u.send("", greeting)
			tag := u.expect("UID FETCH 7")
			u.send(tag, fmt.Sprintf("* 1 FETCH (UID 7 BODY[] {%d}\n%s)\n%% OK done\n", tt.size, strings.Repeat("x", tt.size)))
			if !tt.broken {
				u.send(u.expect("NOOP"), "% OK\n")
			}
		})
		b, err := c.FetchBody(context.Background(), 7, Section{})
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, "Do with an open body", c.Do(context.Background(), noop), ErrBusy)
		if err := b.Close(); err != nil {
			t.Errorf("%d octets: Close: %v", tt.size, err)
		}
		if n, err := b.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("Read after Close = %d, %v", n, err)
		}
		if broken := c.Err() != nil; broken != tt.broken {
			t.Errorf("%d octets: connection ended: %v", tt.size, c.Err())
		}
		if !tt.broken {
			inStep(t, c)
		}
	}
}

func TestFetchSizes(t *testing.T) {
	type message struct {
		uid  imap.UID
		size int64
	}
	for _, tt := range []struct {
		name, answer string
		want         []message
		err          error
	}{
		{"plain", "* 1 FETCH (UID 7 RFC822.SIZE 100)\n* 2 FETCH (UID 9 RFC822.SIZE 4294967296)\n% OK\n", []message{{7, 100}, {9, 1 << 32}}, nil},
		{"any order and case", "* 2 Fetch (rfc822.size 5 flags (a b) Uid 9)\n* 1 FETCH (RFC822.SIZE 0 ENVELOPE (NIL \"a)\" {2}\n)( ((NIL))) UID 7 )\n% ok\n", []message{{9, 5}, {7, 0}}, nil},
		{"in two responses", "* 1 FETCH (UID 7)\n* 1 FETCH (RFC822.SIZE 4)\n* 2 FETCH (RFC822.SIZE 5)\n* 2 FETCH (UID 8)\n% OK\n", []message{{7, 4}, {8, 5}}, nil},
		{"in two responses, renumbered between", "* 2 FETCH (UID 7)\n* 1 EXPUNGE\n* 2 FETCH (RFC822.SIZE 4)\n% OK\n", nil, nil},
		{"others between", "* 1 FETCH (UID 7 RFC822.SIZE 4)\n* 5 EXISTS\n* 1 FETCH (UID 7 FLAGS ())\n* XYZZY\n* 2 FETCH (FLAGS ())\n* 2 EXPUNGE\n% OK\n", []message{{7, 4}}, nil},
		{"none", "% OK\n", nil, nil},
		{"NO", "* 1 FETCH (UID 7 RFC822.SIZE 4)\n% NO [Limit] enough\n", []message{{7, 4}}, &imap.Error{Type: "NO", Code: "LIMIT", Text: "enough"}},
		{"negative", "* 1 FETCH (UID 7 RFC822.SIZE -1)\n% OK\n", nil, ErrProtocol},
		{"2^63", "* 1 FETCH (UID 7 RFC822.SIZE 9223372036854775808)\n% OK\n", nil, ErrProtocol},
		{"UID 2^32", "* 1 FETCH (UID 4294967296 RFC822.SIZE 1)\n% OK\n", nil, ErrProtocol},
		{"one UID for two messages", "* 1 FETCH (UID 7 RFC822.SIZE 1)\n* 2 FETCH (UID 7 RFC822.SIZE 1)\n% OK\n", []message{{7, 1}}, ErrProtocol},
		{"two UIDs for one message", "* 1 FETCH (UID 7 RFC822.SIZE 1)\n* 1 FETCH (UID 8 RFC822.SIZE 1)\n% OK\n", []message{{7, 1}}, ErrProtocol},
		{"UIDs that descend", "* 1 FETCH (UID 7 RFC822.SIZE 1)\n* 2 FETCH (UID 6 RFC822.SIZE 1)\n% OK\n", []message{{7, 1}}, ErrProtocol},
		{"one message twice", "* 1 FETCH (UID 7 RFC822.SIZE 1)\n* 1 FETCH (UID 7 RFC822.SIZE 1)\n% OK\n", []message{{7, 1}, {7, 1}}, nil},
		{"renumbered between", "* 1 FETCH (UID 7 RFC822.SIZE 1)\n* 1 EXPUNGE\n* 1 FETCH (UID 8 RFC822.SIZE 1)\n% OK\n", []message{{7, 1}, {8, 1}}, nil},
		{"junk behind", "* 1 FETCH (UID 7 RFC822.SIZE 1) x\n% OK\n", nil, ErrProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialPipe(t, Limits{}, func(u *upstream) {
				u.send("", greeting)
				u.send(u.expect("UID FETCH 1:* (UID RFC822.SIZE)"), tt.answer)
				if tt.err != ErrProtocol {
					u.send(u.expect("NOOP"), "% OK\n")
				}
			})
			var got []message
			err := c.FetchSizes(context.Background(), "1:*", func(_ uint32, uid imap.UID, size int64) error {
				got = append(got, message{uid, size})
				return nil
			})
			checkErr(t, "FetchSizes", err, tt.err)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if tt.err != ErrProtocol {
				inStep(t, c)
			}
		})
	}
}

func TestFetchSizesRefused(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.send(u.expect("UID FETCH"), lines("* %[1]d FETCH (UID %[1]d RFC822.SIZE 3)\n", 100)+"% OK\n")
		u.send(u.expect("NOOP"), "% OK\n")
	})
	calls := 0
	err := c.FetchSizes(context.Background(), "1:*", func(uint32, imap.UID, int64) error { calls++; return io.ErrShortBuffer })
	wantErr(t, "FetchSizes", err, io.ErrShortBuffer)
	if calls != 1 {
		t.Errorf("called %d times", calls)
	}
	inStep(t, c)
}

// The rest of an answer is never taken for the next one.
func TestFetchSizesPanics(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		u.send(u.expect("UID FETCH"), "* 1 FETCH (UID 1 RFC822.SIZE 3)\n* 2 FETCH (UID 2 RFC822.SIZE 3)\n% OK\n")
		u.line()
	})
	func() {
		defer func() { recover() }()
		c.FetchSizes(context.Background(), "1:*", func(uint32, imap.UID, int64) error { panic("x") })
	}()
	wantErr(t, "Do", c.Do(context.Background(), noop), errUnfinished)
}

func TestFetchSizesAllocates(t *testing.T) {
	const n = 100_000
	answer := lines("* %[1]d FETCH (UID %[1]d RFC822.SIZE 1234)\r\n", n)
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", greeting)
		for {
			tag := u.line()
			if tag == "" {
				return
			}
			tag, _, _ = strings.Cut(tag, " ")
			io.WriteString(u.nc, answer)
			u.send(tag, "% OK\n")
		}
	})
	allocs := testing.AllocsPerRun(3, func() {
		count := 0
		err := c.FetchSizes(context.Background(), "1:*", func(uint32, imap.UID, int64) error { count++; return nil })
		if err != nil || count != n {
			t.Fatal(count, err)
		}
	})
	// Two for each read are deadline timers of the pipe.
	if allocs > n/100 {
		t.Errorf("%v allocations for %d messages", allocs, n)
	}

}
