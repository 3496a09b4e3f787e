package imap

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// fakeServer is an IMAP server with one mailbox, which does what it is told to
// do wrong. It speaks no more of IMAP than the adapter.
type fakeServer struct {
	greeting string // "" is OK
	caps     string

	noUIDNext bool // SELECT and EXAMINE do not tell it

	mu          sync.Mutex
	uidValidity uint32
	uidNext     imap.UID // at least
	modSeq      int      // HIGHESTMODSEQ, if not 0
	messages    []*fakeMessage
	copied      []imap.UID
	commands    []string // all that came in, without tags
	conns       int
	down        error // what dialling fails with

	// on answers commands in place of the server, if it returns true. It may
	// do so by nothing at all, or by closing the connection.
	on func(c *fakeConn, command string) bool
}

type fakeMessage struct {
	uid   imap.UID
	raw   string
	size  int // RFC822.SIZE, if not the length of raw
	flags []string
}

// fakeConn is a connection of the server under test.
type fakeConn struct {
	net.Conn
	*fakeServer
	tag string
}

const basicCaps = "IMAP4rev1 UIDPLUS"

func newFake(messages ...string) *fakeServer {
	s := &fakeServer{caps: basicCaps, uidValidity: 0xabc}
	for i, raw := range messages {
		s.messages = append(s.messages, &fakeMessage{uid: imap.UID(10 * (i + 1)), raw: raw})
	}
	return s
}

func (s *fakeServer) dial(context.Context, string, string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	s.conns++
	client, server := maildroptest.Pipe()
	go (&fakeConn{Conn: server, fakeServer: s}).serve()
	return client, nil
}

// adapter returns an adapter on the server, and what it logs.
func (s *fakeServer) adapter(t testing.TB, o Options) (*Adapter, *bytes.Buffer) {
	t.Helper()
	o.Address, o.TLS = "imap.example.org:143", NoTLS
	var log bytes.Buffer
	a, err := New(o, new(gateway.Locks), nil, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	a.link.Dial = s.dial
	t.Cleanup(func() { a.Close() })
	return a, &log
}

func account(a *Adapter) gateway.Account {
	return gateway.Account{Name: "ann", Adapter: a, Forwarded: true, Upstream: gateway.Credentials{User: "ann", Password: "secret"}}
}

// open opens the mailbox with an adapter of its own.
func (s *fakeServer) open(t testing.TB, o Options) *maildrop {
	t.Helper()
	a, _ := s.adapter(t, o)
	d, err := a.Open(t.Context(), account(a))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { d.Close() })
	return d.(*maildrop)
}

// does sets on.
func (s *fakeServer) does(on func(c *fakeConn, command string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
}

// dialled is how many connections there were.
func (s *fakeServer) dialled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// left returns the UIDs that the server has.
func (s *fakeServer) left() []imap.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var uids []imap.UID
	for _, m := range s.messages {
		uids = append(uids, m.uid)
	}
	return uids
}

// seen returns how many commands began with prefix.
func (s *fakeServer) seen(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, command := range s.commands {
		if strings.HasPrefix(command, prefix) {
			n++
		}
	}
	return n
}

func (c *fakeConn) send(format string, args ...any) {
	fmt.Fprintf(c, format+"\r\n", args...)
}

func (c *fakeConn) done(answer string) { c.send("%s %s", c.tag, answer) }

func (c *fakeConn) serve() {
	defer c.Close()
	if c.greeting == "" {
		c.send("* OK [CAPABILITY %s] ready", c.caps)
	} else {
		io.WriteString(c, c.greeting)
	}
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		tag, command, _ := strings.Cut(lines.Text(), " ")
		c.tag = tag
		c.mu.Lock()
		c.commands = append(c.commands, command)
		on := c.on
		c.mu.Unlock()
		if on == nil || !on(c, command) {
			c.mu.Lock()
			c.answer(command)
			c.mu.Unlock()
		}
	}
}

