package conformance

import (
	"bytes"
	"fmt"
	"strings"
)

// fill puts the samples into the maildrop and returns them as the store holds
// them: a mail server may have changed a line end on the way in.
func (r *run) fill(all []sample) []string {
	mails := make([][]byte, len(all))
	for i, s := range all {
		mails[i] = []byte(s.mail)
	}
	need(r.target.Store.Fill(mails))
	held, err := r.target.Store.Messages()
	need(err)
	if len(held) != len(all) {
		need(fmt.Errorf("the store holds %d messages of %d", len(held), len(all)))
	}
	texts := make([]string, len(all))
	for i, mail := range held {
		texts[i] = string(mail)
	}
	return texts
}

// inStepAt says that the server answers STAT as it did, but for the octets of
// a line end: a size may be mended when a message was read. No stored message
// holds a line like it.
func (c *conn) inStepAt(count, total int) bool {
	n, octets := c.stat()
	return n == count && max(octets-total, total-octets) <= 2
}

// octets checks that every form of message arrives whole and with the size that
// was told (RFC 1939 §3, §5 and §11). A last session shows the sizes that are
// told of messages read before.
func octets(r *run) {
	all := samples()
	held := r.fill(all)
	c := r.login()
	count, total := c.stat()
	before := c.sizes()
	r.must("1939 §5", "STAT counts all messages", count == len(all), c)
	r.must("1939 §5", "STAT's octets are the sum of LIST's", sum(before) == total, c, sum(before), " and ", total)
	c.Close()

	read := make([]body, len(all))
	var unread, mended []string
	for i, s := range all {
		// A session for each, lest a message that the server sends wrongly
		// spoils the judgement of the next.
		c := r.login()
		c.unjudged = true
		n := i + 1
		count, total := c.stat()
		status, b := c.multi(fmt.Sprint("RETR ", n))
		read[i] = b
		got := status.ok() && b.err == nil
		r.must("1939 §5", s.name+": RETR is +OK and ends in a dot line", got && c.inStepAt(count, total), c)
		wire := onWire(held[i])
		exact := string(b.text) == wire || held[i] == "" && string(b.text) == "\r\n"
		if strings.HasSuffix(held[i], "\r") {
			exact = exact || string(b.text) == onWire(held[i]+"\n") // CR taken for a half line end
		}
		r.must("1939 §3", s.name+": no line is lost, added or changed", got && same(b.text, []byte(wire)), c, difference(b.text, wire))
		r.should("1939 §11", s.name+": every octet is as stored, line ends as CRLF", got && (exact || strings.Contains(s.mail, "\x00") && len(b.text) == len(wire)), c, difference(b.text, wire))
		r.must("1939 §3", s.name+": a reader of LF lines sees the same end", got && !b.endsAtLF, c)
		if terminated(held[i]) {
			r.must("1939 §11", s.name+": LIST has the octets of RETR", got && before[n] == len(b.text), c, "LIST ", before[n], ", RETR ", len(b.text))
		} else if before[n] != len(b.text) {
			unread = append(unread, fmt.Sprintf("%s: LIST %d, RETR %d", s.name, before[n], len(b.text)))
		}
		if one := c.cmd(fmt.Sprint("LIST ", n)).text(); one != fmt.Sprint(n, " ", len(b.text)) {
			mended = append(mended, fmt.Sprintf("%s: LIST %s, RETR %d", s.name, one, len(b.text)))
		}

		status, topped := c.multi(fmt.Sprintf("TOP %d 0", n))
		header, ends := headerOf(wire)
		ok := status.ok() && topped.err == nil
		switch text := string(topped.text); {
		case ends && wellFormed(header):
			ok = ok && same(topped.text, []byte(header))
		default: // where the header ends is the server's guess
			ok = ok && strings.HasPrefix(plain(wire), plain(strings.TrimSuffix(text, "\r\n")))
		}
		r.must("1939 §7", s.name+": TOP n 0 is the header and an empty line", ok && !topped.endsAtLF && c.inStepAt(count, total), c, difference(topped.text, header))
		status, topped = c.multi(fmt.Sprintf("TOP %d 10000000", n))
		ok = status.ok() && topped.err == nil && bytes.Equal(topped.text, b.text)
		r.must("1939 §7", s.name+": TOP n with more lines than there are is RETR", ok && c.inStepAt(count, total), c, difference(topped.text, string(b.text)))
		c.drop()
	}
	r.should("1939 §11", "LIST counts the line end that an unterminated message gets", len(unread) == 0, nil, strings.Join(unread, "; "))
	r.good("1939 §11", "LIST n behind RETR n has its octets", len(mended) == 0, nil, strings.Join(mended, "; "))

	c = r.login()
	after := c.sizes()
	var changed, wrong []string
	for i, s := range all {
		if read[i].err == nil && after[i+1] != len(read[i].text) {
			difference := fmt.Sprintf("%s: LIST %d, RETR %d", s.name, after[i+1], len(read[i].text))
			if terminated(held[i]) {
				wrong = append(wrong, difference)
			} else {
				changed = append(changed, difference)
			}
		}
	}
	r.must("1939 §11", "LIST has the octets of RETR for messages read in an earlier session", len(wrong) == 0, c, strings.Join(wrong, "; "))
	r.should("1939 §11", "so it has for unterminated messages", len(changed) == 0, c, strings.Join(changed, "; "))
	count, total = c.stat()
	r.must("1939 §5", "STAT's octets are the sum of LIST's in the last session", count == len(all) && sum(after) == total, c, sum(after), " and ", total)
}

