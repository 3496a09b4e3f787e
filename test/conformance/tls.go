package conformance

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// stls checks the change to TLS within a session (RFC 2595 §4).
func stls(r *run) {
	if r.target.TLS == nil {
		return
	}
	need(r.target.Store.Fill(notes(3)))
	user := r.target.User
	c := r.connect()
	r.must("2595 §4", "STLS is answered by +OK", c.cmd("STLS").ok(), c)
	err := c.handshake()
	r.must("2595 §4", "the handshake follows, and the certificate is good", err == nil, c, err)
	if err != nil {
		return
	}
	state := c.Conn.(*tls.Conn).ConnectionState()
	r.must("8996 §5", "TLS is of version 1.2 or later", state.Version >= tls.VersionTLS12, c)
	r.must("2595 §4", "there is no second greeting", c.inStep(), c)
	r.must("2595 §4", "a login works under TLS", c.tryLogin(user).ok(), c)
	_, b := c.multi("RETR 1")
	r.must("1939 §5", "RETR works under TLS", string(b.text) == onWire(note(1)), c)
	r.must("2595 §4", "STLS in TRANSACTION under TLS is refused", c.cmd("STLS").refused() && c.cmd("NOOP").ok(), c)
	r.must("1939 §6", "QUIT works under TLS", c.cmd("QUIT").ok(), c)
	r.good("8446 §6.1", "the server ends TLS in order", c.read().closed(), c)

	c = r.connect()
	err = c.starttls()
	r.should("2595 §4", "STLS under TLS is refused", err == nil && c.cmd("STLS").refused() && c.inStep(), c, err)
	c = r.connect()
	err = c.starttls()
	r.must("5034 §4", "AUTH PLAIN works under TLS", err == nil && c.cmd("AUTH PLAIN "+plainToken("", user.Name, user.Password)).ok() && c.cmd("STAT").ok(), c, err)
	c = r.connect()
	c.send("stls\r\n")
	ok := c.read().ok() && c.handshake() == nil
	r.must("1939 §3", "stls in lower case works", ok && c.inStep(), c)

	for _, line := range []string{"STLS now", "STLS 1 2", "STLSX", "STLS,"} {
		c = r.connect()
		refused := c.cmd(line).refused()
		r.should("2595 §4", line+" is refused, the session goes on in the clear", refused && c.inStep(), c)
	}
	c = r.login()
	r.must("2595 §4", "STLS in TRANSACTION is refused", c.cmd("STLS").refused() && c.cmd("NOOP").ok(), c)

	c = r.connect()
	c.cmd("USER " + user.Name)
	if got := c.cmd("STLS"); got.refused() {
		r.should("2595 §4", "USER before STLS is forgotten", c.inStep(), c)
	} else {
		err = c.handshake()
		r.should("2595 §4", "USER before STLS is forgotten", err == nil && c.cmd("PASS "+user.Password).refused() && c.cmd("STAT").refused(), c, err)
	}
	c = r.connect()
	c.tryLogin(Account{user.Name, "wrong-password"})
	err = c.starttls()
	r.must("2595 §4", "STLS works behind a failed login", err == nil && c.tryLogin(user).ok(), c, err)

	// What arrives in the clear behind STLS was put there by somebody in
	// between: it is never performed.
	injections := []sample{
		{"CAPA", "CAPA\r\n"}, {"USER", "USER " + user.Name + "\r\n"}, {"a login", "USER " + user.Name + "\r\nPASS " + user.Password + "\r\n"},
		{"an incomplete line", "USER " + user.Name}, {"NOOP and QUIT", "NOOP\r\nQUIT\r\n"}, {"an unknown command", "XYZZY\r\n"},
	}
	for _, in := range injections {
		c = r.connect()
		c.send("STLS\r\n" + in.mail)
		status := c.read()
		err = c.handshake()
		var inTheClear tls.RecordHeaderError
		safe := status.refused() || err != nil && !errors.As(err, &inTheClear)
		if err == nil {
			// A reply to the injected command would come before this one's.
			safe = c.inStep() && c.cmd("STAT").refused() && c.cmd("PASS "+user.Password).refused()
		}
		r.must("2595 §4", in.name+" pipelined behind STLS is not performed", safe, c, err)
		r.good("2595 §4", in.name+" pipelined behind STLS is discarded, the handshake succeeds", err == nil, c, err)
	}
	c = r.connect()
	c.cmd("STLS")
	c.send("STAT\r\nSTAT\r\nSTAT\r\n" + strings.Repeat("x", 200) + "\r\n")
	got := c.read()
	r.must("2595 §4", "what is no handshake is not answered as a command", !got.ok() && !got.refused(), c)
	after := r.beside()
	r.must("2595 §4", "a failed handshake harms no other connection", after.tryLogin(user).ok(), after)
	after.cmd("QUIT")
	c = r.connect()
	r.must("2595 §4", "one session's TLS is not another's", r.tags("CAPA").has("STLS") && c.starttls() == nil && r.tags("CAPA").has("STLS"), c)
}

