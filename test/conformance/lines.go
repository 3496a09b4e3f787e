package conformance

import (
	"crypto/md5"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// versionForm is what a program's version looks like in a greeting.
var versionForm = regexp.MustCompile(`\b[0-9]+\.[0-9]+(\.[0-9]+)?\b`)

// greeting checks the first line of a connection.
func greeting(r *run) {
	need(r.target.Store.Fill(notes(2)))
	c := r.connect()
	if c.first.err != nil {
		need(fmt.Errorf("no greeting from %s: %w", r.target.Address, c.first.err))
	}
	r.must("1939 §4", "is one positive line", c.first.ok(), c)
	rest := c.first.text()
	start, end := strings.IndexByte(rest, '<'), strings.IndexByte(rest, '>')
	stamped := start >= 0 && start < end && strings.Contains(rest[start:end], "@")
	if stamped {
		digest := md5.Sum([]byte(rest[start:end+1] + r.target.User.Password))
		ok := c.cmd(fmt.Sprintf("APOP %s %x", r.target.User.Name, digest)).ok()
		r.should("1939 §7", "a timestamp means that APOP works", ok, c)
	} else {
		refused := c.cmd("APOP " + r.target.User.Name + " c4c9334bac560ecc979e58001b3e22fb").refused()
		r.should("1939 §7", "without a timestamp APOP is refused", refused && c.inStep(), c)
	}
	other := r.connect()
	r.must("1939 §7", "its timestamp, if any, is never the same", !stamped || other.first.raw != c.first.raw, other)
	r.good("1939 §4", "tells no software version", stamped || !versionForm.MatchString(rest), c)

	silent := r.connect()
	silent.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, err := silent.r.ReadByte()
	r.must("1939 §4", "is one line only", err != nil && err != io.EOF, silent)
}

// inStep says that the server answers the next command, not an earlier one:
// CAPA's reply cannot be mistaken for another.
func (c *conn) inStep() bool {
	status, caps := c.multi("CAPA")
	return status.ok() && caps.err == nil && len(caps.lines()) > 0 && !strings.HasPrefix(caps.lines()[0], "+") && !strings.HasPrefix(caps.lines()[0], "-")
}

// states checks every command in the states where it has no place.
func states(r *run) {
	need(r.target.Store.Fill(notes(3)))
	for _, line := range []string{"STAT", "LIST", "LIST 1", "UIDL", "UIDL 1", "RETR 1", "TOP 1 0", "DELE 1", "NOOP", "RSET"} {
		c := r.connect()
		refused := c.cmd(line).refused()
		r.must("1939 §3", line+" is refused in AUTHORIZATION", refused && c.inStep(), c)
	}
	for _, line := range []string{"STAT", "LIST 1", "RETR 1", "DELE 1"} {
		c := r.connect()
		c.cmd("USER " + r.target.User.Name)
		refused := c.cmd(line).refused()
		r.must("1939 §3", line+" is refused between USER and PASS", refused && c.inStep(), c)
	}
	user, pass := r.target.User.Name, r.target.User.Password
	for _, line := range []string{"USER " + user, "PASS " + pass, "APOP " + user + " c4c9334bac560ecc979e58001b3e22fb", "AUTH PLAIN", "AUTH PLAIN " + plainToken("", user, pass), "AUTH LOGIN", "STLS"} {
		c := r.login()
		refused := c.cmd(line).refused()
		name, _, _ := strings.Cut(line, " ")
		if name == "AUTH" {
			name = strings.Join(strings.Fields(line)[:2], " ") + map[bool]string{true: " with a response"}[len(line) > 12]
		}
		r.must("1939 §3", name+" is refused in TRANSACTION", refused && c.cmd("NOOP").ok(), c)
	}
	for _, line := range []string{"STAT", "LIST 1", "UIDL 1", "NOOP", "RSET", "DELE 1"} {
		c := r.login()
		r.must("1939 §5", line+" is allowed in TRANSACTION", c.cmd(line).ok(), c)
	}
	for _, line := range []string{"LIST", "UIDL", "RETR 1", "TOP 1 0", "CAPA"} {
		c := r.login()
		status, lines := c.multi(line)
		r.must("1939 §5", line+" is allowed in TRANSACTION", status.ok() && lines.err == nil, c)
	}
	c := r.connect()
	quit := c.cmd("QUIT")
	r.must("1939 §4", "QUIT is allowed in AUTHORIZATION", quit.ok(), c)
	r.must("1939 §4", "QUIT in AUTHORIZATION closes the connection", c.read().closed(), c)
	c = r.connect()
	c.cmd("USER " + user)
	quit = c.cmd("QUIT")
	r.must("1939 §4", "QUIT between USER and PASS closes the connection", quit.ok() && c.read().closed(), c)
	c = r.login()
	quit = c.cmd("QUIT")
	r.must("1939 §6", "QUIT is allowed in TRANSACTION", quit.ok(), c)
	r.must("1939 §6", "QUIT in TRANSACTION closes the connection", c.read().closed(), c)
}

// commandLines checks how keywords and line ends may be written.
func commandLines(r *run) {
	need(r.target.Store.Fill(notes(3)))
	for _, line := range []string{"stat", "Stat", "sTaT", "list 2", "uidl 2", "noop", "rset", "dele 3"} {
		c := r.login()
		r.must("1939 §3", "keyword "+quote(line)+" is accepted", c.cmd(line).ok(), c)
	}
	for _, line := range []string{"retr 1", "top 1 0", "capa", "List", "uidl"} {
		c := r.login()
		status, lines := c.multi(line)
		r.must("1939 §3", "keyword "+quote(line)+" is accepted", status.ok() && lines.err == nil, c)
	}
	c := r.connect()
	ok := c.cmd("user "+r.target.User.Name).ok() && c.cmd("pass "+r.target.User.Password).ok()
	r.must("1939 §3", "keywords \"user\" and \"pass\" are accepted", ok, c)
	quit := c.cmd("quit")
	r.must("1939 §3", "keyword \"quit\" is accepted", quit.ok(), c)

	// Syntactically invalid or unknown: a negative reply, one for each line.
	for _, line := range []string{
		"", " ", "XYZZY", "X", "STATS", "STA", "LISTX", "RETR1", "NOOPNOOP", "STAT,1", "QUITX", "EHLO example.org", "GET / HTTP/1.1",
		"HELP", "LAST", "XTND XMIT", "RPOP x", "+OK", ".", "..", "*", "1", "\\", "%s%n%x", "NO\rOP", "\x00", "NOOP\x00", "ST\x00AT", "\xff\xfe", "\u0421\u0422\u0410\u0422",
	} {
		c := r.login()
		stat := c.cmd("STAT")
		refused := c.cmd(line).refused()
		after := c.cmd("STAT")
		r.must("1939 §3", quote(line)+" gets one -ERR in TRANSACTION", refused && after.raw == stat.raw && after.ok(), c)
	}
	for _, line := range []string{"", " ", "XYZZY", "HELP", "EHLO example.org", "USER\x00", "\xff\xfe"} {
		c := r.connect()
		refused := c.cmd(line).refused()
		r.must("1939 §3", quote(line)+" gets one -ERR in AUTHORIZATION", refused && c.inStep(), c)
	}

	// Habits of old clients, harmless to accept; whatever the answer, it is
	// one line.
	for _, line := range []string{"STAT ", "STAT  ", "LIST 1 ", "UIDL 1  "} {
		c := r.login()
		stat := c.cmd("STAT")
		first := c.cmd(line)
		r.must("1939 §3", quote(line)+" gets one reply", (first.ok() || first.refused()) && c.cmd("STAT").raw == stat.raw, c)
		r.good("1939 §3", quote(line)+" with its trailing spaces is accepted", first.ok(), c)
	}
	for _, line := range []string{" STAT", "\tSTAT", "STAT\t", "LIST  1", "LIST\t1", "DELE  1", "TOP\t1\t0 x"} {
		c := r.login()
		stat := c.cmd("STAT")
		first := c.cmd(line)
		c.cmd("RSET")
		r.must("1939 §3", quote(line)+" gets one reply", (first.ok() || first.refused()) && c.cmd("STAT").raw == stat.raw, c)
	}
	c = r.login()
	stat := c.cmd("STAT")
	c.send("STAT\n")
	r.good("1939 §3", "a line ended by LF alone is accepted", c.read().raw == stat.raw, c)
	c = r.login()
	c.send("STAT\nNOOP\nLIST 1\n")
	ok = c.read().raw == stat.raw && c.read().ok() && c.read().ok()
	r.good("1939 §3", "several lines ended by LF alone are accepted", ok, c)
	c = r.connect()
	c.send("USER " + r.target.User.Name + "\n")
	ok = c.read().ok()
	c.send("PASS " + r.target.User.Password + "\n")
	r.good("1939 §3", "a login with LF alone is accepted", ok && c.read().ok(), c)
	c = r.login()
	c.send("STAT\r")
	time.Sleep(20 * time.Millisecond)
	c.send("\n")
	r.must("1939 §3", "CR and LF may come in two segments", c.read().raw == stat.raw, c)
	c = r.login()
	c.send("NOOP\rSTAT\r\n")
	first := c.read()
	r.must("1939 §3", "CR alone ends no command", first.refused() && c.cmd("STAT").raw == stat.raw, c)
	c = r.login()
	c.send("STAT\r\r\n")
	first = c.read()
	r.must("1939 §3", "CR CR LF ends one command", (first.ok() || first.refused()) && c.cmd("STAT").raw == stat.raw, c)
}

// extraArguments checks commands with more or fewer arguments than they have.
func extraArguments(r *run) {
	need(r.target.Store.Fill(notes(3)))
	for _, line := range []string{"LIST 1 2", "UIDL 1 2", "RETR 1 2", "DELE 1 2", "TOP 1 2 3", "LIST 1 x", "RETR 1 x", "DELE 1,2", "DELE 1-3"} {
		c := r.login()
		stat := c.cmd("STAT")
		refused := c.cmd(line).refused()
		r.must("1939 §3", line+" is refused and does nothing", refused && c.cmd("STAT").raw == stat.raw, c)
	}
	for _, line := range []string{"STAT 1", "NOOP 1", "RSET 1", "CAPA x"} {
		c := r.login()
		refused := c.cmd(line).refused()
		r.should("1939 §3", line+" is refused", refused, c)
	}
	for _, line := range []string{"RETR", "DELE", "TOP", "TOP 1", "RETR ", "DELE ", "TOP ", "TOP 1 "} {
		c := r.login()
		stat := c.cmd("STAT")
		refused := c.cmd(line).refused()
		r.must("1939 §3", quote(line)+" without its argument is refused", refused && c.cmd("STAT").raw == stat.raw, c)
	}
	c := r.login()
	c.cmd("DELE 1")
	c.cmd("RSET 1")
	c.cmd("RSET")
	quit := c.cmd("QUIT now")
	if quit.refused() {
		r.must("1939 §6", "QUIT with an argument is refused, or quits", c.cmd("NOOP").ok(), c)
	} else {
		r.must("1939 §6", "QUIT with an argument is refused, or quits", quit.ok() && c.read().closed(), c)
	}
	for _, line := range []string{"USER", "USER ", "PASS", "APOP", "APOP name", "AUTH "} {
		c := r.connect()
		answered := c.cmd(line)
		if line == "AUTH " && answered.ok() {
			answered.err = c.readBody().err // some servers list their mechanisms
			r.must("1939 §3", quote(line)+" without its argument is refused", answered.err == nil && c.inStep(), c)
			continue
		}
		r.must("1939 §3", quote(line)+" without its argument is refused", answered.refused() && c.inStep(), c)
	}
}

// overlongLines checks that a line has one reply however long it is, and
// that the session goes on or ends in order.
func overlongLines(r *run) {
	need(r.target.Store.Fill(notes(3)))
	lengths := []struct {
		name string
		n    int
	}{{"255", 255}, {"256", 256}, {"300", 300}, {"511", 511}, {"512", 512}, {"513", 513}, {"1000", 1000}, {"4096", 4096}, {"8192", 8192}, {"65536", 1 << 16}, {"100 KB", 100 << 10}, {"10 MB", 10 << 20}}
	for _, l := range lengths {
		for _, begin := range []string{"XYZZY ", "RETR 1 "} {
			c := r.login()
			stat := c.cmd("STAT")
			ok := c.sendLong(begin, l.n, stat)
			r.must("2449 §4", fmt.Sprintf("%s... of %s octets in TRANSACTION gets one -ERR, or the end", begin, l.name), ok, c)
		}
		c := r.connect()
		c.send("USER " + strings.Repeat("u", l.n-7) + "\r\n")
		first := c.read()
		ok := first.ended()
		if !ok {
			ok = (first.refused() || first.ok()) && (c.inStep() || c.tailEnded())
		}
		r.must("2449 §4", fmt.Sprintf("USER... of %s octets gets one reply, or the end", l.name), ok, c)
	}
	c := r.login()
	stat := c.cmd("STAT")
	c.sendLong("XYZZY ", 300, stat)
	r.good("2449 §4", "the session goes on behind a line of 300 octets", c.cmd("STAT").raw == stat.raw, c)
	c = r.login()
	c.sendLong("XYZZY ", 10<<20, stat)
	r.good("2449 §4", "the session goes on behind a line of 10 MB", c.cmd("STAT").raw == stat.raw, c)
	c = r.login()
	c.send("XYZZY " + strings.Repeat("x", 2000) + "\r\nSTAT\r\n")
	one := c.read().refused()
	r.good("2449 §4", "a good command pipelined behind an overlong one is answered", one && c.read().raw == stat.raw, c)
}

// sendLong sends a line of n octets with CRLF. It reports that one -ERR came and
// then stat for STAT, or that the server ended the session.
func (c *conn) sendLong(begin string, n int, stat reply) bool {
	c.note(fmt.Sprintf("C: %q and x up to %d octets, CRLF", begin, n))
	c.SetWriteDeadline(time.Now().Add(patience))
	io.WriteString(c.Conn, begin)
	io.WriteString(c.Conn, strings.Repeat("x", n-len(begin)-2)+"\r\n")
	first := c.read()
	if first.ended() {
		return true
	}
	if !first.refused() {
		return false
	}
	after := c.cmd("STAT")
	return after.raw == stat.raw && after.err == nil || after.ended()
}

// tailEnded says that the server has ended the session.
func (c *conn) tailEnded() bool { return c.read().ended() }

// echo checks that nothing of the input comes back as it was.
func echo(r *run) {
	need(r.target.Store.Fill(notes(1)))
	inputs := []struct{ name, octets string }{
		{"8-bit", "caf\xe9\xff"}, {"UTF-8", "\u00e9\u4f60"}, {"escape sequences", "\x1b[2J\x1b]0;t\x07"}, {"CR", "a\rb"}, {"NUL", "a\x00b"}, {"DEL", "a\x7fb"}, {"backspace", "a\x08b"},
	}
	for _, in := range inputs {
		for _, form := range []string{"%s", "RETR %s", "LIST %s"} {
			c := r.login()
			line := fmt.Sprintf(form, in.octets)
			got := c.cmd(line)
			r.judgeEcho(c, fmt.Sprintf("%s as %q", in.name, form), got)
		}
		for _, form := range []string{"USER %s", "AUTH %s", "LANG %s"} {
			c := r.connect()
			got := c.cmd(fmt.Sprintf(form, in.octets))
			if form == "USER %s" && got.ok() {
				got = c.cmd("PASS " + in.octets)
			}
			r.judgeEcho(c, fmt.Sprintf("%s as %q", in.name, form), got)
		}
	}
	for _, form := range []string{"%s", "RETR %s", "UIDL %s"} {
		c := r.login()
		got := c.cmd(fmt.Sprintf(form, strings.Repeat("y", 240)))
		r.must("1939 §3", fmt.Sprintf("240 octets as %q are refused in at most 512 octets", form), got.refused() && len(got.raw) <= maxReply, c)
	}
}

func (r *run) judgeEcho(c *conn, input string, got reply) {
	r.must("1939 §3", input+" is refused in one line of at most 512 octets", got.refused() && len(got.raw) <= maxReply && c.inStep(), c)
	r.should("1939 §3", input+" is answered in printable ASCII", printable(strings.TrimRight(got.raw, "\r\n")), c)
}

// manyErrors checks that errors do not accumulate harm.
func manyErrors(r *run) {
	need(r.target.Store.Fill(notes(3)))
	c := r.login()
	ok := c.cmd("DELE 1").ok()
	for range 5 {
		ok = c.cmd("XYZZY").refused() && ok
	}
	r.must("1939 §3", "five errors leave the session usable", ok && c.cmd("NOOP").ok(), c)
	last, count := reply{}, 0
	for range 2000 {
		got := c.cmd("XYZZY")
		if got.err != nil {
			break
		}
		last, count = got, count+1
	}
	end := c.read()
	r.good("1939 §3", "a session of 2000 errors is ended", count < 2000, c)
	r.good("1939 §3", "it is ended behind a -ERR, in order", last.refused() && (end.closed() || count == 2000), c)
	c.Close()
	left, err := r.target.Store.Messages()
	need(err)
	r.must("1939 §6", "a session ended for errors removes nothing", len(left) == 3, c, len(left), " of 3 messages left")

	c = r.connect()
	count = 0
	for range 2000 {
		if c.cmd("XYZZY").err != nil {
			break
		}
		count++
	}
	r.good("1939 §3", "a connection of 2000 errors before login is ended", count < 2000, c)
}