// answer does what command says.
func (c *fakeConn) answer(command string) {
	words := strings.SplitN(command, " ", 3)
	verb := strings.ToUpper(words[0])
	if verb == "UID" {
		c.answerUID(strings.ToUpper(words[1]), words[2])
		return
	}
	switch verb {
	case "CAPABILITY":
		c.send("* CAPABILITY %s", c.caps)
	case "SELECT", "EXAMINE":
		c.send("* %d EXISTS", len(c.messages))
		c.send("* OK [UIDVALIDITY %d] .", c.uidValidity)
		if !c.noUIDNext {
			next := max(1, c.uidNext)
			for _, m := range c.messages {
				next = max(next, m.uid+1)
			}
			c.send("* OK [UIDNEXT %d] .", next)
			if c.modSeq > 0 {
				c.send("* OK [HIGHESTMODSEQ %d] .", c.modSeq)
			}
		}
		if verb == "EXAMINE" {
			c.done("OK [READ-ONLY] done")
			return
		}
	case "LIST":
		if name := words[2]; name == `""` || name == `"*"` {
			c.send(`* LIST (\Noselect) "." ""`)
		} else if name != `"None"` {
			c.send(`* LIST () "." %s`, name)
		}
	case "EXPUNGE":
		c.messages = slices.DeleteFunc(c.messages, func(m *fakeMessage) bool { return slices.Contains(m.flags, `\Deleted`) })
	case "LOGOUT":
		c.send("* BYE bye")
	}
	c.done("OK done")
}

// answerUID does what "UID verb args" says.
func (c *fakeConn) answerUID(verb, args string) {
	set, rest, _ := strings.Cut(args, " ")
	switch verb {
	case "FETCH":
		for i, m := range c.messages {
			if !inSet(set, m.uid) {
				continue
			}
			if strings.Contains(rest, "RFC822.SIZE") {
				size := m.size
				if size == 0 {
					size = len(m.raw)
				}
				c.send("* %d FETCH (UID %d RFC822.SIZE %d)", i+1, m.uid, size)
				continue
			}
			if strings.Contains(rest, "X-GM-MSGID") {
				c.send("* %d FETCH (X-GM-MSGID %d UID %d)", i+1, 0x1000+int(m.uid), m.uid)
				continue
			}
			if _, names, ok := strings.Cut(rest, "[HEADER.FIELDS ("); ok {
				names, _, _ = strings.Cut(names, ")")
				header := fieldsOf(m.raw, strings.Fields(names))
				c.send("* %d FETCH (UID %d BODY[HEADER.FIELDS (%s)] {%d}\r\n%s)", i+1, m.uid, names, len(header), header)
				continue
			}
			body, section, origin := m.raw, "", ""
			if strings.Contains(rest, "[HEADER]") {
				section = "HEADER"
				body, _, _ = strings.Cut(body, "\r\n\r\n")
				body = m.raw[:min(len(m.raw), len(body)+4)]
			}
			if _, partial, ok := strings.Cut(rest, "<"); ok {
				var from, n int
				fmt.Sscanf(partial, "%d.%d", &from, &n)
				from = min(from, len(body))
				body = body[from:min(len(body), from+n)]
				origin = fmt.Sprintf("<%d>", from)
			}
			c.send("* %d FETCH (UID %d BODY[%s]%s {%d}\r\n%s)", i+1, m.uid, section, origin, len(body), body)
		}
	case "STORE":
		for _, m := range c.messages {
			if inSet(set, m.uid) {
				flag := rest[strings.Index(rest, "(")+1 : len(rest)-1]
				m.flags = slices.DeleteFunc(m.flags, func(f string) bool { return f == flag })
				if rest[0] == '+' {
					m.flags = append(m.flags, flag)
				}
			}
		}
	case "EXPUNGE":
		c.messages = slices.DeleteFunc(c.messages, func(m *fakeMessage) bool {
			return inSet(set, m.uid) && slices.Contains(m.flags, `\Deleted`)
		})
	case "COPY", "MOVE":
		for _, m := range c.messages {
			if inSet(set, m.uid) {
				c.copied = append(c.copied, m.uid)
			}
		}
		if verb == "MOVE" {
			c.messages = slices.DeleteFunc(c.messages, func(m *fakeMessage) bool { return inSet(set, m.uid) })
		}
	case "SEARCH":
		unseen := strings.Contains(args, "UNSEEN")
		deleted, undeleted := strings.HasSuffix(args, " DELETED") || args == "DELETED", strings.HasSuffix(args, "UNDELETED")
		_, set, all := strings.Cut(args, "UID ")
		set, _, _ = strings.Cut(set, " ")
		var found []string
		for _, m := range c.messages {
			if (!all || inSet(set, m.uid)) && !(unseen && slices.Contains(m.flags, `\Seen`)) &&
				!(deleted && !slices.Contains(m.flags, `\Deleted`)) && !(undeleted && slices.Contains(m.flags, `\Deleted`)) {
				found = append(found, fmt.Sprint(m.uid))
			}
		}
		switch {
		case !strings.HasPrefix(args, "RETURN"):
			c.send("* SEARCH %s", strings.Join(found, " "))
		case len(found) == 0:
			c.send(`* ESEARCH (TAG "%s") UID COUNT 0`, c.tag)
		case strings.Contains(args, "(ALL)"):
			c.send(`* ESEARCH (TAG "%s") UID ALL %s`, c.tag, strings.Join(found, ","))
		default:
			c.send(`* ESEARCH (TAG "%s") UID MIN %s MAX %s COUNT %d`, c.tag, found[0], found[len(found)-1], len(found))
		}
	}
	c.done("OK done")
}

