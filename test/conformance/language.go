package conformance

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// utf8Mode checks UTF8 (RFC 6856 §2), where it is announced; else that it is an
// unknown command like any other.
func utf8Mode(r *run) {
	mail := "From: jos\u00e9@example.org\r\nSubject: \u00e9t\u00e9\r\n\r\n\u4f60\u597d\r\n"
	need(r.target.Store.Fill([][]byte{[]byte(note(1)), []byte(mail)}))
	c := r.connect()
	if !r.tags("CAPA").has("UTF8") {
		r.must("1939 §3", "UTF8, not announced, is refused", c.cmd("UTF8").refused() && c.inStep(), c)
		r.must("1939 §3", "a login works behind the refusal", c.tryLogin(r.target.User).ok(), c)
		c = r.login()
		r.must("6856 §2.1", "UTF8 is refused in TRANSACTION", c.cmd("UTF8").refused() && c.cmd("NOOP").ok(), c)
		return
	}
	r.must("6856 §2.1", "UTF8 is +OK in AUTHORIZATION", c.cmd("UTF8").ok(), c)
	r.must("6856 §2.1", "CAPA works behind UTF8", c.inStep(), c)
	r.must("6856 §2.1", "a login works behind UTF8", c.tryLogin(r.target.User).ok(), c)
	sizes := c.sizes()
	_, b := c.multi("RETR 2")
	r.must("6856 §2.1", "a UTF-8 message is sent as it is", string(b.text) == mail, c, difference(b.text, mail))
	r.must("1939 §11", "LIST has the octets of RETR in UTF8 mode", sizes[2] == len(b.text), c)
	_, b = c.multi("TOP 2 0")
	r.must("6856 §2.1", "TOP sends a UTF-8 header as it is", strings.HasPrefix(mail, string(b.text)) && len(b.text) > 0, c)
	r.must("6856 §2.1", "UTF8 is refused in TRANSACTION", c.cmd("UTF8").refused() && c.cmd("NOOP").ok(), c)
	c.cmd("QUIT")
	c = r.connect()
	r.must("6856 §2.1", "utf8 in lower case is +OK", c.cmd("utf8").ok(), c)
	c = r.connect()
	r.should("6856 §2.1", "UTF8 with an argument is refused", c.cmd("UTF8 USER").refused() && c.inStep(), c)
	c = r.connect()
	c.cmd("UTF8")
	second := c.cmd("UTF8")
	r.must("6856 §2.1", "UTF8 twice gets a reply", (second.ok() || second.refused()) && c.inStep(), c)
	c = r.connect()
	c.cmd("USER " + r.target.User.Name)
	between := c.cmd("UTF8")
	r.must("6856 §2.1", "UTF8 between USER and PASS gets a reply", (between.ok() || between.refused()) && c.inStep(), c)
	c = r.login()
	before := c.sizes()
	_, b = c.multi("RETR 2")
	r.must("6856 §2.1", "without UTF8 the sizes agree too", before[2] == len(b.text), c)
	c = r.connect()
	c.cmd("UTF8")
	r.must("6856 §2.1", "UTF8 does not log in", c.cmd("STAT").refused(), c)
	if r.target.TLS != nil {
		c = r.connect()
		c.cmd("UTF8")
		tried := c.cmd("STLS")
		ok := tried.refused() || tried.ok() && c.handshake() == nil
		r.must("6856 §2.1", "STLS behind UTF8 is refused or works", ok && c.inStep(), c)
		c = r.connect()
		ok = c.starttls() == nil
		r.must("6856 §2.1", "UTF8 works under TLS", ok && c.cmd("UTF8").ok() && c.tryLogin(r.target.User).ok(), c)
	}
}

// language checks LANG (RFC 6856 §3), where it is announced; else that it is an
// unknown command like any other.
func language(r *run) {
	need(r.target.Store.Fill(notes(2)))
	c := r.connect()
	if !r.tags("CAPA").has("LANG") {
		r.must("1939 §3", "LANG, not announced, is refused", c.cmd("LANG").refused() && c.inStep(), c)
		r.must("1939 §3", "LANG en, not announced, is refused", c.cmd("LANG en").refused() && c.inStep(), c)
		return
	}
	tag := regexp.MustCompile(`^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$`)
	for _, state := range []string{"AUTHORIZATION", "TRANSACTION"} {
		c := r.connect()
		if state == "TRANSACTION" {
			c.authenticate(r.target.User)
		}
		status, b := c.multi("LANG")
		r.must("6856 §3.2", "LANG in "+state+" is a list", status.ok() && b.err == nil && len(b.lines()) > 0, c)
		formed, isDefault := true, false
		var listed []string
		for _, line := range b.lines() {
			name, description, found := strings.Cut(line, " ")
			formed = formed && found && tag.MatchString(name) && description != "" && utf8.ValidString(description)
			isDefault = isDefault || strings.EqualFold(name, "i-default")
			listed = append(listed, name)
		}
		r.must("6856 §3.2", "LANG's lines in "+state+" are a language tag, space, description", formed, c, string(b.text))
		r.must("6856 §3.2", "LANG in "+state+" lists i-default", isDefault, c, string(b.text))
		all := true
		for _, name := range listed {
			got := c.cmd("LANG " + name)
			all = all && got.ok() && strings.EqualFold(strings.Fields(got.text() + " -")[0], name)
		}
		r.must("6856 §3.2", "each listed language can be chosen in "+state+", and +OK names it", all, c)
		any := c.cmd("LANG *")
		r.must("6856 §3.2", "LANG * in "+state+" chooses one, and +OK names it", any.ok() && tag.MatchString(strings.Fields(any.text() + " -")[0]), c)
		for _, unknown := range []string{"LANG xx-unknown", "LANG tlh", "LANG \u00e9", "LANG e_n", "LANG -", "LANG en de", "LANG %s", "LANG abcdefghijkl"} {
			r.must("6856 §3.2", unknown+" in "+state+" is refused", c.cmd(unknown).refused(), c)
			c.cmd("LANG *")
		}
		r.must("6856 §3.2", "lang i-default in lower case in "+state+" is +OK", c.cmd("lang I-DEFAULT").ok(), c)
		if state == "TRANSACTION" {
			count, _ := c.stat()
			r.must("6856 §3.2", "LANG changes nothing else", count == 2, c)
		} else {
			r.must("6856 §3.2", "a login works behind LANG", c.tryLogin(r.target.User).ok(), c)
		}
	}
	c = r.connect()
	en := c.cmd("LANG en")
	r.good("6856 §3.2", "LANG en is +OK", en.ok(), c)
}
