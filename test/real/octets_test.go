//go:build real

package real

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestOctets reads the whole corpus over the wire: sizes, contents, TOP and
// unique-ids agree, whatever the store makes of the messages.
func TestOctets(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s := k.start(t)
			g := startGateway(t, s, "")
			messages := octetsOf(corpus(), k.holds)
			s.deliver(t, "alice", messages...)

			uids := make([]map[string]bool, 2)
			for round := range uids {
				c := login(t, g.addr(), "alice")
				list := c.lines(t, "LIST")
				if len(list) != len(messages) {
					t.Fatalf("LIST: %d messages, want %d", len(list), len(messages))
				}
				var got [][]byte
				var total int64
				for i, line := range list {
					n, octets := i+1, size(t, line)
					total += octets
					if line != fmt.Sprintf("%d %d", n, octets) {
						t.Errorf("LIST: line %d is %q", n, line)
					}
					message := c.retrieve(t, n)
					got = append(got, message)
					now := size(t, c.must(t, "LIST %d", n))
					if now != int64(len(message)) {
						t.Errorf("message %d: LIST says %d octets after RETR sent %d", n, now, len(message))
					}
					// Before a message is first read over IMAP there is only RFC822.SIZE,
					// which has no CRLF after an unterminated last line.
					guessed := round == 0 && k.name != "maildir" && octets+2 == int64(len(message))
					if octets != int64(len(message)) && !guessed {
						t.Errorf("session %d, message %d: LIST said %d octets, RETR sent %d", round+1, n, octets, len(message))
					}
					header, _, ok := bytes.Cut(message, []byte("\r\n\r\n"))
					if ok && !bytes.HasPrefix(message, []byte("\r\n")) {
						want := string(header) + "\r\n"
						if top := strings.Join(c.lines(t, "TOP %d 0", n), "\r\n"); top != want {
							t.Errorf("message %d: TOP 0 sent %q, want %q", n, top, want)
						}
					}
				}
				compare(t, "RETR", got, messages)
				if stat := c.must(t, "STAT"); k.name == "maildir" && stat != fmt.Sprintf("%d %d", len(list), total) {
					t.Errorf("STAT: %q, but LIST has %d messages of %d octets", stat, len(list), total)
				}
				uids[round] = make(map[string]bool)
				for _, line := range c.lines(t, "UIDL") {
					_, uid, _ := strings.Cut(line, " ")
					if len(uid) < 1 || len(uid) > 70 || strings.ContainsFunc(uid, func(r rune) bool { return r < 0x21 || r > 0x7E }) {
						t.Errorf("UIDL: %q is no unique-id", line)
					}
					uids[round][uid] = true
				}
				if len(uids[round]) != len(messages) {
					t.Errorf("UIDL: %d different unique-ids for %d messages", len(uids[round]), len(messages))
				}
				c.must(t, "QUIT")
			}
			for uid := range uids[0] {
				if !uids[1][uid] {
					t.Errorf("unique-id %q is gone in the second session", uid)
				}
			}
			compare(t, "store after reading", s.stored(t, "alice"), messages)
		})
	}
}

// size is the second number of a line "n octets".
func size(t testing.TB, line string) int64 {
	t.Helper()
	fields := strings.Fields(line)
	if len(fields) < 2 {
		t.Fatalf("no size in %q", line)
	}
	octets, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// TestHugeMessage retrieves a message of 1 GB. The gateway's memory stays under
// 64 MB all the while.
func TestHugeMessage(t *testing.T) {
	const limit = 64 << 20
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			s := k.start(t)
			var m *maildirs
			switch s := s.(type) {
			case *maildirs:
				m = s
			case *dovecot:
				m = s.maildirs
			}
			s.deliver(t, "alice") // only the Maildir
			octets := writeHuge(t, filepath.Join(m.path("alice"), "new", "1700000000.M1P1.mx.example.org"))
			g := startGateway(t, s, "")
			c := login(t, g.addr(), "alice")
			if listed := size(t, c.must(t, "LIST 1")); listed != octets {
				t.Errorf("LIST: %d octets, want %d", listed, octets)
			}
			began := time.Now()
			c.must(t, "RETR 1")
			got, err := c.body(io.Discard)
			if err != nil || got != octets {
				t.Errorf("RETR: %d octets, %v; want %d", got, err, octets)
			}
			t.Logf("RETR of %d MB took %v", got>>20, time.Since(began).Round(time.Millisecond))
			c.must(t, "DELE 1")
			c.must(t, "QUIT")
			if peak := g.peakMemory(t); peak > limit {
				t.Errorf("pop3gw needed %d MB of memory, more than %d", peak>>20, limit>>20)
			} else {
				t.Logf("pop3gw needed %d MB of memory", peak>>20)
			}
			compare(t, "store after deleting", s.stored(t, "alice"), nil)
		})
	}
}

// writeHuge writes a message of 1 GB with CRLF and returns its octets.
func writeHuge(t testing.TB, path string) (octets int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := f.Write(crlf([]byte(header("huge") + "\n")))
	octets = int64(n)
	rng := rand.New(rand.NewPCG(1, 1))
	var block bytes.Buffer
	for block.Len() < 1<<20 {
		line := strings.Repeat("x", 1+rng.IntN(76))
		if rng.IntN(10) == 0 {
			line = "." + line[1:]
		}
		block.WriteString(line + "\r\n")
	}
	for octets < 1<<30 && err == nil {
		n, err = f.Write(block.Bytes())
		octets += int64(n)
	}
	if err == nil {
		err = os.Chown(path, mailUID, mailUID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return octets
}