// fieldsOf returns some fields of a message as a header.
func fieldsOf(raw string, names []string) string {
	header, _, _ := strings.Cut(raw, "\r\n\r\n")
	found := ""
	for line := range strings.SplitSeq(header, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		if slices.ContainsFunc(names, func(s string) bool { return strings.EqualFold(s, name) }) {
			found += line + "\r\n"
		}
	}
	return found + "\r\n"
}

// inSet reports whether set, as in a command, has uid.
func inSet(set string, uid imap.UID) bool {
	for part := range strings.SplitSeq(set, ",") {
		first, last, isRange := strings.Cut(part, ":")
		start, _ := strconv.ParseUint(first, 10, 32)
		stop := start
		if isRange {
			stop, _ = strconv.ParseUint(last, 10, 32)
			if last == "*" {
				stop = 1 << 32
			}
		}
		if uint64(uid) >= start && uint64(uid) <= stop {
			return true
		}
	}
	return false
}

// answering is a fakeServer.on that gives one answer, less its tag, to all
// commands with a prefix. Lines before the last are untagged; $TAG is the tag.
func answering(prefix, answer string) func(*fakeConn, string) bool {
	return func(c *fakeConn, command string) bool {
		if !strings.HasPrefix(command, prefix) {
			return false
		}
		lines := strings.Split(answer, "\n")
		for _, line := range lines[:len(lines)-1] {
			c.send("%s", strings.ReplaceAll(line, "$TAG", c.tag))
		}
		c.done(lines[len(lines)-1])
		return true
	}
}

// once is on for the first command that it answers.
func once(on func(*fakeConn, string) bool) func(*fakeConn, string) bool {
	var mu sync.Mutex // a connection may take the place of another
	used := false
	return func(c *fakeConn, command string) bool {
		mu.Lock()
		defer mu.Unlock()
		if used {
			return false
		}
		used = on(c, command)
		return used
	}
}

// dropping is a fakeServer.on that closes the connection at a prefix.
func dropping(prefix string) func(*fakeConn, string) bool {
	return func(c *fakeConn, command string) bool {
		if strings.HasPrefix(command, prefix) {
			c.Close()
			return true
		}
		return false
	}
}

// wantError checks the code of an error, its text for the client, and that its
// cause says what to do.
func wantError(t testing.TB, err error, code gateway.Code, text, cause string) {
	t.Helper()
	e, ok := err.(*gateway.Error)
	if !ok {
		t.Errorf("error is %v, want one for the client: %q", err, text)
		return
	}
	if e.Code != code || e.Text != text {
		t.Errorf("client gets [%s] %q, want [%s] %q", e.Code, e.Text, code, text)
	}
	if e.Err == nil || !strings.Contains(e.Err.Error(), cause) {
		t.Errorf("log gets %v, want %q in it", e.Err, cause)
	}
}
