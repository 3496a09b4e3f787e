package conformance

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	statForm = regexp.MustCompile(`^\+OK ([0-9]+) ([0-9]+)\r\n$`)
	scanForm = regexp.MustCompile(`^([0-9]+) ([0-9]+)$`)
	uidForm  = regexp.MustCompile(`^([0-9]+) ([\x21-\x7e]{1,70})$`)
)

// stat asks for the drop listing: messages and octets, -1 for no sense.
func (c *conn) stat() (count, octets int) {
	m := regexp.MustCompile(`^\+OK ([0-9]+) ([0-9]+)[ \r]`).FindStringSubmatch(c.cmd("STAT").raw)
	if m == nil {
		return -1, -1
	}
	return atoi(m[1]), atoi(m[2])
}

// sizes asks for the scan listing: octets by message number.
func (c *conn) sizes() map[int]int {
	status, b := c.multi("LIST")
	if !status.ok() || b.err != nil {
		panic(lost{"LIST failed\n" + strings.Join(c.tail(), "\n")})
	}
	sizes := make(map[int]int)
	for _, line := range b.lines() {
		if f := strings.Fields(line); len(f) >= 2 {
			sizes[atoi(f[0])] = atoi(f[1])
		}
	}
	return sizes
}

// uids asks for the unique-ids by message number.
func (c *conn) uids() map[int]string {
	status, b := c.multi("UIDL")
	if !status.ok() || b.err != nil {
		panic(lost{"UIDL failed\n" + strings.Join(c.tail(), "\n")})
	}
	uids := make(map[int]string)
	for _, line := range b.lines() {
		number, uid, _ := strings.Cut(line, " ")
		uids[atoi(number)] = uid
	}
	return uids
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// listings checks STAT, LIST and UIDL (RFC 1939 §5 and §7).
func listings(r *run) {
	const n = 12
	need(r.target.Store.Fill(notes(n)))
	c := r.login()
	r.should("1939 §5", "STAT is \"+OK count octets\" and no more", statForm.MatchString(c.cmd("STAT").raw), c)
	count, total := c.stat()
	r.must("1939 §5", "STAT counts the messages", count == n, c)

	status, b := c.multi("LIST")
	r.must("1939 §5", "LIST has a line for each message", status.ok() && len(b.lines()) == n, c)
	sum, inOrder, formed := 0, true, true
	for i, line := range b.lines() {
		m := scanForm.FindStringSubmatch(line)
		if m == nil {
			formed = false
			continue
		}
		sum += atoi(m[2])
		inOrder = inOrder && m[1] == strconv.Itoa(i+1)
	}
	r.should("1939 §5", "LIST's lines are number, space, octets and no more", formed, c, string(b.text))
	r.must("1939 §5", "LIST's numbers run from 1", inOrder, c, string(b.text))
	r.must("1939 §5", "STAT's octets are the sum of LIST's", sum == total, c, sum, " and ", total)
	r.must("1939 §3", "LIST's lines end in CRLF", !b.bareLF, c)
	sizes := c.sizes()
	exact := true
	for i := range n {
		exact = exact && sizes[i+1] == len(onWire(note(i+1)))
	}
	r.must("1939 §11", "LIST has every message's octets with CRLF ends", exact, c, fmt.Sprint(sizes))
	for _, i := range []int{1, 7, n} {
		one := c.cmd(fmt.Sprint("LIST ", i))
		r.should("1939 §5", fmt.Sprintf("LIST %d is \"+OK number octets\" and no more", i), one.raw == fmt.Sprintf("+OK %d %d\r\n", i, sizes[i]), c)
	}

	status, b = c.multi("UIDL")
	r.must("1939 §7", "UIDL has a line for each message", status.ok() && len(b.lines()) == n, c)
	inOrder, formed = true, true
	for i, line := range b.lines() {
		m := uidForm.FindStringSubmatch(line)
		formed = formed && m != nil
		inOrder = inOrder && strings.HasPrefix(line, strconv.Itoa(i+1)+" ")
	}
	r.must("1939 §7", "UIDL's lines are number, space, 1 to 70 octets from 0x21 to 0x7E", formed, c, string(b.text))
	r.must("1939 §7", "UIDL's numbers run from 1", inOrder, c, string(b.text))
	r.must("1939 §3", "UIDL's lines end in CRLF", !b.bareLF, c)
	uids := c.uids()
	for _, i := range []int{1, 7, n} {
		one := c.cmd(fmt.Sprint("UIDL ", i))
		r.must("1939 §7", fmt.Sprintf("UIDL %d is \"+OK number uid\" and no more", i), one.raw == fmt.Sprintf("+OK %d %s\r\n", i, uids[i]), c)
	}
	order := true
	for i := range n {
		_, m := c.multi(fmt.Sprint("RETR ", i+1))
		order = order && strings.Contains(string(m.text), fmt.Sprintf("Subject: note %d\r\n", i+1))
	}
	r.good("1939 §5", "messages are in the order of delivery", order, c)
	again := c.sizes()
	r.must("1939 §5", "LIST is the same behind RETR", fmt.Sprint(again) == fmt.Sprint(sizes), c)

	greet := r.beside()
	greet.cmd("USER " + r.target.User.Name)
	c.cmd("QUIT")
	r.must("1939 §7", "PASS's +OK says no count that is wrong", !strings.Contains(greet.cmd("PASS "+r.target.User.Password).text(), " 11 "), greet)
}

// emptyMaildrop checks that nothing is a listing as well.
func emptyMaildrop(r *run) {
	need(r.target.Store.Fill(nil))
	c := r.login()
	r.must("1939 §5", "STAT is +OK 0 0", c.cmd("STAT").raw == "+OK 0 0\r\n", c)
	for _, line := range []string{"LIST", "UIDL"} {
		status, b := c.multi(line)
		r.must("1939 §5", line+" is an empty list", status.ok() && b.err == nil && len(b.wire) == 0, c)
	}
	for _, line := range []string{"LIST 1", "UIDL 1", "RETR 1", "TOP 1 0", "DELE 1", "LIST 0", "RETR 0"} {
		r.must("1939 §5", line+" is refused", c.cmd(line).refused(), c)
		c.cmd("NOOP")
	}
	r.must("1939 §5", "RSET is +OK", c.cmd("RSET").ok(), c)
	r.must("1939 §6", "QUIT is +OK", c.cmd("QUIT").ok(), c)
}

// uniqueIDs checks that UIDL's names mean the same message for ever.
func uniqueIDs(r *run) {
	mails := notes(8)
	mails[3], mails[4] = mails[2], mails[2] // three equal messages
	need(r.target.Store.Fill(mails))
	c := r.login()
	first := c.uids()
	r.must("1939 §7", "equal messages have different names", len(values(first)) == 8, c, fmt.Sprint(first))
	c.multi("TOP 1 0")
	c.multi("TOP 2 1000")
	c.multi("RETR 3")
	c.cmd("DELE 4")
	c.cmd("RSET")
	r.must("1939 §7", "names stay behind TOP, RETR, DELE and RSET", equal(c.uids(), first), c)
	c.cmd("QUIT")
	c = r.login()
	r.must("1939 §7", "names are the same in the next session", equal(c.uids(), first), c, fmt.Sprint(first))
	c.drop()
	c = r.login()
	r.must("1939 §7", "names are the same behind a dropped session", equal(c.uids(), first), c)
	c.cmd("QUIT")

	c = r.login()
	c.cmd("DELE 1")
	c.cmd("DELE 5")
	left := c.uids()
	_, has1 := left[1]
	_, has5 := left[5]
	r.must("1939 §7", "marked messages are not listed", !has1 && !has5 && len(left) == 6, c, fmt.Sprint(left))
	r.must("1939 §7", "the others keep number and name", left[2] == first[2] && left[8] == first[8], c)
	c.cmd("QUIT")
	c = r.login()
	now := c.uids()
	expected := map[int]string{1: first[2], 2: first[3], 3: first[4], 4: first[6], 5: first[7], 6: first[8]}
	r.must("1939 §7", "names stay when others were removed", equal(now, expected), c, fmt.Sprint(now, expected))
	c.cmd("QUIT")

	need(r.target.Store.Add([]byte(note(1))))
	need(r.target.Store.Add([]byte(note(100))))
	c = r.login()
	grown := c.uids()
	same := len(grown) == 8
	for i := range 6 {
		same = same && grown[i+1] == now[i+1]
	}
	r.must("1939 §7", "names stay when mail arrives", same, c, fmt.Sprint(grown))
	r.should("1939 §7", "a removed message's name is not used again for its copy", grown[7] != first[1], c, fmt.Sprint(grown))
	reused := false
	for _, uid := range []string{grown[7], grown[8]} {
		reused = reused || slices.Contains(sorted(values(first)), uid)
	}
	r.should("1939 §7", "new mail has new names", !reused, c, fmt.Sprint(grown))
	c.cmd("QUIT")

	need(r.target.Store.MarkSeen(0))
	need(r.target.Store.MarkSeen(7))
	c = r.login()
	r.must("1939 §7", "names stay when another program sets flags", equal(c.uids(), grown), c, fmt.Sprint(grown))
	c.cmd("QUIT")
	need(r.target.Store.Remove(2))
	c = r.login()
	after := c.uids()
	same = len(after) == 7 && after[1] == grown[1] && after[2] == grown[2] && after[3] == grown[4] && after[7] == grown[8]
	r.must("1939 §7", "names stay when another program removes mail", same, c, fmt.Sprint(after))
	c.cmd("QUIT")
}

func values(m map[int]string) map[string]bool {
	set := make(map[string]bool)
	for _, v := range m {
		set[v] = true
	}
	return set
}

func equal(a, b map[int]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
