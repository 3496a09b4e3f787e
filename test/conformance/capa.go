package conformance

import (
	"fmt"
	"regexp"
	"strings"
)

// tagSet is a capability list: tags in upper case and their arguments.
type tagSet map[string]string

func (t tagSet) has(tag string) bool { _, found := t[tag]; return found }

// tagsOf reads the body of CAPA.
func tagsOf(b body) tagSet {
	tags := make(tagSet)
	for _, line := range b.lines() {
		tag, arguments, _ := strings.Cut(line, " ")
		tags[strings.ToUpper(tag)] = arguments
	}
	return tags
}

// tags asks a fresh connection for its capabilities in AUTHORIZATION.
func (r *run) tags(command string) tagSet {
	c := r.beside()
	defer c.Close()
	_, b := c.multi(command)
	return tagsOf(b)
}

// forms are what the RFCs say of each tag's arguments.
var forms = map[string]struct {
	rfc  string
	form *regexp.Regexp
}{
	"TOP":            {"2449 §6.1", regexp.MustCompile(`^$`)},
	"USER":           {"2449 §6.2", regexp.MustCompile(`^$`)},
	"SASL":           {"2449 §6.3", regexp.MustCompile(`^[A-Z0-9_-]{1,20}( [A-Z0-9_-]{1,20})*$`)},
	"RESP-CODES":     {"2449 §6.4", regexp.MustCompile(`^$`)},
	"LOGIN-DELAY":    {"2449 §6.5", regexp.MustCompile(`^[0-9]+( USER)?$`)},
	"PIPELINING":     {"2449 §6.6", regexp.MustCompile(`^$`)},
	"EXPIRE":         {"2449 §6.7", regexp.MustCompile(`^([0-9]+|NEVER)( USER)?$`)},
	"UIDL":           {"2449 §6.8", regexp.MustCompile(`^$`)},
	"IMPLEMENTATION": {"2449 §6.9", regexp.MustCompile(`^.+$`)},
	"STLS":           {"2595 §4", regexp.MustCompile(`^$`)},
	"AUTH-RESP-CODE": {"3206 §5", regexp.MustCompile(`^$`)},
	"UTF8":           {"6856 §2", regexp.MustCompile(`^(USER)?$`)},
	"LANG":           {"6856 §3", regexp.MustCompile(`^$`)},
}

