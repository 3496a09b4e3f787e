package conformance

import (
	"fmt"
	"strings"
)

// badNumbers name no message of a maildrop with three.
var badNumbers = []string{
	"0", "-1", "-0", "4", "5", "00", "256", "257", "65536", "65537", "2147483647", "2147483648", "2147483649",
	"4294967295", "4294967296", "4294967297", "9223372036854775807", "9223372036854775808", "9223372036854775809",
	"18446744073709551615", "18446744073709551616", "18446744073709551617", "340282366920938463463374607431768211457",
	"99999999999999999999999999999999999999", "1x", "x1", "x", "1.0", "1.", ".1", "1e0", "0x1", "0b1", "0o1", "1_0", "1,2", "1:2", "1-2", "*", "$", "#1",
	"1;", "'1'", "\"1\"", "(1)", "1\x00", "\u0663", "\u00b9", "\uff11", "one", "NaN", "--1", "+-1", "1+",
}

// numbers checks what stands for a message number and what does not.
func numbers(r *run) {
	need(r.target.Store.Fill(notes(3)))
	for _, keyword := range []string{"LIST", "UIDL", "RETR", "DELE", "TOP"} {
		suffix := ""
		if keyword == "TOP" {
			suffix = " 0"
		}
		var c *conn
		var stat reply
		for i, number := range badNumbers {
			if i%3 == 0 { // a session may not be asked too many errors
				if c != nil {
					c.Close()
				}
				c = r.login()
				stat = c.cmd("STAT")
			}
			refused := c.cmd(keyword + " " + number + suffix).refused()
			unchanged := c.cmd("STAT")
			r.must("1939 §5", fmt.Sprintf("%s %q%s is refused", keyword, number, suffix), refused && unchanged.ok() && unchanged.raw == stat.raw, c)
			if !refused || !unchanged.ok() {
				c.Close()
				c = r.login()
			}
		}
		// Leading zeros and a plus sign: refused or taken for 1, no other.
		for _, number := range []string{"01", "0000000001", "+1", "000000000000000000000000000000000000000001"} {
			c := r.login()
			status := c.cmd(keyword + " " + number + suffix)
			ok := status.refused()
			if status.ok() {
				switch keyword {
				case "RETR", "TOP":
					b := c.readBody()
					ok = b.err == nil && strings.Contains(string(b.text), "Subject: note 1\r\n")
				case "DELE":
					ok = c.cmd("LIST 1").refused() && c.cmd("LIST 2").ok()
				default:
					ok = strings.HasPrefix(status.text(), "1 ")
				}
			}
			r.must("1939 §5", fmt.Sprintf("%s %s%s is refused or means message 1", keyword, number, suffix), ok && c.cmd("NOOP").ok(), c)
		}
	}
	for _, lines := range []string{"-1", "-0", "x", "1x", "1.0", "0x1", "1e1", "*", "1:2", "1,2", "\u0663", "\uff11", "+-1", "-4294967295", "--1", "1\x00"} {
		c := r.login()
		refused := c.cmd("TOP 1 " + lines).refused()
		r.must("1939 §7", fmt.Sprintf("TOP 1 %q is refused", lines), refused && c.cmd("NOOP").ok(), c)
	}
	whole := onWire(note(1))
	for _, lines := range []string{
		"1000000", "2147483647", "2147483648", "4294967295", "4294967296", "4294967297", "9223372036854775807", "9223372036854775808",
		"18446744073709551615", "18446744073709551616", "18446744073709551617", "99999999999999999999999999999999999999",
	} {
		c := r.login()
		status, b := c.multi("TOP 1 " + lines)
		ok := status.refused() || b.err == nil && string(b.text) == whole
		r.must("1939 §7", "TOP 1 "+lines+" is the whole message, or refused", ok && c.cmd("NOOP").ok(), c)
	}
}
