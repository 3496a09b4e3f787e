package main

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mailText has two messages, the second full of dots.
var mailText = []string{
	"Subject: one\n\nbody\n",
	".\n..\nSubject: two\n\n.\n.profile\n..\n",
}

// truth is what an honest server answers about them.
var truth = map[string]string{
	"":       "+OK ready\r\n",
	"USER":   "+OK\r\n",
	"PASS":   "+OK logged in\r\n",
	"NOOP":   "+OK\r\n",
	"QUIT":   "+OK\r\n",
	"STAT":   "+OK 2 62\r\n",
	"LIST":   "+OK\r\n1 22\r\n2 40\r\n.\r\n",
	"UIDL":   "+OK\r\n1 aa\r\n2 bb\r\n.\r\n",
	"LIST 1": "+OK 1 22\r\n",
	"LIST 2": "+OK 2 40\r\n",
	"UIDL 1": "+OK 1 aa\r\n",
	"UIDL 2": "+OK 2 bb\r\n",
	"RETR 1": "+OK\r\nSubject: one\r\n\r\nbody\r\n.\r\n",
	"RETR 2": "+OK\r\n..\r\n...\r\nSubject: two\r\n\r\n..\r\n..profile\r\n...\r\n.\r\n",
}

// breakOff ends a reply behind which the connection is closed.
const breakOff = "\x00"