// sum adds up a scan listing.
func sum(sizes map[int]int) (octets int) {
	for _, size := range sizes {
		octets += size
	}
	return octets
}

// wellFormed says that every line of a header is a field or continues one.
func wellFormed(header string) bool {
	for i, line := range strings.Split(strings.TrimSuffix(header, "\r\n"), "\r\n") {
		folded := i > 0 && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"))
		name, _, field := strings.Cut(line, ":")
		if line != "" && !folded && (!field || name == "" || strings.ContainsAny(name, " \t")) {
			return false
		}
	}
	return !strings.ContainsAny(strings.ReplaceAll(header, "\r\n", ""), "\r\n")
}

// difference shows where two texts part.
func difference(got []byte, want string) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	if i == len(got) && i == len(want) {
		return ""
	}
	from := max(0, i-20)
	return fmt.Sprintf("octet %d of %d: got %q, want %q (%d octets)", i, len(got), got[from:min(len(got), i+30)], want[from:min(len(want), i+30)], len(want))
}

// forgedReplies checks that a stored message cannot speak for the server, to a
// client that ends lines at CRLF or at LF.
func forgedReplies(r *run) {
	forms := []sample{
		{"behind a dot line", head + "\nbody\n.\n" + forgery},
		{"behind a CRLF dot line", crlf(head + "\nbody\n.\n" + forgery)},
		{"behind a dot line with LF before and CRLF after", crlf(head+"\nbody") + "\n.\r\n" + crlf(forgery)},
		{"behind a dot line with CRLF before and LF after", crlf(head+"\nbody\n") + ".\n" + crlf(forgery)},
		{"behind a first octet that is a dot", ".\n" + forgery},
		{"behind a first CRLF dot line", ".\r\n" + crlf(forgery)},
		{"behind a dot line in an empty header", "\n.\n" + forgery},
		{"behind a dot and bare CRs", head + "\n\r.\r\r\n.\r\n" + forgery},
		{"behind CR CR LF and a dot", crlf(head+"\nbody") + "\r\r\n.\r\n" + crlf(forgery)},
		{"behind a dot line at a buffer's end", head + "\n" + strings.Repeat("x", 8192-len(head)-2) + "\n.\n" + forgery},
		{"behind many dot lines", head + "\n" + strings.Repeat(".\n", 9000) + forgery},
		{"in a header line", "From: a@example.org\n.\n" + forgery + "Subject: x\n\nbody\n"},
	}
	held := r.fill(forms)
	for i, f := range forms {
		for _, command := range []string{"RETR %d", "TOP %d 100000"} {
			c := r.login()
			c.unjudged = true
			count, total := c.stat()
			line := fmt.Sprintf(command, i+1)
			status, b := c.multi(line)
			whole := status.ok() && b.err == nil && same(b.text, []byte(onWire(held[i])))
			keyword, _, _ := strings.Cut(line, " ")
			r.must("1939 §3", keyword+": replies forged "+f.name+" stay inside the message", whole && !b.endsAtLF && c.inStepAt(count, total), c, difference(b.text, onWire(held[i])))
			c.drop()
		}
	}
}

