package conformance

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// pipelining checks commands that do not wait for replies (RFC 2449 §6.6).
func pipelining(r *run) {
	const n = 50
	need(r.target.Store.Fill(notes(n)))
	c := r.login()
	stat, sizes := c.cmd("STAT"), c.sizes()
	c.send("STAT\r\nNOOP\r\nLIST 2\r\nXYZZY\r\nUIDL 3\r\nDELE 4\r\nLIST 4\r\nRSET\r\nSTAT\r\n")
	want := []bool{true, true, true, false, true, true, false, true, true}
	inOrder := true
	for _, positive := range want {
		got := c.read()
		inOrder = inOrder && got.ok() == positive && got.refused() == !positive
	}
	r.must("2449 §6.6", "nine commands in one segment get their replies in order", inOrder, c)

	c.send(strings.Repeat("NOOP\r\n", 2000))
	positive := 0
	for range 2000 {
		if c.read().ok() {
			positive++
		}
	}
	r.must("2449 §6.6", "2000 commands in one segment get 2000 replies", positive == 2000 && c.cmd("STAT").raw == stat.raw, c, positive)

	var batch strings.Builder
	for i := range n {
		fmt.Fprintf(&batch, "RETR %d\r\n", i+1)
	}
	c.send(batch.String())
	whole := 0
	for i := range n {
		if _, b := c.readMulti(); string(b.text) == onWire(note(i+1)) {
			whole++
		}
	}
	r.must("2449 §6.6", "50 RETR in one segment get 50 whole messages in order", whole == n && c.cmd("STAT").raw == stat.raw, c, whole)

	batch.Reset()
	for i := range n {
		fmt.Fprintf(&batch, "LIST %d\r\nTOP %d 1\r\nUIDL %d\r\n", i+1, i+1, i+1)
	}
	c.send(batch.String())
	right := 0
	for i := range n {
		one := c.read()
		_, topped := c.readMulti()
		uid := c.read()
		if one.text() == fmt.Sprintf("%d %d", i+1, sizes[i+1]) && strings.Contains(string(topped.text), fmt.Sprintf("Subject: note %d\r\n", i+1)) && uid.ok() {
			right++
		}
	}
	r.must("2449 §6.6", "LIST, TOP and UIDL mixed 150 deep get their replies", right == n, c, right)

	for _, octets := range []string{"STAT\r\n", "LIST 1\r\n", "NOOP\r\nSTAT\r\n"} {
		for i := range octets {
			c.Write([]byte(octets[i : i+1]))
			time.Sleep(time.Millisecond)
		}
		ok := true
		for range strings.Count(octets, "\n") {
			ok = c.read().ok() && ok
		}
		r.must("1939 §3", quote(octets)+" octet by octet is answered", ok && c.cmd("STAT").raw == stat.raw, c)
	}
	c.send("STAT\r\nLIST 1\r\nST")
	ok := c.read().raw == stat.raw && c.read().ok()
	r.must("2449 §6.6", "whole commands are answered while the next is incomplete", ok, c)
	c.send("AT\r\n")
	r.must("2449 §6.6", "the rest of a command completes it", c.read().raw == stat.raw, c)
	c.send("STAT\r\n" + strings.Repeat("y", 3000) + "\r\nSTAT\r\n")
	ok = c.read().raw == stat.raw
	middle, last := c.read(), c.read()
	r.must("2449 §6.6", "an overlong line in a batch takes no other with it, or ends the session", ok && (middle.refused() && last.raw == stat.raw || last.ended()), c)
	c.Close()

	c = r.login()
	c.send("DELE 1\r\nDELE 2\r\nSTAT\r\nQUIT\r\n")
	ok = c.allOK(2)
	n48, _ := split(c.read())
	ok = ok && n48 == n-2 && c.read().ok() && c.read().closed()
	r.must("2449 §6.6", "DELE, STAT and QUIT in one segment are all answered", ok, c)
	c = r.login()
	r.must("2449 §6.6", "what a pipelined QUIT removes is gone", len(c.sizes()) == n-2, c)
	c.cmd("QUIT")

	c = r.connect()
	c.send("CAPA\r\nUSER " + r.target.User.Name + "\r\nPASS " + r.target.User.Password + "\r\nSTAT\r\nUIDL\r\nRETR 1\r\nQUIT\r\n")
	_, caps := c.readMulti()
	ok = len(caps.lines()) > 0 && c.read().ok() && c.read().ok() && c.read().ok()
	_, uids := c.readMulti()
	_, mail := c.readMulti()
	ok = ok && len(uids.lines()) == n-2 && len(mail.lines()) > 3 && c.read().ok() && c.read().closed()
	r.good("2449 §6.6", "a whole session in one segment is answered", ok, c)

	// A client that sends much before it reads: the server must not give up
	// on either direction.
	need(r.target.Store.Fill([][]byte{[]byte(head + "\n" + strings.Repeat(strings.Repeat("m", 70)+"\n", 7000))}))
	c = r.login()
	c.send(strings.Repeat("RETR 1\r\n", 20))
	time.Sleep(300 * time.Millisecond)
	whole = 0
	for range 20 {
		if _, b := c.readMulti(); b.err == nil && len(b.lines()) == 7003 {
			whole++
		}
	}
	r.must("2449 §6.6", "20 RETR of 500 KB with a late reader get 20 whole messages", whole == 20, c, whole)
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		tcp.SetReadBuffer(64 << 10)
		c.send("RETR 1\r\n")
		time.Sleep(300 * time.Millisecond)
		_, b := c.readMulti()
		r.must("1939 §5", "a slow reader gets the whole message", b.err == nil && len(b.lines()) == 7003, c)
	}
}

