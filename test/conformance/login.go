package conformance

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// userPass checks logins with USER and PASS (RFC 1939 §7).
func userPass(r *run) {
	need(r.target.Store.Fill(notes(3)))
	user := r.target.User
	wrong := Account{user.Name, "not-" + user.Password}

	c := r.connect()
	r.must("1939 §7", "USER is answered by +OK", c.cmd("USER "+user.Name).ok(), c)
	r.must("1939 §7", "PASS with the right password is answered by +OK", c.cmd("PASS "+user.Password).ok(), c)
	r.must("1939 §5", "a login enters TRANSACTION", c.cmd("STAT").ok(), c)

	c = r.connect()
	refused := c.tryLogin(wrong)
	r.must("1939 §7", "a wrong password is refused", refused.refused(), c)
	r.must("1939 §3", "a wrong password does not enter TRANSACTION", c.cmd("STAT").refused(), c)
	r.should("1939 §7", "the right password is accepted behind a wrong one", c.tryLogin(user).ok(), c)
	wrongText := refused.raw

	c = r.connect()
	c.tryLogin(wrong)
	again := c.cmd("PASS " + user.Password)
	r.must("1939 §7", "PASS straight behind a failed PASS is refused", again.refused() && c.cmd("STAT").refused(), c)

	c = r.connect()
	named := c.cmd("USER nobody-of-this-name")
	noName := c.cmd("PASS " + user.Password)
	r.must("1939 §7", "a wrong name is refused", named.refused() || noName.refused(), c)
	r.should("1939 §13", "USER tells nothing of a name's existence", named.ok(), c)
	r.should("3206 §4", "a wrong name and a wrong password have one text", !named.ok() || noName.raw == wrongText, c, wrongText)

	announced := r.tags("CAPA")
	if announced.has("AUTH-RESP-CODE") {
		r.must("3206 §4", "a wrong password has [AUTH]", refused.code() == "AUTH", c, wrongText)
		r.must("3206 §4", "a wrong name has [AUTH]", noName.code() == "AUTH" || named.code() == "AUTH", c)
	} else {
		r.good("3206 §4", "a wrong password has [AUTH]", refused.code() == "AUTH", c, wrongText)
		r.good("3206 §4", "a wrong name has [AUTH]", noName.code() == "AUTH" || named.code() == "AUTH", c)
	}

	c = r.connect()
	r.must("1939 §7", "PASS without USER is refused", c.cmd("PASS "+user.Password).refused() && c.cmd("STAT").refused(), c)
	c = r.connect()
	c.cmd("PASS " + user.Password)
	c.cmd("USER " + user.Name)
	r.must("1939 §7", "PASS before USER logs nobody in", c.cmd("STAT").refused(), c)
	c = r.connect()
	c.cmd("USER nobody-of-this-name")
	second := c.cmd("USER " + user.Name)
	r.good("1939 §7", "a second USER takes the first one's place", second.ok() && c.cmd("PASS "+user.Password).ok(), c)
	c = r.connect()
	c.cmd("USER " + user.Name)
	c.cmd("USER nobody-of-this-name")
	r.must("1939 §7", "a second USER does not keep the first name", c.cmd("PASS "+user.Password).refused() && c.cmd("STAT").refused(), c)
	c = r.connect()
	c.cmd("USER " + user.Name)
	r.must("1939 §7", "PASS with an empty password is refused", c.cmd("PASS ").refused() && c.cmd("STAT").refused(), c)
	for _, password := range []string{user.Password + " ", " " + user.Password, strings.ToUpper(user.Password), user.Password + "\x00", user.Password + "x", user.Password[:len(user.Password)-1], "*", strings.Repeat("p", 200), "caf\xe9"} {
		c = r.connect()
		refused := c.tryLogin(Account{user.Name, password})
		r.must("1939 §7", "PASS "+quote(strings.ReplaceAll(password, user.Password, "<password>"))+" is refused", refused.refused() && c.inStep(), c)
	}
	for _, name := range []string{"../" + user.Name, user.Name + "/../" + user.Name, user.Name + "\x00x", user.Name + "*", "*", "%u", user.Name + " x", strings.Repeat("n", 200), "\"" + user.Name + "\""} {
		c = r.connect()
		refused := c.tryLogin(Account{name, user.Password})
		r.must("1939 §7", "USER "+quote(strings.ReplaceAll(name, user.Name, "<name>"))+" does not log in", refused.refused() && c.inStep(), c)
	}
	if other := r.target.Other; other.Name != "" {
		c = r.connect()
		refused := c.tryLogin(Account{other.Name, user.Password})
		r.must("1939 §7", "a user's password does not open another's maildrop", refused.refused(), c)
		c = r.connect()
		r.must("1939 §7", "another user sees a maildrop of its own", c.tryLogin(other).ok() && !strings.HasPrefix(c.cmd("STAT").text(), "3 "), c)
	}
	c = r.connect()
	c.cmd("USER " + user.Name)
	c.multi("CAPA")
	got := c.cmd("PASS " + user.Password)
	r.must("2449 §5", "CAPA between USER and PASS breaks nothing", got.ok() || got.refused() && c.inStep(), c)
	c = r.connect()
	c.send("USER " + user.Name + "\r\nPASS " + user.Password + "\r\nSTAT\r\n")
	r.good("2449 §6.6", "a login may be pipelined", c.allOK(3), c)
	c = r.connect()
	failed := 0
	for range 3 {
		if c.tryLogin(wrong).refused() {
			failed++
		}
	}
	r.good("1939 §7", "three wrong passwords get three replies", failed == 3, c)
}