// implicitTLS checks a listener with TLS from the first octet (RFC 8314 §3.3).
func implicitTLS(r *run) {
	if r.target.TLS == nil || r.target.TLSAddress == "" {
		return
	}
	need(r.target.Store.Fill(notes(2)))
	dial := func(config *tls.Config) (*conn, error) {
		nc, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", r.target.TLSAddress, config)
		if err != nil {
			return nil, err
		}
		return r.open(nc), nil
	}
	c, err := dial(r.target.TLS)
	r.must("8314 §3.3", "the handshake comes first, and the certificate is good", err == nil, nil, err)
	if err != nil {
		return
	}
	r.must("1939 §4", "the greeting comes behind it", c.first.ok(), c)
	status, b := c.multi("CAPA")
	tags := tagsOf(b)
	r.must("2595 §4", "STLS is not announced", status.ok() && !tags.has("STLS"), c)
	r.must("2449 §6.2", "USER is announced", tags.has("USER"), c)
	r.must("2595 §4", "STLS is refused", c.cmd("STLS").refused(), c)
	r.must("1939 §7", "a login works", c.tryLogin(r.target.User).ok(), c)
	_, b = c.multi("RETR 2")
	r.must("1939 §5", "RETR works", string(b.text) == onWire(note(2)), c)
	r.must("1939 §6", "QUIT works", c.cmd("QUIT").ok() && c.read().closed(), c)
	for _, v := range []struct {
		name    string
		version uint16
	}{{"1.0", tls.VersionTLS10}, {"1.1", tls.VersionTLS11}} {
		old := r.target.TLS.Clone()
		old.MinVersion, old.MaxVersion = v.version, v.version
		_, err = dial(old)
		r.good("8996 §5", "TLS "+v.name+" is refused", err != nil, nil)
	}
	for _, v := range []struct {
		name    string
		version uint16
	}{{"1.2", tls.VersionTLS12}, {"1.3", tls.VersionTLS13}} {
		config := r.target.TLS.Clone()
		config.MinVersion, config.MaxVersion = v.version, v.version
		_, err = dial(config)
		r.must("9325 §3.1", "TLS "+v.name+" works", err == nil, nil, err)
	}
	nc, err := Endpoint{Address: r.target.TLSAddress}.dial()
	need(err)
	clear := &conn{Conn: nc, run: r}
	nc.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(nc, "USER "+r.target.User.Name+"\r\nPASS "+r.target.User.Password+"\r\n")
	answer := make([]byte, 512)
	n, _ := nc.Read(answer)
	nc.Close()
	r.must("8314 §3.3", "nothing in the clear is answered", !strings.Contains(string(answer[:n]), "+OK"), clear, quote(string(answer[:n])))
}

// cleartextRefused checks a listener that wants TLS before any password.
func cleartextRefused(r *run) {
	if r.target.TLS == nil || r.target.NoCleartext.Address == "" {
		return
	}
	need(r.target.Store.Fill(notes(2)))
	user := r.target.User
	connect := func() *conn { return r.connectTo(r.target.NoCleartext) }
	c := connect()
	status, b := c.multi("CAPA")
	tags := tagsOf(b)
	r.must("2595 §4", "STLS is announced", status.ok() && tags.has("STLS"), c)
	r.must("2449 §6.2", "USER is not announced before TLS", !tags.has("USER"), c, string(b.text))
	sasl := " " + tags["SASL"] + " "
	r.must("2595 §6", "SASL PLAIN is not announced before TLS", !strings.Contains(sasl, " PLAIN "), c, sasl)
	r.must("2595 §6", "SASL LOGIN is not announced before TLS", !strings.Contains(sasl, " LOGIN "), c, sasl)
	r.should("2449 §6.3", "SASL without a mechanism is not announced", !tags.has("SASL") || tags["SASL"] != "", c, string(b.text))
	_, list := c.multi("AUTH")
	r.good("5034 §4", "AUTH alone lists neither before TLS", !strings.Contains(strings.ToUpper(string(list.text)), "PLAIN") && !strings.Contains(strings.ToUpper(string(list.text)), "LOGIN"), c)

	c = connect()
	named := c.cmd("USER " + user.Name)
	r.good("2595 §2", "USER is refused, before a password is sent", named.refused(), c)
	r.good("3206 §4", "USER is refused without [AUTH], the password is not at fault", named.code() != "AUTH", c)
	r.must("2595 §2", "USER and PASS do not log in", c.cmd("PASS "+user.Password).refused() && c.cmd("STAT").refused(), c)
	c = connect()
	r.must("2595 §6", "AUTH PLAIN with a response does not log in", c.cmd("AUTH PLAIN "+plainToken("", user.Name, user.Password)).refused() && c.cmd("STAT").refused(), c)
	c = connect()
	r.should("2595 §6", "AUTH PLAIN is refused at once", c.cmd("AUTH PLAIN").refused() && c.inStep(), c)
	c = connect()
	r.should("2595 §6", "AUTH LOGIN is refused at once", c.cmd("AUTH LOGIN").refused() && c.inStep(), c)
	c = connect()
	right := c.tryLogin(user)
	d := connect()
	wrong := d.tryLogin(Account{user.Name, "wrong-password"})
	r.must("2595 §2", "a right and a wrong password have one answer", right.raw == wrong.raw, d, right.raw)

	c = connect()
	c.cmd("USER " + user.Name)
	err := c.starttls()
	r.must("2595 §4", "STLS works behind a refused login", err == nil, c, err)
	if err != nil {
		return
	}
	_, b = c.multi("CAPA")
	tags = tagsOf(b)
	r.must("2449 §6.2", "USER is announced under TLS", tags.has("USER"), c)
	r.must("5034 §3", "SASL PLAIN is announced under TLS", strings.Contains(" "+tags["SASL"]+" ", " PLAIN "), c)
	r.must("2595 §4", "a login works under TLS", c.tryLogin(user).ok() && c.cmd("STAT").ok(), c)
	c.cmd("QUIT")
}