// split reads the two numbers of a STAT reply.
func split(r reply) (count, octets int) {
	fmt.Sscanf(r.text(), "%d %d", &count, &octets)
	return count, octets
}

// manyMessages checks a maildrop of a thousand.
func manyMessages(r *run) {
	const n = 1000
	need(r.target.Store.Fill(notes(n)))
	c := r.login()
	count, total := c.stat()
	r.must("1939 §5", "STAT counts 1000", count == n, c)
	sizes := c.sizes()
	sum, exact := 0, true
	for i := range n {
		sum += sizes[i+1]
		exact = exact && sizes[i+1] == len(note(i+1))
	}
	r.must("1939 §5", "LIST has 1000 sizes, all exact", len(sizes) == n && exact, c)
	r.must("1939 §5", "STAT's octets are their sum", sum == total, c, sum, " and ", total)
	uids := c.uids()
	r.must("1939 §7", "UIDL has 1000 names, no two alike", len(uids) == n && len(values(uids)) == n, c, len(uids))
	r.must("1939 §5", "message 1000 is the last", c.cmd("LIST 1000").ok() && c.cmd("LIST 1001").refused(), c)
	var batch strings.Builder
	for i := range n {
		fmt.Fprintf(&batch, "RETR %d\r\n", i+1)
	}
	go c.Conn.Write([]byte(batch.String()))
	whole := 0
	for i := range n {
		if _, b := c.readMulti(); string(b.text) == note(i+1) {
			whole++
		}
	}
	r.must("2449 §6.6", "1000 RETR pipelined get 1000 whole messages", whole == n, c, whole)
	batch.Reset()
	for i := range n {
		if i%2 == 0 {
			fmt.Fprintf(&batch, "DELE %d\r\n", i+1)
		}
	}
	c.send(batch.String())
	marked := 0
	for range n / 2 {
		if c.read().ok() {
			marked++
		}
	}
	half, _ := c.stat()
	r.must("1939 §5", "500 of 1000 can be marked", marked == n/2 && half == n/2, c, marked)
	r.must("1939 §6", "QUIT removes 500 of 1000", c.cmd("QUIT").ok(), c)
	messages, err := r.target.Store.Messages()
	need(err)
	right := len(messages) == n/2
	for i, m := range messages {
		right = right && strings.Contains(string(m), fmt.Sprintf("Subject: note %d\r\n", 2*i+2)) || strings.Contains(string(m), fmt.Sprintf("Subject: note %d\n", 2*i+2))
	}
	r.must("1939 §6", "the other 500 are left", right, c, len(messages))
	c = r.login()
	after := c.uids()
	kept := len(after) == n/2
	for i := range n / 2 {
		kept = kept && after[i+1] == uids[2*i+2]
	}
	r.must("1939 §7", "they keep their names", kept, c)
	c.cmd("QUIT")
}
