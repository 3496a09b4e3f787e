package conformance

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// left says which of the notes the store holds, as "1 2 5".
func (r *run) left() string {
	messages, err := r.target.Store.Messages()
	need(err)
	var numbers []string
	for _, m := range messages {
		_, rest, _ := strings.Cut(string(m), "Subject: note ")
		number, _, _ := strings.Cut(rest, "\n")
		numbers = append(numbers, strings.TrimSpace(number))
	}
	return strings.Join(numbers, " ")
}

// deletion checks DELE and RSET within a session.
func deletion(r *run) {
	need(r.target.Store.Fill(notes(6)))
	c := r.login()
	sizes, uids := c.sizes(), c.uids()
	count, total := c.stat()
	r.must("1939 §5", "DELE is +OK", c.cmd("DELE 2").ok(), c)
	for _, line := range []string{"RETR 2", "TOP 2 0", "LIST 2", "UIDL 2", "DELE 2"} {
		r.must("1939 §5", line+" of a marked message is refused", c.cmd(line).refused(), c)
		c.cmd("NOOP")
	}
	n, octets := c.stat()
	r.must("1939 §5", "STAT counts no marked message", n == count-1, c)
	r.must("1939 §5", "STAT counts no marked octets", octets == total-sizes[2], c)
	now := c.sizes()
	_, listed := now[2]
	r.must("1939 §5", "LIST shows no marked message", !listed && len(now) == 5, c, fmt.Sprint(now))
	r.must("1939 §5", "LIST keeps the numbers of the others", now[1] == sizes[1] && now[3] == sizes[3] && now[6] == sizes[6], c, fmt.Sprint(now))
	_, listed = c.uids()[2]
	r.must("1939 §7", "UIDL shows no marked message", !listed, c)
	r.must("1939 §7", "UIDL keeps the numbers of the others", c.uids()[3] == uids[3], c)
	_, b := c.multi("RETR 3")
	r.must("1939 §5", "RETR keeps the numbers of the others", strings.Contains(string(b.text), "Subject: note 3\r\n"), c)
	r.must("1939 §5", "RSET is +OK", c.cmd("RSET").ok(), c)
	n, octets = c.stat()
	r.must("1939 §5", "RSET gives back count and octets", n == count && octets == total, c)
	r.must("1939 §5", "RSET gives back LIST", fmt.Sprint(c.sizes()) == fmt.Sprint(sizes), c)
	r.must("1939 §7", "RSET gives back UIDL", equal(c.uids(), uids), c)
	_, b = c.multi("RETR 2")
	r.must("1939 §5", "RSET gives back RETR", strings.Contains(string(b.text), "Subject: note 2\r\n"), c)
	r.must("1939 §5", "a message can be marked again", c.cmd("DELE 2").ok(), c)
	for i := range 6 {
		c.cmd(fmt.Sprint("DELE ", i+1))
	}
	r.must("1939 §5", "STAT is +OK 0 0 when all are marked", c.cmd("STAT").raw == "+OK 0 0\r\n", c)
	status, list := c.multi("LIST")
	r.must("1939 §5", "LIST is an empty list when all are marked", status.ok() && len(list.wire) == 0, c)
	status, list = c.multi("UIDL")
	r.must("1939 §7", "UIDL is an empty list when all are marked", status.ok() && len(list.wire) == 0, c)
	r.must("1939 §5", "RSET brings all back", c.cmd("RSET").ok() && fmt.Sprint(c.sizes()) == fmt.Sprint(sizes), c)
	r.must("1939 §5", "RSET without marks is +OK", c.cmd("RSET").ok(), c)
	r.must("1939 §5", "nothing is removed before QUIT", r.left() == "1 2 3 4 5 6", c, r.left())
	r.must("1939 §6", "QUIT is +OK", c.cmd("QUIT").ok(), c)
	r.must("1939 §6", "QUIT behind RSET removes nothing", r.left() == "1 2 3 4 5 6", c, r.left())
}

