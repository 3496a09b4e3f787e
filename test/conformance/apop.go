package conformance

import (
	"crypto/md5"
	"fmt"
	"regexp"
	"strings"
)

// stampForm is the timestamp that a greeting ends with or holds where APOP is
// offered: a msg-id of RFC 822.
var stampForm = regexp.MustCompile(`<[^<>@\s]+@[^<>@\s]+>`)

// apop checks logins with a digest (RFC 1939 §7).
func apop(r *run) {
	user := r.target.APOPUser
	if user.Name == "" {
		return
	}
	connect := func() (c *conn, digest string) {
		c = r.connectTo(Endpoint{Address: r.target.APOPAddress})
		sum := md5.Sum([]byte(stampForm.FindString(c.first.raw) + user.Password))
		return c, fmt.Sprintf("%x", sum)
	}
	first, earlier := connect()
	r.must("1939 §7", "the greeting has a timestamp <...@...>", stampForm.MatchString(first.first.raw), first)
	c, digest := connect()
	r.must("1939 §7", "the timestamp is another in each session", c.first.raw != first.first.raw, c)
	r.must("1939 §7", "the digest of timestamp and secret logs in", c.cmd("APOP "+user.Name+" "+digest).ok() && c.cmd("STAT").ok(), c)
	r.must("1939 §7", "APOP is refused in TRANSACTION", c.cmd("APOP "+user.Name+" "+digest).refused() && c.cmd("NOOP").ok(), c)
	c, digest = connect()
	r.must("1939 §3", "apop in lower case logs in", c.cmd("apop "+user.Name+" "+digest).ok(), c)
	c, digest = connect()
	r.must("1939 §7", "the digest of an earlier session is refused", c.cmd("APOP "+user.Name+" "+earlier).refused() && c.cmd("STAT").refused(), c)
	r.should("1939 §7", "the right digest is accepted behind a wrong one", c.cmd("APOP "+user.Name+" "+digest).ok(), c)
	bad := []struct {
		name     string
		argument func(digest string) string
	}{
		{"no digest", func(string) string { return "" }},
		{"a space for a digest", func(string) string { return " " }},
		{"zeros", func(string) string { return " " + strings.Repeat("0", 32) }},
		{"no hexadecimal digits", func(string) string { return " " + strings.Repeat("g", 32) }},
		{"the secret itself", func(string) string { return " " + user.Password }},
		{"a digit missing", func(digest string) string { return " " + digest[:31] }},
		{"a digit too many", func(digest string) string { return " " + digest + "0" }},
		{"a third argument", func(digest string) string { return " " + digest + " x" }},
		{"an argument in between", func(digest string) string { return " x " + digest }},
	}
	for _, b := range bad {
		c, digest = connect()
		refused := c.cmd("APOP " + user.Name + b.argument(digest)).refused()
		r.must("1939 §7", b.name+" is refused", refused && c.inStep() && c.cmd("STAT").refused(), c)
	}
	c, digest = connect()
	wrong := c.cmd("APOP " + user.Name + " " + strings.Repeat("0", 32))
	c, _ = connect()
	nobody := c.cmd("APOP nobody-of-this-name " + digest)
	r.should("3206 §4", "a wrong name and a wrong digest have one text", wrong.refused() && nobody.raw == wrong.raw, c, wrong.raw)
	r.should("3206 §4", "a wrong digest has [AUTH]", wrong.code() == "AUTH", c, wrong.raw)
	c, digest = connect()
	c.cmd("USER " + user.Name)
	got := c.cmd("APOP " + user.Name + " " + digest)
	r.must("1939 §7", "APOP behind USER gets one reply", (got.ok() || got.refused()) && c.inStep(), c)
	c, _ = connect()
	r.must("1939 §7", "USER and PASS log in beside APOP", c.tryLogin(user).ok(), c)
	if r.target.TLS != nil {
		c, digest = connect()
		err := c.starttls()
		got := c.cmd("APOP " + user.Name + " " + digest)
		r.should("2595 §4", "the greeting's timestamp holds under STLS", err == nil && got.ok(), c, err)
	}
}
