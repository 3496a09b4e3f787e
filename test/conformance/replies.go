package conformance

import "strings"

// maxReply is the most octets of a reply line, with CRLF (RFC 2449 §3; RFC 1939
// §3 says the same of the first line).
const maxReply = 512

// monitor watches the status lines of the whole run.
type monitor struct {
	lines                                int
	ending, length, indicator, printable string // the first line at fault
}

// add judges one line that was read as a status line.
func (m *monitor) add(c *conn, raw string) {
	m.lines++
	detail := func() string { return strings.Join(c.tail(), "\n") }
	if !strings.HasSuffix(raw, "\r\n") && m.ending == "" {
		m.ending = detail()
	}
	if len(raw) > maxReply && m.length == "" {
		m.length = detail()
	}
	word := reply{raw: raw}.indicator()
	if word != "+OK" && word != "-ERR" && word != "+" && m.indicator == "" {
		m.indicator = detail()
	}
	if !printable(strings.TrimSuffix(raw, "\r\n")) && m.printable == "" {
		m.printable = detail()
	}
}

// judgeReplies makes the checks that hold for every status line of a run.
func (r *run) judgeReplies() {
	m := r.replies
	r.must("1939 §3", "each ends in CRLF", m.ending == "", nil, m.ending)
	r.must("1939 §3", "each has at most 512 octets", m.length == "", nil, m.length)
	r.must("1939 §3", "each begins with +OK or -ERR in upper case", m.indicator == "", nil, m.indicator)
	r.should("1939 §3", "each is printable ASCII", m.printable == "", nil, m.printable)
}

// printable says that s is made of 0x20 to 0x7E.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7E {
			return false
		}
	}
	return true
}