// oddPasswords checks passwords that a careless parser damages.
func oddPasswords(r *run) {
	for _, kind := range sorted(r.target.Odd) {
		a := r.target.Odd[kind]
		c := r.connect()
		ok := c.tryLogin(a).ok() && c.cmd("NOOP").ok()
		r.good("1939 §7", "PASS with "+kind+" logs in", ok, c)
		c = r.connect()
		ok = c.cmd("AUTH PLAIN "+plainToken("", a.Name, a.Password)).ok() && c.cmd("NOOP").ok()
		r.should("4616 §2", "AUTH PLAIN with "+kind+" logs in", ok, c)
		c = r.connect()
		damaged := strings.Join(strings.Fields(a.Password), "")
		if damaged != a.Password {
			r.must("1939 §7", kind+" may not be left out", c.tryLogin(Account{a.Name, damaged}).refused(), c)
		}
	}
}

// plainToken is the message of PLAIN (RFC 4616 §2) in base64.
func plainToken(identity, user, password string) string {
	return b64(identity + "\x00" + user + "\x00" + password)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// auth checks AUTH itself (RFC 5034 §4).
func auth(r *run) {
	need(r.target.Store.Fill(notes(1)))
	user := r.target.User
	good := plainToken("", user.Name, user.Password)

	c := r.connect()
	status, list := c.multi("AUTH")
	listed := strings.Fields(strings.ToUpper(string(list.text)))
	r.good("5034 §4", "AUTH alone lists the mechanisms", status.ok() && list.err == nil && len(listed) > 0, c)
	r.must("5034 §4", "AUTH alone leaves the session usable", c.inStep() && c.tryLogin(user).ok(), c)
	sasl := r.tags("CAPA")["SASL"]
	r.must("5034 §3", "SASL is announced with PLAIN", strings.Contains(" "+strings.ToUpper(sasl)+" ", " PLAIN "), c, "SASL "+sasl)
	r.good("5034 §4", "AUTH alone lists what CAPA announces", strings.Join(listed, " ") == strings.ToUpper(sasl), c, "SASL "+sasl)

	for _, mechanism := range []string{"NOSUCH", "NOSUCH abcd", "X-NOSUCH =", "PLAINX", "PLAI", "ANONYMOUS", "EXTERNAL =", "CRAM-MD5", "DIGEST-MD5", "NTLM", "GSSAPI", "SCRAM-SHA-1", "-", "PLAIN,LOGIN", strings.Repeat("M", 100)} {
		name, _, _ := strings.Cut(mechanism, " ")
		if strings.Contains(" "+sasl+" ", " "+name+" ") {
			continue
		}
		c = r.connect()
		refused := c.cmd("AUTH " + mechanism).refused()
		r.must("5034 §4", "AUTH "+quote(mechanism)+", not announced, is refused at once", refused && c.inStep(), c)
	}
	for _, keyword := range []string{"AUTH PLAIN", "auth plain", "Auth Plain", "AUTH plain"} {
		c = r.connect()
		r.must("4422 §3.1", keyword+" logs in", c.cmd(keyword+" "+good).ok() && c.cmd("STAT").ok(), c)
	}
	c = r.connect()
	r.must("5034 §4", "a login with AUTH is a login", c.cmd("AUTH PLAIN "+good).ok() && c.cmd("STAT").ok() && c.cmd("QUIT").ok(), c)
	c = r.connect()
	refused := c.cmd("AUTH PLAIN " + good + " extra").refused()
	r.must("5034 §4", "AUTH with three arguments is refused", refused && c.cmd("STAT").refused(), c)
	c = r.connect()
	c.cmd("AUTH PLAIN " + plainToken("", user.Name, "wrong"))
	r.should("5034 §4", "AUTH is accepted behind a failed AUTH", c.cmd("AUTH PLAIN "+good).ok(), c)
	c = r.connect()
	c.cmd("AUTH PLAIN " + plainToken("", user.Name, "wrong"))
	r.should("5034 §4", "USER and PASS are accepted behind a failed AUTH", c.tryLogin(user).ok(), c)
	c = r.connect()
	c.cmd("USER " + user.Name)
	r.good("5034 §4", "AUTH is accepted behind USER", c.cmd("AUTH PLAIN "+good).ok(), c)

	for _, size := range []int{300, 1000, 4000, 12000} {
		c = r.connect()
		refused := c.cmd("AUTH PLAIN " + b64("\x00"+user.Name+"\x00"+strings.Repeat("p", size*3/4))).refused()
		r.should("5034 §4", fmt.Sprintf("an initial response of %d octets is refused, the session goes on", size), refused && c.inStep(), c)
		c = r.connect()
		_, asked := c.cmd("AUTH PLAIN").challenge()
		refused = asked && c.cmd(b64("\x00"+user.Name+"\x00"+strings.Repeat("p", size*3/4))).refused()
		r.should("5034 §4", fmt.Sprintf("a response of %d octets is refused, the session goes on", size), refused && c.inStep(), c)
	}
	for _, size := range []int{100 << 10, 2 << 20} {
		c = r.connect()
		c.cmd("AUTH PLAIN")
		got := c.cmd(strings.Repeat("A", size))
		r.must("5034 §4", fmt.Sprintf("a response of %d octets gets one -ERR, or the end", size), got.ended() || got.refused() && (c.inStep() || c.tailEnded()), c)
		c = r.connect()
		got = c.cmd("AUTH PLAIN " + strings.Repeat("A", size))
		r.must("5034 §4", fmt.Sprintf("an AUTH line of %d octets gets one -ERR, or the end", size), got.ended() || got.refused() && (c.inStep() || c.tailEnded()), c)
	}
}

// authPlain checks the PLAIN mechanism (RFC 4616) as AUTH carries it.
func authPlain(r *run) {
	need(r.target.Store.Fill(notes(1)))
	user := r.target.User
	good := plainToken("", user.Name, user.Password)

	c := r.connect()
	r.must("5034 §4", "an initial response logs in", c.cmd("AUTH PLAIN "+good).ok() && c.cmd("STAT").ok(), c)
	c = r.connect()
	first := c.cmd("AUTH PLAIN")
	text, asked := first.challenge()
	r.must("5034 §4", "without an initial response there is a challenge \"+ \"", asked, c)
	r.must("4616 §2", "the challenge is empty", first.raw == "+ \r\n" || asked && text == "", c)
	r.must("5034 §4", "a response behind the challenge logs in", c.cmd(good).ok() && c.cmd("STAT").ok(), c)
	c = r.connect()
	c.cmd("AUTH PLAIN")
	c.send(good + "\n")
	r.good("5034 §4", "a response ended by LF alone logs in", c.read().ok(), c)
	c = r.connect()
	c.send("AUTH PLAIN\r\n" + good + "\r\nSTAT\r\n")
	_, asked = c.read().challenge()
	r.good("2449 §6.6", "a response may be pipelined behind AUTH", asked && c.read().ok() && c.read().ok(), c)

	c = r.connect()
	c.cmd("AUTH PLAIN")
	r.must("5034 §4", "* cancels with -ERR", c.cmd("*").refused() && c.inStep(), c)
	r.must("5034 §4", "a login is possible behind *", c.tryLogin(user).ok(), c)

	bad := []sample{
		{"*", "*"}, {"=", "="}, {"!!!!", "!!!!"}, {"no padding", strings.TrimRight(b64("\x00"+user.Name+"xx\x00"+user.Password), "=")[:9]},
		{"padding in the middle", "QQ==QQ=="}, {"too much padding", good + "===="}, {"a space inside", good[:4] + " " + good[4:]}, {"base64url", "-_-_"},
		{"not base64 behind a good token", good + "!"}, {"8-bit", "\xff\xfe\xfd\xfc"}, {"a NUL octet", good + "\x00"}, {"the token in clear", "\x00" + user.Name + "\x00" + user.Password},
		{"no NUL", b64(user.Name)}, {"one NUL", b64(user.Name + "\x00" + user.Password)}, {"three NULs", b64("\x00" + user.Name + "\x00" + user.Password + "\x00")},
		{"four NULs", b64("\x00\x00" + user.Name + "\x00" + user.Password + "\x00")}, {"only NULs", b64("\x00\x00")}, {"no name", plainToken("", "", user.Password)},
		{"no password", plainToken("", user.Name, "")}, {"a wrong password", plainToken("", user.Name, "wrong")}, {"a wrong name", plainToken("", "nobody-of-this-name", user.Password)},
		{"another identity", plainToken("root", user.Name, user.Password)}, {"another's identity, wrong password", plainToken(user.Name, user.Name, "wrong")},
		{"a name of 300 octets", plainToken("", strings.Repeat("n", 300), user.Password)}, {"LF in the name", plainToken("", user.Name+"\n", user.Password)},
		{"CRLF in the password", plainToken("", user.Name, user.Password+"\r\nNOOP")}, {"not UTF-8", plainToken("", "\xff\xfe", user.Password)},
	}
	for _, token := range bad {
		c = r.connect()
		refused := c.cmd("AUTH PLAIN " + token.mail).refused()
		r.must("5034 §4", token.name+" as initial response is refused", refused && c.inStep() && c.cmd("STAT").refused(), c)
		c = r.connect()
		_, asked := c.cmd("AUTH PLAIN").challenge()
		refused = asked && c.cmd(token.mail).refused()
		r.must("5034 §4", token.name+" as response is refused", refused && c.inStep() && c.cmd("STAT").refused(), c)
	}
	c = r.connect()
	c.cmd("AUTH PLAIN")
	refused := c.cmd("").refused()
	r.must("5034 §4", "an empty line as response is refused", refused && c.inStep(), c)
	c = r.connect()
	wrong := c.cmd("AUTH PLAIN " + plainToken("", user.Name, "wrong"))
	c2 := r.connect()
	nobody := c2.cmd("AUTH PLAIN " + plainToken("", "nobody-of-this-name", user.Password))
	r.should("3206 §4", "a wrong name and a wrong password have one text", wrong.raw == nobody.raw, c2, wrong.raw)
	if r.tags("CAPA").has("AUTH-RESP-CODE") {
		r.must("3206 §4", "a wrong password has [AUTH]", wrong.code() == "AUTH", c)
	} else {
		r.good("3206 §4", "a wrong password has [AUTH]", wrong.code() == "AUTH", c)
	}
	c = r.connect()
	malformed := c.cmd("AUTH PLAIN !!!!")
	r.good("3206 §4", "what is not base64 is not called a wrong password", malformed.code() != "AUTH", c)
	c = r.connect()
	c.cmd("AUTH PLAIN")
	cancelled := c.cmd("*")
	r.good("3206 §4", "a cancelled AUTH is not called a wrong password", cancelled.code() != "AUTH", c)
	c = r.connect()
	r.must("4616 §2", "an identity equal to the name logs in", c.cmd("AUTH PLAIN "+plainToken(user.Name, user.Name, user.Password)).ok(), c)
	if other := r.target.Other; other.Name != "" {
		c = r.connect()
		r.must("4616 §2", "a user may not act as another", c.cmd("AUTH PLAIN "+plainToken(other.Name, user.Name, user.Password)).refused() && c.cmd("STAT").refused(), c)
	}
}

// authLogin checks LOGIN, which has no RFC: two prompts, name and password.
func authLogin(r *run) {
	if !strings.Contains(" "+r.tags("CAPA")["SASL"]+" ", " LOGIN ") {
		return
	}
	need(r.target.Store.Fill(notes(1)))
	user := r.target.User
	c := r.connect()
	name, ok1 := c.cmd("AUTH LOGIN").challenge()
	pass, ok2 := c.cmd(b64(user.Name)).challenge()
	r.must("5034 §4", "LOGIN asks twice", ok1 && ok2, c)
	r.good("5034 §4", "LOGIN's prompts are Username: and Password:", strings.EqualFold(name, b64("Username:")) && strings.EqualFold(pass, b64("Password:")), c)
	r.must("5034 §4", "LOGIN logs in", c.cmd(b64(user.Password)).ok() && c.cmd("STAT").ok(), c)
	c = r.connect()
	_, ok := c.cmd("AUTH LOGIN " + b64(user.Name)).challenge()
	r.good("5034 §4", "LOGIN takes the name as initial response", ok && c.cmd(b64(user.Password)).ok(), c)
	c = r.connect()
	_, ok = c.cmd("auth login").challenge()
	r.must("5034 §4", "LOGIN may be in lower case", ok, c)
	c = r.connect()
	c.cmd("AUTH LOGIN")
	r.must("5034 §4", "LOGIN: * for the name cancels", c.cmd("*").refused() && c.inStep(), c)
	c = r.connect()
	c.cmd("AUTH LOGIN")
	c.cmd(b64(user.Name))
	r.must("5034 §4", "LOGIN: * for the password cancels", c.cmd("*").refused() && c.inStep(), c)
	c = r.connect()
	c.cmd("AUTH LOGIN")
	c.cmd(b64(user.Name))
	wrong := c.cmd(b64("wrong"))
	r.must("5034 §4", "LOGIN: a wrong password is refused", wrong.refused() && c.inStep(), c)
	for _, bad := range []sample{{"not base64", "!!!!"}, {"nothing", ""}, {"NUL", b64("a\x00b")}} {
		c = r.connect()
		c.cmd("AUTH LOGIN")
		got := c.cmd(bad.mail)
		if _, asked := got.challenge(); asked {
			got = c.cmd(b64(user.Password))
		}
		r.must("5034 §4", "LOGIN: "+bad.name+" for the name is refused", got.refused() && c.inStep(), c)
		c = r.connect()
		c.cmd("AUTH LOGIN")
		c.cmd(b64(user.Name))
		r.must("5034 §4", "LOGIN: "+bad.name+" for the password is refused", c.cmd(bad.mail).refused() && c.inStep(), c)
	}
}