// capabilities checks CAPA in every state, and that what it says is true.
func capabilities(r *run) {
	need(r.target.Store.Fill(notes(3)))
	c := r.connect()
	before := r.capa(c, "AUTHORIZATION")
	c.authenticate(r.target.User)
	after := r.capa(c, "TRANSACTION")
	secure := before
	if r.target.TLS != nil {
		c = r.connect()
		if err := c.starttls(); err == nil {
			secure = r.capa(c, "AUTHORIZATION under TLS")
			c.authenticate(r.target.User)
			afterTLS := r.capa(c, "TRANSACTION under TLS")
			r.must("2595 §4", "STLS is not announced under TLS", !secure.has("STLS") && !afterTLS.has("STLS"), c)
			r.must("2449 §5", "what AUTHORIZATION under TLS announces TRANSACTION announces too", missing(secure, afterTLS) == "", c, missing(secure, afterTLS))
		}
		r.must("2595 §4", "STLS is announced before TLS", before.has("STLS"), c)
	}
	r.must("2595 §4", "STLS is not announced in TRANSACTION", !after.has("STLS"), c)
	r.must("2449 §5", "what AUTHORIZATION announces TRANSACTION announces too", missing(before, after) == "", c, missing(before, after))
	r.should("2449 §6.1", "TOP is announced", before.has("TOP"), c)
	r.should("2449 §6.8", "UIDL is announced", before.has("UIDL"), c)
	r.must("2449 §6.2", "USER is announced where it works", before.has("USER"), c)
	r.good("2449 §6.4", "RESP-CODES is announced", before.has("RESP-CODES"), c)
	r.good("2449 §6.6", "PIPELINING is announced", before.has("PIPELINING"), c)
	r.good("3206 §5", "AUTH-RESP-CODE is announced", before.has("AUTH-RESP-CODE"), c)
	r.good("2449 §6.9", "IMPLEMENTATION is announced in TRANSACTION", after.has("IMPLEMENTATION"), c)
	r.good("6856 §2", "UTF8 is announced", before.has("UTF8"), c)
	r.good("6856 §3", "LANG is announced", before.has("LANG"), c)

	c = r.connect()
	r.must("2449 §6.2", "USER is announced if and only if it is accepted", c.cmd("USER "+r.target.User.Name).ok() == before.has("USER"), c)
	for _, mechanism := range strings.Fields(before["SASL"]) {
		c = r.connect()
		got := c.cmd("AUTH " + mechanism)
		_, asked := got.challenge()
		cancelled := asked && c.cmd("*").refused()
		r.must("2449 §6.3", "SASL "+mechanism+", announced, can be begun", cancelled && c.inStep(), c)
	}
	for _, mechanism := range strings.Fields(secure["SASL"]) {
		if r.target.TLS == nil || before.has("SASL") && strings.Contains(" "+before["SASL"]+" ", " "+mechanism+" ") {
			continue
		}
		c = r.connect()
		ok := c.starttls() == nil
		_, asked := c.cmd("AUTH " + mechanism).challenge()
		r.must("2449 §6.3", "SASL "+mechanism+", announced under TLS, can be begun", ok && asked, c)
	}
	c = r.login()
	status, topped := c.multi("TOP 1 0")
	r.must("2449 §6.1", "TOP is announced if and only if it works", (status.ok() && topped.err == nil) == after.has("TOP"), c)
	r.must("2449 §6.8", "UIDL is announced if and only if it works", c.cmd("UIDL 1").ok() == after.has("UIDL"), c)
	c = r.connect()
	lang := c.cmd("LANG i-default")
	r.must("6856 §3", "LANG is announced if and only if it works", lang.ok() == before.has("LANG"), c)
	c = r.connect()
	utf8 := c.cmd("UTF8")
	r.must("6856 §2", "UTF8 is announced if and only if it works", utf8.ok() == before.has("UTF8"), c)
	c = r.connect()
	r.must("2595 §4", "STLS is announced if and only if it works", c.cmd("STLS").ok() == before.has("STLS"), c)
	c = r.login()
	once := r.capaText(c)
	r.must("2449 §5", "CAPA twice is the same", r.capaText(c) == once, c)
}

// missing lists the tags of before, other than STLS, that after lacks.
func missing(before, after tagSet) string {
	var lacking []string
	for _, tag := range sorted(before) {
		if tag != "STLS" && !after.has(tag) {
			lacking = append(lacking, tag)
		}
	}
	return strings.Join(lacking, " ")
}

func (r *run) capaText(c *conn) string {
	_, b := c.multi("CAPA")
	return string(b.text)
}

// capa asks for the capabilities and checks the form of the list.
func (r *run) capa(c *conn, state string) tagSet {
	status, b := c.multi("CAPA")
	r.must("2449 §5", "CAPA works in "+state, status.ok() && b.err == nil && len(b.lines()) > 0, c)
	line := regexp.MustCompile(`^[\x21-\x7e]+( [\x21-\x7e]+)*$`)
	wellFormed, fits, distinct := true, true, true
	seen := make(map[string]bool)
	for _, l := range b.lines() {
		wellFormed = wellFormed && line.MatchString(l)
		fits = fits && len(l)+2 <= maxReply
		tag, _, _ := strings.Cut(strings.ToUpper(l), " ")
		distinct = distinct && !seen[tag]
		seen[tag] = true
	}
	r.must("2449 §3", "in "+state+" each line is a tag and arguments, single spaces between", wellFormed, c, string(b.text))
	r.must("2449 §5", "in "+state+" each line has at most 512 octets", fits, c, string(b.text))
	r.must("2449 §5", "in "+state+" no tag comes twice", distinct, c, string(b.text))
	r.must("2449 §3", "in "+state+" each line ends in CRLF", !b.bareLF, c)
	tags := tagsOf(b)
	for _, tag := range sorted(tags) {
		arguments := tags[tag]
		if f, known := forms[tag]; known {
			r.must(f.rfc, fmt.Sprintf("in %s %s has the arguments it may have", state, tag), f.form.MatchString(strings.ToUpper(arguments)), c, tag, " ", arguments)
		}
	}
	return tags
}