// update checks what QUIT removes.
func update(r *run) {
	cases := []struct{ name, commands, left string }{
		{"QUIT alone", "", "1 2 3 4 5"},
		{"DELE 1", "DELE 1", "2 3 4 5"},
		{"DELE of the last", "DELE 5", "1 2 3 4"},
		{"DELE of some", "DELE 4|DELE 2", "1 3 5"},
		{"DELE twice", "DELE 2|DELE 2", "1 3 4 5"},
		{"DELE of all", "DELE 1|DELE 2|DELE 3|DELE 4|DELE 5", ""},
		{"DELE, RSET, DELE", "DELE 1|RSET|DELE 3", "1 2 4 5"},
		{"DELE, RSET", "DELE 1|DELE 2|RSET", "1 2 3 4 5"},
		{"DELE of none there", "DELE 9|DELE 0|DELE x", "1 2 3 4 5"},
		{"RSET first", "RSET|DELE 5", "1 2 3 4"},
	}
	for _, k := range cases {
		need(r.target.Store.Fill(notes(5)))
		c := r.login()
		if k.commands != "" {
			for _, line := range strings.Split(k.commands, "|") {
				c.cmd(line)
			}
		}
		quit := c.cmd("QUIT")
		left := r.left()
		r.must("1939 §6", k.name+": QUIT is +OK and leaves what was not marked", quit.ok() && left == k.left, c, "left: ", left)
	}
	need(r.target.Store.Fill(notes(5)))
	c := r.login()
	c.multi("RETR 1")
	c.multi("RETR 2")
	c.cmd("QUIT")
	r.must("1939 §5", "RETR removes nothing", r.left() == "1 2 3 4 5", c, r.left())
	c = r.login()
	c.send("DELE 1\r\nQUIT\r\nNOOP\r\nDELE 2\r\n")
	ok := c.allOK(2)
	r.must("1939 §6", "commands behind QUIT are not performed", ok && c.read().ended() && r.left() == "2 3 4 5", c, r.left())
	c = r.connect()
	c.cmd("USER " + r.target.User.Name)
	c.cmd("DELE 1")
	c.cmd("QUIT")
	r.must("1939 §4", "QUIT in AUTHORIZATION removes nothing", r.left() == "2 3 4 5", c, r.left())
	c = r.login()
	c.cmd("DELE 1")
	c.cmd("QUIT")
	c = r.login()
	_, b := c.multi("RETR 1")
	n, _ := c.stat()
	r.must("1939 §6", "the next session does not see what was removed", n == 3 && strings.Contains(string(b.text), "Subject: note 3\r\n"), c)
	c.cmd("QUIT")
}

// drops checks that only QUIT removes (RFC 1939 §6).
func drops(r *run) {
	endings := []struct {
		name string
		end  func(c *conn)
	}{
		{"the client closes", func(c *conn) { c.Close() }},
		{"the client resets", func(c *conn) { c.drop() }},
		{"the client closes its side", func(c *conn) { c.Conn.(*net.TCPConn).CloseWrite(); c.read() }},
		{"the client goes amid a command", func(c *conn) { c.send("STA"); c.Close() }},
		{"the client goes amid QUIT, without a line end", func(c *conn) { c.send("QUIT"); c.Conn.(*net.TCPConn).CloseWrite(); c.read(); c.Close() }},
		{"the client goes amid QUIT, behind CR", func(c *conn) { c.send("QUIT\r"); c.Conn.(*net.TCPConn).CloseWrite(); c.read(); c.Close() }},
		{"the client goes behind a bad QUIT", func(c *conn) { c.send("QUITX\r\n"); c.read(); c.Close() }},
		{"the client goes amid RETR", func(c *conn) { c.send("RETR 4\r\n"); c.read(); c.drop() }},
		{"the client goes behind an overlong line", func(c *conn) { c.send(strings.Repeat("x", 5000)); c.Close() }},
	}
	for _, e := range endings {
		mails := append(notes(3), []byte(note(4)+strings.Repeat(strings.Repeat("z", 76)+"\r\n", 60000)))
		need(r.target.Store.Fill(mails))
		c := r.login()
		c.cmd("DELE 1")
		c.cmd("DELE 2")
		e.end(c)
		c = r.login() // when the session is over for sure
		n, _ := c.stat()
		left := r.left()
		r.must("1939 §6", e.name+": nothing is removed", n == 4 && left == "1 2 3 4", c, "left: ", left)
		c.cmd("QUIT")
	}
	need(r.target.Store.Fill(notes(3)))
	c := r.login()
	c.send("DELE 1\r\nQUIT\r\n")
	c.Conn.(*net.TCPConn).CloseWrite()
	c.read()
	c.read()
	c = r.login()
	left := r.left()
	r.must("1939 §6", "a client that sends QUIT and closes its side has its mail removed", left == "2 3", c, "left: ", left)
	c.cmd("QUIT")
}