// top checks how many lines TOP sends.
func top(r *run) {
	var long strings.Builder
	for i := range 40 {
		fmt.Fprintf(&long, "line %d\r\n", i+1)
	}
	header := crlf(head + "X-Folded: one\n\ttwo\n\n")
	dots := ".\r\n..\r\n.a\r\n\r\n.\r\nlast\r\n"
	noEmptyLine := crlf(head)
	need(r.target.Store.Fill([][]byte{[]byte(header + long.String()), []byte(header + dots), []byte(noEmptyLine), []byte(header), []byte(strings.ReplaceAll(header+long.String(), "\r\n", "\n"))}))
	before, err := r.target.Store.Seen()
	need(err)
	c := r.login()
	uids := c.uids()
	lines := strings.SplitAfter(long.String(), "\r\n")
	for _, message := range []int{1, 5} {
		for _, n := range []int{0, 1, 2, 5, 39, 40, 41, 1000} {
			status, b := c.multi(fmt.Sprintf("TOP %d %d", message, n))
			want := header + strings.Join(lines[:min(n, 40)], "")
			r.must("1939 §7", fmt.Sprintf("TOP %d %d of 40 body lines sends %d", message, n, min(n, 40)), status.ok() && string(b.text) == want, c, difference(b.text, want))
		}
	}
	body := strings.SplitAfter(dots, "\r\n")
	for n := range 7 {
		status, b := c.multi(fmt.Sprintf("TOP 2 %d", n))
		want := header + strings.Join(body[:min(n, 6)], "")
		r.must("1939 §3", fmt.Sprintf("TOP 2 %d byte-stuffs dot lines", n), status.ok() && string(b.text) == want && !b.endsAtLF, c, difference(b.text, want))
	}
	for _, n := range []int{0, 1, 10} {
		status, b := c.multi(fmt.Sprintf("TOP 3 %d", n))
		r.must("1939 §7", fmt.Sprintf("TOP 3 %d without an empty line sends the header", n), status.ok() && strings.TrimRight(string(b.text), "\r\n") == strings.TrimRight(noEmptyLine, "\r\n"), c)
		status, b = c.multi(fmt.Sprintf("TOP 4 %d", n))
		r.must("1939 §7", fmt.Sprintf("TOP 4 %d with an empty body sends the header", n), status.ok() && string(b.text) == header, c)
	}
	_, retr := c.multi("RETR 1")
	_, topped := c.multi("TOP 1 40")
	r.must("1939 §7", "TOP with all lines is RETR", bytes.Equal(retr.text, topped.text), c)
	r.must("1939 §7", "TOP changes no name", equal(c.uids(), uids), c)
	c.cmd("QUIT")
	c = r.login()
	c.multi("TOP 2 3")
	c.cmd("QUIT")
	now, err := r.target.Store.Seen()
	need(err)
	r.good("1939 §7", "TOP marks nothing as seen", now <= before+1, c, now, " seen, ", before, " before RETR of one")
}