// serveReplies answers commands out of a table, in pieces of the given size. A
// command that is not in it ends the connection.
func serveReplies(t *testing.T, replies map[string]string, piece int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	say := func(nc net.Conn, reply string) {
		text, last := strings.CutSuffix(reply, breakOff)
		for len(text) > 0 {
			n := min(piece, len(text))
			nc.Write([]byte(text[:n]))
			text = text[n:]
		}
		if last {
			nc.Close()
		}
	}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				say(nc, replies[""])
				for in := bufio.NewScanner(nc); in.Scan(); {
					command := in.Text()
					if word, _, _ := strings.Cut(command, " "); word == "USER" || word == "PASS" {
						command = word
					}
					reply, ok := replies[command]
					if !ok {
						return
					}
					say(nc, reply)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// with is the truth but for one reply.
func with(command, reply string) map[string]string {
	lie := make(map[string]string)
	for k, v := range truth {
		lie[k] = v
	}
	lie[command] = reply
	return lie
}

func writeMaildir(t *testing.T, messages []string) string {
	t.Helper()
	dir := t.TempDir()
	for i, text := range messages {
		sub := []string{"cur", "new"}[i%2]
		if err := os.MkdirAll(filepath.Join(dir, "ann", sub), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ann", sub, string(rune('a'+i))), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// everything has every kind of session, and the first thing that one of them
// found wrong.
func everything(ctx context.Context, t *testing.T, addr, maildir string) error {
	t.Helper()
	box := mailbox{user: "ann", messages: 2}
	if _, err := polls(ctx, addr, box, 1); err != nil {
		return err
	}
	for _, window := range []int{1, 2, 16} {
		if _, err := download(ctx, addr, "ann", 2, window); err != nil {
			return err
		}
	}
	if _, _, err := bigMessage(ctx, addr, "ann"); err != nil {
		return err
	}
	if _, err := pipelined(ctx, addr, "ann", 10); err != nil {
		return err
	}
	c, err := dialer(alone).logIn(ctx, addr, "ann")
	if err != nil {
		return err
	}
	defer c.close()
	return checkDownload(c, filepath.Join(maildir, "ann"), 2)
}

func TestHonestServer(t *testing.T) {
	maildir := writeMaildir(t, mailText)
	for _, piece := range []int{1, 2, 3, 5, 7, 1000} {
		if err := everything(t.Context(), t, serveReplies(t, truth, piece), maildir); err != nil {
			t.Errorf("in pieces of %d octets: %v", piece, err)
		}
	}
	s, err := newCanned(maildir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := everything(t.Context(), t, s.addr(), maildir); err != nil {
		t.Errorf("canned: %v", err)
	}
}

func TestServerThatLies(t *testing.T) {
	maildir := writeMaildir(t, mailText)
	for _, tt := range []struct {
		name, command, reply string
		want                 string // part of the error
	}{
		{"greeting", "", "-ERR busy\r\n", "greeting"},
		{"login refused", "PASS", "-ERR [AUTH] no\r\n", "PASS"},
		{"status with a bare LF", "PASS", "+OK\n", "PASS"},
		{"STAT counts another message", "STAT", "+OK 3 62\r\n", "there are 2"},
		{"STAT counts other octets", "STAT", "+OK 2 61\r\n", "STAT says 61"},
		{"STAT without numbers", "STAT", "+OK fine\r\n", "STAT answers"},
		{"LIST lacks a message", "LIST", "+OK\r\n1 22\r\n.\r\n", "LIST 1"},
		{"LIST has another size", "LIST", "+OK\r\n1 21\r\n2 41\r\n.\r\n", "delivered 22 octets, LIST said 21"},
		{"LIST skips a number", "LIST", "+OK\r\n1 22\r\n3 39\r\n.\r\n", "in place of message 2"},
		{"LIST with a negative size", "LIST", "+OK\r\n1 -22\r\n2 84\r\n.\r\n", "size"},
		{"LIST with bare LF", "LIST", "+OK\r\n1 22\n2 40\r\n.\r\n", "LIST"},
		{"UIDL lacks a message", "UIDL", "+OK\r\n1 aa\r\n.\r\n", "UIDL 1"},
		{"UIDL gives one twice", "UIDL", "+OK\r\n1 aa\r\n2 aa\r\n.\r\n", "again"},
		{"UIDL gives an empty one", "UIDL", "+OK\r\n1 aa\r\n2 \r\n.\r\n", "unique-id"},
		{"UIDL gives a long one", "UIDL", "+OK\r\n1 aa\r\n2 " + strings.Repeat("b", 71) + "\r\n.\r\n", "unique-id"},
		{"UIDL gives one with a space", "UIDL", "+OK\r\n1 aa\r\n2 b b\r\n.\r\n", "unique-id"},
		{"RETR lacks an octet", "RETR 1", "+OK\r\nSubject: one\r\n\r\nbod\r\n.\r\n", "delivered 21 octets"},
		{"RETR does not double dots", "RETR 2", "+OK\r\n..\r\n...\r\nSubject: two\r\n\r\n..\r\n.profile\r\n...\r\n.\r\n", "single dot"},
		{"RETR ends at a dot of the message", "RETR 2", "+OK\r\n.\r\n", "delivered 0 octets"},
		{"RETR doubles a dot once more", "RETR 2", "+OK\r\n..\r\n...\r\nSubject: two\r\n\r\n..\r\n...profile\r\n...\r\n.\r\n", "delivered 41 octets"},
		{"RETR with a bare LF for a line end", "RETR 1", "+OK\r\nSubject: one\r\n\r\nbody2\n.\r\n" + breakOff, "in the message, after"},
		{"RETR sends other octets", "RETR 1", "+OK\r\nSubject: One\r\n\r\nbody\r\n.\r\n", "not the octets of any message"},
		{"RETR sends a lone LF within", "RETR 1", "+OK\r\nSubject: one\n\n\r\nbody\r\n.\r\n", "not the octets of any message"},
		{"RETR fails", "RETR 1", "-ERR gone\r\n", "gone"},
		{"LIST n differs from LIST", "LIST 2", "+OK 2 39\r\n", "command 5 is answered"},
		{"UIDL n differs from UIDL", "UIDL 1", "+OK 1 bb\r\n", "command 3 is answered"},
		{"NOOP fails", "NOOP", "-ERR\r\n", "command 1 is answered"},
		{"QUIT fails", "QUIT", "-ERR 1 message not removed\r\n", "QUIT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			replies := with(tt.command, tt.reply)
			err := everything(t.Context(), t, serveReplies(t, replies, 1000), maildir)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ...%s...", err, tt.want)
			}
		})
	}
}

// A reply that breaks off is never a result.
func TestServerThatBreaksOff(t *testing.T) {
	maildir := writeMaildir(t, mailText)
	for _, command := range []string{"", "PASS", "STAT", "LIST", "UIDL", "RETR 1", "RETR 2", "QUIT"} {
		for n := range truth[command] {
			addr := serveReplies(t, with(command, truth[command][:n]+breakOff), 1000)
			if err := everything(t.Context(), t, addr, maildir); err == nil {
				t.Errorf("%s cut after %d octets of %q: no error", command, n, truth[command])
			}
		}
	}
}

func TestEmptyMaildrop(t *testing.T) {
	addr := serveReplies(t, map[string]string{"": "+OK\r\n", "USER": "+OK\r\n", "PASS": "+OK\r\n",
		"STAT": "+OK 0 0\r\n", "LIST": "+OK\r\n.\r\n", "UIDL": "+OK\r\n.\r\n", "QUIT": "+OK\r\n"}, 1)
	if _, err := polls(t.Context(), addr, mailbox{user: "ann"}, 2); err != nil {
		t.Error(err)
	}
}

// The octets of a message larger than the client's buffer, with a dot line
// across each border that there is.
func TestLargeMessage(t *testing.T) {
	text := bytes.Repeat([]byte(".x\n"+strings.Repeat("y", 61)+"\n"), 3*readSize/65)
	maildir := writeMaildir(t, []string{string(text)})
	if err := os.MkdirAll(filepath.Join(maildir, "ann", "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := newCanned(maildir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	c, err := dialer(alone).logIn(t.Context(), s.addr(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := checkDownload(c, filepath.Join(maildir, "ann"), 1); err != nil {
		t.Error(err)
	}
}

// What was right in one session is not taken for right when it comes changed.
func TestPollerChecksWhatChanges(t *testing.T) {
	good := answers{"+OK 2 30", []byte("1 10\r\n2 20\r\n.\r\n"), []byte("1 a\r\n2 b\r\n.\r\n")}
	p, box := new(poller), mailbox{user: "ann", messages: 2}
	for range 2 {
		if err := p.check(good, box); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []answers{
		{"+OK 2 31", good.list, good.uidl},
		{good.stat, []byte("1 10\r\n2 21\r\n.\r\n"), good.uidl},
		{good.stat, good.list, []byte("1 a\r\n2 a\r\n.\r\n")},
	} {
		if p.check(bad, box) == nil {
			t.Errorf("accepted: %q", bad)
		}
	}
	if p.check(good, mailbox{user: "bob", messages: 3}) == nil {
		t.Error("what is right for one is taken for right for another")
	}
}