// changesByOthers checks a session whose maildrop changes under it.
func changesByOthers(r *run) {
	store := r.target.Store
	need(store.Fill(notes(4)))
	c := r.login()
	stat, uids := c.cmd("STAT"), c.uids()
	need(store.Add([]byte(note(5))))
	time.Sleep(50 * time.Millisecond)
	c.cmd("NOOP")
	r.must("1939 §4", "mail that arrives is not counted in the session", c.cmd("STAT").raw == stat.raw, c)
	r.must("1939 §4", "mail that arrives is not listed in the session", equal(c.uids(), uids) && len(c.sizes()) == 4, c)
	r.must("1939 §4", "mail that arrives has no number in the session", c.cmd("RETR 5").refused(), c)
	c.cmd("DELE 1")
	r.must("1939 §6", "QUIT is +OK though mail arrived", c.cmd("QUIT").ok(), c)
	r.must("1939 §6", "QUIT removes no mail that arrived", r.left() == "2 3 4 5", c, r.left())
	c = r.login()
	_, b := c.multi("RETR 4")
	r.must("1939 §4", "mail that arrived is last in the next session", strings.Contains(string(b.text), "Subject: note 5\r\n"), c)
	c.cmd("QUIT")

	need(store.Fill(notes(4)))
	c = r.login()
	c.cmd("STAT")
	need(store.MarkSeen(1))
	_, b = c.multi("RETR 2")
	r.should("1939 §5", "a message flagged by another program can be read", string(b.text) == onWire(note(2)), c)
	need(store.MarkSeen(2))
	c.cmd("DELE 3")
	quit := c.cmd("QUIT")
	r.must("1939 §6", "a message flagged by another program is removed", quit.ok() && r.left() == "1 2 4", c, r.left())

	need(store.Fill(notes(4)))
	c = r.login()
	c.cmd("STAT") // some servers answer PASS before they open the maildrop
	need(store.Remove(1))
	status, b := c.multi("RETR 2")
	whole := string(b.text) == onWire(note(2))
	r.must("1939 §5", "RETR of a message removed by others is refused, whole or broken off", status.refused() || whole || status.err != nil || b.err != nil, c, difference(b.text, onWire(note(2))))
	r.good("1939 §5", "RETR of a message removed by others is refused", status.refused() || whole, c)
	r.good("1939 §5", "the session goes on behind it", status.err == nil && b.err == nil && c.cmd("NOOP").ok(), c)
	c = r.login()
	c.cmd("QUIT")

	need(store.Fill(notes(4)))
	c = r.login()
	sizes := c.sizes()
	need(store.Remove(1))
	c.cmd("NOOP")
	_, b = c.multi("RETR 3")
	r.must("1939 §5", "numbers do not shift when others remove a message", string(b.text) == onWire(note(3)), c)
	r.good("1939 §5", "LIST stays as it was when others remove a message", fmt.Sprint(c.sizes()) == fmt.Sprint(sizes), c)
	c.cmd("DELE 2")
	c.cmd("DELE 3")
	quit = c.cmd("QUIT")
	left := r.left()
	r.must("1939 §6", "QUIT removes its marks and no other though one is gone", left == "1 4", c, "left: ", left)
	r.good("1939 §6", "QUIT is +OK though a marked message is gone", quit.ok(), c)
}

// lock checks exclusive access (RFC 1939 §4) and how it ends.
func lock(r *run) {
	need(r.target.Store.Fill(notes(4)))
	first := r.login()
	stat := first.cmd("STAT")
	begin := time.Now()
	second := r.beside()
	got := second.tryLogin(r.target.User)
	took := time.Since(begin)
	r.should("1939 §4", "a second session of a maildrop is refused", got.refused(), second)
	if r.tags("CAPA").has("RESP-CODES") {
		r.should("2449 §8.1.2", "a second session is refused with [IN-USE]", got.code() == "IN-USE", second)
	}
	r.good("1939 §4", "a second session is answered within 2 s", took < 2*time.Second, second, took)
	if got.refused() {
		r.must("1939 §4", "a session refused by the lock is in AUTHORIZATION still", second.cmd("STAT").refused() && second.inStep(), second)
	}
	r.must("1939 §4", "the first session is not disturbed", first.cmd("STAT").raw == stat.raw, first)
	byAuth := r.beside()
	got = byAuth.cmd("AUTH PLAIN " + plainToken("", r.target.User.Name, r.target.User.Password))
	r.should("1939 §4", "a second session with AUTH is refused with [IN-USE]", got.refused() && got.code() == "IN-USE", byAuth)
	first.cmd("DELE 1")
	first.cmd("QUIT")
	now := r.beside()
	r.must("1939 §6", "the lock is gone when QUIT is answered", now.tryLogin(r.target.User).ok(), now)
	r.must("1939 §6", "the next session sees what QUIT removed", len(now.sizes()) == 3, now)
	if r.target.Other.Name != "" {
		other := r.beside()
		r.must("1939 §4", "another maildrop is not locked", other.tryLogin(r.target.Other).ok(), other)
	}
	for _, e := range []struct {
		name string
		end  func(c *conn)
	}{{"closed", func(c *conn) { c.Close() }}, {"reset", func(c *conn) { c.drop() }}} {
		e.end(now)
		begin = time.Now()
		now = r.login()
		r.should("1939 §4", "the lock is gone 1 s after the connection is "+e.name, time.Since(begin) < time.Second, now, time.Since(begin))
	}
	now.cmd("QUIT")

	twenty := true
	for range 20 {
		c := r.connect()
		twenty = twenty && c.tryLogin(r.target.User).ok() && c.cmd("QUIT").ok()
	}
	r.must("1939 §6", "20 sessions in a row are let in", twenty, r.conns[len(r.conns)-1])
	wrong := r.connect()
	wrong.tryLogin(Account{r.target.User.Name, "wrong-password"})
	c := r.connect()
	r.must("1939 §4", "a wrong password takes no lock", c.tryLogin(r.target.User).ok(), c)
	c.cmd("QUIT")
}
